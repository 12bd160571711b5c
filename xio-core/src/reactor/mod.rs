//! What does the system calls: the interface the engine drives, and the two that come with the
//! crate, over epoll and simulated. Invariant: a reactor calls nobody back; it hands out the ops whose
//! sockets are ready, and the engine does the rest.

mod bell;
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

/// Those who wait for one direction of a socket; nearly always one.
pub(crate) type Waiters = smallvec::SmallVec<[Waiter; 1]>;

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
