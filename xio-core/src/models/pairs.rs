//! Handles that have to do with each other, and ops that wait in line: nobody waits for somebody who waits
//! for him.

use super::bed::{Bench, Wire};
use super::stage::{self, Desk, Fate};
use super::{join, model, threads};
use crate::sync::Arc;

model! {
    /// Two handles whose levels answer each other's reads, each under its own lock, at the same time.
    in all fn handles_that_answer_each_other() {
        let bench = Bench::new();
        let engine = stage::engine(&bench, false);
        let (a, b) = Desk::pair();
        let handles = [stage::at_desk(&engine, &a), stage::at_desk(&engine, &b)];
        let reads = [Fate::new(), Fate::new()];
        for (h, f) in handles.iter().zip(&reads) {
            h.read(stage::room()).then(f.of_read());
        }
        let h = handles[0].clone();
        let other = threads([Box::new(move || drop(h.write(&b"0"[..]).then(|r| drop(r.expect("a write")))))]);
        handles[1].write(&b"1"[..]).then(|r| drop(r.expect("a write")));
        join(other);
        assert_eq!(reads[0].get().expect("what the other wrote")[..], b"1"[..]);
        assert_eq!(reads[1].get().expect("what the other wrote")[..], b"0"[..]);
    }
    finds a_lock_inside_a_lock: "a token is used at once" => "one handle's lock at a time";
}

model! {
    /// A handle with room for one write, and three writers: those in line get their turn, whoever ends when.
    in 2 fn a_line_moves_on() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire_with(&engine, &wire, 1);
        let write = |text: &'static [u8]| {
            let h = handle.clone();
            Box::new(move || drop(h.write(text).wait().expect("a write")))
        };
        let others = threads([write(b"a"), write(b"b")]);
        wire.drain(3);
        handle.write(&b"c"[..]).wait().expect("a write");
        join(others);
        let mut sent = wire.sent();
        sent.sort_unstable();
        assert_eq!(sent, b"abc");
    }
    finds a_line_that_stands: "what waits in line is not let in" => "deadlock";
}

model! {
    /// Two closes of one handle at once: one closes it, the other hears that it is closed or being closed.
    in all fn two_closes_both_end() {
        let (bench, desk) = (Bench::new(), Desk::new(true));
        let engine = stage::engine(&bench, false);
        let handle = stage::at_desk(&engine, &desk);
        // Its level does not let it go, so that a close waits.
        handle.read(stage::room()).then(drop);
        let closes = [Fate::new(), Fate::new()];
        let (h, f) = (handle.clone(), Arc::clone(&closes[0]));
        let other = threads([Box::new(move || drop(h.close().then(f.of_other())))]);
        handle.close().then(closes[1].of_other());
        join(other);
        desk.give(b"x");
        let ends = closes.each_ref().map(|c| c.get());
        assert_eq!(ends.iter().filter(|e| e.is_ok()).count(), 1, "closed by {ends:?}");
    }
    finds a_second_close: "a close does not know of the first" => "closed by";
}
