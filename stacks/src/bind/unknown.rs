//! The stand-in for a driver that does not exist, so that the levels round it can still be checked.
//! Invariant: its shape is never at fault and it fits over and under everything; a stack with one
//! in it is never given out.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::level::Level;
use xio_core::{Error, ErrorKind};

use crate::spec::LevelSpec;

xio_core::options! {
    /// None.
    pub struct NoOptions for "unknown" {}
}

pub(super) struct Unknown(Info);

impl Unknown {
    /// A driver of the shape that `spec` needs in its place.
    pub(super) fn standing_for(spec: &LevelSpec, is_last: bool) -> Arc<dyn Driver> {
        let shape = match (is_last, spec.branches().is_empty()) {
            (true, true) => Shape::Transport,
            (true, false) => Shape::Branching,
            (false, _) => Shape::Transform,
        };
        Arc::new(Self(Info::new(NoOptions::DRIVER, shape, "")))
    }
}

impl Driver for Unknown {
    fn info(&self) -> &Info {
        &self.0
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(NoOptions::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        if self.0.shape == Shape::Transport { Needs::NOTHING } else { Needs::ANY }
    }

    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(below.first().map(|b| b.caps.clone()).unwrap_or_else(Caps::stream))
    }

    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::NONE
    }

    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Err(ErrorKind::Unsupported.into())
    }
}
