//! What waits in a queue, and how it goes down. Invariant: a level has a line exactly while something
//! waits in it or it has yet to say that it drained; what waits is in `held` (their owners wait too) or
//! behind (their owners have been told), never in both. It holds nothing that outlives the wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::OpAttrs;
use xio_core::buffer::{Piece, Pieces};
use xio_core::cx::Timer;
use xio_core::driver::options;
use xio_core::op::{Close, Flush, OpId, Shutdown, Write};
use xio_core::{Cx, Error, Flow, Held, Op, planted};

use super::{Amount, Options};

/// Tag of a write that carries held ones.
pub(super) const JOINED: u32 = 1;
/// Tag of a write behind.
pub(super) const BEHIND: u32 = 2;
/// Held writes shorter than this are copied together; longer ones go down as pieces.
const COPY: usize = 4096;
/// Empty lines that a thread keeps, and the most places in a list of theirs.
const KEPT: (usize, usize) = (8, 1024);

thread_local! {
    #[allow(clippy::vec_box, reason = "the boxes move between the stock and levels")]
    static STOCK: RefCell<Vec<Box<Line>>> = const { RefCell::new(Vec::new()) };
}

pub(super) enum Waits {
    Flush(Held<Flush>),
    Shutdown(Held<Shutdown>),
    Close(Held<Close>),
}

struct Waiting {
    op: Waits,
    /// Held writes that go before it.
    ahead: usize,
    /// What was written behind goes before it, too.
    behind: bool,
}

/// A held write that the joined one carries.
pub(super) struct Rider {
    pub(super) held: Held<Write>,
    /// Writes that ride before it, and where its bytes begin and end.
    pub(super) place: usize,
    pub(super) bytes: Range<usize>,
}

#[derive(Default)]
pub(super) struct Line {
    pub(super) limits: Limits,
    /// Writes whose owners wait, with their bytes.
    held: VecDeque<(Held<Write>, usize)>,
    bytes: usize,
    /// The held writes that the joined write below carries.
    pub(super) riders: Vec<Rider>,
    /// Writes whose owners have been told: their bytes, and on messages where each ends.
    tail: BytesMut,
    ends: Vec<usize>,
    behind_attrs: OpAttrs,
    timer: Option<Timer>,
    /// What is behind is to go as soon as the way is free.
    due: bool,
    /// Flushes and the like that wait until what was here before them has gone.
    waiting: VecDeque<Waiting>,
}

/// What the options and the stack below allow, looked up once a line.
#[derive(Default)]
pub(super) struct Limits {
    pub(super) depth: usize,
    pub(super) high: usize,
    pub(super) low: usize,
    batch: usize,
    linger: Duration,
    /// Whether the stack below has message borders, and whether it takes batches of them.
    pub(super) borders: bool,
    batches: bool,
    /// Longest message the stack below takes.
    max: usize,
}

impl Limits {
    pub(super) fn new(o: &Options, cx: &Cx<'_>) -> Self {
        let below = cx.caps_below();
        let borders = below.is_some_and(|c| c.unit.has_borders());
        Self {
            depth: o.depth as usize,
            high: bytes(o.high.0),
            low: bytes(o.low.0),
            batch: bytes(o.batch.0),
            linger: o.linger,
            borders,
            batches: cx.takes_batches(),
            max: below.filter(|_| borders).and_then(|c| c.max_message).unwrap_or(usize::MAX),
        }
    }

    /// Whether writes of this length can go down with others.
    fn joins(&self, len: usize) -> bool {
        // One that is too long fails, and is to fail alone.
        (!self.borders || self.batches) && len <= self.max
    }
}

