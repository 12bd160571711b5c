//! A world: everything in it ends with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use xio_core::caps::Caps;
use xio_core::handle::OpenCall;
use xio_core::reactor::Sim;
use xio_core::time::Time;
use xio_core::{Contact, Engine, Handle, Server, Stack};

use super::{Guests, LONG, Pair, Tell};
use crate::probe::Probes;
use crate::subject::Subject;
use crate::verdict::{Checked, Stop};

/// An engine, a network and the two stacks of a subject. Everything in it ends with it.
pub struct World {
    /// The seed of its network.
    pub seed: u64,
    /// The simulation; `None` on real sockets.
    pub sim: Option<Arc<Sim>>,
    /// The engine, turned by this thread.
    pub engine: Engine,
    /// The stack of the end that opens.
    pub near: Stack,
    /// The stack of the end that accepts.
    pub far: Stack,
    /// What the probes have seen.
    pub probes: Probes,
    pub(super) subject: Subject,
    pub(super) caps: Caps,
    pub(super) rule: &'static str,
    pub(super) kept: Mutex<Vec<Box<dyn std::any::Any + Send>>>,
}

impl World {
    /// Runs `f` here, and looks this world through.
    ///
    /// # Errors
    /// What `f` found, or what a probe has seen.
    pub fn run_rule(&self, f: &mut impl FnMut(&Self) -> Checked) -> Checked {
        let result = f(self);
        // What is known to be broken fails the tests of its own rule alone.
        let counts = |rule: &str| rule == self.rule || !self.subject.is_known(rule);
        let broken: Vec<_> = self.probes.complaints().into_iter().filter(|c| counts(c.rule)).collect();
        self.end();
        match (result, broken.first()) {
            // What a probe has seen is nearer to the cause than what came of it.
            (Err(Stop::Fail(rule, text)), Some(c)) if rule.unwrap_or(self.rule) != c.rule => {
                Err(Stop::Fail(Some(c.rule), format!("{} (so {}: {text})", c.text, self.rule)))
            }
            (Err(Stop::Fail(rule, text)), Some(c)) => Err(Stop::Fail(rule, format!("{text} (seen: {})", c.text))),
            (Ok(()), Some(c)) => Err(Stop::Fail(Some(c.rule), c.text.clone())),
            (result, _) => result,
        }
    }

    /// Stops the engine. Ops that are still about may end as they like.
    pub fn end(&self) {
        self.probes.may_kill();
        self.release();
        self.engine.shutdown();
    }

    /// What the subject's stack gives.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The simulated network.
    ///
    /// # Errors
    /// Not applicable on real sockets.
    pub fn sim(&self) -> Checked<&Arc<Sim>> {
        self.sim.as_ref().ok_or_else(|| Stop::not_applicable("on real sockets"))
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.engine.now()
    }

    /// Whether no time has passed since then; real time always passes.
    pub fn stands_at(&self, since: Time) -> bool {
        self.sim.is_none() || self.now() == since
    }

    /// Runs until nothing more can happen; on real sockets for a short while. Repeating timers may
    /// run for a minute of virtual time.
    pub fn run(&self) {
        if self.sim.is_none() {
            return self.run_for(Duration::from_millis(200));
        }
        let until = self.now() + Duration::from_secs(60);
        self.run_until(|| self.now() > until);
    }

    /// Runs until `done` says so or nothing more can happen; on real sockets until long after it should have. Says
    /// whether it was `done`.
    pub fn run_until(&self, mut done: impl FnMut() -> bool) -> bool {
        if let Some(sim) = &self.sim {
            return sim.run_until(&self.engine, done);
        }
        let until = self.now() + Duration::from_secs(10);
        while !done() && self.now() < until {
            self.engine.turn(Some(Duration::from_millis(5)));
        }
        done()
    }

