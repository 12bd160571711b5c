//! Wakes one blocking caller. Invariant: a ring is never lost, and costs a system call only where
//! the caller sleeps. Spurious wake-ups happen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::io::Direction;
use crate::sync::{Arc, AtomicU32, Ordering};

const IDLE: u32 = 0;
const SLEEPING: u32 = 1;
const RUNG: u32 = 2;

/// Wakes a thread that waits for a socket or for an op that others finish.
pub struct Bell {
    state: AtomicU32,
    fd: Option<OwnedFd>,
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
    fn new() -> Self {
        // Without a descriptor to be had the caller looks every few milliseconds instead.
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Self { state: AtomicU32::new(IDLE), fd }
    }

    /// The bell of this thread.
    pub(crate) fn mine() -> Arc<Self> {
        MINE.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(Self::new()))
    }

    /// Wakes the caller.
    pub fn ring(&self) {
        if self.state.swap(RUNG, Ordering::SeqCst) == SLEEPING
            && let Some(fd) = &self.fd
        {
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
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
            self.state.store(RUNG, Ordering::SeqCst);
            return;
        }
        let timeout = match (&self.fd, timeout) {
            (None, t) => Some(t.unwrap_or(Duration::MAX).min(Duration::from_millis(5))),
            (Some(_), t) => t,
        };
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let mut fds = smallvec::SmallVec::<[PollFd<'_>; 2]>::new();
        if let Some((fd, direction)) = fd {
            let flags = match direction {
                Direction::Read => PollFlags::IN | PollFlags::RDHUP,
                Direction::Write => PollFlags::OUT,
            };
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        if let Some(own) = &self.fd {
            fds.push(PollFd::from_borrowed_fd(own.as_fd(), PollFlags::IN));
        }
        let _ = poll(&mut fds, timeout.as_ref());
        // Who rings marks the descriptor a moment after the state: a late mark is taken off here too.
        let marked = self.fd.is_some() && fds.last().is_some_and(|f| f.revents().contains(PollFlags::IN));
        if self.state.compare_exchange(SLEEPING, IDLE, Ordering::SeqCst, Ordering::SeqCst).is_err() || marked {
            // It rang while we slept: take the mark off the descriptor, keep the ring.
            if let Some(fd) = &self.fd {
                let _ = rustix::io::read(fd, &mut [0u8; 8]);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
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
        if let Some(fd) = &bell.fd {
            rustix::io::write(fd, &1u64.to_ne_bytes()).unwrap();
        }
        bell.wait(None);
        let start = Instant::now();
        bell.wait(Some(Duration::from_millis(10)));
        assert!(start.elapsed() >= Duration::from_millis(10) && !bell.take_ring());
    }
}
