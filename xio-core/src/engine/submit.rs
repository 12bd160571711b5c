//! How a user's op begins, and its three endings: blocking, future, callback. Invariant: one path
//! starts all three; a blocking caller does its own system calls and its own wait.

use std::cell::OnceCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::driver::OpKind;
use crate::engine::cells;
use crate::engine::core::{Core, Failed, Inner, State, Status, Step, Tree, Try};
use crate::engine::end::End;
use crate::engine::limit::side_of;
use crate::engine::post::{InHand, Lane, before_wait, callbacks_wait, defers, hand_over};
use crate::engine::pump::{Attempt, attempt_caught, stopped};
use crate::engine::shared::Shared;
use crate::engine::walk::Stop;
use crate::engine::{may_block, turn_or_wait};
use crate::error::{Error, ErrorKind};
use crate::io::{Direction, Io, Sock};
use crate::level::Reason;
use crate::op::{Cell, IoSlot, Kind, OpId};
use crate::plan::USER;
use crate::reactor::Bell;
use crate::sync::{Arc, Ordering, planted, thread};
use crate::time::Time;

/// What became of an op when it was started.
pub(crate) enum Started<K: Kind> {
    Done(Box<Cell<K>>),
    Parked(OpId),
}

/// Time that a blocking caller must have for its first attempt to wait a moment.
const PATIENT: std::time::Duration = std::time::Duration::from_millis(50);

/// A blocking caller's own wait.
pub(crate) struct Waiting {
    bell: OnceCell<Arc<Bell>>,
    until: Time,
    /// How long it may wait without a byte.
    idle: std::cell::Cell<Option<std::time::Duration>>,
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
    let refused = cell.head.error.take().or_else(|| lane.refuse::<K>(&cell, no_wait));
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
            Stop::Io | Stop::Work if waiting.is_none() && defers() => return park(lane, cell, Stop::Io, stop),
            Stop::Io if lane.may_try(&cell) => {
                let side = usize::from(K::KIND == OpKind::Write);
                lane.inner.charge(&mut cell);
                lane.inner.tries[side] = Try { at: cell.head.at, stop: false, turn: cell.head.id.generation };
                tried = true;
                lane.leave_soon();
                let patient = K::KIND == OpKind::Read && waiting.is_some_and(|w| w.has_patience(&core.shared));
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
                return park(lane, cell, other, stop);
            }
        }
    }
}

