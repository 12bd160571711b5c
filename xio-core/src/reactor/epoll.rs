//! The reactor over epoll. Sockets are tried first and enter epoll only when a wait goes through
//! the reactor; they are edge triggered and registered once. Invariant: every transfer is an attempt
//! that [`Edges`] hears of.
//!
//! On rustix rather than mio or polling: the engine also needs sendmsg with lists of pieces, receives
//! into uninitialised memory, ppoll beside an eventfd, and all of that without `unsafe` of its own;
//! on top of those calls epoll itself is forty lines.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Weak;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use slab::Slab;
use smallvec::SmallVec;

use super::edges::Edges;
use super::{Bell, Reactor, Waiter, datagram};
use crate::buffer::{Piece, Room};
use crate::cntl::Path;
use crate::datagram::DatagramOptions;
use crate::io::{Connected, Direction, RuntimeOption, Sock, Socket, SocketOptions};
use crate::sync::{Arc, AtomicU32, AtomicU64, Mutex, Ordering};
use crate::time::Time;

/// Most pieces one sendmsg takes.
const IOV_MAX: usize = 1024;
/// Two pieces together as short as this are copied into one run before they are sent.
const SHORT: usize = 128;
/// How everything is sent: no signal where the peer is gone, and no wait.
const SEND: SendFlags = SendFlags::NOSIGNAL;
/// Events fetched in one go.
const EVENTS: usize = 256;
/// Epoll's number for the eventfd.
const WAKE: u64 = u64::MAX;
/// Beside a socket's number: epoll knows it.
const REGISTERED: u32 = 1 << 31;

pub(crate) struct Epoll {
    shared: Arc<Set>,
    wake: OwnedFd,
    began: Instant,
    random: AtomicU64,
}

struct Set {
    epoll: OwnedFd,
    /// The process it was made in: what a child of it inherits is the parent's.
    process: u32,
    sockets: Mutex<Slab<Weak<Stream>>>,
}

/// A stream socket, connected, connecting or listening; or what a datagram socket waits with.
pub(super) struct Stream {
    pub(super) fd: OwnedFd,
    /// Its number in the set, and [`REGISTERED`].
    key: AtomicU32,
    set: Arc<Set>,
    edges: Edges,
    /// In microseconds.
    spin: AtomicU32,
    /// Whether it can wait in a receive; see [`Patience`].
    patience: AtomicU32,
}

/// What is known of a socket's patience. Attempts say themselves that they do not wait; so the socket
/// may be a blocking one, and a call that is to wait a moment is one plain call with a time limit.
enum Patience {}

impl Patience {
    /// Miri has no receives with a time limit.
    const FIRST: u32 = if cfg!(miri) { Self::NONE } else { Self::UNKNOWN };
    const UNKNOWN: u32 = 0;
    /// It blocks, and gives up after [`PATIENCE`].
    const HAS: u32 = 1;
    /// It is not ours to change, or does not let itself be changed.
    const NONE: u32 = 2;
    /// It was made here to listen: no bytes go through it.
    const LISTENS: u32 = 3;
}

/// How long a patient call waits; the system rounds it up to its tick.
const PATIENCE: Duration = Duration::from_millis(1);

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Miri knows edges only.
        let edges = if cfg!(miri) { epoll::EventFlags::ET } else { epoll::EventFlags::empty() };
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN | edges)?;
        let began = Instant::now();
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        Ok(Self {
            shared: Arc::new(Set { epoll, process: std::process::id(), sockets: Mutex::new(Slab::new()) }),
            wake,
            began,
            random: AtomicU64::new(seed),
        })
    }
}

impl Set {
    fn stream(self: &Arc<Self>, fd: OwnedFd, spin: Duration) -> Arc<Stream> {
        let mut sockets = self.sockets.lock();
        let place = sockets.vacant_entry();
        let stream = Arc::new(Stream {
            fd,
            // Far fewer descriptors than numbers.
            key: AtomicU32::new(place.key() as u32),
            set: self.clone(),
            edges: Edges::new(),
            spin: AtomicU32::new(micros(spin)),
            patience: AtomicU32::new(Patience::FIRST),
        });
        place.insert(Arc::downgrade(&stream));
        stream
    }
}

