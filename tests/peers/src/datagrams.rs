//! Plain datagram sockets: round trips, and streams in windows. Floods are in [`floods`](crate::floods).
//!
//! Invariant: a stream waits for its peer after every window ([`windows`]), so that nothing overflows and
//! nothing is lost on loopback.
//!
//! Does not: wait for readiness where one blocking call does.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::buffer::PageBuf;
use crate::pair::two_threads;
use crate::placement::Placement;
use crate::raw::warm_up;
use crate::sample::{Sample, thread_cpu};

/// Most messages of a stream before its peer answers, and most bytes of the system's memory that they take:
/// less than a socket's receive buffer has unasked (208 KiB).
pub const WINDOW: usize = 32;
const WINDOW_BYTES: usize = 96 << 10;

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
    let ((mut trips, client_cpu), server_cpu) = two_threads(
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
    let ((wall, source_cpu), sink_cpu) = two_threads(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trips_and_windows_measure() {
        assert!(pingpong(Placement::Unpinned, 64, 50).unwrap().p50_us.is_some());
        assert!(stream(Placement::Unpinned, 64, 100).unwrap().ns_per_op > 0.0);
        assert_eq!(windows(70, 64).collect::<Vec<_>>(), [32, 32, 6]);
        assert_eq!(windows(3, 65_507).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
