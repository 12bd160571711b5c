//! What a transport asks the reactor to do, and what comes back. A level never makes a system call;
//! it answers an op with `op.io(request)` or asks on its own account with `cx.io(request, tag)`.
//! Invariant: a [`Sock`] closes when its last owner lets go, so a request can never hit a reused
//! descriptor.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::buffer::{Piece, Room};
use crate::cntl::Path;
use crate::datagram::{Arrived, DatagramOptions, Envelope, Outgoing};
use crate::reactor::Waiter;

/// The direction of a wait or of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Bytes come in.
    Read,
    /// Bytes go out.
    Write,
}

/// A socket of a reactor. Cheap to clone; the descriptor closes with the last clone.
#[derive(Clone)]
pub struct Sock(pub(crate) Arc<dyn Socket>);

impl Sock {
    /// Wraps a reactor's socket.
    pub fn new(socket: Arc<dyn Socket>) -> Self {
        Self(socket)
    }

    /// The socket itself.
    pub fn socket(&self) -> &dyn Socket {
        &*self.0
    }
}

impl fmt::Debug for Sock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sock")
    }
}

/// What a reactor's socket can do. Only the engine calls these, never under a handle's lock, but
/// for [`arm`](Socket::arm) and [`disarm`](Socket::disarm), which must not block.
pub trait Socket: Send + Sync {
    /// Receives what is there into `room`; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there.
    fn recv(&self, room: &mut Room<'_>) -> io::Result<usize>;

    /// Receives, and where there is nothing waits for it, but no longer than a few milliseconds: nobody can
    /// end that wait. For a blocking caller, whom it saves a system call.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); `WouldBlock` after the wait.
    fn recv_patiently(&self, room: &mut Room<'_>) -> io::Result<usize> {
        self.recv(room)
    }

    /// Sends from `pieces`, past the first `skip` bytes; says how many bytes went.
    ///
    /// # Errors
    /// `WouldBlock` where nothing fits.
    fn send(&self, pieces: &[Piece], skip: usize) -> io::Result<usize>;

    /// As [`recv_patiently`](Self::recv_patiently): waits a moment for the peer to take what does not fit.
    ///
    /// # Errors
    /// As [`send`](Self::send); `WouldBlock` after the wait.
    fn send_patiently(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        self.send(pieces, skip)
    }

    /// Receives one datagram; from a socket made for batches also several that came from one sender in one
    /// go. `patient`: as in [`recv_patiently`](Self::recv_patiently).
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there; `ConnectionRefused` and the like where an earlier datagram came
    /// back, once, and the socket works on.
    fn recv_datagrams(&self, patient: bool) -> io::Result<Arrived> {
        let _ = patient;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends the next datagram; from a socket made for batches as many as go in one call. Says how many
    /// went, never 0. A datagram goes whole or not at all.
    ///
    /// # Errors
    /// `WouldBlock` where nothing fits; else why this datagram did not go. What became of an earlier one is
    /// told to [`recv_datagrams`](Self::recv_datagrams).
    fn send_datagrams(&self, what: &Outgoing<'_>, patient: bool) -> io::Result<usize> {
        let _ = (what, patient);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes a connection off a listening socket.
    ///
    /// # Errors
    /// `WouldBlock` where there is none.
    fn accept(&self) -> io::Result<Connected>;

    /// Ends a connection attempt: `Ok` when connected, with the peer's address.
    ///
    /// # Errors
    /// `WouldBlock` while it is under way; else why it failed.
    fn finish_connect(&self) -> io::Result<Option<SocketAddr>>;

    /// Its own address, if it has one.
    fn local(&self) -> Option<SocketAddr> {
        None
    }

    /// The descriptor that it stands on, for what else a level has the system do with it: who the peer of a unix
    /// socket is, what descriptors come over it. `None` where there is none.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Ends the write side.
    ///
    /// # Errors
    /// That of the system.
    fn shutdown_write(&self) -> io::Result<()>;

    /// Sets what the close that follows does: `None` as the system does, `Some(0)` resets.
    ///
    /// # Errors
    /// That of the system.
    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()>;

    /// Its level lets go of it, and the close is done; the descriptor closes with the last clone, which a thread
    /// in a call may have. A listening socket listens no more from here on.
    fn closing(&self) {}

    /// Whether an op in this direction would move something or fail at once.
    fn is_ready(&self, direction: Direction) -> bool;

    /// As [`recv_patiently`](Self::recv_patiently): where it is not ready, waits for that a moment.
    fn is_ready_patiently(&self, direction: Direction) -> bool {
        self.is_ready(direction)
    }

    /// Has `waiter` woken at the next readiness, beside those that wait already (several accepts, a
    /// read and a wait for readiness). `false`: it is ready again already, so try again.
    fn arm(&self, direction: Direction, waiter: Waiter) -> bool;

    /// Takes one op's waiter of that direction away.
    fn disarm(&self, direction: Direction, waiter: &Waiter);

    /// Waits on the calling thread for readiness, for the bell, or for the time to pass. `None`
    /// from a reactor whose sockets only its turns can wait for.
    fn wait_here(&self, direction: Direction, bell: &crate::reactor::Bell, timeout: Option<Duration>) -> Option<()>;

    /// How long a blocking caller spins before it sleeps.
    fn spin(&self) -> Duration {
        Duration::ZERO
    }

    /// State of the path.
    ///
    /// # Errors
    /// That of the system.
    fn path(&self) -> io::Result<Path> {
        Ok(Path::default())
    }

    /// Sets the options of an accepted socket.
    ///
    /// # Errors
    /// That of the system.
    fn prepare(&self, options: &SocketOptions) -> io::Result<()>;

    /// Changes an option of an open socket.
    ///
    /// # Errors
    /// `Unsupported` where the socket has no such option; else that of the system.
    fn set_option(&self, option: RuntimeOption) -> io::Result<()>;
}

/// Options of a socket that may change while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeOption {
    /// Send small segments at once.
    Nodelay(bool),
    /// Size of the system's send buffer in bytes.
    SendBuffer(usize),
    /// Size of the system's receive buffer in bytes.
    RecvBuffer(usize),
    /// Bytes that may wait unsent in the system.
    NotsentLowat(u32),
    /// How long a blocking caller spins before it sleeps.
    Spin(Duration),
}

/// Everything that can be set on a socket before it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Send small segments at once.
    pub nodelay: bool,
    /// Probe an idle peer: after how long, how often, how many times.
    pub keepalive: Option<Keepalive>,
    /// Size of the system's send buffer in bytes.
    pub send_buffer: Option<usize>,
    /// Size of the system's receive buffer in bytes.
    pub recv_buffer: Option<usize>,
    /// Let a listener take an address that a dead connection still holds.
    pub reuse: bool,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Local addresses to take before connecting: the first that is free. Each has the family of
    /// the remote address.
    pub bind: Vec<SocketAddr>,
    /// Network device to send through.
    pub device: Option<String>,
    /// Congestion control of the system.
    pub congestion: Option<String>,
    /// Differentiated services code point, 0..=63.
    pub dscp: Option<u8>,
    /// Give the connection up after data was unacknowledged for so long.
    pub user_timeout: Option<Duration>,
    /// Bytes that may wait unsent in the system.
    pub notsent_lowat: Option<u32>,
    /// How long a blocking caller spins before it sleeps.
    pub spin: Duration,
}

/// Probing of an idle peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Probes without an answer before the connection is given up.
    pub count: Option<u32>,
}

