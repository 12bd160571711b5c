//! One direction of a connection: a ring of bytes with one writer and one reader, who trust each other with
//! nothing. Invariant: each end goes by its own positions; a shared word is read once, checked against them,
//! and never believed beyond that. What is written becomes visible with one store, so an end that dies at any
//! step leaves the ring as it was before that step's message or after it.
//!
//! The memory is behind [`Memory`]: two processes share a mapping ([`super::map`]), models and tests a twin.

use std::fmt;
use std::sync::Arc;

use xio_core::planted;

use super::kept::{self, Kept, Run};
use super::lent::{Bell, Spot};
use super::memory::{Memory, Note, Place};

/// Where both positions start: a multiple of every size, and far from zero, so that wiped words are no
/// valid positions.
pub(super) const START: u64 = 1 << 32;
/// Bytes before each message, and what messages are padded to.
pub(super) const HEADER: usize = 8;
/// What a header's second half is made from; with it no header is all zeroes.
const MARK: u32 = 0x584d_5347;

/// How an end is: still there.
pub(super) const OPEN: u32 = 0;
/// It ended in order.
pub(super) const ENDED: u32 = 1;
/// It ended the connection.
pub(super) const RESET: u32 = 2;

/// A sleeper waits on the word itself.
pub(super) const FUTEX: u32 = 1;
/// A sleeper waits for a byte on the socket.
pub(super) const BELL: u32 = 2;

/// The peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foul(pub(super) &'static str);

impl fmt::Display for Foul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An end of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Reader,
    Writer,
}

impl Side {
    /// The note of its sleep.
    pub(super) const fn sleeps(self) -> Note {
        match self {
            Self::Reader => Note::ReaderSleeps,
            Self::Writer => Note::WriterSleeps,
        }
    }
}

/// Whether nothing came for this end since it saw `seen`, the other's position.
pub(super) fn is_idle(m: &impl Memory, side: Side, seen: u64) -> bool {
    match side {
        Side::Reader => m.load(Place::Head) == seen && m.note(Note::WriterEnd) == OPEN,
        Side::Writer => m.load(Place::Tail) == seen && m.note(Note::ReaderEnd) == OPEN,
    }
}

/// Says that this end is about to sleep. Whether it may: nothing came since it saw `seen`, and for whatever
/// comes from here on it is woken.
pub(super) fn may_sleep(m: &impl Memory, side: Side, seen: u64, how: u32) -> bool {
    m.raise(side.sleeps(), how);
    m.fence();
    is_idle(m, side, seen)
}

/// Sets up a ring that nobody has seen yet.
pub(super) fn prepare(m: &impl Memory) {
    m.store(Place::Head, START);
    m.store(Place::Tail, START);
}

/// Bytes a message takes in the ring.
pub(super) const fn footprint(len: usize) -> usize {
    len.next_multiple_of(HEADER).saturating_add(HEADER)
}

fn mark(len: u32, at: u64) -> u32 {
    // The low half of the position is enough: it says that the header is not one of an earlier round.
    MARK ^ len ^ (at as u32)
}

/// Takes the sleeper's bits off, if there is one, after something was done for it.
pub(super) fn wake(m: &impl Memory, side: Side) -> u32 {
    m.fence();
    if m.note(side.sleeps()) == 0 { 0 } else { m.take(side.sleeps()) & (FUTEX | BELL) }
}

/// The end that writes.
pub(super) struct Writer<M> {
    memory: M,
    /// How far the reader may read.
    head: u64,
    /// How far bytes are put in.
    next: u64,
    /// How far the reader was when last looked at.
    tail: u64,
    /// Room that somebody fills, or has let go of.
    lent: Option<Arc<Spot<M>>>,
}

