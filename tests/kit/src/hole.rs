//! A level that answers nothing: whatever comes in between open and close it holds, and keeps when it
//! is asked to stop. Invariant: nothing leaves it but by force.

use std::any::Any;
use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Flush, OpId, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, LevelNode, Op};

xio_core::options! {
    /// It has none.
    pub struct HoleOptions for "hole" {}
}

const INFO: Info = Info::new("hole", Shape::Transform, "answers nothing");

/// One over `below`.
#[must_use]
pub fn over(below: LevelNode) -> LevelNode {
    LevelNode::new(Arc::new(Hole)).over(below)
}

struct Hole;

impl xio_core::Driver for Hole {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(HoleOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        crate::nop::everything()
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::<Holds>::default())
    }
}

#[derive(Default)]
struct Holds(Vec<Box<dyn Any + Send>>);

macro_rules! holds {
    ($($K:ident $down:ident;)+) => {$(
        fn $down<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            let (held, flow) = op.hold(cx);
            self.0.push(Box::new(held));
            flow
        }
    )+};
}

impl Level for Holds {
    holds! {
        Read read;
        Write write;
        Flush flush;
        Shutdown shutdown;
        Ready ready;
        Accept accept;
    }

    fn cancel(&mut self, _: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
        Cancel::Keep
    }
}
