//! The ring under loom: what two processes may do to each other in any order of their steps and of what the
//! memory shows. `RUSTFLAGS="--cfg loom" cargo test --release -p xio-drivers --lib shm`. Each model has faults that it must find.

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use xio_core::buffer::Foreign;

use super::memory::Memory;
use super::ring::*;
use super::twin::{Fault, Twin};

/// What wakes an end: a futex or a byte on the socket; either is remembered.
#[derive(Default)]
struct Bell(Mutex<bool>, Condvar);

impl Bell {
    fn ring(&self, flags: u32) {
        if flags != 0 {
            *self.0.lock().unwrap() = true;
            self.1.notify_all();
        }
    }

    fn wait(&self) {
        let mut rung = self.0.lock().unwrap();
        while !std::mem::take(&mut *rung) {
            rung = self.1.wait(rung).unwrap();
        }
    }
}

/// Waits as a level does: says so, looks again, sleeps.
fn sleep(m: &impl Memory, side: Side, seen: u64, bell: &Bell) {
    if may_sleep(m, side, seen, BELL) {
        bell.wait();
    }
}

fn explore(fault: Fault, model: impl Fn(Arc<Twin>) + Sync + Send + 'static, size: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(if std::env::var_os("XIO_DEEP").is_some() { 4 } else { 3 });
    builder.check(move || model(Twin::with(size, fault)));
}

/// More bytes than the ring holds, an end, and both sides asleep in between.
fn stream(twin: Arc<Twin>) {
    const BYTES: u8 = 3;
    let bells = Arc::new([Bell::default(), Bell::default()]);
    let (m, b) = (twin.clone(), bells.clone());
    let writer = thread::spawn(move || {
        let mut w = Writer::new(m);
        for byte in 1..=BYTES {
            while w.room(1).unwrap() == 0 {
                sleep(w.memory(), Side::Writer, w.seen(), &b[1]);
            }
            w.put(&[byte]);
            b[0].ring(w.publish());
        }
        b[0].ring(w.end(ENDED));
    });
    let mut r = Reader::new(twin);
    let mut next = 1;
    loop {
        let over = r.peer();
        if r.ready(1).unwrap() > 0 {
            let mut byte = [0];
            r.copy(&mut byte);
            assert_eq!(byte, [next], "a wrong byte");
            next += 1;
            bells[1].ring(r.release());
        } else if over == ENDED {
            break;
        } else {
            sleep(r.memory(), Side::Reader, r.seen(), &bells[0]);
        }
    }
    assert_eq!(next, BYTES + 1, "bytes before the end are lost");
    writer.join().unwrap();
}

/// A message that wraps, and a writer that leaves behind it.
fn messages(twin: Arc<Twin>) {
    let bells = Arc::new([Bell::default(), Bell::default()]);
    let (m, b) = (twin.clone(), bells.clone());
    let writer = thread::spawn(move || {
        let mut w = Writer::new(m);
        for message in [&b""[..], b"ab"] {
            while w.room(footprint(message.len())).unwrap() < footprint(message.len()) {
                sleep(w.memory(), Side::Writer, w.seen(), &b[1]);
            }
            w.put_message(message.len() as u32, std::iter::once(message));
            b[0].ring(w.publish());
        }
    });
    let mut r = Reader::new(twin);
    for message in [&b""[..], b"ab"] {
        while r.message().expect("a wrong byte").is_none() {
            sleep(r.memory(), Side::Reader, r.seen(), &bells[0]);
        }
        let mut to = [0; 2];
        let n = r.copy(&mut to);
        assert_eq!(&to[..n], message, "a wrong byte");
        bells[1].ring(r.release());
    }
    writer.join().unwrap();
}

/// A reader that leaves a writer who waits.
fn leave(twin: Arc<Twin>) {
    let bell = Arc::new(Bell::default());
    let (m, b) = (twin.clone(), bell.clone());
    let writer = thread::spawn(move || {
        let mut w = Writer::new(m);
        w.put(&[1]);
        let _ = w.publish();
        while w.peer() == OPEN {
            sleep(w.memory(), Side::Writer, w.seen(), &b);
        }
    });
    let r = Reader::new(twin);
    bell.ring(r.leave(ENDED));
    writer.join().unwrap();
}

/// A reader that hands up what lies in the ring, to another thread, which looks at it and lets go of it; a writer that
/// sleeps until there is room.
fn kept(twin: Arc<Twin>) {
    let bells = Arc::new([Bell::default(), Bell::default()]);
    let (m, b) = (twin.clone(), bells.clone());
    let writer = thread::spawn(move || {
        let mut w = Writer::new(m);
        for byte in 1..=3 {
            while w.room(1).unwrap() == 0 {
                sleep(w.memory(), Side::Writer, w.seen(), &b[1]);
            }
            w.put(&[byte]);
            b[0].ring(w.publish());
        }
    });
    let mut r = Reader::new(twin);
    let mut holder = None;
    for next in 1..=3 {
        while r.ready(1).unwrap() == 0 {
            sleep(r.memory(), Side::Reader, r.seen(), &bells[0]);
        }
        if next > 1 {
            let mut byte = [0];
            r.copy(&mut byte);
            assert_eq!(byte, [next], "a wrong byte");
        } else {
            let b = bells.clone();
            let run = r.keep(1, 1, false, || Box::new(move |flags| b[1].ring(flags)));
            holder = Some(thread::spawn(move || {
                let mut byte = [0];
                run.copy_out(0, &mut byte);
                assert_eq!(byte, [1], "a wrong byte");
            }));
        }
        bells[1].ring(r.release());
    }
    holder.unwrap().join().unwrap();
    writer.join().unwrap();
}

#[test]
fn what_is_handed_up_stays_until_it_is_dropped() {
    explore(Fault::None, kept, 2);
}

#[test]
#[should_panic(expected = "a wrong byte")]
fn unordered_positions_are_found_by_what_is_handed_up() {
    explore(Fault::Unordered, kept, 2);
}

#[test]
fn a_stream_arrives_whole() {
    explore(Fault::None, stream, 1);
    explore(Fault::None, stream, 2);
}

#[test]
#[should_panic(expected = "a wrong byte")]
fn unordered_positions_are_found_by_their_bytes() {
    explore(Fault::Unordered, stream, 2);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_missing_fence_is_found_by_a_sleep_without_end() {
    explore(Fault::NoFence, stream, 1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_sleeper_that_nobody_sees_is_found() {
    explore(Fault::NoSleepers, leave, 1);
}

#[test]
fn messages_arrive_whole() {
    explore(Fault::None, messages, 16);
}

#[test]
#[should_panic(expected = "a wrong byte")]
fn unordered_positions_are_found_by_their_messages() {
    explore(Fault::Unordered, messages, 16);
}

#[test]
fn a_reader_that_leaves_wakes_the_writer() {
    explore(Fault::None, leave, 1);
}
