//! The level that keeps writes while one is on its way. Invariant: at most one op of this level's is
//! below it; what waits is in `held` (their owners wait too) or in `behind` (their owners have been
//! told), never in both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::{Attr, OpAttrs};
use xio_core::buffer::{Piece, Pieces};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, SetOption};
use xio_core::cx::{EventKind, Timer};
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, OpId, Read, Shutdown, Write};
use xio_core::schema::Value;
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::{Amount, Options, Queued};

/// Tag of a write that carries held ones.
const JOINED: u32 = 1;
/// Tag of a write behind.
const BEHIND: u32 = 2;
/// Held writes shorter than this are copied together; longer ones go down as pieces.
const COPY: usize = 4096;

/// The `queue` driver.
#[derive(Debug)]
pub struct Driver;

const INFO: Info = Info::new(Options::DRIVER, Shape::Transform, "bounded write queue that joins small writes")
    .with_options(Options::SPECS);

/// The driver, to register or to build stacks with.
pub fn driver() -> Arc<dyn xio_core::Driver> {
    Arc::new(Driver)
}

impl xio_core::Driver for Driver {
    fn info(&self) -> &Info {
        &INFO
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }

    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }

    fn intercepts(&self, attr: &dyn Attr, role: Role) -> Intercepts {
        if role == Role::Server {
            return Intercepts::NONE;
        }
        let early = if options::<Options>(attr).early { Intercepts::READ } else { Intercepts::NONE };
        early
            | Intercepts::WRITE
            | Intercepts::WRITE_DONE
            | Intercepts::FLUSH
            | Intercepts::SHUTDOWN
            | Intercepts::CLOSE
            | Intercepts::CLOSE_DONE
            | Intercepts::CONCURRENT_READS
            | Intercepts::CONCURRENT_WRITES
    }

    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        let o = options::<Options>(attr);
        let n = |s: u64| usize::try_from(s).unwrap_or(usize::MAX);
        Ok(Box::new(Queue {
            depth: o.depth as usize,
            high: n(o.high.0),
            low: n(o.low.0),
            batch: n(o.batch.0),
            linger: o.linger,
            early: o.early,
            borders: false,
            batches: false,
            max: usize::MAX,
            known: false,
            held: VecDeque::new(),
            bytes: 0,
            busy: false,
            riders: Vec::new(),
            behind: Vec::new(),
            tail: BytesMut::new(),
            ends: Vec::new(),
            behind_attrs: OpAttrs::new(),
            behind_bytes: 0,
            timer: None,
            due: false,
            waiting: VecDeque::new(),
            failed: None,
            filled: false,
        }))
    }
}

enum Waits {
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

struct Queue {
    depth: usize,
    high: usize,
    low: usize,
    batch: usize,
    linger: Duration,
    early: bool,
    /// Whether the stack below has message borders, and whether it takes batches of them.
    borders: bool,
    batches: bool,
    /// Longest message the stack below takes.
    max: usize,
    known: bool,
    /// Writes whose owners wait, with their bytes.
    held: VecDeque<(Held<Write>, usize)>,
    bytes: usize,
    /// Something of ours is below.
    busy: bool,
    /// The held writes that the joined write below carries.
    riders: Vec<Held<Write>>,
    /// Writes whose owners have been told: long pieces, then a tail of short ones.
    behind: Vec<Piece>,
    tail: BytesMut,
    ends: Vec<usize>,
    behind_attrs: OpAttrs,
    behind_bytes: usize,
    timer: Option<Timer>,
    /// What is behind is to go as soon as the way is free.
    due: bool,
    /// Flushes and the like that wait until what was here before them has gone.
    waiting: VecDeque<Waiting>,
    /// The error of a write behind, for the next to ask.
    failed: Option<Error>,
    filled: bool,
}

impl Queue {
    fn learn(&mut self, cx: &Cx<'_>) {
        self.borders = cx.caps_below().is_some_and(|c| c.unit.has_borders());
        self.batches = cx.takes_batches();
        if self.borders {
            self.max = cx.caps_below().and_then(|c| c.max_message).unwrap_or(usize::MAX);
        }
        self.known = true;
    }

    fn queued(&self) -> usize {
        self.bytes + self.behind_bytes
    }

    /// Whether anything waits whose owner has been told; an empty message counts.
    fn has_behind(&self) -> bool {
        self.behind_bytes > 0 || !self.ends.is_empty()
    }

    fn is_idle(&self) -> bool {
        !self.busy && self.held.is_empty() && !self.has_behind()
    }

    /// Has a flush or the like wait for what is here now.
    fn wait(&mut self, cx: &mut Cx<'_>, op: Waits) {
        self.waiting.push_back(Waiting { op, ahead: self.held.len(), behind: self.has_behind() });
        self.next(cx);
    }

