//! How a user's op begins, and the ending by callback; the others are in `block` and `future`. Invariant:
//! one path starts all three.

use crate::driver::OpKind;
use crate::engine::block::{Pumped, Waiting, pump};
use crate::engine::core::{Core, Failed, Inner, State, Status, Step, Tree, Try};
use crate::engine::end::End;
use crate::engine::limit::side_of;
use crate::engine::post::{InHand, Lane, defers};
use crate::engine::pump::{Attempt, attempt_caught, stopped};
use crate::engine::walk::Stop;
use crate::error::{Error, ErrorKind};
use crate::io::{Direction, Io};
use crate::level::Reason;
use crate::op::{Cell, IoSlot, Kind, OpId};
use crate::plan::USER;
use crate::sync::{Arc, planted};
use crate::time::Time;

/// What became of an op when it was started.
pub(crate) enum Started<K: Kind> {
    Done(Box<Cell<K>>),
    Parked(OpId),
}

/// Starts an op whose cell is set up.
pub(crate) fn start<'a, K: Kind>(
    core: &'a Arc<Core>,
    lane: Lane<'a>,
    cell: Box<Cell<K>>,
    no_wait: bool,
    waiting: Option<&Waiting>,
) -> Started<K> {
    let in_hand = InHand::begin();
    let started = go(core, lane, cell, no_wait, waiting);
    in_hand.end();
    started
}

fn go<'a, K: Kind>(
    core: &'a Arc<Core>,
    mut lane: Lane<'a>,
    mut cell: Box<Cell<K>>,
    no_wait: bool,
    waiting: Option<&Waiting>,
) -> Started<K> {
    cell.head.waits = !no_wait;
    let until = waiting.map_or(cell.head.deadline, Waiting::until);
    let refused = cell.head.error.take().or_else(|| lane.refuse::<K>(&cell, no_wait, until));
    if let Some(e) = refused {
        cell.head.error = Some(e.at(K::KIND, || None));
        lane.leave_quiet();
        return Started::Done(cell);
    }
    let mut step = Step::Enter(lane.plan.kind(K::KIND).top());
    if let Some(side) = side_of(K::KIND) {
        if !lane.inner.may_start(side, cell.head.charge) {
            let plan = lane.plan.clone();
            set_bell(&mut cell, waiting);
            let id = lane.inner.park(&plan, cell, State::Admission(step));
            lane.inner.q.make().waiting[side].push_back(id);
            lane.leave();
            return Started::Parked(id);
        }
        if K::KIND == OpKind::Read && lane.has_leftover() && lane.take_leftover(&mut cell) {
            lane.leave();
            return Started::Done(cell);
        }
    }
    match K::KIND {
        OpKind::Ready if K::direction(&cell.body) == Some(Direction::Read) && lane.has_leftover() => {
            lane.leave_quiet();
            return Started::Done(cell);
        }
        OpKind::Accept if lane.inner.rare.is_some() && lane.take_link(&mut cell) => {
            lane.leave_quiet();
            return Started::Done(cell);
        }
        OpKind::Close if planted("a close does not know of the first") => {}
        OpKind::Close => lane.inner.status = Status::Closing,
        OpKind::Shutdown => lane.inner.shut = true,
        _ => {}
    }
    let mut tried = false;
    // Asked for while it was tried; it holds from the moment the op has a number.
    let mut stop = false;
    loop {
        match lane.walk_caught(&mut cell, step) {
            Stop::Finished => {
                if lane.must_go_back(&mut cell, tried) {
                    let id = cell.head.id;
                    lane.inner.after_try();
                    set_bell(&mut cell, waiting);
                    lane.finish_user(cell);
                    lane.leave();
                    return Started::Parked(id);
                }
                lane.book(&mut cell);
                let id = std::mem::replace(&mut cell.head.id, OpId::NONE);
                if !id.is_none() {
                    lane.free_id(id);
                } else if tried {
                    lane.inner.after_try();
                }
                lane.leave_soon();
                return Started::Done(cell);
            }
            Stop::Io | Stop::Work if waiting.is_none() && defers() => return park(lane, cell, Stop::Io, stop, tried),
            Stop::Io if lane.may_try(&cell) => {
                let side = usize::from(K::KIND == OpKind::Write);
                lane.inner.charge(&mut cell);
                lane.inner.tries[side] = Try { at: cell.head.at, stop: false, turn: cell.head.id.generation };
                tried = true;
                let limited = lane.inner.rare.as_ref().is_some_and(|r| r.idle[side].is_some());
                lane.leave_soon();
                let patient = !limited && waiting.is_some_and(|w| w.has_patience(&core.shared));
                let attempt = attempt_caught(&core.shared, &mut cell, patient);
                lane = Lane::enter(core);
                let t = std::mem::take(&mut lane.inner.tries[side]);
                cell.head.id.generation = t.turn;
                stop |= t.stop;
                match attempt {
                    Attempt::Go(s) => step = lane.back(&mut cell, s),
                    _ if lane.levels.is_empty() => {
                        let at = cell.head.at;
                        cell.head.error = Some(lane.inner.dead());
                        step = lane.back(&mut cell, Step::Leave(at));
                    }
                    attempt => {
                        let id = lane.must_wait(&mut cell, stop);
                        match pump(core, &mut cell, id, waiting, Some((lane, attempt))) {
                            Pumped::On(l, s) => {
                                lane = l;
                                step = s;
                            }
                            Pumped::Park(l, attempt) => return park_out(l, cell, waiting, attempt),
                        }
                    }
                }
            }
            Stop::Io | Stop::Work => {
                let id = lane.go_out(&mut cell);
                lane.asked(id, stop);
                if tried {
                    lane.inner.after_try();
                }
                lane.leave_soon();
                match pump(core, &mut cell, id, waiting, None) {
                    Pumped::On(l, s) => {
                        lane = l;
                        step = s;
                    }
                    Pumped::Park(l, attempt) => return park_out(l, cell, waiting, attempt),
                }
            }
            other => {
                set_bell(&mut cell, waiting);
                if tried {
                    lane.inner.after_try();
                }
                return park(lane, cell, other, stop, tried);
            }
        }
    }
}

