//! A level between two others that fails what passes it. Invariant: until the fault it passes
//! everything, and an op that has an error already is not failed again.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, OpKind, Role, Shape};
use xio_core::op::{Accept, Close, Flush, Kind, Listen, Open, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, LevelNode, Op};

use super::Faults;

xio_core::options! {
    /// It has none.
    pub struct FaultyOptions for "faulty" {}
}

const INFO: Info = Info::new("faulty", Shape::Transform, "fails the n-th op that passes");

impl Faults {
    /// A level over `below` that fails the n-th op which passes it, on its way down or up. A close is
    /// failed on its way up only.
    #[must_use]
    pub fn level(&self, below: LevelNode) -> LevelNode {
        LevelNode::new(Arc::new(Faulty(self.clone()))).over(below)
    }
}

struct Faulty(Faults);

impl xio_core::Driver for Faulty {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(FaultyOptions::default())
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
        Ok(Box::new(AtFault(self.0.clone())))
    }
}

struct AtFault(Faults);

impl AtFault {
    fn fault<K: Kind>(&self, cx: &Cx<'_>, op: &Op<'_, K>, up: bool) -> Option<Error> {
        if op.error().is_some() || (K::KIND == OpKind::Close && !up) {
            return None;
        }
        self.0
            .call(Some(K::KIND), || format!("{} {} `{}`", K::KIND, if up { "up through" } else { "down to" }, cx.id()))
    }
}

macro_rules! passes {
    ($($K:ident $down:ident $done:ident;)+) => {$(
        fn $down<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            match self.fault(cx, &op, false) {
                Some(e) => op.failed(e),
                None => op.pass(),
            }
        }
        fn $done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            match self.fault(cx, &op, true) {
                Some(e) => op.failed(e),
                None => op.finished(),
            }
        }
    )+};
}

impl Level for AtFault {
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
