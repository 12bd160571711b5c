//! An op where it lies: what all kinds have, the body by kind, and what to do when it is finished.
//! Invariant: it knows where it is and whose it is, and has no way to move itself.

use super::{Accept, Close, Flush, Kind, Listen, OpId, Open, Read, Ready, Shutdown, Write};
use crate::attr::OpAttrs;
use crate::driver::OpKind;
use crate::engine::end::End;
use crate::error::Error;
use crate::io::{Io, IoDone};
use crate::time::Time;

/// What every op has, whatever its kind.
pub(crate) struct Head {
    pub(crate) id: OpId,
    /// The level it is at or was last at.
    pub(crate) at: u8,
    /// The level that made it; 0 is the user.
    pub(crate) origin: u8,
    /// The branch `pass_to` chose.
    pub(crate) branch: u8,
    /// The branch of its origin that it was made for.
    pub(crate) own_branch: u8,
    pub(crate) role: Role,
    /// The owner would rather wait than be told `Busy`.
    pub(crate) waits: bool,
    /// Counted among the user's outstanding ops, with so many bytes.
    pub(crate) charged: bool,
    pub(crate) charge: usize,
    /// What its level calls it; for a user's read the place of its bytes, once it has any.
    pub(crate) tag: u64,
    pub(crate) error: Option<Error>,
    pub(crate) attrs: OpAttrs,
    pub(crate) io: IoSlot,
    pub(crate) deadline: Time,
    /// The op of the level above that this driver-made op serves.
    pub(crate) serves: OpId,
    pub(crate) word: u64,
    #[allow(clippy::box_collection, reason = "one word where there are none")]
    pub(crate) more_words: Option<Box<Vec<u64>>>,
}

/// What an op is for, where that is not plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    Plain,
    /// Carries a request made with `cx.io`.
    Request,
    /// Closes what a failed open had opened.
    Unwind,
}

pub(crate) enum IoSlot {
    None,
    Ask(Io),
    Done(Box<IoDone>),
    /// Done, and there is nothing to say.
    Plain,
    Work(Box<dyn std::any::Any + Send>),
}

impl Head {
    pub(crate) const fn new() -> Self {
        Self {
            id: OpId::NONE,
            at: 0,
            origin: 0,
            branch: 0,
            own_branch: 0,
            role: Role::Plain,
            waits: true,
            charged: false,
            charge: 0,
            tag: 0,
            error: None,
            attrs: OpAttrs::new(),
            io: IoSlot::None,
            deadline: Time::NEVER,
            serves: OpId::NONE,
            word: 0,
            more_words: None,
        }
    }
}

/// An op where it lies: head, body by kind, and what to do when it is finished.
pub(crate) struct Cell<K: Kind> {
    pub(crate) head: Head,
    pub(crate) body: K::Body,
    pub(crate) end: End<K>,
}

impl<K: Kind> Cell<K> {
    pub(crate) fn boxed() -> Box<Self> {
        Box::new(Self { head: Head::new(), body: K::empty(), end: End::Own })
    }
}

/// A cell of any kind, as a slab keeps it.
pub(crate) enum AnyCell {
    Open(Box<Cell<Open>>),
    Close(Box<Cell<Close>>),
    Read(Box<Cell<Read>>),
    Write(Box<Cell<Write>>),
    Flush(Box<Cell<Flush>>),
    Shutdown(Box<Cell<Shutdown>>),
    Ready(Box<Cell<Ready>>),
    Accept(Box<Cell<Accept>>),
    Listen(Box<Cell<Listen>>),
}

/// Calls `$f::<K>(cell, …)` with the cell of the kind that is inside.
macro_rules! with_cell {
    ($any:expr, $cell:ident => $body:expr) => {
        match $any {
            $crate::op::AnyCell::Open($cell) => $body,
            $crate::op::AnyCell::Close($cell) => $body,
            $crate::op::AnyCell::Read($cell) => $body,
            $crate::op::AnyCell::Write($cell) => $body,
            $crate::op::AnyCell::Flush($cell) => $body,
            $crate::op::AnyCell::Shutdown($cell) => $body,
            $crate::op::AnyCell::Ready($cell) => $body,
            $crate::op::AnyCell::Accept($cell) => $body,
            $crate::op::AnyCell::Listen($cell) => $body,
        }
    };
}
pub(crate) use with_cell;

impl AnyCell {
    pub(crate) fn head(&self) -> &Head {
        with_cell!(self, c => &c.head)
    }

    pub(crate) fn head_mut(&mut self) -> &mut Head {
        with_cell!(self, c => &mut c.head)
    }

    pub(crate) fn kind(&self) -> OpKind {
        match self {
            Self::Open(_) => OpKind::Open,
            Self::Close(_) => OpKind::Close,
            Self::Read(_) => OpKind::Read,
            Self::Write(_) => OpKind::Write,
            Self::Flush(_) => OpKind::Flush,
            Self::Shutdown(_) => OpKind::Shutdown,
            Self::Ready(_) => OpKind::Ready,
            Self::Accept(_) => OpKind::Accept,
            Self::Listen(_) => OpKind::Listen,
        }
    }
}
