//! Bottoms that no shipped driver gives yet. `dgram`: datagrams in order and without loss, made of
//! the messages of a pair in the process. Invariant: a datagram that does not fit its reader is gone.

use std::sync::Arc;

use bytes::BytesMut;
use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::op::{Read, Write};
use xio_core::{Cx, Driver, Error, ErrorKind, Flow, Level, LevelNode, Op};

use crate::subject::in_process;

/// Longest datagram.
const MAX: usize = 65_507;

xio_core::options! {
    /// It has none.
    pub struct DgramOptions for "dgram" {}
}

const INFO: Info = Info::new("dgram", Shape::Transform, "datagrams over messages");

/// The driver.
pub fn dgram() -> Arc<dyn Driver> {
    Arc::new(Dgram)
}

/// Datagrams between two handles of one process.
pub fn datagrams() -> LevelNode {
    LevelNode::new(dgram()).over(in_process(true))
}

struct Dgram;

impl Driver for Dgram {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(DgramOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::MESSAGE
    }
    fn caps(&self, _: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(Caps::datagram(MAX))
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::NONE,
            Role::Handle => Intercepts::READ | Intercepts::READ_DONE | Intercepts::WRITE,
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Self))
    }
}

impl Level for Dgram {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.pass_into(BytesMut::with_capacity(MAX), 1)
    }

    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let error = op.clear_error();
        let below = op.below();
        if let Some(e) = error {
            return op.failed(e);
        }
        let len = below.buf.len();
        if op.put(&below.buf) < len {
            return op.failed(ErrorKind::Truncated { len });
        }
        op.finished()
    }

    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let len = op.len();
        if len > MAX {
            let text = format!("{len} bytes, the limit is {MAX}");
            return op.failed(Error::new(ErrorKind::TooLong).detail(text));
        }
        op.pass()
    }
}
