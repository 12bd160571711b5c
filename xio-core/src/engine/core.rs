//! One handle or server: its levels, its ops, its one lock. Invariant: an op is in exactly one
//! place: in its slab entry, in the hands of the loop, or out with a thread that does its I/O or
//! work; the entry's state says which.

use std::collections::VecDeque;

use slab::Slab;
use smallvec::SmallVec;

use crate::buffer::Chunk;
use crate::cx::Event;
use crate::driver::OpKind;
use crate::engine::queues::Lazy;
use crate::engine::recall::{Leftover, Links};
use crate::engine::shared::Shared;
use crate::error::{Error, ErrorKind, Place};
use crate::io::{Direction, IoDone, Sock};
use crate::level::{Level, Reason};
#[cfg(test)]
use crate::op::Read;
use crate::op::{Act, AnyCell, Cell, Kind, OpId};
use crate::plan::{Plan, USER};
use crate::reactor::Bell;
use crate::stack::Stack;
use crate::stats::Counts;
use crate::sync::{Arc, Mutex, MutexGuard, planted};
use crate::time::Time;

/// Where an op goes on when it runs again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Down into this level (or END: the bottom was passed).
    Enter(u8),
    /// Into the level it is in already, past that level's gate.
    Again(u8),
    /// Up from this level.
    Leave(u8),
    /// A level answered; what it asked for runs first.
    Acted { node: u8, act: Act, phase: Phase },
    /// The work of this level is done.
    Worked(u8),
}

/// In which call a level answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Down,
    Up,
    Own,
}

/// Where an op is.
#[derive(Debug)]
pub(crate) enum State {
    /// In the run queue.
    Ready(Step),
    /// Waits for a place among the user's outstanding ops.
    Admission(Step),
    /// Waits at this level's gate.
    Gate(u8),
    /// Held by this level.
    Held(u8),
    /// Its request is queued, to be tried when the lock is free.
    Io,
    /// Its socket is being watched.
    Armed(Sock, Direction),
    /// With a thread that does its I/O, work or pool job. The bell reaches a blocking caller.
    Out(Option<Arc<Bell>>),
    /// Waits for what this level delivers.
    Inbox(u8),
    /// A close that waits for ops to finish.
    Barrier(Step),
    /// An open that waits until what is below is closed again.
    Unwind(Step),
    /// Finished; its owner has yet to collect it.
    Finished,
}

impl State {
    /// The level that was asked to hold the op, though the op may not have been put away yet, since
    /// what that level asked for runs first.
    pub(crate) fn holder(&self) -> Option<u8> {
        match *self {
            Self::Held(node) | Self::Ready(Step::Acted { node, act: Act::Hold, .. }) => Some(node),
            _ => None,
        }
    }
}

pub(crate) struct Entry {
    pub(crate) generation: u32,
    pub(crate) kind: OpKind,
    pub(crate) origin: u8,
    pub(crate) at: u8,
    /// The level from which up it is counted in the gates it came through; USER: in none.
    pub(crate) gated: u8,
    /// Number of its last pool job, so that a late one is told from the present one.
    pub(crate) job: u8,
    /// Number of its last hold, so that a stale token is told from the present one.
    pub(crate) hold: u8,
    pub(crate) cancel: Option<Reason>,
    pub(crate) state: State,
    pub(crate) cell: Option<AnyCell>,
    pub(crate) more: Option<Box<More>>,
    /// The owner went while the op was out.
    pub(crate) deserted: bool,
    /// It is called back to the top, to start again behind bytes that fell back.
    pub(crate) recalled: bool,
}

/// What few entries have.
#[derive(Default)]
pub(crate) struct More {
    pub(crate) timer: Option<(Time, u64)>,
    /// Answer of a token that came before the op was put away.
    pub(crate) early: Option<Early>,
    /// A future's waker that came while the op was out.
    pub(crate) waker: Option<std::task::Waker>,
    /// Why an op that is called back is to end, rather than start again.
    pub(crate) withdrawn: Option<Reason>,
}

impl Entry {
    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    pub(crate) fn timer(&self) -> Option<(Time, u64)> {
        self.more.as_ref().and_then(|m| m.timer)
    }

    pub(crate) fn take_timer(&mut self) -> Option<(Time, u64)> {
        self.more.as_mut().and_then(|m| m.timer.take())
    }
}

