//! Plain sockets: the floor every stack over tcp is compared with.
//!
//! Invariant: one system call an op and end where the kernel allows it (a write that fits, a
//! read that is ready), `TCP_NODELAY`, page-aligned buffers, no allocation inside a loop.
//!
//! Does not: use readiness, an event loop or vectored writes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::buffer::PageBuf;
use crate::pair::two_ends;
use crate::placement::{Placement, usable_cpus};
use crate::sample::{Sample, thread_cpu};

/// Sends `size` bytes and waits for `size` bytes, `iters` times; appends each round trip in
/// nanoseconds to `round_trips` (reserved up front; longer than 4.29 s saturates).
///
/// # Errors
///
/// What the socket answers; `UnexpectedEof` when the peer is gone.
pub fn pingpong_client(sock: &TcpStream, size: usize, iters: usize, round_trips: &mut Vec<u32>) -> io::Result<()> {
    ping(sock, &mut PageBuf::new(size), iters, round_trips, sleep_read_exact)
}

/// Waits for `size` bytes and sends them back, `iters` times.
///
/// # Errors
///
/// As [`pingpong_client`].
pub fn pingpong_server(sock: &TcpStream, size: usize, iters: usize) -> io::Result<()> {
    pong(sock, &mut PageBuf::new(size), iters, sleep_read_exact)
}

/// [`pingpong_client`] that never sleeps: it repeats `recv(MSG_DONTWAIT)` until the bytes are there.
///
/// # Errors
///
/// As [`pingpong_client`].
pub fn spin_pingpong_client(sock: &TcpStream, size: usize, iters: usize, round_trips: &mut Vec<u32>) -> io::Result<()> {
    ping(sock, &mut PageBuf::new(size), iters, round_trips, spin_read_exact)
}

/// [`pingpong_server`] that never sleeps.
///
/// # Errors
///
/// As [`pingpong_client`].
pub fn spin_pingpong_server(sock: &TcpStream, size: usize, iters: usize) -> io::Result<()> {
    pong(sock, &mut PageBuf::new(size), iters, spin_read_exact)
}

/// Writes `messages` messages of `size` bytes, one `write` each.
///
/// # Errors
///
/// What the socket answers.
pub fn stream_source(sock: &TcpStream, size: usize, messages: usize) -> io::Result<()> {
    pour(sock, &PageBuf::new(size), messages)
}

/// Reads with a buffer of `recv_size` bytes until `limit` bytes have come or the stream has
/// ended (`u64::MAX`: only when it has ended); gives the bytes read. It may read past `limit`
/// if the source does not stop there.
///
/// # Errors
///
/// `InvalidInput` for an empty buffer; otherwise what the socket answers.
pub fn stream_sink(sock: &TcpStream, recv_size: usize, limit: u64) -> io::Result<u64> {
    positive(recv_size, "a receive buffer")?;
    drain(sock, &mut PageBuf::new(recv_size), limit)
}

/// One sample of a blocking ping-pong: a fresh pair, two threads, a warm-up of [`warm_up`] ops.
///
/// # Errors
///
/// Those of the sockets and of pinning; `InvalidInput` for a `size` or `iters` of 0.
pub fn pingpong(placement: Placement, size: usize, iters: usize) -> io::Result<Sample> {
    sample_pingpong(placement, size, iters, |_| Ok(sleep_read_exact))
}

/// [`pingpong`] with both ends spinning.
///
/// # Errors
///
/// Those of [`pingpong`]; `Unsupported` when both ends share one CPU, where each would spin
/// through a whole scheduler slice an op.
pub fn spin_pingpong(placement: Placement, size: usize, iters: usize) -> io::Result<Sample> {
    if placement == Placement::SameCpu || usable_cpus()? < 2 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "two spinning ends need two CPUs"));
    }
    sample_pingpong(placement, size, iters, |_| Ok(spin_read_exact))
}

