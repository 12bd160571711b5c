//! What came for an owner who had gone, and how the next one gets it first: bytes of a dropped read,
//! the link of a dropped accept. Invariant: reads get the bytes of a handle in the order in which they
//! were asked for; where bytes fall back that later reads would have to get first, those reads are
//! called back to the top and start again behind them.

use std::collections::VecDeque;

use crate::attr::OpAttrs;
use crate::buffer::Chunk;
use crate::driver::OpKind;
use crate::engine::core::{Entry, Inner, Rare, State, Status, Step, Tree};
use crate::engine::end::Accepted;
use crate::engine::pump::stopped;
use crate::error::{Error, ErrorKind};
use crate::io::Direction;
use crate::level::Reason;
use crate::op::{Accept, AnyCell, Cell, Kind, OpId, Read};
use crate::plan::USER;
use crate::sync::planted;

/// Bytes that fell back, and their place among all that came up: the number of the read that brought
/// them, then the byte of it. A read that has them carries the place as its tag.
pub(crate) struct Leftover {
    place: u64,
    chunk: Chunk,
    attrs: OpAttrs,
}

/// Places before this one belong to bytes that a user put back.
const FIRST: u64 = 1 << 32;

/// Whether the op numbered `a` was asked for after that numbered `b`.
pub(super) fn later(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

impl Rare {
    /// Puts bytes before everything else that waits to be read.
    pub(crate) fn unread(&mut self, chunk: Chunk) {
        let front = self.leftover.front().map_or(FIRST, |l| l.place.min(FIRST));
        let place = front.saturating_sub(chunk.len().max(1) as u64).max(1);
        self.leftover.push_front(Leftover { place, chunk, attrs: OpAttrs::new() });
    }

    fn fall_back(&mut self, left: Leftover) {
        let at = self.leftover.iter().position(|l| l.place > left.place).unwrap_or(self.leftover.len());
        self.leftover.insert(at, left);
    }
}

impl Tree {
    /// An op finished whose owner has gone.
    pub(crate) fn abandon(&mut self, id: OpId, any: AnyCell) {
        match any {
            AnyCell::Read(mut cell) => {
                self.strip(id, &mut cell);
                crate::engine::cells::keep_read(cell);
            }
            AnyCell::Accept(mut cell) => {
                if let Ok(link) = Accept::outcome(&mut cell) {
                    self.inner.rare().links.push_back(link);
                    self.recall(OpKind::Accept, id);
                }
            }
            any => crate::engine::cells::keep(any),
        }
    }

    /// Takes what a read brought out of it; the next read gets it first.
    fn strip(&mut self, id: OpId, cell: &mut Cell<Read>) {
        // A level may have had something of its own in place.
        cell.body.leave(0);
        let message = cell.head.error.is_none() && self.plan.unit.has_borders();
        // What was read at a place of its own belongs to no other read.
        let placed = cell.head.attrs.find::<crate::attr::Offset>().is_some();
        // A place of nothing is no place: what the read gets when it starts again has its own.
        let tag = std::mem::take(&mut cell.head.tag);
        if placed || cell.body.got == 0 && !message || planted("bytes go with a dropped read") {
            return;
        }
        let chunk = Chunk::from(cell.body.take_back(cell.body.got));
        let attrs = cell.head.attrs.clone();
        // What had fallen back to this read before keeps its place.
        let place = if tag == 0 { self.inner.next_place() } else { tag };
        self.inner.rare().fall_back(Leftover { place, chunk, attrs });
        self.recall(OpKind::Read, id);
        self.now_ready();
    }

    /// Puts bytes before everything else that waits to be read.
    pub(crate) fn unread(&mut self, chunk: Chunk) {
        self.inner.rare().unread(chunk);
        self.now_ready();
    }

    /// There is something to read at the top: who waits below for that waits no longer.
    fn now_ready(&mut self) {
        let waits = |e: &Entry| {
            e.origin == USER && e.kind == OpKind::Ready && !e.recalled && !matches!(e.state, State::Finished)
        };
        let ids: Vec<OpId> = self.inner.ids(waits).collect();
        for id in ids {
            self.call_back(id);
            if self.inner.entry(id).and_then(|e| e.more.as_ref()).is_none_or(|m| m.withdrawn.is_none()) {
                self.pursue(id, Reason::Cancelled);
            }
        }
    }

    /// Calls the ops back to the top that were asked for after `id`, so that they meet what fell back.
    fn recall(&mut self, kind: OpKind, id: OpId) {
        if planted("reads are not called back") {
            return;
        }
        let mut ids: Vec<OpId> = self
            .inner
            .ids(|e| {
                e.origin == USER
                    && e.kind == kind
                    && !e.recalled
                    && (kind == OpKind::Accept || later(e.generation, id.generation))
                    && !matches!(e.state, State::Admission(_))
            })
            .collect();
        ids.sort_by_key(|a| a.generation.wrapping_sub(id.generation));
        if kind == OpKind::Accept {
            // One link needs one accept, and one that has its own link needs none.
            ids.retain(|id| self.inner.entry(*id).is_some_and(|e| !matches!(e.state, State::Finished)));
            ids.truncate(1);
        }
        for id in &ids {
            self.call_back(*id);
        }
        for id in ids {
            let Some(entry) = self.inner.entry(id) else { continue };
            if matches!(entry.state, State::Finished) {
                if let Some(AnyCell::Read(cell)) = entry.cell.take() {
                    self.recalled_read(cell);
                }
            } else if entry.more.as_ref().is_none_or(|m| m.withdrawn.is_none()) {
                self.pursue(id, Reason::Cancelled);
            }
        }
    }

    /// Marks an op as called back.
    pub(crate) fn call_back(&mut self, id: OpId) {
        if let Some(e) = self.inner.entry(id) {
            e.recalled = true;
            let asked = e.cancel.replace(e.cancel.unwrap_or(Reason::Cancelled));
            if asked.is_some() {
                e.more().withdrawn = asked;
            }
            let read = e.kind == OpKind::Read;
            self.inner.rare().recalling += u32::from(read);
        }
    }

    /// An op that was called back is at the top. Whether it is finished now; else it waits to start
    /// again.
    pub(crate) fn recalled<K: Kind>(&mut self, cell: Box<Cell<K>>) -> Option<Box<Cell<K>>> {
        match K::wrap(cell) {
            AnyCell::Read(cell) => {
                self.recalled_read(cell);
                None
            }
            AnyCell::Accept(mut cell) => {
                let withdrawn = self.come_up(cell.head.id);
                if withdrawn.is_none() && cell.head.error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Cancelled) {
                    if let Some(Accepted { links, local, peer }) = self.inner.rare().links.pop_front() {
                        cell.head.error = None;
                        cell.body = crate::body::AcceptBody { links, local, peer };
                    }
                } else if self.inner.rare().links.front().is_some() {
                    self.recall(OpKind::Accept, cell.head.id);
                }
                K::unwrap(AnyCell::Accept(cell))
            }
            AnyCell::Ready(mut cell) => {
                let withdrawn = self.come_up(cell.head.id);
                if withdrawn.is_none() && cell.head.error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Cancelled) {
                    cell.head.error = None;
                    if cell.body.direction == Direction::Write && !self.levels.is_empty() {
                        // It was not meant.
                        let top = self.plan.kind(OpKind::Ready).top();
                        cell.head.at = USER;
                        let id = self.inner.park(&self.plan, cell, State::Finished);
                        self.ready(id, Step::Enter(top));
                        return None;
                    }
                }
                K::unwrap(AnyCell::Ready(cell))
            }
            any => K::unwrap(any),
        }
    }

    /// Ends the recall of an op; says why it was to stop beside that.
    fn come_up(&mut self, id: OpId) -> Option<Reason> {
        let deserted = self.inner.entry(id).is_some_and(|e| e.deserted).then_some(Reason::Cancelled);
        let entry = self.inner.entry(id)?;
        entry.recalled = false;
        entry.cancel = None;
        entry.more.as_mut().and_then(|m| m.withdrawn.take()).or(deserted)
    }

    fn recalled_read(&mut self, mut cell: Box<Cell<Read>>) {
        let id = cell.head.id;
        let withdrawn = self.come_up(id);
        let open = self.inner.status == Status::Open && !self.levels.is_empty();
        let again = match &cell.head.error {
            None => true,
            Some(e) => matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Eof),
        };
        // A message that was cut keeps what it has.
        if again || !self.plan.unit.has_borders() {
            self.strip(id, &mut cell);
        }
        if again {
            cell.head.error = match (withdrawn, open) {
                (Some(reason), _) => Some(stopped(reason)),
                (None, false) => Some(Error::new(ErrorKind::Cancelled)),
                (None, true) => None,
            };
        }
        if cell.head.charged {
            cell.head.charged = false;
            self.inner.uncharge(OpKind::Read, cell.head.charge);
        }
        if cell.head.error.is_some() {
            self.finish_user(cell);
        } else {
            cell.head.at = USER;
            let step = Step::Enter(self.plan.kind(OpKind::Read).top());
            self.inner.park(&self.plan, cell, State::Admission(step));
            self.inner.release_gates(&self.plan, id);
            let queue = &mut self.inner.q.make().waiting[0];
            let at = queue.iter().rposition(|i| !later(i.generation, id.generation)).map_or(0, |i| i + 1);
            queue.insert(at, id);
        }
        // Only now: those that were asked for later stand behind it.
        let rare = self.inner.rare();
        rare.recalling = rare.recalling.saturating_sub(1);
        self.inner.admit_waiting(0);
    }

    /// Whether a wait for readiness need not wait, for bytes were put back.
    pub(crate) fn has_leftover(&self) -> bool {
        self.inner.rare.as_ref().is_some_and(|r| !r.leftover.is_empty())
    }

    /// Gives a new reader what came for one who had gone. Whether that is enough.
    pub(crate) fn take_leftover<K: Kind>(&mut self, cell: &mut Cell<K>) -> bool {
        let borders = self.plan.unit.has_borders();
        let Some(rare) = &mut self.inner.rare else { return false };
        let Some(body) = K::read_body(&mut cell.body) else { return false };
        while let Some(Leftover { place, mut chunk, attrs }) = rare.leftover.pop_front() {
            let len = chunk.len();
            body.put_chunk(&mut chunk);
            if cell.head.tag == 0 {
                cell.head.tag = place;
            }
            cell.head.attrs = attrs.clone();
            if !chunk.is_empty() {
                rare.leftover.push_front(Leftover { place: place + (len - chunk.len()) as u64, chunk, attrs });
                if borders {
                    cell.head.error = Some(Error::new(ErrorKind::Truncated { len }));
                }
                return true;
            }
            if borders || body.room() == 0 || body.wanted() == 0 {
                return true;
            }
        }
        false
    }

    /// Gives an accept the link that came for one who had gone.
    pub(crate) fn take_link<K: Kind>(&mut self, cell: &mut Cell<K>) -> bool {
        let Some(body) = K::accept_body(&mut cell.body) else { return false };
        let Some(Accepted { links, local, peer }) = self.inner.rare.as_mut().and_then(|r| r.links.pop_front()) else {
            return false;
        };
        *body = crate::body::AcceptBody { links, local, peer };
        true
    }
}

impl Inner {
    /// The place of bytes that come up now.
    fn next_place(&mut self) -> u64 {
        self.came = self.came.wrapping_add(1).max(1);
        u64::from(self.came) << 32
    }

    /// A read is up whose owner fetches it later, or never.
    #[inline]
    pub(crate) fn note_place<K: Kind>(&mut self, cell: &mut Cell<K>) {
        if K::KIND == OpKind::Read && cell.head.tag == 0 {
            cell.head.tag = self.next_place();
        }
    }
}

/// Links that came for accepts that had gone.
pub(crate) type Links = VecDeque<Accepted>;
