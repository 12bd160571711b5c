//! A world before it is built: which network, which levels between, which drivers in place of others.

use std::sync::{Arc, Mutex};

use xio_core::reactor::{Reactor, Sim, SimConfig};
use xio_core::{Driver, Engine, LevelNode, Stack};

use super::{Bench, World};
use crate::layout;
use crate::probe::{Probes, Side};
use crate::subject::bind;
use crate::verdict::Checked;

type Around<'a> = Box<dyn Fn(Arc<Sim>) -> Arc<dyn Reactor> + 'a>;
type Insert<'a> = Box<dyn Fn(usize, LevelNode) -> LevelNode + 'a>;
type Replace<'a> = Box<dyn Fn(usize, Arc<dyn Driver>) -> Arc<dyn Driver> + 'a>;

/// A world before it is built.
pub struct Stage<'a> {
    bench: &'a Bench,
    seed: u64,
    config: SimConfig,
    reactor: Option<Around<'a>>,
    root: Option<LevelNode>,
    near: Vec<Insert<'a>>,
    far: Vec<Insert<'a>>,
    replace: Option<Replace<'a>>,
    record: bool,
    probes: bool,
}

impl<'a> Stage<'a> {
    pub(super) fn new(bench: &'a Bench, seed: u64) -> Self {
        Self {
            bench,
            seed,
            config: SimConfig::default(),
            reactor: None,
            root: None,
            near: Vec::new(),
            far: Vec::new(),
            replace: None,
            record: false,
            probes: true,
        }
    }

    /// How the simulated network behaves.
    #[must_use]
    pub fn network(mut self, config: SimConfig) -> Self {
        self.config = config;
        self
    }

    /// Puts a reactor round the simulation.
    #[must_use]
    pub fn reactor(mut self, around: impl Fn(Arc<Sim>) -> Arc<dyn Reactor> + 'a) -> Self {
        self.reactor = Some(Box::new(around));
        self
    }

    /// Another tree of levels than the subject's own.
    #[must_use]
    pub fn root(mut self, root: LevelNode) -> Self {
        self.root = Some(root);
        self
    }

    /// Puts levels into the stack of the end that opens. `insert` is asked at every boundary, with
    /// the number of the level below it.
    #[must_use]
    pub fn near(mut self, insert: impl Fn(usize, LevelNode) -> LevelNode + 'a) -> Self {
        self.near.push(Box::new(insert));
        self
    }

    /// The same for the end that accepts, and its server.
    #[must_use]
    pub fn far(mut self, insert: impl Fn(usize, LevelNode) -> LevelNode + 'a) -> Self {
        self.far.push(Box::new(insert));
        self
    }

    /// Takes other drivers in the stack of the end that opens.
    #[must_use]
    pub fn replace(mut self, replace: impl Fn(usize, Arc<dyn Driver>) -> Arc<dyn Driver> + 'a) -> Self {
        self.replace = Some(Box::new(replace));
        self
    }

    /// Keeps every event that a probe sees.
    #[must_use]
    pub fn recorded(mut self) -> Self {
        self.record = true;
        self
    }

    /// Leaves the probes out.
    #[must_use]
    pub fn without_probes(mut self) -> Self {
        self.probes = false;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// Where the levels do not fit, or the system gives no engine.
    pub fn build(self) -> Checked<World> {
        let subject = &self.bench.subject;
        let probes = Probes::new(self.record);
        let base = bind(self.root.clone().unwrap_or_else(|| subject.root()))?;
        let near = self.arrange(&base, &self.near, true, &probes)?;
        let far = self.arrange(&base, &self.far, false, &probes)?;
        let (sim, engine) = if subject.is_real() {
            (None, Engine::builder().owner_driven().build()?)
        } else {
            let sim = Sim::with_config(self.seed, self.config.clone().with_idle_turns(40));
            let reactor: Arc<dyn Reactor> = match &self.reactor {
                Some(around) => around(sim.clone()),
                None => sim.clone(),
            };
            (Some(sim), Engine::builder().reactor(reactor).build()?)
        };
        Ok(World {
            seed: self.seed,
            sim,
            engine,
            near,
            far,
            probes,
            subject: subject.clone(),
            caps: self.bench.caps.clone(),
            rule: self.bench.rule,
            kept: Mutex::default(),
        })
    }

    fn arrange(&self, base: &Stack, inserts: &[Insert<'a>], near: bool, probes: &Probes) -> Checked<Stack> {
        let mut stack = base.clone();
        if let Some(replace) = self.replace.as_ref().filter(|_| near) {
            stack = bind(layout::with_replaced(&stack, &|n, d| replace(n, d)))?;
        }
        for insert in inserts {
            stack = bind(layout::with_inserted(&stack, &|n, b| insert(n, b)))?;
        }
        if self.probes {
            let ids: Vec<String> = stack.levels().map(|l| l.id().to_owned()).collect();
            let side = if near { Side::Near } else { Side::Far };
            stack = bind(layout::with_inserted(&stack, &|n, b| probes.over(side, n, &ids[n], b)))?;
        }
        Ok(stack)
    }
}
