//! The level that waits for its buckets. Invariant: an op is held only while its bucket lacks what it
//! needs, and of each direction one op is in or below the level.

use std::sync::Arc;

use xio_core::attr::{Attr, check_value};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, GetOption, SetOption};
use xio_core::cx::Timer;
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::io::Direction;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Flush, OpId, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::Options;
use super::bucket::Bucket;
use crate::part::{Next, Parts};

const READ: u32 = 0;
const WRITE: u32 = 1;
const READY: u32 = 2;

/// The `rate` driver.
#[derive(Debug)]
pub struct Driver;

const INFO: Info = Info::new(Options::DRIVER, Shape::Transform, "limits bytes a second with a token bucket")
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

    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::NONE,
            Role::Handle => {
                Intercepts::READ
                    | Intercepts::READ_DONE
                    | Intercepts::WRITE
                    | Intercepts::FLUSH
                    | Intercepts::SHUTDOWN
                    | Intercepts::READY
                    | Intercepts::BATCHES
            }
        }
    }

    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Limiter {
            options: options::<Options>(attr).clone(),
            borders: None,
            read: None,
            write: None,
            reading: None,
            writing: None,
            had: 0,
            is_part: false,
            parts: Parts::default(),
            behind: Vec::new(),
            readies: Vec::new(),
        }))
    }
}

/// An op that stays behind the write before it.
enum Behind {
    Flush(Held<Flush>),
    Shutdown(Held<Shutdown>),
}

struct Limiter {
    options: Options,
    /// Whether what lies below has borders; looked up once.
    borders: Option<bool>,
    read: Option<Bucket>,
    write: Option<Bucket>,
    /// The read that waits for its bucket.
    reading: Option<(Held<Read>, Timer)>,
    /// The write that waits for its bucket.
    writing: Option<(Held<Write>, Timer)>,
    /// Bytes the read had when it went down.
    had: usize,
    /// It went down for a part of its bytes.
    is_part: bool,
    parts: Parts,
    behind: Vec<Behind>,
    readies: Vec<(Held<Ready>, Timer)>,
}

impl Limiter {
    fn has_borders(&mut self, cx: &Cx<'_>) -> bool {
        *self.borders.get_or_insert_with(|| {
            (self.read, self.write) = (
                self.options.reads().map(|o| Bucket::new(o, cx.now())),
                self.options.writes().map(|o| Bucket::new(o, cx.now())),
            );
            cx.caps_below().is_some_and(|c| c.unit.has_borders())
        })
    }

    /// No write waits here any more: what stayed behind it goes on.
    fn written(&mut self, cx: &mut Cx<'_>) {
        for op in self.behind.drain(..) {
            match op {
                Behind::Flush(h) => cx.retry(h),
                Behind::Shutdown(h) => cx.retry(h),
            }
        }
    }

    fn holds_write(&self) -> bool {
        self.writing.is_some() || self.parts.is_below()
    }

    /// Takes new limits in, and has those who wait look again.
    fn change(&mut self, cx: &mut Cx<'_>, options: Options) {
        self.has_borders(cx);
        self.options = options;
        let now = cx.now();
        for (bucket, wanted) in [(&mut self.read, self.options.reads()), (&mut self.write, self.options.writes())] {
            match (bucket.as_mut(), wanted) {
                (Some(b), Some(o)) => b.change(o, now),
                (_, o) => *bucket = o.map(|o| Bucket::new(o, now)),
            }
        }
        if let Some((held, _)) = self.reading.take() {
            cx.retry(held);
        }
        if let Some((held, _)) = self.writing.take() {
            cx.retry(held);
        }
        self.readies.drain(..).for_each(|(h, _)| cx.retry(h));
    }
}

