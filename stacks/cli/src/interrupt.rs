//! Ctrl-C and SIGTERM: the first asks the running command to end, the second ends the process.
//! Invariant: a process that was asked ends within [`PATIENCE`], with 128 + the signal.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Outcome, failed};

/// How long a command may take to end.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(10);

static SEEN: AtomicI32 = AtomicI32::new(0);
static HOOK: Mutex<Option<Box<dyn FnMut() + Send>>> = Mutex::new(None);

/// From now on a signal calls what [`on_signal`] set, instead of killing the process.
pub(crate) fn watch() -> Outcome {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed("cannot watch for signals"))?;
    let wait = move || {
        let Some(signal) = signals.forever().next() else { return };
        SEEN.store(signal, Ordering::SeqCst);
        if let Some(f) = hook().as_mut() {
            f();
            let start = Instant::now();
            while start.elapsed() < PATIENCE && signals.pending().next().is_none() {
                std::thread::sleep(STEP);
            }
        }
        exit();
    };
    std::thread::Builder::new().name("xio-signals".into()).spawn(wait).map_err(failed("cannot start a thread"))?;
    Ok(())
}

/// What a signal calls from now on, on a thread of its own; it makes the command end.
pub(crate) fn on_signal(f: impl FnMut() + Send + 'static) {
    *hook() = Some(Box::new(f));
}

/// The signal that asked the process to end.
pub(crate) fn seen() -> Option<u8> {
    u8::try_from(SEEN.load(Ordering::SeqCst)).ok().filter(|s| *s > 0)
}

/// Ends the process as one that was asked to.
pub(crate) fn exit() -> ! {
    std::process::exit(128 + i32::from(seen().unwrap_or(0)))
}

fn hook() -> MutexGuard<'static, Option<Box<dyn FnMut() + Send>>> {
    HOOK.lock().unwrap_or_else(PoisonError::into_inner)
}
