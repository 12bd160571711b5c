//! One case, so many ops of it and no clock: what strace, callgrind and the counting allocator look at.
//! Prints the allocations of the whole process.
//!
//! Invariant: set-up and tear-down do not depend on OPS, so that two runs of different lengths,
//! subtracted, are the ops alone; `write_side` and `read_side` hold all that an end does for its ops and
//! nothing else, and callgrind counts inside them.
//!
//! ```text
//! counted void INTERCEPT LEVELS OPS         whole reads of 64 B over `void` through N `null` levels; `trace`
//!                                           for INTERCEPT: through that many of these
//! counted fill|take SPEC SIZE BURST OPS     one thread: BURST writes, then as many reads, again and again
//! counted pingpong SPEC SIZE OPS            two threads; every read waits
//! counted stream SPEC SIZE OPS              two threads, one way
//! counted window SPEC SIZE WINDOW OPS       the same; callbacks keep WINDOW writes outstanding
//! counted flood HOW SIZE OPS                one thread: datagrams, 64 KB of them sent, then received
//! ```
//!
//! `raw` for SPEC is plain blocking sockets, or a bare ring asleep for `ring`. HOW is `one`, `many`, `segments`
//! for plain sockets, else what [`Ours`] calls it.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use bytes::Bytes;
use xio_core::handle::MAX_OPS;
use xio_core::{Engine, Error, Handle};
use xio_peers::buffer::PageBuf;
use xio_peers::counting;
use xio_peers::floods::{self, How, Sink, Source};
use xio_peers::pair::loopback_pair;
use xio_peers::placement::Placement;
use xio_peers::rings::{self, Wait};
use xio_tests::floods::Ours;
use xio_tests::{pair, pair_with, stack};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();

/// What plain sockets are read with, and `frame` reads ahead.
const AHEAD: usize = 64 * 1024;
/// Ops before those that count.
const WARM: usize = 10;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["void", intercept, levels, ops] => void(intercept, number(levels)?, number(ops)?)?,
        ["fill" | "take", "raw", size, burst, ops] => {
            let (a, b) = loopback_pair()?;
            raw_bursts(&a, &b, number(size)?, number(burst)?, number(ops)?)?;
        }
        [kind @ ("fill" | "take"), spec, size, burst, ops] => {
            let engine = Engine::new()?;
            let (a, b) = pair(&engine, &stack(spec))?;
            bursts(&a, &b, kind == "take", number(size)?, number(burst)?, number(ops)?)?;
        }
        ["pingpong", "ring", size, ops] => {
            // It warms up with a tenth as many more.
            let trips = number(ops)? * 10 / 11;
            rings::pingpong(Placement::Unpinned, number(size)?, trips, 256 << 10, Wait::Sleep)?;
        }
        ["flood", how, size, ops] => flood(how, number(size)?, number(ops)?)?,
        ["pingpong", spec, size, ops] => trips(spec, number(size)?, number(ops)?)?,
        ["stream", "raw", size, ops] => {
            let (size, ops) = (number(size)?, number(ops)?);
            let (a, b) = loopback_pair()?;
            let reader = reader(move || raw_read_side(&b, &mut PageBuf::new(AHEAD), size * ops))?;
            raw_write_side(&a, &PageBuf::new(size), ops)?;
            reader.join().map_err(lost)??;
        }
        ["stream", spec, size, ops] => {
            one_way(spec, number(size)?, MAX_OPS, number(ops)?, write_side)?;
        }
        ["window", spec, size, window, ops] => {
            let window: u32 = number(window)?.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
            one_way(spec, number(size)?, window + 1, number(ops)?, |a, from, ops| chains(a, from, window, ops))?;
        }
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: see the head of counted.rs")),
    }
    println!("{}", counting::global().allocations);
    Ok(())
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{text}: {e}")))
}

fn void(intercept: &str, levels: usize, ops: usize) -> Result<(), Error> {
    let level = if intercept == "trace" { "trace/".into() } else { format!("null(intercept={intercept})/") };
    let spec = level.repeat(levels) + "void";
    let engine = Engine::builder().owner_driven().build()?;
    let handle = engine.open(&stack(&spec), ()).wait()?;
    let mut buf = PageBuf::new(64);
    read_side(&handle, false, &mut buf, WARM)?;
    read_side(&handle, false, &mut buf, ops)
}

/// A batch of `burst` to warm up, then batches that make up `ops`.
fn batches(burst: usize, ops: usize) -> impl Iterator<Item = usize> {
    let burst = burst.max(1);
    std::iter::once(burst).chain((0..ops).step_by(burst).map(move |at| burst.min(ops - at)))
}

fn bursts(a: &Handle, b: &Handle, take: bool, size: usize, burst: usize, ops: usize) -> Result<(), Error> {
    let (from, mut to) = (PageBuf::new(size), PageBuf::new(size));
    for n in batches(burst, ops) {
        write_side(a, &from, n)?;
        read_side(b, take, &mut to, n)?;
    }
    Ok(())
}

