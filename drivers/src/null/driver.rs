//! The level that only looks.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::op::{Read, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};

use super::Options;

/// The `null` driver.
#[derive(Debug)]
pub struct Driver;

const INFO: Info = Info::new(Options::DRIVER, Shape::Transform, "passes everything; for measuring and testing")
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

    fn intercepts(&self, attr: &dyn Attr, _: Role) -> Intercepts {
        let o = options::<Options>(attr);
        let down = Intercepts::READ | Intercepts::WRITE;
        let up = Intercepts::READ_DONE | Intercepts::WRITE_DONE;
        let sees = match o.intercept.as_str() {
            "none" => Intercepts::NONE,
            "down" => down,
            "up" => up,
            _ => down | up,
        };
        let free = Intercepts::CONCURRENT_READS | Intercepts::CONCURRENT_WRITES;
        sees | Intercepts::BATCHES | if o.gate { Intercepts::NONE } else { free }
    }

    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Null::default()))
    }
}

#[derive(Default)]
struct Null {
    asked: u64,
    moved: u64,
}

impl Level for Null {
    #[inline]
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.asked = self.asked.wrapping_add(op.room() as u64);
        op.pass()
    }

    #[inline]
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.moved = self.moved.wrapping_add(op.got() as u64);
        op.finished()
    }

    #[inline]
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        self.asked = self.asked.wrapping_add(op.len() as u64);
        op.pass()
    }

    #[inline]
    fn write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        self.moved = self.moved.wrapping_add(op.moved() as u64);
        op.finished()
    }
}
