//! What a ring is made of: two positions, four words, bytes. Invariant: whoever implements it orders what it says
//! it orders, whatever another process does to the same memory meanwhile.

use std::sync::Arc;

/// The two positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// How far is written; the writer's.
    Head,
    /// How far is free again; the reader's.
    Tail,
}

/// The other shared words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// How the writer ended.
    WriterEnd,
    /// How the reader ended.
    ReaderEnd,
    /// How the reader sleeps; whoever wakes it takes this.
    ReaderSleeps,
    /// How the writer sleeps.
    WriterSleeps,
}

/// One ring's shared words and bytes.
pub(super) trait Memory {
    /// Bytes in the ring, a power of two.
    fn size(&self) -> usize;
    /// Acquires.
    fn load(&self, place: Place) -> u64;
    /// Releases.
    fn store(&self, place: Place, value: u64);
    /// Acquires.
    fn note(&self, note: Note) -> u32;
    /// Releases.
    fn set(&self, note: Note, value: u32);
    /// Sets bits.
    fn raise(&self, note: Note, bits: u32);
    /// Clears bits.
    fn lower(&self, note: Note, bits: u32);
    /// Clears all bits; gives those that were set.
    fn take(&self, note: Note) -> u32;
    /// Orders everything before it, stores too, before everything after it.
    fn fence(&self);
    /// Copies in. `at + from.len()` is at most the size.
    fn write(&self, at: usize, from: &[u8]);
    /// Copies out. `at + to.len()` is at most the size.
    fn read(&self, at: usize, to: &mut [u8]);
    /// Whether this process is an end of it, and no child of one.
    fn is_ours(&self) -> bool {
        true
    }
}

impl<M: Memory> Memory for Arc<M> {
    fn size(&self) -> usize {
        (**self).size()
    }
    fn load(&self, place: Place) -> u64 {
        (**self).load(place)
    }
    fn store(&self, place: Place, value: u64) {
        (**self).store(place, value);
    }
    fn note(&self, note: Note) -> u32 {
        (**self).note(note)
    }
    fn set(&self, note: Note, value: u32) {
        (**self).set(note, value);
    }
    fn raise(&self, note: Note, bits: u32) {
        (**self).raise(note, bits);
    }
    fn lower(&self, note: Note, bits: u32) {
        (**self).lower(note, bits);
    }
    fn take(&self, note: Note) -> u32 {
        (**self).take(note)
    }
    fn fence(&self) {
        (**self).fence();
    }
    fn write(&self, at: usize, from: &[u8]) {
        (**self).write(at, from);
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        (**self).read(at, to);
    }
    fn is_ours(&self) -> bool {
        (**self).is_ours()
    }
}
