//! How ops end before their time: cancel, deadlines, close, poison, and the unwinding of a failed
//! open. Invariant: an op that is stopped ends once, from where it is upwards, and a close goes on only
//! over quiet levels.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::driver::OpKind;
use crate::engine::core::{Entry, Failed, Inner, State, Status, Step, Task, Tree, Try};
use crate::engine::pump::stopped;
use crate::engine::recall::later;
use crate::error::{Error, ErrorKind};
use crate::handle::{CLOSE_TIME, CloseMode};
use crate::level::{Cancel, Reason};
use crate::op::{AnyCell, Cell, Close, Kind, OpId, Role, with_cell};
use crate::plan::USER;
use crate::sync::planted;
use crate::time::Time;

/// After its time a close is an abort; so much later it is over.
const FORCED: Duration = Duration::from_millis(500);

impl Tree {
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
            let links = std::mem::take(&mut rare.links);
            if !links.is_empty() {
                self.inner.q.make().signals.push(crate::engine::core::Signal::Links(links));
            }
        }
        let ids: Vec<OpId> = self.inner.ids(|e| !matches!(e.state, State::Finished)).collect();
        for id in ids {
            self.kill(id);
        }
    }

    /// Ends an op without asking any level.
    pub(super) fn kill(&mut self, id: OpId) {
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
        self.inner.leave_gate(id);
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
        // With its place: an op that waited elsewhere names the level that panicked, not its own.
        let e = Error::new(ErrorKind::Panicked);
        let e = if let Some(p) = self.inner.place(node) { e.at_level(p) } else { e };
        self.poison(e);
    }

    /// Nothing of this handle can be trusted any more.
    pub(crate) fn poison(&mut self, error: Error) {
        self.inner.poisoned.get_or_insert(error);
        self.bury();
    }

    /// A level said that it and everything below it is of no use any more.
    pub(super) fn fail_node(&mut self, node: u8, error: Error) {
        let place = self.inner.place(node);
        let error = error.at(OpKind::Read, || place);
        self.inner.rare().failed.push(Failed { node, error: error.clone(), writes_only: false });
        let plan = self.plan.clone();
        let ids: Vec<OpId> = self
            .inner
            .ids(|e| {
                plan.within(e.at, node)
                    && e.origin < node
                    && !matches!(e.kind, OpKind::Close | OpKind::Open | OpKind::Listen)
            })
            .collect();
        for id in ids {
            self.stop_parked(id, error.clone());
        }
    }

    /// Stops an op for somebody who no longer wants it.
    pub(crate) fn cancel(&mut self, mut id: OpId, reason: Reason) {
        if planted("a cancel knows the place alone") {
            id.generation = self.inner.ops.get(id.slot as usize).map_or(0, |e| e.generation);
        }
        let Some(entry) = self.inner.entry(id) else { return };
        if matches!(entry.kind, OpKind::Close) {
            if reason == Reason::TimedOut {
                return self.force_close(id);
            }
            if !planted("a close can be cancelled") {
                return;
            }
        }
        if entry.recalled {
            entry.more().withdrawn = Some(reason);
        }
        // A level that keeps its op is asked once.
        let asked = entry.cancel.replace(reason).is_some()
            && matches!(entry.state, State::Held(_))
            && !planted("a level is asked again");
        if !asked && !planted("a cancel stops nothing") {
            self.pursue(id, reason);
        }
    }

    /// Stops an op wherever it is.
    pub(super) fn pursue(&mut self, id: OpId, reason: Reason) {
        let Some(entry) = self.inner.entry(id) else { return };
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
    pub(super) fn stop_parked(&mut self, id: OpId, error: Error) {
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
                // Those behind it may be smaller.
                (0..2).for_each(|side| self.inner.admit_waiting(side));
            }
            State::Gate(node) => {
                let node = *node;
                self.inner.leave_gate(id);
                self.inner.release_gates(&self.plan, id);
                self.set_error(id, error);
                self.ready(id, Step::Leave(node));
            }
            State::Held(node) | State::Inbox(node) => {
                let node = *node;
                self.finish_parked(id, node, Some(error));
            }
            State::Io => self.finish_parked(id, at, Some(error)),
            State::Armed(..) => {
                self.inner.disarm(id);
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
        let servants: Vec<OpId> =
            self.inner.ids(|e| e.origin != USER && e.cell.as_ref().is_some_and(|c| c.head().serves == id)).collect();
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

    /// Stops what keeps a close from going on.
    pub(super) fn clear_for_close(&mut self, node: u8, entering: bool, close: OpId) {
        let (mode, from_user) = match self.inner.entry(close).and_then(|e| e.cell.as_ref()) {
            Some(AnyCell::Close(c)) => (c.body.mode, c.head.origin == USER),
            _ => return,
        };
        let plan = self.plan.clone();
        let ids: Vec<OpId> = self
            .inner
            .ids(|e| {
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
            .collect();
        for id in ids {
            self.inner.q.make().runq.push_back(Task::Cancel(id, Reason::Cancelled));
        }
        for (side, t) in self.inner.tries.iter_mut().enumerate() {
            let mine = t.at != USER && (from_user || (node != crate::plan::END && plan.within(t.at, node)));
            let stops = entering && if side == 1 { mode == CloseMode::Abort } else { mode != CloseMode::Keep };
            t.stop |= mine && stops;
        }
    }

    /// The time for an orderly close is over.
    fn force_close(&mut self, id: OpId) {
        match self.inner.entry(id).and_then(|e| e.cell.as_mut()) {
            Some(AnyCell::Close(c)) if c.body.mode != CloseMode::Abort => {
                c.body.mode = CloseMode::Abort;
                c.body.late = true;
            }
            _ => {
                // Even that did not help: somebody holds on to an op, or never answers.
                let e = Error::new(ErrorKind::TimedOut).detail("the close was forced");
                self.inner.poisoned.get_or_insert(e);
                return self.bury();
            }
        }
        let again = self.inner.shared.now() + FORCED;
        let key = self.inner.shared.timers.deadline(again, self.inner.me.clone(), id);
        let Some(entry) = self.inner.entry(id) else { return };
        entry.more().timer = Some((again, key));
        // A level that keeps a close has not done what it had to do first. What it does for that is stopped,
        // and tells it so.
        let node = entry.at;
        if matches!(entry.state, State::Held(_)) {
            let own = |e: &Entry| e.origin == node && e.kind != OpKind::Close && !matches!(e.state, State::Finished);
            let ids: Vec<OpId> = self.inner.ids(own).collect();
            if !ids.is_empty() {
                ids.into_iter().for_each(|id| self.inner.q.make().runq.push_back(Task::Cancel(id, Reason::Cancelled)));
                return;
            }
        }
        let Some(entry) = self.inner.entry(id) else { return };
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
    pub(super) fn unwind<K: Kind>(&mut self, cell: Box<Cell<K>>, node: u8) {
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
        // The open's time is over soon, or a level may never answer: then what is left is dropped.
        let now = self.inner.shared.now();
        let open = self.inner.entry(id).and_then(|e| e.cell.as_ref()).map_or(Time::NEVER, |c| c.head().deadline);
        close.head.deadline = (open.max(now).min(now + CLOSE_TIME)) + FORCED;
        let first = self.plan.branch_entry(OpKind::Close, origin, branch).unwrap_or(crate::plan::END);
        self.advance(close, Step::Enter(first));
    }
}

impl Inner {
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
        let tried = |t: &Try| t.at != USER && plan.within(t.at, node) && !planted("a barrier sees no try");
        !self.tries.iter().any(tried)
            && self.ops.iter().all(|(_, e)| {
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
    /// must not overtake. What a level holds is that level's own to send on, and what a user asked for after
    /// the flush, `mine`, is not waited for.
    pub(crate) fn writes_ahead(&self, plan: &crate::plan::Plan, node: u8, origin: u8, mine: OpId) -> bool {
        let ahead = |at: u8| at > origin && (node == crate::plan::END || plan.within(node, at));
        let before = |turn: u32| mine.is_none() || !later(turn, mine.generation);
        let tried = &self.tries[1];
        // One that is tried has its place if it was before `mine` got its own.
        let tries = ahead(tried.at) && !planted("a flush sees no try");
        (tries && (mine.is_none() || tried.turn != 0 && before(tried.turn)))
            || self.ops.iter().any(|(_, e)| {
                matches!(e.kind, OpKind::Write)
                    && !matches!(e.state, State::Held(_) | State::Finished | State::Admission(_))
                    && ahead(e.at)
                    && (e.origin != USER || before(e.generation))
            })
            || (origin == USER
                && self.q.get().and_then(|q| q.waiting[1].front()).is_some_and(|first| before(first.generation)))
    }

    /// Whether the user has nothing outstanding.
    pub(crate) fn quiet_user(&self) -> bool {
        (self.tries.iter().all(|t| t.at == USER) || planted("a barrier sees no try"))
            && self
                .ops
                .iter()
                .all(|(_, e)| matches!(e.kind, OpKind::Close) || matches!(e.state, State::Finished) || e.origin != USER)
    }
}
