//! The loops of futures, and the small executor that polls them on the caller's thread.
//! Invariant: the executor polls a future only when it was woken, and sleeps when none is.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use xio_peers::buffer::{PAGE, PageBuf};
use xio_peers::raw::warm_up;
use xio_stacks::{Error, Handle};

use super::Which;
use super::blocking::expect;
use super::plan::{Moment, Plan, Shot};

/// One write in so many looks how many are under way.
const LOOK: usize = 256;

/// Whole ops of one handle, as many tasks as ops may be under way.
pub(super) fn ops(plan: &Plan, handle: &Handle, ops: usize) -> io::Result<Shot> {
    let run = |ops: usize| -> Result<(), Error> {
        match plan.which {
            Which::Read => {
                let left = AtomicUsize::new(ops);
                let task = || async {
                    let mut buf = room(plan.size);
                    while claim(&left).is_some() {
                        let done = handle.read(buf).await?;
                        expect(plan, done.n)?;
                        buf = done.buf;
                        buf.clear();
                    }
                    Ok(())
                };
                all((0..plan.outstanding).map(|_| task()))
            }
            Which::Write => pour(plan, handle, ops).map(drop),
        }
    };
    run(warm_up(ops))?;
    let start = Moment::now();
    run(ops)?;
    start.row(Moment::now(), plan.size, ops, None)
}

/// Round trips.
pub(super) fn ping(plan: &Plan, handle: &Handle, trips: usize, took: &mut Vec<u32>) -> Result<(), Error> {
    let body = body(plan.size);
    block_on(async {
        let mut buf = room(plan.size);
        let mut last = Instant::now();
        for _ in 0..trips {
            handle.write(body.clone()).await?;
            buf = read_message(plan, handle, buf).await?;
            let now = Instant::now();
            took.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
            last = now;
        }
        Ok(())
    })
}

/// Answers.
pub(super) fn pong(plan: &Plan, handle: &Handle, trips: usize) -> Result<(), Error> {
    let body = body(plan.size);
    block_on(async {
        let mut buf = room(plan.size);
        for _ in 0..trips {
            buf = read_message(plan, handle, buf).await?;
            handle.write(body.clone()).await?;
        }
        handle.flush().await
    })
}

/// Writes messages, `outstanding` of them at once.
pub(super) fn pour(plan: &Plan, handle: &Handle, messages: usize) -> Result<Option<f64>, Error> {
    let body = body(plan.size);
    let left = AtomicUsize::new(messages);
    let (seen, looks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let task = || async {
        while let Some(n) = claim(&left) {
            if n % LOOK == 0 {
                let (_, writes) = handle.outstanding();
                seen.fetch_add(usize::try_from(writes).unwrap_or(0), Ordering::Relaxed);
                looks.fetch_add(1, Ordering::Relaxed);
            }
            handle.write(body.clone()).await?;
        }
        Ok(())
    };
    all((0..plan.outstanding).map(|_| task()))?;
    let looks = looks.into_inner();
    // One op at a time leaves nothing to see.
    Ok((looks > 0 && plan.outstanding > 1).then(|| seen.into_inner() as f64 / looks as f64))
}

/// Reads as many messages.
pub(super) fn drain(plan: &Plan, handle: &Handle, messages: usize) -> Result<(), Error> {
    block_on(async {
        if plan.borders {
            let mut buf = room(plan.size);
            for _ in 0..messages {
                buf = read_message(plan, handle, buf).await?;
            }
            return Ok(());
        }
        let mut left = plan.size as u64 * messages as u64;
        let mut buf = room(plan.recv);
        while left > 0 {
            let done = handle.read(buf).await?;
            left = left.saturating_sub(done.n as u64);
            buf = done.buf;
            buf.clear();
        }
        Ok(())
    })
}

async fn read_message(plan: &Plan, handle: &Handle, buf: BytesMut) -> Result<BytesMut, Error> {
    let call = handle.read(buf);
    let call = if plan.borders { call } else { call.wait_for(plan.size) };
    let done = call.await?;
    expect(plan, done.n)?;
    let mut buf = done.buf;
    buf.clear();
    Ok(buf)
}

fn claim(left: &AtomicUsize) -> Option<usize> {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok()
}

/// A message, on a page, that costs nothing to send again.
pub(super) fn body(size: usize) -> Bytes {
    struct Owner(PageBuf);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(PageBuf::new(size)))
}

/// Room for exactly so many bytes, on a page.
pub(super) fn room(size: usize) -> BytesMut {
    let mut buf = BytesMut::zeroed(size + PAGE);
    buf.advance(buf.as_ptr().addr().wrapping_neg() % PAGE);
    // What lies behind is given away, so that the capacity is the room.
    drop(buf.split_off(size));
    buf.clear();
    buf
}

/// Wakes one future of an executor.
struct Woken {
    is: AtomicBool,
    thread: Thread,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls one future to its end.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let woken = Arc::new(Woken { is: AtomicBool::new(true), thread: std::thread::current() });
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    loop {
        if woken.is.swap(false, Ordering::Acquire) {
            if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return out;
            }
        } else {
            std::thread::park();
        }
    }
}

/// A future with its waker; none once it has ended.
struct Task<F> {
    future: Option<Pin<Box<F>>>,
    woken: Arc<Woken>,
    waker: Waker,
}

/// Polls futures to their ends, or to the first error.
fn all<F: Future<Output = Result<(), Error>>>(futures: impl Iterator<Item = F>) -> Result<(), Error> {
    let mut tasks: Vec<_> = futures
        .map(|f| {
            let woken = Arc::new(Woken { is: AtomicBool::new(true), thread: std::thread::current() });
            let waker = Waker::from(woken.clone());
            Task { future: Some(Box::pin(f)), woken, waker }
        })
        .collect();
    let mut left = tasks.len();
    while left > 0 {
        let mut ran = false;
        for t in &mut tasks {
            let Some(future) = &mut t.future else { continue };
            if !t.woken.is.swap(false, Ordering::Acquire) {
                continue;
            }
            ran = true;
            if let Poll::Ready(end) = future.as_mut().poll(&mut Context::from_waker(&t.waker)) {
                t.future = None;
                left -= 1;
                end?;
            }
        }
        if !ran {
            std::thread::park();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_exact_and_on_a_page() {
        for size in [1, 64, 5000, 65536] {
            let mut buf = room(size);
            assert_eq!((buf.len(), buf.capacity(), buf.as_ptr().addr() % PAGE), (0, size, 0));
            buf.resize(size, 1);
            buf.clear();
            assert_eq!((buf.capacity(), buf.as_ptr().addr() % PAGE), (size, 0));
            assert_eq!(body(size).as_ptr().addr() % PAGE, 0);
        }
    }

    #[test]
    fn all_futures_end_and_one_that_sleeps_is_woken() {
        let turn = AtomicUsize::new(0);
        let hop = |n: usize| {
            let turn = &turn;
            async move {
                std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if turn.load(Ordering::Relaxed) == n { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                turn.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        };
        all([2, 0, 1].into_iter().map(hop)).unwrap();
        assert_eq!(turn.into_inner(), 3);
    }
}
