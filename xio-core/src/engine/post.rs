//! The ways into and out of a handle's lock. Invariant: a thread holds at most one lock; what is
//! asked of another handle meanwhile waits in this thread's list until the lock is free; user
//! callbacks run last, with no lock held, never nested. What callbacks submit is tried together once
//! they have all run, so that a window of writes becomes one batch.

use std::cell::{Cell as Flag, RefCell};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use crate::engine::core::{Core, Signal, Tree};
use crate::engine::out::Turn;
use crate::engine::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::op::OpId;
use crate::sync::{Arc, MutexGuard, Ordering, locked, planted, thread_local};

/// Callbacks run in one go, before other handles have their turn.
const TURN_CALLS: usize = 256;

/// What a token asks of its handle.
pub(crate) enum Post {
    Retry(OpId, u8),
    Fail(OpId, u8, Error),
    Dropped(OpId, u8),
    Woken(u8),
    /// The last user of the handle has gone.
    LastUser,
}

thread_local! {
    static IN_LANE: Flag<bool> = const { Flag::new(false) };
    static DRAINING: Flag<bool> = const { Flag::new(false) };
    /// A callback runs on this thread.
    static CALLING: Flag<bool> = const { Flag::new(false) };
    static SETTLING: Flag<bool> = const { Flag::new(false) };
    static CALLS: Flag<usize> = const { Flag::new(0) };
    /// The engine that this thread turns, by its address; 0: none.
    static ENGINE: Flag<usize> = const { Flag::new(0) };
    /// Whether `POSTS` holds anything; cheaper to look at.
    static POSTED: Flag<bool> = const { Flag::new(false) };
    static POSTS: RefCell<VecDeque<(Arc<Core>, Post)>> = const { RefCell::new(VecDeque::new()) };
    static CALLERS: RefCell<VecDeque<Arc<Core>>> = const { RefCell::new(VecDeque::new()) };
    /// What is to be done when this thread has let its lock go.
    static LATER: RefCell<Vec<Box<dyn FnOnce()>>> = const { RefCell::new(Vec::new()) };
    /// An op is in this thread's hands, in no state that others could end.
    static IN_HAND: Flag<bool> = const { Flag::new(false) };
    /// Handles with requests that callbacks made.
    static PUMPS: RefCell<VecDeque<Arc<Core>>> = const { RefCell::new(VecDeque::new()) };
}

/// A handle's lock, taken.
pub(crate) struct Lane<'a> {
    core: &'a Arc<Core>,
    tree: MutexGuard<'a, Tree>,
}

impl<'a> Lane<'a> {
    #[inline]
    pub(crate) fn enter(core: &'a Arc<Core>) -> Self {
        // A level that called its own handle would wait for itself.
        assert!(!IN_LANE.get(), "a thread takes one handle's lock at a time");
        let _ = locked("a callback runs under a lock");
        let tree = core.lock();
        IN_LANE.set(true);
        Self { core, tree }
    }

    /// Lets the lock go, where nothing was left to do.
    #[inline]
    pub(crate) fn leave_quiet(self) {
        drop(self);
        if POSTED.get() {
            settle();
        }
    }

    /// As [`leave`](Self::leave), short where there is nothing to do.
    #[inline]
    pub(crate) fn leave_soon(self) {
        let core = self.core;
        if self.tree.inner.nothing_to_do() {
            self.leave_quiet();
            core.shared.note_timers();
        } else {
            self.leave();
        }
    }

