//! What ops carry, kind by kind. Invariant of a read: `got` bytes of this level's turn are in the
//! target and never more than `room` fit. Invariant of a write: `moved <= total`, and the pieces a
//! level added or put in place are taken off again when the op leaves that level.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use smallvec::SmallVec;

use crate::buffer::{Chunk, LentMut, LentSlice, Piece, Pieces, Room, Target, total};
use crate::contact::{Contact, Unread};
use crate::cx::Cx;
use crate::datagram::{Envelope, Outgoing};
use crate::driver::LinkPart;
use crate::engine::pump::Transfer;
use crate::engine::walk::Settled;
use crate::error::ErrorKind;
use crate::handle::CloseMode;
use crate::io::{Direction, Io, Sock};
use crate::plan::USER;

/// The chunks of a take read.
pub type Chunks = SmallVec<[Chunk; 1]>;

/// How long a transfer may wait inside its calls, where nobody can ring its caller: as long as the peer
/// keeps moving, but for all its calls together no longer than for one.
struct Patience {
    has: bool,
    until: Option<Instant>,
}

impl Patience {
    fn new(has: bool) -> Self {
        Self { has, until: None }
    }

    /// Something moved, and it was not all.
    fn wears(&mut self) {
        if self.has {
            let now = Instant::now();
            self.has = now < *self.until.get_or_insert(now + Self::MOST);
        }
    }

    const MOST: Duration = Duration::from_millis(4);
    const MOST_BYTES: usize = 1 << 20;
}

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

/// What a write carries: its pieces, and how many of their bytes are through.
pub struct WriteBody {
    pub(crate) pieces: Pieces,
    /// Bytes of all pieces.
    pub(crate) total: usize,
    /// Bytes that the level below has taken.
    pub(crate) moved: usize,
    /// `moved` when the level was last asked.
    pub(crate) mark: usize,
    /// The pieces at the front that levels have added, the topmost level's first.
    leads: Leads,
    /// Ends of the messages in a batch, in bytes of `pieces` from the front; empty: one message.
    pub(crate) ends: Vec<usize>,
    /// Datagrams of these pieces that have gone: an empty one moves no byte.
    sent: usize,
    saved: Vec<SavedWrite>,
    touched: bool,
}

/// Levels that added a piece at the front, and its bytes.
type Leads = SmallVec<[(u8, usize); 1]>;

struct SavedWrite {
    node: u8,
    pieces: Pieces,
    total: usize,
    moved: usize,
    leads: Leads,
    ends: Vec<usize>,
}

impl WriteBody {
    pub(crate) const fn empty() -> Self {
        Self {
            pieces: SmallVec::new_const(),
            total: 0,
            moved: 0,
            mark: usize::MAX,
            leads: SmallVec::new_const(),
            ends: Vec::new(),
            sent: 0,
            saved: Vec::new(),
            touched: false,
        }
    }

    pub(crate) fn ask(&mut self, pieces: Pieces) {
        self.total = total(&pieces);
        self.pieces = pieces;
        self.moved = 0;
        self.mark = usize::MAX;
        self.leads.clear();
        self.ends.clear();
        self.sent = 0;
        self.touched = false;
    }

    pub(crate) fn ask_lent(&mut self, lent: LentSlice) {
        self.total = lent.len();
        self.pieces.clear();
        self.pieces.push(Piece::lent(lent));
        self.moved = 0;
        self.mark = usize::MAX;
        self.leads.clear();
        self.ends.clear();
        self.sent = 0;
        self.touched = false;
    }

    /// Drops the pieces, also those that levels had put in place where an op ended in the middle.
    #[inline]
    pub(crate) fn clean(&mut self) {
        self.pieces.clear();
        self.saved.clear();
        self.touched = false;
    }

    /// Drops the pieces; says how many of the owner's bytes went.
    pub(crate) fn finish_lent(&mut self) -> usize {
        if self.moved < self.total {
            self.come_up(USER);
        } else if let Some(first) = self.saved.first() {
            // All went, so the owner's went; there is nothing to look up piece by piece.
            self.moved = first.total - first.leads.iter().map(|l| l.1).sum::<usize>();
        } else {
            self.moved -= self.leads.iter().map(|l| l.1).sum::<usize>();
        }
        self.saved.clear();
        self.leads.clear();
        self.pieces.clear();
        self.moved
    }

    /// The pieces, all that are to be written; the first [`moved`](Self::moved) bytes are through.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Bytes to write in all.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Bytes that are through.
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// The ends of the messages in this write, in bytes from the front. Only a level that declares
    /// it understands batches ever sees more than one message.
    pub fn messages(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let one = [self.total];
        let n = self.ends.len().max(1);
        (0..n).scan(0, move |from, i| {
            let end = self.ends.get(i).copied().unwrap_or(one[0]);
            let range = *from..end;
            *from = end;
            Some(range)
        })
    }

    /// How many messages this write carries.
    pub fn message_count(&self) -> usize {
        self.ends.len().max(1)
    }