pub(crate) enum Early {
    Retry,
    Pass,
    Finish(Result<(), Error>),
}

/// Something to do under the lock.
pub(crate) enum Task {
    Op(OpId),
    IoDone {
        node: u8,
        tag: u32,
        done: IoDone,
    },
    Timer {
        node: u8,
        tag: u32,
        alive: Arc<crate::sync::AtomicBool>,
    },
    Woken(u8),
    Event(Event),
    /// Somebody wants an op to stop.
    Cancel(OpId, Reason),
    /// It could not be stopped where it was, and is elsewhere now.
    Pursue(OpId, Reason),
    Fail {
        node: u8,
        error: Error,
    },
    Delivered(u8),
}

/// What a level has, beside its own state.
#[derive(Clone, Copy, Default)]
pub(crate) struct NodeState {
    pub(crate) opened: bool,
    /// Ops in or below it that came through its gate, by direction.
    pub(crate) busy: [u16; 2],
}

/// A level that gave itself up, or whose write side stopped inside a message.
pub(crate) struct Failed {
    pub(crate) node: u8,
    pub(crate) error: Error,
    pub(crate) writes_only: bool,
}

type Listener = Box<dyn FnMut(&Event) + Send>;

/// Bytes that may lie delivered and unread at a level, unless it says otherwise.
const INBOX_BYTES: usize = 256 * 1024;

/// What a level was handed and nobody has read.
pub(crate) struct Inbox {
    pub(crate) node: u8,
    pub(crate) limit: usize,
    pub(crate) chunks: VecDeque<Chunk>,
}

/// What lies undisturbed most of the time; made when first needed.
#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) inboxes: Vec<Inbox>,
    /// Levels that are of no use any more.
    pub(crate) failed: Vec<Failed>,
    /// Levels whose connection broke, and how.
    pub(crate) broken: Vec<(u8, ErrorKind)>,
    pub(crate) on_stop: Vec<Box<dyn FnOnce() + Send>>,
    pub(crate) on_free: Vec<Box<dyn FnOnce() + Send>>,
    pub(crate) on_event: Option<Listener>,
    pub(crate) events: VecDeque<Event>,
    /// The listener runs at the moment, and is not in `on_event`.
    pub(crate) listening: bool,
    /// Read data that came for readers who had gone, in the order they had asked.
    pub(crate) leftover: VecDeque<Leftover>,
    /// The same for accepts.
    pub(crate) links: Links,
    /// Reads that were called back to the top and are not there yet.
    pub(crate) recalling: u32,
    pub(crate) idle: [Option<std::time::Duration>; 2],
    pub(crate) progress: [Time; 2],
    pub(crate) counts: Option<Box<[Counts]>>,
    /// Ops counted towards the next timed one, and the level whose time runs.
    pub(crate) sample: u32,
    pub(crate) lap: Option<(u8, Time)>,
}

/// What one direction of a handle has outstanding.
#[derive(Default)]
pub(crate) struct Side {
    pub(crate) ops: u32,
    pub(crate) bytes: usize,
}

/// A user's read or write that is tried once by the thread that asked for it, with the lock free. It has
/// no number yet; if it has to wait it gets one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Try {
    /// The level it is at; USER: there is none.
    pub(crate) at: u8,
    /// It is to stop rather than wait.
    pub(crate) stop: bool,
    /// Its place in the order of numbers, once others have got one meanwhile; 0: not yet.
    pub(crate) turn: u32,
}

/// Named limits of outstanding ops, a handle and direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) ops: u32,
    pub(crate) bytes: usize,
}

/// Where a handle or server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Opening,
    Open,
    Closing,
    Closed,
}

/// Somebody to wake once the lock is free.
pub(crate) enum Signal {
    Bell(Arc<Bell>),
    Waker(std::task::Waker),
    /// Somebody at the other end, by a socket that knows how.
    Nudge(Sock),
    /// The last hold on a handle whose users have gone.
    Free(Arc<Core>),
    /// Nobody, but links that nobody will accept, to be dropped.
    Links(Links),
}

