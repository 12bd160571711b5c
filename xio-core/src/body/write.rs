//! What a write carries. Invariant: `moved <= total`, and the pieces a level added or put in place are taken
//! off again when the op leaves that level.

use bytes::BytesMut;
use smallvec::SmallVec;

use super::Patience;
use crate::buffer::{LentSlice, Piece, Pieces, total};
use crate::datagram::{Envelope, Outgoing};
use crate::engine::pump::Transfer;
use crate::engine::walk::Settled;
use crate::error::ErrorKind;
use crate::io::{Direction, Io, Sock};
use crate::plan::USER;

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
    /// Messages or datagrams of these pieces that have gone: an empty one moves no byte.
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

    /// Those of [`messages`](Self::messages) that are not through yet, as a level counts them with
    /// [`take_messages`](Self::take_messages). The first of them is found at once, wherever it is.
    ///
    /// ```
    /// # use xio_core::{Flow, Op, op::Write};
    /// /// A level that has room for so many more.
    /// fn write<'o>(mut op: Op<'o, Write>, room: usize) -> Flow<'o> {
    ///     let fit = op.messages_left().take(room).count();
    ///     op.take_messages(fit);
    ///     let waits = op.messages_left().next().is_some();
    ///     if waits { op.await_room() } else { op.finished() }
    /// }
    /// # trait AwaitRoom<'o> { fn await_room(self) -> Flow<'o>; }
    /// # impl<'o> AwaitRoom<'o> for Op<'o, Write> { fn await_room(self) -> Flow<'o> { self.finished() } }
    /// ```
    #[inline]
    pub fn messages_left(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let end = |i: usize| self.ends.get(i).copied().unwrap_or(self.total);
        (self.sent..self.message_count()).map(move |i| i.checked_sub(1).map_or(0, end)..end(i))
    }

    /// Counts the next so many of [`messages_left`](Self::messages_left) as through. A level that has taken some
    /// but not all keeps the op: it asks for something or holds, and finishes once none is left. Empty messages
    /// do not show in [`moved`](Self::moved), so it cannot be finished in parts.
    pub fn take_messages(&mut self, n: usize) {
        let through = self.messages_left().take(n).fold((0, self.moved), |(n, _), m| (n + 1, m.end));
        self.sent += through.0;
        self.moved = self.total.min(through.1);
        self.touched = true;
    }

    /// Whether nothing is left half-written: the bytes that are through end where a message does.
    pub(crate) fn is_at_border(&self) -> bool {
        // Behind a lead nobody knows where the messages end.
        self.leads.is_empty() && self.ends.binary_search(&self.moved).is_ok()
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
        let mut pieces = std::mem::take(&mut self.pieces);
        if self.moved == self.total {
            // Its bytes are the peer's.
            pieces.retain(|p| !p.is_loan());
        }
        (pieces, self.moved)
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
    fn a_batch_knows_its_messages() {
        let mut w = WriteBody::empty();
        w.ask(SmallVec::from_iter([Piece::inline(b"aabbb")]));
        assert!(w.messages().eq(std::iter::once(0..5)));
        w.ends = vec![2, 2, 5];
        assert_eq!(w.messages().collect::<Vec<_>>(), [0..2, 2..2, 2..5]);
    }

    #[test]
    fn messages_are_counted_one_by_one_be_they_empty() {
        let mut w = WriteBody::empty();
        w.ask(SmallVec::from_iter([Piece::inline(b"aabbb")]));
        w.ends = vec![0, 2, 2, 5, 5];
        for left in [&[0..0, 0..2, 2..2, 2..5, 5..5][..], &[0..2, 2..2, 2..5, 5..5], &[2..2, 2..5, 5..5]] {
            assert_eq!(w.messages_left().collect::<Vec<_>>(), left);
            assert_eq!(w.moved(), left[0].start);
            assert!(w.is_at_border());
            w.take_messages(1);
        }
        assert_eq!((w.moved(), w.messages_left().collect::<Vec<_>>()), (2, vec![2..5, 5..5]));
        w.take_messages(0);
        assert_eq!((w.moved(), w.messages_left().count()), (2, 2));
        w.take_messages(9);
        assert_eq!((w.moved(), w.messages_left().count()), (5, 0));
        w.moved = 4;
        assert!(!w.is_at_border());
    }

    #[test]
    fn one_message_has_no_border_inside() {
        let mut w = WriteBody::empty();
        w.ask(SmallVec::from_iter([Piece::inline(b"aabbb")]));
        assert!(w.messages_left().eq(std::iter::once(0..5)));
        w.take_part(2);
        assert!(!w.is_at_border());
        w.take_messages(1);
        assert_eq!((w.moved(), w.messages_left().count()), (5, 0));
    }
}
