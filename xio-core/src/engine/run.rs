//! What the loop's verdicts lead to: parking, finishing, freeing, and the run queue that ties them
//! together. Invariant: when the lock is let go the run queue is empty.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::buffer::Chunk;
use crate::cx::{Cx, Event};
use crate::driver::OpKind;
use crate::engine::cells;
use crate::engine::core::{Core, Early, Entry, Failed, Inbox, Inner, State, Status, Step, Task, Tree};
use crate::engine::end::End;
use crate::engine::post::post;
use crate::engine::pump::{Attempt, attempt, stopped};
use crate::engine::shared::Shared;
use crate::engine::walk::{Stop, walk};
use crate::error::{Error, ErrorKind};
use crate::handle::CloseMode;
use crate::io::IoDone;
use crate::level::{Cancel, Reason};
use crate::op::{AnyCell, Cell, Close, IoSlot, Kind, OpId, Read, Role, with_cell};
use crate::plan::USER;
use crate::reactor::Waiter;
use crate::stats;
use crate::sync::Arc;

/// Requests tried in one go before the lock's owner hands the rest to the engine, and their bytes.
const TURN_OPS: u32 = 64;
const TURN_BYTES: usize = 1 << 20;

/// How much one thread has done for a handle since it took the lock.
#[derive(Default)]
pub(crate) struct Turn {
    ops: u32,
    bytes: usize,
}

impl Turn {
    pub(crate) fn is_over(&self) -> bool {
        self.ops >= TURN_OPS || self.bytes >= TURN_BYTES
    }
}

/// An op out with this thread.
pub(crate) struct Outing {
    cell: AnyCell,
}

/// It is back.
pub(crate) struct Back {
    cell: AnyCell,
    attempt: Attempt,
}

impl Outing {
    pub(crate) fn perform(mut self, shared: &Shared) -> Back {
        let tried = catch_unwind(AssertUnwindSafe(|| with_cell!(&mut self.cell, c => attempt(shared, c))));
        let attempt = tried.unwrap_or_else(|_| {
            let head = self.cell.head_mut();
            head.error = Some(Error::new(ErrorKind::Panicked));
            Attempt::Go(Step::Leave(head.at))
        });
        Back { cell: self.cell, attempt }
    }
}

impl Tree {
    /// Works the run queue off.
    pub(crate) fn run(&mut self) {
        loop {
            while let Some(task) = self.inner.q.get_mut().and_then(|q| q.runq.pop_front()) {
                self.task(task);
            }
            self.inner.open_gates();
            if self.inner.q.get().is_none_or(|q| q.runq.is_empty()) {
                return;
            }
        }
    }

    fn task(&mut self, task: Task) {
        match task {
            Task::Op(id) => {
                let Some(&mut Entry { state: State::Ready(step), .. }) = self.inner.entry(id) else { return };
                if let Some(any) = self.inner.take(&self.plan, id) {
                    with_cell!(any, c => self.advance(c, step));
                }
            }
            Task::Cancel(id, reason) => self.cancel(id, reason),
            Task::IoDone { node, tag, done } => self.call(node, |l, cx| l.io_done(cx, tag, done)),
            Task::Timer { node, tag, alive } => {
                if alive.load(crate::sync::Ordering::Relaxed) {
                    self.call(node, |l, cx| l.timer(cx, tag));
                }
            }
            Task::Woken(node) => self.call(node, |l, cx| l.woken(cx)),
            Task::Event(event) => self.rise(event),
            Task::Fail { node, error } => self.fail_node(node, error),
            Task::Delivered(node) => self.serve_inbox(node),
        }
    }

