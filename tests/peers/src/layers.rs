//! What one more level costs elsewhere: tokio's nested trait objects, and two bare virtual calls.
//!
//! Invariant: every level counts the bytes it passes in its own state, so that none is empty
//! work; the bottom copies 64 bytes; nothing waits and nothing is allocated an op.
//!
//! Does not: take the slope. Measure several heights in the same round and use
//! [`crate::rounds::slope`].

use std::hint::black_box;
use std::time::Instant;

/// Bytes an op moves.
pub const SIZE: usize = 64;

/// Nanoseconds an op: `iters` calls of `op` with the same 64-byte buffer, after a tenth of that
/// as warm-up. Pin the thread first.
pub fn ns_per_op(iters: u32, op: &mut dyn Op) -> f64 {
    let mut buf = [0; SIZE];
    op.run(iters / 10, &mut buf);
    let start = Instant::now();
    op.run(iters, &mut buf);
    start.elapsed().as_nanos() as f64 / f64::from(iters.max(1))
}

/// An op that can be repeated. The loop is inside, so that calling through `dyn Op` costs
/// nothing an op.
pub trait Op {
    /// Reads into `buf`, `times` times.
    fn run(&mut self, times: u32, buf: &mut [u8; SIZE]);

    /// Bytes all levels have counted, to prove that they ran.
    fn counted(&self) -> u64;
}

/// `levels` levels, each one virtual call down and one up, over a bottom that copies: the floor
/// of any engine that calls its levels through a table.
pub fn virtual_floor(levels: usize) -> impl Op {
    let levels = (0..levels).map(|_| Box::new(Counter::default()) as Box<dyn Level>).collect::<Vec<_>>();
    VirtualFloor { user: vec![0; levels.len()], levels, bottom: Box::new(Memory::new()) }
}

trait Level {
    fn down(&mut self, len: usize, user: &mut u64);
    fn up(&mut self, done: usize, user: u64);
    fn counted(&self) -> u64;
}

trait Bottom {
    fn read(&mut self, buf: &mut [u8]) -> usize;
}

struct VirtualFloor {
    levels: Vec<Box<dyn Level>>,
    user: Vec<u64>,
    bottom: Box<dyn Bottom>,
}

impl Op for VirtualFloor {
    fn run(&mut self, times: u32, buf: &mut [u8; SIZE]) {
        for _ in 0..times {
            let buf = black_box(&mut *buf);
            for (level, user) in self.levels.iter_mut().zip(&mut self.user) {
                level.down(buf.len(), user);
            }
            let done = self.bottom.read(buf);
            for (level, user) in self.levels.iter_mut().zip(&self.user).rev() {
                level.up(done, *user);
            }
            black_box(done);
        }
    }

    fn counted(&self) -> u64 {
        self.levels.iter().map(|l| l.counted()).sum()
    }
}

#[derive(Default)]
struct Counter {
    bytes: u64,
}

impl Level for Counter {
    fn down(&mut self, len: usize, user: &mut u64) {
        *user = len as u64;
    }

    fn up(&mut self, done: usize, _user: u64) {
        self.bytes += done as u64;
    }

    fn counted(&self) -> u64 {
        self.bytes
    }
}

/// The transport of all stacks here: 64 bytes that are always ready.
struct Memory {
    data: [u8; SIZE],
}

impl Memory {
    fn new() -> Self {
        Self { data: black_box([7; SIZE]) }
    }
}

impl Bottom for Memory {
    fn read(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(SIZE);
        buf[..n].copy_from_slice(&self.data[..n]);
        n
    }
}

#[cfg(feature = "tokio")]
pub use with_tokio::tokio_levels;

#[cfg(feature = "tokio")]
mod with_tokio {
    use std::hint::black_box;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker, ready};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::{Memory, Op, SIZE};

    /// `levels` nested `Box<dyn AsyncRead + AsyncWrite + Send + Unpin>` over 64 bytes that are
    /// always ready: the level that most Rust programs would stack today. Polled directly, with
    /// no runtime and no future around it.
    pub fn tokio_levels(levels: usize) -> impl Op {
        let mut top: Box<dyn Io> = Box::new(Memory::new());
        for _ in 0..levels {
            top = Box::new(Level { below: top, bytes: 0 });
        }
        TokioLevels { top }
    }

    /// What a `Box<dyn AsyncRead + AsyncWrite>` has to be called in Rust: one trait, one vtable.
    trait Io: AsyncRead + AsyncWrite + Send + Unpin {
        fn counted(&self) -> u64;
    }

    struct TokioLevels {
        top: Box<dyn Io>,
    }

    impl Op for TokioLevels {
        fn run(&mut self, times: u32, buf: &mut [u8; SIZE]) {
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..times {
                let mut read = ReadBuf::new(black_box(&mut *buf));
                let polled = Pin::new(&mut self.top).poll_read(&mut cx, &mut read);
                black_box((polled.is_ready(), read.filled().len()));
            }
        }

        fn counted(&self) -> u64 {
            self.top.counted()
        }
    }

    struct Level {
        below: Box<dyn Io>,
        bytes: u64,
    }

    impl Io for Level {
        fn counted(&self) -> u64 {
            self.bytes + self.below.counted()
        }
    }

    impl AsyncRead for Level {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let before = buf.filled().len();
            let polled = Pin::new(&mut self.below).poll_read(cx, buf);
            self.bytes += (buf.filled().len() - before) as u64;
            polled
        }
    }

    impl AsyncWrite for Level {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let n = ready!(Pin::new(&mut self.below).poll_write(cx, buf))?;
            self.bytes += n as u64;
            Poll::Ready(Ok(n))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.below).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.below).poll_shutdown(cx)
        }
    }

    impl Io for Memory {
        fn counted(&self) -> u64 {
            0
        }
    }

    impl AsyncRead for Memory {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let n = buf.remaining().min(SIZE);
            buf.put_slice(&self.data[..n]);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Memory {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_level_counts(make: impl Fn(usize) -> Box<dyn Op>) {
        for levels in [0, 1, 16] {
            let mut op = make(levels);
            let mut buf = [0; SIZE];
            op.run(10, &mut buf);
            assert_eq!(buf, [7; SIZE]);
            assert_eq!(op.counted(), (10 * SIZE * levels) as u64);
            assert!(ns_per_op(100, &mut *op) > 0.0);
        }
    }

    #[test]
    fn floor() {
        every_level_counts(|n| Box::new(virtual_floor(n)));
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn tokio() {
        every_level_counts(|n| Box::new(tokio_levels(n)));
    }
}