/// A socket with both its addresses, as the system writes them: an IPv4 peer of a socket for both
/// families may have an IPv6 address.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connected {
    /// The socket.
    pub sock: Sock,
    /// Its own address, if it has one.
    pub local: Option<SocketAddr>,
    /// The peer's address; `None` where there is no peer, or it has none.
    pub peer: Option<SocketAddr>,
}

impl Connected {
    /// A connected socket.
    pub fn new(sock: Sock, local: Option<SocketAddr>, peer: Option<SocketAddr>) -> Self {
        Self { sock, local, peer }
    }
}

/// What is asked of the reactor.
#[derive(Default)]
#[non_exhaustive]
pub enum Io {
    /// Nothing.
    #[default]
    None,
    /// Receive into the read op.
    Recv(Sock),
    /// Send the write op's pieces.
    Send(Sock),
    /// Make a datagram socket. Gives [`IoDone::Connected`].
    Datagram(Box<DatagramOptions>),
    /// Receive a datagram, whatever kind of op asks. Gives [`IoDone::Datagrams`].
    RecvDatagrams(Sock),
    /// The same, but what would have to wait fails with `WouldBlock`.
    PollDatagrams(Sock),
    /// Send the write op's messages, each as a datagram; with an envelope to where that says. From an op of
    /// another kind one empty datagram, which gives [`IoDone::Done`].
    SendDatagrams(Sock, Option<Box<Envelope>>),
    /// Look a host name up; on the pool. Gives [`IoDone::Addresses`].
    Resolve {
        /// Name or numeric address.
        host: Box<str>,
        /// Port put into the addresses.
        port: u16,
    },
    /// Connect a stream socket. Gives [`IoDone::Connected`].
    Connect(Box<(SocketAddr, SocketOptions)>),
    /// Wait for a connection attempt that is under way.
    Connecting(Sock),
    /// Make a listening stream socket. Gives [`IoDone::Connected`] with the local address.
    Listen(Box<(SocketAddr, SocketOptions)>),
    /// Take a connection. Gives [`IoDone::Connected`].
    Accept(Sock, Box<SocketOptions>),
    /// Take a descriptor in. Gives [`IoDone::Connected`].
    Adopt(Box<(OwnedFd, SocketOptions)>),
    /// End the write side.
    ShutdownWrite(Sock),
    /// Let the socket go; `Some(0)` resets the connection.
    Close(Box<(Sock, Option<Duration>)>),
    /// Wait until a transfer in this direction would move something.
    Ready(Sock, Direction),
    /// Run a closure that may block, on the pool. Gives [`IoDone::Value`].
    Blocking(Box<dyn FnOnce() -> io::Result<Box<dyn Any + Send>> + Send>),
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Recv(_) => "Recv",
            Self::Send(_) => "Send",
            Self::Datagram(_) => "Datagram",
            Self::RecvDatagrams(_) => "RecvDatagrams",
            Self::PollDatagrams(_) => "PollDatagrams",
            Self::SendDatagrams(..) => "SendDatagrams",
            Self::Resolve { .. } => "Resolve",
            Self::Connect(_) => "Connect",
            Self::Connecting(_) => "Connecting",
            Self::Listen(_) => "Listen",
            Self::Accept(..) => "Accept",
            Self::Adopt(_) => "Adopt",
            Self::ShutdownWrite(_) => "ShutdownWrite",
            Self::Close(..) => "Close",
            Self::Ready(..) => "Ready",
            Self::Blocking(_) => "Blocking",
        })
    }
}

/// What a request came to.
#[derive(Default)]
#[non_exhaustive]
pub enum IoDone {
    /// No request was made yet.
    #[default]
    None,
    /// It is done and there is nothing to say.
    Done,
    /// Addresses of a name, in the order of preference.
    Addresses(Vec<SocketAddr>),
    /// A socket.
    Connected(Box<Connected>),
    /// What came.
    Datagrams(Box<Arrived>),
    /// What the closure gave.
    Value(Box<dyn Any + Send>),
    /// It failed.
    Failed(io::Error),
}

impl fmt::Debug for IoDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Done => f.write_str("Done"),
            Self::Addresses(a) => write!(f, "Addresses({a:?})"),
            Self::Connected(c) => write!(f, "Connected({:?} -> {:?})", c.local, c.peer),
            Self::Datagrams(d) => write!(f, "Datagrams({} B)", d.len),
            Self::Value(_) => f.write_str("Value"),
            Self::Failed(e) => write!(f, "Failed({e})"),
        }
    }
}
