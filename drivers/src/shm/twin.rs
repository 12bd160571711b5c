//! A ring's memory inside one process, for tests and models. Invariant: it orders what the mapping orders and
//! nothing more; every byte is a word of its own, so that what is not ordered shows as a wrong byte.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use super::memory::{Memory, Note, Place};
use super::ring::prepare;

/// What a twin does wrong, for the proof that a model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Positions do not order the bytes.
    Unordered,
    /// A fence is none.
    NoFence,
    /// A sleeper's note is never seen.
    NoSleepers,
}

pub(super) struct Twin {
    positions: [AtomicU64; 2],
    notes: [AtomicU32; 4],
    bytes: Vec<AtomicU8>,
    fault: Fault,
}

impl Twin {
    #[cfg(not(loom))]
    pub(super) fn new(size: usize) -> Arc<Self> {
        Self::with(size, Fault::None)
    }

    pub(super) fn with(size: usize, fault: Fault) -> Arc<Self> {
        assert!(size.is_power_of_two());
        let twin = Self {
            positions: [AtomicU64::new(0), AtomicU64::new(0)],
            notes: [0; 4].map(AtomicU32::new),
            bytes: (0..size).map(|_| AtomicU8::new(0)).collect(),
            fault,
        };
        prepare(&twin);
        Arc::new(twin)
    }

    /// What a hostile peer does to a word.
    #[cfg(not(loom))]
    pub(super) fn scribble(&self, word: usize, value: u64) {
        match word {
            0 | 1 => self.positions[word].store(value, Ordering::Relaxed),
            2..6 => self.notes[word - 2].store(value as u32, Ordering::Relaxed),
            byte => self.bytes[byte % self.bytes.len()].store(value as u8, Ordering::Relaxed),
        }
    }

    fn order(&self, sound: Ordering) -> Ordering {
        if self.fault == Fault::Unordered { Ordering::Relaxed } else { sound }
    }
}

impl Memory for Twin {
    fn size(&self) -> usize {
        self.bytes.len()
    }
    fn load(&self, place: Place) -> u64 {
        self.positions[place as usize].load(self.order(Ordering::Acquire))
    }
    fn store(&self, place: Place, value: u64) {
        self.positions[place as usize].store(value, self.order(Ordering::Release));
    }
    fn note(&self, note: Note) -> u32 {
        if self.fault == Fault::NoSleepers && matches!(note, Note::ReaderSleeps | Note::WriterSleeps) {
            return 0;
        }
        self.notes[note as usize].load(Ordering::Acquire)
    }
    fn set(&self, note: Note, value: u32) {
        self.notes[note as usize].store(value, Ordering::Release);
    }
    fn raise(&self, note: Note, bits: u32) {
        self.notes[note as usize].fetch_or(bits, Ordering::AcqRel);
    }
    fn lower(&self, note: Note, bits: u32) {
        self.notes[note as usize].fetch_and(!bits, Ordering::AcqRel);
    }
    fn take(&self, note: Note) -> u32 {
        self.notes[note as usize].swap(0, Ordering::AcqRel)
    }
    fn fence(&self) {
        if self.fault != Fault::NoFence {
            fence(Ordering::SeqCst);
        }
    }
    fn write(&self, at: usize, from: &[u8]) {
        self.bytes[at..at + from.len()].iter().zip(from).for_each(|(b, v)| b.store(*v, Ordering::Relaxed));
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        self.bytes[at..at + to.len()].iter().zip(to).for_each(|(b, v)| *v = b.load(Ordering::Relaxed));
    }
}
