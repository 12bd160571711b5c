//! Room in a ring that a user fills before it is written. Invariant: it lies past all that the reader may read, and is
//! the user's alone while it is filled; where something else is to be put there first, it moves to memory of its own
//! before. So a loan that is never written leaves nothing behind, and one that is out keeps no write waiting but while
//! it is filled, or looked at: whoever does that has what waits woken, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::{Mutex, MutexGuard};

use super::memory::Memory;

/// A loan.
pub(super) struct Spot<M> {
    memory: M,
    /// The position of its first byte. All of it lies before the ring's end.
    start: u64,
    room: usize,
    bytes: Mutex<Bytes>,
    /// A write waits for its place.
    wanted: AtomicBool,
    bell: Bell,
}

/// Its bytes, while somebody fills them or looks at them.
struct Busy<'a, M> {
    spot: &'a Spot<M>,
    bytes: Option<MutexGuard<'a, Bytes>>,
}

impl<M> Drop for Busy<'_, M> {
    fn drop(&mut self) {
        self.bytes = None;
        // Who wants its place says so, then looks whether it is free; here it is the other way round.
        fence(Ordering::SeqCst);
        if self.spot.wanted.swap(false, Ordering::Relaxed) {
            (self.spot.bell)();
        }
    }
}

/// Called where such a write may go on.
pub(super) type Bell = Box<dyn Fn() + Send + Sync>;

/// Where its bytes are.
enum Bytes {
    /// In the ring, so many.
    There(usize),
    /// No longer there.
    Moved(Vec<u8>),
    /// Written: the reader's.
    Gone,
}

impl<M: Memory> Spot<M> {
    /// Room from `start` on, if it is in one run.
    pub(super) fn new(memory: M, start: u64, room: usize, bell: Bell) -> Option<Arc<Self>> {
        let spot =
            Self { memory, start, room, bytes: Mutex::new(Bytes::There(0)), wanted: AtomicBool::new(false), bell };
        (room <= spot.memory.size() - spot.place()).then(|| Arc::new(spot))
    }

    /// Where its first byte lies in the ring.
    fn place(&self) -> usize {
        self.start as usize & (self.memory.size() - 1)
    }

