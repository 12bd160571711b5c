//! Judging ops, and putting by those that wait. Invariant: an op is judged once, when it first comes in,
//! and no write overtakes another here but by `reorder`.

use std::time::Duration;

use xio_core::attr::OpAttrs;
use xio_core::buffer::Pieces;
use xio_core::op::{Kind, Read, Write};
use xio_core::time::Time;
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Op};

use super::dice::{Fate, fate};
use super::level::{Faulty, KEPT, LINE, SINGLE};
use super::put::{Put, Single};

/// How long a message that is to be overtaken waits for one that overtakes it.
const OVERTAKEN: Duration = Duration::from_millis(20);
/// In an op's word: it has been let through. The rest of the word is its number, from 1.
const THROUGH: u64 = 1 << 63;

/// What a level makes of an op that comes in.
pub(super) enum Verdict<'o, K: Kind> {
    Through(Op<'o, K>),
    Fails(Op<'o, K>, Error),
    Answered(Flow<'o>),
}

impl Faulty {
    /// What was decided about an op that has been let through.
    pub(super) fn fate<K: Kind>(&self, cx: &Cx<'_>, op: &mut Op<'_, K>) -> Fate {
        let number = (*cx.word(op) & !THROUGH).saturating_sub(1);
        fate(&self.options, K::KIND, number)
    }

    /// Decides about an op as if it came in now.
    pub(super) fn judge<K: Kind>(&mut self, cx: &Cx<'_>, op: &mut Op<'_, K>) {
        let count = &mut self.counts[K::KIND as usize];
        *count += 1;
        *cx.word(op) = *count;
    }

    pub(super) fn let_through<K: Kind>(&self, cx: &Cx<'_>, op: &mut Op<'_, K>) {
        *cx.word(op) |= THROUGH;
    }

    pub(super) fn is_through<K: Kind>(&self, cx: &Cx<'_>, op: &mut Op<'_, K>) -> bool {
        *cx.word(op) & THROUGH != 0
    }

    /// The error that an op fails with because of what was decided.
    #[cold]
    pub(super) fn injected<K: Kind>(&self, cx: &Cx<'_>, op: &mut Op<'_, K>, kind: ErrorKind) -> Error {
        let number = *cx.word(op) & !THROUGH;
        Error::new(kind).detail(format!("a fault of seed {}, {} {number}", self.options.seed, K::KIND))
    }

    /// Lets an op through, fails it, or puts it by.
    pub(super) fn admit<'o, K: Kind>(
        &mut self,
        cx: &mut Cx<'_>,
        mut op: Op<'o, K>,
        put: impl FnOnce(Held<K>) -> Put,
    ) -> Verdict<'o, K> {
        if self.is_through(cx, &mut op) {
            return Verdict::Through(op);
        }
        self.judge(cx, &mut op);
        let fate = self.fate(cx, &mut op);
        self.let_through(cx, &mut op);
        if let Some(kind) = fate.error {
            let e = self.injected(cx, &mut op, kind);
            *cx.word(&mut op) = 0;
            return Verdict::Fails(op, e);
        }
        if !fate.stalls && fate.delay.is_zero() {
            return Verdict::Through(op);
        }
        let (held, flow) = op.hold(cx);
        self.put_by(cx, put(held), (!fate.stalls).then_some(fate.delay));
        Verdict::Answered(flow)
    }

    /// Puts an op by for a time, or for ever.
    fn put_by(&mut self, cx: &mut Cx<'_>, put: Put, time: Option<Duration>) {
        self.last_timer = self.last_timer.wrapping_add(1).max(SINGLE);
        let tag = self.last_timer;
        self.held.push(Single { put, tag, _timer: time.map(|d| cx.after(d, tag)) });
    }

    /// Puts a read by until a moment later, to let others have their turn.
    pub(super) fn pause<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>, time: Duration) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        self.put_by(cx, Put::Read(held), Some(time));
        flow
    }

    /// Whether a write is held here.
    pub(super) fn holds_write(&self) -> bool {
        let stalled = self.held.iter().any(|s| matches!(s.put, Put::Write(_)));
        stalled || !self.line.is_empty() || self.parts.is_below()
    }

    /// A write left: those who stayed behind it look again.
    pub(super) fn written(&mut self, cx: &mut Cx<'_>) {
        if !self.behind.is_empty() && !self.holds_write() {
            self.behind.drain(..).for_each(|p| p.retry(cx));
        }
    }

    /// Lets the writes go whose time has come.
    pub(super) fn run_line(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        while self.line.front().is_some_and(|(_, at)| *at <= now) {
            if let Some((held, _)) = self.line.pop_front() {
                cx.retry(held);
            }
        }
        self.line_timer = self.line.front().map(|(_, at)| cx.after(at.since(now), LINE));
    }

    /// Keeps a message until the next one has gone.
    pub(super) fn keep(&mut self, cx: &mut Cx<'_>, pieces: Pieces, attrs: OpAttrs) {
        self.kept = Some((pieces, attrs, cx.after(OVERTAKEN, KEPT)));
    }

    pub(super) fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    pub(super) fn send_kept(&mut self, cx: &mut Cx<'_>) {
        if let Some((pieces, attrs, _)) = self.kept.take() {
            cx.write_with(0, pieces, attrs, 0);
        }
    }

    /// Everything is over.
    #[cold]
    pub(super) fn reset(&mut self, cx: &mut Cx<'_>) -> Error {
        let text = match (self.options.reset_after, self.options.reset_after_ops) {
            (Some(s), _) if self.bytes_left == Some(0) => format!("a fault: {} had passed", bytes(s.0)),
            (_, Some(n)) => format!("a fault: {n} reads and writes had passed"),
            _ => "a fault".into(),
        };
        let e = Error::new(ErrorKind::Reset).detail(text);
        self.kept = None;
        cx.fail(e.clone());
        e
    }

    /// A write on its first way in: whether and when it goes on.
    pub(super) fn begin_write<'o>(
        &mut self,
        cx: &mut Cx<'_>,
        mut op: Op<'o, Write>,
    ) -> Result<Op<'o, Write>, Flow<'o>> {
        if self.is_through(cx, &mut op) {
            return Ok(op);
        }
        if let Some(e) = self.count_op(cx) {
            return Err(op.failed(e));
        }
        self.judge(cx, &mut op);
        let fate = self.fate(cx, &mut op);
        self.let_through(cx, &mut op);
        if let Some(kind) = fate.error {
            let e = self.injected(cx, &mut op, kind);
            *cx.word(&mut op) = 0;
            return Err(op.failed(e));
        }
        if fate.stalls {
            let (held, flow) = op.hold(cx);
            self.put_by(cx, Put::Write(held), None);
            return Err(flow);
        }
        if fate.delay.is_zero() && self.line.is_empty() {
            return Ok(op);
        }
        // No write overtakes another here.
        let at = self.line.back().map_or(Time::ZERO, |(_, at)| *at).max(cx.now() + fate.delay);
        let (held, flow) = op.hold(cx);
        self.line.push_back((held, at));
        if self.line_timer.is_none() {
            self.line_timer = Some(cx.after(at.since(cx.now()), LINE));
        }
        Err(flow)
    }

    /// Counts a read or write; an error if it is one too many.
    pub(super) fn count_op(&mut self, cx: &mut Cx<'_>) -> Option<Error> {
        match &mut self.ops_left {
            Some(0) => Some(self.reset(cx)),
            Some(n) => {
                *n -= 1;
                None
            }
            None => None,
        }
    }

    pub(super) fn has_borders(&mut self, cx: &Cx<'_>) -> bool {
        *self.borders.get_or_insert_with(|| cx.caps_below().is_some_and(|c| c.unit.has_borders()))
    }
}

fn bytes(n: u64) -> String {
    if n == 1 { "1 byte".into() } else { format!("{n} bytes") }
}