impl Reactor for Epoll {
    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn random(&self) -> u64 {
        // splitmix64 over a counter.
        let mut x = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn is_virtual(&self) -> bool {
        false
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        use std::net::ToSocketAddrs;
        Ok((host, port).to_socket_addrs()?.collect())
    }

    fn connect(&self, to: SocketAddr, options: &SocketOptions) -> io::Result<(Sock, bool)> {
        let socket = new_socket(to, socket2::Type::STREAM, options)?;
        bind_first(&socket, &options.bind, to)?;
        let done = match socket.connect(&to.into()) {
            Ok(()) => true,
            Err(e) if e.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => false,
            Err(e) => return Err(e),
        };
        Ok((Sock(self.shared.stream(socket.into(), options.spin)), done))
    }

    fn listen(&self, at: SocketAddr, options: &SocketOptions) -> io::Result<Connected> {
        let socket = new_socket(at, socket2::Type::STREAM, options)?;
        if options.reuse {
            socket.set_reuse_address(true)?;
        }
        match options.bind.is_empty() {
            true => socket.bind(&at.into())?,
            false => bind_first(&socket, &options.bind, at)?,
        }
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        let local = socket.local_addr()?.as_socket();
        let stream = self.shared.stream(socket.into(), options.spin);
        stream.patience.store(Patience::LISTENS, Ordering::Relaxed);
        Ok(Connected::new(Sock(stream), local, None))
    }

    fn datagram(&self, options: &DatagramOptions) -> io::Result<Connected> {
        let (socket, local) = datagram::open(options)?;
        let stream = self.shared.stream(socket.into(), options.socket.spin);
        let socket = datagram::Datagram::new(stream, options, local.is_some_and(|a| a.is_ipv6()))?;
        Ok(Connected::new(Sock(Arc::new(socket)), local, options.to))
    }

    fn adopt(&self, fd: OwnedFd, options: &SocketOptions) -> io::Result<Connected> {
        let socket = socket2::Socket::from(fd);
        if socket.r#type()? != socket2::Type::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the descriptor is not a stream socket"));
        }
        if socket.local_addr()?.as_socket().is_some() {
            apply(&socket, options)?;
        }
        let (local, peer) = (address(socket.local_addr()), address(socket.peer_addr()));
        let stream = self.shared.stream(socket.into(), options.spin);
        // Others may hold the same socket: its mode is theirs, too.
        stream.patience.store(Patience::NONE, Ordering::Relaxed);
        Ok(Connected::new(Sock(stream), local, peer))
    }

    fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Waiter>) -> io::Result<()> {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let (events, _) = match epoll::wait(&self.shared.epoll, &mut events[..], timeout.as_ref()) {
            Ok(e) => e,
            Err(Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        for event in events {
            let (key, flags) = (event.data.u64(), event.flags);
            if key == WAKE {
                let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
                continue;
            }
            let Some(socket) =
                usize::try_from(key).ok().and_then(|k| self.shared.sockets.lock().get(k).and_then(Weak::upgrade))
            else {
                continue;
            };
            let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            if broken || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP) {
                socket.edges.edge(Direction::Read, ready);
            }
            if broken || flags.intersects(epoll::EventFlags::OUT) {
                socket.edges.edge(Direction::Write, ready);
            }
        }
        Ok(())
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.epoll.as_fd())
    }
}

impl Stream {
    #[inline]
    pub(super) fn attempt<T>(&self, direction: Direction, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.edges.attempt(direction, f)
    }

    fn is_registered(&self) -> bool {
        self.key.load(Ordering::Relaxed) & REGISTERED != 0
    }

    fn register(&self) -> io::Result<()> {
        let key = self.key.load(Ordering::Relaxed) & !REGISTERED;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(key.into());
        match epoll::add(&self.set.epoll, &self.fd, data, flags) {
            // Another thread was faster, or a duplicate of an adopted descriptor kept an old number alive.
            Err(Errno::EXIST) => epoll::modify(&self.set.epoll, &self.fd, data, flags)?,
            other => other?,
        }
        self.key.store(key | REGISTERED, Ordering::Relaxed);
        Ok(())
    }

    fn spins(&self) -> bool {
        self.spin.load(Ordering::Relaxed) != 0
    }

    /// Whether a call may wait a moment.
    pub(super) fn has_time(&self) -> bool {
        !self.spins() && self.has_patience()
    }

    /// No call ever waits.
    pub(super) fn never_waits(&self) {
        self.patience.store(Patience::NONE, Ordering::Relaxed);
    }