    /// The held write at `i` has left the line.
    fn left(&mut self, i: usize, len: usize) {
        self.bytes -= len;
        self.waiting.iter_mut().filter(|w| w.ahead > i).for_each(|w| w.ahead -= 1);
    }

    /// Lets those go that have waited long enough.
    fn answer(&mut self, cx: &mut Cx<'_>) {
        while self.waiting.front().is_some_and(|w| w.ahead == 0 && !w.behind) {
            let Some(w) = self.waiting.pop_front() else { return };
            match w.op {
                Waits::Flush(h) => match self.failed.take() {
                    Some(e) => cx.finish(h, Err(e)),
                    None => cx.pass_held(h),
                },
                Waits::Shutdown(h) => match self.failed.take() {
                    Some(e) => cx.finish(h, Err(e)),
                    None => cx.pass_held(h),
                },
                // It reports what failed when it comes back.
                Waits::Close(h) => cx.pass_held(h),
            }
        }
    }

    /// Puts a write into the batch that goes behind.
    fn put_behind<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        for p in op.pieces() {
            if self.tail.capacity() == 0 {
                self.tail.reserve(self.batch + COPY);
            }
            self.tail.extend_from_slice(p);
        }
        self.behind_bytes += op.len();
        if self.borders {
            self.ends.push(self.behind_bytes);
        }
        if self.behind_attrs.is_empty() && !op.attrs().is_empty() {
            self.behind_attrs = op.attrs().clone();
        }
        if self.behind_bytes >= self.batch {
            self.send_behind(cx);
        } else if self.timer.is_none() {
            self.timer = Some(cx.after(self.linger, 0));
        }
        op.take_all();
        op.finished()
    }

    fn send_behind(&mut self, cx: &mut Cx<'_>) {
        if self.busy || !self.has_behind() {
            self.due = self.has_behind();
            return;
        }
        self.waiting.iter_mut().for_each(|w| w.behind = false);
        self.due = false;
        self.timer = None;
        self.busy = true;
        let mut pieces: Pieces = self.behind.drain(..).collect();
        pieces.push(Piece::from(std::mem::take(&mut self.tail).freeze()));
        let ends = std::mem::take(&mut self.ends);
        let attrs = std::mem::take(&mut self.behind_attrs);
        self.behind_bytes = 0;
        cx.write_batch(pieces, ends, attrs, BEHIND);
    }

    /// Sends what waits, if the way is free.
    fn next(&mut self, cx: &mut Cx<'_>) {
        if self.busy {
            return;
        }
        self.answer(cx);
        let asked = self.due || !self.waiting.is_empty() || !self.held.is_empty();
        if self.has_behind() && (asked || self.behind_bytes >= self.batch) {
            return self.send_behind(cx);
        }
        while let Some((held, len)) = self.held.pop_front() {
            self.left(0, len);
            if !cx.is_live(&held) {
                drop(held);
                continue;
            }
            if self.may_join(cx, &held, len) {
                self.join(cx, held, len);
            } else {
                self.busy = true;
                cx.pass_held(held);
            }
            break;
        }
        if !self.busy {
            self.answer(cx);
        }
        self.mark(cx);
    }

    fn mark(&mut self, cx: &mut Cx<'_>) {
        let queued = self.queued();
        if !self.filled && queued > self.high {
            self.filled = true;
            cx.event(EventKind::Filled);
        } else if self.filled && queued <= self.low {
            self.filled = false;
            cx.event(EventKind::Drained);
        }
    }

    fn may_join(&self, cx: &mut Cx<'_>, first: &Held<Write>, len: usize) -> bool {
        // One that is too long fails, and is to fail alone.
        if self.borders && !self.batches || len > self.max {
            return false;
        }
        let attrs = match cx.held_write(first) {
            Some((_, a)) => a.clone(),
            None => return false,
        };
        match self.held.front() {
            Some((second, len)) => *len <= self.max && cx.held_write(second).is_some_and(|(_, a)| *a == attrs),
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
                    tail.reserve(self.batch.min(self.bytes + len + COPY));
                }
                own.iter().for_each(|p| tail.extend_from_slice(p));
            } else {
                if !tail.is_empty() {
                    pieces.push(Piece::from(tail.split().freeze()));
                }
                pieces.append(&mut own);
            }
            bytes += len;
            ends.push(bytes);
            self.riders.push(held);
            if bytes >= self.batch {
                break;
            }
            while let Some((held, len)) = self.held.front() {
                let (live, len) = (cx.is_live(held), *len);
                let same = live && len <= self.max && cx.held_write(held).is_some_and(|(_, a)| *a == attrs);
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
        if !self.borders {
            ends.clear();
        }
        self.busy = true;
        cx.write_batch(pieces, ends, attrs, JOINED);
    }
}