pub(crate) struct Inner {
    pub(crate) me: std::sync::Weak<Core>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stack: Stack,
    pub(crate) ops: Slab<Entry>,
    pub(crate) generation: u32,
    /// Reads that came up to be fetched.
    pub(crate) came: u32,
    pub(crate) q: Lazy,
    pub(crate) nodes: SmallVec<[NodeState; 4]>,
    pub(crate) status: Status,
    pub(crate) poisoned: Option<Error>,
    pub(crate) eof: bool,
    pub(crate) shut: bool,
    pub(crate) sides: [Side; 2],
    pub(crate) tries: [Try; 2],
    pub(crate) limits: Limits,
    pub(crate) calling: bool,
    /// Its requests are tried when this thread's callbacks have run.
    pub(crate) pumped_later: bool,
    pub(crate) rare: Option<Box<Rare>>,
}

pub(crate) struct Tree {
    pub(crate) levels: Vec<Box<dyn Level>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) inner: Inner,
}

/// A handle or server, shared between its users, its levels' tokens and its reactor.
pub(crate) struct Core {
    pub(crate) tree: Mutex<Tree>,
    pub(crate) shared: Arc<Shared>,
    /// Where it is known to its engine.
    pub(crate) key: u64,
}

impl Core {
    /// Takes the lock. Whoever may leave something to do goes through [`Lane`](crate::engine::post::Lane).
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.shared.forget(self.key);
        let tree = self.tree.get_mut();
        if let Some(rare) = &mut tree.inner.rare {
            // Free tasks run last in, first out.
            while let Some(f) = rare.on_free.pop() {
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            }
        }
    }
}

impl Rare {
    /// The inbox of a level, made if there is none.
    pub(crate) fn inbox(&mut self, node: u8) -> &mut Inbox {
        let i = self.inboxes.iter().position(|b| b.node == node).unwrap_or_else(|| {
            self.inboxes.push(Inbox { node, limit: INBOX_BYTES, chunks: VecDeque::new() });
            self.inboxes.len() - 1
        });
        &mut self.inboxes[i]
    }
}

impl Inner {
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives an op its number. `turn`: its place in the order, where it has one already.
    pub(crate) fn new_id(&mut self, kind: OpKind, origin: u8, at: u8, state: State, turn: u32) -> OpId {
        let generation = if turn == 0 {
            // Whoever is tried was asked for before.
            for side in 0..self.tries.len() {
                if self.tries[side].at != USER && self.tries[side].turn == 0 {
                    self.tries[side].turn = self.next_turn();
                }
            }
            self.next_turn()
        } else {
            turn
        };
        let slot = self.ops.insert(Entry {
            generation,
            kind,
            origin,
            at,
            gated: 0,
            job: 0,
            hold: 0,
            cancel: None,
            state,
            cell: None,
            more: None,
            deserted: false,
            recalled: false,
        });
        OpId { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation }
    }

    fn next_turn(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.generation
    }

    /// The ops of which `which` holds.
    pub(crate) fn ids(&self, which: impl Fn(&Entry) -> bool) -> impl Iterator<Item = OpId> {
        self.ops
            .iter()
            .filter(move |(_, e)| which(e))
            .map(|(slot, e)| OpId { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation: e.generation })
    }

    #[inline]
    pub(crate) fn entry(&mut self, id: OpId) -> Option<&mut Entry> {
        self.ops
            .get_mut(id.slot as usize)
            .filter(|e| e.generation == id.generation || planted("a number has no generation"))
    }

    /// The entry of an op that a token stands for, while the token is its last.
    #[inline]
    pub(crate) fn held(&mut self, (id, hold): (OpId, u8)) -> Option<&mut Entry> {
        self.entry(id).filter(|e| e.hold == hold)
    }

    /// Puts an op away in a state.
    pub(crate) fn park<K: Kind>(&mut self, plan: &Plan, mut cell: Box<Cell<K>>, state: State) -> OpId {
        let head = &mut cell.head;
        if head.id.is_none() {
            head.id = self.new_id(K::KIND, head.origin, head.at, State::Finished, head.id.generation);
        }
        let (id, at, origin) = (head.id, head.at, head.origin);
        let admitted = !matches!(state, State::Finished | State::Admission(_));
        let deadline = head.deadline;
        let any = K::wrap(cell);
        let Some(entry) = self.entry(id) else { return id };
        entry.at = at;
        entry.state = state;
        entry.cell = Some(any);
        let needs_timer = entry.timer().is_none() && deadline != Time::NEVER && !matches!(entry.state, State::Finished);
        if admitted {
            self.hold_gates(plan, id, K::KIND, at, origin);
        }
        if needs_timer {
            let key = self.shared.timers.deadline(deadline, self.me.clone(), id);
            if let Some(entry) = self.entry(id) {
                entry.more().timer = Some((deadline, key));
            }
        }
        id
    }