    /// Runs for so long.
    pub fn run_for(&self, d: Duration) {
        if let Some(sim) = &self.sim {
            return sim.run_for(&self.engine, d);
        }
        let until = self.now() + d;
        while self.now() < until {
            self.engine.turn(Some(Duration::from_millis(5)));
        }
    }

    /// Starts a server of the subject, which stays until the world ends.
    ///
    /// # Errors
    /// Where it does not listen.
    pub fn listen(&self) -> Checked<Server> {
        let server = self.engine.listen(&self.far, self.subject.contact()).deadline(LONG).wait()?;
        self.keep(server.clone());
        Ok(server)
    }

    /// The paths of the near stack from each transport to the top, as numbers of boundaries: those of
    /// the levels below them before the probes came in.
    pub fn near_paths(&self) -> Vec<Vec<usize>> {
        let views: Vec<_> = self.near.levels().collect();
        // Every second level is a probe where there are probes.
        let number = |n: usize| (0..n).filter(|i| views[*i].driver().info().name != crate::probe::NAME).count();
        let parents: Vec<_> = views.iter().filter_map(|l| l.above()).collect();
        let leaves = (0..views.len()).filter(|n| !parents.contains(n));
        let up = |leaf: usize| std::iter::successors(Some(leaf), |n: &usize| views[*n].above());
        let path = |leaf| {
            let mut path: Vec<usize> = up(leaf).map(number).collect();
            path.dedup();
            path
        };
        leaves.map(path).collect()
    }

    /// Keeps something until the world ends.
    pub fn keep(&self, thing: impl Send + 'static) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(thing));
    }

    /// Lets go of what was kept.
    pub fn release(&self) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        drop(kept);
    }

    /// Both ends of a connection.
    ///
    /// # Errors
    /// Where the subject does not connect.
    pub fn pair(&self) -> Checked<Pair> {
        let server = self.listen()?;
        self.pair_at(server)
    }

    /// Both ends of a connection to a server of this world.
    ///
    /// # Errors
    /// Where the subject does not connect.
    pub fn pair_at(&self, server: Server) -> Checked<Pair> {
        self.pair_of(&self.near, server)
    }

    /// Both ends of a connection of another stack to a server of this world.
    ///
    /// # Errors
    /// Where it does not connect.
    pub fn pair_of(&self, stack: &Stack, server: Server) -> Checked<Pair> {
        let guests = Guests::of(&server);
        let opened = Tell::new();
        let tell = opened.clone();
        open(&self.engine, stack, server.contact()).deadline(LONG).then(move |r| tell.note(r));
        let leaves = leaves(stack);
        self.run_until(|| opened.len() == 1 && guests.len() >= leaves);
        let near = opened.take().pop().ok_or_else(|| Stop::fail("an open never ended"))??;
        let (far, rest) = guests.take(stack, &server)?;
        Ok(Pair { near, far, rest, server })
    }

    /// The end that opens, whether there is anybody at the other or not.
    ///
    /// # Errors
    /// Where the subject does not open.
    pub fn alone(&self) -> Checked<Handle> {
        if self.caps.accepts {
            let pair = self.pair()?;
            self.keep((pair.far, pair.rest));
            return Ok(pair.near);
        }
        Ok(self.open(self.subject.contact()).deadline(LONG).wait()?)
    }

    /// An open of the near stack with room for as many ops as a test likes.
    pub fn open(&self, to: impl Into<Contact>) -> OpenCall {
        open(&self.engine, &self.near, to)
    }
}

fn open(engine: &Engine, stack: &Stack, to: impl Into<Contact>) -> OpenCall {
    engine.open(stack, to).max_ops(1 << 20).max_bytes(1 << 40)
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}

/// How many transports a stack has.
fn leaves(stack: &Stack) -> usize {
    let parents: Vec<_> = stack.levels().filter_map(|l| l.above()).collect();
    (0..stack.levels().len()).filter(|n| !parents.contains(n)).count()
}
