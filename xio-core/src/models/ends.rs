//! One op, and all that may end it at once: it ends once, and what it did not take is still there.

use std::time::Duration;

use super::bed::{Bench, Wire};
use super::stage::{self, Desk, Fate};
use super::{join, model, threads};
use crate::ErrorKind;
use crate::driver::OpKind;

const NOW: Option<Duration> = Some(Duration::ZERO);

model! {
    /// A held op is finished, cancelled, late and closed over, all at once.
    in 2 fn a_held_op_ends_once() {
        let (bench, desk) = (Bench::new(), Desk::new(false));
        let engine = stage::engine(&bench, false);
        let handle = stage::at_desk(&engine, &desk);
        let (read, close) = (Fate::new(), Fate::new());
        let ticket = handle.read(stage::room()).deadline(Duration::from_nanos(10)).then(read.of_read());
        let (d, b, e) = (desk.clone(), bench.clone(), engine.clone());
        let others = threads([
            Box::new(move || d.give(b"x")),
            Box::new(move || ticket.cancel()),
            Box::new(move || {
                b.pass_to(10);
                e.turn(NOW);
            }),
        ]);
        handle.close().then(close.of_other());
        join(others);
        engine.turn(NOW);
        close.get().expect("a close");
        match read.get() {
            Ok(bytes) => assert_eq!((&bytes[..], desk.left()), (&b"x"[..], 0)),
            Err(ErrorKind::Cancelled | ErrorKind::TimedOut) => assert_eq!(desk.left(), 1, "bytes were lost"),
            Err(e) => panic!("{e:?}"),
        }
        assert_eq!(handle.outstanding(), (0, 0));
    }
    finds a_number_that_stays: "an op that ended keeps its number" => "an op never ended";
}

model! {
    /// The same with an op that waits for its socket, which has bytes at last.
    in 3 fn an_armed_op_ends_once() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let (read, close) = (Fate::new(), Fate::new());
        let ticket = handle.read(stage::room()).then(read.of_read());
        let (w, e) = (wire.clone(), engine.clone());
        let others = threads([
            Box::new(move || {
                w.arrive(b"x");
                e.turn(NOW);
            }),
            Box::new(move || ticket.cancel()),
        ]);
        handle.close().then(close.of_other());
        join(others);
        engine.turn(NOW);
        close.get().expect("a close");
        match read.get() {
            Ok(bytes) => assert_eq!((&bytes[..], wire.unread()), (&b"x"[..], 0)),
            Err(ErrorKind::Cancelled) => assert_eq!(wire.unread(), 1, "bytes were lost"),
            Err(e) => panic!("{e:?}"),
        }
    }
    finds a_number_that_stays: "an op that ended keeps its number" => "an op never ended";
}

model! {
    /// A cancel that comes while another thread makes an attempt holds when the attempt finds nothing.
    in all fn a_cancel_reaches_an_op_that_is_out() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let read = Fate::new();
        let ticket = handle.read(stage::room()).then(read.of_read());
        let (w, e) = (wire.clone(), engine.clone());
        let other = threads([Box::new(move || {
            w.arrive(b"");
            e.turn(NOW);
        })]);
        ticket.cancel();
        join(other);
        assert_eq!(read.get(), Err(ErrorKind::Cancelled));
    }
    finds a_cancel_that_stops_nothing: "a cancel stops nothing" => "an op never ended";
    finds a_cancel_that_is_lost: "a cancel of an op that is out is lost" => "an op never ended";
}

model! {
    /// The ticket and the timer of an op that has ended do nothing to the next one, which has its place.
    in 2 fn a_number_of_the_past_reaches_nobody() {
        let (bench, desk) = (Bench::new(), Desk::new(false));
        let engine = stage::engine(&bench, false);
        let handle = stage::at_desk(&engine, &desk);
        let (first, second) = (Fate::new(), Fate::new());
        let ticket = handle.read(stage::room()).deadline(Duration::from_nanos(10)).then(first.of_read());
        let (b, e) = (bench.clone(), engine.clone());
        let others = threads([
            Box::new(move || ticket.cancel()),
            Box::new(move || {
                b.pass_to(10);
                e.turn(NOW);
            }),
        ]);
        desk.give(b"1");
        let had = first.is_set();
        handle.read(stage::room()).then(second.of_read());
        join(others);
        desk.give(b"2");
        if had && first.get().is_ok() {
            assert_eq!(second.get().expect("the second read")[..], b"2"[..]);
        }
    }
    finds a_number_without_its_time: "a number has no generation" => "the second read";
}

model! {
    /// A token that is used on one thread while its handle goes on another ends its op once, too.
    in all fn a_token_and_the_end_of_its_handle() {
        let (bench, desk) = (Bench::new(), Desk::new(true));
        let engine = stage::engine(&bench, false);
        let handle = stage::at_desk(&engine, &desk);
        let read = Fate::new();
        handle.read(stage::room()).then(read.of_read());
        let held = desk.first().expect("a token");
        let other = threads([Box::new(move || held.fail(ErrorKind::Reset))]);
        handle.cancel_all(&[OpKind::Read]);
        drop(handle);
        join(other);
        assert_eq!(read.get(), Err(ErrorKind::Reset));
        assert_eq!(engine.handles(), 0, "a handle is left");
    }
    finds a_last_user_nobody_cares_for: "the last user is not noticed" => "a handle is left";
}

model! {
    /// A blocking read and a close: the read ends, whether it was about to start, to try or to sleep.
    in 2 fn a_close_ends_a_blocking_read() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, true);
        let handle = stage::on_wire(&engine, &wire);
        let reader = handle.clone();
        let other = threads([Box::new(move || {
            let e = reader.read(stage::room()).wait().expect_err("nothing comes");
            assert!(matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Closed), "{e}");
        })]);
        handle.close().wait().expect("a close");
        join(other);
    }
    finds a_caller_that_does_not_look: "a caller listens without a look" => "deadlock";
}

model! {
    /// A blocking read whose time passes while it tries, falls asleep or sleeps ends late, and leaves what
    /// comes afterwards to the next.
    in 2 fn a_blocking_read_ends_when_it_is_late() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, true);
        let handle = stage::on_wire(&engine, &wire);
        let (w, b) = (wire.clone(), bench.clone());
        let other = threads([Box::new(move || {
            b.pass_to(10);
            w.arrive(b"x");
        })]);
        // It may begin after that, and be on time.
        match handle.read(stage::room()).deadline(Duration::from_nanos(10)).wait() {
            Ok(d) => assert_eq!(&d.buf[..], b"x"),
            Err(e) => {
                assert_eq!((e.kind(), e.back.n), (ErrorKind::TimedOut, 0));
                let next = handle.read(stage::room()).wait().expect("the next read");
                assert_eq!(&next.buf[..], b"x");
            }
        }
        join(other);
    }
    finds a_late_caller_that_tries_for_ever: "a late caller tries for ever" => "maximum number of branches";
}
