//! Wakes one blocking caller. Invariant: a ring is never lost, and costs a system call only where
//! the caller sleeps. Spurious wake-ups happen.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::mark::Mark;
use crate::io::Direction;
use crate::sync::{Arc, AtomicU32, Ordering, planted, thread_local};

const IDLE: u32 = 0;
const SLEEPING: u32 = 1;
const RUNG: u32 = 2;

/// Wakes a thread that waits for a socket or for an op that others finish.
pub struct Bell {
    state: AtomicU32,
    mark: Mark,
}

thread_local! {
    static MINE: Arc<Bell> = Arc::new(Bell::new());
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bell")
    }
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU32::new(IDLE), mark: Mark::new() }
    }

    /// The bell of this thread.
    pub(crate) fn mine() -> Arc<Self> {
        MINE.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(Self::new()))
    }

    /// Wakes the caller.
    pub fn ring(&self) {
        if self.state.swap(RUNG, Ordering::SeqCst) == SLEEPING && !planted("a ring sets no mark") {
            self.mark.set();
        }
    }

    #[cfg(all(test, loom))]
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Whether it was rung since the last wait; clears it.
    pub(crate) fn take_ring(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RUNG && self.state.swap(IDLE, Ordering::SeqCst) == RUNG
    }

    /// Sleeps until it rings or the time has passed.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        self.sleep(None, timeout);
    }

    /// Sleeps until `fd` is ready, it rings, or the time has passed.
    pub(crate) fn wait_with(&self, fd: BorrowedFd<'_>, direction: Direction, timeout: Option<Duration>) {
        self.sleep(Some((fd, direction)), timeout);
    }

    fn sleep(&self, fd: Option<(BorrowedFd<'_>, Direction)>, timeout: Option<Duration>) {
        if self.state.swap(SLEEPING, Ordering::SeqCst) == RUNG {
            // Leave it rung: whoever waits looks at `take_ring` next.
            if planted("a wait forgets the ring") {
                return;
            }
            self.state.store(RUNG, Ordering::SeqCst);
            return;
        }
        let marked = self.mark.wait(fd, timeout);
        // Who rings sets the mark a moment after the state: a late mark is taken off here too.
        if self.state.compare_exchange(SLEEPING, IDLE, Ordering::SeqCst, Ordering::SeqCst).is_err() || marked {
            // It rang while we slept: take the mark off, keep the ring.
            if !planted("a late mark stays") {
                self.mark.clear();
            }
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_ring_before_and_during_a_sleep_ends_it() {
        let bell = Arc::new(Bell::new());
        bell.ring();
        bell.wait(None);
        assert!(bell.take_ring());
        assert!(!bell.take_ring());
        let other = bell.clone();
        let t = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.ring();
        });
        bell.wait(None);
        assert!(bell.take_ring());
        t.join().unwrap();
        // A mark that came late wakes once, not for ever.
        bell.mark.set();
        bell.wait(None);
        let start = Instant::now();
        bell.wait(Some(Duration::from_millis(10)));
        assert!(start.elapsed() >= Duration::from_millis(10) && !bell.take_ring());
    }
}