    /// Makes the socket's calls wait a moment, once. Whether they do.
    fn has_patience(&self) -> bool {
        match self.patience.load(Ordering::Relaxed) {
            Patience::HAS => true,
            Patience::NONE | Patience::LISTENS => false,
            _ => {
                let s = self.socket();
                // Others count the time anew for each piece they wait for.
                let inet = s.local_addr().is_ok_and(|a| a.as_socket().is_some());
                let set = if inet { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
                    .and_then(|()| s.set_read_timeout(Some(PATIENCE)))
                    .and_then(|()| s.set_write_timeout(Some(PATIENCE)))
                    .and_then(|()| s.set_nonblocking(false));
                let now = if set.is_ok() { Patience::HAS } else { Patience::NONE };
                self.patience.store(now, Ordering::Relaxed);
                set.is_ok()
            }
        }
    }

    fn send_with(&self, pieces: &[Piece], skip: usize, flags: SendFlags) -> io::Result<usize> {
        self.attempt(Direction::Write, || match pieces {
            [one] => Ok(rustix::net::send(&self.fd, &one[skip.min(one.len())..], flags)?),
            // A plain send of a short copy costs less than a list of pieces.
            [head, body] if skip == 0 && head.len() + body.len() <= SHORT => {
                let mut run = [0; SHORT];
                let (h, rest) = run.split_at_mut(head.len());
                h.copy_from_slice(head);
                rest[..body.len()].copy_from_slice(body);
                Ok(rustix::net::send(&self.fd, &run[..head.len() + body.len()], flags)?)
            }
            many => {
                let mut skip = skip;
                let mut parts: SmallVec<[io::IoSlice<'_>; 4]> = SmallVec::new();
                for p in many {
                    if skip >= p.len() {
                        skip -= p.len();
                        continue;
                    }
                    parts.push(io::IoSlice::new(&p[skip..]));
                    skip = 0;
                    if parts.len() == IOV_MAX {
                        break;
                    }
                }
                let mut none = SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(&self.fd, &parts, &mut none, flags)?)
            }
        })
    }

    fn socket(&self) -> socket2::SockRef<'_> {
        socket2::SockRef::from(&self.fd)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Closing the descriptor takes it out of epoll.
        let key = self.key.load(Ordering::Relaxed) & !REGISTERED;
        self.set.sockets.lock().try_remove(key as usize);
    }
}

impl Socket for Stream {
    fn recv(&self, room: &mut Room<'_>) -> io::Result<usize> {
        self.attempt(Direction::Read, || {
            room.fill(|to| rustix::net::recv(&self.fd, to, RecvFlags::DONTWAIT).map(|((init, _), _)| init))
                .map_err(Into::into)
        })
    }

    fn recv_patiently(&self, room: &mut Room<'_>) -> io::Result<usize> {
        if !self.has_time() {
            return self.recv(room);
        }
        self.attempt(Direction::Read, || {
            room.fill(|to| rustix::net::recv(&self.fd, to, RecvFlags::empty()).map(|((init, _), _)| init))
                .map_err(Into::into)
        })
    }

    fn send(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        self.send_with(pieces, skip, SEND | SendFlags::DONTWAIT)
    }

    fn send_patiently(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        if !self.has_time() {
            return self.send(pieces, skip);
        }
        self.send_with(pieces, skip, SEND)
    }

    fn accept(&self) -> io::Result<Connected> {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        let (fd, peer) = self.attempt(Direction::Read, || Ok(rustix::net::acceptfrom_with(&self.fd, flags)?))?;
        let stream = self.set.stream(fd, Duration::ZERO);
        let (local, peer) = (stream.local(), peer.and_then(|a| a.try_into().ok()));
        Ok(Connected::new(Sock(stream), local, peer))
    }

    fn finish_connect(&self) -> io::Result<Option<SocketAddr>> {
        let socket = self.socket();
        self.attempt(Direction::Write, || {
            if let Some(e) = socket.take_error()? {
                return Err(e);
            }
            match socket.peer_addr() {
                Ok(a) => Ok(a.as_socket()),
                Err(e) if e.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
                Err(e) => Err(e),
            }
        })
    }

