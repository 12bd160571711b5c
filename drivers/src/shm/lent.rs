//! Room in a ring that a user fills before it is written. Invariant: it lies past all that the reader may read, so what
//! is there nobody else has any business with; where something else is to be put there first, it moves to memory of its
//! own. So a loan keeps nobody waiting, and one that is never written leaves nothing behind.

use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::buffer::{Foreign, Lend};

use super::memory::Memory;

/// A loan.
pub(super) struct Spot<M> {
    memory: M,
    /// The position of its first byte.
    start: u64,
    room: usize,
    bytes: Mutex<Bytes>,
}

enum Bytes {
    /// In the ring: so many, from the start.
    There(usize),
    /// No longer in the ring.
    Moved(Vec<u8>),
    /// Written: the reader's.
    Gone,
}

impl<M: Memory> Spot<M> {
    pub(super) fn new(memory: M, start: u64, room: usize) -> Arc<Self> {
        Arc::new(Self { memory, start, room, bytes: Mutex::new(Bytes::There(0)) })
    }

    /// Whether something of `len` bytes at `at` would lie over it.
    pub(super) fn is_hit(&self, at: u64, len: usize) -> bool {
        // Positions go round, and a ring is far smaller than half of them.
        at.wrapping_sub(self.start) < self.room as u64 || self.start.wrapping_sub(at) < len as u64
    }

    /// Makes way.
    pub(super) fn give_way(&self) {
        let mut bytes = self.bytes.lock();
        if let Bytes::There(n) = *bytes {
            let mut own = vec![0; n];
            self.copy(0, &mut own);
            *bytes = Bytes::Moved(own);
        }
    }

    /// Its first `len` bytes are written where they are, if that is `at` and they are all there.
    pub(super) fn go(&self, at: u64, len: usize) -> bool {
        let mut bytes = self.bytes.lock();
        let goes = self.start == at && matches!(*bytes, Bytes::There(n) if n == len);
        if goes {
            *bytes = Bytes::Gone;
        }
        goes
    }

    fn copy(&self, at: usize, to: &mut [u8]) {
        let (at, first) = self.place(at, to.len());
        self.memory.read(at, &mut to[..first]);
        if first < to.len() {
            self.memory.read(0, &mut to[first..]);
        }
    }

    /// Where its byte `at` lies, and how many of `len` come before the ring's end.
    fn place(&self, at: usize, len: usize) -> (usize, usize) {
        let size = self.memory.size();
        let at = (self.start as usize).wrapping_add(at) & (size - 1);
        (at, len.min(size - at))
    }
}

impl<M: Memory + Send + Sync> Foreign for Spot<M> {
    fn len(&self) -> usize {
        self.room
    }

    fn copy_out(&self, at: usize, to: &mut [u8]) {
        assert!(at <= self.room && to.len() <= self.room - at, "inside the loan");
        match &*self.bytes.lock() {
            Bytes::There(_) => self.copy(at, to),
            Bytes::Moved(own) => {
                let n = own.len().saturating_sub(at).min(to.len());
                to[..n].copy_from_slice(&own[at..at + n]);
            }
            Bytes::Gone => {}
        }
    }
}