impl<M: Memory + Clone> Writer<M> {
    /// Room for `room` bytes behind `before` others, to be filled in place. Only one at a time.
    pub(super) fn lend(&mut self, before: usize, room: usize, bell: Bell) -> Result<Option<Arc<Spot<M>>>, Foul> {
        // Whoever let go of it wants nothing of it any more.
        self.lent.take_if(|s| Arc::strong_count(s) == 1);
        let need = before.saturating_add(room);
        if room == 0 || self.lent.is_some() || self.room(need)? < need {
            return Ok(None);
        }
        self.lent = Spot::new(self.memory.clone(), self.next.wrapping_add(before as u64), room, bell);
        Ok(self.lent.clone())
    }
}

impl<M: Memory> Writer<M> {
    pub(super) fn new(memory: M) -> Self {
        Self { memory, head: START, next: START, tail: START, lent: None }
    }

    pub(super) fn memory(&self) -> &M {
        &self.memory
    }

    /// The reader's position as last seen.
    pub(super) fn seen(&self) -> u64 {
        self.tail
    }

    /// Bytes that are not read yet, as far as is known.
    pub(super) fn unread(&self) -> u64 {
        self.head.wrapping_sub(self.tail)
    }

    fn free(&self) -> usize {
        let used = self.next.wrapping_sub(self.tail);
        // Never more than the size, so it fits.
        self.memory.size() - used as usize
    }

    /// Bytes that can be put in; looks at the reader's position only where fewer than `least` are known.
    pub(super) fn room(&mut self, least: usize) -> Result<usize, Foul> {
        if self.free() < least {
            let tail = self.memory.load(Place::Tail);
            if tail.wrapping_sub(self.tail) > self.head.wrapping_sub(self.tail) {
                return Err(Foul("the reader's position is where nothing was written"));
            }
            self.tail = tail;
        }
        Ok(self.free())
    }

    /// Puts bytes in, as many as fit what [`room`](Self::room) said last; says how many. Nobody sees them
    /// before [`publish`](Self::publish).
    pub(super) fn put(&mut self, from: &[u8]) -> usize {
        let n = from.len().min(self.free());
        let at = self.next as usize & (self.memory.size() - 1);
        let first = n.min(self.memory.size() - at);
        self.memory.write(at, &from[..first]);
        if first < n {
            self.memory.write(0, &from[first..n]);
        }
        self.next = self.next.wrapping_add(n as u64);
        n
    }

    /// Whether a write of such pieces may begin, each so long and perhaps a loan: what is lent has moved, unless it
    /// lies where it goes, behind `before` other bytes. `false`: it is being filled, and its bell is going to ring.
    #[inline]
    pub(super) fn make_way<'a>(
        &mut self,
        pieces: impl Iterator<Item = (usize, Option<&'a Spot<M>>)>,
        before: usize,
    ) -> bool
    where
        M: 'a,
    {
        self.lent.is_none() || self.moves_or_stays(pieces, before)
    }

