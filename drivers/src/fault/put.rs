//! Ops that are put by, of whatever kind.

use xio_core::cx::Timer;
use xio_core::op::{Accept, Close, Flush, Listen, OpId, Open, Read, Shutdown, Write};
use xio_core::{Cx, Held};

/// An op that waits alone.
pub(super) struct Single {
    pub(super) put: Put,
    pub(super) tag: u32,
    /// `None`: for ever.
    pub(super) _timer: Option<Timer>,
}

/// An op that is put by.
pub(super) enum Put {
    Open(Held<Open>),
    Close(Held<Close>),
    Read(Held<Read>),
    Write(Held<Write>),
    Flush(Held<Flush>),
    Shutdown(Held<Shutdown>),
    Accept(Held<Accept>),
    Listen(Held<Listen>),
}

macro_rules! each {
    ($put:expr, $held:ident => $do:expr) => {
        match $put {
            Put::Open($held) => $do,
            Put::Close($held) => $do,
            Put::Read($held) => $do,
            Put::Write($held) => $do,
            Put::Flush($held) => $do,
            Put::Shutdown($held) => $do,
            Put::Accept($held) => $do,
            Put::Listen($held) => $do,
        }
    };
}

impl Put {
    pub(super) fn id(&self) -> OpId {
        each!(self, h => h.id())
    }

    /// Lets it enter the level again.
    pub(super) fn retry(self, cx: &mut Cx<'_>) {
        each!(self, h => cx.retry(h));
    }
}