/// `asked`: it was asked to stop before it had a number.
fn park<K: Kind>(mut lane: Lane<'_>, mut cell: Box<Cell<K>>, stop: Stop, asked: bool) -> Started<K> {
    if cell.head.id.is_none() {
        let (origin, at) = (cell.head.origin, cell.head.at);
        cell.head.id = lane.inner.new_id(K::KIND, origin, at, State::Finished, cell.head.id.generation);
    }
    let id = cell.head.id;
    lane.asked(id, asked);
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

enum Pumped<'a> {
    On(Lane<'a>, Step),
    Park(Lane<'a>, Attempt),
}

/// Does an op's I/O on the caller's own thread, as far as it goes. `tried`: what an attempt came to that
/// was made before.
fn pump<'a, K: Kind>(
    core: &'a Arc<Core>,
    cell: &mut Cell<K>,
    id: OpId,
    waiting: Option<&Waiting>,
    tried: Option<(Lane<'a>, Attempt)>,
) -> Pumped<'a> {
    let shared = &core.shared;
    let mut known = None;
    if let Some((lane, attempt)) = tried {
        if waiting.is_none() {
            return Pumped::Park(lane, attempt);
        }
        // Others may have waited for the attempt.
        lane.leave_soon();
        known = Some(attempt);
    }
    // Whether a cancel can ring this thread.
    let mut listening = false;
    let mut spin_until: Option<Instant> = None;
    loop {
        let attempt = match known.take() {
            Some(a) => a,
            None => attempt_caught(shared, cell, false),
        };
        match attempt {
            Attempt::Go(step) => {
                let mut lane = Lane::enter(core);
                let step = lane.come_back(cell, id, step);
                return Pumped::On(lane, step);
            }
            Attempt::Block(sock, direction) => {
                let Some(w) = waiting else {
                    return Pumped::Park(Lane::enter(core), Attempt::Block(sock, direction));
                };
                // Without a thread of the engine's the op is parked, and they run here before the wait.
                if shared.own_thread {
                    hand_over();
                }
                let spin = sock.0.spin();
                if !spin.is_zero() && shared.spins() {
                    let now = Instant::now();
                    let until = *spin_until.get_or_insert(now + spin);
                    let rung = w.bell().take_ring();
                    if now < until && !rung {
                        std::hint::spin_loop();
                        continue;
                    }
                    spin_until = None;
                    if rung {
                        // The wait that follows looks at it.
                        w.bell().ring();
                    }
                }
                if !shared.own_thread {
                    return Pumped::Park(Lane::enter(core), Attempt::Block(sock, direction));
                }
                if !std::mem::replace(&mut listening, true) {
                    let mut lane = Lane::enter(core);
                    if lane.listen_for::<K>(id, w) && !planted("a caller listens without a look") {
                        w.bell().ring();
                    }
                    lane.leave_quiet();
                }
                if let Some(back) = wait_here(core, cell, id, w, &sock, direction) {
                    return back;
                }
            }
            Attempt::Pool(job) => return Pumped::Park(Lane::enter(core), Attempt::Pool(job)),
        }
    }
}

/// Waits for a socket on this thread. `Some` where the op is not to be tried again.
fn wait_here<'a, K: Kind>(
    core: &'a Arc<Core>,
    cell: &mut Cell<K>,
    id: OpId,
    w: &Waiting,
    sock: &Sock,
    direction: Direction,
) -> Option<Pumped<'a>> {
    before_wait();
    let until = w.idle.get().map_or(w.until, |d| w.until.min(core.shared.now() + d));
    let timeout = (until != Time::NEVER).then(|| until.since(core.shared.now()));
    if sock.0.wait_here(direction, w.bell(), timeout).is_none() {
        return Some(Pumped::Park(Lane::enter(core), Attempt::Block(sock.clone(), direction)));
    }
    let rung = w.bell().take_ring();
    let late = until != Time::NEVER && core.shared.now() >= until && !planted("a late caller tries for ever");
    if !rung && !late {
        return None;
    }
    let mut lane = Lane::enter(core);
    let asked = lane.inner.entry(id).map_or(Some(Reason::Cancelled), |e| e.cancel);
    let at = cell.head.at;
    let error = match (asked, late) {
        _ if lane.levels.is_empty() => lane.inner.dead(),
        (Some(reason), _) => stopped(reason),
        (None, true) => stopped(Reason::TimedOut),
        // A level on its way may have given itself up.
        (None, false) => match lane.inner.lost(&lane.plan, K::KIND, at, cell.head.origin) {
            Some(e) => e,
            None => {
                lane.leave();
                return None;
            }
        },
    };
    cell.head.error = Some(error);
    K::leave_level(&mut cell.body, at);
    let step = lane.come_back(cell, id, Step::Leave(at));
    Some(Pumped::On(lane, step))
}

impl Waiting {
    /// Whether the caller may wait a moment where nothing can ring it: it waits on this thread alone
    /// anyway, and its time is not up by then.
    fn has_patience(&self, shared: &Shared) -> bool {
        shared.own_thread
            && !defers()
            && !callbacks_wait()
            && (self.until == Time::NEVER || self.until.since(shared.now()) > PATIENT)
    }

    /// This thread's bell, fetched when the caller first has to wait.
    fn bell(&self) -> &Arc<Bell> {
        self.bell.get_or_init(Bell::mine)
    }
}