    #[cold]
    fn moves_or_stays<'a>(&mut self, pieces: impl Iterator<Item = (usize, Option<&'a Spot<M>>)>, before: usize) -> bool
    where
        M: 'a,
    {
        let Some(spot) = &self.lent else { return true };
        let mut at = self.next.wrapping_add(before as u64);
        for (len, lent) in pieces {
            if lent.is_some_and(|s| std::ptr::eq(s, &**spot)) && spot.start() == at {
                return true;
            }
            at = at.wrapping_add(len as u64);
        }
        // A user who has let go of it wants nothing of it any more.
        let is_gone = Arc::strong_count(spot) == 1 || spot.give_way();
        self.lent.take_if(|_| is_gone);
        is_gone
    }

    /// Puts what was filled in place in, if its `len` bytes lie where the next ones go.
    pub(super) fn put_lent(&mut self, spot: &Spot<M>, len: usize) -> bool {
        if !self.lent.as_ref().is_some_and(|s| std::ptr::eq(&**s, spot)) {
            return false;
        }
        let goes = len <= self.free() && spot.go(self.next, len);
        if goes {
            self.next = self.next.wrapping_add(len as u64);
        }
        // What is copied in instead is put over it.
        self.lent.take_if(|s| goes || s.give_way());
        goes
    }

    /// Puts a whole message in. There must be room for its [`footprint`].
    pub(super) fn put_message<'a>(&mut self, len: u32, pieces: impl Iterator<Item = &'a [u8]>) {
        let at = self.begin_message(len);
        for p in pieces {
            self.put(p);
        }
        self.end_message(at, len);
    }

    /// Puts a message's header in; its bytes follow, then [`end_message`](Self::end_message) with what this gave.
    pub(super) fn begin_message(&mut self, len: u32) -> u64 {
        let at = self.next;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&len.to_le_bytes());
        header[4..].copy_from_slice(&mark(len, at).to_le_bytes());
        self.put(&header);
        at
    }

    /// Leaves the padding of the message that began there.
    pub(super) fn end_message(&mut self, at: u64, len: u32) {
        self.next = at.wrapping_add(footprint(len as usize) as u64);
    }

    /// Shows the reader what was put in. How it sleeps, if it does: it has to be woken.
    #[must_use]
    pub(super) fn publish(&mut self) -> u32 {
        self.head = self.next;
        self.memory.store(Place::Head, self.head);
        wake(&self.memory, Side::Reader)
    }

    /// Writes no more. How the reader sleeps.
    #[must_use]
    pub(super) fn end(&self, how: u32) -> u32 {
        self.memory.set(Note::WriterEnd, how);
        wake(&self.memory, Side::Reader)
    }

    /// How the reader is.
    pub(super) fn peer(&self) -> u32 {
        self.memory.note(Note::ReaderEnd)
    }
}

/// The end that reads.
pub(super) struct Reader<M> {
    memory: M,
    /// How far the writer may write over.
    tail: u64,
    /// How far bytes were taken out.
    at: u64,
    /// How far the writer was when last looked at.
    head: u64,
    /// Bytes left of the message begun.
    open: Option<usize>,
    /// What is handed up without a copy, once there was any; how much of it the writer may have to wait for.
    kept: Option<Arc<Kept<M>>>,
    most: usize,
}

impl<M: Memory> Reader<M> {
    pub(super) fn new(memory: M) -> Self {
        Self { memory, tail: START, at: START, head: START, open: None, kept: None, most: 0 }
    }

    pub(super) fn memory(&self) -> &M {
        &self.memory
    }

    /// The writer's position as last seen.
    pub(super) fn seen(&self) -> u64 {
        self.head
    }

    fn there(&self) -> usize {
        // Never more than the size, so it fits.
        self.head.wrapping_sub(self.at) as usize
    }

    /// Bytes that can be taken out; looks at the writer's position only where fewer than `least` are known.
    pub(super) fn ready(&mut self, least: usize) -> Result<usize, Foul> {
        if self.there() < least {
            let head = self.memory.load(Place::Head);
            if let Some(kept) = &self.kept {
                // After the load: the writer goes no further than it was given room for by then.
                self.tail = kept.tail();
            }
            let (came, known) = (head.wrapping_sub(self.tail), self.head.wrapping_sub(self.tail));
            let beyond = came > self.memory.size() as u64;
            if came < known || beyond && !planted("a peer says that more is written than fits") {
                return Err(Foul("the writer's position is out of reach"));
            }
            self.head = head;
        }
        Ok(self.there())
    }

    /// Begins the next message, or goes on with the one begun: bytes that are left of it. `None` where
    /// nothing came.
    pub(super) fn message(&mut self) -> Result<Option<usize>, Foul> {
        if self.open.is_some() {
            return Ok(self.open);
        }
        match self.ready(HEADER)? {
            0 => return Ok(None),
            n if n < HEADER => return Err(Foul("half a header")),
            _ => {}
        }
        let mut header = [0; HEADER];
        self.look(&mut header);
        let [a, b, c, d, e, f, g, h] = header;
        let (len, got) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if got != mark(len, self.at) {
            return Err(Foul("this is no header of a message"));
        }
        let len = len as usize;
        // Known bytes are enough: the writer shows a message as a whole.
        if footprint(len) > self.there() {
            return Err(Foul("a message longer than what was written"));
        }
        self.at = self.at.wrapping_add(HEADER as u64);
        self.open = Some(len);
        Ok(self.open)
    }

