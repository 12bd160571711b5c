//! Floods of datagrams between plain sockets: one by one, many in one call (`sendmmsg`, `recvmmsg`) and
//! segmented (GSO, GRO, through `quinn-udp`), and the harness that floods of others run in.
//!
//! Invariant: a flood counts what arrived, not what was sent. Every contender floods between two sockets of one
//! peer each, with the same buffers ([`pair`]).
//!
//! Does not: wait for readiness where one blocking call does.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use crate::buffer::PageBuf;
use crate::datagrams;
use crate::pair::two_threads;
use crate::placement::Placement;
use crate::sample::{Sample, thread_cpu};

/// Datagrams that go in one call.
pub const BATCH: usize = 64;
/// Longest segmented run, in bytes.
pub const MAX_RUN: usize = 65_000;
/// Buffers that sockets of a flood ask for; the system may give less.
pub const BUFFER: usize = 4 << 20;

/// Two connected sockets with the buffers of a flood, the source's first.
///
/// # Errors
///
/// What the kernel answers.
pub fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let (a, b) = datagrams::pair()?;
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&a, BUFFER);
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&b, BUFFER);
    Ok((a, b))
}

/// How many datagrams of `size` bytes go in one segmented call.
pub const fn run(size: usize) -> usize {
    match MAX_RUN / size {
        0 => 1,
        n if n > BATCH => BATCH,
        n => n,
    }
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
    let ((start, source_cpu), (end, count, sink_cpu)) = two_threads(
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
    let (source, sink) = ends(size, how)?;
    flood(placement, size, span, move || Ok(source), move || Ok(sink))
}

/// Both ends of a flood over plain sockets, for those who have a harness of their own.
///
/// # Errors
///
/// What the kernel answers.
pub fn ends(size: usize, how: How) -> io::Result<(PlainSource, PlainSink)> {
    let (a, b) = pair()?;
    let to = b.local_addr()?;
    Ok((PlainSource::new(a, to, size, how)?, PlainSink::new(b, how)?))
}

/// Where a flood over a plain socket comes from.
pub struct PlainSource {
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
                let count = state.max_gso_segments().min(run(self.size)).max(1);
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

/// Where it arrives.
pub struct PlainSink {
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
        assert_eq!([run(64), run(1400), run(65_507)], [64, 46, 1]);
    }
}
