//! The ring by itself, on its twin: against a model, with ends that die at every step, against a peer that
//! scribbles.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use xio_core::buffer::Foreign;

use super::kept::Run;
use super::memory::{Memory, Note, Place};
use super::ring::*;
use super::twin::Twin;

fn pair(size: usize) -> (Writer<Arc<Twin>>, Reader<Arc<Twin>>) {
    let twin = Twin::new(size);
    (Writer::new(twin.clone()), Reader::new(twin))
}

/// Puts a message in, if it fits.
fn send<M: Memory>(w: &mut Writer<M>, message: &[u8]) -> Result<bool, Foul> {
    let need = footprint(message.len());
    if w.room(need)? < need {
        return Ok(false);
    }
    w.put_message(message.len() as u32, message.chunks(3));
    let _ = w.publish();
    Ok(true)
}

/// Takes a message out, if there is one.
fn receive<M: Memory>(r: &mut Reader<M>) -> Result<Option<Vec<u8>>, Foul> {
    let Some(len) = r.message()? else { return Ok(None) };
    let mut to = vec![0; len];
    assert_eq!(r.copy(&mut to), len);
    let _ = r.release();
    Ok(Some(to))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn a_stream_is_a_queue_of_bytes(
        shift in 3..8u32,
        steps in prop::collection::vec((any::<bool>(), 0..200usize), 1..100),
    ) {
        let (mut w, mut r) = pair(1 << shift);
        let mut model = std::collections::VecDeque::new();
        let mut next = 0u8;
        for (writes, n) in steps {
            if writes {
                let bytes: Vec<u8> = (0..n).map(|i| next.wrapping_add(i as u8)).collect();
                let room = w.room(n).unwrap();
                prop_assert!(room >= n.min((1 << shift) - model.len()));
                let put = w.put(&bytes);
                prop_assert_eq!(put, n.min(room));
                prop_assert_eq!(w.publish(), 0, "nobody sleeps");
                model.extend(&bytes[..put]);
                next = next.wrapping_add(put as u8);
            } else {
                let ready = r.ready(n).unwrap();
                prop_assert!(ready >= n.min(model.len()) && ready <= model.len());
                let mut to = vec![0; n];
                let got = r.copy(&mut to);
                prop_assert_eq!(got, n.min(ready));
                prop_assert_eq!(&to[..got], &model.drain(..got).collect::<Vec<u8>>()[..]);
                prop_assert_eq!(r.release(), 0, "nobody sleeps");
            }
        }
    }

    #[test]
    fn messages_keep_their_borders(
        shift in 4..8u32,
        steps in prop::collection::vec((any::<bool>(), 0..64usize, 1..9usize), 1..100),
    ) {
        let (mut w, mut r) = pair(1 << shift);
        let mut model = std::collections::VecDeque::<Vec<u8>>::new();
        for (i, (writes, n, part)) in steps.into_iter().enumerate() {
            if writes {
                let message = vec![i as u8; n];
                let used: usize = model.iter().map(|m| footprint(m.len())).sum();
                let fits = used + footprint(n) <= 1 << shift;
                prop_assert_eq!(send(&mut w, &message).unwrap(), fits);
                if fits {
                    model.push_back(message);
                }
            } else if let Some(want) = model.pop_front() {
                // In parts: what is left of a message is not the next one.
                let mut got = Vec::new();
                while got.len() < want.len() || got.is_empty() {
                    prop_assert_eq!(r.message().unwrap(), Some(want.len() - got.len()));
                    let mut to = vec![0; part];
                    let n = r.copy(&mut to);
                    got.extend_from_slice(&to[..n]);
                    if want.is_empty() {
                        break;
                    }
                }
                prop_assert_eq!(got, want);
                let _ = r.release();
            } else {
                prop_assert_eq!(r.message().unwrap(), None);
            }
        }
    }
}