    /// Copies out without taking; the bytes must be known to be there.
    fn look(&self, to: &mut [u8]) {
        let at = self.at as usize & (self.memory.size() - 1);
        let first = to.len().min(self.memory.size() - at);
        let (head, rest) = to.split_at_mut(first);
        self.memory.read(at, head);
        if !rest.is_empty() {
            self.memory.read(0, rest);
        }
    }

    /// Where the next `n` bytes lie in the memory: an offset and a length, for the part before the ring's end.
    /// No more than are known to be there.
    pub(super) fn run(&self, n: usize) -> (usize, usize) {
        let at = self.at as usize & (self.memory.size() - 1);
        (at, n.min(self.left()).min(self.memory.size() - at))
    }

    /// Takes bytes out, no more than are known to be there; says how many.
    pub(super) fn copy(&mut self, to: &mut [u8]) -> usize {
        let n = to.len().min(self.left());
        self.look(&mut to[..n]);
        self.skip(n);
        n
    }

    /// Bytes that can be taken out now: of the message begun, or all that are known.
    fn left(&self) -> usize {
        self.open.unwrap_or_else(|| self.there())
    }

    /// Passes over bytes that are known to be there. The end of a message takes its padding along.
    pub(super) fn skip(&mut self, n: usize) {
        let n = n.min(self.left());
        self.at = self.at.wrapping_add(n as u64);
        if let Some(left) = &mut self.open {
            *left -= n;
            if *left == 0 {
                self.open = None;
                // Messages begin at multiples of a header.
                self.at = self.at.next_multiple_of(HEADER as u64);
            }
        }
    }

    /// Lets the writer have the room of what was taken out. How it sleeps, if it does and half the ring is
    /// free: a writer that is woken for every byte gets nothing done.
    #[must_use]
    pub(super) fn release(&mut self) -> u32 {
        self.release_but(self.most)
    }

    /// The same for a reader that is to wait: where that may be for a message as long as the ring, nothing is kept.
    #[must_use]
    pub(super) fn release_all(&mut self) -> u32 {
        self.release_but(0)
    }

    fn release_but(&mut self, most: usize) -> u32 {
        if let Some(kept) = &self.kept {
            let flags;
            (self.tail, flags) = kept.release(self.at, self.head, most);
            return flags;
        }
        if self.tail == self.at {
            return 0;
        }
        self.tail = self.at;
        self.memory.store(Place::Tail, self.tail);
        if self.there() > self.memory.size() / 2 { 0 } else { wake(&self.memory, Side::Writer) }
    }

    /// Whether bytes were handed up without a copy: whoever holds some does it with this.
    pub(super) fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Takes out the next `n` bytes, as [`run`](Self::run) gave them, but leaves them in the ring until whoever has
    /// them lets go, or until the writer has to do without more than `most` bytes; `fixed` ones until they are let
    /// go. `bell` hears how the writer sleeps if that gives it room; the first one that is given.
    pub(super) fn keep(&mut self, n: usize, most: usize, fixed: bool, bell: impl FnOnce() -> kept::Bell) -> Run<M>
    where
        M: Clone,
    {
        self.most = most;
        let kept = self.kept.get_or_insert_with(|| Kept::new(self.memory.clone(), self.tail, bell()));
        let run = kept.hold(self.at, n, fixed);
        self.skip(n);
        run
    }

    /// Reads no more. How the writer sleeps.
    #[must_use]
    pub(super) fn leave(&self, how: u32) -> u32 {
        self.memory.set(Note::ReaderEnd, how);
        wake(&self.memory, Side::Writer)
    }

    /// How the writer is. Asked before [`ready`](Self::ready), it tells whether what is there is all.
    pub(super) fn peer(&self) -> u32 {
        self.memory.note(Note::WriterEnd)
    }
}
