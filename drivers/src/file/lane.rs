//! The order of ops that follow each other: one at a time works, the others wait their turn.
//! Invariant: the turn belongs to one op number, and passes on when that op is done, or when its last
//! job is, whichever is later.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use xio_core::op::{Flush, OpId, Read, Shutdown, Write};
use xio_core::{Cx, Error, Held};

use super::watch::Waiting;

/// An op that is put by.
#[derive(Debug)]
pub(super) enum Put {
    Read(Held<Read>),
    Write(Held<Write>),
    Flush(Held<Flush>),
    Shutdown(Held<Shutdown>),
}

macro_rules! each {
    ($put:expr, $held:ident => $do:expr) => {
        match $put {
            Put::Read($held) => $do,
            Put::Write($held) => $do,
            Put::Flush($held) => $do,
            Put::Shutdown($held) => $do,
        }
    };
}

impl Put {
    fn id(&self) -> OpId {
        each!(self, h => h.id())
    }

    /// Lets it enter the level again.
    fn retry(self, cx: &mut Cx<'_>) {
        each!(self, h => cx.retry(h));
    }
}

/// What a write whose bytes have been counted does when it comes in again.
pub(super) enum Then {
    Wait,
    Fail(Error),
}

/// One line of ops.
#[derive(Default)]
pub(super) struct Lane {
    owner: Option<u64>,
    /// A job of the owner is out.
    out: bool,
    /// The owner waits for its descriptor.
    blocked: Option<(Put, Waiting)>,
    /// The owner's bytes, shared once and not for each job.
    pub(super) parts: Option<Arc<[Bytes]>>,
    pub(super) then: Option<Then>,
    /// Where the owner's next byte goes, wherever the position is set to meanwhile.
    pub(super) at: Option<u64>,
    queue: VecDeque<(u64, Put)>,
}

impl Lane {
    /// Whether `op` has the turn and no job of its is out: it comes back, and is not another op that
    /// was given the same number long ago.
    pub(super) fn goes_on(&self, op: u64) -> bool {
        self.owner == Some(op) && !self.out
    }

    /// Whether `op` has the turn; one that comes to a free lane gets it.
    pub(super) fn enter(&mut self, op: u64) -> bool {
        *self.owner.get_or_insert(op) == op
    }

    /// A job of the owner goes out.
    pub(super) fn send(&mut self) {
        self.out = true;
    }

    /// A job of `op` is back.
    pub(super) fn back(&mut self, op: u64) {
        self.out &= self.owner != Some(op);
    }

    /// Puts an op behind the others.
    pub(super) fn queue(&mut self, op: u64, put: Put) {
        self.queue.push_back((op, put));
    }

    /// Puts the owner by until its descriptor is ready.
    pub(super) fn block(&mut self, put: Put, waiting: Waiting) {
        self.blocked = Some((put, waiting));
    }

    /// A wait is over: lets the owner go on, if it was its.
    pub(super) fn fired(&mut self, cx: &mut Cx<'_>, key: u64) {
        if let Some((put, _)) = self.blocked.take_if(|(_, w)| w.key() == key) {
            put.retry(cx);
        }
    }

    /// Gives the turn to the next, if `op` has it.
    pub(super) fn release(&mut self, cx: &mut Cx<'_>, op: u64) {
        if self.owner != Some(op) {
            return;
        }
        (self.owner, self.out) = (None, false);
        (self.parts, self.then, self.at, self.blocked) = (None, None, None, None);
        if let Some((next, put)) = self.queue.pop_front() {
            self.owner = Some(next);
            put.retry(cx);
        }
    }

    /// A put-by op is stopped.
    pub(super) fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId) {
        self.queue.retain(|(_, put)| put.id() != id);
        if let (Some(op), true) = (self.owner, self.blocked.as_ref().is_some_and(|(put, _)| put.id() == id)) {
            self.release(cx, op);
        }
    }
}