    /// Lets the lock go and does everything that was posted: requests, wake-ups, answers to other
    /// handles, callbacks. The only way out but [`leave_quiet`](Self::leave_quiet).
    pub(crate) fn leave(mut self) {
        let core = self.core;
        if self.tree.inner.nothing_to_do() {
            self.leave_quiet();
            return core.shared.note_timers();
        }
        let mut turn = Turn::default();
        loop {
            self.tree.run();
            if CALLING.get() && self.tree.inner.q.get().is_some_and(|q| !q.ios.is_empty()) {
                if !std::mem::replace(&mut self.tree.inner.pumped_later, true) {
                    PUMPS.with_borrow_mut(|p| p.push_back(core.clone()));
                }
                break;
            }
            let Some(job) = self.tree.next_io() else { break };
            if turn.is_over() {
                self.tree.put_back(job);
                core.shared.inject(core.clone());
                break;
            }
            drop(self);
            let back = job.perform(&core.shared);
            self = Self::enter(core);
            self.tree.resume(back, &mut turn);
        }
        let signals = self.tree.inner.q.get_mut().map(|q| std::mem::take(&mut q.signals)).unwrap_or_default();
        let garbage = self.tree.inner.q.get_mut().map(|q| std::mem::take(&mut q.garbage)).unwrap_or_default();
        let waits = self.tree.inner.calling && !planted("callbacks do not wait for each other");
        let calls = !waits && self.tree.inner.has_calls();
        drop(self);
        for s in signals {
            match s {
                Signal::Bell(b) => {
                    b.ring();
                    core.shared.wake_turner();
                }
                Signal::Waker(w) => drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| w.wake()))),
                Signal::Nudge(s) => drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    s.socket().is_ready(crate::io::Direction::Write)
                }))),
                Signal::Free(core) => drop(core),
                Signal::Links(l) => drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(l)))),
            }
        }
        discard(garbage);
        core.shared.note_timers();
        if calls && CALLING.get() && planted("a callback interrupts another") {
            call_back(core);
        } else if calls {
            CALLERS.with_borrow_mut(|c| c.push_back(core.clone()));
        }
        settle();
    }
}

impl Drop for Lane<'_> {
    #[inline]
    fn drop(&mut self) {
        self.tree.inner.q.settle();
        IN_LANE.set(false);
    }
}

impl Deref for Lane<'_> {
    type Target = Tree;
    #[inline]
    fn deref(&self) -> &Tree {
        &self.tree
    }
}

impl DerefMut for Lane<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }
}

/// Asks a handle something; at once, or when this thread has let its lock go.
pub(crate) fn post(core: Arc<Core>, post: Post) {
    if (IN_LANE.get() || DRAINING.get()) && !planted("a token is used at once") {
        // The thread-local list outlives every lock of this thread.
        let _ = POSTS.try_with(|p| p.borrow_mut().push_back((core, post)));
        POSTED.set(true);
        return;
    }
    apply(&core, post);
}

/// Runs `f` at once, or when this thread has let its lock go.
pub(crate) fn when_free(f: Box<dyn FnOnce()>) {
    if IN_LANE.get() {
        let _ = LATER.try_with(|l| l.borrow_mut().push(f));
        POSTED.set(true);
    } else {
        f();
    }
}

fn apply(core: &Arc<Core>, post: Post) {
    if matches!(post, Post::LastUser) {
        if planted("the last user is not noticed") {
            return;
        }
        return crate::handle::close_unheld(core);
    }
    let mut lane = Lane::enter(core);
    match post {
        Post::Retry(id, hold) => lane.token_retry((id, hold)),
        Post::Fail(id, hold, e) => lane.token_fail((id, hold), e),
        Post::Dropped(id, hold) => lane.token_fail((id, hold), Error::new(ErrorKind::Dropped)),
        Post::LastUser => {}
        Post::Woken(node) => lane.inner.q.make().runq.push_back(crate::engine::core::Task::Woken(node)),
    }
    lane.leave();
}

/// Works off this thread's lists: answers to other handles first, then callbacks.
fn settle() {
    if DRAINING.get() || IN_LANE.get() {
        return;
    }
    DRAINING.set(true);
    POSTED.set(false);
    while let Some((core, p)) = POSTS.with_borrow_mut(VecDeque::pop_front) {
        apply(&core, p);
    }
    DRAINING.set(false);
    while let Some(f) = LATER.with_borrow_mut(Vec::pop) {
        f();
    }
    if IN_HAND.get() {
        // A callback may block, even on the op that this thread is about to try.
        POSTED.set(CALLERS.with_borrow(|c| !c.is_empty()));
        return;
    }
    if SETTLING.replace(true) {
        return;
    }
    CALLS.set(0);
    loop {
        if let Some(core) = CALLERS.with_borrow_mut(VecDeque::pop_front) {
            CALLING.set(true);
            call_back(&core);
            CALLING.set(false);
        } else if !pump_next() {
            break;
        }
    }
    SETTLING.set(false);
    if POSTED.get() {
        settle();
    }
}