impl Inner {
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
    fn refuse<K: Kind>(&self, cell: &Cell<K>, no_wait: bool) -> Option<Error> {
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
        match K::KIND {
            OpKind::Read if inner.eof && inner.rare.as_ref().is_none_or(|r| r.leftover.is_empty()) => {
                return Some(ErrorKind::Eof.into());
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

    /// From now on a cancel of the op rings this bell. Whether there is something to hear of already.
    fn listen_for<K: Kind>(&mut self, id: OpId, w: &Waiting) -> bool {
        w.idle.set(side_of(K::KIND).and_then(|side| self.inner.rare.as_ref()?.idle[side]));
        match self.inner.entry(id) {
            Some(e) => {
                e.state = State::Out(Some(w.bell().clone()));
                let (at, origin) = (e.at, e.origin);
                e.cancel.is_some() || self.inner.lost(&self.plan, K::KIND, at, origin).is_some()
            }
            None => true,
        }
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
            && matches!(cell.head.io, IoSlot::Ask(Io::Recv(_) | Io::Send(_)))
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
    fn come_back<K: Kind>(&mut self, cell: &mut Cell<K>, id: OpId, step: Step) -> Step {
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
        if let Some(e) = cell.head.error.take() {
            if e.kind() == ErrorKind::Panicked {
                self.poison_at(cell.head.at);
            }
            let place = self.inner.place(cell.head.at);
            cell.head.error = Some(e.at(K::KIND, || place));
        }
        step
    }

    /// Takes a finished op out.
    fn collect<K: Kind>(&mut self, id: OpId) -> Option<Box<Cell<K>>> {
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

/// Runs an op to its end on this thread.
pub(crate) fn block<K: Kind>(
    core: &Arc<Core>,
    until: Time,
    no_wait: bool,
    setup: impl FnOnce(&mut Tree) -> Box<Cell<K>>,
) -> Result<Box<Cell<K>>, Error> {
    may_block()?;
    before_wait();
    let mut lane = Lane::enter(core);
    let mut cell = setup(&mut lane);
    cell.end = End::Wait(None);
    // A lent buffer is inside from here on: unwinding past this frame would free it under the op.
    let _guard = NoUnwind;
    let waiting = Waiting { bell: OnceCell::new(), until, idle: std::cell::Cell::new(None) };
    let done = match start(core, lane, cell, no_wait, Some(&waiting)) {
        Started::Done(cell) => cell,
        Started::Parked(id) => wait_parked(core, id, &waiting),
    };
    std::mem::forget(_guard);
    if defers()
        && let Some(bell) = waiting.bell.get()
    {
        // In a callback: this wait may have swallowed a ring that was for a wait further out.
        bell.ring();
    }
    Ok(done)
}

/// Turns a panic of the engine itself, while it holds lent memory, into an abort.
struct NoUnwind;

impl Drop for NoUnwind {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

fn wait_parked<K: Kind>(core: &Arc<Core>, id: OpId, w: &Waiting) -> Box<Cell<K>> {
    let mut until = w.until;
    loop {
        let mut lane = Lane::enter(core);
        if let Some(cell) = lane.collect(id) {
            lane.leave();
            return cell;
        }
        let late = until != Time::NEVER && core.shared.now() >= until;
        if late {
            until = Time::NEVER;
            lane.cancel(id, Reason::TimedOut);
            lane.leave();
            continue;
        }
        lane.leave();
        if before_wait() {
            continue;
        }
        let timeout = (until != Time::NEVER).then(|| until.since(core.shared.now()));
        if core.shared.own_thread && !core.shared.stopped.load(Ordering::Acquire) {
            w.bell().wait(timeout);
            w.bell().take_ring();
        } else {
            turn_or_wait(&core.shared, w.bell(), timeout);
        }
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

type Setup<K> = Box<dyn FnOnce(&mut Tree) -> Box<Cell<K>> + Send>;

/// An op as a future. It starts when first polled.
///
/// # Cancel safety
/// Dropping it cancels the op. Bytes that had arrived for a read go back to the top of the stack,
/// and the next read gets them first.
#[must_use = "futures do nothing unless polled"]
pub struct OpFuture<K: Kind> {
    pub(crate) core: Arc<Core>,
    state: FutureState<K>,
}

enum FutureState<K: Kind> {
    New(Setup<K>, bool),
    Under(OpId),
    Over,
}

impl<K: Kind> OpFuture<K> {
    pub(crate) fn new(core: Arc<Core>, no_wait: bool, setup: Setup<K>) -> Self {
        Self { core, state: FutureState::New(setup, no_wait) }
    }
}

impl<K: Kind> Unpin for OpFuture<K> {}

impl<K: Kind> Future for OpFuture<K> {
    type Output = K::Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<K::Outcome> {
        let me = self.get_mut();
        let id = match std::mem::replace(&mut me.state, FutureState::Over) {
            FutureState::New(setup, no_wait) => {
                let mut lane = Lane::enter(&me.core);
                let mut cell = setup(&mut lane);
                cell.end = End::Task(Some(cx.waker().clone()));
                match start(&me.core, lane, cell, no_wait, None) {
                    Started::Done(mut cell) => {
                        let out = K::outcome(&mut cell);
                        cells::keep(K::wrap(cell));
                        return Poll::Ready(out);
                    }
                    Started::Parked(id) => id,
                }
            }
            FutureState::Under(id) => id,
            FutureState::Over => return Poll::Pending,
        };
        let mut lane = Lane::enter(&me.core);
        if let Some(mut cell) = lane.collect::<K>(id) {
            let out = K::outcome(&mut cell);
            cells::keep(K::wrap(cell));
            lane.leave();
            return Poll::Ready(out);
        }
        lane.set_waker::<K>(id, cx.waker());
        lane.leave();
        me.state = FutureState::Under(id);
        Poll::Pending
    }
}

impl<K: Kind> Drop for OpFuture<K> {
    fn drop(&mut self) {
        if let FutureState::Under(id) = self.state {
            let mut lane = Lane::enter(&self.core);
            // Its waker may own more than the lock allows to drop.
            let end = lane.desert::<K>(id);
            lane.leave();
            drop(end);
        }
    }
}

impl Tree {
    fn set_waker<K: Kind>(&mut self, id: OpId, waker: &std::task::Waker) {
        let Some(entry) = self.inner.entry(id) else { return };
        if let Some(more) = &mut entry.more {
            more.waker = None;
        }
        if let Some(any) = entry.cell.take() {
            if let Some(mut cell) = K::unwrap(any) {
                match &mut cell.end {
                    End::Task(Some(w)) if w.will_wake(waker) => {}
                    end => *end = End::Task(Some(waker.clone())),
                }
                if let Some(e) = self.inner.entry(id) {
                    e.cell = Some(K::wrap(cell));
                }
            }
        } else if !planted("a waker of an op that is out is forgotten") {
            entry.more().waker = Some(waker.clone());
        }
    }

    /// The owner of an op has gone.
    fn desert<K: Kind>(&mut self, id: OpId) -> Option<End<K>> {
        if let Some(cell) = self.collect::<K>(id) {
            self.abandon(id, K::wrap(cell));
            return None;
        }
        let mut old = None;
        if let Some(entry) = self.inner.entry(id) {
            entry.deserted = !planted("a desertion is forgotten");
            if let Some(any) = entry.cell.take()
                && let Some(mut cell) = K::unwrap(any)
            {
                old = Some(std::mem::replace(&mut cell.end, End::Gone));
                if let Some(e) = self.inner.entry(id) {
                    e.cell = Some(K::wrap(cell));
                }
            }
        }
        self.cancel(id, Reason::Cancelled);
        old
    }
}
