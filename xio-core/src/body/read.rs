//! What a read carries. Invariant: `got` bytes of this level's turn are in the target, and never more than
//! `room` fit.

use bytes::BytesMut;

use super::{Chunks, Patience};
use crate::buffer::{Chunk, LentMut, Room, Target};
use crate::engine::pump::Transfer;
use crate::engine::walk::Settled;
use crate::error::ErrorKind;
use crate::io::{Direction, Io};
use crate::plan::USER;

/// What a read carries: where its bytes go, how many it wants, how many it has.
pub struct ReadBody {
    pub(crate) target: Target,
    /// Bytes put in since the owner of `target` asked.
    pub(crate) got: usize,
    /// Bytes that still fit.
    pub(crate) room: usize,
    /// Least bytes before the read is done.
    pub(crate) wait_for: usize,
    /// `got` when the level was last asked; no change means no progress.
    pub(crate) mark: usize,
    saved: Vec<SavedRead>,
    /// A level has moved bytes itself or put something in place: look closer when it lets go.
    touched: bool,
    /// The level whose work has the read.
    pub(crate) worker: u8,
}

/// The read as the level above wants it, while a level below it works for the level between.
struct SavedRead {
    node: u8,
    /// `None`: the target stayed, with less room.
    target: Option<Target>,
    got: usize,
    room: usize,
    wait_for: usize,
}

/// What a level's own buffer came to: the bytes that the level below gave.
pub struct Below {
    /// The buffer given to `pass_into`; empty after `pass_take`.
    pub buf: BytesMut,
    /// The chunks of a `pass_take`.
    pub chunks: Chunks,
    /// How many bytes came.
    pub got: usize,
}

impl ReadBody {
    pub(crate) const fn empty() -> Self {
        Self {
            target: Target::none(),
            got: 0,
            room: 0,
            wait_for: 1,
            mark: 0,
            saved: Vec::new(),
            touched: false,
            worker: USER,
        }
    }

    pub(crate) fn ask(&mut self, target: Target, room: usize, wait_for: usize) {
        self.room = room.min(target.room());
        self.target = target;
        self.got = 0;
        self.mark = 0;
        self.wait_for = wait_for;
        self.touched = false;
    }

    pub(crate) fn ask_lent(&mut self, lent: LentMut, wait_for: usize) {
        self.room = lent.len();
        self.target = Target::Lent(lent, 0);
        self.got = 0;
        self.mark = 0;
        self.wait_for = wait_for;
        self.touched = false;
    }

    /// Forgets what levels had put in place, for an op that ended in the middle.
    #[inline]
    pub(crate) fn clean(&mut self) {
        self.saved.clear();
        self.touched = false;
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Least bytes that still have to come before the read is done.
    pub fn wanted(&self) -> usize {
        self.wait_for.saturating_sub(self.got)
    }

    /// Bytes put in so far.
    pub fn got(&self) -> usize {
        self.got
    }

    /// Whether no level above has put something in place, to get it in parts.
    pub(crate) fn is_whole(&self) -> bool {
        self.saved.is_empty()
    }

    /// Whether the reader has bytes already: from this turn, or from one before where a level above asks for
    /// them in parts.
    pub fn has_begun(&self) -> bool {
        let parts = self.saved.iter().rev().take_while(|s| s.target.is_none());
        self.got > 0 || parts.into_iter().any(|s| s.got > 0)
    }

    /// Whether the reader takes chunks; else it has a buffer to fill.
    pub fn is_take(&self) -> bool {
        matches!(self.target, Target::Take(_))
    }

    /// Copies in what fits; says how much.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let n = self.target.put(self.room, bytes);
        self.moved(n);
        n
    }

    /// Moves in what fits, without a copy where the reader takes; the rest stays in `chunk`. Says
    /// how much moved.
    #[inline]
    pub fn put_chunk(&mut self, chunk: &mut Chunk) -> usize {
        let n = self.target.put_chunk(self.room, chunk);
        self.moved(n);
        n
    }

    /// What [`Op::below`](crate::Op::below) gives, for the level whose work this is.
    pub fn below(&mut self) -> Below {
        self.below_of(self.worker)
    }

    /// Gives back what the level at `node` had put in place, with what came.
    pub(crate) fn below_of(&mut self, node: u8) -> Below {
        let mut out = Below { buf: BytesMut::new(), chunks: Chunks::new(), got: self.got };
        let mine = self.saved.pop_if(|s| s.node == node);
        let Some(saved) = mine else {
            out.got = 0;
            return out;
        };
        match self.restore(saved) {
            Some(Target::Fill(buf)) => out.buf = buf,
            Some(Target::Take(chunks)) => out.chunks = chunks,
            Some(Target::Lent(..)) | None => {}
        }
        out
    }

    /// What came into the target of a level's own read.
    pub(crate) fn brought(&mut self, own: bool) -> Below {
        let mut out = Below { buf: BytesMut::new(), chunks: Chunks::new(), got: 0 };
        if own {
            out.got = self.got;
            match std::mem::replace(&mut self.target, Target::none()) {
                Target::Fill(buf) => out.buf = buf,
                Target::Take(chunks) => out.chunks = chunks,
                Target::Lent(..) => {}
            }
        }
        out
    }

    /// Takes the last `n` bytes out of the target again. For a level that had the level below write
    /// straight into the owner's buffer and then had to give up.
    pub fn take_back(&mut self, n: usize) -> bytes::Bytes {
        let n = n.min(self.got);
        self.got -= n;
        self.room += n;
        self.target.take_back(n)
    }

