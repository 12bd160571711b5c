//! Plain sockets whose waiting reads somebody else may end: what that promise costs alone, without a
//! framework. A blocking `recv(2)` cannot be ended from outside short of a signal or of shutting the
//! socket down, so each end waits for its socket and for an eventfd that nobody ever marks.
//!
//! Invariant: the loops, sockets and buffers are those of [`crate::raw`]; only the wait differs.
//!
//! Does not: cancel anything, or keep deadlines.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::placement::Placement;
use crate::raw::sample_pingpong;
use crate::sample::Sample;

/// How a read waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// `ppoll` on socket and eventfd, then `recv`: two system calls for a read that waits, two for one
    /// that need not have waited.
    PollFirst,
    /// `recv` without blocking, and where nothing is there `ppoll`, then `recv`: three for a read that
    /// waits, one for one that need not.
    TryFirst,
    /// `epoll_wait` on a set of the two that is made once, then `recv`. Takes a descriptor a socket.
    Epoll,
}

impl Wait {
    /// Every way of waiting.
    pub const ALL: [Self; 3] = [Self::PollFirst, Self::TryFirst, Self::Epoll];

    /// A name for output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PollFirst => "ppoll, recv",
            Self::TryFirst => "recv, ppoll, recv",
            Self::Epoll => "epoll_wait, recv",
        }
    }
}

/// [`crate::raw::pingpong`] with reads that can be ended.
///
/// # Errors
///
/// Those of [`crate::raw::pingpong`], and of making an eventfd and an epoll set.
pub fn pingpong(placement: Placement, size: usize, iters: usize, wait: Wait) -> io::Result<Sample> {
    sample_pingpong(placement, size, iters, |sock| {
        let waiter = Waiter::new(sock, wait)?;
        Ok(move |sock: &TcpStream, buf: &mut [u8]| waiter.read_exact(sock, buf))
    })
}

/// What one end waits with.
struct Waiter {
    wait: Wait,
    wake: OwnedFd,
    set: OwnedFd,
}

impl Waiter {
    fn new(sock: &TcpStream, wait: Wait) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        epoll::add(&set, sock, epoll::EventData::new_u64(0), flags)?;
        epoll::add(&set, &wake, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        Ok(Self { wait, wake, set })
    }

    fn read_exact(&self, sock: &TcpStream, buf: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        let mut wait = self.wait != Wait::TryFirst;
        while filled < buf.len() {
            if std::mem::replace(&mut wait, true) {
                self.sleep(sock)?;
            }
            match recv(sock, &mut buf[filled..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((n, _)) => filled += n,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn sleep(&self, sock: &TcpStream) -> io::Result<()> {
        let slept = if self.wait == Wait::Epoll {
            let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; 2];
            epoll::wait(&self.set, &mut events[..], None).map(|(ready, _)| ready.len())
        } else {
            let mut fds = [PollFd::new(sock, PollFlags::IN | PollFlags::RDHUP), PollFd::new(&self.wake, PollFlags::IN)];
            poll(&mut fds, None)
        };
        match slept {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::loopback_pair;
    use std::io::Write as _;

    #[test]
    fn every_way_of_waiting_reads_what_is_there_and_what_comes_later() {
        for wait in Wait::ALL {
            let (mut a, b) = loopback_pair().unwrap();
            let waiter = Waiter::new(&b, wait).unwrap();
            a.write_all(b"here").unwrap();
            let mut buf = [0; 4];
            waiter.read_exact(&b, &mut buf).unwrap();
            assert_eq!(&buf, b"here");
            let s = pingpong(Placement::Unpinned, 64, 50, wait).unwrap();
            assert!(s.ns_per_op > 0.0 && s.cpu_ns_per_op > 0.0, "{wait:?}: {s:?}");
            drop(a);
            assert_eq!(waiter.read_exact(&b, &mut buf).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_mark_on_the_eventfd_ends_the_sleep() {
        for wait in Wait::ALL {
            let (_a, b) = loopback_pair().unwrap();
            let waiter = Waiter::new(&b, wait).unwrap();
            rustix::io::write(&waiter.wake, &1u64.to_ne_bytes()).unwrap();
            waiter.sleep(&b).unwrap();
        }
    }
}
