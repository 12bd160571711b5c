//! A blocking caller: it does its own system calls, and its own wait. Invariant: while it waits, whoever
//! wants its op to stop can ring it; where nobody can, it waits no longer than a tick.

use std::cell::OnceCell;
use std::time::Instant;

use crate::engine::core::{Core, State, Step, Tree};
use crate::engine::end::End;
use crate::engine::limit::side_of;
use crate::engine::post::{Lane, before_wait, callbacks_wait, defers, hand_over};
use crate::engine::pump::{Attempt, attempt_caught, stopped};
use crate::engine::shared::Shared;
use crate::engine::submit::{Started, start};
use crate::engine::{may_block, turn_or_wait};
use crate::error::Error;
use crate::io::{Direction, Sock};
use crate::level::Reason;
use crate::op::{Cell, Kind, OpId};
use crate::reactor::Bell;
use crate::sync::{Arc, Ordering, planted, thread};
use crate::time::Time;

/// Time that a blocking caller must have for its first attempt to wait a moment.
const PATIENT: std::time::Duration = std::time::Duration::from_millis(50);

/// A blocking caller's own wait.
pub(crate) struct Waiting {
    bell: OnceCell<Arc<Bell>>,
    until: Time,
    /// How long it may wait without a byte.
    idle: std::cell::Cell<Option<std::time::Duration>>,
}

pub(super) enum Pumped<'a> {
    On(Lane<'a>, Step),
    Park(Lane<'a>, Attempt),
}

/// Does an op's I/O on the caller's own thread, as far as it goes. `tried`: what an attempt came to that
/// was made before.
pub(super) fn pump<'a, K: Kind>(
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
    pub(super) fn has_patience(&self, shared: &Shared) -> bool {
        shared.own_thread
            && !defers()
            && !callbacks_wait()
            && (self.until == Time::NEVER || self.until.since(shared.now()) > PATIENT)
    }

    /// When the caller's time is up.
    pub(super) const fn until(&self) -> Time {
        self.until
    }

    /// This thread's bell, fetched when the caller first has to wait.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        self.bell.get_or_init(Bell::mine)
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

impl Tree {
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
}
