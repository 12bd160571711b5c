//! Runs a part of a test in a child process: one that may end its process, or that is about processes.
//! Invariant: the child does what it is given and nothing else; no destructor, no exit handler and no other
//! thread of its parent runs in it.
#![allow(unsafe_code, reason = "a fork is unsafe; nothing else here is")]

use std::cell::Cell;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use crate::verdict::{Checked, Stop};
use crate::watchdog::text_of;

/// A child has open what every thread of its parent has open, so that nobody sees those sockets' ends as long as it
/// lives, and finds the locks held that those threads held. So rules read this while they run, and a child is made by
/// whoever writes it.
static CHILD: RwLock<()> = RwLock::new(());

thread_local! {
    static RULE: Cell<Option<RwLockReadGuard<'static, ()>>> = const { Cell::new(None) };
}

/// Runs a rule on this thread, while no other one has a child.
pub(crate) fn apart<T>(rule: impl FnOnce() -> T) -> T {
    RULE.set(Some(CHILD.read().unwrap_or_else(PoisonError::into_inner)));
    let out = rule();
    RULE.set(None);
    out
}

/// For how many milliseconds other rules are waited for; for a hundredth where that was in vain the last time.
const PATIENT: u64 = 3000;
/// How often the parent looks after its child.
const LOOK: Duration = Duration::from_millis(1);
/// A thread of the parent's that runs no rule may have held a lock of the system's library when it forked: the child
/// waits for it for ever, and another one does not.
const CHILDREN: u32 = 3;

/// Runs `f` in a child of this process, for so long at most. What `f` changes is lost; what it gives comes
/// back, as the failure of the rule under test. It must not use other threads of this process.
///
/// # Errors
/// That of `f`; or that the child ended before it, by a signal or too late.
pub fn run(limit: Duration, f: impl Fn() -> Checked) -> Checked {
    let in_rule = RULE.take().map(drop).is_some();
    let alone = alone();
    let out = run_alone(limit, f);
    drop(alone);
    if in_rule {
        RULE.set(Some(CHILD.read().unwrap_or_else(PoisonError::into_inner)));
    }
    out
}

/// Waits until no other thread runs a rule; not for ever, since one that is stuck never ends.
fn alone() -> Option<RwLockWriteGuard<'static, ()>> {
    static PATIENCE: AtomicU64 = AtomicU64::new(PATIENT);
    let until = Instant::now() + Duration::from_millis(PATIENCE.load(Ordering::Relaxed));
    loop {
        let now = Instant::now();
        let (guard, patience) = match CHILD.try_write() {
            Ok(guard) => (Some(guard), PATIENT),
            Err(TryLockError::Poisoned(p)) => (Some(p.into_inner()), PATIENT),
            Err(TryLockError::WouldBlock) if now < until => {
                std::thread::sleep(LOOK);
                continue;
            }
            Err(TryLockError::WouldBlock) => (None, PATIENT / 100),
        };
        PATIENCE.store(patience, Ordering::Relaxed);
        return guard;
    }
}

fn run_alone(limit: Duration, f: impl Fn() -> Checked) -> Checked {
    for left in (0..CHILDREN).rev() {
        let (reader, writer) = pipe().map_err(xio_core::Error::from)?;
        // SAFETY: the child runs `f` on memory of its own, with this one thread, and ends without a return.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // How it ends is told by its parent.
            if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
                let _ = rustix::stdio::dup2_stderr(&null);
            }
            let done = catch_unwind(AssertUnwindSafe(&f));
            tell(writer, done.unwrap_or_else(|p| Err(Stop::fail(format!("a panic: {}", text_of(&*p))))));
            // SAFETY: ends the process, running nothing.
            unsafe { libc::_exit(0) };
        }
        let Some(child) = Pid::from_raw(child) else {
            return Err(xio_core::Error::from(std::io::Error::last_os_error()).into());
        };
        match wait(child, limit) {
            Some(status) if status.exit_status() == Some(0) => return hear(reader),
            Some(status) => {
                let signal = status.terminating_signal();
                return Err(Stop::fail(format!("the process ended by signal {signal:?}")));
            }
            None if left == 0 => {}
            None => continue,
        }
    }
    Err(Stop::fail(format!("nothing came of {CHILDREN} children in {limit:?} each")))
}

/// How the child ended; ends it where it takes too long.
fn wait(child: Pid, limit: Duration) -> Option<WaitStatus> {
    let until = Instant::now() + limit;
    loop {
        let options = if Instant::now() < until { WaitOptions::NOHANG } else { WaitOptions::empty() };
        if options.is_empty() {
            let _ = kill_process(child, Signal::KILL);
        }
        match waitpid(Some(child), options) {
            Ok(Some((_, status))) => return (!options.is_empty()).then_some(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => std::thread::sleep(LOOK),
            Err(_) => return None,
        }
    }
}

/// The child's last words: how many bytes, whose rule, what.
fn tell(mut to: PipeWriter, result: Checked) {
    let words = match result {
        Ok(()) => String::new(),
        Err(Stop::Fail(rule, text)) => format!("F{}\n{text}", rule.unwrap_or_default()),
        Err(Stop::NotApplicable(cap)) => format!("N\n{cap}"),
    };
    let words = &words.as_bytes()[..words.len().min(4096)];
    let _ = to.write_all(&(words.len() as u32).to_be_bytes());
    let _ = to.write_all(words);
}

fn hear(mut from: PipeReader) -> Checked {
    // Not to the end: another child may hold the pipe, too.
    let mut len = [0; 4];
    from.read_exact(&mut len).map_err(xio_core::Error::from)?;
    let mut words = vec![0; u32::from_be_bytes(len) as usize];
    from.read_exact(&mut words).map_err(xio_core::Error::from)?;
    let words = String::from_utf8_lossy(&words);
    match words.split_once('\n') {
        None => Ok(()),
        Some(("N", cap)) => Err(Stop::not_applicable(cap)),
        Some((rule, text)) => {
            let rule = xio_core::contract::rule(rule.trim_start_matches('F')).map(|r| r.id);
            Err(Stop::Fail(rule, text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn what_a_child_finds_is_what_its_parent_hears() {
        assert!(run(LIMIT, || Ok(())).is_ok());
        let fails = |r: Checked| match r {
            Err(Stop::Fail(rule, text)) => (rule, text),
            other => panic!("{other:?}"),
        };
        assert_eq!(fails(run(LIMIT, || Err(Stop::fail("so")))), (None, "so".to_owned()));
        let other = || Err(Stop::Fail(Some("A1"), "so\nit is".into()));
        assert_eq!(fails(run(LIMIT, other)), (Some("A1"), "so\nit is".to_owned()));
        let ends = fails(run(LIMIT, || std::process::abort()));
        assert!(ends.1.contains("signal Some(6)"), "{ends:?}");
        let limit = Duration::from_millis(1);
        let stuck = fails(run(limit, || {
            loop {
                std::thread::park();
            }
        }));
        assert!(stuck.1.contains("nothing came of 3 children"), "{stuck:?}");
        assert!(matches!(run(LIMIT, || crate::bench::unless("a=b")), Err(Stop::NotApplicable(cap)) if cap == "a=b"));
    }
}
