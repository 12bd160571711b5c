//! Levels that answer commands of the kit, to see whom a command reaches. Invariant: they see no op.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, Command};
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::{Cx, Driver, Error, ErrorKind, Level, LevelNode};

use crate::bench::Tell;

/// Those that heard a command, in order.
pub type Heard = Tell<usize>;

/// Asks a teller for its number.
pub struct WhoAreYou;
impl Command for WhoAreYou {
    type Reply = usize;
    const NAME: &'static str = "WhoAreYou";
}

/// The same, but only the last one answers.
pub struct Deepest;
impl Command for Deepest {
    type Reply = usize;
    const NAME: &'static str = "Deepest";
}

/// No teller answers it.
pub struct Unanswered;
impl Command for Unanswered {
    type Reply = usize;
    const NAME: &'static str = "Unanswered";
}

xio_core::options! {
    /// It has none.
    pub struct TellerOptions for "teller" {}
}

const INFO: Info = Info::new("teller", Shape::Transform, "says who it is");

/// Number `n` over `below`; `last` is the number of the last one.
#[must_use]
pub fn teller(n: usize, last: usize, heard: &Heard, below: LevelNode) -> LevelNode {
    let teller = Teller { n, last, heard: heard.clone() };
    LevelNode::new(Arc::new(teller)).with_id(format!("teller-{n}")).over(below)
}

#[derive(Clone)]
struct Teller {
    n: usize,
    last: usize,
    heard: Heard,
}

impl Driver for Teller {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(TellerOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::NONE
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Level for Teller {
    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        self.heard.note(self.n);
        if c.command::<WhoAreYou>().is_some() {
            return c.reply::<WhoAreYou>(self.n);
        }
        if c.command::<Deepest>().is_some() && self.n == self.last {
            return c.reply::<Deepest>(self.n);
        }
        Err(c.unsupported())
    }
}
