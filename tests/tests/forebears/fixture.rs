//! A driver whose levels a test makes itself.

use std::sync::Arc;
use std::time::Duration;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::{Engine, Error, ErrorKind, Handle, Level, LevelNode, Stack};

/// Long enough for anything that comes at all.
pub(crate) const LONG: Duration = Duration::from_secs(30);

xio_core::options! {
    /// A fixture has none.
    pub struct Options for "fixture" {}
}

struct Fixture<F> {
    info: Info,
    sees: Intercepts,
    make: F,
}

impl<L: Level + 'static, F: Fn() -> L + Send + Sync + 'static> Driver for Fixture<F> {
    fn info(&self) -> &Info {
        &self.info
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        if self.info.shape == Shape::Transport { Needs::NOTHING } else { Needs::ANY }
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(below.first().map_or_else(Caps::stream, |b| b.caps.clone()))
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        self.sees
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new((self.make)()))
    }
}

/// A level of this shape.
pub(crate) fn level<L: Level + 'static>(
    shape: Shape,
    sees: Intercepts,
    make: impl Fn() -> L + Send + Sync + 'static,
) -> LevelNode {
    LevelNode::new(Arc::new(Fixture { info: Info::new("fixture", shape, "for tests"), sees, make }))
}

/// Opens a stack that needs no contact.
pub(crate) fn open(engine: &Engine, top: LevelNode) -> Handle {
    engine.open(&Stack::new(top).unwrap(), ()).deadline(LONG).wait().unwrap()
}

/// The kind of an error, `None` for success.
pub(crate) fn kind<T>(r: Result<T, Error>) -> Option<ErrorKind> {
    r.err().map(|e| e.kind())
}
