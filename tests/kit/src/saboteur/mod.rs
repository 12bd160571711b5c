//! Drivers each of which breaks a rule: the negative proofs of the kit. A rule whose test nothing can
//! make fail proves nothing. Invariant: every rule that is written has a proof, and a saboteur breaks
//! the rule it is for and those it names, no other.

pub mod a_life;
pub mod b_open;
pub mod c_data;
pub mod d_end;
pub mod e_cancel;
pub mod f_attr;
pub mod g_server;
pub mod h_resources;

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::{Error, ErrorKind, Level, LevelNode};

use crate::Subject;

/// How it is shown that the test of a rule can fail.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Proof {
    /// A driver that breaks it.
    Driver {
        /// Makes the driver.
        make: fn() -> Subject,
        /// Rules that are broken with it, where one cannot be broken alone.
        also: &'static [&'static str],
    },
    /// Code that breaks it does not compile: the doctests of this item.
    CompileFail(&'static str),
    /// Only a broken engine breaks it.
    Engine {
        /// The fault, as it is planted in an engine that is built with `--cfg planted`.
        fault: &'static str,
        /// Rules that are broken with it.
        also: &'static [&'static str],
    },
}

/// All proofs, by the id of their rule.
pub fn proofs() -> impl Iterator<Item = &'static (&'static str, Proof)> {
    let groups = [
        a_life::PROOFS,
        b_open::PROOFS,
        c_data::PROOFS,
        d_end::PROOFS,
        e_cancel::PROOFS,
        f_attr::PROOFS,
        g_server::PROOFS,
        h_resources::PROOFS,
    ];
    groups.into_iter().flatten()
}

xio_core::options! {
    /// A saboteur has none.
    pub struct SaboteurOptions for "saboteur" {}
}

const INFO: Info = Info::new("saboteur", Shape::Transform, "breaks a rule of the contract");

struct Saboteur<F> {
    needs: Needs,
    sees: Intercepts,
    make: F,
}

/// A transform as a subject. It needs what `needs` says, and gives what is below it.
pub(crate) fn transform<L: Level + 'static>(
    needs: Needs,
    sees: Intercepts,
    make: impl Fn() -> L + Send + Sync + 'static,
) -> Subject {
    Subject::transform(Arc::new(Saboteur { needs, sees, make }))
}

/// The same as a level over `below`, which is number `n`: rules put what they need between levels in
/// this way.
pub(crate) fn level<L: Level + 'static>(
    n: usize,
    needs: Needs,
    sees: Intercepts,
    make: impl Fn() -> L + Send + Sync + 'static,
    below: LevelNode,
) -> LevelNode {
    LevelNode::new(Arc::new(Saboteur { needs, sees, make })).with_id(format!("rule-{n}")).over(below)
}

impl<L: Level + 'static, F: Fn() -> L + Send + Sync + 'static> Driver for Saboteur<F> {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(SaboteurOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        self.needs.clone()
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Handle => self.sees,
            Role::Server => Intercepts::NONE,
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new((self.make)()))
    }
}
