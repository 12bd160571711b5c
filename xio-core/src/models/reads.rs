//! Several reads of one handle: what ends the stream ends all of them, and what came for one that has gone is
//! for the next, in order.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::bed::{Bench, Wire};
use super::stage::{self, Desk, Fate};
use super::{join, model, threads};
use crate::{ErrorKind, Handle, OpFuture, op};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// A read under way.
fn read(h: &Handle) -> OpFuture<op::Read> {
    let mut f = h.read(stage::room()).into_future();
    assert!(poll(&mut f).is_none(), "nothing is there yet");
    f
}

fn poll(f: &mut OpFuture<op::Read>) -> Option<<OpFuture<op::Read> as Future>::Output> {
    match pin!(f).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(r) => Some(r),
        Poll::Pending => None,
    }
}

model! {
    /// The end of the stream comes while reads wait, and one more begins: all of them see it.
    in all fn the_end_of_the_stream_is_for_all_reads() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let fates = [Fate::new(), Fate::new(), Fate::new()];
        handle.read(stage::room()).then(fates[0].of_read());
        handle.read(stage::room()).then(fates[1].of_read());
        let (w, e) = (wire.clone(), engine.clone());
        let other = threads([Box::new(move || {
            w.end();
            e.turn(NOW);
        })]);
        handle.read(stage::room()).then(fates[2].of_read());
        join(other);
        engine.turn(NOW);
        for f in fates {
            assert_eq!(f.get(), Err(ErrorKind::Eof));
        }
    }
    finds a_gate_that_stays_shut: "a gate that opens lets nobody in" => "an op never ended";
}

model! {
    /// A read is dropped while its bytes come: the read after it has them.
    in all fn what_came_for_a_dropped_read_is_for_the_next() {
        let (bench, desk) = (Bench::new(), Desk::new(false));
        let engine = stage::engine(&bench, false);
        let handle = stage::at_desk(&engine, &desk);
        let (first, second) = (read(&handle), Fate::new());
        handle.read(stage::room()).then(second.of_read());
        let d = desk.clone();
        let other = threads([Box::new(move || d.give(b"x"))]);
        drop(first);
        join(other);
        assert_eq!(second.get().expect("the bytes")[..], b"x"[..]);
    }
    finds bytes_that_go_with_their_read: "bytes go with a dropped read" => "an op never ended";
}

model! {
    /// The same while another thread makes the dropped read's attempt.
    in all fn a_read_is_dropped_while_it_is_out() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let (first, second) = (read(&handle), Fate::new());
        handle.read(stage::room()).then(second.of_read());
        let (w, e) = (wire.clone(), engine.clone());
        let other = threads([Box::new(move || {
            w.arrive(b"x");
            e.turn(NOW);
        })]);
        drop(first);
        join(other);
        engine.turn(NOW);
        assert_eq!(second.get().expect("the bytes")[..], b"x"[..]);
    }
    finds a_desertion_that_is_forgotten: "a desertion is forgotten" => "an op never ended";
}

model! {
    /// Bytes in two parts, of which the first may fall back from a dropped read: the next has both in order.
    in 5 fn bytes_that_fall_back_keep_their_place() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let (first, second) = (read(&handle), Fate::new());
        handle.read(stage::room()).wait_for(2).then(second.of_read());
        let (w, e) = (wire.clone(), engine.clone());
        let other = threads([Box::new(move || {
            for part in [b"a", b"b"] {
                w.arrive(part);
                e.turn(NOW);
            }
        })]);
        drop(first);
        join(other);
        engine.turn(NOW);
        assert_eq!(second.get().expect("the bytes")[..], b"ab"[..]);
    }
    finds reads_that_are_not_called_back: "reads are not called back" => "an op never ended";
}

model! {
    /// Bytes fall back while another read is at the socket and has the bytes after them in hand: it starts
    /// again behind them.
    in all fn a_try_goes_back_behind_what_fell_back() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let first = read(&handle);
        wire.arrive(b"a");
        engine.turn(NOW);
        // The first read is finished, and nobody has fetched it.
        wire.arrive(b"b");
        wire.hold_back();
        let (h, w) = (handle.clone(), wire.clone());
        let other = threads([Box::new(move || {
            let second = h.read(stage::room()).wait().expect("bytes").buf;
            let rest = if second.len() < 2 { h.read(stage::room()).wait().expect("bytes").buf } else { stage::room() };
            assert_eq!([&second[..], &rest[..]].concat(), b"ab", "out of order");
        })]);
        drop(first);
        w.let_go();
        join(other);
    }
    finds a_try_that_overtakes: "a try does not go back" => "out of order";
}
