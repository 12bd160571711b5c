//! The thread that waits until a pipe, terminal or socket can be read or written, so that nothing on
//! the engine's pool does. Invariant: a wait fires once or is taken back, never both, and a descriptor
//! is kept open no longer than somebody waits for it. It moves no bytes and runs no level but to wake
//! it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use xio_core::io::Direction;

use super::job::Late;
use super::place::Descriptor;

/// How long the thread stays without work.
const LINGER: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How long it waits before it tries again, where the system refuses to wait at all.
const REFUSED: Duration = Duration::from_millis(10);

/// All waits of one driver.
#[derive(Default)]
pub(super) struct Watch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waits: BTreeMap<u64, Wait>,
    last: u64,
    /// Wakes the thread; there while it runs.
    bell: Option<Arc<OwnedFd>>,
}

struct Wait {
    descriptor: Arc<Descriptor>,
    direction: Direction,
    level: Arc<Late>,
}

/// One wait. Dropped, it is taken back.
pub(super) struct Waiting {
    key: u64,
    watch: Arc<Watch>,
}

impl Waiting {
    /// The number that its level is told when it fires.
    pub(super) fn key(&self) -> u64 {
        self.key
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut s = self.watch.state.lock();
        if s.waits.remove(&self.key).is_some() {
            s.ring();
        }
    }
}

impl State {
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }
}

impl Watch {
    /// Wakes `level` once the descriptor is ready, or is of no use any more.
    ///
    /// # Errors
    /// Where the system gives no thread or descriptor.
    pub(super) fn wait(
        self: &Arc<Self>,
        descriptor: &Arc<Descriptor>,
        direction: Direction,
        level: &Arc<Late>,
    ) -> std::io::Result<Waiting> {
        let mut s = self.state.lock();
        if s.bell.is_none() {
            let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let (me, own) = (self.clone(), bell.clone());
            std::thread::Builder::new().name("xio-file".into()).spawn(move || me.run(&own))?;
            s.bell = Some(bell);
        }
        s.last += 1;
        let key = s.last;
        s.waits.insert(key, Wait { descriptor: descriptor.clone(), direction, level: level.clone() });
        s.ring();
        Ok(Waiting { key, watch: self.clone() })
    }

    fn run(&self, bell: &OwnedFd) {
        loop {
            let list: Vec<_> = {
                let s = self.state.lock();
                s.waits.iter().map(|(key, w)| (*key, w.descriptor.clone(), w.direction)).collect()
            };
            let mut fds: Vec<_> = list
                .iter()
                .map(|(_, fd, direction)| PollFd::from_borrowed_fd(fd.as_fd(), interest(*direction)))
                .collect();
            fds.push(PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN));
            let idle = list.is_empty();
            match poll(&mut fds, idle.then_some(&LINGER)) {
                Ok(0) if idle => {
                    let mut s = self.state.lock();
                    if s.waits.is_empty() {
                        s.bell = None;
                        return;
                    }
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => std::thread::sleep(REFUSED),
            }
            let rung = fds.pop().is_some_and(|b| !b.revents().is_empty());
            let ready: Vec<_> =
                list.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|((key, ..), _)| *key).collect();
            drop(fds);
            drop(list);
            if rung {
                let _ = rustix::io::read(bell, &mut [0u8; 8]);
            }
            for key in ready {
                // No lock is held while a level is woken.
                let wait = self.state.lock().waits.remove(&key);
                if let Some(w) = wait {
                    w.level.fired(key);
                }
            }
        }
    }
}

/// What to ask the system for.
pub(super) fn interest(direction: Direction) -> PollFlags {
    match direction {
        Direction::Read => PollFlags::IN,
        Direction::Write => PollFlags::OUT,
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({})", self.state.lock().waits.len())
    }
}
