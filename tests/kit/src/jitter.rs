//! A level that takes its time and cuts bytes up: ops that would finish inline finish late, reads come
//! in parts. Invariant: what it lets go of later it lets go of in the order it came, so nothing but
//! time and the size of parts changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs, Unit};
use xio_core::cx::Timer;
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::io::Direction;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Flush, OpId, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, LevelNode, Op};

use crate::dice::Dice;

/// Into which parts reads of a stream are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// They are left whole.
    Whole,
    /// One byte.
    OneByte,
    /// Half of what was asked for.
    Half,
    /// Something between.
    Random,
}

/// How it behaves.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Jitter {
    /// Seed of its dice.
    pub seed: u64,
    /// How many of a hundred ops are late, on their way down.
    pub late: u64,
    /// Longest delay.
    pub most: Duration,
    /// How reads are cut.
    pub cut: Cut,
}

impl Jitter {
    /// Half of all ops up to a millisecond late.
    pub fn late(seed: u64) -> Self {
        Self { seed, late: 50, most: Duration::from_millis(1), cut: Cut::Whole }
    }

    /// Nothing late, reads cut.
    pub fn cutting(seed: u64, cut: Cut) -> Self {
        Self { seed, late: 0, most: Duration::ZERO, cut }
    }

    /// Cuts reads as well.
    #[must_use]
    pub fn with_cut(mut self, cut: Cut) -> Self {
        self.cut = cut;
        self
    }

    /// A level of this behaviour over `below`. Reads with borders are never cut.
    #[must_use]
    pub fn over(self, below: LevelNode) -> LevelNode {
        LevelNode::new(Arc::new(self)).over(below)
    }
}

xio_core::options! {
    /// What it does is fixed when it is made.
    pub struct JitterOptions for "jitter" {}
}

const INFO: Info = Info::new("jitter", Shape::Transform, "finishes late and cuts reads up");

impl xio_core::Driver for Jitter {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(JitterOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        if role == Role::Server {
            return Intercepts::NONE;
        }
        let cuts = if self.cut == Cut::Whole { Intercepts::CONCURRENT_READS } else { Intercepts::READ_DONE };
        cuts | Intercepts::READ
            | Intercepts::WRITE
            | Intercepts::FLUSH
            | Intercepts::SHUTDOWN
            | Intercepts::READY
            | Intercepts::CONCURRENT_WRITES
            | Intercepts::BATCHES
            | Intercepts::CLOSE
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        let queues = [VecDeque::new(), VecDeque::new()];
        Ok(Box::new(Late { set: *self, dice: Dice::new(self.seed), queues, timers: [None, None], part: false }))
    }
}

/// An op that goes on later.
enum Token {
    Read(Held<Read>),
    Write(Held<Write>),
    Flush(Held<Flush>),
    Shutdown(Held<Shutdown>),
    Ready(Held<Ready>),
}

impl Token {
    fn id(&self) -> OpId {
        match self {
            Self::Read(h) => h.id(),
            Self::Write(h) => h.id(),
            Self::Flush(h) => h.id(),
            Self::Shutdown(h) => h.id(),
            Self::Ready(h) => h.id(),
        }
    }
}

struct Late {
    set: Jitter,
    dice: Dice,
    /// What waits, reads and the rest, each in its order.
    queues: [VecDeque<Token>; 2],
    timers: [Option<Timer>; 2],
    /// The read below is a part: there is something to take back when it comes up.
    part: bool,
}

impl Late {
    /// Whether an op of this side waits: for its own delay, or behind one that does.
    fn waits(&mut self, side: usize) -> bool {
        !self.queues[side].is_empty() || self.set.late > 0 && self.dice.chance(self.set.late)
    }

    fn put(&mut self, cx: &mut Cx<'_>, side: usize, token: Token) {
        self.queues[side].push_back(token);
        self.wind(cx, side);
    }

    fn wind(&mut self, cx: &mut Cx<'_>, side: usize) {
        if self.timers[side].is_none() && !self.queues[side].is_empty() {
            let most = u64::try_from(self.set.most.as_nanos()).unwrap_or(u64::MAX).max(1);
            let tag = u32::from(side == 1);
            self.timers[side] = Some(cx.after(Duration::from_nanos(self.dice.roll() % most), tag));
        }
    }

    fn cut<'o>(&mut self, cx: &Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let room = op.room();
        let part = match self.set.cut {
            _ if cx.caps_below().is_none_or(|c| c.unit != Unit::Stream) => room,
            Cut::Whole => room,
            Cut::OneByte => 1,
            Cut::Half => room.div_ceil(2),
            Cut::Random => self.dice.between(1, room.min(1 << 16) + 1),
        };
        if part >= room {
            return op.pass();
        }
        self.part = true;
        let wanted = op.wanted().min(part);
        op.pass_part(part, wanted)
    }
}

macro_rules! late {
    ($($K:ident $down:ident $side:expr;)+) => {$(
        fn $down<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            let side: usize = $side(&op);
            if !self.waits(side) {
                return op.pass();
            }
            let (held, flow) = op.hold(cx);
            self.put(cx, side, Token::$K(held));
            flow
        }
    )+};
}

impl Level for Late {
    late! {
        Write write |_: &Op<'o, Write>| 1;
        Flush flush |_: &Op<'o, Flush>| 1;
        Shutdown shutdown |_: &Op<'o, Shutdown>| 1;
        Ready ready |op: &Op<'o, Ready>| usize::from(op.direction() == Direction::Write);
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        // With cutting the gate lets one read in, which comes again for each part.
        if self.set.cut != Cut::Whole || !self.waits(0) {
            return self.cut(cx, op);
        }
        let (held, flow) = op.hold(cx);
        self.put(cx, 0, Token::Read(held));
        flow
    }

    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        // Asked for where there is none, it would be that of a level above.
        if std::mem::take(&mut self.part) {
            op.below();
        }
        match op.clear_error() {
            Some(e) => op.failed(e),
            None => op.finished(),
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, tag: u32) {
        let side = usize::from(tag == 1);
        self.timers[side] = None;
        match self.queues[side].pop_front() {
            Some(Token::Read(h)) => cx.pass_held(h),
            Some(Token::Write(h)) => cx.pass_held(h),
            Some(Token::Flush(h)) => cx.pass_held(h),
            Some(Token::Shutdown(h)) => cx.pass_held(h),
            Some(Token::Ready(h)) => cx.pass_held(h),
            None => {}
        }
        self.wind(cx, side);
    }

    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.queues.iter_mut().for_each(|q| q.retain(|t| t.id() != id));
        Cancel::Take
    }
}
