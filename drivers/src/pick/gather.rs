//! Ops from above that are done when every branch has done them. Invariant: an op here has at least
//! one op of this level's on its way, and is answered when the last is back.

use xio_core::level::Reason;
use xio_core::op::{Kind, OpId};
use xio_core::{Cx, Error, ErrorKind, Held};

/// Bits of a tag that say which branch; [`xio_core::stack::MAX_BRANCHES`] fits.
const BRANCH_BITS: u32 = 8;

/// Held ops of one kind.
pub(super) struct Gathers<K: Kind> {
    list: Vec<Gather<K>>,
    next: u32,
}

struct Gather<K: Kind> {
    number: u32,
    held: Held<K>,
    /// This level's ops that are on their way, with their branches.
    ops: Vec<(u8, OpId)>,
    error: Option<Error>,
    stopped: Option<Reason>,
}

impl<K: Kind> Default for Gathers<K> {
    fn default() -> Self {
        Self { list: Vec::new(), next: 0 }
    }
}

/// The branch in a tag.
pub(super) fn branch_of(tag: u32) -> u8 {
    tag.to_le_bytes()[0]
}

/// Whether the tag is that of an op for one branch alone; the held ones are numbered from 1.
pub(super) fn is_again(tag: u32) -> bool {
    tag >> BRANCH_BITS == 0
}

/// An error of a branch, for somebody who does not know which.
pub(super) fn labelled(label: &str, error: Error) -> Error {
    Error::new(error.kind()).detail(format!("branch `{label}`")).source_error(error)
}

impl<K: Kind> Gathers<K> {
    /// Holds an op and makes one with `issue` for each of `branches`; there is at least one.
    pub(super) fn start(
        &mut self,
        cx: &mut Cx<'_>,
        held: Held<K>,
        branches: impl Iterator<Item = u8>,
        mut issue: impl FnMut(&mut Cx<'_>, u8, u32) -> OpId,
    ) {
        self.next = (self.next % (u32::MAX >> BRANCH_BITS)) + 1;
        let number = self.next;
        let ops = branches.map(|b| (b, issue(cx, b, (number << BRANCH_BITS) | u32::from(b)))).collect();
        self.list.push(Gather { number, held, ops, error: None, stopped: None });
    }

    /// One is back. With the last one: the held op, and its result.
    pub(super) fn back(&mut self, tag: u32, error: Option<Error>) -> Option<(Held<K>, Result<(), Error>)> {
        let i = self.list.iter().position(|g| g.number == tag >> BRANCH_BITS)?;
        let gather = &mut self.list[i];
        gather.ops.retain(|(b, _)| *b != branch_of(tag));
        if gather.error.is_none() {
            gather.error = error;
        }
        if !gather.ops.is_empty() {
            return None;
        }
        let gather = self.list.swap_remove(i);
        let result = match (gather.error, gather.stopped) {
            (None, _) => Ok(()),
            (Some(e), Some(Reason::TimedOut)) if e.kind() == ErrorKind::Cancelled => Err(ErrorKind::TimedOut.into()),
            (Some(e), _) => Err(e),
        };
        Some((gather.held, result))
    }

    /// Stops the others of an op that has failed already.
    pub(super) fn stop_rest(&self, cx: &mut Cx<'_>, tag: u32) {
        if let Some(g) = self.list.iter().find(|g| g.number == tag >> BRANCH_BITS) {
            g.ops.iter().for_each(|(_, own)| cx.cancel(*own));
        }
    }

    /// Stops what a held op waits for; says whether it is one of these.
    pub(super) fn stop(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> bool {
        let Some(gather) = self.list.iter_mut().find(|g| g.held.id() == id) else { return false };
        gather.stopped = Some(reason);
        gather.ops.iter().for_each(|(_, own)| cx.cancel(*own));
        true
    }
}