#[test]
fn whoever_sleeps_is_woken_once() {
    let (mut w, mut r) = pair(16);
    assert!(may_sleep(r.memory(), Side::Reader, r.seen(), BELL));
    assert_eq!(w.put(b"0123456789"), 10);
    assert_eq!(w.publish(), BELL);
    assert_eq!(w.put(b"abcdef"), 6);
    assert_eq!(w.publish(), 0, "it was woken");
    // Something came meanwhile: no sleep.
    assert!(!may_sleep(r.memory(), Side::Reader, r.seen(), FUTEX));
    r.memory().lower(Note::ReaderSleeps, FUTEX);
    assert_eq!(w.room(1).unwrap(), 0);
    assert!(may_sleep(w.memory(), Side::Writer, w.seen(), FUTEX));
    assert_eq!(r.ready(1).unwrap(), 16);
    r.copy(&mut [0; 7]);
    assert_eq!(r.release(), 0, "less than half is free");
    r.copy(&mut [0; 1]);
    assert_eq!(r.release(), FUTEX);
    assert_eq!(r.release(), 0);
    assert!(may_sleep(w.memory(), Side::Writer, START + 8, BELL));
    assert_eq!(r.leave(ENDED), BELL);
    assert!(!may_sleep(w.memory(), Side::Writer, START + 8, BELL));
    assert!(may_sleep(r.memory(), Side::Reader, r.seen(), BELL | FUTEX));
    assert_eq!(w.end(RESET), BELL | FUTEX);
}

/// Memory whose user dies before one of its steps; each byte that is copied is a step.
struct Dies<'a>(&'a Twin, &'a AtomicUsize);

impl Dies<'_> {
    fn step(&self) {
        match self.1.load(Ordering::Relaxed) {
            0 => resume_unwind(Box::new("dead")),
            n => self.1.store(n - 1, Ordering::Relaxed),
        }
    }
}

impl Memory for Dies<'_> {
    fn size(&self) -> usize {
        self.0.size()
    }
    fn load(&self, place: Place) -> u64 {
        self.step();
        self.0.load(place)
    }
    fn store(&self, place: Place, value: u64) {
        self.step();
        self.0.store(place, value);
    }
    fn note(&self, note: Note) -> u32 {
        self.step();
        self.0.note(note)
    }
    fn set(&self, note: Note, value: u32) {
        self.step();
        self.0.set(note, value);
    }
    fn raise(&self, note: Note, bits: u32) {
        self.step();
        self.0.raise(note, bits);
    }
    fn lower(&self, note: Note, bits: u32) {
        self.step();
        self.0.lower(note, bits);
    }
    fn take(&self, note: Note) -> u32 {
        self.step();
        self.0.take(note)
    }
    fn fence(&self) {
        self.step();
        self.0.fence();
    }
    fn write(&self, at: usize, from: &[u8]) {
        for (i, b) in from.iter().enumerate() {
            self.step();
            self.0.write(at + i, &[*b]);
        }
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        for (i, b) in to.iter_mut().enumerate() {
            self.step();
            self.0.read(at + i, std::slice::from_mut(b));
        }
    }
}

/// Runs `f`, which dies before its step number `at`. Whether it came to its end.
fn dying<T>(left: &AtomicUsize, at: usize, f: impl FnOnce() -> T) -> Option<T> {
    left.store(at, Ordering::Relaxed);
    let r = catch_unwind(AssertUnwindSafe(f)).ok();
    left.store(usize::MAX, Ordering::Relaxed);
    r
}

/// Messages before the one that matters; Miri takes one that wraps.
fn offsets() -> std::ops::Range<usize> {
    if cfg!(miri) { 3..4 } else { 0..8 }
}

