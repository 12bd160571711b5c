//! A bare ring of bytes between two threads: the floor every stack over shared memory is compared with.
//!
//! Invariant: a byte is copied once into the ring and once out of it, a message is shown with one store, and a
//! sleeper is woken only where one sleeps. Both ends trust each other with everything.
//!
//! Does not: cross a process. The lines that two CPUs pass each other are the same lines.
#![allow(unsafe_code, reason = "two threads copy to and from the same memory; positions say whose turn it is")]

use std::cell::UnsafeCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Instant;

use rustix::thread::futex;

use crate::buffer::{PAGE, PageBuf};
use crate::pair::two_threads;
use crate::placement::{Placement, usable_cpus};
use crate::raw::warm_up;
use crate::sample::{Sample, thread_cpu};

/// What an end does that has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Looks again.
    Spin,
    /// Sleeps on a futex.
    Sleep,
}

impl Wait {
    /// The name in output and on command lines: `spin` or `sleep`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Sleep => "sleep",
        }
    }
}

/// What two CPUs do not share by accident.
#[repr(align(128))]
#[derive(Default)]
struct Line<T>(T);

/// A ring; positions count bytes.
struct Ring {
    head: Line<AtomicU64>,
    tail: Line<AtomicU64>,
    /// Whether the reader, and whether the writer sleeps.
    sleeps: [Line<AtomicU32>; 2],
    /// An end has failed.
    over: AtomicBool,
    bytes: Box<[UnsafeCell<u8>]>,
    start: usize,
    size: usize,
    wait: Wait,
}

// SAFETY: the bytes between tail and head are the reader's alone, all others the writer's; the positions, which
// order the copies, say so.
unsafe impl Sync for Ring {}

const READER: usize = 0;
const WRITER: usize = 1;

impl Ring {
    fn new(size: usize, wait: Wait) -> Self {
        let size = size.next_power_of_two();
        // Every page is there from the start.
        let bytes: Box<[_]> = std::iter::repeat_with(|| UnsafeCell::new(7)).take(size + PAGE).collect();
        let start = bytes.as_ptr().addr().wrapping_neg() % PAGE;
        let over = AtomicBool::new(false);
        Self {
            head: Line::default(),
            tail: Line::default(),
            sleeps: Default::default(),
            over,
            bytes,
            start,
            size,
            wait,
        }
    }

    /// The first byte of a run at `position`, and how many of `n` come before the end of the ring.
    fn run(&self, position: u64, n: usize) -> (*mut u8, usize) {
        let at = position as usize & (self.size - 1);
        let slice = &self.bytes[self.start + at..self.start + self.size];
        (UnsafeCell::raw_get(slice.as_ptr()), n.min(slice.len()))
    }

