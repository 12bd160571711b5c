//! A level that puts something into each link, and takes it out when the link is opened. Invariant: what
//! it puts in is watched by a nest.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::op::{Accept, Open};
use xio_core::{Cx, Driver, Error, ErrorKind, Flow, Level, LevelNode, Op};

use crate::canary::{Canary, Nest};

xio_core::options! {
    /// It has none.
    pub struct TagOptions for "tag" {}
}

const INFO: Info = Info::new("tag", Shape::Transform, "puts a tag on each link");

/// One of them over `below`.
#[must_use]
pub fn tags(parts: &Nest, below: LevelNode) -> LevelNode {
    LevelNode::new(Arc::new(Tag(parts.clone()))).over(below)
}

struct Tag(Nest);

impl Driver for Tag {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(TagOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Handle => Intercepts::OPEN,
            Role::Server => Intercepts::ACCEPT_DONE,
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

impl Level for Tag {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        drop(op.link(cx));
        op.pass()
    }
    fn accept_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        if op.error().is_none() {
            let (bird, canary) = Canary::new();
            self.0.add(canary);
            op.set_link(cx, Box::new(bird));
        }
        op.finished()
    }
}