impl<M: Memory + Send + Sync + 'static> Lend for Spot<M> {
    fn fill(&self, at: usize, from: &[u8]) {
        assert!(at <= self.room && from.len() <= self.room - at, "inside the loan");
        // The ring is the parent's, not that of a child it made.
        if !self.memory.is_ours() {
            self.give_way();
        }
        match &mut *self.bytes.lock() {
            Bytes::There(n) => {
                let (place, first) = self.place(at, from.len());
                self.memory.write(place, &from[..first]);
                if first < from.len() {
                    self.memory.write(0, &from[first..]);
                }
                *n = (*n).max(at + from.len());
            }
            Bytes::Moved(own) => {
                own.resize(own.len().max(at + from.len()), 0);
                own[at..at + from.len()].copy_from_slice(from);
            }
            Bytes::Gone => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::ring::{HEADER, Reader, Writer, footprint};
    use super::super::twin::Twin;
    use super::*;

    type Filled = Arc<Spot<Arc<Twin>>>;

    /// What is done to a ring of messages.
    #[derive(Clone, Debug)]
    enum Step {
        Lend(usize),
        Fill(Vec<u8>),
        /// The loan, after so many other bytes.
        SendLoan(usize),
        Drop,
        Send(Vec<u8>),
        Receive,
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            (0..60usize).prop_map(Step::Lend),
            bytes().prop_map(Step::Fill),
            bytes().prop_map(Step::Fill),
            prop_oneof![3 => Just(0), 1 => 1..9usize].prop_map(Step::SendLoan),
            Just(Step::Drop),
            bytes().prop_map(Step::Send),
            Just(Step::Receive),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]

        #[test]
        fn a_loan_is_sent_as_it_was_filled_whatever_else_is_sent(steps in prop::collection::vec(step(), 1..120)) {
            let twin = Twin::new(128);
            let (mut w, mut r) = (Writer::new(twin.clone()), Reader::new(twin));
            let mut sent = VecDeque::new();
            let mut loan: Option<(Filled, Vec<u8>)> = None;
            for step in steps {
                match step {
                    Step::Lend(n) if loan.is_none() => {
                        let room = w.room(HEADER + n).unwrap();
                        let lent = w.lend(HEADER, n).unwrap();
                        prop_assert_eq!(lent.is_some(), n > 0 && room >= HEADER + n, "whatever came of the one before");
                        loan = lent.map(|l| (l, Vec::new()));
                    }
                    Step::Fill(bytes) => if let Some((spot, filled)) = &mut loan {
                        let n = bytes.len().min(spot.len() - filled.len());
                        spot.fill(filled.len(), &bytes[..n]);
                        filled.extend(&bytes[..n]);
                        let mut now = vec![0; filled.len()];
                        spot.copy_out(0, &mut now);
                        prop_assert_eq!(&now, filled);
                    }
                    Step::SendLoan(before) => if let Some((spot, filled)) = loan.take() {
                        let (lead, len) = (vec![7; before], before + filled.len());
                        if w.room(footprint(len)).unwrap() >= footprint(len) {
                            let at = w.begin_message(len as u32);
                            w.put(&lead);
                            let was_there = matches!(*spot.bytes.lock(), Bytes::There(_)) && spot.start == at + HEADER as u64;
                            let went = w.put_lent(&spot, filled.len());
                            prop_assert_eq!(went, was_there && before == 0);
                            if !went {
                                let mut copy = vec![0; filled.len()];
                                spot.copy_out(0, &mut copy);
                                w.put(&copy);
                            }
                            w.end_message(at, len as u32);
                            let _ = w.publish();
                            sent.push_back([lead, filled].concat());
                        }
                    }
                    Step::Drop => loan = None,
                    Step::Send(bytes) => if w.room(footprint(bytes.len())).unwrap() >= footprint(bytes.len()) {
                        w.put_message(bytes.len() as u32, bytes.chunks(3));
                        let _ = w.publish();
                        sent.push_back(bytes);
                    }
                    _ => {
                        let len = r.message().unwrap();
                        prop_assert_eq!(len, sent.front().map(Vec::len));
                        if let Some(len) = len {
                            let mut to = vec![0; len];
                            r.copy(&mut to);
                            let _ = r.release();
                            prop_assert_eq!(sent.pop_front(), Some(to));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_gone_is_no_longer_its_users() {
        let twin = Twin::new(128);
        let mut w = Writer::new(twin);
        let spot = w.lend(0, 8).unwrap().unwrap();
        assert!(w.lend(0, 8).unwrap().is_none(), "one at a time");
        spot.fill(0, b"abcd");
        assert!(!w.put_lent(&spot, 3), "not all that is there");
        assert!(w.put_lent(&spot, 4));
        spot.fill(0, b"xxxx");
        let mut to = [9; 4];
        spot.copy_out(0, &mut to);
        assert_eq!(to, [9; 4], "nothing is given back");
        assert_eq!(w.unread(), 0);
        let _ = w.publish();
        assert_eq!(w.unread(), 4);
    }
}
