//! What each level of a handle has done for the one above: ops, bytes, and time taken from one op in
//! [`SAMPLE`]. Invariant: an op counts once at a level, however often the level asks for more below
//! or is called again; and a handle opened without statistics pays nothing for them.

use std::time::Duration;

use crate::driver::OpKind;
use crate::engine::core::Inner;
use crate::op::{Cell, Kind};
use crate::plan::Plan;
use crate::sync::planted;

/// One op in this many is timed.
pub const SAMPLE: u32 = 64;

/// What one level has done for the one above it, or for the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Ops that came down to it, by the number of their kind.
    pub ops: [u64; OpKind::COUNT],
    /// Bytes of reads that it gave up. A read that the level above sends down again for more is
    /// taken out until it is back.
    pub read: u64,
    /// Bytes of writes that went down to it, as the level above gave them.
    pub written: u64,
    /// Calls that were timed.
    pub sampled: u64,
    /// Time of these calls.
    pub time: Duration,
    /// Bytes that reads on their way through brought along and this level never gave.
    brought: u64,
}

impl Counts {
    /// A read comes down with `n` bytes in it.
    fn comes_with(&mut self, n: u64) {
        let own = n.min(self.read);
        self.read -= own;
        self.brought += n - own;
    }

    /// It goes up with `n`.
    fn goes_with(&mut self, n: u64) {
        let brought = n.min(self.brought);
        self.brought -= brought;
        self.read += n - brought;
    }
}

/// Whether and how the loop counts; a type, so that the loop without is free of it.
pub(crate) trait Stats {
    /// A level is about to see an op going down; `anew` unless it has seen it and is called again.
    fn down<K: Kind>(inner: &mut Inner, plan: &Plan, at: u8, cell: &Cell<K>, anew: bool);
    /// A level is about to see an op coming up.
    fn up(inner: &mut Inner, at: u8);
    /// An op has left a level upwards, and those between it and `above`, which are not called.
    fn left<K: Kind>(inner: &mut Inner, plan: &Plan, at: u8, above: u8, cell: &Cell<K>);
    fn finished(_inner: &mut Inner) {}
}

/// Counts nothing.
pub(crate) enum Off {}

impl Stats for Off {
    #[inline]
    fn down<K: Kind>(_: &mut Inner, _: &Plan, _: u8, _: &Cell<K>, _: bool) {}
    #[inline]
    fn up(_: &mut Inner, _: u8) {}
    #[inline]
    fn left<K: Kind>(_: &mut Inner, _: &Plan, _: u8, _: u8, _: &Cell<K>) {}
}

/// Counts ops and bytes of every level.
pub(crate) enum On {}

impl Stats for On {
    fn down<K: Kind>(inner: &mut Inner, plan: &Plan, at: u8, cell: &Cell<K>, anew: bool) {
        let mut level = if anew { at } else { cell.head.origin };
        // Those above it that see the op only on its way up were not called.
        while level > cell.head.origin && (level == at || !plan.intercepts(level).down(K::KIND)) {
            if let Some(c) = counts(inner, level).filter(|_| sees::<K>(plan, level)) {
                c.ops[K::KIND as usize] += if planted("an op counts twice") { 2 } else { 1 };
                if K::KIND == OpKind::Write {
                    c.written += K::total(&cell.body) as u64;
                }
                if let Some((true, n)) = K::moved(&cell.body) {
                    c.comes_with(n as u64);
                }
            }
            level = plan.parent(level);
        }
        lap(inner, at);
    }

    fn up(inner: &mut Inner, at: u8) {
        lap(inner, at);
    }

    fn left<K: Kind>(inner: &mut Inner, plan: &Plan, at: u8, above: u8, cell: &Cell<K>) {
        let Some((true, n)) = K::moved(&cell.body) else { return };
        let mut level = at;
        while level > above {
            if let Some(c) = counts(inner, level).filter(|_| sees::<K>(plan, level)) {
                c.goes_with(n as u64);
            }
            level = plan.parent(level);
        }
    }

    fn finished(inner: &mut Inner) {
        lap(inner, 0);
        inner.rare().lap = None;
    }
}

/// Whether a level has to do with ops of this kind.
fn sees<K: Kind>(plan: &Plan, level: u8) -> bool {
    let i = plan.intercepts(level);
    i.down(K::KIND) || i.up(K::KIND)
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