impl Level for Queue {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        // The answer to what was written behind may be what the reader waits for.
        self.send_behind(cx);
        op.pass()
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        if !self.known {
            self.learn(cx);
        }
        if let Some(e) = self.failed.take() {
            return op.failed(e);
        }
        let len = op.len();
        let fits = self.queued() == 0 || self.queued() + len <= self.high;
        if self.early && self.held.is_empty() && fits && (!self.borders || self.batches && len <= self.max) {
            if self.has_behind() && self.behind_attrs != *op.attrs() {
                self.send_behind(cx);
            }
            if !self.has_behind() || self.behind_attrs == *op.attrs() {
                return self.put_behind(cx, op);
            }
        }
        if self.is_idle() {
            self.busy = true;
            return op.pass();
        }
        if (self.held.len() >= self.depth || !fits) && !op.may_wait() {
            let text = format!("{} writes and {} bytes wait", self.held.len(), self.queued());
            return op.failed(Error::new(ErrorKind::Busy).detail(text));
        }
        let (held, flow) = op.hold(cx);
        self.held.push_back((held, len));
        self.bytes += len;
        // What was written behind goes before what waits.
        self.next(cx);
        flow
    }

    fn write_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        self.busy = false;
        self.next(cx);
        op.finished()
    }

    fn own_write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        self.busy = false;
        let error = op.clear_error();
        if op.tag() == BEHIND {
            if let Some(e) = error {
                self.failed = Some(e);
            }
        } else {
            for held in self.riders.drain(..) {
                cx.finish(held, error.clone().map_or(Ok(()), Err));
            }
        }
        self.next(cx);
        op.finished()
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        self.timer = None;
        self.send_behind(cx);
    }

    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        if !self.is_idle() || self.failed.is_some() {
            let (held, flow) = op.hold(cx);
            self.wait(cx, Waits::Flush(held));
            return flow;
        }
        op.pass()
    }

    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        if !self.is_idle() || self.failed.is_some() {
            let (held, flow) = op.hold(cx);
            self.wait(cx, Waits::Shutdown(held));
            return flow;
        }
        op.pass()
    }

    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.timer = None;
        if op.mode() != xio_core::CloseMode::Abort && self.has_behind() {
            let (held, flow) = op.hold(cx);
            self.wait(cx, Waits::Close(held));
            return flow;
        }
        op.pass()
    }

    fn close_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        // The last chance to say that something written behind was lost.
        match self.failed.take() {
            Some(e) if op.mode() != xio_core::CloseMode::Abort && op.error().is_none() => op.failed(e),
            _ => op.finished(),
        }
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        if let Some(i) = self.riders.iter().position(|h| h.id() == id) {
            // Its bytes are committed and ride on with the others; its owner need not wait for them.
            let held = self.riders.remove(i);
            let bytes = cx.held_write(&held).map_or(0, |(n, _)| n);
            let kind = match reason {
                Reason::Cancelled => ErrorKind::Cancelled,
                Reason::TimedOut => ErrorKind::TimedOut,
            };
            let error = Error::new(kind).detail("its bytes are on their way with those of other writes");
            cx.finish(held, Err(error.with_moved(bytes as u64)));
            return Cancel::Keep;
        }
        if let Some(i) = self.held.iter().position(|(h, _)| h.id() == id) {
            if let Some((_, len)) = self.held.remove(i) {
                self.left(i, len);
            }
            self.mark(cx);
        }
        self.waiting.retain(|w| match &w.op {
            Waits::Flush(h) => h.id() != id,
            Waits::Shutdown(h) => h.id() != id,
            Waits::Close(h) => h.id() != id,
        });
        Cancel::Take
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if let Some(SetOption(name, value)) = c.command() {
            let size = |s: u64| usize::try_from(s).unwrap_or(usize::MAX);
            match (name.as_str(), value) {
                ("depth", Value::Int(n)) => self.depth = usize::try_from(*n).unwrap_or(1).max(1),
                ("high", Value::Size(n)) if size(*n) >= self.low => self.high = size(*n),
                ("low", Value::Size(n)) if size(*n) <= self.high => self.low = size(*n),
                _ => return Err(xio_core::attr::wrong_value(name, value)),
            }
            return c.reply::<SetOption>(());
        }
        if c.command::<Queued>().is_some() {
            let (writes, bytes, behind) = (self.held.len(), self.queued(), self.behind_bytes);
            return c.reply::<Queued>(Amount { writes, bytes, behind });
        }
        Err(c.unsupported())
    }
}