    /// Waits until `look` gives something.
    fn until<T>(&self, who: usize, look: impl Fn() -> Option<T>) -> io::Result<T> {
        loop {
            // In this order: what came before the end is there once the end is seen.
            let over = self.over.load(Ordering::Acquire);
            if let Some(found) = look() {
                return Ok(found);
            }
            if over {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.wait == Wait::Spin {
                std::hint::spin_loop();
                continue;
            }
            let bed = &self.sleeps[who].0;
            bed.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if look().is_none() && !self.over.load(Ordering::Relaxed) {
                let _ = futex::wait(bed, futex::Flags::empty(), 1, None);
            }
            bed.store(0, Ordering::Relaxed);
        }
    }

    fn wake(&self, who: usize) {
        if self.wait == Wait::Sleep {
            fence(Ordering::SeqCst);
            let bed = &self.sleeps[who].0;
            if bed.load(Ordering::Relaxed) != 0 && bed.swap(0, Ordering::Relaxed) != 0 {
                let _ = futex::wake(bed, futex::Flags::empty(), 1);
            }
        }
    }

    /// Puts a message in; `at` is where, `free` up to where the reader was when last looked at.
    fn put(&self, at: &mut u64, read: &mut u64, mut from: &[u8]) -> io::Result<()> {
        while !from.is_empty() {
            let n = from.len().min(self.size);
            if *at + n as u64 - *read > self.size as u64 {
                let end = *at + n as u64 - self.size as u64;
                *read = self.until(WRITER, || Some(self.tail.0.load(Ordering::Acquire)).filter(|t| *t >= end))?;
            }
            let (first, rest) = from.split_at(n);
            let (to, run) = self.run(*at, n);
            // SAFETY: `run` bytes of the ring from `to` on are the writer's, and `first` is none of the ring's.
            unsafe { to.copy_from_nonoverlapping(first.as_ptr(), run) };
            let (to, over) = self.run(*at + run as u64, n - run);
            // SAFETY: as above, for what lies behind the end of the ring.
            unsafe { to.copy_from_nonoverlapping(first[run..].as_ptr(), over) };
            *at += n as u64;
            self.head.0.store(*at, Ordering::Release);
            self.wake(READER);
            from = rest;
        }
        Ok(())
    }

    /// Takes what is there, at most what `to` holds and at least a byte.
    fn take(&self, at: &mut u64, written: &mut u64, to: &mut [u8]) -> io::Result<usize> {
        if ((*written - *at) as usize) < to.len() {
            let here = *at;
            *written = self.until(READER, || Some(self.head.0.load(Ordering::Acquire)).filter(|h| *h != here))?;
        }
        let n = to.len().min((*written - *at) as usize);
        let (from, run) = self.run(*at, n);
        // SAFETY: `run` bytes of the ring from `from` on are the reader's, and `to` is none of the ring's.
        unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), run) };
        let (from, over) = self.run(*at + run as u64, n - run);
        // SAFETY: as above, for what lies behind the end of the ring.
        unsafe { from.copy_to_nonoverlapping(to[run..].as_mut_ptr(), over) };
        *at += n as u64;
        self.tail.0.store(*at, Ordering::Release);
        self.wake(WRITER);
        Ok(n)
    }
}

/// Ends both ends' waits if its end fails.
struct Watch<'a>(&'a [Ring; 2]);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        for ring in self.0 {
            ring.over.store(true, Ordering::Release);
            fence(Ordering::SeqCst);
            ring.wake(READER);
            ring.wake(WRITER);
        }
    }
}

/// One end: writes one ring, reads the other.
struct End<'a> {
    out: &'a Ring,
    back: &'a Ring,
    put: u64,
    read: u64,
    taken: u64,
    written: u64,
}

impl<'a> End<'a> {
    fn new(out: &'a Ring, back: &'a Ring) -> Self {
        Self { out, back, put: 0, read: 0, taken: 0, written: 0 }
    }

    fn send(&mut self, from: &[u8]) -> io::Result<()> {
        self.out.put(&mut self.put, &mut self.read, from)
    }

    fn recv(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.back.take(&mut self.taken, &mut self.written, to)
    }

    fn recv_exact(&mut self, to: &mut [u8]) -> io::Result<()> {
        let mut n = 0;
        while n < to.len() {
            n += self.recv(&mut to[n..])?;
        }
        Ok(())
    }

    fn drain(&mut self, buf: &mut [u8], mut left: usize) -> io::Result<()> {
        while left > 0 {
            let most = left.min(buf.len());
            left -= self.recv(&mut buf[..most])?;
        }
        Ok(())
    }
}

/// Two rings of `ring` bytes.
fn rings(placement: Placement, ring: usize, wait: Wait) -> io::Result<[Ring; 2]> {
    if wait == Wait::Spin && (placement == Placement::SameCpu || usable_cpus()? < 2) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "two spinning ends need two CPUs"));
    }
    Ok([Ring::new(ring, wait), Ring::new(ring, wait)])
}

