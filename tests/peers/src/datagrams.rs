//! Plain datagram sockets: round trips, streams in windows, and floods, one by one, many in one call
//! (`sendmmsg`, `recvmmsg`) and segmented (GSO, GRO, through `quinn-udp`).
//!
//! Invariant: a flood counts what arrived, not what was sent; a stream waits for its peer after every
//! window ([`windows`]), so that nothing overflows and nothing is lost on loopback.
//!
//! Does not: wait for readiness where one blocking call does.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use crate::buffer::PageBuf;
use crate::placement::{Placement, Side};
use crate::raw::warm_up;
use crate::sample::{Sample, thread_cpu};

/// Most messages of a stream before its peer answers, and most bytes of the system's memory that they take:
/// less than a socket's receive buffer has unasked (208 KiB).
pub const WINDOW: usize = 32;
const WINDOW_BYTES: usize = 96 << 10;
/// Datagrams that go in one call.
pub const BATCH: usize = 64;
/// Longest segmented run, in bytes.
const MAX_RUN: usize = 65_507;
/// Buffer that sockets of a flood ask for; the system may give less.
const BUFFER: usize = 4 << 20;

/// Two connected sockets on loopback.
///
/// # Errors
///
/// What the kernel answers.
pub fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let (a, b) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
    a.connect(b.local_addr()?)?;
    b.connect(a.local_addr()?)?;
    Ok((a, b))
}

/// One sample of a blocking ping-pong.
///
/// # Errors
///
/// Those of the sockets and of pinning.
pub fn pingpong(placement: Placement, size: usize, iters: usize) -> io::Result<Sample> {
    let warm = warm_up(iters);
    let (a, b) = pair()?;
    let ((mut trips, client_cpu), server_cpu) = on_two(
        placement,
        move || {
            let mut buf = PageBuf::new(size);
            let mut trips = Vec::with_capacity(iters);
            let mut cpu = Duration::ZERO;
            for i in 0..warm + iters {
                if i == warm {
                    cpu = thread_cpu();
                }
                let start = Instant::now();
                a.send(&buf)?;
                a.recv(&mut buf)?;
                if i >= warm {
                    trips.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
                }
            }
            Ok((trips, thread_cpu() - cpu))
        },
        move || {
            let mut buf = PageBuf::new(size);
            let mut cpu = Duration::ZERO;
            for i in 0..warm + iters {
                if i == warm {
                    cpu = thread_cpu();
                }
                let n = b.recv(&mut buf)?;
                b.send(buf.get(..n).unwrap_or_default())?;
            }
            Ok(thread_cpu() - cpu)
        },
    )?;
    Sample::from_round_trips(size, &mut trips, client_cpu + server_cpu)
}

/// One sample of a stream of messages, one `send` each, with an answer after each window.
///
/// # Errors
///
/// Those of the sockets and of pinning.
pub fn stream(placement: Placement, size: usize, messages: usize) -> io::Result<Sample> {
    let warm = warm_up(messages);
    let (a, b) = pair()?;
    let ((wall, source_cpu), sink_cpu) = on_two(
        placement,
        move || {
            let buf = PageBuf::new(size);
            let run = |count: usize| -> io::Result<()> {
                windows(count, size).try_for_each(|n| {
                    (0..n).try_for_each(|_| a.send(&buf).map(drop))?;
                    a.recv(&mut [0]).map(drop)
                })
            };
            run(warm)?;
            let (start, cpu) = (Instant::now(), thread_cpu());
            run(messages)?;
            Ok((start.elapsed(), thread_cpu() - cpu))
        },
        move || {
            let mut buf = PageBuf::new(size);
            let mut run = |count: usize| -> io::Result<()> {
                windows(count, size).try_for_each(|n| {
                    (0..n).try_for_each(|_| b.recv(&mut buf).map(drop))?;
                    b.send(&[1]).map(drop)
                })
            };
            run(warm)?;
            let cpu = thread_cpu();
            run(messages)?;
            Ok(thread_cpu() - cpu)
        },
    )?;
    Sample::from_stream(size, messages, wall, source_cpu + sink_cpu)
}