    /// Calls a level outside an op, then queues what it asked for.
    fn call(&mut self, node: u8, f: impl FnOnce(&mut dyn crate::level::Level, &mut Cx<'_>)) {
        let Self { levels, plan, inner } = self;
        let Some(level) = levels.get_mut(usize::from(node).wrapping_sub(1)) else { return };
        let mut cx = Cx { inner, plan, node };
        let ok = catch_unwind(AssertUnwindSafe(|| f(&mut **level, &mut cx))).is_ok();
        self.queue_posts();
        if !ok {
            self.poison_at(node);
        }
    }

    /// Moves what was asked for to the front of the run queue, in the order asked.
    pub(crate) fn queue_posts(&mut self) {
        while let Some(t) = self.inner.q.get_mut().and_then(|q| q.posts.pop()) {
            self.inner.q.make().runq.push_front(t);
        }
    }

    fn rise(&mut self, mut event: Event) {
        loop {
            let above = self.plan.parent(event.from);
            if above == USER {
                let rare = self.inner.rare();
                if (rare.on_event.is_some() || rare.listening) && rare.events.len() < 64 {
                    rare.events.push_back(event);
                }
                return;
            }
            event.branch = self.plan.branch_of(above, event.from).unwrap_or(0);
            event.from = above;
            if self.plan.intercepts(above).contains(crate::driver::Intercepts::EVENT) {
                let mut consumed = false;
                let e = event.clone();
                self.call(above, |l, cx| consumed = l.event(cx, &e));
                if consumed {
                    return;
                }
            }
        }
    }

    /// Runs an op and deals with what comes of it.
    pub(crate) fn advance<K: Kind>(&mut self, mut cell: Box<Cell<K>>, step: Step) {
        // A request is no op: it comes back in `io_done`, and in no method of an op.
        let request = cell.head.role == Role::Request;
        let stop = if request { Stop::Freed } else { self.walk_caught(&mut cell, step) };
        self.stopped(cell, stop);
    }

    /// The loop, with panics of levels caught.
    #[inline]
    pub(crate) fn walk_caught<K: Kind>(&mut self, cell: &mut Cell<K>, step: Step) -> Stop {
        if self.levels.is_empty() {
            if cell.head.error.is_none() {
                cell.head.error = Some(self.inner.dead());
            }
            return if cell.head.origin == USER { Stop::Finished } else { Stop::Freed };
        }
        let counted = self.inner.rare.as_ref().is_some_and(|r| r.counts.is_some());
        let walked = catch_unwind(AssertUnwindSafe(|| {
            if counted { walk::<K, stats::On>(self, cell, step) } else { walk::<K, stats::Off>(self, cell, step) }
        }));
        match walked {
            Ok(stop) => stop,
            Err(_) => self.panicked(cell),
        }
    }

    #[cold]
    fn panicked<K: Kind>(&mut self, cell: &mut Cell<K>) -> Stop {
        let node = cell.head.at;
        if let Some(q) = self.inner.q.get_mut() {
            q.posts.clear();
        }
        self.poison_at(node);
        let place = self.inner.place(node);
        cell.head.error = Some(Error::new(ErrorKind::Panicked).at(K::KIND, || place));
        if cell.head.origin == USER { Stop::Finished } else { Stop::Freed }
    }

    pub(crate) fn stopped<K: Kind>(&mut self, mut cell: Box<Cell<K>>, stop: Stop) {
        match stop {
            Stop::Finished => return self.finish_user(cell),
            Stop::Freed => return self.free_own(cell),
            Stop::Posted(step) => {
                let id = self.inner.park(&self.plan, cell, State::Ready(step));
                self.inner.q.make().runq.push_front(Task::Op(id));
                return self.queue_posts();
            }
            Stop::Unwind(node) => return self.unwind(cell, node),
            _ => {}
        }
        if cell.head.origin == USER {
            self.inner.charge(&mut cell);
        }
        let id = match stop {
            Stop::Gate(node) => {
                let id = self.inner.park(&self.plan, cell, State::Gate(node));
                let gates = &mut self.inner.q.make().gates;
                if !gates.iter().any(|(_, _, i)| *i == id) {
                    gates.push_back((node, K::KIND, id));
                }
                id
            }
            Stop::Held(node) => {
                let id = self.inner.park(&self.plan, cell, State::Held(node));
                self.early(id, node);
                if K::KIND == OpKind::Write {
                    // A flush that waited for it to get here goes on.
                    self.inner.recheck_barriers();
                }
                id
            }
            Stop::Io | Stop::Work => {
                let id = self.inner.park(&self.plan, cell, State::Io);
                self.inner.q.make().ios.push_back(id);
                id
            }
            Stop::Inbox(node) => {
                let id = self.inner.park(&self.plan, cell, State::Inbox(node));
                self.serve_inbox(node);
                id
            }
            Stop::Barrier(step) => {
                let at = cell.head.at;
                let node = match step {
                    Step::Enter(n) | Step::Again(n) | Step::Leave(n) | Step::Worked(n) => n,
                    Step::Acted { node, .. } => node,
                };
                cell.head.at = at;
                let id = self.inner.park(&self.plan, cell, State::Barrier(step));
                self.inner.q.make().barriers.push(id);
                self.clear_for_close(node, matches!(step, Step::Enter(_)), id);
                id
            }
            Stop::Finished | Stop::Freed | Stop::Posted(_) | Stop::Unwind(_) => return,
        };
        if let Some(reason) = self.inner.entry(id).and_then(|e| e.cancel) {
            self.inner.q.make().runq.push_back(Task::Cancel(id, reason));
        }
    }

    /// An answer that a token gave before its op was put away.
    fn early(&mut self, id: OpId, node: u8) {
        let Some(entry) = self.inner.entry(id) else { return };
        match entry.more.as_mut().and_then(|m| m.early.take()) {
            None => {}
            Some(Early::Retry) => self.ready(id, Step::Again(node)),
            Some(Early::Pass) => self.pass_parked(id, node),
            Some(Early::Finish(result)) => self.finish_parked(id, node, result.err()),
        }
    }

    pub(crate) fn ready(&mut self, id: OpId, step: Step) {
        if let Some(e) = self.inner.entry(id) {
            e.state = State::Ready(step);
            self.inner.q.make().runq.push_back(Task::Op(id));
        }
    }

    fn pass_parked(&mut self, id: OpId, node: u8) {
        let act = crate::op::Act::Pass;
        self.ready(id, Step::Acted { node, act, phase: crate::engine::core::Phase::Down });
    }

    /// Sends a parked op up from `node`.
    pub(crate) fn finish_parked(&mut self, id: OpId, node: u8, error: Option<Error>) {
        let place = self.inner.place(node);
        let Some(entry) = self.inner.entry(id) else { return };
        let Some(any) = entry.cell.as_mut() else { return };
        let act = crate::op::Act::Done;
        let failed = error.is_some();
        match (error, &mut *any) {
            (Some(e), any) => {
                let kind = any.kind();
                any.head_mut().error = Some(e.at(kind, || place));
            }
            (None, AnyCell::Write(c)) => c.body.take_all(),
            (None, _) => {}
        }
        with_cell!(any, c => leave_level(c, node));
        if failed {
            self.ready(id, Step::Leave(node));
        } else {
            self.ready(id, Step::Acted { node, act, phase: crate::engine::core::Phase::Down });
        }
    }

    pub(crate) fn token_retry(&mut self, hold: (OpId, u8)) {
        match self.inner.held(hold) {
            Some(Entry { state: State::Held(node), .. }) => {
                let node = *node;
                self.ready(hold.0, Step::Again(node));
            }
            Some(e) if matches!(e.state, State::Ready(_)) && (e.cell.is_none() || e.state.holder().is_some()) => {
                e.more().early = Some(Early::Retry);
            }
            _ => {}
        }
    }

    pub(crate) fn token_fail(&mut self, hold: (OpId, u8), error: Error) {
        match self.inner.held(hold) {
            Some(Entry { state: State::Held(node), .. }) => {
                let node = *node;
                self.finish_parked(hold.0, node, Some(error));
            }
            Some(e) if e.state.holder().is_some() => e.more().early = Some(Early::Finish(Err(error))),
            _ => {}
        }
    }

    /// An op of a level's own is done.
    fn free_own<K: Kind>(&mut self, mut cell: Box<Cell<K>>) {
        let id = cell.head.id;
        if cell.head.role == Role::Unwind {
            let serves = cell.head.serves;
            // Whatever the close came to: nothing is closed twice.
            if let Some(child) = self.plan.child(cell.head.origin, cell.head.own_branch) {
                self.inner.nodes[usize::from(child)].opened = false;
            }
            self.inner.free_id(&self.plan, id);
            if let Some(Entry { state: State::Unwind(step), .. }) = self.inner.entry(serves) {
                let step = *step;
                self.ready(serves, step);
            }
            return;
        }
        if cell.head.role == Role::Request {
            let (node, tag) = (cell.head.origin, cell.head.tag);
            let done = match (std::mem::replace(&mut cell.head.io, IoSlot::None), cell.head.error.take()) {
                (_, Some(e)) => IoDone::Failed(e.into()),
                (IoSlot::Done(done), None) => *done,
                _ => IoDone::Done,
            };
            // The level hears of it before a close that waited for it comes in.
            self.inner.q.make().runq.push_back(Task::IoDone { node, tag, done });
            self.inner.free_id(&self.plan, id);
            return;
        }
        self.inner.free_id(&self.plan, id);
        cells::keep(K::wrap(cell));
    }

    /// An op of the user's is done: books it, then tells its owner.
    fn finish_user<K: Kind>(&mut self, mut cell: Box<Cell<K>>) {
        self.book(&mut cell);
        let id = cell.head.id;
        if let Some(e) = self.inner.entry(id) {
            if e.deserted {
                cell.end = End::Gone;
            } else if let Some(w) = e.more.as_mut().and_then(|m| m.waker.take()) {
                cell.end = End::Task(Some(w));
            }
        }
        match &mut cell.end {
            End::Wait(bell) => {
                if let Some(bell) = bell.take() {
                    self.inner.q.make().signals.push(crate::engine::core::Signal::Bell(bell));
                }
                self.inner.park(&self.plan, cell, State::Finished);
                self.inner.finished(id);
            }
            End::Task(waker) => {
                if let Some(w) = waker.take() {
                    self.inner.q.make().signals.push(crate::engine::core::Signal::Waker(w));
                }
                self.inner.park(&self.plan, cell, State::Finished);
                self.inner.finished(id);
            }
            End::Call(_) => {
                self.inner.free_id(&self.plan, id);
                cell.head.id = OpId::NONE;
                self.inner.q.make().calls.push_back(K::wrap(cell));
            }
            End::Gone | End::Own => {
                self.inner.free_id(&self.plan, id);
                self.inner.abandon(K::wrap(cell));
            }
        }
    }

    /// What the end of a user's op means for the handle.
    pub(crate) fn book<K: Kind>(&mut self, cell: &mut Cell<K>) {
        let inner = &mut self.inner;
        if cell.head.charged {
            inner.uncharge(K::KIND, cell.head.charge);
            cell.head.charged = false;
        }
        if inner.rare.as_ref().is_some_and(|r| r.lap.is_some()) {
            <stats::On as stats::Stats>::finished(inner);
        }
        let failed = match &mut cell.head.error {
            None => false,
            Some(e) => {
                if e.op().is_none() {
                    let at = cell.head.at.max(1);
                    let place = inner.place(at);
                    let e2 = std::mem::replace(e, Error::new(ErrorKind::Io));
                    *e = e2.at(K::KIND, || place);
                }
                if K::KIND == OpKind::Read && e.kind() == ErrorKind::Eof && !self.plan.eof_resets {
                    inner.eof = true;
                }
                true
            }
        };
        match K::KIND {
            OpKind::Open | OpKind::Listen => {
                if failed {
                    self.bury();
                } else if self.inner.status == Status::Opening {
                    self.inner.status = Status::Open;
                }
            }
            OpKind::Close => self.bury(),
            _ => {}
        }
    }

    /// The levels are done for: they go as soon as the lock is free. What is still about fails.
    pub(crate) fn bury(&mut self) {
        self.inner.status = Status::Closed;
        if self.levels.is_empty() {
            return;
        }
        let levels = std::mem::take(&mut self.levels);
        self.inner.q.make().garbage.extend(levels);
        if let Some(me) = self.inner.me.upgrade() {
            let key = me.key;
            if let Some(core) = self.inner.shared.release(key) {
                self.inner.q.make().signals.push(crate::engine::core::Signal::Free(core));
            }
            // Never the last owner: somebody holds the lock.
            self.inner.q.make().signals.push(crate::engine::core::Signal::Free(me));
        }
        if let Some(rare) = &mut self.inner.rare {
            for f in rare.on_stop.drain(..) {
                // Stop tasks run first in, first out; they may not take the lock.
                let _ = catch_unwind(AssertUnwindSafe(f));
            }
            rare.inboxes.clear();
        }
        let ids: Vec<OpId> = self
            .inner
            .ops
            .iter()
            .filter(|(_, e)| !matches!(e.state, State::Finished))
            .map(|(slot, e)| OpId { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation: e.generation })
            .collect();
        for id in ids {
            self.kill(id);
        }
    }

    /// Ends an op without asking any level.
    fn kill(&mut self, id: OpId) {
        let dead = self.inner.dead();
        self.inner.disarm(id);
        let Some(entry) = self.inner.entry(id) else { return };
        // What the pool works on ends here; what a thread has in its hands ends when it is back.
        if let State::Out(bell) = &entry.state
            && entry.cell.is_none()
        {
            entry.cancel = Some(Reason::Cancelled);
            if let Some(b) = bell.clone() {
                self.inner.q.make().signals.push(crate::engine::core::Signal::Bell(b));
            }
            return;
        }
        if let Some(q) = self.inner.q.get_mut() {
            q.gates.retain(|(_, _, i)| *i != id);
        }
        self.inner.unqueue(id);
        let Some(mut any) = self.inner.take(&self.plan, id) else { return };
        let orderly = self.inner.poisoned.is_none() && any.kind() == OpKind::Close;
        let head = any.head_mut();
        if head.error.is_none() && !orderly {
            head.error = Some(dead);
        }
        if head.origin == USER {
            with_cell!(any, c => self.finish_user(c));
        } else {
            self.inner.free_id(&self.plan, id);
        }
    }

    pub(crate) fn poison_at(&mut self, node: u8) {
        let place = self.inner.place(node);
        let e = Error::new(ErrorKind::Panicked);
        let e = match place {
            Some(p) => {
                let text = format!("the level `{}` ({}) panicked", p.level, p.driver);
                e.detail(text)
            }
            None => e,
        };
        self.poison(e);
    }

    /// Nothing of this handle can be trusted any more.
    pub(crate) fn poison(&mut self, error: Error) {
        self.inner.poisoned.get_or_insert(error);
        self.bury();
    }

    /// A level said that it and everything below it is of no use any more.
    fn fail_node(&mut self, node: u8, error: Error) {
        let place = self.inner.place(node);
        let error = error.at(OpKind::Read, || place);
        self.inner.rare().failed.push(Failed { node, error: error.clone(), writes_only: false });
        let plan = self.plan.clone();
        let ids: Vec<OpId> = self
            .inner
            .ops
            .iter()
            .filter(|(_, e)| {
                plan.within(e.at, node)
                    && e.origin < node
                    && !matches!(e.kind, OpKind::Close | OpKind::Open | OpKind::Listen)
            })
            .map(|(slot, e)| OpId { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation: e.generation })
            .collect();
        for id in ids {
            self.stop_parked(id, error.clone());
        }
    }

    /// Stops an op for somebody who no longer wants it.
    pub(crate) fn cancel(&mut self, id: OpId, reason: Reason) {
        let Some(entry) = self.inner.entry(id) else { return };
        if matches!(entry.kind, OpKind::Close) {
            if reason == Reason::TimedOut {
                self.force_close(id);
            }
            return;
        }
        entry.cancel = Some(reason);
        if let State::Held(node) = entry.state {
            let mut answer = Cancel::Take;
            self.call(node, |l, cx| answer = l.cancel(cx, id, reason));
            if answer == Cancel::Keep {
                return;
            }
        }
        self.stop_parked(id, stopped(reason));
    }

    /// Ends a parked op with an error, from where it is upwards.
    fn stop_parked(&mut self, id: OpId, error: Error) {
        let Some(entry) = self.inner.entry(id) else { return };
        let at = entry.at;
        match &entry.state {
            State::Admission(_) => {
                self.inner.unqueue(id);
                self.set_error(id, error);
                self.ready(id, Step::Leave(at));
                if let Some(any) = self.inner.take(&self.plan, id) {
                    with_cell!(any, c => self.finish_user(c));
                }
            }
            State::Gate(node) => {
                let node = *node;
                if let Some(q) = self.inner.q.get_mut() {
                    q.gates.retain(|(_, _, i)| *i != id);
                }
                self.inner.release_gates(&self.plan, id);
                self.set_error(id, error);
                self.ready(id, Step::Leave(node));
            }
            State::Held(node) | State::Inbox(node) => {
                let node = *node;
                self.finish_parked(id, node, Some(error));
            }
            State::Io => {
                self.note_torn(id);
                self.finish_parked(id, at, Some(error));
            }
            State::Armed(..) => {
                self.inner.disarm(id);
                self.note_torn(id);
                self.finish_parked(id, at, Some(error));
            }
            // The pool works on it: what that gives comes too late.
            State::Out(_) if entry.cell.is_some() => self.finish_parked(id, at, Some(error)),
            State::Out(bell) => {
                if let Some(b) = bell.clone() {
                    self.inner.q.make().signals.push(crate::engine::core::Signal::Bell(b));
                }
            }
            State::Barrier(_) if entry.kind != OpKind::Close => {
                if let Some(q) = self.inner.q.get_mut() {
                    q.barriers.retain(|b| *b != id);
                }
                self.finish_parked(id, at, Some(error));
            }
            State::Ready(_) | State::Barrier(_) | State::Unwind(_) | State::Finished => {}
        }
        self.cancel_servants(id);
    }

    /// Ops that were made to serve this one go with it.
    fn cancel_servants(&mut self, id: OpId) {
        let servants: Vec<OpId> = self
            .inner
            .ops
            .iter()
            .filter(|(_, e)| e.origin != USER && e.cell.as_ref().is_some_and(|c| c.head().serves == id))
            .map(|(slot, e)| OpId { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation: e.generation })
            .collect();
        for s in servants {
            self.inner.q.make().runq.push_back(Task::Cancel(s, Reason::Cancelled));
        }
    }

    fn set_error(&mut self, id: OpId, error: Error) {
        let Some(at) = self.inner.entry(id).map(|e| e.at) else { return };
        let place = self.inner.place(at.max(1));
        if let Some(any) = self.inner.entry(id).and_then(|e| e.cell.as_mut()) {
            let kind = any.kind();
            any.head_mut().error = Some(error.at(kind, || place));
        }
    }

    /// A write that stops half way leaves part of a message on the wire: nothing may follow it.
    fn note_torn(&mut self, id: OpId) {
        let borders = self.plan.unit.has_borders();
        let Some(entry) = self.inner.entry(id) else { return };
        let (at, error) = match entry.cell.as_ref() {
            Some(AnyCell::Write(c)) if borders && c.body.moved > 0 && c.body.moved < c.body.total => {
                let text = format!("a stopped write left {} of {} bytes of a message sent", c.body.moved, c.body.total);
                (entry.at, Error::new(ErrorKind::BrokenPipe).detail(text))
            }
            _ => return,
        };
        self.inner.rare().failed.push(Failed { node: at, error, writes_only: true });
    }

    /// Stops what keeps a close from going on.
    fn clear_for_close(&mut self, node: u8, entering: bool, close: OpId) {
        let (mode, from_user) = match self.inner.entry(close).and_then(|e| e.cell.as_ref()) {
            Some(AnyCell::Close(c)) => (c.body.mode, c.head.origin == USER),
            _ => return,
        };
        let plan = self.plan.clone();
        let ids: Vec<OpId> = self
            .inner
            .ops
            .iter()
            .filter(|(_, e)| {
                let mine = (from_user && e.origin == USER)
                    || (node != crate::plan::END
                        && plan.within(e.at, node)
                        && if entering { e.origin <= node } else { e.origin == node });
                let stops = match e.kind {
                    OpKind::Close => false,
                    OpKind::Write | OpKind::Flush | OpKind::Shutdown => mode == CloseMode::Abort && entering,
                    _ => entering && (mode != CloseMode::Keep || e.origin != USER),
                };
                mine && stops && e.cancel.is_none() && !matches!(e.state, State::Finished)
            })
            .map(|(slot, e)| OpId { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation: e.generation })
            .collect();
        for id in ids {
            self.inner.q.make().runq.push_back(Task::Cancel(id, Reason::Cancelled));
        }
    }

    /// The time for an orderly close is over.
    fn force_close(&mut self, id: OpId) {
        match self.inner.entry(id).and_then(|e| e.cell.as_mut()) {
            Some(AnyCell::Close(c)) if c.body.mode != CloseMode::Abort => c.body.mode = CloseMode::Abort,
            _ => {
                // Even that did not help: somebody holds on to an op, or never answers.
                let e = Error::new(ErrorKind::TimedOut).detail("the close was forced");
                self.inner.poisoned.get_or_insert(e);
                return self.bury();
            }
        }
        let again = self.inner.shared.now() + std::time::Duration::from_millis(500);
        let key = self.inner.shared.timers.deadline(again, self.inner.me.clone(), id);
        let Some(entry) = self.inner.entry(id) else { return };
        entry.more().timer = Some((again, key));
        // A level that keeps a close has not done what it had to do first.
        let error = matches!(entry.state, State::Held(_))
            .then(|| Error::new(ErrorKind::TimedOut).detail("the close was forced while a level held it"));
        let step = match entry.state {
            State::Barrier(step) => Some(step),
            State::Held(_) | State::Armed(..) | State::Io => None,
            _ => return,
        };
        match step {
            Some(step) => {
                if let Some(q) = self.inner.q.get_mut() {
                    q.barriers.retain(|b| *b != id);
                }
                // Everything that was let go on before is stopped now.
                for (_, e) in &mut self.inner.ops {
                    if e.kind != OpKind::Close {
                        e.cancel = None;
                    }
                }
                self.ready(id, step);
            }
            None => {
                let at = self.inner.entry(id).map_or(USER, |e| e.at);
                self.inner.disarm(id);
                self.finish_parked(id, at, error);
            }
        }
    }

    /// Closes what a failed open left open below `node`, branch by branch.
    fn unwind<K: Kind>(&mut self, cell: Box<Cell<K>>, node: u8) {
        let Some((origin, branch)) = self.inner.opened_below(&self.plan, node) else {
            return self.advance(cell, Step::Leave(node));
        };
        let id = self.inner.park(&self.plan, cell, State::Unwind(Step::Leave(node)));
        let mut close = Cell::<Close>::boxed();
        close.body.mode = CloseMode::Abort;
        close.head.role = Role::Unwind;
        close.head.origin = origin;
        close.head.at = origin;
        close.head.own_branch = branch;
        close.head.serves = id;
        let first = self.plan.branch_entry(OpKind::Close, origin, branch).unwrap_or(crate::plan::END);
        self.advance(close, Step::Enter(first));
    }

    /// The next op whose request is to be tried, taken out.
    pub(crate) fn next_io(&mut self) -> Option<Outing> {
        while let Some(id) = self.inner.q.get_mut().and_then(|q| q.ios.pop_front()) {
            let Some(entry) = self.inner.entry(id) else { continue };
            if !matches!(entry.state, State::Io) {
                continue;
            }
            if let Some(e) = self.inner.torn(id) {
                let at = self.inner.entry(id).map_or(USER, |e| e.at);
                self.finish_parked(id, at, Some(e));
                self.run();
                continue;
            }
            let Some(entry) = self.inner.entry(id) else { continue };
            if let Some(cell) = entry.cell.take() {
                entry.state = State::Out(None);
                return Some(Outing { cell });
            }
        }
        None
    }

    /// Puts an op back that was taken out but not tried.
    pub(crate) fn put_back(&mut self, job: Outing) {
        let id = job.cell.head().id;
        if let Some(entry) = self.inner.entry(id) {
            entry.state = State::Io;
            entry.cell = Some(job.cell);
            self.inner.q.make().ios.push_front(id);
        }
    }

    /// An op is back from its attempt.
    pub(crate) fn resume(&mut self, back: Back, turn: &mut Turn) {
        turn.ops += 1;
        with_cell!(back.cell, c => {
            if let Some((_, n)) = kind_moved(&c) {
                turn.bytes += n;
            }
            self.resume_cell(c, back.attempt);
        });
    }

    pub(crate) fn resume_cell<K: Kind>(&mut self, mut cell: Box<Cell<K>>, attempt: Attempt) {
        let id = cell.head.id;
        match attempt {
            Attempt::Go(step) => {
                self.inner.note_progress(K::KIND);
                self.inner.release_gates(&self.plan, id);
                if let Some(e) = self.inner.entry(id) {
                    e.state = State::Ready(step);
                }
                if let Some(e) = cell.head.error.take() {
                    if e.kind() == ErrorKind::Panicked {
                        self.poison_at(cell.head.at);
                    }
                    let place = self.inner.place(cell.head.at);
                    cell.head.error = Some(e.at(K::KIND, || place));
                }
                self.advance(cell, step);
            }
            attempt => {
                let cancelled = match self.inner.entry(id) {
                    Some(e) => e.cancel,
                    None => return,
                };
                if self.levels.is_empty() || cancelled.is_some() {
                    let reason = cancelled.unwrap_or(Reason::Cancelled);
                    self.put_away(id, K::wrap(cell), State::Io);
                    if self.levels.is_empty() {
                        return self.kill(id);
                    }
                    return self.cancel(id, reason);
                }
                self.wait_outside(id, cell, attempt);
            }
        }
    }

    /// An op that cannot go on now waits for its socket or for the pool.
    fn wait_outside<K: Kind>(&mut self, id: OpId, cell: Box<Cell<K>>, attempt: Attempt) {
        match attempt {
            Attempt::Go(_) => {}
            Attempt::Block(sock, direction) => {
                let waiter = Waiter { core: self.inner.me.clone(), id };
                if sock.0.arm(direction, waiter) {
                    self.put_away(id, K::wrap(cell), State::Armed(sock, direction));
                    self.inner.note_wait(id, K::KIND);
                } else {
                    self.put_away(id, K::wrap(cell), State::Io);
                    self.inner.q.make().ios.push_back(id);
                }
            }
            Attempt::Pool(job) => {
                self.put_away(id, K::wrap(cell), State::Out(None));
                let number = self.inner.entry(id).map_or(0, |e| {
                    e.job = e.job.wrapping_add(1);
                    e.job
                });
                let me = self.inner.me.clone();
                self.inner.shared.pool.run(Box::new(move || {
                    let done = catch_unwind(AssertUnwindSafe(job))
                        .unwrap_or_else(|_| IoDone::Failed(std::io::Error::other("the closure panicked")));
                    if let Some(core) = me.upgrade() {
                        pool_done(&core, id, number, done);
                    }
                }));
            }
        }
    }

    fn put_away(&mut self, id: OpId, any: AnyCell, state: State) {
        let (deadline, me) = (any.head().deadline, self.inner.me.clone());
        let needs_timer =
            self.inner.entry(id).is_some_and(|e| e.timer().is_none()) && deadline != crate::time::Time::NEVER;
        let key = needs_timer.then(|| self.inner.shared.timers.deadline(deadline, me, id));
        if let Some(e) = self.inner.entry(id) {
            e.cell = Some(any);
            e.state = state;
            if let Some(key) = key {
                e.more().timer = Some((deadline, key));
            }
        }
    }

    /// A socket that an op waits for is ready.
    pub(crate) fn woken(&mut self, id: OpId) {
        if let Some(e) = self.inner.entry(id)
            && matches!(e.state, State::Armed(..))
        {
            e.state = State::Io;
            self.inner.q.make().ios.push_back(id);
        }
    }

    /// Hands chunks that were delivered to reads that wait for them.
    pub(crate) fn serve_inbox(&mut self, node: u8) {
        loop {
            let waiting = self
                .inner
                .ops
                .iter()
                .filter(|(_, e)| matches!(e.state, State::Inbox(n) if n == node))
                .min_by_key(|(_, e)| e.generation)
                .map(|(slot, e)| OpId { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation: e.generation });
            let Some(id) = waiting else { return };
            let borders = self.plan.has_borders(node);
            let Some(rare) = self.inner.rare.as_mut() else { return };
            let Some(Inbox { chunks: box_, .. }) = rare.inboxes.iter_mut().find(|b| b.node == node) else { return };
            let Some(chunk) = box_.front_mut() else { return };
            let Some(entry) = self.inner.ops.get_mut(id.slot as usize) else { return };
            let Some(AnyCell::Read(cell)) = entry.cell.as_mut() else { return };
            let len = chunk.len();
            cell.body.put_chunk(chunk);
            cell.body.touch();
            let rest = chunk.len();
            // The rest of a message stays readable; that of a datagram is gone.
            let unit = self.inner.stack.nodes().get(usize::from(node) - 1).map(|n| n.caps.unit);
            if rest == 0 || unit == Some(crate::caps::Unit::Datagram) {
                box_.pop_front();
            }
            let error = (borders && rest > 0).then(|| Error::new(ErrorKind::Truncated { len }));
            let enough = borders || cell.body.got >= cell.body.wait_for || cell.body.room == 0;
            if enough || error.is_some() {
                self.finish_parked(id, node, error);
            }
        }
    }

    /// What to run for the user next, with no lock held.
    pub(crate) fn next_call(&mut self) -> Option<Box<dyn FnOnce()>> {
        if let Some(any) = self.inner.q.get_mut().and_then(|q| q.calls.pop_front()) {
            return Some(with_cell!(any, c => call_of(c)));
        }
        let rare = self.inner.rare.as_mut()?;
        let event = rare.events.pop_front()?;
        let mut f = rare.on_event.take()?;
        rare.listening = true;
        let me = self.inner.me.clone();
        Some(Box::new(move || {
            f(&event);
            if let Some(core) = me.upgrade() {
                let mut lane = crate::engine::post::Lane::enter(&core);
                let rare = lane.inner.rare();
                rare.listening = false;
                if rare.on_event.is_none() {
                    rare.on_event = Some(f);
                }
                lane.leave_quiet();
            }
        }))
    }
}

fn leave_level<K: Kind>(cell: &mut Cell<K>, node: u8) {
    K::leave_level(&mut cell.body, node);
}

fn kind_moved<K: Kind>(cell: &Cell<K>) -> Option<(bool, usize)> {
    K::moved(&cell.body)
}

fn call_of<K: Kind>(mut cell: Box<Cell<K>>) -> Box<dyn FnOnce()> {
    Box::new(move || {
        if let End::Call(f) = std::mem::replace(&mut cell.end, End::Own) {
            f(K::outcome(&mut cell));
        }
    })
}

/// The pool is done with a request.
fn pool_done(core: &Arc<Core>, id: OpId, number: u8, done: IoDone) {
    let mut lane = crate::engine::post::Lane::enter(core);
    let cancel = match lane.inner.entry(id) {
        Some(e) if matches!(e.state, State::Out(_)) && e.job == number => e.cancel,
        _ => return lane.leave(),
    };
    let plan = lane.plan.clone();
    if let Some(mut any) = lane.inner.take(&plan, id) {
        let head = any.head_mut();
        let at = head.at;
        let step = match cancel {
            Some(reason) => {
                head.error = Some(stopped(reason));
                Step::Leave(at)
            }
            None => {
                head.io = IoSlot::Done(Box::new(done));
                Step::Again(at)
            }
        };
        let request = head.role == Role::Request;
        if let Some(e) = lane.inner.entry(id) {
            e.state = State::Ready(step);
        }
        with_cell!(any, c => if request { lane.stopped(c, Stop::Freed) } else { lane.advance(c, step) });
    }
    lane.leave();
}

impl Inner {
    /// Why nothing works any more.
    pub(crate) fn dead(&self) -> Error {
        match &self.poisoned {
            Some(e) => e.clone(),
            None => Error::new(ErrorKind::Closed),
        }
    }

