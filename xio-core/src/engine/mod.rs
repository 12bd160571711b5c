//! The engine: what a program holds, and the rooms behind it. `core` is one handle, `queues` what waits in
//! it, `gates` who goes first through a level, `walk` the loop, `run` what its verdicts lead to, `out` what
//! becomes of requests, `limit` how much may be outstanding, `stop` how ops end before their time, `recall` who
//! gets what came for an owner who had gone, `pump` what happens outside the lock, `post` the ways in and out
//! of it, `submit` how users' ops begin and end.

pub(crate) mod block;
pub(crate) mod cells;
pub(crate) mod core;
pub(crate) mod end;
pub(crate) mod future;
pub(crate) mod gates;
pub(crate) mod limit;
pub(crate) mod out;
pub(crate) mod pool;
pub(crate) mod post;
pub(crate) mod pump;
pub(crate) mod queues;
pub(crate) mod recall;
pub(crate) mod run;
pub(crate) mod shared;
pub(crate) mod stop;
pub(crate) mod submit;
pub(crate) mod timers;
pub(crate) mod walk;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::contact::Contact;
use crate::engine::core::{Core, Inner, Limits, NodeState, Status, Task, Tree};
use crate::engine::post::{EngineThread, Lane};
use crate::engine::shared::Shared;
use crate::engine::timers::Due;
use crate::error::{Error, ErrorKind};
use crate::handle::{ListenCall, OpenCall};
use crate::level::Reason;
use crate::reactor::{Bell, Epoll, Reactor, Waiter};
use crate::stack::Stack;
use crate::sync::{Arc, Ordering, planted, thread};
use crate::time::Time;

/// Threads of the pool unless the builder says otherwise.
const POOL_THREADS: usize = 4;
/// Ops one turn runs before it looks at timers again.
const TURN_READY: usize = 256;

/// Runs handles: one reactor, one set of timers, one pool, and a thread of its own unless the
/// program turns it itself. Cheap to clone; the last clone, handle and server together keep it.
///
/// Nothing is global: a process may have several.
///
/// ```
/// let engine = xio_core::Engine::new()?;
/// assert!(engine.next_deadline().is_none());
/// # Ok::<(), xio_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Owner>);

/// Ends the engine with its last user.
struct Owner {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How an engine is to be made.
#[derive(Default)]
pub struct Builder {
    owner_driven: bool,
    reactor: Option<Arc<dyn Reactor>>,
    pool: Option<usize>,
}

impl Builder {
    /// The program calls [`Engine::turn`] itself; no thread is started.
    #[must_use]
    pub fn owner_driven(mut self) -> Self {
        self.owner_driven = true;
        self
    }

    /// Another reactor than epoll.
    #[must_use]
    pub fn reactor(mut self, reactor: Arc<dyn Reactor>) -> Self {
        self.reactor = Some(reactor);
        self
    }

    /// Most threads of the pool for what may block; 4 unless said otherwise.
    #[must_use]
    pub fn pool_threads(mut self, threads: usize) -> Self {
        self.pool = Some(threads);
        self
    }

    /// Makes the engine.
    ///
    /// # Errors
    /// Where the system gives no descriptors or no thread.
    pub fn build(self) -> Result<Engine, Error> {
        let reactor = match self.reactor {
            Some(r) => r,
            None => Arc::new(Epoll::new()?) as Arc<dyn Reactor>,
        };
        let own_thread = !self.owner_driven && !reactor.is_virtual();
        let shared = Arc::new(Shared::new(reactor, own_thread, self.pool.unwrap_or(POOL_THREADS)));
        let thread = if own_thread {
            let shared = shared.clone();
            let run = move || {
                while !shared.stopped.load(Ordering::Acquire) {
                    turn(&shared, None);
                }
            };
            Some(thread::Builder::new().name("xio-engine".into()).spawn(run)?)
        } else {
            None
        };
        Ok(Engine(Arc::new(Owner { shared, thread })))
    }
}

impl Engine {
    /// An engine over epoll with a thread of its own.
    ///
    /// # Errors
    /// Where the system gives no descriptors or no thread.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// To choose how the engine runs.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens a stack towards a contact.
    pub fn open(&self, stack: &Stack, contact: impl Into<Contact>) -> OpenCall {
        OpenCall::new(self.clone(), stack.clone(), contact.into().into())
    }

    /// Starts a server of a stack.
    pub fn listen(&self, stack: &Stack, contact: impl Into<Contact>) -> ListenCall {
        ListenCall::new(self.clone(), stack.clone(), contact.into())
    }