/// One sample of a stream of `messages` messages of `size` bytes, one write each, read with a
/// buffer of `recv_size` bytes (give what the subject reads with); warm-up as [`pingpong`].
/// The clock runs from the first write to the last byte read.
///
/// # Errors
///
/// Those of the sockets and of pinning; `UnexpectedEof` when the sink got too little;
/// `InvalidInput` for a `size`, `messages` or `recv_size` of 0.
pub fn stream(placement: Placement, size: usize, messages: usize, recv_size: usize) -> io::Result<Sample> {
    sample_stream(placement, size, messages, recv_size, 0, || {
        let buf = PageBuf::new(size);
        move |sock: &TcpStream, messages| pour(sock, &buf, messages)
    })
}

/// A stream whose messages are written by what `writer` makes, with `lead` bytes before each.
pub(crate) fn sample_stream<W: FnMut(&TcpStream, usize) -> io::Result<()>>(
    placement: Placement,
    size: usize,
    messages: usize,
    recv_size: usize,
    lead: usize,
    writer: impl FnOnce() -> W + Send,
) -> io::Result<Sample> {
    positive(size, "a message")?;
    positive(recv_size, "a receive buffer")?;
    let warm = warm_up(messages);
    let sent = |messages| bytes(size + lead, messages);
    let ((start, source_cpu), (end, sink_cpu)) = two_ends(
        placement,
        |mut sock| {
            let mut write = writer();
            write(&sock, warm)?;
            // The sink has taken the warm-up and stands ready.
            sock.read_exact(&mut [0; 1])?;
            let (start, cpu) = (Instant::now(), thread_cpu());
            write(&sock, messages)?;
            let cpu = thread_cpu() - cpu;
            sock.shutdown(Shutdown::Write)?;
            Ok((start, cpu))
        },
        |mut sock| {
            let mut buf = PageBuf::new(recv_size);
            expect(drain(&sock, &mut buf, sent(warm))?, sent(warm))?;
            let cpu = thread_cpu();
            sock.write_all(&[1])?;
            expect(drain(&sock, &mut buf, sent(messages))?, sent(messages))?;
            Ok((Instant::now(), thread_cpu() - cpu))
        },
    )?;
    let wall = end.saturating_duration_since(start);
    Sample::from_stream(size, messages, wall, source_cpu + sink_cpu)
}

/// How many ops are run and forgotten before `ops` are measured: a tenth, at least 20, at most 1000.
pub fn warm_up(ops: usize) -> usize {
    (ops / 10).clamp(20, 1000)
}

/// A ping-pong whose ends read exactly with what `reader` makes, each end its own.
pub(crate) fn sample_pingpong<R: FnMut(&TcpStream, &mut [u8]) -> io::Result<()>>(
    placement: Placement,
    size: usize,
    iters: usize,
    reader: impl Fn(&TcpStream) -> io::Result<R> + Sync,
) -> io::Result<Sample> {
    positive(size, "a message")?;
    let warm = warm_up(iters);
    let ((mut trips, client_cpu), server_cpu) = two_ends(
        placement,
        |sock| {
            let (mut buf, mut read) = (PageBuf::new(size), reader(&sock)?);
            let mut trips = Vec::with_capacity(warm.max(iters));
            ping(&sock, &mut buf, warm, &mut trips, &mut read)?;
            trips.clear();
            let cpu = thread_cpu();
            ping(&sock, &mut buf, iters, &mut trips, &mut read)?;
            Ok((trips, thread_cpu() - cpu))
        },
        |sock| {
            let (mut buf, mut read) = (PageBuf::new(size), reader(&sock)?);
            pong(&sock, &mut buf, warm, &mut read)?;
            let cpu = thread_cpu();
            pong(&sock, &mut buf, iters, &mut read)?;
            Ok(thread_cpu() - cpu)
        },
    )?;
    Sample::from_round_trips(size, &mut trips, client_cpu + server_cpu)
}