/// While it lives, callbacks wait: this thread has an op in its hands. They run at its end.
pub(crate) struct InHand(bool);

impl InHand {
    #[inline]
    pub(crate) fn begin() -> Self {
        Self(IN_HAND.replace(true))
    }

    #[inline]
    pub(crate) fn end(self) {
        drop(self);
        if POSTED.get() {
            settle();
        }
    }
}

impl Drop for InHand {
    #[inline]
    fn drop(&mut self) {
        IN_HAND.set(self.0);
    }
}

/// Whether callbacks wait for the op in hand.
pub(crate) fn callbacks_wait() -> bool {
    POSTED.get()
}

/// This thread is about to wait with an op in its hands: the callbacks are the engine's.
#[inline]
pub(crate) fn hand_over() {
    if POSTED.get() {
        CALLERS.with_borrow_mut(|callers| {
            callers.retain(|core| {
                let stays = core.shared.stopped.load(Ordering::Acquire);
                if !stays {
                    core.shared.inject(core.clone());
                }
                stays
            });
        });
    }
}

/// Tries the requests of one handle that callbacks left.
fn pump_next() -> bool {
    let Some(core) = PUMPS.with_borrow_mut(VecDeque::pop_front) else { return false };
    let mut lane = Lane::enter(&core);
    lane.inner.pumped_later = false;
    lane.leave();
    true
}

/// A callback is about to block: what it and others have submitted must be on its way.
/// Whether anything was.
pub(crate) fn before_wait() -> bool {
    let mut any = false;
    if CALLING.get() {
        CALLING.set(false);
        while pump_next() {
            any = true;
        }
        CALLING.set(true);
    }
    any
}

/// Whether requests made now are tried once the callbacks have run.
pub(crate) fn defers() -> bool {
    CALLING.get()
}

/// Runs the callbacks of one handle, one after the other; whoever comes meanwhile only queues.
fn call_back(core: &Arc<Core>) {
    {
        let mut lane = Lane::enter(core);
        if lane.inner.calling && !planted("callbacks do not wait for each other") {
            return lane.leave_quiet();
        }
        lane.inner.calling = true;
        lane.leave_quiet();
    }
    loop {
        let calls = CALLS.get();
        let shared = &core.shared;
        // A turn goes on to other handles and comes back; other threads leave the rest to the next turn.
        let full =
            calls >= TURN_CALLS && !shared.stopped.load(Ordering::Acquire) && !planted("callbacks give way to nobody");
        CALLS.set(calls + 1);
        let mut lane = Lane::enter(core);
        let next = if full { None } else { lane.next_call() };
        if next.is_none() && !planted("a callback is left to nobody") {
            lane.inner.calling = false;
        }
        let more = full && lane.inner.has_calls();
        lane.leave_quiet();
        if more {
            shared.inject(core.clone());
        }
        let Some(call) = next else { return };
        let _locked = locked("a callback runs under a lock");
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err() {
            let mut lane = Lane::enter(core);
            lane.poison(Error::new(ErrorKind::Panicked).detail("a callback panicked"));
            lane.leave();
        }
    }
}

/// Drops levels, whose drop may panic like any other code of theirs.
fn discard(levels: Vec<Box<dyn crate::level::Level>>) {
    for level in levels {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(level)));
    }
}

/// Whether this thread runs a callback for an engine.
pub(crate) fn in_engine_callback() -> bool {
    ENGINE.get() != 0 && CALLING.get()
}

/// Whether a level runs on this thread.
pub(crate) fn in_level() -> bool {
    IN_LANE.get()
}

/// Whether this thread turns this engine.
pub(crate) fn turns(shared: &Shared) -> bool {
    ENGINE.get() == std::ptr::from_ref(shared).addr()
}

/// Marks this thread as turning an engine while the guard lives.
pub(crate) struct EngineThread(usize);

impl EngineThread {
    pub(crate) fn enter(shared: &Shared) -> Self {
        Self(ENGINE.replace(std::ptr::from_ref(shared).addr()))
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        ENGINE.set(self.0);
    }
}
