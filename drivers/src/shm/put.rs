//! How writes get into the ring. Invariant: a message is put in whole and shown whole, so that a write that stops
//! leaves it before or after each of its messages, never inside one; what it has put in is counted in its op. It
//! waits for nothing: what does not fit is the level's to hold.

use std::sync::Arc;

use xio_core::buffer::{Loan, Piece};
use xio_core::io::Direction;
use xio_core::op::Write;
use xio_core::{Cx, Error, ErrorKind, Op};

use super::lent::Spot;
use super::live::{Live, STRIDE};
use super::map::Map;
use super::memory::Memory;
use super::ring::{ENDED, Foul, HEADER, OPEN, RESET, footprint};

/// What became of a write.
pub(super) enum Put {
    /// So many bytes of it are in, beside those that were counted in it before.
    Bytes(usize),
    /// What is left waits for room.
    Full,
    /// It waits for a loan that is being filled, and is woken.
    Behind,
}

impl Live {
    /// Why nothing can be written.
    pub(super) fn refuses(&mut self, cx: &mut Cx<'_>) -> Option<Error> {
        if let Some(foul) = self.foul {
            return Some(self.broken(cx, foul));
        }
        let dead = self.shared.is_dead();
        Some(match self.tx.peer() {
            OPEN if dead => self.lost(),
            OPEN => return None,
            ENDED => Error::new(ErrorKind::BrokenPipe).detail("the peer has closed"),
            RESET => Error::new(ErrorKind::Reset).detail("the peer has aborted"),
            _ => self.broken(cx, Foul("the reader's end is no end that there is")),
        })
    }

    /// Puts in what there is room for.
    #[inline]
    pub(super) fn put(&mut self, cx: &mut Cx<'_>, op: &mut Op<'_, Write>) -> Result<Put, Error> {
        if self.waits_for_loan(op) {
            return Ok(Put::Behind);
        }
        if !self.message {
            return self.put_bytes(cx, op);
        }
        if op.message_count() > 1 {
            return self.put_batch(cx, op);
        }
        let len = op.len();
        if !self.fits(cx, len)? {
            return Ok(Put::Full);
        }
        // A ring is far smaller than a length can say.
        let at = self.tx.begin_message(len as u32);
        for piece in op.pieces() {
            if !self.is_there(piece) {
                self.tx.put(piece);
            }
        }
        self.tx.end_message(at, len as u32);
        self.show(cx);
        Ok(Put::Bytes(len))
    }

    /// Puts the messages in that are left of several, as far as they fit, and counts them. The peer sees them in
    /// strides; it is woken once, when this end's level has answered.
    #[inline(never)]
    fn put_batch(&mut self, cx: &mut Cx<'_>, op: &mut Op<'_, Write>) -> Result<Put, Error> {
        let mut cut = Cut::new(op.pieces(), op.moved());
        let mut put = 0;
        let mut hidden = 0;
        let mut fits = Ok(true);
        for message in op.messages_left() {
            let len = message.len();
            fits = self.fits(cx, len);
            if !matches!(fits, Ok(true)) {
                break;
            }
            self.tx.put_message(len as u32, cut.next(len));
            put += 1;
            hidden += footprint(len);
            if hidden >= STRIDE {
                hidden = 0;
                self.show(cx);
            }
        }
        if hidden > 0 {
            self.show(cx);
        }
        op.take_messages(put);
        fits.map(|all| if all { Put::Bytes(0) } else { Put::Full })
    }

    /// Whether there is room for a message of this length; an error where there never is.
    #[inline]
    fn fits(&mut self, cx: &mut Cx<'_>, len: usize) -> Result<bool, Error> {
        let need = footprint(len);
        let room = self.tx.room(need).map_err(|foul| self.broken(cx, foul))?;
        if room < need { self.may_fit(len).map(|()| false) } else { Ok(true) }
    }

    /// Whether a message of this length fits an empty ring.
    #[cold]
    fn may_fit(&self, len: usize) -> Result<(), Error> {
        let most = self.tx.memory().size() - HEADER;
        if len <= most {
            return Ok(());
        }
        let text = format!("{len} bytes, and a message has {most} at most: raise `buffer`");
        Err(Error::new(ErrorKind::TooLong).detail(text))
    }