fn ping(
    mut sock: &TcpStream,
    buf: &mut [u8],
    iters: usize,
    round_trips: &mut Vec<u32>,
    mut read: impl FnMut(&TcpStream, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    round_trips.reserve(iters);
    // One clock read a round trip: the end of one is the start of the next.
    let mut last = Instant::now();
    for _ in 0..iters {
        sock.write_all(buf)?;
        read(sock, buf)?;
        let now = Instant::now();
        round_trips.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
        last = now;
    }
    Ok(())
}

fn pong(
    mut sock: &TcpStream,
    buf: &mut [u8],
    iters: usize,
    mut read: impl FnMut(&TcpStream, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..iters {
        read(sock, buf)?;
        sock.write_all(buf)?;
    }
    Ok(())
}

fn pour(mut sock: &TcpStream, buf: &[u8], messages: usize) -> io::Result<()> {
    for _ in 0..messages {
        sock.write_all(buf)?;
    }
    Ok(())
}

fn drain(mut sock: &TcpStream, buf: &mut [u8], limit: u64) -> io::Result<u64> {
    let mut total = 0u64;
    while total < limit {
        match sock.read(buf) {
            Ok(0) => break,
            Ok(n) => total += n as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(total)
}

fn sleep_read_exact(mut sock: &TcpStream, buf: &mut [u8]) -> io::Result<()> {
    sock.read_exact(buf)
}

fn spin_read_exact(sock: &TcpStream, buf: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buf.len() {
        match recv(sock, &mut buf[filled..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((n, _)) => filled += n,
            Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn bytes(size: usize, messages: usize) -> u64 {
    (size as u64).saturating_mul(messages as u64)
}

fn positive(size: usize, what: &str) -> io::Result<()> {
    if size > 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what} has at least one byte")))
}

fn expect(got: u64, wanted: u64) -> io::Result<()> {
    if got == wanted {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the sink got {got} of {wanted} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::loopback_pair;

    #[test]
    fn pingpong_measures() {
        for placement in Placement::possible().unwrap() {
            for size in [1, 64, 4096] {
                let s = pingpong(placement, size, 50).unwrap();
                assert!(s.ns_per_op > 0.0 && s.cpu_ns_per_op > 0.0 && s.bytes_per_s > 0.0, "{s:?}");
                assert!(s.p50_us.unwrap() <= s.p99_us.unwrap());
            }
        }
    }

    #[test]
    fn stream_measures() {
        for placement in Placement::possible().unwrap() {
            for (size, recv_size) in [(64, 64), (64, 65536), (65536, 1000)] {
                let s = stream(placement, size, 200, recv_size).unwrap();
                assert!(s.ns_per_op > 0.0 && s.cpu_ns_per_op > 0.0 && s.bytes_per_s > 0.0, "{s:?}");
                assert_eq!(s.p50_us, None);
            }
        }
    }

    #[test]
    fn spinning_needs_two_cpus() {
        assert_eq!(spin_pingpong(Placement::SameCpu, 64, 1).unwrap_err().kind(), io::ErrorKind::Unsupported);
        if usable_cpus().unwrap() >= 2 {
            assert!(spin_pingpong(Placement::TwoCpus, 64, 50).unwrap().ns_per_op > 0.0);
        }
    }

    #[test]
    fn user_errors_are_errors() {
        assert!(pingpong(Placement::Unpinned, 0, 10).is_err());
        assert!(pingpong(Placement::Unpinned, 64, 0).is_err());
        assert!(stream(Placement::Unpinned, 64, 10, 0).is_err());
        assert!(stream(Placement::Unpinned, 0, 10, 64).is_err());
        assert!(stream(Placement::Unpinned, 64, 0, 64).is_err());
        let (a, b) = loopback_pair().unwrap();
        drop(b);
        assert!(pingpong_client(&a, 64, 5, &mut Vec::new()).is_err());
    }

    #[test]
    fn the_sink_counts_to_the_end() {
        let (a, b) = loopback_pair().unwrap();
        stream_source(&a, 100, 7).unwrap();
        drop(a);
        assert_eq!(stream_sink(&b, 64, u64::MAX).unwrap(), 700);
    }
}
