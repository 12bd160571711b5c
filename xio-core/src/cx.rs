//! What a level can ask for while it answers: ops of its own on the levels below, timers, requests
//! to the reactor, answers to ops it holds, data and events upwards. Invariant: nothing asked here
//! runs inside the call; it runs after it, in the order asked, before the op in hand moves on.

use std::any::Any;
use std::sync::Weak;
use std::time::Duration;

use bytes::BytesMut;

use crate::attr::OpAttrs;
use crate::buffer::{Chunk, Pieces, Target};
use crate::contact::Contact;
use crate::driver::Intercepts;
use crate::engine::cells;
use crate::engine::core::{Core, Early, Inbox, Inner, Signal, State, Step, Task};
use crate::engine::run::wake_level;
use crate::engine::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::handle::CloseMode;
use crate::held::Held;
use crate::io::{Direction, Io, Sock};
use crate::op::{
    Accept, AnyCell, Cell, Close, Flush, Head, IoSlot, Kind, Listen, Op, OpId, Open, Read, Ready, Role, Shutdown, Write,
};
use crate::plan::{END, Plan};
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::time::Time;

/// What a delivered chunk counts at least.
const LEAST_DELIVERY: usize = 64;

/// The engine, as one level sees it during a call.
pub struct Cx<'a> {
    pub(crate) inner: &'a mut Inner,
    pub(crate) plan: &'a Plan,
    pub(crate) node: u8,
}

/// Something that happened below a level.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The branch of the level that sees it, through which it came.
    pub branch: u8,
    pub(crate) from: u8,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A path to the peer is gone.
    PathDown,
    /// A path to the peer is there.
    PathUp,
    /// A level's queue fell under its low mark.
    Drained,
    /// A level's queue rose over its high mark.
    Filled,
    /// Something a driver defines, by name.
    Other(&'static str),
}

/// A timer of a level. Dropped, it never fires again.
#[must_use = "a timer that is dropped never fires"]
#[derive(Debug)]
pub struct Timer {
    alive: Arc<AtomicBool>,
    /// Where it stands in the list, to be taken out again.
    shared: Weak<Shared>,
    at: Time,
    key: u64,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Relaxed);
        // One that repeats may stand elsewhere by now; it goes when that time comes.
        if let Some(shared) = self.shared.upgrade() {
            shared.timers.remove(self.at, self.key);
        }
    }
}

/// Wakes a level from any thread: its [`Level::woken`](crate::Level::woken) runs soon.
#[derive(Clone)]
pub struct LevelWaker {
    core: Weak<Core>,
    node: u8,
}

impl LevelWaker {
    /// Wakes the level, if the handle is still there.
    pub fn wake(&self) {
        if let Some(core) = self.core.upgrade() {
            wake_level(core, self.node);
        }
    }
}