    /// A second owner of every piece; see [`Piece::share`].
    pub fn share(&mut self) -> Pieces {
        self.pieces.iter_mut().map(Piece::share).collect()
    }

    /// The owned, changeable buffer, where the write was given one as its only piece.
    pub fn owned_mut(&mut self) -> Option<&mut BytesMut> {
        match &mut self.pieces[..] {
            [one] => one.owned_mut(),
            _ => None,
        }
    }

    /// Counts everything as through.
    #[inline]
    pub fn take_all(&mut self) {
        self.moved = self.total;
        self.touched = true;
    }

    pub(crate) fn take_part(&mut self, bytes: usize) {
        self.moved = self.total.min(self.moved.saturating_add(bytes));
        self.touched = true;
    }

    /// Sends until all is gone or nothing more fits.
    #[inline]
    pub(crate) fn transfer(&mut self, io: &Io, patient: bool) -> Transfer {
        let sock = match io {
            Io::Send(sock) => sock,
            Io::SendDatagrams(sock, envelope) => return self.send_datagrams(sock, envelope.as_deref(), patient),
            _ => return Transfer::Failed(ErrorKind::Contract.into()),
        };
        // One call sends as long as the peer takes, however much there is.
        let mut patience = Patience::new(patient && self.total - self.moved <= Patience::MOST_BYTES);
        while self.moved < self.total {
            let sent = match patience.has {
                true => sock.0.send_patiently(&self.pieces, self.moved),
                false => sock.0.send(&self.pieces, self.moved),
            };
            match sent {
                Ok(0) => return Transfer::Failed(ErrorKind::NoProgress.into()),
                Ok(n) => {
                    self.take_part(n);
                    if self.moved < self.total {
                        patience.wears();
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    return Transfer::Block(sock.clone(), Direction::Write);
                }
                // Each call that a signal ends would have a new moment to wait.
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => patience.has = false,
                Err(e) => return Transfer::Failed(e.into()),
            }
        }
        Transfer::Done
    }

    /// Sends each message as a datagram, from the first that has not gone.
    fn send_datagrams(&mut self, sock: &Sock, envelope: Option<&Envelope>, patient: bool) -> Transfer {
        let mut patience = Patience::new(patient);
        loop {
            let what = Outgoing::new(&self.pieces, self.total, &self.ends, envelope, self.sent);
            match sock.0.send_datagrams(&what, patience.has) {
                Ok(0) => return Transfer::Failed(ErrorKind::NoProgress.into()),
                Ok(n) => {
                    let n = n.min(what.left());
                    let (end, is_last) = (what.end_of(n), n == what.left());
                    self.sent += n;
                    self.moved = self.total.min(end);
                    self.touched = true;
                    if is_last {
                        self.moved = self.total;
                        return Transfer::Done;
                    }
                    patience.wears();
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    return Transfer::Block(sock.clone(), Direction::Write);
                }
                // Each call that a signal ends would have a new moment to wait.
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => patience.has = false,
                Err(e) => return Transfer::Failed(e.into()),
            }
        }
    }

    /// Whether a write that a level finished itself has gone.
    #[inline]
    pub(crate) fn settle(&mut self, _borders: bool) -> Settled {
        if self.moved == self.total {
            return Settled::Enough;
        }
        if self.moved == self.mark || (self.mark == usize::MAX && self.moved == 0) {
            return Settled::Stuck(ErrorKind::NoProgress);
        }
        self.mark = self.moved;
        Settled::More
    }

    #[inline]
    pub(crate) fn lead(&mut self, node: u8, lead: Piece) {
        self.total += lead.len();
        self.leads.push((node, lead.len()));
        self.pieces.insert(0, lead);
    }

    pub(crate) fn replace(&mut self, node: u8, pieces: Pieces) {
        let new_total = total(&pieces);
        let saved = SavedWrite {
            node,
            pieces: std::mem::replace(&mut self.pieces, pieces),
            total: std::mem::replace(&mut self.total, new_total),
            moved: std::mem::take(&mut self.moved),
            leads: std::mem::take(&mut self.leads),
            ends: std::mem::take(&mut self.ends),
        };
        self.mark = usize::MAX;
        self.sent = 0;
        self.touched = true;
        self.saved.push(saved);
    }

    #[inline]
    pub(crate) fn leave(&mut self, node: u8) -> bool {
        self.touched && self.leave_touched(node)
    }

    fn leave_touched(&mut self, node: u8) -> bool {
        self.take_off(node);
        self.touched = !self.saved.is_empty();
        true
    }

    /// Whether what goes down is not what the owner wrote: if it stops half way, nothing can follow it.
    pub(crate) fn is_dressed(&self) -> bool {
        !self.saved.is_empty() || !self.leads.is_empty()
    }

    /// The op comes up to the level at `node`, which sees its own pieces and those of the levels above.
    #[inline]
    pub(crate) fn come_up(&mut self, node: u8) {
        if self.is_dressed() {
            self.take_off(node.saturating_add(1));
        }
    }

    /// Takes off what the levels from `node` down added or put in place.
    fn take_off(&mut self, node: u8) {
        loop {
            while self.leads.last().is_some_and(|l| l.0 >= node) {
                let Some((_, len)) = self.leads.pop() else { break };
                self.total -= len;
                self.moved = self.moved.saturating_sub(len);
                self.pieces.remove(0);
            }
            if self.saved.last().is_none_or(|s| s.node < node) {
                return;
            }
            let Some(s) = self.saved.pop() else { return };
            // Of what has another length nobody knows what a part of it stands for.
            self.moved = match self.moved {
                all if all == self.total => s.total,
                part if self.total == s.total && s.moved == 0 => part,
                _ => s.moved,
            };
            self.pieces = s.pieces;
            self.total = s.total;
            self.leads = s.leads;
            self.ends = s.ends;
        }
    }

    /// Gives the owner's pieces back, without what levels added, and how many of their bytes went.
    pub(crate) fn give_back(&mut self) -> (Pieces, usize) {
        self.come_up(USER);
        (std::mem::take(&mut self.pieces), self.moved)
    }
}

/// What an open carries.
#[derive(Default)]
pub struct OpenBody {
    pub(crate) contact: Unread,
    pub(crate) links: Vec<(u8, LinkPart)>,
}

impl OpenBody {
    /// Where to, as given to this branch.
    pub fn contact(&self) -> &Contact {
        self.contact.read()
    }