#[test]
fn a_writer_that_dies_at_any_step_leaves_whole_messages() {
    let mut points = 0;
    // With every offset, so that messages and headers wrap in all their places; with a reader asleep or not.
    for (before, asleep) in offsets().flat_map(|n| [(n, false), (n, true)]) {
        for at in 0.. {
            let (twin, left) = (Twin::new(64), AtomicUsize::new(usize::MAX));
            let mut w = Writer::new(Dies(&twin, &left));
            let mut r = Reader::new(twin.clone());
            for _ in 0..before {
                assert!(send(&mut w, b"").unwrap());
                assert_eq!(receive(&mut r).unwrap().unwrap(), b"");
            }
            assert!(send(&mut w, b"acknowledged").unwrap());
            if asleep {
                twin.raise(Note::ReaderSleeps, BELL);
            }
            let whole = dying(&left, at, || {
                send(&mut w, b"thirteen long").unwrap();
                w.end(ENDED)
            });
            assert_eq!(receive(&mut r).unwrap().unwrap(), b"acknowledged");
            match receive(&mut r).unwrap() {
                None => assert!(whole.is_none()),
                Some(m) => assert_eq!(m, b"thirteen long"),
            }
            assert_eq!(receive(&mut r).unwrap(), None);
            if whole.is_some() {
                assert_eq!(r.peer(), ENDED);
                break;
            }
            points += 1;
        }
    }
    assert!(points > 400 || cfg!(miri), "{points}");
}

#[test]
fn a_reader_that_dies_at_any_step_lets_the_writer_write_over_nothing_it_holds() {
    let mut points = 0;
    for before in offsets() {
        for at in 0.. {
            let (twin, left) = (Twin::new(64), AtomicUsize::new(usize::MAX));
            let mut w = Writer::new(twin.clone());
            let mut r = Reader::new(Dies(&twin, &left));
            for _ in 0..before {
                assert!(send(&mut w, b"").unwrap());
                receive(&mut r).unwrap();
            }
            assert!(send(&mut w, &[1; 20]).unwrap() && send(&mut w, &[2; 20]).unwrap());
            let whole = dying(&left, at, || (receive(&mut r).unwrap(), r.leave(ENDED)));
            // 32 bytes each: all, or the first message, is still the reader's.
            let room = w.room(64).unwrap();
            assert!(room == 0 || room == 32, "{room}");
            if let Some((m, _)) = whole {
                assert_eq!((m.unwrap(), room, w.peer()), (vec![1; 20], 32, ENDED));
                break;
            }
            points += 1;
        }
    }
    assert!(points > 200 || cfg!(miri), "{points}");
}

/// A peer that writes anything anywhere at any time: errors, or bytes that it could have sent.
#[test]
fn scribbled_words_are_errors_at_most() {
    let flips = if cfg!(miri) { 500 } else { super::flips() };
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut fouls, mut whole, mut streams, mut flipped) = (0, 0, 0, 0);
    while flipped < flips {
        let (message, size) = (random() % 2 == 0, 64);
        let twin = Twin::new(size);
        let (mut w, mut r) = (Writer::new(twin.clone()), Reader::new(twin.clone()));
        for _ in 0..20 {
            flipped += 1;
            let near = [r.seen(), w.seen(), START].map(|p| p.wrapping_add(random() % 9).wrapping_sub(4));
            let value = match random() % 4 {
                0 => 0,
                1 => near[random() as usize % 3],
                2 => random() % 256,
                _ => random(),
            };
            twin.scribble(random() as usize % (6 + size), value);
            let n = random() as usize % 40;
            let result = (|| {
                if message {
                    send(&mut w, &vec![7; n])?;
                    if let Some(m) = receive(&mut r)? {
                        assert!(m.len() <= size);
                        whole += 1;
                    }
                } else {
                    assert!(w.room(n)? <= size);
                    w.put(&vec![7; n]);
                    let _ = w.publish();
                    assert!(r.ready(n)? <= size);
                    streams += r.copy(&mut vec![0; n]);
                    let _ = r.release();
                }
                assert!(w.unread() <= size as u64);
                Ok::<_, Foul>(())
            })();
            if result.is_err() {
                fouls += 1;
                break;
            }
        }
    }
    assert!(fouls > 0 && whole > 0 && streams > 0, "{fouls} {whole} {streams}");
}

#[test]
fn wiped_memory_is_no_valid_ring() {
    let (mut w, mut r) = pair(64);
    assert!(send(&mut w, b"abc").unwrap());
    // A hole is punched: everything is zero.
    (0..6).for_each(|word| r.memory().scribble(word, 0));
    (0..64).for_each(|byte| r.memory().scribble(byte + 64, 0));
    assert!(r.message().is_err() && w.room(64).is_err());
    // The bytes alone.
    let (mut w, mut r) = pair(64);
    assert!(send(&mut w, b"").unwrap());
    (0..64).for_each(|byte| r.memory().scribble(byte + 64, 0));
    assert_eq!(r.message(), Err(Foul("this is no header of a message")));
}

