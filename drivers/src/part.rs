//! A write that goes down in parts: it is held, each part is a write of the level's own, and what of
//! it went is booked before the next one. For levels that let one write in at a time, over streams.
//! Invariant: at most one part is below; a write that is stopped ends when that part is back, with
//! exactly the bytes that went.

use std::collections::VecDeque;

use bytes::Bytes;
use xio_core::buffer::{Piece, Pieces};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{OpId, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Op};

/// The write that is being cut up, if any.
#[derive(Default)]
pub(crate) struct Parts {
    /// Which write it is. One that was stopped before it came in again is not missed.
    whose: Option<OpId>,
    /// What of it has not been sent.
    rest: VecDeque<Bytes>,
    /// It waits for this part.
    below: Option<(Held<Write>, OpId)>,
    /// What the part came to: its bytes, and why it was not more.
    back: Option<(usize, Option<Error>)>,
    /// The write fails with this when what had gone is booked.
    error: Option<Error>,
    /// It was told to stop.
    stop: Option<Reason>,
    begun: bool,
}

/// What to do with a write that comes in.
pub(crate) enum Next<'o> {
    /// Send more of it, or begin with it.
    More(Op<'o, Write>),
    /// It was answered.
    Answered(Flow<'o>),
}

impl Parts {
    /// Looks at a write that enters the level, again or for the first time. `over` sees one that is
    /// answered for good.
    pub(crate) fn enter<'o>(&mut self, mut op: Op<'o, Write>, over: impl FnOnce(&mut Op<'o, Write>)) -> Next<'o> {
        if self.whose.is_none_or(|id| !op.is(id)) {
            // Another write than the one that was cut up last.
            *self = Self::default();
        }
        if let Some((n, error)) = self.back.take() {
            if op.moved() + n >= op.len() {
                // All of it went: a stop comes too late, what failed otherwise has failed.
                let is_stop = |e: &Error| matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::TimedOut);
                let failed = error.filter(|e| self.stop.is_none() || !is_stop(e));
                *self = Self::default();
                over(&mut op);
                op.take_all();
                return Next::Answered(match failed {
                    Some(e) => op.failed(e),
                    None => op.finished(),
                });
            }
            self.error = error;
            if n > 0 {
                return Next::Answered(op.finished_part(n));
            }
        }
        let stopped = self.stop.map(|r| match r {
            Reason::Cancelled => ErrorKind::Cancelled.into(),
            Reason::TimedOut => ErrorKind::TimedOut.into(),
        });
        match stopped.or_else(|| self.error.take()) {
            Some(e) => {
                *self = Self::default();
                over(&mut op);
                Next::Answered(op.failed(e))
            }
            None => Next::More(op),
        }
    }

    /// Whether a part has gone, so that the rest must go in parts too.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether a part is below.
    pub(crate) fn is_below(&self) -> bool {
        self.below.is_some()
    }

    /// Sends the next `n` bytes of the write.
    pub(crate) fn send<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>, n: usize, tag: u32) -> Flow<'o> {
        if !std::mem::replace(&mut self.begun, true) {
            // Shared once and not for each part: borrowed bytes are copied here.
            let mut skip = op.moved();
            self.rest = op.share().into_iter().map(Piece::into_bytes).collect();
            self.rest.retain_mut(|b| {
                let cut = skip.min(b.len());
                skip -= cut;
                drop(b.split_to(cut));
                !b.is_empty()
            });
        }
        let mut pieces = Pieces::new();
        let mut lacks = n;
        while let (Some(front), 1..) = (self.rest.front_mut(), lacks) {
            let part = front.split_to(lacks.min(front.len()));
            if front.is_empty() {
                self.rest.pop_front();
            }
            lacks -= part.len();
            pieces.push(Piece::from(part));
        }
        let attrs = op.attrs().clone();
        let (held, flow) = op.hold(cx);
        self.whose = Some(held.id());
        let own = cx.write_with(0, pieces, attrs, tag);
        cx.serve(own, &held);
        self.below = Some((held, own));
        flow
    }

    /// A part is back.
    pub(crate) fn returned(&mut self, cx: &mut Cx<'_>, op: &mut Op<'_, Write>) {
        let (error, len) = (op.clear_error(), op.len());
        let n = if error.is_none() { len } else { op.moved().min(len) };
        match self.below.take() {
            Some((held, _)) if cx.is_live(&held) => {
                self.back = Some((n, error));
                cx.retry(held);
            }
            _ => self.clear(),
        }
    }

    /// The write is to stop, if it is the one whose part is below: it ends when that is back.
    pub(crate) fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Option<Cancel> {
        let (_, own) = self.below.as_ref().filter(|(held, _)| held.id() == id)?;
        cx.cancel(*own);
        self.stop = Some(reason);
        Some(Cancel::Keep)
    }

    /// Forgets a write that is no more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