    /// An op waits for its socket no longer.
    pub(crate) fn disarm(&mut self, id: OpId) {
        let waiter = Waiter { core: self.me.clone(), id };
        if let Some(Entry { state: State::Armed(sock, direction), .. }) = self.entry(id) {
            sock.0.disarm(*direction, &waiter);
        }
    }

    pub(crate) fn finished(&mut self, id: OpId) {
        let timer = match self.entry(id) {
            Some(e) => {
                e.cancel = None;
                e.take_timer()
            }
            None => None,
        };
        if let Some((at, key)) = timer {
            self.shared.timers.remove(at, key);
        }
        if self.q.get().is_some_and(|q| !q.barriers.is_empty()) {
            self.recheck_barriers();
        }
    }

    /// Counts a user's op among the outstanding ones.
    pub(crate) fn charge<K: Kind>(&mut self, cell: &mut Cell<K>) {
        if cell.head.charged {
            return;
        }
        if let Some(side) = side_of(K::KIND) {
            cell.head.charged = true;
            self.sides[side].ops += 1;
            self.sides[side].bytes += cell.head.charge;
        }
    }

    pub(crate) fn uncharge(&mut self, kind: OpKind, bytes: usize) {
        let Some(i) = side_of(kind) else { return };
        self.sides[i].ops = self.sides[i].ops.saturating_sub(1);
        self.sides[i].bytes = self.sides[i].bytes.saturating_sub(bytes);
        self.admit_waiting(i);
    }