/// Takes out what is there, at most `n` bytes, and leaves it in the ring.
fn keep(r: &mut Reader<Arc<Twin>>, n: usize, most: usize, woken: &Arc<AtomicUsize>) -> Run<Arc<Twin>> {
    r.ready(n).unwrap();
    let (_, run) = r.run(n);
    let woken = woken.clone();
    let kept = r.keep(run, most, false, || {
        Box::new(move |flags| {
            woken.fetch_add(flags as usize, Ordering::Relaxed);
        })
    });
    let _ = r.release();
    kept
}

fn bytes(run: &Run<Arc<Twin>>) -> Vec<u8> {
    let mut to = vec![0; run.len()];
    run.copy_out(0, &mut to);
    to
}

fn put(w: &mut Writer<Arc<Twin>>, from: &[u8]) -> usize {
    w.room(from.len()).unwrap();
    let n = w.put(from);
    let _ = w.publish();
    n
}

#[test]
fn what_is_kept_is_not_written_over_and_its_room_comes_back_in_order() {
    let (mut w, mut r) = pair(16);
    let woken = Arc::default();
    assert_eq!(put(&mut w, b"0123456789abcdef"), 16);
    let (a, b) = (keep(&mut r, 4, 8, &woken), keep(&mut r, 4, 8, &woken));
    assert_eq!((put(&mut w, b"x"), bytes(&a), bytes(&b)), (0, b"0123".to_vec(), b"4567".to_vec()));
    // The younger first: its room is behind the other's.
    drop(b);
    assert_eq!(put(&mut w, b"x"), 0);
    assert!(may_sleep(w.memory(), Side::Writer, w.seen(), BELL));
    assert_eq!(bytes(&a), b"0123");
    drop(a);
    assert_eq!(woken.load(Ordering::Relaxed), BELL as usize, "half the ring is free");
    assert_eq!(put(&mut w, b"ghijklmnop"), 8);
    let mut to = [0; 16];
    assert_eq!((r.ready(16).unwrap(), r.copy(&mut to), &to), (16, 16, b"89abcdefghijklmn"));
}

#[test]
fn whoever_keeps_all_of_it_stops_nobody() {
    let (mut w, mut r) = pair(16);
    let (woken, mut kept, mut sent) = (Arc::default(), Vec::new(), 0u8);
    for _ in 0..50 {
        let n = put(&mut w, &[sent, sent + 1, sent + 2]) as u8;
        assert!(n > 0, "the writer has half the ring at least");
        sent += n;
        kept.push(keep(&mut r, 3, 8, &woken));
    }
    // One that lies across the ring's end comes in two.
    while r.ready(1).unwrap() > 0 {
        kept.push(keep(&mut r, 3, 8, &woken));
    }
    assert!(w.room(16).unwrap() >= 8);
    let _ = r.release_all();
    assert_eq!(w.room(16).unwrap(), 16, "a reader that waits keeps nothing");
    put(&mut w, &[0xff; 16]);
    // They outlive the reader.
    drop(r);
    assert_eq!(kept.iter().flat_map(bytes).collect::<Vec<_>>(), (0..sent).collect::<Vec<_>>());
}

#[test]
fn what_must_not_move_stays_and_its_writer_waits() {
    let (mut w, mut r) = pair(16);
    put(&mut w, b"0123456789abcdef");
    r.ready(4).unwrap();
    let fixed = r.keep(4, 8, true, || Box::new(drop));
    r.ready(12).unwrap();
    r.skip(12);
    let _ = r.release_all();
    assert_eq!((put(&mut w, b"x"), fixed.place().1, bytes(&fixed)), (0, 0, b"0123".to_vec()));
    drop(fixed);
    assert_eq!(put(&mut w, b"ghijklmnopqrstuvw"), 16);
}
