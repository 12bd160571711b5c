//! A read or write that is tried before it has a number: whoever cancels, closes, flushes or writes
//! meanwhile finds it all the same.

use std::time::Duration;

use super::bed::{Bench, Wire};
use super::stage::{self, Fate};
use super::{join, model, threads};
use crate::ErrorKind;
use crate::driver::OpKind;

const NOW: Option<Duration> = Some(Duration::ZERO);

model! {
    /// All reads are cancelled while one is tried: it ends when the attempt finds nothing. A cancel before
    /// it began is none of its business, so that there is one more in the end.
    in all fn a_cancel_of_all_finds_a_try() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let read = Fate::new();
        let (h, f) = (handle.clone(), read.clone());
        wire.hold_back();
        let other = threads([Box::new(move || drop(h.read(stage::room()).then(f.of_read())))]);
        wire.wait_for_visit();
        handle.cancel_all(&[OpKind::Read]);
        wire.let_go();
        join(other);
        assert_eq!(read.get(), Err(ErrorKind::Cancelled));
    }
    finds a_stop_that_is_lost: "a stop of a try is lost" => "an op never ended";
}

model! {
    /// A close with a try under way waits for it, and neither is lost.
    in all fn a_close_waits_for_a_try() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let (write, close) = (Fate::new(), Fate::new());
        let (h, f) = (handle.clone(), write.clone());
        wire.drain(9);
        let other = threads([Box::new(move || {
            let done = f.of_other();
            h.write(&b"x"[..]).then(move |r| done(r.map(drop).map_err(|e| e.error)));
        })]);
        handle.close().then(close.of_other());
        join(other);
        close.get().expect("a close");
        let sent = wire.sent().len();
        assert!(matches!((write.get(), sent), (Ok(_), 1) | (Err(ErrorKind::Closed), 0)));
    }
    finds a_try_that_ends_in_silence: "a try ends in silence" => "an op never ended";
}

model! {
    /// A level is closed only when no try is at it.
    in all fn no_level_is_closed_under_a_try() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        wire.arrive(b"x");
        let (read, close) = (Fate::new(), Fate::new());
        let (h, f) = (handle.clone(), read.clone());
        wire.hold_back();
        let other = threads([Box::new(move || drop(h.read(stage::room()).then(f.of_read())))]);
        wire.wait_for_visit();
        handle.close().then(close.of_other());
        assert!(!close.is_set(), "closed under a try");
        wire.let_go();
        join(other);
        close.get().expect("a close");
        read.get().expect("what it had in hand");
    }
    finds a_barrier_that_sees_no_try: "a barrier sees no try" => "closed under a try";
}

model! {
    /// Two writes of several parts, and a socket that takes a byte or two at a time: none gets in between.
    in 3 fn writes_do_not_mix() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let write = |text: &'static [u8]| {
            let h = handle.clone();
            Box::new(move || drop(h.write(text).then(|r| drop(r.expect("a write")))))
        };
        let others = threads([write(b"abc"), write(b"xyz")]);
        wire.drain(1);
        engine.turn(NOW);
        join(others);
        wire.drain(9);
        engine.turn(NOW);
        let sent = wire.sent();
        assert!(sent == b"abcxyz" || sent == b"xyzabc", "mixed: {}", String::from_utf8_lossy(&sent));
    }
    finds a_gate_that_sees_no_try: "a gate sees no try" => "mixed";
}

model! {
    /// A flush that begins while a write is tried ends after it, and ends.
    in all fn a_flush_waits_for_a_try() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let flush = Fate::new();
        let h = handle.clone();
        wire.drain(9);
        wire.hold_back();
        let other = threads([Box::new(move || drop(h.write(&b"x"[..]).then(|r| drop(r.expect("a write")))))]);
        wire.wait_for_visit();
        handle.flush().then(flush.of_other());
        let early = flush.is_set();
        wire.let_go();
        join(other);
        assert!(!early, "flushed before the write was out");
        flush.get().expect("a flush");
    }
    finds a_flush_that_sees_no_try: "a flush sees no try" => "flushed before";
    finds a_try_that_ends_in_silence: "a try ends in silence" => "an op never ended";
}