    #[inline]
    fn admit_waiting(&mut self, side: usize) {
        while let Some(id) = self.q.get().and_then(|q| q.waiting[side].front().copied()) {
            let Some(e) = self.entry(id) else {
                self.q.make().waiting[side].pop_front();
                continue;
            };
            let (step, charge) = match (&e.state, e.cell.as_ref()) {
                (State::Admission(step), Some(c)) => (*step, c.head().charge),
                _ => {
                    self.q.make().waiting[side].pop_front();
                    continue;
                }
            };
            let s = &self.sides[side];
            if s.ops > 0 && (s.ops >= self.limits.ops || s.bytes.saturating_add(charge) > self.limits.bytes) {
                return;
            }
            self.q.make().waiting[side].pop_front();
            self.sides[side].ops += 1;
            self.sides[side].bytes += charge;
            if let Some(e) = self.entry(id) {
                e.state = State::Ready(step);
                if let Some(c) = &mut e.cell {
                    c.head_mut().charged = true;
                }
            }
            self.q.make().runq.push_back(Task::Op(id));
        }
    }

    /// Whether a user's op may start now.
    #[inline]
    pub(crate) fn may_start(&self, side: usize, charge: usize) -> bool {
        let s = &self.sides[side];
        let nobody = self.q.get().is_none_or(|q| q.waiting[side].is_empty());
        s.ops == 0 || (nobody && s.ops < self.limits.ops && s.bytes.saturating_add(charge) <= self.limits.bytes)
    }

