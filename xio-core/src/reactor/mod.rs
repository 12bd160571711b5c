//! What does the system calls: the interface the engine drives, and the two that come with the
//! crate, over epoll and simulated. Invariant: a reactor calls nobody back; it hands out the ops whose
//! sockets are ready, and the engine does the rest.

mod bell;
mod datagram;
mod edges;
mod epoll;
mod mark;
mod sim;
mod tcp_info;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Weak;
use std::time::Duration;

pub use bell::Bell;
#[cfg(all(test, loom))]
pub(crate) use edges::Edges;
pub(crate) use epoll::{Epoll, several_cpus};
#[cfg(all(test, loom))]
pub(crate) use mark::Mark;
pub use sim::{AcceptFault, Sim, SimConfig};

use crate::datagram::DatagramOptions;
use crate::engine::core::Core;
use crate::io::{Connected, Sock, SocketOptions};
use crate::op::OpId;
use crate::time::Time;

/// An op that waits for a socket.
#[derive(Clone)]
pub struct Waiter {
    pub(crate) core: Weak<Core>,
    pub(crate) id: OpId,
}

/// Those who wait for one direction of a socket, in the order they came. Nearly always that is one at
/// most, so it has the size of one.
pub(crate) enum Waiters {
    One(Waiter),
    #[allow(clippy::box_collection, reason = "no larger than one waiter is the point")]
    Others(Option<Box<Vec<Waiter>>>),
}

impl Waiters {
    pub(crate) const fn new() -> Self {
        Self::Others(None)
    }

    pub(crate) fn push(&mut self, waiter: Waiter) {
        *self = match std::mem::take(self) {
            Self::Others(None) => Self::One(waiter),
            Self::One(first) => Self::Others(Some(Box::new(vec![first, waiter]))),
            Self::Others(Some(mut all)) => {
                all.push(waiter);
                Self::Others(Some(all))
            }
        };
    }

    pub(crate) fn remove(&mut self, waiter: &Waiter) {
        match self {
            Self::One(one) if one == waiter => *self = Self::new(),
            Self::One(_) | Self::Others(None) => {}
            Self::Others(Some(all)) => all.retain(|w| w != waiter),
        }
    }

    /// Moves all of them out.
    pub(crate) fn move_to(&mut self, ready: &mut Vec<Waiter>) {
        match std::mem::take(self) {
            Self::One(one) => ready.push(one),
            Self::Others(all) => ready.extend(all.into_iter().flat_map(|all| *all)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Others(all) => all.as_ref().map_or(0, |all| all.len()),
        }
    }
}

impl Default for Waiters {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.core.ptr_eq(&other.core)
    }
}

/// What an engine needs of a reactor.
///
/// Sockets do their own transfers (see [`Socket`](crate::io::Socket)); the reactor makes them, keeps
/// the time and sleeps. All methods may be called from any thread.
pub trait Reactor: Send + Sync {
    /// Time since the reactor began; never goes back.
    fn now(&self) -> Time;

    /// A random number.
    fn random(&self) -> u64;

    /// Whether time only passes in [`wait`](Reactor::wait), so that nothing may be left to other
    /// threads.
    fn is_virtual(&self) -> bool;

    /// Looks a name up. May block; called on the pool.
    ///
    /// # Errors
    /// Where the name has no address.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Starts to connect; `true` if it is connected already. Must not block.
    ///
    /// # Errors
    /// Why it cannot start.
    fn connect(&self, to: SocketAddr, options: &SocketOptions) -> io::Result<(Sock, bool)>;

    /// Listens.
    ///
    /// # Errors
    /// Why it cannot.
    fn listen(&self, at: SocketAddr, options: &SocketOptions) -> io::Result<Connected>;

    /// Makes a datagram socket. Must not block.
    ///
    /// # Errors
    /// Why it cannot; `Unsupported` from a reactor without datagrams.
    fn datagram(&self, options: &DatagramOptions) -> io::Result<Connected> {
        let _ = options;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this reactor has no datagram sockets"))
    }

    /// Takes in a descriptor that somebody else made.
    ///
    /// # Errors
    /// Where it is of no use.
    fn adopt(&self, fd: OwnedFd, options: &SocketOptions) -> io::Result<Connected>;

    /// Sleeps until something is ready, [`wake`](Reactor::wake) is called or the time has passed;
    /// `None` waits without a limit. Adds the ops to run.
    ///
    /// # Errors
    /// Where the system refuses to wait at all.
    fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Waiter>) -> io::Result<()>;

    /// Ends a sleep, the one under way or the next.
    fn wake(&self);

    /// A descriptor that becomes readable when a turn has something to do, for a host's own loop.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn waiters_stay_in_order_and_take_no_more_room_than_one() {
        let waiter = |slot| Waiter { core: Weak::new(), id: OpId { slot, generation: 1 } };
        let left = |w: &mut Waiters| {
            let mut ready = Vec::new();
            w.move_to(&mut ready);
            assert_eq!(w.len(), 0);
            ready.iter().map(|w| w.id.slot).collect::<Vec<_>>()
        };
        assert_eq!(size_of::<Waiters>(), size_of::<Waiter>());
        let mut w = Waiters::new();
        assert_eq!(left(&mut w), []);
        for n in 1..5 {
            (0..n).for_each(|i| w.push(waiter(i)));
            assert_eq!(w.len(), n as usize);
            w.remove(&waiter(9));
            w.remove(&waiter(1));
            assert_eq!(left(&mut w), (0..n).filter(|i| *i != 1).collect::<Vec<_>>());
        }
        w.push(waiter(3));
        w.remove(&waiter(3));
        assert_eq!(left(&mut w), []);
    }
}
