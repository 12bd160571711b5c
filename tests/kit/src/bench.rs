//! Where a rule works: an engine over the simulated network (or real sockets), a pair of handles of
//! the subject with a probe at every boundary, virtual time. Invariant: each [`World`] is new, runs on
//! one thread, and is looked through for broken rules when it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use xio_core::caps::{Caps, Unit};
use xio_core::handle::OpenCall;
use xio_core::reactor::{Reactor, Sim, SimConfig};
use xio_core::time::Time;
use xio_core::{Contact, Driver, Engine, Error, Handle, LevelNode, Server, Stack, Ticket};

use crate::layout;
use crate::probe::{Probes, Side};
use crate::report::Options;
use crate::subject::{Subject, bind};
use crate::verdict::{Checked, Stop};

/// Virtual time after which what has not come never comes.
pub const LONG: Duration = Duration::from_secs(600);

/// The room a rule works in.
#[derive(Debug)]
pub struct Bench {
    subject: Subject,
    options: Options,
    caps: Caps,
    rule: &'static str,
}

type Around<'a> = Box<dyn Fn(Arc<Sim>) -> Arc<dyn Reactor> + 'a>;
type Insert<'a> = Box<dyn Fn(usize, LevelNode) -> LevelNode + 'a>;
type Replace<'a> = Box<dyn Fn(usize, Arc<dyn Driver>) -> Arc<dyn Driver> + 'a>;

impl Bench {
    /// A room for a rule and a subject.
    ///
    /// # Errors
    /// Where the levels of the subject do not fit.
    pub fn new(rule: &'static str, subject: Subject, options: Options) -> Checked<Self> {
        let caps = subject.caps()?;
        Ok(Self { subject, options, caps, rule })
    }

    /// What is tested.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What its stack gives.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Whether messages or datagrams keep their borders.
    pub fn has_borders(&self) -> bool {
        self.caps.unit.has_borders()
    }

    /// Seeds to run with.
    pub fn seeds(&self) -> Vec<u64> {
        if self.subject.is_real() { vec![0] } else { self.options.seeds.clone() }
    }

    /// A world to be set up. Nothing is built before [`Stage::build`].
    pub fn stage(&self, seed: u64) -> Stage<'_> {
        Stage {
            bench: self,
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

    /// Runs `f` in a new world for each seed, and looks through each world when it ends.
    ///
    /// # Errors
    /// The first failure, with its seed.
    pub fn each(&self, mut f: impl FnMut(&World) -> Checked) -> Checked {
        self.each_on(|stage| stage, |w| f(w))
    }

    /// The same with a stage set up by `set`.
    ///
    /// # Errors
    /// The first failure, with its seed.
    pub fn each_on<'a>(
        &'a self,
        set: impl Fn(Stage<'a>) -> Stage<'a>,
        mut f: impl FnMut(&World) -> Checked,
    ) -> Checked {
        for seed in self.seeds() {
            let world = set(self.stage(seed)).build()?;
            world.run_rule(&mut f).map_err(|s| s.at(format_args!("seed {seed}")))?;
        }
        Ok(())
    }

    // ---- what a rule needs -----------------------------------------------------------------------

    /// The rule is about two ends.
    ///
    /// # Errors
    /// Not applicable, where nobody can connect to the subject.
    pub fn needs_peer(&self) -> Checked {
        if self.caps.accepts && self.caps.connects && self.caps.duplex { Ok(()) } else { unless("accepts=false") }
    }

    /// The rule is about streams.
    ///
    /// # Errors
    /// Not applicable on messages and datagrams.
    pub fn needs_stream(&self) -> Checked {
        if self.has_borders() { unless(format!("unit={}", self.caps.unit)) } else { Ok(()) }
    }

    /// The rule is about this unit.
    ///
    /// # Errors
    /// Not applicable on others.
    pub fn needs_unit(&self, unit: Unit) -> Checked {
        if self.caps.unit == unit { Ok(()) } else { unless(format!("unit={}", self.caps.unit)) }
    }

    /// The rule is about data that arrives whole and in order.
    ///
    /// # Errors
    /// Not applicable where that is not promised.
    pub fn needs_order(&self) -> Checked {
        match (self.caps.reliable, self.caps.ordered) {
            (true, true) => Ok(()),
            (false, _) => unless("reliable=false"),
            (_, false) => unless("ordered=false"),
        }
    }

    /// The rule ends one side of a connection.
    ///
    /// # Errors
    /// Not applicable where that cannot be done alone.
    pub fn needs_half_close(&self) -> Checked {
        if self.caps.half_close { Ok(()) } else { unless("half_close=false") }
    }

    /// The rule is about time that a test can turn.
    ///
    /// # Errors
    /// Not applicable on real sockets.
    pub fn needs_virtual_time(&self) -> Checked {
        if self.subject.is_real() { unless("on real sockets") } else { Ok(()) }
    }
}

/// The rule does not apply, for the subject has this property.
///
/// # Errors
/// Always.
pub fn unless(cap: impl Into<String>) -> Checked {
    Err(Stop::not_applicable(cap))
}

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
    subject: Subject,
    caps: Caps,
    rule: &'static str,
    kept: Mutex<Vec<Box<dyn std::any::Any + Send>>>,
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