    pub(crate) fn unqueue(&mut self, id: OpId) {
        if let Some(q) = self.q.get_mut() {
            q.waiting.iter_mut().for_each(|w| w.retain(|i| *i != id));
        }
    }

    /// An op finished whose owner has gone: its data goes back to the top of the stack.
    pub(crate) fn abandon(&mut self, any: AnyCell) {
        let AnyCell::Read(mut c) = any else { return cells::keep(any) };
        let keep = c.head.error.is_none() || c.body.got > 0;
        if keep {
            let done = match <Read as Kind>::outcome(&mut c) {
                Ok(d) => d,
                Err(f) => f.back,
            };
            let attrs = done.attrs.clone();
            // A buffer may have held bytes before this read.
            let n = done.n;
            let chunk = if done.chunks.is_empty() {
                let b = done.buf.freeze();
                b.slice(b.len() - n.min(b.len())..)
            } else {
                done.into_bytes()
            };
            self.rare().leftover.push_back((Chunk::from(chunk), attrs));
        }
        cells::keep_read(c);
    }

    pub(crate) fn has_calls(&self) -> bool {
        self.q.get().is_some_and(|q| !q.calls.is_empty())
            || self.rare.as_ref().is_some_and(|r| r.on_event.is_some() && !r.events.is_empty())
    }