    /// Changes where to, for the levels below.
    pub fn set_contact(&mut self, contact: Contact) {
        self.contact = contact.into();
    }

    /// What this level knew of the accepted link, if the open is over one (a passive open).
    pub fn link(&mut self, cx: &Cx<'_>) -> Option<LinkPart> {
        let i = self.links.iter().position(|(n, _)| *n == cx.node)?;
        Some(self.links.swap_remove(i).1)
    }

    /// Whether the open is over an accepted link.
    pub fn is_passive(&self) -> bool {
        !self.links.is_empty()
    }
}

/// What a close carries.
#[derive(Default)]
pub struct CloseBody {
    pub(crate) mode: CloseMode,
    /// It did not end in its time and became an abort.
    pub(crate) late: bool,
}

impl CloseBody {
    /// How to close.
    pub fn mode(&self) -> CloseMode {
        self.mode
    }
}

/// An op that carries nothing.
#[derive(Default)]
pub struct PlainBody {
    _none: (),
}

/// What a wait for readiness carries.
pub struct ReadyBody {
    pub(crate) direction: Direction,
}

impl ReadyBody {
    /// Which transfer is waited for.
    pub fn direction(&self) -> Direction {
        self.direction
    }
}

impl Default for ReadyBody {
    fn default() -> Self {
        Self { direction: Direction::Read }
    }
}

/// What an accept carries: what each level knows of the new link.
#[derive(Default)]
pub struct AcceptBody {
    pub(crate) links: Vec<(u8, LinkPart)>,
    pub(crate) local: Unread,
    pub(crate) peer: Unread,
}

impl AcceptBody {
    /// Leaves what this level knows of the link for the level that opens it.
    pub fn set_link(&mut self, cx: &Cx<'_>, part: LinkPart) {
        self.links.push((cx.node, part));
    }

    /// Says who the two ends are. Called by the transport; a level above may refine it.
    pub fn set_contacts(&mut self, local: Contact, peer: Contact) {
        self.local = local.into();
        self.peer = peer.into();
    }

    /// The same with addresses, whose texts are written when somebody asks for them.
    pub fn set_addresses(&mut self, local: Option<SocketAddr>, peer: Option<SocketAddr>) {
        self.local = local.into();
        self.peer = peer.into();
    }
}

/// What the start of a server carries.
#[derive(Default)]
pub struct ListenBody {
    pub(crate) contact: Contact,
}

impl ListenBody {
    /// Going down: where to listen. Coming up: where a client connects to.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Changes it.
    pub fn set_contact(&mut self, contact: Contact) {
        self.contact = contact;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_and_a_replacement_come_off_again() {
        let mut w = WriteBody::empty();
        w.ask(SmallVec::from_iter([Piece::inline(b"hello")]));
        w.lead(1, Piece::inline(b"hdr"));
        w.replace(2, SmallVec::from_iter([Piece::inline(b"x")]));
        assert_eq!((w.len(), w.moved()), (1, 0));
        w.take_all();
        w.come_up(2);
        assert_eq!((w.len(), w.moved()), (1, 1));
        assert!(w.leave(2));
        assert_eq!((w.len(), w.moved()), (8, 8));
        w.come_up(1);
        assert_eq!((w.len(), w.moved()), (8, 8));
        let (pieces, n) = w.give_back();
        assert_eq!((&*pieces[0], n), (&b"hello"[..], 5));
    }

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

    #[test]
    fn a_batch_knows_its_messages() {
        let mut w = WriteBody::empty();
        w.ask(SmallVec::from_iter([Piece::inline(b"aabbb")]));
        assert!(w.messages().eq(std::iter::once(0..5)));
        w.ends = vec![2, 2, 5];
        assert_eq!(w.messages().collect::<Vec<_>>(), [0..2, 2..2, 2..5]);
    }
}