    /// Receives until enough is there or nothing more comes.
    #[inline]
    pub(crate) fn transfer(&mut self, io: &Io, patient: bool) -> Transfer {
        let Io::Recv(sock) = io else { return Transfer::Failed(ErrorKind::Contract.into()) };
        // One that wants nothing only looks.
        let mut patience = Patience::new(patient && self.got < self.wait_for);
        loop {
            if self.room == 0 {
                return Transfer::Done;
            }
            let mut room = self.room_for_io();
            let received = match patience.has {
                true => sock.0.recv_patiently(&mut room),
                false => sock.0.recv(&mut room),
            };
            // What counts is what was put in, not what the socket says.
            let n = room.got();
            self.moved(n);
            match received {
                Ok(_) if n == 0 => return Transfer::Failed(ErrorKind::Eof.into()),
                Ok(_) => {
                    if self.got >= self.wait_for {
                        return Transfer::Done;
                    }
                    patience.wears();
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.wait_for == 0 {
                        return Transfer::Done;
                    }
                    return Transfer::Block(sock.clone(), Direction::Read);
                }
                // Each call that a signal ends would have a new moment to wait.
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => patience.has = false,
                Err(e) => return Transfer::Failed(e.into()),
            }
        }
    }

    /// Whether a read that a level finished itself has enough.
    #[inline]
    pub(crate) fn settle(&mut self, borders: bool) -> Settled {
        if borders || self.got >= self.wait_for || self.room == 0 {
            return Settled::Enough;
        }
        if self.got == self.mark {
            return Settled::Stuck(ErrorKind::NoProgress);
        }
        self.mark = self.got;
        Settled::More
    }

    pub(crate) fn room_for_io(&mut self) -> Room<'_> {
        Room::new(&mut self.target, self.room)
    }

    #[inline]
    pub(crate) fn moved(&mut self, n: usize) {
        self.got += n;
        self.room -= n;
        self.touched = true;
    }

    /// Notes that a level finished the read itself, though perhaps with nothing (a message may be
    /// empty).
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    pub(crate) fn put_below(&mut self, node: u8, target: Target, most: usize, wait_for: usize) {
        let room = most.min(target.room());
        let saved = SavedRead {
            node,
            target: Some(std::mem::replace(&mut self.target, target)),
            got: self.got,
            room: self.room,
            wait_for: self.wait_for,
        };
        self.save(saved);
        self.touched = true;
        self.room = room;
        self.got = 0;
        self.mark = 0;
        self.wait_for = wait_for;
    }

    pub(crate) fn limit_below(&mut self, node: u8, most: usize, wait_for: usize) {
        let saved = SavedRead { node, target: None, got: self.got, room: self.room, wait_for: self.wait_for };
        self.save(saved);
        self.touched = true;
        self.room = self.room.min(most);
        self.got = 0;
        self.mark = 0;
        self.wait_for = wait_for;
    }

    /// Most reads are taken over once; a list that grows by doubling would start with four.
    fn save(&mut self, saved: SavedRead) {
        if self.saved.capacity() == self.saved.len() {
            self.saved.reserve_exact(1);
        }
        self.saved.push(saved);
    }

    /// The level at `node` lets the op go: whatever it put in place and did not ask back is dropped.
    /// Says whether the level moved bytes itself.
    #[inline]
    pub(crate) fn leave(&mut self, node: u8) -> bool {
        self.touched && self.leave_touched(node)
    }

    /// The op comes up to the level at `node`, which sees its own target and those of the levels above.
    #[inline]
    pub(crate) fn come_up(&mut self, node: u8) {
        if !self.saved.is_empty() {
            self.take_off(node.saturating_add(1));
        }
    }

    /// Takes off what the levels from `node` down had put in place.
    fn take_off(&mut self, node: u8) {
        while let Some(saved) = self.saved.pop_if(|s| s.node >= node) {
            self.restore(saved);
        }
    }

    fn leave_touched(&mut self, node: u8) -> bool {
        self.take_off(node);
        // What a level above this one put in place is still to be looked at.
        self.touched = !self.saved.is_empty();
        true
    }

    fn restore(&mut self, saved: SavedRead) -> Option<Target> {
        let got = self.got;
        self.got = saved.got;
        self.room = saved.room;
        self.wait_for = saved.wait_for;
        // What comes from here on is progress.
        self.mark = saved.got;
        match saved.target {
            Some(target) => Some(std::mem::replace(&mut self.target, target)),
            None => {
                self.moved(got);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_buffer_stands_in_and_comes_back() {
        let mut r = ReadBody::empty();
        r.ask(Target::Fill(BytesMut::with_capacity(8)), 8, 1);
        r.put_below(3, Target::Fill(BytesMut::with_capacity(4)), usize::MAX, 4);
        assert_eq!((r.room(), r.wanted()), (4, 4));
        r.put(b"abcd");
        // What another level put in place is not this one's.
        assert_eq!((r.below_of(2).got, r.got()), (0, 4));
        let b = r.below_of(3);
        assert_eq!((&b.buf[..], b.got, r.got(), r.room()), (&b"abcd"[..], 4, 0, 8));
        r.limit_below(3, 2, 1);
        assert_eq!(r.put(b"xyz"), 2);
        assert_eq!((r.below_of(3).got, r.got(), r.room()), (2, 2, 6));
    }
}