    /// Room in the ring for a write, if that would be the next one and the peer is trusted to leave it alone.
    pub(super) fn lend(&mut self, cx: &Cx<'_>, room: usize) -> Option<Loan> {
        if !self.trust || !self.is_ours() || self.foul.is_some() {
            return None;
        }
        let waker = cx.waker();
        // Of what the peer does wrong the write will tell.
        let lent = self.tx.lend(self.header(), room, Box::new(move || waker.wake())).ok().flatten();
        lent.map(|spot| Loan::lent(spot))
    }

    /// Bytes before those of a write.
    fn header(&self) -> usize {
        if self.message { HEADER } else { 0 }
    }

    /// Whether a loan is in the way of the op, and cannot move now.
    #[inline]
    fn waits_for_loan(&mut self, op: &Op<'_, Write>) -> bool {
        let whole = op.moved() == 0 && op.message_count() == 1;
        let pieces = op.pieces().iter().map(|p| (p.len(), spot(p).filter(|_| whole)));
        !self.tx.make_way(pieces, self.header())
    }

    /// Whether the piece is a loan that lies where it goes, and so is put in.
    #[inline]
    fn is_there(&mut self, piece: &Piece) -> bool {
        spot(piece).is_some_and(|spot| self.tx.put_lent(spot, piece.len()))
    }

    /// Shows the peer what was put in.
    #[inline]
    fn show(&mut self, cx: &mut Cx<'_>) {
        let flags = self.tx.publish();
        self.wake(cx, Direction::Write, flags);
    }

    /// Puts bytes of a stream in, as many as fit.
    #[inline]
    fn put_bytes(&mut self, cx: &mut Cx<'_>, op: &Op<'_, Write>) -> Result<Put, Error> {
        let left = op.len() - op.moved();
        let room = self.tx.room(left.min(self.tx.memory().size())).map_err(|foul| self.broken(cx, foul))?;
        let mut put = 0;
        let mut hidden = 0;
        let mut skip = op.moved();
        for piece in op.pieces() {
            if skip == 0 && self.is_there(piece) {
                put += piece.len();
                hidden += piece.len();
                continue;
            }
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let mut rest = &piece[std::mem::take(&mut skip)..];
            while !rest.is_empty() && put < room {
                let n = self.tx.put(&rest[..rest.len().min(STRIDE)]);
                rest = &rest[n..];
                put += n;
                hidden += n;
                if hidden >= STRIDE {
                    hidden = 0;
                    self.show(cx);
                }
            }
        }
        if hidden > 0 {
            self.show(cx);
        }
        if put == 0 && left > 0 { Ok(Put::Full) } else { Ok(Put::Bytes(put)) }
    }

    /// Whether a write of a byte would end at once.
    pub(super) fn is_writable(&mut self, cx: &mut Cx<'_>) -> bool {
        let need = if self.message { footprint(1) } else { 1 };
        self.refuses(cx).is_some()
            || match self.tx.room(need) {
                Ok(n) => n >= need,
                Err(foul) => {
                    self.broken(cx, foul);
                    true
                }
            }
    }
}

#[inline]
fn spot(piece: &Piece) -> Option<&Spot<Arc<Map>>> {
    piece.lent_by()
}

/// Pieces, cut into messages one after the other.
struct Cut<'a> {
    pieces: std::slice::Iter<'a, Piece>,
    /// What is left of the piece in hand.
    rest: &'a [u8],
}

impl<'a> Cut<'a> {
    /// From the byte at `skip` on.
    fn new(pieces: &'a [Piece], skip: usize) -> Self {
        let mut cut = Self { pieces: pieces.iter(), rest: &[] };
        cut.next(skip).for_each(drop);
        cut
    }

    /// The next `len` bytes.
    fn next(&mut self, mut len: usize) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        std::iter::from_fn(move || {
            while len > 0 && self.rest.is_empty() {
                self.rest = self.pieces.next()?;
            }
            let (part, rest) = self.rest.split_at(len.min(self.rest.len()));
            (self.rest, len) = (rest, len - part.len());
            Some(part).filter(|p| !p.is_empty())
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_across_pieces_and_empty_ones() {
        let pieces = ["", "ab", "cdef", "", "g", "hi", ""].map(|t| Piece::inline(t.as_bytes()));
        for skip in 0..=9 {
            let mut cut = Cut::new(&pieces, skip);
            let mut at = skip;
            for len in [0, 2, 1, 0, 3, 2, 1].into_iter() {
                let got: Vec<u8> = cut.next(len).flatten().copied().collect();
                let end = (at + len).min(9);
                assert_eq!(got, b"abcdefghi"[at..end], "{len} from {at}");
                at = end;
            }
        }
    }
}
