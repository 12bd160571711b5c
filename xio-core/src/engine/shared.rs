//! What all handles of an engine share: reactor, timers, pool, buffers, the list of handles.
//! Invariant: nothing here is global; two engines know nothing of each other.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use bytes::BytesMut;
use crossbeam::queue::ArrayQueue;

use crate::engine::core::Core;
use crate::engine::pool::Pool;
use crate::engine::timers::Timers;
use crate::reactor::{Bell, Reactor};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, Queue, planted};
use crate::time::Time;

pub(crate) struct Shared {
    pub(crate) reactor: Arc<dyn Reactor>,
    pub(crate) timers: Timers,
    pub(crate) pool: Arc<Pool>,
    pub(crate) buffers: Buffers,
    /// Handles with requests that wait for a turn of the engine.
    pub(crate) injected: Queue<Arc<Core>>,
    /// In the order they were made, so that a stop goes the same way each time.
    pub(crate) cores: Mutex<BTreeMap<u64, Weak<Core>>>,
    /// Handles whose users have gone, until they are closed.
    closing: Mutex<BTreeMap<u64, Arc<Core>>>,
    next_key: AtomicU64,
    pub(crate) stopped: AtomicBool,
    /// Whether a thread of the engine's own turns it.
    pub(crate) own_thread: bool,
    several_cpus: bool,
    /// Held by whoever turns the engine.
    turning: Mutex<()>,
    /// Blocking callers that wait while another thread turns the engine.
    followers: Mutex<Vec<Arc<Bell>>>,
}

/// The right to turn an engine. Given up, it is offered to those who wait for it.
pub(crate) struct Turning<'a> {
    shared: &'a Shared,
    guard: Option<MutexGuard<'a, ()>>,
}

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        self.guard = None;
        if planted("a turn is not offered") {
            return;
        }
        self.shared.followers.lock().iter().for_each(|b| b.ring());
    }
}

impl Shared {
    pub(crate) fn new(reactor: Arc<dyn Reactor>, own_thread: bool, pool: usize) -> Self {
        Self {
            reactor,
            timers: Timers::new(),
            pool: Pool::new(pool),
            buffers: Buffers::new(),
            injected: Queue::new(),
            cores: Mutex::new(BTreeMap::new()),
            closing: Mutex::new(BTreeMap::new()),
            next_key: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
            own_thread,
            several_cpus: crate::reactor::several_cpus(),
            turning: Mutex::new(()),
            followers: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.reactor.now()
    }

    /// Whether a blocking caller may spin: with one CPU it would only keep its peer from running.
    pub(crate) fn spins(&self) -> bool {
        self.several_cpus && self.own_thread
    }

    pub(crate) fn new_key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn know(&self, core: &Arc<Core>) {
        self.cores.lock().insert(core.key, Arc::downgrade(core));
    }

    pub(crate) fn forget(&self, key: u64) {
        self.cores.lock().remove(&key);
    }

    /// Keeps a handle alive that its users have let go, until it is closed.
    pub(crate) fn keep(&self, core: Arc<Core>) {
        self.closing.lock().insert(core.key, core);
    }

    /// Ends that.
    pub(crate) fn release(&self, key: u64) -> Option<Arc<Core>> {
        self.closing.lock().remove(&key)
    }

    /// Waits for its turn to turn the engine, at most so long.
    pub(crate) fn take_turn(&self, timeout: Option<Duration>) -> Option<Turning<'_>> {
        let guard = match timeout {
            Some(t) => self.turning.try_lock_for(t)?,
            None => self.turning.lock(),
        };
        Some(Turning { shared: self, guard: Some(guard) })
    }

    /// Waits for the bell while another thread turns the engine.
    pub(crate) fn follow(&self, bell: &Arc<Bell>, timeout: Option<Duration>) {
        self.followers.lock().push(bell.clone());
        // Whoever turned may have ended before we were on the list.
        if planted("a follower does not look again") || self.take_turn(Some(Duration::ZERO)).is_none() {
            bell.wait(timeout);
        }
        bell.take_ring();
        self.followers.lock().retain(|b| !Arc::ptr_eq(b, bell));
    }

    /// Wakes a blocking caller that turns the engine itself and so does not hear its bell.
    pub(crate) fn wake_turner(&self) {
        if !self.own_thread && !crate::engine::post::turns(self) && !planted("a turner is not woken") {
            self.reactor.wake();
        }
    }

    /// Leaves the rest of a handle's requests to the engine's next turn.
    pub(crate) fn inject(&self, core: Arc<Core>) {
        self.injected.push(core);
        if !planted("a handle is left in silence") {
            self.reactor.wake();
        }
    }

    /// Wakes the reactor if a timer was set that ends its sleep early.
    pub(crate) fn note_timers(&self) {
        if self.timers.must_wake() {
            self.reactor.wake();
        }
    }
}

/// Most buffers kept, and the size of each.
const KEPT: usize = 32;
const KEPT_SIZE: usize = 64 * 1024;

/// Buffers that were used before.
pub(crate) struct Buffers(ArrayQueue<BytesMut>);

impl Buffers {
    fn new() -> Self {
        Self(ArrayQueue::new(KEPT))
    }

    /// An empty buffer with room for at least `n` bytes.
    pub(crate) fn take(&self, n: usize) -> BytesMut {
        match self.0.pop() {
            Some(b) if b.capacity() >= n => b,
            _ => BytesMut::with_capacity(n),
        }
    }

    /// Keeps a buffer for later, if it is worth it.
    pub(crate) fn give(&self, mut b: BytesMut) {
        b.clear();
        if b.capacity() >= KEPT_SIZE {
            let _ = self.0.push(b);
        }
    }
}