/// How many messages of `size` bytes each window of a stream has.
pub fn windows(messages: usize, size: usize) -> impl Iterator<Item = usize> {
    // The system counts its own memory too, and rounds up to a power of two.
    let window = (WINDOW_BYTES / (2 * size + 1024)).clamp(1, WINDOW);
    (0..messages).step_by(window).map(move |at| window.min(messages - at))
}

/// Where a flood comes from.
pub trait Source {
    /// Sends some datagrams.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    fn send(&mut self) -> io::Result<()>;

    /// Sends one byte: the flood is over. Sent again until it was seen.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    fn mark(&mut self) -> io::Result<()>;
}

/// Where it arrives.
pub trait Sink {
    /// Waits for some datagrams; how many came. 0: the mark was among them.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    fn take(&mut self) -> io::Result<usize>;
}

/// Sends for so long and counts what arrives; an op is a datagram that did.
///
/// # Errors
///
/// Those of both ends and of pinning; `InvalidInput` where nothing arrived.
pub fn flood<S: Source, T: Sink>(
    placement: Placement,
    size: usize,
    span: Duration,
    source: impl FnOnce() -> io::Result<S> + Send,
    sink: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<Sample> {
    let over = AtomicBool::new(false);
    let ((start, source_cpu), (end, count, sink_cpu)) = on_two(
        placement,
        || {
            let mut source = source()?;
            let (start, cpu) = (Instant::now(), thread_cpu());
            while start.elapsed() < span {
                (0..16).try_for_each(|_| source.send())?;
            }
            let cpu = thread_cpu() - cpu;
            while !over.load(Ordering::Acquire) {
                source.mark()?;
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok((start, cpu))
        },
        || {
            // Whatever happens here, the other end is not to send marks for ever.
            let _over = Over(&over);
            let mut sink = sink()?;
            let mut count = 0;
            let cpu = thread_cpu();
            loop {
                match sink.take()? {
                    0 => return Ok((Instant::now(), count, thread_cpu() - cpu)),
                    n => count += n,
                }
            }
        },
    )?;
    Sample::from_stream(size, count, end.saturating_duration_since(start), source_cpu + sink_cpu)
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// How plain sockets flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A `send` and a `recv` a datagram.
    One,
    /// `sendmmsg` of [`BATCH`] and `recvmmsg`.
    Many,
    /// Segmented by the system: one buffer a call.
    Segments,
}

/// A flood over plain sockets.
///
/// # Errors
///
/// As [`flood`].
pub fn plain(placement: Placement, size: usize, span: Duration, how: How) -> io::Result<Sample> {
    let (a, b) = pair()?;
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&a, BUFFER);
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&b, BUFFER);
    let to = b.local_addr()?;
    flood(placement, size, span, move || PlainSource::new(a, to, size, how), move || PlainSink::new(b, how))
}

struct PlainSource {
    sock: UdpSocket,
    to: SocketAddr,
    size: usize,
    how: How,
    state: Option<UdpSocketState>,
    buf: PageBuf,
}

impl PlainSource {
    fn new(sock: UdpSocket, to: SocketAddr, size: usize, how: How) -> io::Result<Self> {
        let state = (how == How::Segments).then(|| UdpSocketState::new((&sock).into())).transpose()?;
        Ok(Self { sock, to, size, how, state, buf: PageBuf::new(MAX_RUN) })
    }
}

