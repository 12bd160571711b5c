//! A level that sees everything and passes it: what A10 puts between levels. It uses the scratch word
//! that all undeclared levels share, so that a level which keeps something there without declaring
//! [`Intercepts::WORD`] is found out. Invariant: it changes nothing else.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::op::{Accept, Close, Flush, Kind, Listen, Open, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, LevelNode, Op};

xio_core::options! {
    /// It has none.
    pub struct NopOptions for "nop" {}
}

const INFO: Info = Info::new("nop", Shape::Transform, "sees everything and passes it");

/// Every kind of op both ways, without a gate.
pub(crate) fn everything() -> Intercepts {
    [
        Intercepts::CONCURRENT_READS,
        Intercepts::CONCURRENT_WRITES,
        Intercepts::BATCHES,
        Intercepts::OPEN,
        Intercepts::OPEN_DONE,
        Intercepts::CLOSE,
        Intercepts::CLOSE_DONE,
        Intercepts::READ,
        Intercepts::READ_DONE,
        Intercepts::WRITE,
        Intercepts::WRITE_DONE,
        Intercepts::FLUSH,
        Intercepts::FLUSH_DONE,
        Intercepts::SHUTDOWN,
        Intercepts::SHUTDOWN_DONE,
        Intercepts::READY,
        Intercepts::READY_DONE,
        Intercepts::ACCEPT,
        Intercepts::ACCEPT_DONE,
        Intercepts::LISTEN,
        Intercepts::LISTEN_DONE,
    ]
    .into_iter()
    .fold(Intercepts::NONE, |all, i| all | i)
}

/// One of them over `below`.
#[must_use]
pub fn nop(below: LevelNode) -> LevelNode {
    LevelNode::new(Arc::new(Nop)).over(below)
}

struct Nop;

impl xio_core::Driver for Nop {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(NopOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        everything()
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Self))
    }
}

fn scribble<K: Kind>(cx: &Cx<'_>, op: &mut Op<'_, K>) {
    *cx.word(op) = 0x5C21_BB1E_5C21_BB1E;
}

macro_rules! passes {
    ($($K:ident $down:ident $done:ident;)+) => {$(
        fn $down<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, $K>) -> Flow<'o> {
            scribble(cx, &mut op);
            op.pass()
        }
        fn $done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, $K>) -> Flow<'o> {
            scribble(cx, &mut op);
            op.finished()
        }
    )+};
}

impl Level for Nop {
    passes! {
        Open open open_done;
        Close close close_done;
        Read read read_done;
        Write write write_done;
        Flush flush flush_done;
        Shutdown shutdown shutdown_done;
        Ready ready ready_done;
        Accept accept accept_done;
        Listen listen listen_done;
    }
}