    /// One turn: sleeps until something is ready or `timeout` has passed (`None`: without a limit),
    /// then runs what is ready and due. For engines their owner drives; calls from several threads
    /// take turns, one from a callback of a turn does nothing. Says how many ops it ran.
    pub fn turn(&self, timeout: Option<Duration>) -> usize {
        if post::in_engine_callback() {
            // The turn that runs the callback is under way and goes on after it.
            return 0;
        }
        turn(&self.0.shared, timeout)
    }

    /// When the next timer is due, by the engine's clock.
    pub fn next_deadline(&self) -> Option<Time> {
        Some(self.0.shared.timers.first()).filter(|t| *t != Time::NEVER)
    }

    /// Now, by the engine's clock.
    pub fn now(&self) -> Time {
        self.0.shared.now()
    }

    /// How many handles and servers it has.
    pub fn handles(&self) -> usize {
        self.0.shared.cores.lock().values().filter(|c| c.strong_count() > 0).count()
    }

    /// Ends it: whatever is outstanding fails with [`ErrorKind::Stopped`], every handle is dead.
    pub fn shutdown(&self) {
        self.0.shared.stop(&Error::stopped());
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// A new handle or server over `stack`, not open yet.
    pub(crate) fn core(
        &self,
        stack: &Stack,
        role: crate::driver::Role,
        setup: &crate::handle::Setup,
    ) -> Result<Arc<Core>, Error> {
        let shared = self.shared();
        let mut levels = Vec::with_capacity(stack.nodes().len());
        for n in stack.nodes() {
            let made = n.driver.level(&*n.attr, role);
            levels.push(made.map_err(|e| e.at(crate::driver::OpKind::Open, || Some(n.place.clone())))?);
        }
        let plan = stack.plan(role).clone();
        let count = plan.count();
        let key = shared.new_key();
        let core = Arc::new_cyclic(|me| Core {
            tree: crate::sync::Mutex::new(Tree {
                levels,
                plan,
                inner: Inner {
                    me: me.clone(),
                    shared: shared.clone(),
                    stack: stack.clone(),
                    ops: slab::Slab::with_capacity(1),
                    generation: 0,
                    came: 0,
                    q: queues::Lazy::default(),
                    nodes: smallvec::smallvec![NodeState::default(); count + 1],
                    status: Status::Opening,
                    poisoned: None,
                    eof: false,
                    shut: false,
                    sides: Default::default(),
                    tries: Default::default(),
                    limits: Limits { ops: setup.max_ops, bytes: setup.max_bytes },
                    calling: false,
                    pumped_later: false,
                    rare: None,
                },
            }),
            shared: shared.clone(),
            key,
        });
        {
            let mut tree = core.lock();
            if setup.stats {
                tree.inner.rare().counts = Some(vec![crate::stats::Counts::default(); count].into());
            }
            if setup.idle.iter().any(Option::is_some) {
                tree.inner.rare().idle = setup.idle;
            }
        }
        shared.know(&core);
        // Looked at only now: a stop that did not see this handle is seen here.
        if shared.stopped.load(Ordering::Acquire) && !planted("an open does not look for a stop") {
            shared.forget(core.key);
            return Err(Error::stopped());
        }
        Ok(core)
    }
}

impl AsFd for Engine {
    /// Readable when a turn has something to do, for a host's own loop.
    ///
    /// # Panics
    /// For an engine whose reactor has no descriptor (a simulated one).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.shared.reactor.fd().expect("the engine's reactor has a descriptor")
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} handles)", self.handles())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let (shared, thread) = (self.shared.clone(), self.thread.take());
        // The last handle may go inside a level, under a lock that the stop needs.
        post::when_free(Box::new(move || {
            shared.stop(&Error::stopped());
            if let Some(t) = thread {
                // Or in a callback on the engine's own thread.
                if t.thread().id() != thread::current().id() || planted("a thread waits for itself") {
                    let _ = t.join();
                }
            }
        }));
    }
}

impl Shared {
    fn stop(&self, why: &Error) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        let cores: Vec<_> = self.cores.lock().values().filter_map(std::sync::Weak::upgrade).collect();
        for core in cores {
            let mut lane = Lane::enter(&core);
            if lane.inner.status != Status::Closed && !planted("a stop ends no op") {
                lane.poison(why.clone());
            }
            lane.leave();
        }
        self.pool.stop();
        if !planted("a stop does not wake the reactor") {
            self.reactor.wake();
        }
    }
}

/// One turn of an engine.
pub(crate) fn turn(shared: &Arc<Shared>, timeout: Option<Duration>) -> usize {
    // Where time is virtual, waiting for the turn must not take any.
    let limit = timeout.filter(|_| !shared.reactor.is_virtual());
    let Some(_turning) = shared.take_turn(limit) else { return 0 };
    turn_now(shared, timeout)
}