fn trips(spec: &str, size: usize, ops: usize) -> io::Result<()> {
    let engine = Engine::new()?;
    let (a, b) = pair(&engine, &stack(spec))?;
    let server = std::thread::spawn(move || -> Result<(), Error> {
        let mut buf = PageBuf::new(size);
        for _ in 0..ops {
            b.read_into(&mut buf).wait_for(size).wait()?;
            b.write_from(&buf).wait()?;
        }
        Ok(())
    });
    let mut buf = PageBuf::new(size);
    for _ in 0..ops {
        a.write_from(&buf).wait()?;
        a.read_into(&mut buf).wait_for(size).wait()?;
    }
    Ok(server.join().map_err(lost)??)
}

fn flood(how: &str, size: usize, ops: usize) -> io::Result<()> {
    let run = floods::run(size);
    let plain = match how {
        "one" => Some(How::One),
        "many" => Some(How::Many),
        "segments" => Some(How::Segments),
        _ => None,
    };
    if let Some(how) = plain {
        let (mut a, mut b) = floods::ends(size, how)?;
        let each = match how {
            How::One => 1,
            How::Many => floods::BATCH,
            How::Segments => run,
        };
        // Whole calls, no more under way than fit the receiver's buffer.
        return batches(run.next_multiple_of(each), ops).try_for_each(|n| {
            send_side(&mut a, n.div_ceil(each))?;
            take_side(&mut b, n.next_multiple_of(each))
        });
    }
    let ours = Ours::ALL.into_iter().find(|o| o.name() == how).ok_or(io::ErrorKind::InvalidInput)?;
    let (mut a, mut b) = ours.ends(size)?;
    let each = a.each();
    batches(run, ops).try_for_each(|n| {
        send_side(&mut a, n.div_ceil(each))?;
        a.flush()?;
        take_side(&mut b, n.next_multiple_of(each))
    })
}

#[inline(never)]
fn send_side(source: &mut impl Source, calls: usize) -> io::Result<()> {
    (0..calls).try_for_each(|_| source.send())
}

#[inline(never)]
fn take_side(sink: &mut impl Sink, mut left: usize) -> io::Result<()> {
    while left > 0 {
        left = left.saturating_sub(sink.take()?);
    }
    Ok(())
}

fn one_way(
    spec: &str,
    size: usize,
    max_ops: u32,
    ops: usize,
    write: impl FnOnce(&Handle, &[u8], usize) -> Result<(), Error>,
) -> io::Result<()> {
    let engine = Engine::new()?;
    let (a, b) = pair_with(&engine, &stack(spec), max_ops)?;
    let reader = reader(move || read_side(&b, false, &mut PageBuf::new(size), ops))?;
    write(&a, &PageBuf::new(size), ops)?;
    a.flush().wait()?;
    Ok(reader.join().map_err(lost)??)
}

/// A thread with a name that profiles tell from the writer's.
fn reader<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name("reader".into()).spawn(f)
}

fn lost<E>(_: E) -> io::Error {
    io::Error::other("the other thread panicked")
}

#[inline(never)]
fn write_side(handle: &Handle, from: &[u8], ops: usize) -> Result<(), Error> {
    for _ in 0..ops {
        handle.write_from(from).wait()?;
    }
    Ok(())
}

#[inline(never)]
fn read_side(handle: &Handle, take: bool, to: &mut [u8], ops: usize) -> Result<(), Error> {
    for _ in 0..ops {
        if take {
            drop(handle.take(to.len()).wait()?);
        } else {
            handle.read_into(to).wait()?;
        }
    }
    Ok(())
}

/// Writes from callbacks, each of which begins the next one.
fn chains(handle: &Handle, from: &[u8], window: u32, ops: usize) -> Result<(), Error> {
    let (tell, told) = mpsc::channel();
    let left = Arc::new(AtomicUsize::new(ops));
    let body = Bytes::copy_from_slice(from);
    for _ in 0..window {
        link(handle.clone(), body.clone(), left.clone(), tell.clone());
    }
    drop(tell);
    // Ends when the last chain has let go of its end of the channel.
    told.into_iter().next().map_or(Ok(()), Err)
}

fn link(handle: Handle, body: Bytes, left: Arc<AtomicUsize>, tell: mpsc::Sender<Error>) {
    if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err() {
        return;
    }
    handle.clone().write(body.clone()).then(move |done| match done {
        Ok(_) => link(handle, body, left, tell),
        // Nobody listens any more where another chain failed first.
        Err(f) => drop(tell.send(f.error)),
    });
}

fn raw_bursts(a: &TcpStream, b: &TcpStream, size: usize, burst: usize, ops: usize) -> io::Result<()> {
    let (from, mut to) = (PageBuf::new(size), PageBuf::new(AHEAD));
    for n in batches(burst, ops) {
        raw_write_side(a, &from, n)?;
        raw_read_side(b, &mut to, size * n)?;
    }
    Ok(())
}

#[inline(never)]
fn raw_write_side(mut sock: &TcpStream, from: &[u8], ops: usize) -> io::Result<()> {
    for _ in 0..ops {
        sock.write_all(from)?;
    }
    Ok(())
}

#[inline(never)]
fn raw_read_side(mut sock: &TcpStream, to: &mut [u8], mut left: usize) -> io::Result<()> {
    while left > 0 {
        left -= sock.read(to)?;
    }
    Ok(())
}
