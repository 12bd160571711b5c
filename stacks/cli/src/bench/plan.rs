//! One measurement of a stack: what it takes, and how one sample of it is taken.
//! Invariant: the clocks and counters of a sample cover both ends and the engines' threads.

use std::io;
use std::time::{Duration, Instant};

use xio_peers::counting;
use xio_peers::placement::{Placement, Side};
use xio_peers::sample::{Sample, process_cpu};
use xio_stacks::core::handle::MAX_OPS;
use xio_stacks::core::schema::Value;
use xio_stacks::core::stack::LevelView;
use xio_stacks::{Contact, Engine, Error, Stack};

use super::{Api, Mode, Which, blocking, callback, future, pair};

/// Bytes under way in each direction that a handle allows at least.
const MIN_WINDOW: usize = 1 << 20;

/// One measurement, without its number of ops.
pub(super) struct Plan {
    pub(super) stack: Stack,
    pub(super) contact: Contact,
    pub(super) mode: Mode,
    pub(super) api: Api,
    pub(super) which: Which,
    pub(super) outstanding: u32,
    pub(super) placement: Placement,
    pub(super) size: usize,
    pub(super) recv: usize,
    /// Reads and writes are messages.
    pub(super) borders: bool,
}

/// What one sample of a contender is.
pub(super) struct Shot {
    pub(super) sample: Sample,
    /// Of all threads, an op.
    pub(super) allocs: f64,
    /// Writes under way, where somebody looked.
    pub(super) outstanding: Option<f64>,
}

/// Clocks and counters at one moment.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    at: Instant,
    cpu: Duration,
    allocs: counting::Counts,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), cpu: process_cpu(), allocs: counting::global() }
    }

    /// A shot of `ops` ops in a row, from this moment to `end`.
    pub(super) fn row(self, end: Self, size: usize, ops: usize, outstanding: Option<f64>) -> io::Result<Shot> {
        let wall = end.at.saturating_duration_since(self.at);
        let sample = Sample::from_stream(size, ops, wall, end.cpu.saturating_sub(self.cpu))?;
        Ok(Shot { sample, allocs: self.allocs_per_op(end, ops), outstanding })
    }

    /// A shot of round trips, from this moment to `end`.
    pub(super) fn trips(self, end: Self, size: usize, trips: &mut [u32]) -> io::Result<Shot> {
        let ops = trips.len();
        let sample = Sample::from_round_trips(size, trips, end.cpu.saturating_sub(self.cpu))?;
        Ok(Shot { sample, allocs: self.allocs_per_op(end, ops), outstanding: None })
    }

    fn allocs_per_op(self, end: Self, ops: usize) -> f64 {
        end.allocs.since(self.allocs).allocations as f64 / ops as f64
    }
}

impl Plan {
    /// One sample of the stack.
    pub(super) fn shoot(&self, ops: usize) -> io::Result<Shot> {
        match (self.mode, self.api) {
            (Mode::Op, _) => self.alone(|| {
                let engine = Engine::new()?;
                let open = engine.open(&self.stack, self.contact.clone()).max_ops(self.window_ops());
                let handle = open.max_bytes(self.window_bytes()).wait()?;
                match self.api {
                    Api::Blocking => blocking::ops(self, &handle, ops),
                    Api::Callback => callback::ops(self, &handle, ops),
                    Api::Async => future::ops(self, &handle, ops),
                }
            }),
            (Mode::Pingpong, Api::Blocking) => pair::pingpong(self, ops, blocking::ping, blocking::pong),
            (Mode::Pingpong, Api::Callback) => pair::pingpong(self, ops, callback::ping, callback::pong),
            (Mode::Pingpong, Api::Async) => pair::pingpong(self, ops, future::ping, future::pong),
            (Mode::Stream, Api::Blocking) => pair::stream(self, ops, blocking::pour, blocking::drain),
            (Mode::Stream, Api::Callback) => pair::stream(self, ops, callback::pour, callback::drain),
            (Mode::Stream, Api::Async) => pair::stream(self, ops, future::pour, future::drain),
        }
    }

    /// Pins the calling thread for its side and makes an engine. A thread inherits the CPUs of its
    /// maker, so the engine's is in the same place.
    ///
    /// But an engine lets blocking callers spin only if its maker may use several CPUs. So where they
    /// would each have one of their own, the engine comes first; its thread, which blocking callers
    /// hardly need, then runs anywhere.
    pub(super) fn engine(&self, side: Side) -> Result<Engine, Error> {
        if self.api == Api::Blocking && self.placement == Placement::TwoCpus {
            let engine = Engine::new()?;
            self.placement.pin(side)?;
            return Ok(engine);
        }
        self.placement.pin(side)?;
        Engine::new()
    }

    /// Runs `f` on a thread of its own where the client of a pair would be.
    pub(super) fn alone<T: Send>(&self, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|s| {
            let run = s.spawn(|| {
                self.placement.pin(Side::Client)?;
                f()
            });
            run.join().unwrap_or_else(|_| Err(io::Error::other("the measuring thread panicked")))
        })
    }

    /// Ops under way that a handle has to allow.
    pub(super) fn window_ops(&self) -> u32 {
        self.outstanding.saturating_add(1).max(MAX_OPS)
    }

    /// Bytes under way that a handle has to allow.
    pub(super) fn window_bytes(&self) -> usize {
        let ops = usize::try_from(self.outstanding).unwrap_or(usize::MAX).saturating_add(1);
        ops.saturating_mul(self.size.max(1)).max(MIN_WINDOW)
    }

    /// Writes that `queue(early)` has said to be done and not sent: the fuller half of a batch.
    pub(super) fn behind(&self) -> Option<f64> {
        let early =
            |l: &LevelView<'_>| l.driver().info().name == "queue" && l.attr().value("early") == Some(Value::Bool(true));
        let level = self.stack.levels().find(early)?;
        match level.attr().value("batch") {
            Some(Value::Size(batch)) => Some((batch as f64 / self.size as f64).max(1.0)),
            _ => None,
        }
    }
}