/// Turns the engine for a blocking caller, or waits for its bell while another thread does.
pub(crate) fn turn_or_wait(shared: &Arc<Shared>, bell: &Arc<Bell>, timeout: Option<Duration>) {
    if shared.stopped.load(Ordering::Acquire) {
        // Turns do not sleep any more, and whoever stops the engine is about to end the caller's op, too.
        thread::yield_now();
    }
    if shared.reactor.is_virtual() {
        turn(shared, timeout);
    } else if let Some(_turning) = shared.take_turn(Some(Duration::ZERO)) {
        // The wake-up that went with a ring may have ended the turn before this one.
        if planted("a turner trusts the wake-up alone") || !bell.take_ring() {
            turn_now(shared, timeout);
        }
    } else {
        shared.follow(bell, timeout);
    }
}

fn turn_now(shared: &Arc<Shared>, timeout: Option<Duration>) -> usize {
    let _engine = EngineThread::enter(shared);
    let mut ran = due(shared);
    let mut ready: Vec<Waiter> = Vec::new();
    let timeout = if ran > 0 || !shared.injected.is_empty() || shared.stopped.load(Ordering::Acquire) {
        Some(Duration::ZERO)
    } else {
        timeout
    };
    let now = shared.now();
    let first = shared.timers.first();
    let until = match timeout {
        Some(t) => first.min(now + t),
        None => first,
    };
    shared.timers.sleeping_until.store(until.as_nanos(), Ordering::SeqCst);
    // A timer set since `first` was read has seen the old value of `sleeping_until`.
    let until = if planted("a sleeper does not look again") { until } else { until.min(shared.timers.first()) };
    let sleep = (until != Time::NEVER).then(|| until.since(now));
    if let Err(e) = shared.reactor.wait(sleep, &mut ready) {
        if shared.reactor.is_virtual() {
            // Nothing can ever happen again: what waits for it fails, rather than turn for ever.
            shared.stop(&Error::stopped().source_error(e));
        } else {
            // Nothing to wait with: do not spin.
            thread::sleep(Duration::from_millis(10));
        }
    }
    shared.timers.sleeping_until.store(0, Ordering::SeqCst);
    for w in ready {
        ran += 1;
        let Some(core) = w.core.upgrade() else { continue };
        let mut lane = Lane::enter(&core);
        lane.woken(w.id);
        lane.leave();
    }
    // What comes meanwhile waits for the next turn, behind the sockets.
    for _ in 0..shared.injected.len().min(TURN_READY) {
        let Some(core) = shared.injected.pop() else { break };
        ran += 1;
        Lane::enter(&core).leave();
    }
    ran + due(shared)
}

/// Runs the timers that are due.
fn due(shared: &Arc<Shared>) -> usize {
    let now = shared.now();
    let mut ran = 0;
    while let Some(due) = shared.timers.pop(now) {
        ran += 1;
        match due {
            Due::Deadline(core, id) => {
                let Some(core) = core.upgrade() else { continue };
                let mut lane = Lane::enter(&core);
                lane.deadline(id, now);
                lane.leave();
            }
            Due::Level { core, node, tag, alive, .. } => {
                let Some(core) = core.upgrade() else { continue };
                let mut lane = Lane::enter(&core);
                lane.inner.q.make().runq.push_back(Task::Timer { node, tag, alive });
                lane.leave();
            }
        }
    }
    ran
}

impl Tree {
    /// The time of an op is up, or only its idle limit's first guess.
    fn deadline(&mut self, id: crate::op::OpId, now: Time) {
        let Some(entry) = self.inner.entry(id) else { return };
        entry.take_timer();
        let kind = entry.kind;
        let own = entry.cell.as_ref().map_or(Time::NEVER, |c| c.head().deadline);
        if own > now
            && let Some(side) = limit::side_of(kind)
        {
            let Some(rare) = &self.inner.rare else { return };
            let Some(limit) = rare.idle[side] else { return };
            let until = (rare.progress[side] + limit).min(own);
            if until > now {
                let key = self.inner.shared.timers.deadline(until, self.inner.me.clone(), id);
                if let Some(e) = self.inner.entry(id) {
                    e.more().timer = Some((until, key));
                }
                return;
            }
        }
        self.inner.q.make().runq.push_back(Task::Cancel(id, Reason::TimedOut));
    }
}

/// Whether a blocking call may be made here.
pub(crate) fn may_block() -> Result<(), Error> {
    let must_not = post::in_engine_callback() && !planted("a callback may wait") || post::in_level();
    if must_not { Err(Error::new(ErrorKind::InCallback)) } else { Ok(()) }
}
