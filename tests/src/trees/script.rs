//! Random scripts: what is asked of the handle over the tree, and of the peers of its leaves.
//! Invariant: a step only begins something; nothing in a script waits for an outcome.

use std::time::Duration;

use proptest::prelude::*;
use xio_core::io::Direction;

use super::tree::{Tree, tree};

/// A tree, and what is done with it.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) tree: Tree,
    /// The peers are handles of one server over all of the tree, each with its one branch; otherwise
    /// each leaf has a server of its own.
    pub(crate) one_server: bool,
    pub(crate) steps: Vec<Step>,
    /// How the end of the script reads what is still to come.
    pub(crate) rest: Read,
}

/// Who does it: the handle over the tree, or the peer of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Near,
    Far(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A message, or bytes, into a leaf. The near end names so many labels of it, perhaps fewer than
    /// there are.
    Write {
        to: usize,
        labels: usize,
        near: bool,
        len: usize,
        pieces: usize,
        limit: Option<Duration>,
    },
    Read(Who, Read, Option<Duration>),
    Flush(Who),
    Ready(Who, Direction),
    Shutdown(Who),
    /// Cancels the op that was begun so many before the last one.
    Cancel(usize),
    /// Runs the engine for a while.
    Turn(u32),
    /// A peer goes, without a word or with its last one.
    Leave {
        leaf: usize,
        abort: bool,
    },
    /// The near end goes; the last step that does anything there.
    Close {
        abort: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) room: usize,
    pub(crate) wait_for: usize,
    pub(crate) take: bool,
}

fn read() -> impl Strategy<Value = Read> {
    (prop_oneof![1usize..50, 100usize..5000], 0usize..3, any::<bool>()).prop_map(|(room, wish, take)| {
        let wait_for = [1, room.div_ceil(2), room.min(7)][wish];
        Read { room, wait_for, take }
    })
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0usize..20, 3 => 0usize..300, 1 => 1000usize..10_000]
}

/// No limit mostly.
fn limit() -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![4 => Just(None), 1 => (0u64..4000).prop_map(|us| Some(Duration::from_micros(us)))]
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Write(bool, usize, usize, usize, Option<Duration>),
    Read(bool, Read, Option<Duration>),
    Flush(bool),
    Ready(bool, Direction),
    Shutdown(bool),
    Cancel(usize),
    Turn(u32),
    Leave(bool),
    Close(bool),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        12 => (any::<bool>(), 0usize..4, len(), 1usize..4, limit()).prop_map(|(n, l, b, p, d)| Kind::Write(n, l, b, p, d)),
        8 => (prop::bool::weighted(0.7), read(), limit()).prop_map(|(n, r, d)| Kind::Read(n, r, d)),
        2 => any::<bool>().prop_map(Kind::Flush),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(n, r)| Kind::Ready(n, [Direction::Read, Direction::Write][usize::from(r)])),
        1 => prop::bool::weighted(0.3).prop_map(Kind::Shutdown),
        2 => (0usize..4).prop_map(Kind::Cancel),
        4 => (1u32..4).prop_map(Kind::Turn),
        1 => any::<bool>().prop_map(Kind::Leave),
    ]
}

fn step() -> impl Strategy<Value = (Kind, prop::sample::Index)> {
    (kind(), any::<prop::sample::Index>())
}

/// Anything a script may be.
pub fn program() -> impl Strategy<Value = Program> {
    let last = prop::option::weighted(0.2, any::<bool>().prop_map(Kind::Close));
    (tree(), any::<bool>(), prop::collection::vec(step(), 1..40), last, read().prop_filter("slow", |r| r.room > 20))
        .prop_map(|(tree, one_server, drafts, last, rest)| {
            let n = tree.leaves.len();
            let mut steps: Vec<_> = drafts.into_iter().map(|(kind, leaf)| made(kind, leaf.index(n))).collect();
            steps.extend(last.map(|kind| made(kind, 0)));
            Program { tree, one_server, steps, rest }
        })
}

/// The step of such a kind that is about this leaf.
pub(crate) fn made(kind: Kind, leaf: usize) -> Step {
    let who = |near| if near { Who::Near } else { Who::Far(leaf) };
    match kind {
        Kind::Write(near, labels, len, pieces, limit) => Step::Write { to: leaf, labels, near, len, pieces, limit },
        Kind::Read(near, read, limit) => Step::Read(who(near), read, limit),
        Kind::Flush(near) => Step::Flush(who(near)),
        Kind::Ready(near, direction) => Step::Ready(who(near), direction),
        Kind::Shutdown(near) => Step::Shutdown(who(near)),
        Kind::Cancel(back) => Step::Cancel(back),
        Kind::Turn(turns) => Step::Turn(turns),
        Kind::Leave(abort) => Step::Leave { leaf, abort },
        Kind::Close(abort) => Step::Close { abort },
    }
}
