//! What becomes of requests: ops that go out of the lock with a thread, to the pool or to a socket, and
//! come back. Invariant: an op that is out has no cell in its entry, unless the pool works for it, and
//! comes back once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::driver::OpKind;
use crate::engine::core::{Core, Entry, Inner, State, Step, Tree};
use crate::engine::limit::side_of;
use crate::engine::post::Lane;
use crate::engine::pump::{Attempt, attempt_caught, stopped};
use crate::engine::shared::Shared;
use crate::engine::walk::Stop;
use crate::error::{Error, ErrorKind};
use crate::io::IoDone;
use crate::level::Reason;
use crate::op::{AnyCell, Cell, IoSlot, Kind, OpId, Role, with_cell};
use crate::plan::USER;
use crate::reactor::Waiter;
use crate::sync::{Arc, planted};
use crate::time::Time;

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
        let attempt = with_cell!(&mut self.cell, c => attempt_caught(shared, c, false));
        Back { cell: self.cell, attempt }
    }
}

impl Tree {
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
                self.book_failure(&mut cell);
                self.advance(cell, step);
            }
            attempt => {
                let cancelled = match self.inner.entry(id) {
                    Some(e) => e.cancel.filter(|_| !planted("a cancel of an op that is out is lost")),
                    None => return,
                };
                if self.levels.is_empty() || cancelled.is_some() {
                    let reason = cancelled.unwrap_or(Reason::Cancelled);
                    self.put_away(id, K::wrap(cell), State::Io);
                    if self.levels.is_empty() {
                        return self.kill(id);
                    }
                    return self.pursue(id, reason);
                }
                if let Some(e) = self.inner.lost(&self.plan, K::KIND, cell.head.at, cell.head.origin) {
                    self.put_away(id, K::wrap(cell), State::Io);
                    return self.stop_parked(id, e);
                }
                self.wait_outside(id, cell, attempt);
            }
        }
    }

    /// What went wrong with a request is told with its place. A system tells of a reset once, to whichever
    /// op asks first; here it is told to all that ask the same level afterwards.
    #[inline]
    pub(super) fn book_failure<K: Kind>(&mut self, cell: &mut Cell<K>) {
        if let Some(e) = cell.head.error.take() {
            cell.head.error = Some(self.told(K::KIND, cell.head.at, e));
        }
    }

    #[cold]
    fn told(&mut self, kind: OpKind, at: u8, e: Error) -> Error {
        let ends = matches!(e.kind(), ErrorKind::Eof | ErrorKind::BrokenPipe) && side_of(kind).is_some();
        let e = match e.kind() {
            ErrorKind::Reset => {
                let resets = &mut self.inner.rare().resets;
                if !resets.contains(&at) {
                    resets.push(at);
                }
                e
            }
            _ if ends && self.inner.rare.as_ref().is_some_and(|r| r.resets.contains(&at)) => ErrorKind::Reset.into(),
            _ => e,
        };
        if e.kind() == ErrorKind::Panicked {
            self.poison_at(at);
        }
        let place = self.inner.place(at);
        e.at(kind, || place)
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
        let needs_timer = self.inner.entry(id).is_some_and(|e| e.timer().is_none()) && deadline != Time::NEVER;
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
}

impl Inner {
    /// An op waits for its socket no longer.
    pub(crate) fn disarm(&mut self, id: OpId) {
        let waiter = Waiter { core: self.me.clone(), id };
        if let Some(Entry { state: State::Armed(sock, direction), .. }) = self.entry(id) {
            sock.0.disarm(*direction, &waiter);
        }
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
}

fn kind_moved<K: Kind>(cell: &Cell<K>) -> Option<(bool, usize)> {
    K::moved(&cell.body)
}

/// The pool is done with a request.
fn pool_done(core: &Arc<Core>, id: OpId, number: u8, done: IoDone) {
    let mut lane = Lane::enter(core);
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