    fn local(&self) -> Option<SocketAddr> {
        address(self.socket().local_addr())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.socket().shutdown(std::net::Shutdown::Write)
    }

    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.socket().set_linger(linger)
    }

    /// A thread in an accept or in the wait for edges may hold it a moment longer.
    fn closing(&self) {
        // One that was adopted may be others' too, and goes on for them.
        let listens = self.patience.load(Ordering::Relaxed) == Patience::LISTENS;
        if listens && self.set.process == std::process::id() {
            let _ = self.socket().shutdown(std::net::Shutdown::Both);
        }
    }

    fn is_ready(&self, direction: Direction) -> bool {
        let flags = match direction {
            Direction::Read => PollFlags::IN | PollFlags::RDHUP,
            Direction::Write => PollFlags::OUT,
        };
        let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), flags)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let look = || match poll(&mut fds, Some(&now)) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        };
        self.attempt(direction, look).is_ok()
    }

    fn arm(&self, direction: Direction, waiter: Waiter) -> bool {
        if !self.is_registered() && self.register().is_err() {
            // Out of kernel memory: let the attempt run again rather than hang.
            return false;
        }
        self.edges.arm(direction, waiter)
    }

    fn disarm(&self, direction: Direction, waiter: &Waiter) {
        self.edges.disarm(direction, waiter);
    }

    fn wait_here(&self, direction: Direction, bell: &Bell, timeout: Option<Duration>) -> Option<()> {
        bell.wait_with(self.fd.as_fd(), direction, timeout);
        Some(())
    }

    fn spin(&self) -> Duration {
        Duration::from_micros(self.spin.load(Ordering::Relaxed).into())
    }

    fn path(&self) -> io::Result<Path> {
        super::tcp_info::read(self.fd.as_fd())
    }

    fn set_option(&self, option: RuntimeOption) -> io::Result<()> {
        let s = self.socket();
        match option {
            RuntimeOption::Nodelay(on) => s.set_tcp_nodelay(on),
            RuntimeOption::SendBuffer(n) => s.set_send_buffer_size(n),
            RuntimeOption::RecvBuffer(n) => s.set_recv_buffer_size(n),
            RuntimeOption::NotsentLowat(n) => s.set_tcp_notsent_lowat(n),
            RuntimeOption::Spin(d) => {
                self.spin.store(micros(d), Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn prepare(&self, options: &SocketOptions) -> io::Result<()> {
        self.spin.store(micros(options.spin), Ordering::Relaxed);
        apply(&self.socket(), options)
    }
}

/// Whether the machine has several CPUs, whatever those are that this thread may run on.
pub(crate) fn several_cpus() -> bool {
    match std::fs::read_to_string("/sys/devices/system/cpu/online") {
        Ok(s) => s.contains(['-', ',']),
        Err(_) => std::thread::available_parallelism().is_ok_and(|n| n.get() > 1),
    }
}

/// Whole microseconds, rounded up.
fn micros(d: Duration) -> u32 {
    u32::try_from(d.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX)
}

pub(super) fn new_socket(
    for_: SocketAddr,
    kind: socket2::Type,
    options: &SocketOptions,
) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(for_), kind.nonblocking(), None)?;
    apply(&socket, options)?;
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    Ok(socket)
}

/// Takes the first local address that is free.
pub(super) fn bind_first(socket: &socket2::Socket, candidates: &[SocketAddr], like: SocketAddr) -> io::Result<()> {
    let mut last = None;
    for a in candidates.iter().filter(|a| a.is_ipv4() == like.is_ipv4()) {
        match socket.bind(&(*a).into()) {
            Ok(()) => return Ok(()),
            Err(e) => last = Some(e),
        }
    }
    match last {
        Some(e) => Err(e),
        None if candidates.is_empty() => Ok(()),
        None => Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no local address of the right family")),
    }
}

pub(super) fn apply(s: &socket2::Socket, o: &SocketOptions) -> io::Result<()> {
    if o.nodelay {
        s.set_tcp_nodelay(true)?;
    }
    if let Some(n) = o.send_buffer {
        s.set_send_buffer_size(n)?;
    }
    if let Some(n) = o.recv_buffer {
        s.set_recv_buffer_size(n)?;
    }
    if let Some(k) = o.keepalive {
        let mut ka = socket2::TcpKeepalive::new().with_time(k.idle);
        if let Some(i) = k.interval {
            ka = ka.with_interval(i);
        }
        if let Some(c) = k.count {
            ka = ka.with_retries(c);
        }
        s.set_tcp_keepalive(&ka)?;
    }
    if let Some(name) = &o.congestion {
        s.set_tcp_congestion(name.as_bytes())?;
    }
    if let Some(dscp) = o.dscp {
        let tos = u32::from(dscp) << 2;
        if s.domain()? == socket2::Domain::IPV6 {
            s.set_tclass_v6(tos)?;
            // For IPv4 peers of a socket for both; one for IPv6 alone refuses.
            let _ = s.set_tos_v4(tos);
        } else {
            s.set_tos_v4(tos)?;
        }
    }
    if let Some(t) = o.user_timeout {
        s.set_tcp_user_timeout(Some(t))?;
    }
    if let Some(n) = o.notsent_lowat {
        s.set_tcp_notsent_lowat(n)?;
    }
    Ok(())
}

fn address(a: io::Result<socket2::SockAddr>) -> Option<SocketAddr> {
    a.ok()?.as_socket()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_small() {
        assert!(size_of::<Stream>() <= 80, "{}", size_of::<Stream>());
    }

    #[test]
    fn times_are_rounded_up_and_end_somewhere() {
        assert_eq!([0, 1, 1000, 1001].map(|n| micros(Duration::from_nanos(n))), [0, 1, 1, 2]);
        assert_eq!(micros(Duration::MAX), u32::MAX);
    }
}