    fn torn(&self, id: OpId) -> Option<Error> {
        let failed = &self.rare.as_ref()?.failed;
        let e = self.ops.get(id.slot as usize)?;
        if failed.is_empty() || !matches!(e.kind, OpKind::Write) {
            return None;
        }
        failed.iter().find(|f| f.node == e.at).map(|f| f.error.clone())
    }

    /// Notes that bytes moved, for idle limits.
    pub(crate) fn note_progress(&mut self, kind: OpKind) {
        let Some(side) = side_of(kind) else { return };
        if self.rare.as_ref().is_some_and(|r| r.idle[side].is_some()) {
            let now = self.shared.now();
            self.rare().progress[side] = now;
        }
    }

    /// An op waits for its socket: from now on the idle limit counts.
    fn note_wait(&mut self, id: OpId, kind: OpKind) {
        let Some(side) = side_of(kind) else { return };
        let Some(limit) = self.rare.as_ref().and_then(|r| r.idle[side]) else { return };
        let now = self.shared.now();
        let rare = self.rare();
        rare.progress[side] = rare.progress[side].max(now);
        let at = now + limit;
        let timer = match self.entry(id) {
            Some(e) => e.timer(),
            None => return,
        };
        // The earlier of the op's own deadline and the idle limit; the one looks after the other.
        if timer.is_none_or(|(t, _)| t > at) {
            if let Some((t, key)) = timer {
                self.shared.timers.remove(t, key);
            }
            let key = self.shared.timers.deadline(at, self.me.clone(), id);
            if let Some(e) = self.entry(id) {
                e.more().timer = Some((at, key));
            }
        }
    }

