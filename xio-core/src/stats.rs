//! What each level of a handle has seen: ops, bytes, and time taken from one op in
//! [`SAMPLE`]. Invariant: a handle opened without statistics pays nothing for them.

use std::time::Duration;

use crate::driver::OpKind;
use crate::engine::core::Inner;
use crate::op::{Cell, Kind};

/// One op in this many is timed.
pub const SAMPLE: u32 = 64;

/// What one level has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Ops that went down through it, by the number of their kind.
    pub ops: [u64; OpKind::COUNT],
    /// Bytes of reads that came up to it, as the level below gave them; for the level that finished
    /// the read, as it gave them itself.
    pub read: u64,
    /// Bytes of writes that went down to it, as the level above gave them.
    pub written: u64,
    /// Calls that were timed.
    pub sampled: u64,
    /// Time of these calls.
    pub time: Duration,
}

/// Whether and how the loop counts; a type, so that the loop without is free of it.
pub(crate) trait Stats {
    /// A level is about to see an op going down.
    fn down<K: Kind>(inner: &mut Inner, at: u8, cell: &Cell<K>);
    /// An op turned round at a level: it was finished there.
    fn turned<K: Kind>(inner: &mut Inner, at: u8, cell: &Cell<K>);
    /// A level is about to see an op coming up.
    fn up<K: Kind>(inner: &mut Inner, at: u8, cell: &Cell<K>);
    fn finished(_inner: &mut Inner) {}
}

/// Counts nothing.
pub(crate) enum Off {}

impl Stats for Off {
    #[inline]
    fn down<K: Kind>(_: &mut Inner, _: u8, _: &Cell<K>) {}
    #[inline]
    fn turned<K: Kind>(_: &mut Inner, _: u8, _: &Cell<K>) {}
    #[inline]
    fn up<K: Kind>(_: &mut Inner, _: u8, _: &Cell<K>) {}
}

/// Counts ops and bytes of every level.
pub(crate) enum On {}

impl Stats for On {
    fn down<K: Kind>(inner: &mut Inner, at: u8, cell: &Cell<K>) {
        if let Some(c) = counts(inner, at) {
            c.ops[K::KIND as usize] += 1;
            if K::KIND == OpKind::Write {
                c.written += K::total(&cell.body) as u64;
            }
        }
        lap(inner, at);
    }

    fn turned<K: Kind>(inner: &mut Inner, at: u8, cell: &Cell<K>) {
        read_bytes(inner, at, cell);
    }

    fn up<K: Kind>(inner: &mut Inner, at: u8, cell: &Cell<K>) {
        read_bytes(inner, at, cell);
        lap(inner, at);
    }

    fn finished(inner: &mut Inner) {
        lap(inner, 0);
        inner.rare().lap = None;
    }
}

fn read_bytes<K: Kind>(inner: &mut Inner, at: u8, cell: &Cell<K>) {
    if let (Some((true, n)), Some(c)) = (K::moved(&cell.body), counts(inner, at)) {
        c.read += n as u64;
    }
}

fn counts(inner: &mut Inner, at: u8) -> Option<&mut Counts> {
    inner.rare.as_mut()?.counts.as_mut()?.get_mut(usize::from(at) - 1)
}

/// Ends the lap of the level that ran, begins that of `at`; on one op in [`SAMPLE`].
fn lap(inner: &mut Inner, at: u8) {
    let shared = inner.shared.clone();
    let rare = inner.rare();
    match rare.lap {
        Some((node, since)) => {
            let now = shared.now();
            if let Some(c) = rare.counts.as_mut().and_then(|c| c.get_mut(usize::from(node) - 1)) {
                c.sampled += 1;
                c.time += now.since(since);
            }
            rare.lap = (at != 0).then(|| (at, shared.now()));
        }
        None if at != 0 => {
            rare.sample = rare.sample.wrapping_add(1);
            if rare.sample % SAMPLE == 1 {
                rare.lap = Some((at, shared.now()));
            }
        }
        None => {}
    }
}
