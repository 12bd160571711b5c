//! Who turns an engine that has no thread of its own, and who sleeps meanwhile: whoever blocks either turns
//! or is woken by the one who does, and nobody's wake-up goes with somebody else's turn.

use super::bed::{Bench, Wire};
use super::{join, model, stage, threads};
use crate::engine::shared::Shared;
use crate::engine::turn_or_wait;
use crate::reactor::Bell;
use crate::sync::{Arc, AtomicBool, Ordering};

/// A blocking caller, and what it waits for.
struct Caller {
    bell: Arc<Bell>,
    done: AtomicBool,
}

impl Caller {
    fn new() -> Arc<Self> {
        Arc::new(Self { bell: Arc::new(Bell::new()), done: AtomicBool::new(false) })
    }

    fn block(&self, shared: &Arc<Shared>) {
        while !self.done.load(Ordering::Acquire) {
            turn_or_wait(shared, &self.bell, None);
        }
    }

    /// As a handle does when it lets its lock go.
    fn finish(&self, shared: &Arc<Shared>) {
        self.done.store(true, Ordering::Release);
        self.bell.ring();
        shared.wake_turner();
    }
}

fn engine() -> Arc<Shared> {
    Arc::new(Shared::new(Bench::new(), false, 1))
}

model! {
    /// One caller turns the engine; what another thread finishes for it ends its sleep.
    in all fn a_turner_hears_that_its_op_is_done() {
        let (shared, caller) = (engine(), Caller::new());
        let (s, c) = (shared.clone(), caller.clone());
        let other = threads([Box::new(move || c.finish(&s))]);
        caller.block(&shared);
        join(other);
    }
    finds a_turner_nobody_wakes: "a turner is not woken" => "deadlock";
    finds a_wake_that_is_not_kept: "a wake is for sleepers only" => "deadlock";
}

model! {
    /// Two callers, of which one turns and the other waits for its bell: both end, whoever is done first.
    in 3 fn two_callers_both_end() {
        let (shared, a, b) = (engine(), Caller::new(), Caller::new());
        let (s, c) = (shared.clone(), a.clone());
        let (t, d) = (shared.clone(), b.clone());
        let others = threads([Box::new(move || c.block(&s)), Box::new(move || d.block(&t))]);
        a.finish(&shared);
        b.finish(&shared);
        join(others);
    }
    finds a_turner_that_sleeps_on_its_own_ring: "a turner trusts the wake-up alone" => "deadlock";
}

model! {
    /// Two blocking reads of one engine: the one that turns it leaves when it has its bytes, and the other
    /// turns on.
    in 3 fn the_turn_goes_over_to_who_still_waits() {
        let bench = Bench::new();
        let engine = stage::engine(&bench, false);
        let wires = [Wire::new(&bench), Wire::new(&bench)];
        let readers = threads(wires.each_ref().map(|w| {
            let h = stage::on_wire(&engine, w);
            Box::new(move || {
                let got = h.read(stage::room()).wait().expect("bytes");
                assert_eq!(&got.buf[..], b"x");
            }) as Box<dyn FnOnce() + Send>
        }));
        wires.iter().for_each(|w| w.arrive(b"x"));
        join(readers);
    }
    finds a_follower_that_does_not_look_again: "a follower does not look again" => "deadlock";
    finds a_turn_that_is_not_offered: "a turn is not offered" => "deadlock";
}
