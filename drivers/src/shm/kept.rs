//! What a reader has handed up of its ring without a copy, and not got back yet. Invariant: the writer is given the
//! room before the oldest run that somebody holds, and no more; what is kept back from it beyond a limit, the reader
//! copies to memory of its own first, the oldest run before the others. So nobody who holds on to bytes stops the
//! writer, but where the bytes may not move ([`Reader::keep`](super::ring::Reader::keep)).

use std::collections::VecDeque;
use std::sync::Arc;

#[cfg(all(test, loom))]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(all(test, loom)))]
use parking_lot::{Mutex, MutexGuard};
use xio_core::buffer::Foreign;

use super::memory::{Memory, Place};
use super::ring::{Side, wake};

/// Called where the writer sleeps and has room again, with how it sleeps.
pub(super) type Bell = Box<dyn Fn(u32) + Send + Sync>;

/// The runs of one ring.
pub(super) struct Kept<M> {
    memory: M,
    line: Mutex<Line>,
    bell: Bell,
}

struct Line {
    /// How far the writer may write over.
    tail: u64,
    /// How far bytes were taken out.
    at: u64,
    /// How far the writer was when last looked at.
    head: u64,
    runs: VecDeque<Arc<Spot>>,
}

/// Where a run's bytes are.
struct Spot {
    start: u64,
    len: usize,
    /// They stay in the ring for good.
    fixed: bool,
    /// Where they are once they are no longer in the ring.
    own: Mutex<Option<Box<[u8]>>>,
}

/// A run of bytes that somebody holds. Its room is given back when it is dropped.
pub(super) struct Run<M: Memory> {
    kept: Arc<Kept<M>>,
    spot: Arc<Spot>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(all(test, loom))]
    return mutex.lock().expect("nothing panics under it");
    #[cfg(not(all(test, loom)))]
    mutex.lock()
}

impl<M: Memory> Kept<M> {
    /// For a reader that stands at `at`, up to which the writer may write over.
    pub(super) fn new(memory: M, at: u64, bell: Bell) -> Arc<Self> {
        let line = Line { tail: at, at, head: at, runs: VecDeque::new() };
        Arc::new(Self { memory, line: Mutex::new(line), bell })
    }

    /// The `len` bytes from position `start` on, all before the ring's end: they are there, and no earlier run
    /// reaches them.
    pub(super) fn hold(self: &Arc<Self>, start: u64, len: usize, fixed: bool) -> Run<M> {
        let spot = Arc::new(Spot { start, len, fixed, own: Mutex::new(None) });
        lock(&self.line).runs.push_back(spot.clone());
        Run { kept: self.clone(), spot }
    }

    /// How far the writer may write over.
    pub(super) fn tail(&self) -> u64 {
        lock(&self.line).tail
    }

    /// Gives the writer what was taken out, up to `at`, and is not held; keeps no more than `most` bytes back, where
    /// it can help it. How far the writer may write over now, and how it sleeps.
    pub(super) fn release(&self, at: u64, head: u64, most: usize) -> (u64, u32) {
        let mut line = lock(&self.line);
        (line.at, line.head) = (at, head);
        let mut upto = line.upto();
        while at.wrapping_sub(upto) > most as u64 {
            if line.runs.front().is_none_or(|s| s.fixed) {
                break;
            }
            let Some(spot) = line.runs.pop_front() else { break };
            let mut own = vec![0; spot.len].into_boxed_slice();
            self.memory.read(spot.offset(self.memory.size()), &mut own);
            *lock(&spot.own) = Some(own);
            upto = line.upto();
        }
        let flags = line.settle(&self.memory);
        (line.tail, flags)
    }
}

impl Line {
    /// What nobody holds ends here.
    fn upto(&self) -> u64 {
        self.runs.front().map_or(self.at, |s| s.start)
    }

    /// Shows the writer what room it has; how it sleeps, if it does and half the ring is free, or what may be.
    fn settle(&mut self, memory: &impl Memory) -> u32 {
        let upto = self.upto();
        if upto == self.tail {
            return 0;
        }
        self.tail = upto;
        memory.store(Place::Tail, upto);
        let used = self.head.wrapping_sub(upto);
        // What is there for good may be more than half for long: any room counts then.
        let scarce = self.runs.front().is_some_and(|s| s.fixed);
        if used > memory.size() as u64 / 2 && !scarce { 0 } else { wake(memory, Side::Writer) }
    }
}

impl Spot {
    fn offset(&self, size: usize) -> usize {
        self.start as usize & (size - 1)
    }
}

impl<M: Memory> Run<M> {
    /// The memory it is in, and where: an offset and a length. For good where it was made so.
    pub(super) fn place(&self) -> (&M, usize, usize) {
        (&self.kept.memory, self.spot.offset(self.kept.memory.size()), self.spot.len)
    }
}

impl<M: Memory + Send + Sync> Foreign for Run<M> {
    fn len(&self) -> usize {
        self.spot.len
    }

    fn copy_out(&self, at: usize, to: &mut [u8]) {
        // Under its lock: meanwhile the bytes do not move, and what is in the ring stays the reader's.
        match &*lock(&self.spot.own) {
            Some(own) => to.copy_from_slice(&own[at..at + to.len()]),
            None => {
                assert!(at <= self.spot.len && to.len() <= self.spot.len - at, "inside the run");
                self.kept.memory.read(self.spot.offset(self.kept.memory.size()) + at, to);
            }
        }
    }
}

impl<M: Memory> Drop for Run<M> {
    fn drop(&mut self) {
        // The ring is the parent's, not that of a child it made.
        if !self.kept.memory.is_ours() {
            return;
        }
        let flags = {
            let mut line = lock(&self.kept.line);
            // One whose bytes moved is gone from there.
            let at = line.runs.iter().position(|s| Arc::ptr_eq(s, &self.spot));
            at.map(|i| line.runs.remove(i));
            line.settle(&self.kept.memory)
        };
        if flags != 0 {
            (self.kept.bell)(flags);
        }
    }
}