    /// The position of its first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn room(&self) -> usize {
        self.room
    }

    fn busy(&self) -> Busy<'_, M> {
        Busy { spot: self, bytes: Some(self.bytes.lock()) }
    }

    /// Makes way. `false`: somebody is at it; the bell rings once nobody is.
    pub(super) fn give_way(&self) -> bool {
        let mut guard = self.bytes.try_lock();
        if guard.is_none() {
            self.wanted.store(true, Ordering::Relaxed);
            // See `Busy`.
            fence(Ordering::SeqCst);
            guard = self.bytes.try_lock();
        }
        let Some(mut bytes) = guard else { return false };
        self.move_out(&mut bytes);
        true
    }

    fn move_out(&self, bytes: &mut Bytes) {
        if let Bytes::There(n) = *bytes {
            let mut own = vec![0; n];
            self.memory.read(self.place(), &mut own);
            *bytes = Bytes::Moved(own);
        }
    }

    /// Its first `len` bytes are written where they are, if that is `at` and they are all there.
    pub(super) fn go(&self, at: u64, len: usize) -> bool {
        // Its user has given it away to be written, and fills it no more.
        let Some(mut bytes) = self.bytes.try_lock() else { return false };
        let goes = self.start == at && matches!(*bytes, Bytes::There(n) if n == len);
        if goes {
            *bytes = Bytes::Gone;
        }
        goes
    }

    /// Gives `f` the bytes from `at` on. `there` gives it those that are in the ring: of the memory so many from some
    /// place on, which are this call's alone.
    pub(super) fn fill(
        &self,
        at: usize,
        f: &mut dyn FnMut(&mut [u8]) -> usize,
        there: impl FnOnce(&M, usize, usize, &mut dyn FnMut(&mut [u8]) -> usize) -> usize,
    ) -> usize {
        assert!(at <= self.room, "inside the loan");
        let mut busy = self.busy();
        let Some(bytes) = busy.bytes.as_deref_mut() else { return 0 };
        // The ring is the parent's, not that of a child it made.
        if !self.memory.is_ours() {
            self.move_out(bytes);
        }
        match bytes {
            Bytes::There(filled) => {
                let left = self.room - at;
                let n = there(&self.memory, self.place() + at, left, f).min(left);
                *filled = at + n;
                n
            }
            Bytes::Moved(own) => {
                own.resize(self.room, 0);
                let n = f(&mut own[at..]).min(self.room - at);
                own.truncate(at + n);
                n
            }
            Bytes::Gone => 0,
        }
    }

    /// Copies from its beginning.
    pub(super) fn copy_out(&self, to: &mut [u8]) {
        match self.busy().bytes.as_deref() {
            Some(Bytes::There(n)) => {
                let n = to.len().min(*n);
                self.memory.read(self.place(), &mut to[..n]);
            }
            Some(Bytes::Moved(own)) => {
                let n = to.len().min(own.len());
                to[..n].copy_from_slice(&own[..n]);
            }
            Some(Bytes::Gone) | None => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;

    use super::super::ring::{HEADER, Reader, Writer, footprint};
    use super::super::twin::Twin;
    use super::*;

    type Filled = Arc<Spot<Arc<Twin>>>;

    fn quiet() -> Bell {
        Box::new(|| {})
    }

    /// Appends, and looks whether all that was filled is there.
    fn put(spot: &Filled, filled: &mut Vec<u8>, bytes: &[u8]) {
        let n = bytes.len().min(spot.room() - filled.len());
        let took = spot.fill(
            filled.len(),
            &mut |room| {
                room[..n].copy_from_slice(&bytes[..n]);
                n
            },
            // The twin has no slices.
            |twin, at, left, f| {
                let mut copy = vec![0; left];
                let n = f(&mut copy);
                twin.write(at, &copy[..n]);
                n
            },
        );
        assert_eq!(took, n);
        filled.extend(&bytes[..n]);
        let mut now = vec![0; filled.len()];
        spot.copy_out(&mut now);
        assert_eq!(&now, filled);
    }

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
                        let lent = w.lend(HEADER, n, quiet()).unwrap();
                        prop_assert!(lent.is_none() || n > 0 && room >= HEADER + n);
                        loan = lent.map(|l| (l, Vec::new()));
                    }
                    Step::Fill(bytes) => if let Some((spot, filled)) = &mut loan {
                        put(spot, filled, &bytes);
                    }
                    Step::SendLoan(before) => if let Some((spot, filled)) = loan.take() {
                        let (lead, len) = (vec![7; before], before + filled.len());
                        if w.room(footprint(len)).unwrap() >= footprint(len) {
                            prop_assert!(w.make_way([(before, None), (filled.len(), Some(&*spot))].into_iter(), HEADER));
                            let mut copy = vec![0; filled.len()];
                            spot.copy_out(&mut copy);
                            let at = w.begin_message(len as u32);
                            w.put(&lead);
                            let was_there = matches!(*spot.bytes.lock(), Bytes::There(_));
                            let went = w.put_lent(&spot, filled.len());
                            prop_assert_eq!(went, was_there && before == 0);
                            if !went {
                                w.put(&copy);
                            }
                            w.end_message(at, len as u32);
                            let _ = w.publish();
                            sent.push_back([lead, filled].concat());
                        }
                    }
                    Step::Drop => loan = None,
                    Step::Send(bytes) => if w.room(footprint(bytes.len())).unwrap() >= footprint(bytes.len()) {
                        prop_assert!(w.make_way(std::iter::empty(), HEADER));
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
        let mut w = Writer::new(Twin::new(128));
        let spot = w.lend(0, 8, quiet()).unwrap().unwrap();
        assert!(w.lend(0, 8, quiet()).unwrap().is_none(), "one at a time");
        put(&spot, &mut Vec::new(), b"abcd");
        assert!(!spot.go(spot.start() + 1, 4) && !spot.go(spot.start(), 3), "elsewhere, or not all that is there");
        assert!(w.put_lent(&spot, 4));
        assert_eq!(spot.fill(4, &mut |_| 4, |_, _, _, _| unreachable!("it is no longer there")), 0);
        let mut to = [9; 4];
        spot.copy_out(&mut to);
        assert_eq!(to, [9; 4], "nothing is given back");
        assert_eq!(w.unread(), 0);
        let _ = w.publish();
        assert_eq!(w.unread(), 4);
    }

    #[test]
    fn a_loan_lies_in_one_run() {
        let mut w = Writer::new(Twin::new(128));
        assert_eq!(w.put(&[0; 100]), 100);
        assert!(w.lend(0, 29, quiet()).unwrap().is_none() && w.lend(9, 20, quiet()).unwrap().is_none());
        assert!(w.lend(8, 20, quiet()).unwrap().is_some());
    }

    #[test]
    fn who_wants_the_place_of_what_is_being_filled_is_told_when_it_is_not() {
        static RUNG: AtomicU32 = AtomicU32::new(0);
        let rung = || RUNG.load(Ordering::Relaxed);
        let mut w = Writer::new(Twin::new(128));
        let bell = || {
            RUNG.fetch_add(1, Ordering::Relaxed);
        };
        let spot = w.lend(0, 8, Box::new(bell)).unwrap().unwrap();
        put(&spot, &mut Vec::new(), b"abcd");
        assert_eq!(rung(), 0);
        let mut wanted = |_: &mut [u8]| {
            assert!(!w.make_way(std::iter::empty(), 0), "it is being filled");
            0
        };
        spot.fill(4, &mut wanted, |_, _, _, f| f(&mut []));
        assert_eq!(rung(), 1);
        assert!(w.make_way(std::iter::empty(), 0));
        spot.fill(4, &mut |_| 0, |_, _, _, _| unreachable!("it has moved"));
        assert_eq!(rung(), 1, "nobody waits any more");
    }

    #[test]
    fn a_panic_and_a_look_tell_as_well() {
        static RUNG: AtomicU32 = AtomicU32::new(0);
        let bell = || {
            RUNG.fetch_add(1, Ordering::Relaxed);
        };
        let mut w = Writer::new(Twin::new(128));
        let spot = w.lend(0, 8, Box::new(bell)).unwrap().unwrap();
        let held = spot.busy();
        assert!(!w.make_way(std::iter::empty(), 0), "somebody looks at it");
        drop(held);
        assert_eq!(RUNG.load(Ordering::Relaxed), 1);
        let panics = std::panic::AssertUnwindSafe(|| {
            let mut wanted = |_: &mut [u8]| -> usize {
                assert!(!w.make_way(std::iter::empty(), 0), "it is being filled");
                panic!("of the test")
            };
            spot.fill(0, &mut wanted, |_, _, _, f| f(&mut []))
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(RUNG.load(Ordering::Relaxed), 2);
        assert!(w.make_way(std::iter::empty(), 0));
    }
}