    /// Runs until nothing more can happen; on real sockets for a short while. Repeating timers may
    /// run for a minute of virtual time.
    pub fn run(&self) {
        let until = self.now() + Duration::from_secs(60);
        self.run_until(|| self.now() > until);
    }

    /// Runs until `done` says so or nothing more can happen. Says whether it was `done`.
    pub fn run_until(&self, mut done: impl FnMut() -> bool) -> bool {
        if let Some(sim) = &self.sim {
            return sim.run_until(&self.engine, done);
        }
        let until = self.now() + Duration::from_millis(200);
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

/// Whatever comes to a server while this is about, accepted and opened.
pub struct Guests(Arc<Door>);

struct Door {
    server: Server,
    came: Tell<(Contact, Result<Handle, Error>)>,
    /// All accepts so far: cancelling one that is over does nothing.
    waits: Mutex<Vec<Ticket>>,
    shut: AtomicBool,
}

impl Guests {
    /// Begins to accept.
    pub fn of(server: &Server) -> Self {
        let door =
            Door { server: server.clone(), came: Tell::new(), waits: Mutex::default(), shut: AtomicBool::new(false) };
        let door = Arc::new(door);
        wait(&door);
        Self(door)
    }

    /// How many are open, or failed to open.
    pub fn len(&self) -> usize {
        self.0.came.len()
    }

    /// Whether nobody came.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that came: first the branch that writes take where nothing is said, then the others.
    ///
    /// # Errors
    /// Where nobody came, or did not open.
    pub fn take(self, stack: &Stack, server: &Server) -> Checked<(Handle, Vec<Handle>)> {
        let mut came = self.0.came.take();
        ensure!(!came.is_empty(), "a handle opened, and its server accepted nothing");
        let first = stack.levels().find_map(|l| l.label().map(str::to_owned));
        let at = first.and_then(|l| server.contact().branch(&l).cloned());
        let main = came.iter().position(|(local, _)| at.as_ref() == Some(local)).unwrap_or(0);
        let (_, main) = came.swap_remove(main);
        Ok((main?, came.into_iter().map(|(_, h)| h).collect::<Result<_, Error>>()?))
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.0.shut.store(true, Ordering::Relaxed);
        let waits = std::mem::take(&mut *self.0.waits.lock().unwrap_or_else(PoisonError::into_inner));
        waits.iter().for_each(Ticket::cancel);
    }
}

fn wait(door: &Arc<Door>) {
    if door.shut.load(Ordering::Relaxed) {
        return;
    }
    let me = door.clone();
    let ticket = door.server.accept().then(move |link| {
        let Ok(link) = link else { return };
        wait(&me);
        let (local, tell) = (link.local().clone(), me.came.clone());
        let call = link.open().max_ops(1 << 20).max_bytes(1 << 40).deadline(LONG);
        call.then(move |r| tell.note((local, r)));
    });
    door.waits.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
}

/// Both ends of a connection.
pub struct Pair {
    /// The end that opened.
    pub near: Handle,
    /// The end that was accepted.
    pub far: Handle,
    /// What was accepted beside it: the other branches of a branching stack.
    pub rest: Vec<Handle>,
    /// Where it was accepted.
    pub server: Server,
}

impl Pair {
    /// Each end once as the first and once as the second.
    pub fn both_ways(&self) -> [(&Handle, &Handle); 2] {
        [(&self.near, &self.far), (&self.far, &self.near)]
    }

    /// Ends what the far end writes, on all branches.
    ///
    /// # Errors
    /// Where a branch refuses.
    pub fn end_far(&self) -> Checked {
        for h in std::iter::once(&self.far).chain(&self.rest) {
            h.shutdown().deadline(LONG).wait()?;
        }
        Ok(())
    }
}

/// A list that callbacks write and the test reads.
#[derive(Debug)]
pub struct Tell<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Tell<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Tell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Tell<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    /// Adds to it.
    pub fn note(&self, value: T) {
        self.lock().push(value);
    }

    /// Takes everything out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.lock())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Tell<T> {
    /// A copy of everything.
    pub fn all(&self) -> Vec<T> {
        self.lock().clone()
    }
}
