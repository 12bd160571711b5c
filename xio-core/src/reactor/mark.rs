//! What a sleeping thread is woken by. Invariant: a mark that is set ends the sleep under way or the next
//! one. It is an eventfd; in models and under Miri, which have no ppoll, a flag with a condition.

#[cfg(not(any(loom, shuttle, miri)))]
pub(super) use real::Mark;

#[cfg(any(loom, shuttle, miri))]
pub(crate) use modelled::Mark;

#[cfg(not(any(loom, shuttle, miri)))]
mod real {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::time::Duration;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

    use crate::io::Direction;

    pub(in crate::reactor) struct Mark(Option<OwnedFd>);

    impl Mark {
        pub(in crate::reactor) fn new() -> Self {
            // Without a descriptor to be had the caller looks every few milliseconds instead.
            Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok())
        }

        pub(in crate::reactor) fn set(&self) {
            if let Some(fd) = &self.0 {
                let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
            }
        }

        pub(in crate::reactor) fn clear(&self) {
            if let Some(fd) = &self.0 {
                let _ = rustix::io::read(fd, &mut [0u8; 8]);
            }
        }

        /// Sleeps until it is set, `fd` is ready, or the time has passed. Whether it is set.
        pub(in crate::reactor) fn wait(
            &self,
            fd: Option<(BorrowedFd<'_>, Direction)>,
            timeout: Option<Duration>,
        ) -> bool {
            let timeout = match (&self.0, timeout) {
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
            if let Some(own) = &self.0 {
                fds.push(PollFd::from_borrowed_fd(own.as_fd(), PollFlags::IN));
            }
            let _ = poll(&mut fds, timeout.as_ref());
            self.0.is_some() && fds.last().is_some_and(|f| f.revents().contains(PollFlags::IN))
        }
    }
}

#[cfg(any(loom, shuttle, miri))]
mod modelled {
    use std::os::fd::BorrowedFd;
    use std::time::Duration;

    use crate::io::Direction;
    use crate::sync::{Arc, Condvar, Mutex};

    /// A clone stands for the same mark.
    #[derive(Clone)]
    pub(crate) struct Mark(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        set: bool,
        /// Whatever else the sleeper waits for has come, or its time is up.
        #[cfg(not(miri))]
        ready: bool,
    }

    impl Mark {
        pub(in crate::reactor) fn new() -> Self {
            Self(Arc::new((Mutex::new(State::default()), Condvar::new())))
        }

        fn change(&self, f: impl FnOnce(&mut State)) {
            f(&mut self.0.0.lock());
            self.0.1.notify_all();
        }

        pub(in crate::reactor) fn set(&self) {
            self.change(|s| s.set = true);
        }

        pub(in crate::reactor) fn clear(&self) {
            self.0.0.lock().set = false;
        }

        #[cfg(not(miri))]
        pub(in crate::reactor) fn wait(&self, _: Option<(BorrowedFd<'_>, Direction)>, t: Option<Duration>) -> bool {
            let mut state = self.0.0.lock();
            while !state.set && !state.ready && t != Some(Duration::ZERO) {
                self.0.1.wait(&mut state);
            }
            state.ready = false;
            state.set
        }

        /// Nothing tells of the descriptor: the caller looks often.
        #[cfg(miri)]
        pub(in crate::reactor) fn wait(&self, fd: Option<(BorrowedFd<'_>, Direction)>, t: Option<Duration>) -> bool {
            let most = if fd.is_some() { Duration::from_millis(1) } else { Duration::from_secs(3600) };
            let until = std::time::Instant::now() + t.map_or(most, |t| t.min(most));
            let mut state = self.0.0.lock();
            while !state.set && std::time::Instant::now() < until {
                self.0.1.wait_for(&mut state, until.saturating_duration_since(std::time::Instant::now()));
            }
            state.set
        }

        /// What a descriptor that becomes ready does to a sleep, or the end of its time.
        #[cfg(all(test, loom))]
        pub(crate) fn make_ready(&self) {
            self.change(|s| s.ready = true);
        }

        #[cfg(all(test, loom))]
        pub(crate) fn is_set(&self) -> bool {
            self.0.0.lock().set
        }
    }
}
