//! What happens to bytes: lost, doubled, overtaken, changed, cut. Invariant: a message is given out
//! whole or not at all, and of a stream no byte is skipped or comes twice.

use std::time::Duration;

use bytes::Bytes;
use xio_core::buffer::{Chunk, Piece, Pieces};
use xio_core::caps::Unit;
use xio_core::op::{Read, Write};
use xio_core::{Cx, ErrorKind, Flow, Op};

use super::level::Faulty;
use crate::part::Next;

/// Tag of the own writes that carry a part of a write.
pub(super) const PART: u32 = 1;
/// Tag of copies.
const COPY: u32 = 2;
/// Longest part of a short read.
const SHORT: usize = 64 * 1024;
/// Messages thrown away in a row before others have their turn.
const LOST: u32 = 64;

impl Faulty {
    /// A read that has been let through goes down.
    pub(super) fn pass_read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if let Some((mut chunk, attrs)) = self.again.take() {
            *cx.word(&mut op) = 0;
            let len = chunk.len();
            op.put_chunk(&mut chunk);
            *op.attrs_mut() = attrs.clone();
            if chunk.is_empty() {
                return op.finished();
            }
            // The rest of a message stays readable; that of a datagram is gone.
            if cx.caps_below().is_some_and(|c| c.unit == Unit::Message) {
                self.again = Some((chunk, attrs));
            }
            return op.failed(ErrorKind::Truncated { len });
        }
        (self.had, self.is_part) = (op.got(), false);
        if self.bytes_left == Some(0) && op.room() > 0 {
            let e = self.reset(cx);
            return op.failed(e);
        }
        if self.has_borders(cx) || op.room() == 0 {
            return op.pass();
        }
        let fate = self.fate(cx, &mut op);
        let most = match fate.shortens {
            // Only once: what comes after it is another step of the same read.
            Some(roll) if op.got() == 0 => part(op.room().min(SHORT), roll),
            _ => usize::MAX,
        };
        let left = self.bytes_left.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let most = most.min(left);
        if most >= op.room() {
            return op.pass();
        }
        let wanted = op.wanted().min(most);
        self.is_part = true;
        op.pass_part(most, wanted)
    }

    /// A read comes back up.
    pub(super) fn came<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if std::mem::take(&mut self.is_part) {
            // Puts its count back into that of the read.
            op.below();
        }
        let borders = self.has_borders(cx);
        let n = op.got().saturating_sub(self.had);
        let fate = self.fate(cx, &mut op);
        if op.error().is_some() {
            self.spend(n);
            *cx.word(&mut op) = 0;
            return op.finished();
        }
        if borders {
            if self.bytes_left.is_some_and(|left| (n as u64) > left) {
                // It was on its way when the connection broke.
                op.take_back(n);
                self.bytes_left = Some(0);
                let e = self.reset(cx);
                return op.failed(e);
            }
            self.spend(n);
            if fate.is_lost {
                op.take_back(n);
                self.lost += 1;
                // The next message has a fate of its own.
                self.judge(cx, &mut op);
                self.let_through(cx, &mut op);
                if !self.lost.is_multiple_of(LOST) {
                    self.had = op.got();
                    return op.pass();
                }
                return self.pause(cx, op, Duration::from_millis(1));
            }
            self.lost = 0;
        } else {
            self.spend(n);
        }
        // Of a read in several steps the first is changed.
        let corrupts = fate.corrupts.filter(|_| self.had == 0);
        if fate.is_doubled || corrupts.is_some() {
            let came = op.take_back(n);
            if fate.is_doubled {
                self.again = Some((Chunk::from(came.clone()), op.attrs().clone()));
            }
            let given = match corrupts {
                Some(roll) => corrupted(came.to_vec(), roll),
                None => came,
            };
            op.put_chunk(&mut Chunk::from(given));
        }
        if borders || op.wanted() == 0 || op.room() == 0 {
            *cx.word(&mut op) = 0;
        }
        op.finished()
    }

    /// A write that has been let through goes down.
    pub(super) fn pass_write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let mut op = match self.parts.enter(op, |op| *cx.word(op) = 0) {
            Next::More(op) => op,
            Next::Answered(flow) => return flow,
        };
        let fate = self.fate(cx, &mut op);
        let left = op.len() - op.moved();
        if let Some(budget) = self.bytes_left {
            let fits = left as u64 <= budget;
            if !fits && (budget == 0 || self.has_borders(cx)) {
                self.bytes_left = Some(0);
                let e = self.reset(cx);
                return op.failed(e);
            }
            if !fits {
                let n = usize::try_from(budget).unwrap_or(usize::MAX);
                self.bytes_left = Some(0);
                return self.parts.send(cx, op, n, PART);
            }
        }
        if self.parts.has_begun() {
            self.spend(left);
            return self.parts.send(cx, op, left, PART);
        }
        if let Some(roll) = fate.shortens.filter(|_| left > 1) {
            let n = part(left - 1, roll);
            self.spend(n);
            return self.parts.send(cx, op, n, PART);
        }
        self.spend(left);
        *cx.word(&mut op) = 0;
        if fate.is_lost {
            op.take_all();
            return op.finished();
        }
        if fate.is_doubled {
            let (pieces, attrs) = (copy(&mut op), op.attrs().clone());
            cx.write_with(0, pieces, attrs, COPY);
        }
        let changed = fate.corrupts.filter(|_| !op.is_empty()).map(|roll| corrupted(flat(&op), roll));
        if fate.is_overtaken && !self.keeps() {
            let pieces = match changed {
                Some(bytes) => one(bytes),
                None => copy(&mut op),
            };
            let attrs = op.attrs().clone();
            self.keep(cx, pieces, attrs);
            op.take_all();
            return op.finished();
        }
        match changed {
            Some(bytes) => op.pass_with(one(bytes)),
            None => op.pass(),
        }
    }

    fn spend(&mut self, n: usize) {
        if let Some(left) = &mut self.bytes_left {
            *left = left.saturating_sub(n as u64);
        }
    }
}

fn one(bytes: Bytes) -> Pieces {
    Pieces::from_iter([Piece::from(bytes)])
}

/// From 1 to `most`.
fn part(most: usize, roll: u64) -> usize {
    1 + usize::try_from(roll % (most.max(1) as u64)).unwrap_or(0)
}

/// A second owner of the bytes of a write.
fn copy(op: &mut Op<'_, Write>) -> Pieces {
    op.share().into_iter().map(|p| Piece::from(p.into_bytes())).collect()
}

/// All bytes of a write in one run.
fn flat(op: &Op<'_, Write>) -> Vec<u8> {
    op.pieces().iter().flat_map(|p| p.iter().copied()).collect()
}

/// Bytes of which one bit is another.
fn corrupted(mut bytes: Vec<u8>, roll: u64) -> Bytes {
    if !bytes.is_empty() {
        let at = usize::try_from(roll % bytes.len() as u64).unwrap_or(0);
        bytes[at] ^= 1 << ((roll >> 61) & 7);
    }
    bytes.into()
}