/// One sample of a ping-pong through two rings of `ring` bytes, after a warm-up as [`crate::raw::pingpong`]'s.
///
/// # Errors
///
/// Those of pinning; `Unsupported` for spinning ends on one CPU; `InvalidInput` for no round trips.
pub fn pingpong(placement: Placement, size: usize, iters: usize, ring: usize, wait: Wait) -> io::Result<Sample> {
    let pair = rings(placement, ring, wait)?;
    let warm = warm_up(iters);
    let ((mut trips, client), server) = two_threads(
        placement,
        || {
            let _watch = Watch(&pair);
            let (mut end, mut buf) = (End::new(&pair[0], &pair[1]), PageBuf::new(size));
            let mut trips = Vec::with_capacity(warm.max(iters));
            let mut cpu = thread_cpu();
            for iters in [warm, iters] {
                trips.clear();
                cpu = thread_cpu();
                let mut last = Instant::now();
                for _ in 0..iters {
                    end.send(&buf)?;
                    end.recv_exact(&mut buf)?;
                    let now = Instant::now();
                    trips.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
                    last = now;
                }
            }
            Ok((trips, thread_cpu() - cpu))
        },
        || {
            let _watch = Watch(&pair);
            let (mut end, mut buf) = (End::new(&pair[1], &pair[0]), PageBuf::new(size));
            let mut cpu = thread_cpu();
            for i in 0..warm + iters {
                if i == warm {
                    cpu = thread_cpu();
                }
                end.recv_exact(&mut buf)?;
                end.send(&buf)?;
            }
            Ok(thread_cpu() - cpu)
        },
    )?;
    Sample::from_round_trips(size, &mut trips, client + server)
}

/// One sample of a stream of `messages` messages, read with a buffer of `recv` bytes. The clock runs from the
/// first write after the warm-up to the last byte read.
///
/// # Errors
///
/// As [`pingpong`]; `InvalidInput` for no messages.
pub fn stream(
    placement: Placement,
    size: usize,
    messages: usize,
    recv: usize,
    ring: usize,
    wait: Wait,
) -> io::Result<Sample> {
    let pair = rings(placement, ring, wait)?;
    let warm = warm_up(messages);
    let ((began, source), (ended, sink)) = two_threads(
        placement,
        || {
            let _watch = Watch(&pair);
            let (mut end, buf) = (End::new(&pair[0], &pair[1]), PageBuf::new(size));
            for _ in 0..warm {
                end.send(&buf)?;
            }
            // The sink has taken the warm-up and stands ready.
            end.recv_exact(&mut [0])?;
            let (began, cpu) = (Instant::now(), thread_cpu());
            for _ in 0..messages {
                end.send(&buf)?;
            }
            Ok((began, thread_cpu() - cpu))
        },
        || {
            let _watch = Watch(&pair);
            let (mut end, mut buf) = (End::new(&pair[1], &pair[0]), PageBuf::new(recv));
            end.drain(&mut buf, warm * size)?;
            let cpu = thread_cpu();
            end.send(&[1])?;
            end.drain(&mut buf, messages * size)?;
            Ok((Instant::now(), thread_cpu() - cpu))
        },
    )?;
    Sample::from_stream(size, messages, ended.saturating_duration_since(began), source + sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_round_the_ring_in_order() {
        let ring = Ring::new(64, Wait::Sleep);
        std::thread::scope(|s| {
            s.spawn(|| {
                let (mut at, mut read) = (0, 0);
                for n in 1..200usize {
                    let message: Vec<u8> = (0..n).map(|i| (i * n) as u8).collect();
                    ring.put(&mut at, &mut read, &message).unwrap();
                }
            });
            let (mut at, mut written) = (0, 0);
            for n in 1..200usize {
                let mut got = vec![0; n];
                let mut filled = 0;
                while filled < n {
                    filled += ring.take(&mut at, &mut written, &mut got[filled..]).unwrap();
                }
                assert!(got.iter().enumerate().all(|(i, b)| *b == (i * n) as u8), "{n}");
            }
        });
    }

    #[test]
    fn rings_measure() {
        for placement in Placement::possible().unwrap() {
            for size in [1, 64, 5000] {
                let s = pingpong(placement, size, 50, 4096, Wait::Sleep).unwrap();
                assert!(s.ns_per_op > 0.0 && s.p50_us.unwrap() <= s.p99_us.unwrap());
                assert!(stream(placement, size, 50, 1000, 4096, Wait::Sleep).unwrap().ns_per_op > 0.0);
            }
        }
        assert_eq!(
            pingpong(Placement::SameCpu, 64, 1, 4096, Wait::Spin).unwrap_err().kind(),
            io::ErrorKind::Unsupported
        );
        if usable_cpus().unwrap() >= 2 {
            assert!(pingpong(Placement::TwoCpus, 64, 50, 4096, Wait::Spin).unwrap().ns_per_op > 0.0);
        }
    }
}
