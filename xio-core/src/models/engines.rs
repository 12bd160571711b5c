//! Engines that are woken, stopped and dropped while others use them: nothing is left waiting.

use std::time::Duration;

use super::bed::Bench;
use super::stage::{self, Desk, Fate};
use super::{join, model, threads};
use crate::ErrorKind;
use crate::sync::{Arc, Mutex};

const NOW: Option<Duration> = Some(Duration::ZERO);

model! {
    /// A handle is left to a turn that is about to fall asleep: it is run.
    in all fn what_is_left_to_the_engine_is_run() {
        let (bench, desk) = (Bench::new(), Desk::new(false));
        let engine = stage::engine(&bench, false);
        let handle = stage::at_desk(&engine, &desk);
        let e = engine.clone();
        let other = threads([Box::new(move || while e.turn(None) == 0 {})]);
        engine.shared().inject(handle.0.core.clone());
        join(other);
    }
    finds a_handle_that_wakes_nobody: "a handle is left in silence" => "deadlock";
    finds a_wake_that_is_not_kept: "a wake is for sleepers only" => "deadlock";
}

model! {
    /// A handle is opened while its engine stops: it is refused, or ends with the others.
    in all fn an_open_and_a_stop() {
        let (bench, desk) = (Bench::new(), Desk::new(false));
        let engine = stage::engine(&bench, false);
        let (e, d, read) = (engine.clone(), desk.clone(), Fate::new());
        let f = read.clone();
        let kept = Arc::new(Mutex::new(None));
        let k = kept.clone();
        let other = threads([Box::new(move || match e.open(&stage::desk_stack(&d), ()).wait() {
            Ok(h) => {
                h.read(stage::room()).then(f.of_read());
                *k.lock() = Some(h);
            }
            Err(e) => f.set(Err(e.kind())),
        })]);
        engine.shutdown();
        join(other);
        assert_eq!(read.get(), Err(ErrorKind::Stopped));
    }
    finds an_open_that_does_not_look: "an open does not look for a stop" => "an op never ended";
}

model! {
    /// The last users of an engine with a thread of its own go at once: what was outstanding ends, and so does
    /// the thread.
    in 3 fn the_last_users_of_an_engine() {
        let (bench, desk) = (Bench::new(), Desk::new(false));
        let engine = stage::engine(&bench, true);
        let handle = stage::at_desk(&engine, &desk);
        let read = Fate::new();
        handle.read(stage::room()).then(read.of_read());
        let other = threads([Box::new(move || drop(handle))]);
        drop(engine);
        join(other);
        assert!(matches!(read.get(), Err(ErrorKind::Cancelled | ErrorKind::Stopped)));
    }
    finds a_stop_that_wakes_nobody: "a stop does not wake the reactor" => "deadlock";
}

model! {
    /// A stop of the engine while another thread turns it and a deadline passes.
    in 3 fn a_stop_and_a_turn() {
        let (bench, desk) = (Bench::new(), Desk::new(false));
        let engine = stage::engine(&bench, false);
        let handle = stage::at_desk(&engine, &desk);
        let read = Fate::new();
        handle.read(stage::room()).deadline(Duration::from_nanos(10)).then(read.of_read());
        let (b, e) = (bench.clone(), engine.clone());
        let other = threads([Box::new(move || {
            b.pass_to(10);
            e.turn(NOW);
        })]);
        engine.shutdown();
        assert_eq!(engine.next_deadline(), None, "a timer is left");
        join(other);
        assert!(matches!(read.get(), Err(ErrorKind::Stopped | ErrorKind::TimedOut)));
    }
    finds a_number_that_stays: "an op that ended keeps its number" => "a timer is left";
}