impl Level for Limiter {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let borders = self.has_borders(cx);
        (self.had, self.is_part) = (op.got(), false);
        let Some(bucket) = &mut self.read else { return op.pass() };
        if op.room() == 0 && !borders {
            return op.pass();
        }
        let least = if borders { 1 } else { bucket.part(op.room()) };
        let wait = bucket.wait(least, cx.now());
        if !wait.is_zero() {
            let (held, flow) = op.hold(cx);
            self.reading = Some((held, cx.after(wait, READ)));
            return flow;
        }
        if borders {
            return op.pass();
        }
        let most = op.room().min(bucket.holds());
        let wanted = op.wanted().min(most);
        self.is_part = true;
        op.pass_part(most, wanted)
    }

    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let Some(bucket) = &mut self.read else { return op.finished() };
        if std::mem::take(&mut self.is_part) {
            // Puts its count back into that of the read.
            op.below();
        }
        bucket.take(op.got().saturating_sub(self.had));
        op.finished()
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let borders = self.has_borders(cx);
        let mut over = false;
        let op = match self.parts.enter(op, |_| over = true) {
            Next::More(op) => op,
            Next::Answered(flow) => {
                if over {
                    self.written(cx);
                }
                return flow;
            }
        };
        let Some(bucket) = &mut self.write else {
            self.written(cx);
            return op.pass();
        };
        let left = op.len() - op.moved();
        let least = if borders { left } else { bucket.part(left) };
        let wait = bucket.wait(least, cx.now());
        if !wait.is_zero() {
            let (held, flow) = op.hold(cx);
            self.writing = Some((held, cx.after(wait, WRITE)));
            return flow;
        }
        let most = bucket.holds();
        if borders || (left <= most && !self.parts.has_begun()) {
            bucket.take(left);
            self.written(cx);
            return op.pass();
        }
        let n = left.min(most);
        bucket.take(n);
        self.parts.send(cx, op, n, WRITE)
    }

    fn own_write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        self.parts.returned(cx, &mut op);
        op.finished()
    }

    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        if !self.holds_write() {
            return op.pass();
        }
        let (held, flow) = op.hold(cx);
        self.behind.push(Behind::Flush(held));
        flow
    }

    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        if !self.holds_write() {
            return op.pass();
        }
        let (held, flow) = op.hold(cx);
        self.behind.push(Behind::Shutdown(held));
        flow
    }

    fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        self.has_borders(cx);
        let bucket = match op.direction() {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        let wait = bucket.as_mut().map(|b| b.wait(1, cx.now())).unwrap_or_default();
        if wait.is_zero() {
            return op.pass();
        }
        let (held, flow) = op.hold(cx);
        self.readies.push((held, cx.after(wait, READY)));
        flow
    }

    fn timer(&mut self, cx: &mut Cx<'_>, tag: u32) {
        match tag {
            READ => {
                if let Some((held, _)) = self.reading.take() {
                    cx.retry(held);
                }
            }
            WRITE => {
                if let Some((held, _)) = self.writing.take() {
                    cx.retry(held);
                }
            }
            // Those it was too early for wait on.
            _ => self.readies.drain(..).for_each(|(h, _)| cx.retry(h)),
        }
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        if let Some(keep) = self.parts.cancel(cx, id, reason) {
            return keep;
        }
        self.reading.take_if(|(h, _)| h.id() == id);
        if self.writing.take_if(|(h, _)| h.id() == id).is_some() {
            self.parts.clear();
            self.written(cx);
        }
        self.behind.retain(|b| match b {
            Behind::Flush(h) => h.id() != id,
            Behind::Shutdown(h) => h.id() != id,
        });
        self.readies.retain(|(h, _)| h.id() != id);
        Cancel::Take
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if let Some(GetOption(name)) = c.command()
            && Options::SPECS.iter().any(|s| s.name == name)
        {
            return c.reply::<GetOption>(self.options.value(name));
        }
        let Some(SetOption(name, value)) = c.command() else { return Err(c.unsupported()) };
        let Some(spec) = Options::SPECS.iter().find(|s| s.name == name) else { return Err(c.unsupported()) };
        check_value(spec, value)?;
        let mut options = self.options.clone();
        options.set(name, value.clone())?;
        options.check()?;
        self.change(cx, options);
        c.reply::<SetOption>(())
    }
}