impl Cx<'_> {
    // ---- own ops -------------------------------------------------------------------------------

    /// Reads from a branch into `buf` until `wait_for` bytes are there; comes back in
    /// `own_read_done` with this tag.
    pub fn read(&mut self, branch: u8, buf: BytesMut, wait_for: usize, tag: u32) -> OpId {
        self.read_target(branch, Target::Fill(buf), usize::MAX, wait_for, tag)
    }

    /// Takes at most `most` and at least `wait_for` bytes from a branch, as chunks.
    pub fn take(&mut self, branch: u8, wait_for: usize, most: usize, tag: u32) -> OpId {
        self.read_target(branch, Target::none(), most, wait_for, tag)
    }

    fn read_target(&mut self, branch: u8, target: Target, most: usize, wait_for: usize, tag: u32) -> OpId {
        let mut cell = cells::read();
        cell.body.ask(target, most, wait_for);
        self.own(cell, branch, tag)
    }

    /// Writes to a branch; comes back in `own_write_done` with this tag.
    pub fn write(&mut self, branch: u8, pieces: Pieces, tag: u32) -> OpId {
        self.write_with(branch, pieces, OpAttrs::new(), tag)
    }

    /// Writes to a branch with attrs.
    pub fn write_with(&mut self, branch: u8, pieces: Pieces, attrs: OpAttrs, tag: u32) -> OpId {
        let mut cell = cells::write();
        cell.body.ask(pieces);
        cell.head.attrs = attrs;
        self.own(cell, branch, tag)
    }

    /// Writes several messages in one op, where [`takes_batches`](Self::takes_batches) says so.
    /// `ends` are their ends in bytes from the front of `pieces`.
    pub fn write_batch(&mut self, pieces: Pieces, ends: Vec<usize>, attrs: OpAttrs, tag: u32) -> OpId {
        let mut cell = cells::write();
        cell.body.ask(pieces);
        cell.body.ends = ends;
        cell.head.attrs = attrs;
        self.own(cell, 0, tag)
    }

    /// Whether the level below understands writes of several messages, or has no borders at all.
    pub fn takes_batches(&self) -> bool {
        self.plan.takes_batches(self.node)
    }

    /// Opens a branch towards a contact; while the handle lives, as often as needed.
    pub fn open(&mut self, branch: u8, contact: Contact, tag: u32) -> OpId {
        let mut cell = Cell::<Open>::boxed();
        cell.body.contact = contact.into();
        self.own(cell, branch, tag)
    }

    /// Closes a branch.
    pub fn close(&mut self, branch: u8, mode: CloseMode, tag: u32) -> OpId {
        let mut cell = Cell::<Close>::boxed();
        cell.body.mode = mode;
        self.own(cell, branch, tag)
    }

    /// Flushes a branch.
    pub fn flush(&mut self, branch: u8, tag: u32) -> OpId {
        self.own(Cell::<Flush>::boxed(), branch, tag)
    }

    /// Ends the write side of a branch.
    pub fn shutdown(&mut self, branch: u8, tag: u32) -> OpId {
        self.own(Cell::<Shutdown>::boxed(), branch, tag)
    }

    /// Waits until a transfer on a branch would move something.
    pub fn ready(&mut self, branch: u8, direction: Direction, tag: u32) -> OpId {
        let mut cell = Cell::<Ready>::boxed();
        cell.body.direction = direction;
        self.own(cell, branch, tag)
    }

    /// Starts a branch of a server; comes back in `own_listen_done` with the contact of a client.
    pub fn listen(&mut self, branch: u8, contact: Contact, tag: u32) -> OpId {
        let mut cell = Cell::<Listen>::boxed();
        cell.body.contact = contact;
        self.own(cell, branch, tag)
    }

    /// Waits for a link on a branch of a server. In `own_accept_done` the level takes the body out of
    /// the op and puts it into an accept from above, which so gets the link.
    pub fn accept(&mut self, branch: u8, tag: u32) -> OpId {
        self.own(Cell::<Accept>::boxed(), branch, tag)
    }

    /// Makes the last own op of this id go with the op it serves: its deadline holds for both, and
    /// a cancel of the served op cancels this one. An op that is held in this very call has its
    /// deadline from the next call on.
    pub fn serve<K: Kind>(&mut self, own: OpId, served: &Held<K>) {
        let id = served.id();
        let deadline = self
            .inner
            .entry(id)
            .and_then(|e| e.cell.as_ref().map(|c| c.head().deadline).or_else(|| e.timer().map(|t| t.0)))
            .unwrap_or(Time::NEVER);
        if let Some(c) = self.inner.entry(own).and_then(|e| e.cell.as_mut()) {
            c.head_mut().serves = id;
            c.head_mut().deadline = deadline;
        }
    }

    fn own<K: Kind>(&mut self, mut cell: Box<Cell<K>>, branch: u8, tag: u32) -> OpId {
        let node = self.node;
        cell.head.origin = node;
        cell.head.at = node;
        cell.head.own_branch = branch;
        cell.head.tag = u64::from(tag);
        let step = match self.plan.branch_entry(K::KIND, node, branch) {
            Some(first) => Step::Enter(first),
            None => {
                let e = Error::new(ErrorKind::Contract).detail(format!("there is no branch {branch} below this level"));
                cell.head.error = Some(e);
                Step::Leave(node)
            }
        };
        let id = self.inner.park(self.plan, cell, State::Ready(step));
        self.inner.q.make().posts.push(Task::Op(id));
        id
    }

    /// How many branches lie below this level.
    pub fn branches(&self) -> u8 {
        u8::try_from(self.plan.branches(self.node)).unwrap_or(u8::MAX)
    }

    /// The label of a branch.
    pub fn label(&self, branch: u8) -> Option<&str> {
        let child = self.plan.child(self.node, branch)?;
        self.inner.stack.nodes().get(usize::from(child) - 1)?.label.as_deref()
    }

    /// Whether the first level of a branch is open.
    pub fn is_open(&self, branch: u8) -> bool {
        self.plan.child(self.node, branch).is_some_and(|c| self.inner.nodes[usize::from(c)].opened)
    }

    /// Stops an op this level made; it comes back with its real result or `Cancelled`.
    pub fn cancel(&mut self, own: OpId) {
        if self.inner.entry(own).is_some_and(|e| e.origin == self.node) {
            self.inner.q.make().posts.push(Task::Cancel(own, crate::level::Reason::Cancelled));
        }
    }

    // ---- requests ------------------------------------------------------------------------------

    /// Asks the reactor on the level's own account; comes back in `io_done` with this tag. A close
    /// waits for it, after cancelling it, where the level sees closes; in one that does not, nothing
    /// waits for it, and it goes with the handle.
    pub fn io(&mut self, io: Io, tag: u32) -> OpId {
        let mut cell = Cell::<Ready>::boxed();
        cell.head.origin = self.node;
        cell.head.at = self.node;
        cell.head.role = Role::Request;
        cell.head.tag = u64::from(tag);
        cell.head.io = IoSlot::Ask(io);
        let id = self.inner.park(self.plan, cell, State::Io);
        self.inner.q.make().ios.push_back(id);
        id
    }

    /// Asks `sock` whether it [is ready](crate::io::Socket::is_ready) to write, once, as soon as the lock is free; what
    /// it says is dropped. For a system call that nobody waits for, as one that wakes a peer: an
    /// [`Io::Ready`] of one's own costs an op.
    pub fn nudge(&mut self, sock: Sock) {
        self.inner.q.make().signals.push(Signal::Nudge(sock));
    }

    /// Runs a closure that may block on the engine's pool; comes back in `io_done`.
    pub fn blocking(
        &mut self,
        f: impl FnOnce() -> std::io::Result<Box<dyn Any + Send>> + Send + 'static,
        tag: u32,
    ) -> OpId {
        self.io(Io::Blocking(Box::new(f)), tag)
    }

    // ---- held ops ------------------------------------------------------------------------------

    pub(crate) fn hold<K: Kind>(&mut self, head: &mut Head) -> Held<K> {
        if head.id.is_none() {
            let state = State::Ready(Step::Enter(END));
            head.id = self.inner.new_id(K::KIND, head.origin, head.at, state, head.id.generation);
        }
        let hold = self.inner.entry(head.id).map_or(0, |e| {
            e.hold = e.hold.wrapping_add(1);
            e.hold
        });
        Held::new(self.inner.me.clone(), head.id, hold)
    }

    /// Whether a held op is still waiting for its answer.
    pub fn is_live<K: Kind>(&mut self, held: &Held<K>) -> bool {
        self.inner.held(held.parts()).is_some_and(|e| e.state.holder().is_some() || e.cell.is_none())
    }

    /// Finishes a held op of this handle. A write that fails counts as many bytes as moved as the error
    /// says: those that can no longer be called back.
    pub fn finish<K: Kind>(&mut self, held: Held<K>, result: Result<(), Error>) {
        self.answer(held, Early::Finish(result));
    }

    /// Lets a held op enter this level again.
    pub fn retry<K: Kind>(&mut self, held: Held<K>) {
        self.answer(held, Early::Retry);
    }

    /// Passes a held op down.
    pub fn pass_held<K: Kind>(&mut self, held: Held<K>) {
        self.answer(held, Early::Pass);
    }

    fn answer<K: Kind>(&mut self, held: Held<K>, answer: Early) {
        let hold = held.disarm();
        let id = hold.0;
        let node = self.node;
        let place = self.inner.place(node);
        let Some(entry) = self.inner.held(hold) else { return };
        if entry.cell.is_none() || matches!(entry.state, State::Ready(_)) && entry.state.holder() == Some(node) {
            // It is about to be put away; the answer waits for it there.
            entry.more().early = Some(answer);
            return;
        }
        if !matches!(entry.state, State::Held(n) if n == node) {
            return;
        }
        let step = match answer {
            Early::Retry => Step::Again(node),
            Early::Pass => Step::Acted { node, act: crate::op::Act::Pass, phase: crate::engine::core::Phase::Down },
            Early::Finish(result) => {
                let Some(any) = entry.cell.as_mut() else { return };
                let kind = any.kind();
                match (&mut *any, &result) {
                    (AnyCell::Write(c), Ok(())) => c.body.take_all(),
                    (AnyCell::Write(c), Err(e)) => c.body.take_part(usize::try_from(e.moved()).unwrap_or(usize::MAX)),
                    _ => {}
                }
                match result {
                    Ok(()) => Step::Acted { node, act: crate::op::Act::Done, phase: crate::engine::core::Phase::Down },
                    Err(e) => {
                        any.head_mut().error = Some(e.at(kind, || place));
                        crate::op::with_cell!(any, c => leave(c, node));
                        Step::Leave(node)
                    }
                }
            }
        };
        entry.state = State::Ready(step);
        self.inner.q.make().posts.push(Task::Op(id));
    }

    /// Moves bytes from `chunk` into a held read, as much as fits; `None` if the read is gone. The
    /// rest stays in `chunk`.
    pub fn fill(&mut self, held: &Held<Read>, chunk: &mut Chunk) -> Option<usize> {
        match self.held_cell(held)? {
            AnyCell::Read(c) => Some(c.body.put_chunk(chunk)),
            _ => None,
        }
    }

    /// Finishes a held read with a chunk.
    ///
    /// # Errors
    /// The chunk, whole, if the read is gone, or what did not fit.
    pub fn finish_chunk(&mut self, held: Held<Read>, mut chunk: Chunk) -> Result<(), Chunk> {
        if self.fill(&held, &mut chunk).is_none() {
            held.disarm();
            return Err(chunk);
        }
        self.finish(held, Ok(()));
        if chunk.is_empty() { Ok(()) } else { Err(chunk) }
    }

    /// A second owner of the pieces of a held write; `None` if it is gone.
    pub fn share(&mut self, held: &Held<Write>) -> Option<Pieces> {
        match self.held_cell(held)? {
            AnyCell::Write(c) => Some(c.body.share()),
            _ => None,
        }
    }

    /// Bytes of a held write and its attrs; `None` if it is gone.
    pub fn held_write(&mut self, held: &Held<Write>) -> Option<(usize, &OpAttrs)> {
        match self.held_cell(held)? {
            AnyCell::Write(c) => Some((c.body.len(), &c.head.attrs)),
            _ => None,
        }
    }

    /// The attrs of a held op, to change before it is finished; `None` if it is gone.
    pub fn held_attrs<K: Kind>(&mut self, held: &Held<K>) -> Option<&mut OpAttrs> {
        Some(&mut self.held_cell(held)?.head_mut().attrs)
    }

    fn held_cell<K: Kind>(&mut self, held: &Held<K>) -> Option<&mut AnyCell> {
        let node = self.node;
        let entry = self.inner.held(held.parts())?;
        match entry.state {
            _ if entry.state.holder() == Some(node) => entry.cell.as_mut(),
            _ => None,
        }
    }

    // ---- time ----------------------------------------------------------------------------------

    /// Now, by the engine's clock.
    pub fn now(&self) -> Time {
        self.inner.shared.now()
    }

    /// Calls [`Level::timer`](crate::Level::timer) once after `d`, rounded up, unless the guard is
    /// dropped first.
    pub fn after(&mut self, d: Duration, tag: u32) -> Timer {
        self.timer(d, None, tag)
    }

    /// Calls [`Level::timer`](crate::Level::timer) every `d` until the guard is dropped.
    pub fn every(&mut self, d: Duration, tag: u32) -> Timer {
        self.timer(d, Some(d.max(Duration::from_millis(1))), tag)
    }

    fn timer(&mut self, d: Duration, every: Option<Duration>, tag: u32) -> Timer {
        let alive = Arc::new(AtomicBool::new(true));
        let at = self.inner.shared.now() + d;
        let shared = &self.inner.shared;
        let key = shared.timers.level(at, every, self.inner.me.clone(), self.node, tag, alive.clone());
        Timer { alive, shared: Arc::downgrade(shared), at, key }
    }

    /// A random number from the engine's source; seeded under simulation.
    pub fn random(&mut self) -> u64 {
        self.inner.shared.reactor.random()
    }

    // ---- upwards -------------------------------------------------------------------------------

    /// Hands a chunk to the reads that wait here (see [`Op::await_delivery`]), or keeps it for the
    /// next ones.
    ///
    /// # Errors
    /// The chunk, where more than the limit would lie here unread (256 KiB unless
    /// [`limit_deliveries`](Self::limit_deliveries) said otherwise). A chunk counts as 64 bytes at least,
    /// so that empty messages are bounded, too.
    pub fn deliver(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        let node = self.node;
        let Inbox { limit, chunks: queue, .. } = self.inner.rare().inbox(node);
        let limit = *limit;
        let weight = |c: &Chunk| c.len().max(LEAST_DELIVERY);
        let lying: usize = queue.iter().map(weight).sum();
        if !queue.is_empty() && lying + weight(&chunk) > limit {
            return Err(chunk);
        }
        queue.push_back(chunk);
        self.inner.q.make().posts.push(Task::Delivered(node));
        Ok(())
    }

    /// Sets how many delivered bytes may lie unread at this level.
    pub fn limit_deliveries(&mut self, bytes: usize) {
        let node = self.node;
        self.inner.rare().inbox(node).limit = bytes;
    }

    /// Gives this level and what is below it up: ops in or below it fail with `error`, and so do
    /// all that come.
    pub fn fail(&mut self, error: Error) {
        self.inner.q.make().posts.push(Task::Fail { node: self.node, error });
    }

    /// Tells the levels above, and in the end the user, that something happened.
    pub fn event(&mut self, kind: EventKind) {
        self.inner.q.make().posts.push(Task::Event(Event { kind, branch: 0, from: self.node }));
    }

    // ---- the rest ------------------------------------------------------------------------------

    /// Wakes this level from elsewhere.
    pub fn waker(&self) -> LevelWaker {
        LevelWaker { core: self.inner.me.clone(), node: self.node }
    }

    /// Runs `f` when the handle closes; first in, first out. It may not block.
    pub fn on_stop(&mut self, f: impl FnOnce() + Send + 'static) {
        self.inner.rare().on_stop.push(Box::new(f));
    }

    /// Runs `f` when the last owner of the handle lets go; last in, first out.
    pub fn on_free(&mut self, f: impl FnOnce() + Send + 'static) {
        self.inner.rare().on_free.push(Box::new(f));
    }

    /// The word this level has on every op, if its driver declares
    /// [`Intercepts::WORD`](crate::driver::Intercepts::WORD); otherwise a word nobody else reads.
    pub fn word<'w, K: Kind>(&self, op: &'w mut Op<'_, K>) -> &'w mut u64 {
        let count = self.plan.word_count.max(1);
        let declared = self.plan.intercepts(self.node).contains(Intercepts::WORD);
        // One word more for those that never asked for any.
        let i = if declared { self.plan.word(self.node) } else { count };
        let head = &mut op.cell.head;
        if i == 0 {
            return &mut head.word;
        }
        let more = head.more_words.get_or_insert_with(|| Box::new(vec![0; count + 1]));
        &mut more[i]
    }

    /// Id of this level.
    pub fn id(&self) -> &str {
        &self.inner.stack.nodes()[usize::from(self.node) - 1].place.level
    }

    /// The attr this level was made with.
    pub fn attr(&self) -> &dyn crate::attr::Attr {
        &*self.inner.stack.nodes()[usize::from(self.node) - 1].attr
    }

    /// An empty buffer with room for at least `n` bytes.
    pub fn buffer(&mut self, n: usize) -> BytesMut {
        self.inner.shared.buffers.take(n)
    }

    /// Gives a buffer back, for any level of the engine to use again.
    pub fn give_back(&mut self, buf: BytesMut) {
        self.inner.shared.buffers.give(buf);
    }

    /// What the level below gives, for the first branch.
    pub fn caps_below(&self) -> Option<&crate::caps::Caps> {
        let child = self.plan.child(self.node, 0)?;
        self.inner.stack.nodes().get(usize::from(child) - 1).map(|n| &n.caps)
    }
}

fn leave<K: Kind>(cell: &mut Cell<K>, node: u8) {
    K::leave_level(&mut cell.body, node);
}