/// `asked`: it was asked to stop before it had a number. `tried`: bytes may have fallen back while it had none.
fn park<K: Kind>(mut lane: Lane<'_>, mut cell: Box<Cell<K>>, stop: Stop, asked: bool, tried: bool) -> Started<K> {
    if cell.head.id.is_none() {
        let (origin, at) = (cell.head.origin, cell.head.at);
        cell.head.id = lane.inner.new_id(K::KIND, origin, at, State::Finished, cell.head.id.generation);
    }
    let id = cell.head.id;
    lane.asked(id, asked);
    if tried && K::KIND == OpKind::Read && lane.has_leftover() {
        lane.call_back(id);
    }
    lane.stopped(cell, stop);
    lane.leave();
    Started::Parked(id)
}

/// Leaves an op that is out to the engine.
fn park_out<K: Kind>(
    mut lane: Lane<'_>,
    mut cell: Box<Cell<K>>,
    waiting: Option<&Waiting>,
    attempt: Attempt,
) -> Started<K> {
    let id = cell.head.id;
    set_bell(&mut cell, waiting);
    lane.resume_cell(cell, attempt);
    lane.leave();
    Started::Parked(id)
}

fn set_bell<K: Kind>(cell: &mut Cell<K>, waiting: Option<&Waiting>) {
    if let Some(w) = waiting {
        cell.end = End::Wait(Some(w.bell().clone()));
    }
}

impl Inner {
    /// The system tells once how a connection broke, and then of an end; the engine tells everyone who asks.
    #[cold]
    fn broken_or(&mut self, at: u8, e: Error) -> Error {
        let known = self.rare.as_ref().and_then(|r| r.broken.iter().find(|(n, _)| *n == at)).map(|(_, kind)| *kind);
        match (e.kind(), known) {
            (ErrorKind::Eof | ErrorKind::BrokenPipe, Some(kind)) => return kind.into(),
            (ErrorKind::Reset, None) => self.rare().broken.push((at, e.kind())),
            // The engine's own are no errors of the system.
            (ErrorKind::TimedOut | ErrorKind::Unreachable, None) if e.raw_os_error().is_some() => {
                self.rare().broken.push((at, e.kind()));
            }
            _ => {}
        }
        e
    }

