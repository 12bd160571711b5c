//! The accepts of a server that wait, and the one request that serves them all. Invariant: one request is with the
//! reactor at most, and only while somebody waits; what failed again and again, or for want of descriptors or memory, is
//! asked for later and later. What comes of a request is its level's.

use std::collections::VecDeque;
use std::time::Duration;

use xio_core::cx::{EventKind, Timer};
use xio_core::io::Io;
use xio_core::level::Cancel;
use xio_core::op::{Accept, OpId};
use xio_core::{Cx, ErrorKind, Flow, Held, Op};

/// First and longest pause.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Requests that fail in a row, for whatever reason, before the next waits as well.
const MAX_STREAK: u32 = 16;
/// Tag of the timer that ends a pause.
pub(crate) const GO_ON: u32 = 0;

/// Accepts that wait.
pub(crate) struct Waiting {
    accepts: VecDeque<Held<Accept>>,
    /// Tag and op of the request under way.
    request: Option<(u32, OpId)>,
    next_tag: u32,
    pause: Option<Timer>,
    backoff: Duration,
    streak: u32,
}

impl Waiting {
    pub(crate) fn new() -> Self {
        Self { accepts: VecDeque::new(), request: None, next_tag: 0, pause: None, backoff: BACKOFF.0, streak: 0 }
    }

    /// Has an accept wait; the level asks after that.
    pub(crate) fn hold<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Accept>) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        self.accepts.push_back(held);
        flow
    }

    /// Makes the request, if somebody waits and none is under way.
    pub(crate) fn ask(&mut self, cx: &mut Cx<'_>, io: impl FnOnce() -> Io) {
        if self.accepts.is_empty() || self.request.is_some() || self.pause.is_some() {
            return;
        }
        self.next_tag = self.next_tag.wrapping_add(1);
        self.request = Some((self.next_tag, cx.io(io(), self.next_tag)));
    }

    /// Whether the request with this tag is the one under way. It is over then.
    pub(crate) fn is_answered(&mut self, tag: u32) -> bool {
        self.request.take_if(|(t, _)| *t == tag).is_some()
    }

    /// Has the first accept try again. `false`: nobody waits.
    pub(crate) fn serve(&mut self, cx: &mut Cx<'_>) -> bool {
        self.accepts.pop_front().map(|held| cx.retry(held)).is_some()
    }

    /// The request brought something.
    pub(crate) fn came(&mut self) {
        (self.streak, self.backoff) = (0, BACKOFF.0);
    }

    /// It failed: what of that concerns one peer only never ends an accept.
    pub(crate) fn failed(&mut self, cx: &mut Cx<'_>, why: ErrorKind) {
        self.streak = self.streak.saturating_add(1);
        match why {
            // A close, or nobody waited any more.
            ErrorKind::Cancelled => self.streak = 0,
            ErrorKind::Exhausted => {
                cx.event(EventKind::Other("exhausted"));
                self.rest(cx);
            }
            _ if self.streak >= MAX_STREAK => self.rest(cx),
            _ => {}
        }
    }

    fn rest(&mut self, cx: &mut Cx<'_>) {
        self.pause = Some(cx.after(self.backoff, GO_ON));
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    /// The pause is over, or of no use any more.
    pub(crate) fn end_pause(&mut self) {
        self.pause = None;
    }

    /// Nothing will ever come.
    #[cfg(any(feature = "shm", feature = "tcp"))]
    pub(crate) fn fail_all(&mut self, cx: &mut Cx<'_>, why: &xio_core::Error) {
        self.accepts.drain(..).for_each(|held| cx.finish(held, Err(why.clone())));
    }

    /// Lets go of an accept.
    pub(crate) fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId) -> Cancel {
        self.accepts.retain(|h| h.id() != id);
        if self.accepts.is_empty() {
            self.pause = None;
            if let Some((_, op)) = self.request {
                // Should it be done by now, what it brings goes to the next accept.
                cx.cancel(op);
            }
        }
        Cancel::Take
    }
}
