//! What the loop's verdicts lead to: parking, finishing, freeing, and the run queue that ties them
//! together. Invariant: when the lock is let go the run queue is empty.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cx::{Cx, Event};
use crate::driver::OpKind;
use crate::engine::cells;
use crate::engine::core::{Core, Early, Entry, Inbox, Inner, State, Status, Step, Task, Tree};
use crate::engine::end::End;
use crate::engine::post::post;
use crate::engine::queues::Queues;
use crate::engine::walk::{Stop, walk};
use crate::error::{Error, ErrorKind};
use crate::io::IoDone;
use crate::op::{AnyCell, Cell, IoSlot, Kind, OpId, Role, with_cell};
use crate::plan::USER;
use crate::stats;
use crate::sync::{Arc, planted};

impl Tree {
    /// Works the run queue off.
    pub(crate) fn run(&mut self) {
        loop {
            while let Some(task) = self.inner.q.get_mut().and_then(|q| q.runq.pop_front()) {
                self.task(task);
            }
            self.inner.open_gates(&self.plan);
            if self.inner.q.get().is_none_or(|q| q.runq.is_empty()) {
                return;
            }
        }
    }

    fn task(&mut self, task: Task) {
        match task {
            Task::Op(id) => {
                let Some(&mut Entry { state: State::Ready(step), at, .. }) = self.inner.entry(id) else { return };
                let Some(mut any) = self.inner.take(&self.plan, id) else { return };
                if at == USER && self.has_leftover() {
                    let enough = with_cell!(&mut any, c => self.take_leftover(c));
                    if enough {
                        return with_cell!(any, c => self.finish_user(c));
                    }
                }
                with_cell!(any, c => self.advance(c, step));
            }
            Task::Cancel(id, reason) => self.cancel(id, reason),
            Task::Pursue(id, reason) => self.pursue(id, reason),
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
    pub(super) fn call(&mut self, node: u8, f: impl FnOnce(&mut dyn crate::level::Level, &mut Cx<'_>)) {
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
                // A flush that waited for it to get here goes on, or the close of a branch that it left.
                self.inner.recheck_barriers();
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
            self.inner.q.make().runq.push_back(Task::Pursue(id, reason));
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
            let (node, tag) = (cell.head.origin, u32::try_from(cell.head.tag).unwrap_or_default());
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
    pub(super) fn finish_user<K: Kind>(&mut self, mut cell: Box<Cell<K>>) {
        let id = cell.head.id;
        if self.inner.entry(id).is_some_and(|e| e.recalled) {
            match self.recalled(cell) {
                Some(c) => cell = c,
                None => return,
            }
        }
        self.book(&mut cell);
        self.inner.note_place(&mut cell);
        if let Some(e) = self.inner.entry(id) {
            if e.deserted {
                cell.end = End::Gone;
            } else if let Some(w) = e.more.as_mut().and_then(|m| m.waker.take()) {
                cell.end = End::Task(Some(w));
            }
        }
        match &mut cell.end {
            End::Wait(bell) => {
                // It stays: the op may be called back before its owner has heard it, and rings again.
                if let Some(bell) = bell.clone() {
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
                self.abandon(id, K::wrap(cell));
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
        let last = planted("the last callback comes first");
        let next = |q: &mut Queues| if last { q.calls.pop_back() } else { q.calls.pop_front() };
        if let Some(any) = self.inner.q.get_mut().and_then(next) {
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

pub(super) fn leave_level<K: Kind>(cell: &mut Cell<K>, node: u8) {
    K::leave_level(&mut cell.body, node);
}

fn call_of<K: Kind>(mut cell: Box<Cell<K>>) -> Box<dyn FnOnce()> {
    Box::new(move || {
        if let End::Call(f) = std::mem::replace(&mut cell.end, End::Own) {
            f(K::outcome(&mut cell));
        }
    })
}

impl Inner {
    /// Why nothing works any more.
    pub(crate) fn dead(&self) -> Error {
        match &self.poisoned {
            Some(e) => e.clone(),
            None => Error::new(ErrorKind::Closed),
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

    pub(crate) fn has_calls(&self) -> bool {
        self.q.get().is_some_and(|q| !q.calls.is_empty())
            || self.rare.as_ref().is_some_and(|r| r.on_event.is_some() && !r.events.is_empty())
    }
}

/// Wakes a level from anywhere.
pub(crate) fn wake_level(core: Arc<Core>, node: u8) {
    post(core, crate::engine::post::Post::Woken(node));
}