    /// Whoever waited for a try to end goes on.
    #[inline]
    fn after_try(&mut self) {
        if self.q.get().is_some_and(|q| !q.barriers.is_empty()) && !planted("a try ends in silence") {
            self.recheck_barriers();
        }
    }
}

impl Tree {
    /// Why an op may not start.
    fn refuse<K: Kind>(&self, cell: &Cell<K>, no_wait: bool, until: Time) -> Option<Error> {
        let inner = &self.inner;
        let wanted = match K::KIND {
            OpKind::Open | OpKind::Listen => Status::Opening,
            _ => Status::Open,
        };
        if inner.status != wanted {
            if K::KIND == OpKind::Close && inner.status == Status::Opening {
                return None;
            }
            return Some(inner.dead());
        }
        let is_ours = |n: &usize| self.levels.get(*n).is_none_or(|l| l.is_ours());
        if K::KIND != OpKind::Close && !self.plan.sharing.iter().all(is_ours) {
            let text = "the handle belongs to the process that opened it, not to its children";
            return Some(Error::new(ErrorKind::Unsupported).detail(text));
        }
        match K::KIND {
            OpKind::Read
                if inner.eof
                    && !planted("an end is forgotten")
                    && inner.rare.as_ref().is_none_or(|r| r.leftover.is_empty()) =>
            {
                return Some(ErrorKind::Eof.into());
            }
            OpKind::Shutdown if !inner.stack.caps().half_close => {
                return Some(Error::new(ErrorKind::Unsupported).detail("this stack cannot end its write side alone"));
            }
            OpKind::Write | OpKind::Shutdown if inner.shut => {
                return Some(Error::new(ErrorKind::BrokenPipe).detail("the write side was shut down"));
            }
            _ => {}
        }
        if let Some(rare) = &inner.rare {
            let side = side_of(K::KIND);
            if side.is_some() && !rare.failed.is_empty() {
                // In a tree another branch may still do; the loop looks where an op goes.
                let leads = |n: u8| usize::from(n) == self.plan.count() && self.plan.leaf(1) == n || n == 1;
                let hit = |f: &&Failed| leads(f.node) && (!f.writes_only || K::KIND == OpKind::Write);
                if let Some(f) = rare.failed.iter().find(hit) {
                    return Some(f.error.clone());
                }
            }
        }
        if until != Time::NEVER && side_of(K::KIND).is_some() && inner.shared.now() >= until {
            return Some(stopped(Reason::TimedOut));
        }
        if no_wait && side_of(K::KIND).is_some_and(|s| !inner.may_start(s, cell.head.charge)) {
            return Some(ErrorKind::Busy.into());
        }
        None
    }

    /// The caller takes its op out, to do its I/O itself.
    fn go_out<K: Kind>(&mut self, cell: &mut Cell<K>) -> OpId {
        let Self { plan, inner, .. } = self;
        inner.charge(cell);
        if cell.head.id.is_none() {
            let (origin, at) = (cell.head.origin, cell.head.at);
            cell.head.id = inner.new_id(K::KIND, origin, at, State::Out(None), cell.head.id.generation);
        } else if let Some(e) = inner.entry(cell.head.id) {
            e.at = cell.head.at;
            e.state = State::Out(None);
        }
        inner.hold_gates(plan, cell.head.id, K::KIND, cell.head.at, cell.head.origin);
        cell.head.id
    }

    /// What was asked of an op before it had a number.
    fn asked(&mut self, id: OpId, stop: bool) {
        if stop && let Some(e) = self.inner.entry(id) {
            e.cancel.get_or_insert(Reason::Cancelled);
        }
    }

    /// Whether an op's request can be tried at once, before the op has a number.
    fn may_try<K: Kind>(&self, cell: &Cell<K>) -> bool {
        let Some(side) = side_of(K::KIND) else { return false };
        cell.head.id.is_none()
            && self.inner.tries[side].at == USER
            && matches!(cell.head.io, IoSlot::Ask(Io::Recv(_) | Io::Send(_) | Io::Ready(..)))
    }

