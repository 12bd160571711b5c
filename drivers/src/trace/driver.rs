//! The level that logs. Invariant: what passes is passed on as it came; a number is on an op only between
//! its line down and its line up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;
use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::Cntl;
use xio_core::cx::Event;
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::op::{Accept, Close, Flush, Kind, Listen, Open, Read, Ready, Shutdown, Write};
use xio_core::time::Time;
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};

use super::Options;
use super::line::{Line, is_wanted};

/// Ops below of which is known what they had and when they went; of older ones a line up says less.
const MAX_BELOW: usize = 256;

/// The `trace` driver.
#[derive(Debug, Default)]
pub struct Driver {
    /// Handles and servers so far, so that lines of one can be told from those of another.
    made: AtomicU64,
}

const INFO: Info = Info::new(Options::DRIVER, Shape::Transform, "logs each op through `tracing`, and passes it")
    .with_options(Options::SPECS);

/// The driver, to register or to build stacks with.
pub fn driver() -> Arc<dyn xio_core::Driver> {
    Arc::new(Driver::default())
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
        options::<Options>(attr).intercepts(role)
    }

    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        let options = options::<Options>(attr).clone();
        Ok(Box::new(Tracer {
            severity: options.severity(),
            handle: self.made.fetch_add(1, Ordering::Relaxed) + 1,
            asks: options.has("cntl"),
            ops: 0,
            numbered: 0,
            below: SmallVec::new(),
            options,
        }))
    }
}

/// What is known of an op that went down.
struct Gone {
    op: u64,
    asked: Option<usize>,
    had: usize,
    at: Option<Time>,
}

struct Tracer {
    options: Options,
    severity: tracing::Level,
    handle: u64,
    /// Commands are logged.
    asks: bool,
    ops: u64,
    /// Ops below that have a number. While there are none, an op's word is not looked at on its way up: with
    /// several such levels that could take memory.
    numbered: usize,
    /// The latest last.
    below: SmallVec<[Gone; 2]>,
}

impl Tracer {
    /// An op goes down: its line to fill in and say, if one is wanted on this way.
    #[inline]
    fn down<'l, K: Kind>(
        &mut self,
        cx: &Cx<'_>,
        op: &mut Op<'_, K>,
        asked: Option<usize>,
        had: usize,
    ) -> Option<Line<'l>> {
        if !is_wanted(self.severity) {
            return None;
        }
        self.ops += 1;
        let number = self.ops;
        if self.options.logs_up() {
            *cx.word(op) = number;
            self.numbered += 1;
            if self.below.len() >= MAX_BELOW {
                self.below.remove(0);
            }
            self.below.push(Gone { op: number, asked, had, at: self.options.time.then(|| cx.now()) });
        }
        let line = Line { way: "down", kind: K::KIND.name(), op: Some(number), asked, ..Line::default() };
        self.options.logs_down().then_some(line)
    }

    /// An op comes up, with so many bytes: its line, if it had a number.
    #[inline]
    fn up<'l, K: Kind>(&mut self, cx: &Cx<'_>, op: &mut Op<'_, K>, has: Option<usize>) -> Option<Line<'l>> {
        if self.numbered == 0 {
            return None;
        }
        let number = std::mem::take(cx.word(op));
        if number == 0 {
            return None;
        }
        self.numbered = self.numbered.saturating_sub(1);
        let gone = self.below.iter().rposition(|g| g.op == number).map(|i| self.below.remove(i));
        let (asked, had, at) = gone.map_or((None, 0, None), |g| (g.asked, g.had, g.at));
        let took = at.map(|at| u64::try_from(cx.now().since(at).as_nanos()).unwrap_or(u64::MAX));
        let moved = has.map(|n| n.saturating_sub(had));
        Some(Line { way: "up", kind: K::KIND.name(), op: Some(number), asked, moved, took_ns: took, ..Line::default() })
    }

    fn say(&self, cx: &Cx<'_>, line: Line<'_>) {
        let at = self.options.name.as_deref().unwrap_or_else(|| cx.id());
        Line { at, handle: self.handle, ..line }.say(self.severity);
    }
}

/// The ways of those kinds on which there is nothing more to say.
macro_rules! plain {
    ($($way:ident $method:ident $K:ident ($($more:expr),+) $answer:ident;)+) => {$(
        fn $method<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, $K>) -> Flow<'o> {
            if let Some(line) = self.$way(cx, &mut op, $($more),+) {
                self.say(cx, Line { error: op.error(), ..line });
            }
            op.$answer()
        }
    )+};
}

impl Level for Tracer {
    plain! {
        up open_done Open (None) finished;
        up close_done Close (None) finished;
        down flush Flush (None, 0) pass;
        up flush_done Flush (None) finished;
        down shutdown Shutdown (None, 0) pass;
        up shutdown_done Shutdown (None) finished;
        up ready_done Ready (None) finished;
        down accept Accept (None, 0) pass;
        up accept_done Accept (None) finished;
    }

    fn close<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        if let Some(line) = self.down(cx, &mut op, None, 0) {
            self.say(cx, Line { mode: Some(op.mode()), ..line });
        }
        op.pass()
    }

    fn ready<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Ready>) -> Flow<'o> {
        if let Some(line) = self.down(cx, &mut op, None, 0) {
            self.say(cx, Line { direction: Some(op.direction()), ..line });
        }
        op.pass()
    }

    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        if let Some(line) = self.down(cx, &mut op, None, 0) {
            let passive = op.is_passive().then_some(true);
            let contact = (!op.contact().is_none()).then(|| op.contact());
            self.say(cx, Line { contact, passive, ..line });
        }
        op.pass()
    }

    fn listen<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        if let Some(line) = self.down(cx, &mut op, None, 0) {
            self.say(cx, Line { contact: Some(op.contact()), ..line });
        }
        op.pass()
    }

    fn listen_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        if let Some(line) = self.up(cx, &mut op, None) {
            self.say(cx, Line { error: op.error(), contact: Some(op.contact()), ..line });
        }
        op.finished()
    }

    #[inline]
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let asked = (op.room() != usize::MAX).then(|| op.room());
        let had = op.got();
        if let Some(line) = self.down(cx, &mut op, asked, had) {
            self.say(cx, Line { least: Some(op.wanted()), ..line });
        }
        op.pass()
    }

    #[inline]
    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let has = op.got();
        if let Some(line) = self.up(cx, &mut op, Some(has)) {
            self.say(cx, Line { error: op.error(), ..line });
        }
        op.finished()
    }

    #[inline]
    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let (len, had) = (op.len(), op.moved());
        if let Some(line) = self.down(cx, &mut op, Some(len - had), had) {
            let messages = Some(op.message_count()).filter(|n| *n > 1);
            self.say(cx, Line { messages, ..line });
        }
        op.pass()
    }

    #[inline]
    fn write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let has = op.moved();
        if let Some(line) = self.up(cx, &mut op, Some(has)) {
            self.say(cx, Line { error: op.error(), ..line });
        }
        op.finished()
    }

    fn event(&mut self, cx: &mut Cx<'_>, event: &Event) -> bool {
        if is_wanted(self.severity) {
            let kind = format!("{:?}", event.kind);
            self.say(cx, Line { way: "event", kind: &kind, ..Line::default() });
        }
        false
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if self.asks && is_wanted(self.severity) {
            self.say(cx, Line { way: "ask", kind: c.name(), ..Line::default() });
        }
        Err(c.unsupported())
    }
}
