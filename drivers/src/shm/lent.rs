//! Room in a ring that a user fills before it is written. Invariant: it lies past all that the reader may read, so what
//! is there nobody else has any business with; where something else is to be put there first, it moves to memory of its
//! own. So a loan keeps nobody waiting, and one that is never written leaves nothing behind.

use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::buffer::{Foreign, Lend};

use super::memory::Memory;

/// A loan.
pub(super) struct Spot<M> {
    memory: M,
    /// The position of its first byte.
    start: u64,
    room: usize,
    bytes: Mutex<Bytes>,
}

enum Bytes {
    /// In the ring: so many, from the start.
    There(usize),
    /// No longer in the ring.
    Moved(Vec<u8>),
    /// Written: the reader's.
    Gone,
}

impl<M: Memory> Spot<M> {
    pub(super) fn new(memory: M, start: u64, room: usize) -> Arc<Self> {
        Arc::new(Self { memory, start, room, bytes: Mutex::new(Bytes::There(0)) })
    }

    /// Whether something of `len` bytes at `at` would lie over it.
    pub(super) fn is_hit(&self, at: u64, len: usize) -> bool {
        // Positions go round, and a ring is far smaller than half of them.
        at.wrapping_sub(self.start) < self.room as u64 || self.start.wrapping_sub(at) < len as u64
    }

    /// Makes way.
    pub(super) fn give_way(&self) {
        let mut bytes = self.bytes.lock();
        if let Bytes::There(n) = *bytes {
            let mut own = vec![0; n];
            self.copy(0, &mut own);
            *bytes = Bytes::Moved(own);
        }
    }

    /// Its first `len` bytes are written where they are, if that is `at` and they are all there.
    pub(super) fn go(&self, at: u64, len: usize) -> bool {
        let mut bytes = self.bytes.lock();
        let goes = self.start == at && matches!(*bytes, Bytes::There(n) if n == len);
        if goes {
            *bytes = Bytes::Gone;
        }
        goes
    }

    fn copy(&self, at: usize, to: &mut [u8]) {
        let (at, first) = self.place(at, to.len());
        self.memory.read(at, &mut to[..first]);
        if first < to.len() {
            self.memory.read(0, &mut to[first..]);
        }
    }

    /// Where its byte `at` lies, and how many of `len` come before the ring's end.
    fn place(&self, at: usize, len: usize) -> (usize, usize) {
        let size = self.memory.size();
        let at = (self.start as usize).wrapping_add(at) & (size - 1);
        (at, len.min(size - at))
    }
}

impl<M: Memory + Send + Sync> Foreign for Spot<M> {
    fn len(&self) -> usize {
        self.room
    }

    fn copy_out(&self, at: usize, to: &mut [u8]) {
        assert!(at <= self.room && to.len() <= self.room - at, "inside the loan");
        match &*self.bytes.lock() {
            Bytes::There(_) => self.copy(at, to),
            Bytes::Moved(own) => {
                let n = own.len().saturating_sub(at).min(to.len());
                to[..n].copy_from_slice(&own[at..at + n]);
            }
            Bytes::Gone => {}
        }
    }
}

impl<M: Memory + Send + Sync + 'static> Lend for Spot<M> {
    fn fill(&self, at: usize, from: &[u8]) {
        assert!(at <= self.room && from.len() <= self.room - at, "inside the loan");
        // The ring is the parent's, not that of a child it made.
        if !self.memory.is_ours() {
            self.give_way();
        }
        match &mut *self.bytes.lock() {
            Bytes::There(n) => {
                let (place, first) = self.place(at, from.len());
                self.memory.write(place, &from[..first]);
                if first < from.len() {
                    self.memory.write(0, &from[first..]);
                }
                *n = (*n).max(at + from.len());
            }
            Bytes::Moved(own) => {
                own.resize(own.len().max(at + from.len()), 0);
                own[at..at + from.len()].copy_from_slice(from);
            }
            Bytes::Gone => {}
        }
    }
}
