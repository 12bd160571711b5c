//! A datagram socket over epoll: a [`Stream`]'s waits with other transfers. Invariant: what a send hears of
//! an earlier datagram is kept for the next receive, and the datagram in hand goes all the same.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use smallvec::SmallVec;

use super::epoll::{Stream, apply, bind_first, new_socket};
use super::{Bell, Waiter};
use crate::buffer::{Piece, Room, Target};
use crate::cntl::Path;
use crate::datagram::{Arrived, DatagramOptions, MAX_SEGMENTS, Outgoing};
use crate::io::{Connected, Direction, RuntimeOption, Socket, SocketOptions};
use crate::sync::{Arc, AtomicBool, Ordering};

/// Memory that a receive has: no datagram is longer, and no run of datagrams either.
const BLOCK: usize = 64 * 1024;
/// Less than this is copied out of the block, so that a short datagram holds no long one.
const COPY: usize = 16 * 1024;

thread_local! {
    /// What batches are received into; used again once nobody holds a part of it.
    static BATCH: Cell<Bytes> = const { Cell::new(Bytes::new()) };
    /// Where pieces are gathered that have to go as one run.
    static GATHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(super) struct Datagram {
    stream: Arc<Stream>,
    peer: Option<SocketAddr>,
    v6: bool,
    batches: Option<Box<UdpSocketState>>,
    /// An earlier datagram came back.
    refused: AtomicBool,
}

/// A socket with these options, bound and connected, and its addresses.
pub(super) fn open(options: &DatagramOptions) -> io::Result<(socket2::Socket, Option<SocketAddr>)> {
    let like = options.like();
    let s = new_socket(like, socket2::Type::DGRAM, &options.socket)?;
    if options.socket.reuse {
        s.set_reuse_address(true)?;
    }
    if options.shared && options.to.is_some() {
        s.set_reuse_port(true)?;
    }
    bind_first(&s, &options.socket.bind, like)?;
    if options.shared {
        // Only now: whoever came first must not be joined unasked.
        s.set_reuse_port(true)?;
    }
    if options.broadcast {
        s.set_broadcast(true)?;
    }
    groups(&s, like, options)?;
    if let Some(to) = options.to {
        s.connect(&to.into())?;
    }
    let local = s.local_addr()?.as_socket();
    Ok((s, local))
}

fn groups(s: &socket2::Socket, like: SocketAddr, o: &DatagramOptions) -> io::Result<()> {
    let index = match &o.interface {
        Some(name) => rustix::net::netdevice::name_to_index(s, name)?,
        None => 0,
    };
    let v6 = like.is_ipv6();
    // A socket for both families sends to groups of both.
    let v4 = !v6 || !s.only_v6()?;
    let interface = socket2::InterfaceIndexOrAddress::Index(index);
    for group in &o.groups {
        match group {
            std::net::IpAddr::V4(g) => s.join_multicast_v4_n(g, &interface)?,
            std::net::IpAddr::V6(g) => s.join_multicast_v6(g, index)?,
        }
    }
    if index != 0 {
        if v6 {
            s.set_multicast_if_v6(index)?;
        }
        if v4 {
            let any = Ipv4Addr::UNSPECIFIED;
            rustix::net::sockopt::set_ip_multicast_if_with_ifindex(s, &any, &any, index)?;
        }
    }
    if let Some(ttl) = o.group_ttl {
        if v6 {
            s.set_multicast_hops_v6(ttl.into())?;
        }
        if v4 {
            s.set_multicast_ttl_v4(ttl.into())?;
        }
    }
    if let Some(on) = o.group_loop {
        if v6 {
            s.set_multicast_loop_v6(on)?;
        }
        if v4 {
            s.set_multicast_loop_v4(on)?;
        }
    }
    if let Some(ttl) = o.ttl {
        if v6 {
            s.set_unicast_hops_v6(ttl.into())?;
        }
        if v4 {
            s.set_ttl_v4(ttl.into())?;
        }
    }
    Ok(())
}

impl Datagram {
    pub(super) fn new(stream: Arc<Stream>, options: &DatagramOptions, v6: bool) -> io::Result<Self> {
        let batches = match options.batches {
            true => {
                stream.never_waits();
                Some(Box::new(UdpSocketState::new((&stream.fd).into())?))
            }
            false => None,
        };
        Ok(Self { stream, peer: options.to, v6, batches, refused: AtomicBool::new(false) })
    }

    /// The peer's address as the socket's family writes it.
    fn destination(&self, to: Option<SocketAddr>) -> Option<SocketAddr> {
        match to? {
            SocketAddr::V4(a) if self.v6 => Some((a.ip().to_ipv6_mapped(), a.port()).into()),
            a => Some(a),
        }
    }

    fn send_once(&self, what: &Outgoing<'_>, flags: SendFlags) -> io::Result<usize> {
        let to = self.destination(what.to());
        let most = match &self.batches {
            Some(state) => state.max_gso_segments().min(MAX_SEGMENTS),
            None => 1,
        };
        let (run, each, count) = what.run(most);
        if let (Some(state), 1..) = (&self.batches, each)
            && let Some(destination) = to.or_else(|| self.destination(self.peer))
        {
            let send = |contents: &[u8]| {
                let segment_size = Some(each);
                let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
                state.try_send((&self.stream.fd).into(), &transmit)
            };
            let mut slices = what.slices(run.clone()).filter(|s| !s.is_empty());
            return match (slices.next(), slices.next()) {
                (Some(all), None) => send(all),
                _ => GATHER.with_borrow_mut(|g| {
                    g.clear();
                    what.slices(run).for_each(|s| g.extend_from_slice(s));
                    send(g)
                }),
            }
            .map(|()| count);
        }
        let parts: SmallVec<[IoSlice<'_>; 4]> = what.slices(run).filter(|s| !s.is_empty()).map(IoSlice::new).collect();
        let fd = &self.stream.fd;
        match (&parts[..], &to) {
            ([], None) => rustix::net::send(fd, &[], flags)?,
            ([one], None) => rustix::net::send(fd, one, flags)?,
            ([], Some(to)) => rustix::net::sendto(fd, &[], flags, to)?,
            ([one], Some(to)) => rustix::net::sendto(fd, one, flags, to)?,
            (many, None) => rustix::net::sendmsg(fd, many, &mut SendAncillaryBuffer::default(), flags)?,
            (many, Some(to)) => rustix::net::sendmsg_addr(fd, to, many, &mut SendAncillaryBuffer::default(), flags)?,
        };
        Ok(count)
    }

    fn recv_one(&self, flags: RecvFlags) -> io::Result<Arrived> {
        let mut target = Target::none();
        let (mut len, mut from) = (0, None);
        Room::new(&mut target, BLOCK).fill(|to| {
            let ((there, _), real, peer) = rustix::net::recvfrom(&self.stream.fd, to, flags | RecvFlags::TRUNC)?;
            (len, from) = (real, peer);
            Ok::<_, rustix::io::Errno>(there)
        })?;
        let Target::Take(mut chunks) = target else { return Ok(Arrived::default()) };
        let bytes = chunks.pop().map(|c| c.into_bytes()).unwrap_or_default();
        Ok(Arrived::one(bytes, from.and_then(|a| a.try_into().ok())).with_len(len))
    }

    fn recv_batch(&self, state: &UdpSocketState) -> io::Result<Arrived> {
        let mut block = match BATCH.take().try_into_mut() {
            Ok(b) if b.len() == BLOCK => b,
            _ => BytesMut::zeroed(BLOCK),
        };
        let mut meta = [RecvMeta::default()];
        let got = state.recv((&self.stream.fd).into(), &mut [IoSliceMut::new(&mut block)], &mut meta);
        let block = block.freeze();
        let [meta] = meta;
        let n = meta.len.min(block.len());
        let bytes =
            if n < COPY { Bytes::copy_from_slice(block.get(..n).unwrap_or_default()) } else { block.slice(..n) };
        BATCH.set(block);
        got?;
        let segment = if meta.stride < n { meta.stride } else { 0 };
        Ok(Arrived::one(bytes, Some(meta.addr)).with_segment(segment))
    }
}

impl Socket for Datagram {
    fn recv(&self, _: &mut Room<'_>) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn send(&self, _: &[Piece], _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn recv_datagrams(&self, patient: bool) -> io::Result<Arrived> {
        if self.refused.swap(false, Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.stream.attempt(Direction::Read, || match &self.batches {
            Some(state) => self.recv_batch(state),
            None if patient && self.stream.has_time() => self.recv_one(RecvFlags::empty()),
            None => self.recv_one(RecvFlags::DONTWAIT),
        })
    }

    fn send_datagrams(&self, what: &Outgoing<'_>, patient: bool) -> io::Result<usize> {
        let wait = patient && self.batches.is_none() && self.stream.has_time();
        let flags = if wait { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
        self.stream.attempt(Direction::Write, || match self.send_once(what, flags) {
            // The answer to an earlier datagram, which stood in the way of this one.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                self.refused.store(true, Ordering::Relaxed);
                self.send_once(what, flags)
            }
            sent => sent,
        })
    }

    fn accept(&self) -> io::Result<Connected> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn finish_connect(&self) -> io::Result<Option<SocketAddr>> {
        Ok(self.peer)
    }

    fn local(&self) -> Option<SocketAddr> {
        self.stream.local()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.stream.descriptor()
    }

    fn shutdown_write(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_linger(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn is_ready(&self, direction: Direction) -> bool {
        (direction == Direction::Read && self.refused.load(Ordering::Relaxed)) || self.stream.is_ready(direction)
    }

    fn arm(&self, direction: Direction, waiter: Waiter) -> bool {
        self.stream.arm(direction, waiter)
    }

    fn disarm(&self, direction: Direction, waiter: &Waiter) {
        self.stream.disarm(direction, waiter);
    }

    fn wait_here(&self, direction: Direction, bell: &Bell, timeout: Option<Duration>) -> Option<()> {
        self.stream.wait_here(direction, bell, timeout)
    }

    fn spin(&self) -> Duration {
        self.stream.spin()
    }

    fn path(&self) -> io::Result<Path> {
        Ok(Path::default())
    }

    fn prepare(&self, options: &SocketOptions) -> io::Result<()> {
        apply(&socket2::SockRef::from(&self.stream.fd), options)
    }

    fn set_option(&self, option: RuntimeOption) -> io::Result<()> {
        match option {
            RuntimeOption::Nodelay(_) | RuntimeOption::NotsentLowat(_) => Err(io::ErrorKind::Unsupported.into()),
            other => self.stream.set_option(other),
        }
    }
}