impl Source for PlainSource {
    fn send(&mut self) -> io::Result<()> {
        let one = self.buf.get(..self.size).unwrap_or_default();
        match (self.how, &self.state) {
            (How::Segments, Some(state)) => {
                let count = state.max_gso_segments().min(MAX_RUN / self.size).max(1);
                let contents = self.buf.get(..count * self.size).unwrap_or_default();
                let segment_size = (count > 1).then_some(self.size);
                let transmit = Transmit { destination: self.to, ecn: None, contents, segment_size, src_ip: None };
                match state.try_send((&self.sock).into(), &transmit) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait(&self.sock, PollFlags::OUT),
                    sent => sent,
                }
            }
            (How::Many, _) => {
                let iov = [IoSlice::new(one)];
                let mut none: Vec<_> = (0..BATCH).map(|_| SendAncillaryBuffer::default()).collect();
                let mut all: Vec<_> = none.iter_mut().map(|n| MMsgHdr::new(&iov, n)).collect();
                sendmmsg(&self.sock, &mut all, SendFlags::empty())?;
                Ok(())
            }
            _ => self.sock.send(one).map(drop),
        }
    }

    fn mark(&mut self) -> io::Result<()> {
        match self.sock.send(&[0]) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => Ok(()),
            sent => sent.map(drop),
        }
    }
}

struct PlainSink {
    sock: UdpSocket,
    state: Option<UdpSocketState>,
    bufs: Vec<Vec<u8>>,
    meta: Vec<RecvMeta>,
}

impl PlainSink {
    fn new(sock: UdpSocket, how: How) -> io::Result<Self> {
        let state = (how != How::One).then(|| UdpSocketState::new((&sock).into())).transpose()?;
        let (bufs, meta) = (vec![vec![0; 1 << 16]; BATCH_SIZE], vec![RecvMeta::default(); BATCH_SIZE]);
        Ok(Self { sock, state, bufs, meta })
    }
}

impl Sink for PlainSink {
    fn take(&mut self) -> io::Result<usize> {
        let Some(state) = &self.state else {
            let n = self.sock.recv(self.bufs.first_mut().map_or(&mut [][..], |b| b))?;
            return Ok(usize::from(n != 1));
        };
        loop {
            let mut iov: Vec<_> = self.bufs.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            match state.recv((&self.sock).into(), &mut iov, &mut self.meta) {
                Ok(n) => {
                    let came = self.meta.get(..n).unwrap_or_default();
                    if came.iter().any(|m| m.len == 1) {
                        return Ok(0);
                    }
                    return Ok(came.iter().map(|m| m.len.div_ceil(m.stride.max(1)).max(1)).sum());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait(&self.sock, PollFlags::IN)?,
                Err(e) => return Err(e),
            }
        }
    }
}

fn wait(sock: &UdpSocket, flags: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(sock, flags)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Runs both ends on threads of their own, pinned.
fn on_two<C: Send, S: Send>(
    placement: Placement,
    client: impl FnOnce() -> io::Result<C> + Send,
    server: impl FnOnce() -> io::Result<S> + Send,
) -> io::Result<(C, S)> {
    let panicked = || io::Error::other("an end of the measurement panicked");
    let (client, server) = std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            placement.pin(Side::Server)?;
            server()
        });
        let client = scope.spawn(move || {
            placement.pin(Side::Client)?;
            client()
        });
        (client.join().unwrap_or_else(|_| Err(panicked())), server.join().unwrap_or_else(|_| Err(panicked())))
    });
    Ok((client?, server?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_that_is_counted() {
        for how in [How::One, How::Many, How::Segments] {
            for size in [64, 1400] {
                let s = plain(Placement::Unpinned, size, Duration::from_millis(5), how).unwrap();
                assert!(s.ns_per_op > 0.0 && s.ns_per_op.is_finite(), "{how:?}");
            }
        }
        assert!(pingpong(Placement::Unpinned, 64, 50).unwrap().p50_us.is_some());
        assert!(stream(Placement::Unpinned, 64, 100).unwrap().ns_per_op > 0.0);
        assert_eq!(windows(70, 64).collect::<Vec<_>>(), [32, 32, 6]);
        assert_eq!(windows(3, 65_507).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
