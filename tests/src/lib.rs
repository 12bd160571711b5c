//! What the measurements in `src/bin` share, and random [`trees`], which tests and the fuzzer share.
//! Integration tests live in `tests/`. Invariant: both ends of a measured pair are pinned as the
//! baseline's ends are, and use the same buffers.

pub mod floods;
pub mod outside;
pub mod report;
pub mod shm;
pub mod trees;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use xio_core::handle::MAX_OPS;
use xio_core::{Contact, Engine, Error, Handle, Stack};
use xio_drivers::all;
use xio_peers::buffer::PageBuf;
use xio_peers::placement::{Placement, Side};
use xio_peers::raw::warm_up;
use xio_peers::sample::{Sample, thread_cpu};
use xio_stacks::{Registry, StackSpec};

/// Binds a spec with every driver there is.
///
/// # Panics
/// If it does not bind: the specs of measurements are fixed.
pub fn stack(spec: &str) -> Stack {
    let mut registry = Registry::new();
    for d in all() {
        registry.register(d).expect("drivers have different names");
    }
    spec.parse::<StackSpec>().and_then(|s| s.bind(&registry)).expect("a fixed spec binds")
}

/// Two ends of a stack over loopback.
///
/// # Errors
/// What the stack says.
pub fn pair(engine: &Engine, stack: &Stack) -> Result<(Handle, Handle), Error> {
    pair_with(engine, stack, MAX_OPS)
}

/// [`pair`] with another limit of outstanding ops.
///
/// # Errors
/// What the stack says.
pub fn pair_with(engine: &Engine, stack: &Stack, max_ops: u32) -> Result<(Handle, Handle), Error> {
    // Where there are no ports a server finds a place of its own.
    let ports = stack.levels().any(|l| ["tcp", "udp"].contains(&l.driver().info().name));
    let at = if ports { Contact::new("127.0.0.1:0") } else { Contact::None };
    let server = engine.listen(stack, at).wait()?;
    let client = engine.open(stack, server.contact().clone()).max_ops(max_ops).wait()?;
    let served = server.accept().wait()?.open().max_ops(max_ops).wait()?;
    Ok((client, served))
}

/// Wall and CPU time of one op, the latter of both ends together.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Nanoseconds from one op to the next.
    pub ns: f64,
    /// Nanoseconds of CPU of both ends.
    pub cpu_ns: f64,
}

impl From<Sample> for Cost {
    fn from(s: Sample) -> Self {
        Self { ns: s.ns_per_op, cpu_ns: s.cpu_ns_per_op }
    }
}

fn cost(ops: usize, wall: Duration, cpu: Duration) -> Cost {
    Cost { ns: wall.as_nanos() as f64 / ops as f64, cpu_ns: cpu.as_nanos() as f64 / ops as f64 }
}

/// Blocking ping-pong of `size` bytes, `ops` round trips after a tenth of warm-up.
///
/// # Errors
/// What either end says.
pub fn pingpong(engine: &Engine, stack: &Stack, place: Placement, size: usize, ops: usize) -> io::Result<Cost> {
    let (client, served) = pair(engine, stack)?;
    let warm = ops / 10;
    let server = thread::spawn(move || -> io::Result<Duration> {
        place.pin(Side::Server)?;
        let mut b = PageBuf::new(size);
        let mut cpu = thread_cpu();
        for i in 0..warm + ops {
            if i == warm {
                cpu = thread_cpu();
            }
            served.read_into(&mut b).wait_for(size).wait()?;
            served.write_from(&b).wait()?;
        }
        Ok(thread_cpu() - cpu)
    });
    let client = thread::spawn(move || -> io::Result<(Duration, Duration)> {
        place.pin(Side::Client)?;
        let mut b = PageBuf::new(size);
        let (mut cpu, mut wall) = (thread_cpu(), Instant::now());
        for i in 0..warm + ops {
            if i == warm {
                (cpu, wall) = (thread_cpu(), Instant::now());
            }
            client.write_from(&b).wait()?;
            client.read_into(&mut b).wait_for(size).wait()?;
        }
        Ok((wall.elapsed(), thread_cpu() - cpu))
    });
    let (wall, cpu) = client.join().map_err(|_| io::Error::other("the client panicked"))??;
    let server = server.join().map_err(|_| io::Error::other("the server panicked"))??;
    Ok(cost(ops, wall, cpu + server))
}

/// Blocking one-way stream of `ops` writes of `size` bytes, read `size` at a time. The clock runs from the
/// first write after a warm-up to the last byte read.
///
/// # Errors
/// What either end says.
pub fn stream(engine: &Engine, stack: &Stack, place: Placement, size: usize, ops: usize) -> io::Result<Cost> {
    let b = PageBuf::new(size);
    stream_of(engine, stack, place, size, ops, move |h| Ok(h.write_from(&b).wait().map(drop)?))
}

/// The same, with each message of `size` bytes sent by `send`.
///
/// # Errors
/// What either end says.
pub fn stream_of(
    engine: &Engine,
    stack: &Stack,
    place: Placement,
    size: usize,
    ops: usize,
    mut send: impl FnMut(&Handle) -> io::Result<()> + Send + 'static,
) -> io::Result<Cost> {
    let (client, served) = pair(engine, stack)?;
    let warm = warm_up(ops);
    let sink = thread::spawn(move || -> io::Result<(Instant, Duration)> {
        place.pin(Side::Server)?;
        let mut b = PageBuf::new(size);
        let mut drain = |ops: usize| -> io::Result<()> {
            let mut left = ops * size;
            while left > 0 {
                left -= served.read_into(&mut b).wait()?;
            }
            Ok(())
        };
        drain(warm)?;
        let cpu = thread_cpu();
        served.write_from(&[1]).wait()?;
        served.flush().wait()?;
        drain(ops)?;
        Ok((Instant::now(), thread_cpu() - cpu))
    });
    let source = thread::spawn(move || -> io::Result<(Instant, Duration)> {
        place.pin(Side::Client)?;
        let mut pour = |ops: usize| -> io::Result<()> {
            for _ in 0..ops {
                send(&client)?;
            }
            Ok(client.flush().wait()?)
        };
        pour(warm)?;
        // The sink has taken the warm-up and stands ready.
        client.read_into(&mut [0]).wait()?;
        let (began, cpu) = (Instant::now(), thread_cpu());
        pour(ops)?;
        Ok((began, thread_cpu() - cpu))
    });
    let (began, source) = source.join().map_err(|_| io::Error::other("the source panicked"))??;
    let (ended, sink) = sink.join().map_err(|_| io::Error::other("the sink panicked"))??;
    Ok(cost(ops, ended - began, source + sink))
}