    /// An op that was tried has to wait: it gets its number, and what was asked of it meanwhile holds.
    fn must_wait<K: Kind>(&mut self, cell: &mut Cell<K>, stop: bool) -> OpId {
        let id = self.go_out(cell);
        self.asked(id, stop && !planted("a stop of a try is lost"));
        if K::KIND == OpKind::Read && self.has_leftover() {
            self.call_back(id);
        }
        self.inner.after_try();
        id
    }

    /// Whether a read that is up has to start again, behind bytes that fell back while it was out.
    fn must_go_back<K: Kind>(&mut self, cell: &mut Cell<K>, tried: bool) -> bool {
        if !cell.head.id.is_none() {
            return self.inner.entry(cell.head.id).is_some_and(|e| e.recalled);
        }
        if !tried || K::KIND != OpKind::Read || !self.has_leftover() || planted("a try does not go back") {
            return false;
        }
        cell.head.id = self.inner.new_id(K::KIND, USER, USER, State::Finished, cell.head.id.generation);
        self.call_back(cell.head.id);
        true
    }

    fn free_id(&mut self, id: OpId) {
        let Self { plan, inner, .. } = self;
        inner.free_id(plan, id);
    }

    /// It comes back.
    pub(super) fn come_back<K: Kind>(&mut self, cell: &mut Cell<K>, id: OpId, step: Step) -> Step {
        let Self { plan, inner, .. } = self;
        inner.release_gates(plan, id);
        if let Some(e) = inner.entry(id) {
            e.state = State::Ready(step);
        }
        self.back(cell, step)
    }

    /// What a request came to is booked.
    #[inline]
    fn back<K: Kind>(&mut self, cell: &mut Cell<K>, step: Step) -> Step {
        self.inner.note_progress(K::KIND);
        let at = cell.head.at;
        if let Some(e) = cell.head.error.take() {
            if e.kind() == ErrorKind::Panicked {
                self.poison_at(at);
            }
            let place = self.inner.place(at);
            cell.head.error = Some(self.inner.broken_or(at, e).at(K::KIND, || place));
        }
        step
    }

    /// Takes a finished op out.
    pub(super) fn collect<K: Kind>(&mut self, id: OpId) -> Option<Box<Cell<K>>> {
        let entry = self.inner.entry(id)?;
        if !matches!(entry.state, State::Finished) {
            return None;
        }
        let mut cell = K::unwrap(entry.cell.take()?)?;
        self.free_id(id);
        cell.head.id = OpId::NONE;
        Some(cell)
    }
}

/// Starts an op that ends in a callback.
pub(crate) fn call<K: Kind>(
    core: &Arc<Core>,
    setup: impl FnOnce(&mut Tree) -> Box<Cell<K>>,
    f: impl FnOnce(K::Outcome) + Send + 'static,
) -> Ticket {
    let mut lane = Lane::enter(core);
    let mut cell = setup(&mut lane);
    cell.end = End::Call(Box::new(f));
    let ticket = Ticket { core: Arc::downgrade(core), id: OpId::NONE };
    match start(core, lane, cell, true, None) {
        Started::Done(cell) => {
            // Through the handle's queue, so that callbacks of one handle stay one after the other.
            let mut lane = Lane::enter(core);
            lane.inner.q.make().calls.push_back(K::wrap(cell));
            lane.leave();
            ticket
        }
        Started::Parked(id) => Ticket { id, ..ticket },
    }
}

/// An op under way, to cancel. Dropping it does nothing.
#[derive(Clone)]
pub struct Ticket {
    core: std::sync::Weak<Core>,
    id: OpId,
}

impl Ticket {
    /// Asks the op to stop. It still finishes once, with `Cancelled` or its real result; cancelling
    /// a finished op does nothing.
    pub fn cancel(&self) {
        if let Some(core) = self.core.upgrade() {
            let mut lane = Lane::enter(&core);
            lane.cancel(self.id, Reason::Cancelled);
            lane.leave();
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.id)
    }
}