    /// The level below `node` that was opened last, as a branch of the level above it.
    pub(crate) fn opened_below(&self, plan: &crate::plan::Plan, node: u8) -> Option<(u8, u8)> {
        (0..plan.branches(node)).rev().find_map(|b| {
            let b = u8::try_from(b).ok()?;
            let child = plan.child(node, b)?;
            if self.nodes[usize::from(child)].opened { Some((node, b)) } else { self.opened_below(plan, child) }
        })
    }

    /// Whether nothing of the levels above, and nothing of its own, is in or below this level.
    pub(crate) fn quiet(&self, plan: &crate::plan::Plan, node: u8) -> bool {
        self.ops.iter().all(|(_, e)| {
            matches!(e.kind, OpKind::Close)
                || matches!(e.state, State::Finished)
                || e.origin > node
                || !plan.within(e.at, node)
        })
    }

    /// Whether nothing of this level's own is below it.
    pub(crate) fn quiet_own(&self, _plan: &crate::plan::Plan, node: u8) -> bool {
        self.ops
            .iter()
            .all(|(_, e)| matches!(e.kind, OpKind::Close) || matches!(e.state, State::Finished) || e.origin != node)
    }

    /// Whether writes are on their way to this level, or at it, that a flush or shutdown entering it
    /// must not overtake. What a level holds is that level's own to send on.
    pub(crate) fn writes_ahead(&self, plan: &crate::plan::Plan, node: u8, origin: u8) -> bool {
        self.ops.iter().any(|(_, e)| {
            matches!(e.kind, OpKind::Write)
                && e.at > origin
                && !matches!(e.state, State::Held(_) | State::Finished | State::Admission(_))
                && (node == crate::plan::END || plan.within(node, e.at))
        }) || (origin == USER && self.q.get().is_some_and(|q| !q.waiting[1].is_empty()))
    }

    /// Whether the user has nothing outstanding.
    pub(crate) fn quiet_user(&self) -> bool {
        self.ops
            .iter()
            .all(|(_, e)| matches!(e.kind, OpKind::Close) || matches!(e.state, State::Finished) || e.origin != USER)
    }
}

pub(crate) fn side_of(kind: OpKind) -> Option<usize> {
    match kind {
        OpKind::Read => Some(0),
        OpKind::Write => Some(1),
        _ => None,
    }
}

/// Wakes a level from anywhere.
pub(crate) fn wake_level(core: Arc<Core>, node: u8) {
    post(core, crate::engine::post::Post::Woken(node));
}
