//! The level that keeps writes while one is on its way. Invariant: at most one op of this level's is
//! below it. What waits is in its [`Line`], which an idle level does not have.

use std::sync::Arc;

use xio_core::attr::{Attr, check_value};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, GetOption, SetOption};
use xio_core::cx::EventKind;
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, OpId, Read, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};

use super::line::{BEHIND, Limits, Line, Waits};
use super::{Options, Queued};

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
        let early = options::<Options>(attr).early;
        Ok(Box::new(Queue { line: None, failed: None, changed: None, early, busy: false, filled: false }))
    }
}

struct Queue {
    /// What waits.
    line: Option<Box<Line>>,
    /// The error of a write behind, for the next to ask.
    failed: Option<Error>,
    /// The options, once one was changed; the attr's until then.
    changed: Option<Box<Options>>,
    early: bool,
    /// Something of ours is below.
    busy: bool,
    filled: bool,
}

impl Queue {
    fn options<'a>(&'a self, cx: &'a Cx<'_>) -> &'a Options {
        self.changed.as_deref().unwrap_or_else(|| options(cx.attr()))
    }

    /// The line, made if there is none.
    #[inline]
    fn line(&mut self, cx: &Cx<'_>) -> &mut Line {
        let changed = self.changed.as_deref();
        self.line.get_or_insert_with(|| Line::new(changed, cx))
    }

    /// Gives the line up where nothing waits any more.
    fn settle(&mut self) {
        if !self.filled
            && let Some(line) = self.line.take_if(|l| l.is_empty())
        {
            line.keep();
        }
    }

    fn is_idle(&self) -> bool {
        !self.busy && self.line.as_ref().is_none_or(|l| l.is_idle())
    }

    /// Has a flush or the like wait for what is here now.
    fn wait(&mut self, cx: &mut Cx<'_>, op: Waits) {
        self.line(cx).wait(op);
        self.next(cx);
    }

    fn send_behind(&mut self, cx: &mut Cx<'_>) {
        let Some(line) = &mut self.line else { return };
        if self.busy || !line.has_behind() {
            line.set_due();
        } else {
            self.busy = true;
            line.send_behind(cx);
        }
        self.settle();
    }

    /// Sends what waits, if the way is free.
    fn next(&mut self, cx: &mut Cx<'_>) {
        let Some(line) = self.line.as_mut().filter(|_| !self.busy) else { return };
        line.answer(cx, &mut self.failed);
        if line.sends_behind() {
            return self.send_behind(cx);
        }
        self.busy = line.send_held(cx);
        if !self.busy {
            line.answer(cx, &mut self.failed);
        }
        self.mark(cx);
        self.settle();
    }

    fn mark(&mut self, cx: &mut Cx<'_>) {
        let Some(line) = &self.line else { return };
        let queued = line.queued();
        if !self.filled && queued > line.limits.high {
            self.filled = true;
            cx.event(EventKind::Filled);
        } else if self.filled && queued <= line.limits.low {
            self.filled = false;
            cx.event(EventKind::Drained);
        }
    }

    /// Puts a write into the batch that goes behind.
    #[inline]
    fn put_behind<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let (flow, full) = self.line(cx).put_behind(cx, op);
        if full {
            self.send_behind(cx);
        }
        flow
    }

    /// A write that cannot go straight down.
    fn keep<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let len = op.len();
        if self.early {
            let line = self.line(cx);
            let goes_behind = line.takes_behind(len);
            if goes_behind && line.continues(op.attrs()) {
                return self.put_behind(cx, op);
            }
            if goes_behind {
                self.send_behind(cx);
                if self.line(cx).continues(op.attrs()) {
                    return self.put_behind(cx, op);
                }
            }
        }
        if self.is_idle() {
            self.busy = true;
            self.settle();
            return op.pass();
        }
        let line = self.line(cx);
        let full = line.writes() >= line.limits.depth || !line.fits(len);
        if full && !op.may_wait() {
            let (writes, bytes, l) = (line.writes(), line.queued(), &line.limits);
            let text = format!("{writes} writes of {} and {bytes} bytes of {} wait", l.depth, l.high);
            self.settle();
            return op.failed(Error::new(ErrorKind::Busy).detail(text));
        }
        let (held, flow) = op.hold(cx);
        line.hold(held, len);
        if self.busy {
            self.mark(cx);
        } else {
            // What was written behind goes before what waits.
            self.next(cx);
        }
        flow
    }
}

impl Level for Queue {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        // The answer to what was written behind may be what the reader waits for.
        self.send_behind(cx);
        op.pass()
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        if let Some(e) = self.failed.take() {
            return op.failed(e);
        }
        if self.early || self.busy || self.line.is_some() {
            return self.keep(cx, op);
        }
        self.busy = true;
        op.pass()
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
            self.failed = error.or_else(|| self.failed.take());
        } else if let Some(line) = &mut self.line {
            let (moved, gone) = (op.moved(), op.message_count() - op.messages_left().count());
            for r in line.riders.drain(..) {
                let is_through = if line.limits.borders { r.place < gone } else { r.bytes.end <= moved };
                let result = match &error {
                    Some(e) if !is_through => {
                        let part = if line.limits.borders { 0 } else { moved.saturating_sub(r.bytes.start) };
                        Err(e.clone().with_moved(part as u64))
                    }
                    _ => Ok(()),
                };
                cx.finish(r.held, result);
            }
        }
        self.next(cx);
        op.finished()
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        if let Some(line) = &mut self.line {
            line.stop_timer();
        }
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
        if let Some(line) = &mut self.line {
            line.stop_timer();
        }
        let behind = self.line.as_ref().is_some_and(|l| l.has_behind());
        if op.mode() != xio_core::CloseMode::Abort && behind {
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
        let Some(line) = &mut self.line else { return Cancel::Take };
        if let Some(held) = line.rider(id) {
            // Its bytes are committed and ride on with the others; its owner need not wait for them.
            let bytes = cx.held_write(&held).map_or(0, |(n, _)| n);
            let kind = match reason {
                Reason::Cancelled => ErrorKind::Cancelled,
                Reason::TimedOut => ErrorKind::TimedOut,
            };
            let error = Error::new(kind).detail("its bytes are on their way with those of other writes");
            cx.finish(held, Err(error.with_moved(bytes as u64)));
            return Cancel::Keep;
        }
        line.forget(id);
        self.mark(cx);
        self.settle();
        Cancel::Take
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if let (Some(GetOption(name)), Some(o)) = (c.command(), &self.changed)
            && Options::SPECS.iter().any(|s| s.name == name)
        {
            return c.reply::<GetOption>(o.value(name));
        }
        if c.command::<Queued>().is_some() {
            return c.reply::<Queued>(self.line.as_ref().map(|l| l.amount()).unwrap_or_default());
        }
        let Some(SetOption(name, value)) = c.command() else { return Err(c.unsupported()) };
        let Some(spec) = Options::SPECS.iter().find(|s| s.name == name) else { return Err(c.unsupported()) };
        check_value(spec, value)?;
        if !spec.runtime {
            let text = format!("`{name}` cannot change while the level is open; set it in the stack and open again");
            return Err(Error::new(ErrorKind::InvalidInput).detail(text));
        }
        let mut o = self.options(cx).clone();
        o.set(name, value.clone())?;
        o.check()?;
        if let Some(line) = &mut self.line {
            line.limits = Limits::new(&o, cx);
        }
        self.changed = Some(Box::new(o));
        c.reply::<SetOption>(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_in_which_nothing_waits_is_small() {
        assert!(size_of::<Queue>() <= 32, "{}", size_of::<Queue>());
    }
}