fn bytes(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl Line {
    /// An empty line, used before if this thread has one. `changed`: the options, if not the attr's.
    #[cold]
    pub(super) fn new(changed: Option<&Options>, cx: &Cx<'_>) -> Box<Self> {
        let mut line = STOCK.try_with(|s| s.borrow_mut().pop()).ok().flatten().unwrap_or_default();
        line.limits = Limits::new(changed.unwrap_or_else(|| options(cx.attr())), cx);
        line
    }

    /// Keeps an empty line for later.
    pub(super) fn keep(mut self: Box<Self>) {
        if self.held.capacity().max(self.riders.capacity()).max(self.waiting.capacity()) > KEPT.1 {
            return;
        }
        self.behind_attrs = OpAttrs::new();
        let _ = STOCK.try_with(|s| {
            let mut s = s.borrow_mut();
            if s.len() < KEPT.0 {
                s.push(self);
            }
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
            && self.riders.is_empty()
            && self.waiting.is_empty()
            && self.timer.is_none()
            && !self.has_behind()
    }

    pub(super) fn amount(&self) -> Amount {
        Amount { writes: self.held.len(), bytes: self.queued(), behind: self.tail.len() }
    }

    /// Bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.bytes + self.tail.len()
    }

    /// Writes whose owners wait.
    pub(super) fn writes(&self) -> usize {
        self.held.len()
    }

    /// Whether anything waits whose owner has been told; an empty message counts.
    pub(super) fn has_behind(&self) -> bool {
        !self.tail.is_empty() || !self.ends.is_empty()
    }

    /// Whether nothing is to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && !self.has_behind()
    }

    /// Whether one more write of this length is within the limits.
    pub(super) fn fits(&self, len: usize) -> bool {
        self.queued() == 0 || self.queued() + len <= self.limits.high
    }

    /// Whether a write of this length may go behind, where its attrs allow that. One that is a batch of its
    /// own waits rather than being copied.
    pub(super) fn takes_behind(&self, len: usize) -> bool {
        len <= self.limits.batch && self.held.is_empty() && self.fits(len) && self.limits.joins(len)
    }

    /// Whether these are the attrs of what is behind.
    pub(super) fn continues(&self, attrs: &OpAttrs) -> bool {
        !self.has_behind() || self.behind_attrs == *attrs
    }

    pub(super) fn hold(&mut self, held: Held<Write>, len: usize) {
        self.held.push_back((held, len));
        self.bytes += len;
    }

    /// Has a flush or the like wait for what is here now.
    pub(super) fn wait(&mut self, op: Waits) {
        self.waiting.push_back(Waiting { op, ahead: self.held.len(), behind: self.has_behind() });
    }

    /// The held write at `i` has left the line.
    fn left(&mut self, i: usize, len: usize) {
        self.bytes -= len;
        self.waiting.iter_mut().filter(|w| w.ahead > i).for_each(|w| w.ahead -= 1);
    }

    /// Lets those go that have waited long enough.
    pub(super) fn answer(&mut self, cx: &mut Cx<'_>, failed: &mut Option<Error>) {
        while self.waiting.front().is_some_and(|w| w.ahead == 0 && !w.behind) {
            let Some(w) = self.waiting.pop_front() else { return };
            match w.op {
                Waits::Flush(h) => match failed.take() {
                    Some(e) => cx.finish(h, Err(e)),
                    None => cx.pass_held(h),
                },
                Waits::Shutdown(h) => match failed.take() {
                    Some(e) => cx.finish(h, Err(e)),
                    None => cx.pass_held(h),
                },
                // It reports what failed when it comes back.
                Waits::Close(h) => cx.pass_held(h),
            }
        }
    }

    /// Puts a write into the batch that goes behind. Whether the batch is full.
    pub(super) fn put_behind<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> (Flow<'o>, bool) {
        if !self.has_behind() {
            self.behind_attrs = op.attrs().clone();
        }
        for p in op.pieces() {
            if self.tail.capacity() == 0 {
                self.tail.reserve(self.limits.batch + COPY);
            }
            self.tail.extend_from_slice(p);
        }
        if self.limits.borders {
            self.ends.push(self.tail.len());
        }
        let full = self.tail.len() >= self.limits.batch;
        if !full && self.timer.is_none() {
            self.timer = Some(cx.after(self.limits.linger, 0));
        }
        op.take_all();
        (op.finished(), full)
    }

    /// No batch is to go because its time is over.
    pub(super) fn stop_timer(&mut self) {
        self.timer = None;
    }

    /// What is behind, if anything is, goes as soon as it can.
    pub(super) fn set_due(&mut self) {
        self.due = self.has_behind();
    }

    /// Whether what is behind goes next.
    pub(super) fn sends_behind(&self) -> bool {
        let asked = self.due || !self.waiting.is_empty() || !self.held.is_empty();
        self.has_behind() && (asked || self.tail.len() >= self.limits.batch)
    }

    /// Sends what is behind. The way has to be free.
    pub(super) fn send_behind(&mut self, cx: &mut Cx<'_>) {
        self.waiting.iter_mut().for_each(|w| w.behind = false);
        self.due = false;
        self.timer = None;
        let pieces = Pieces::from_iter([Piece::from(std::mem::take(&mut self.tail).freeze())]);
        let ends = std::mem::take(&mut self.ends);
        let attrs = std::mem::take(&mut self.behind_attrs);
        cx.write_batch(pieces, ends, attrs, BEHIND);
    }

    /// Sends the first held writes, where the way is free. Whether there were any.
    pub(super) fn send_held(&mut self, cx: &mut Cx<'_>) -> bool {
        while let Some((held, len)) = self.held.pop_front() {
            self.left(0, len);
            if !cx.is_live(&held) {
                drop(held);
                continue;
            }
            if self.may_join(cx, &held, len) {
                self.join(cx, held, len);
            } else {
                cx.pass_held(held);
            }
            return true;
        }
        false
    }

    fn may_join(&self, cx: &mut Cx<'_>, first: &Held<Write>, len: usize) -> bool {
        if !self.limits.joins(len) {
            return false;
        }
        let attrs = match cx.held_write(first) {
            Some((_, a)) => a.clone(),
            None => return false,
        };
        match self.held.front() {
            Some((second, len)) => *len <= self.limits.max && cx.held_write(second).is_some_and(|(_, a)| *a == attrs),
            None => false,
        }
    }

    /// Makes one write of the first held ones.
    fn join(&mut self, cx: &mut Cx<'_>, first: Held<Write>, len: usize) {
        let attrs = cx.held_write(&first).map(|(_, a)| a.clone()).unwrap_or_default();
        let mut pieces = Pieces::new();
        let mut tail = BytesMut::new();
        let mut ends = Vec::new();
        let mut bytes = 0;
        let mut next = Some((first, len));
        while let Some((held, len)) = next.take() {
            let Some(mut own) = cx.share(&held) else { continue };
            if len < COPY {
                if tail.capacity() == 0 {
                    tail.reserve(self.limits.batch.min(self.bytes + len + COPY));
                }
                own.iter().for_each(|p| tail.extend_from_slice(p));
            } else {
                if !tail.is_empty() {
                    pieces.push(Piece::from(tail.split().freeze()));
                }
                pieces.append(&mut own);
            }
            self.riders.push(Rider { held, place: ends.len(), bytes: bytes..bytes + len });
            bytes += len;
            ends.push(bytes);
            if bytes >= self.limits.batch {
                break;
            }
            while let Some((held, len)) = self.held.front() {
                let (live, len) = (cx.is_live(held), *len);
                let same = live && len <= self.limits.max && cx.held_write(held).is_some_and(|(_, a)| *a == attrs);
                if live && !same {
                    break;
                }
                let Some((held, _)) = self.held.pop_front() else { break };
                self.left(0, len);
                if live {
                    next = Some((held, len));
                    break;
                }
            }
        }
        if !tail.is_empty() {
            pieces.push(Piece::from(tail.freeze()));
        }
        if !self.limits.borders {
            ends.clear();
        }
        cx.write_batch(pieces, ends, attrs, JOINED);
    }

    /// The rider of this number, which rides on without its owner.
    pub(super) fn rider(&mut self, id: OpId) -> Option<Held<Write>> {
        let i = self.riders.iter().position(|r| r.held.id() == id)?;
        Some(self.riders.remove(i).held)
    }

    /// Forgets what waits under this number.
    pub(super) fn forget(&mut self, id: OpId) {
        if let Some(i) = self.held.iter().position(|(h, _)| h.id() == id)
            && let Some((_, len)) = self.held.remove(i)
            && !planted("a write that is cancelled is waited for")
        {
            self.left(i, len);
        }
        self.waiting.retain(|w| match &w.op {
            Waits::Flush(h) => h.id() != id,
            Waits::Shutdown(h) => h.id() != id,
            Waits::Close(h) => h.id() != id,
        });
    }
}