    /// Takes a parked op out, to run it. It no longer counts in any gate; the loop is about to move
    /// it, and nobody else runs before it is put away again.
    pub(crate) fn take(&mut self, plan: &Plan, id: OpId) -> Option<AnyCell> {
        let entry = self.entry(id)?;
        let cell = entry.cell.take()?;
        self.release_gates(plan, id);
        Some(cell)
    }

    /// Frees an op's number and tells closes that wait.
    pub(crate) fn free_id(&mut self, plan: &Plan, id: OpId) {
        if id.is_none() {
            return;
        }
        self.release_gates(plan, id);
        let Some(entry) = self.entry(id) else { return };
        let timer = entry.take_timer();
        if planted("an op that ended keeps its number") {
            return;
        }
        self.ops.remove(id.slot as usize);
        if let Some((at, key)) = timer {
            self.shared.timers.remove(at, key);
        }
        if self.q.get().is_some_and(|q| !q.barriers.is_empty()) {
            self.recheck_barriers();
        }
    }

    #[cold]
    pub(crate) fn recheck_barriers(&mut self) {
        for id in self.q.get_mut().map(|q| std::mem::take(&mut q.barriers)).unwrap_or_default() {
            if let Some(e) = self.entry(id)
                && let State::Barrier(step) = e.state
            {
                e.state = State::Ready(step);
                self.q.make().runq.push_back(Task::Op(id));
            }
        }
    }

    /// The level on the way to `at` that gave itself up, and why.
    #[cold]
    pub(crate) fn given_up(&self, plan: &Plan, kind: OpKind, at: u8, origin: u8) -> Option<(u8, Error)> {
        let failed = &self.rare.as_ref()?.failed;
        let f = failed
            .iter()
            .find(|f| f.node > origin && plan.within(at, f.node) && (!f.writes_only || kind == OpKind::Write))?;
        Some((f.node, f.error.clone()))
    }

    /// Why an op that is out at a level need not wait there: a level on its way gave itself up meanwhile.
    pub(crate) fn lost(&self, plan: &Plan, kind: OpKind, at: u8, origin: u8) -> Option<Error> {
        if matches!(kind, OpKind::Open | OpKind::Close | OpKind::Listen) {
            return None;
        }
        self.given_up(plan, kind, at, origin).map(|(_, e)| e)
    }

    pub(crate) fn place(&self, node: u8) -> Option<Place> {
        let n = usize::from(node).checked_sub(1)?;
        self.stack.nodes().get(n).map(|n| n.place.clone())
    }

    pub(crate) fn nothing_to_do(&self) -> bool {
        self.q.get().is_none_or(|q| {
            q.runq.is_empty()
                && q.ios.is_empty()
                && q.signals.is_empty()
                && q.calls.is_empty()
                && q.garbage.is_empty()
                && q.gates.is_empty()
        }) && self.rare.as_ref().is_none_or(|r| r.events.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle handle is to stay small; the sum is what a handle of three levels takes, beside the
    /// levels themselves, with one read outstanding.
    #[test]
    fn an_idle_handle_is_small() {
        let core = size_of::<Core>() + 16;
        let cell = size_of::<Cell<Read>>();
        let entry = size_of::<Entry>();
        println!(
            "core {core}, read cell {cell}, entry {entry}, tree {}, inner {}, state {}",
            size_of::<Tree>(),
            size_of::<Inner>(),
            size_of::<State>()
        );
        println!(
            "head {}, body {}, end {}, io {}, write cell {}",
            size_of::<crate::op::Head>(),
            size_of::<crate::body::ReadBody>(),
            size_of::<crate::engine::end::End<Read>>(),
            size_of::<crate::op::IoSlot>(),
            size_of::<Cell<crate::op::Write>>()
        );
        assert!(core + cell + entry <= 1500, "{core} + {cell} + {entry}");
    }
}
