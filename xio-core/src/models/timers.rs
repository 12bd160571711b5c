//! Timers against a reactor that falls asleep: what is set meanwhile is not slept through, and what is taken
//! away does not fire.

use std::sync::Weak;
use std::time::Duration;

use super::bed::Bench;
use super::{join, model, threads};
use crate::engine::shared::Shared;
use crate::engine::timers::{Due, Timers};
use crate::engine::turn;
use crate::op::OpId;
use crate::sync::{Arc, AtomicBool, AtomicU32, Ordering};
use crate::time::Time;

fn at(ns: u64) -> Time {
    Time::from_nanos(ns)
}

fn id(n: u32) -> OpId {
    OpId { slot: n, generation: 1 }
}

/// Turns until so many timers have fired.
fn turn_until(shared: &Arc<Shared>, mut n: usize) {
    while n > 0 {
        n = n.saturating_sub(turn(shared, None));
    }
}

model! {
    /// A timer that is set while the reactor falls asleep fires in its time.
    in all fn a_new_timer_is_not_slept_through() {
        let bench = Bench::new();
        let shared = Arc::new(Shared::new(bench.clone(), false, 1));
        let s = shared.clone();
        let other = threads([Box::new(move || turn_until(&s, 1))]);
        shared.timers.deadline(at(10), Weak::new(), id(1));
        shared.note_timers();
        bench.pass_to(10);
        join(other);
    }
    finds a_sleeper_that_does_not_look_again: "a sleeper does not look again" => "deadlock";
    finds a_timer_that_wakes_nobody: "a new timer wakes nobody" => "deadlock";
}

model! {
    /// Of two threads that set timers, the earlier one counts, though the reactor sleeps until a third.
    in 3 fn the_earliest_of_several_timers_counts() {
        let bench = Bench::new();
        let shared = Arc::new(Shared::new(bench.clone(), false, 1));
        shared.timers.deadline(at(90), Weak::new(), id(3));
        let (s, t) = (shared.clone(), shared.clone());
        let others = threads([
            Box::new(move || turn_until(&s, 2)),
            Box::new(move || {
                t.timers.deadline(at(20), Weak::new(), id(2));
                t.note_timers();
            }),
        ]);
        shared.timers.deadline(at(10), Weak::new(), id(1));
        shared.note_timers();
        bench.pass_to(20);
        join(others);
        assert_eq!(shared.timers.first(), at(90), "the last one is left");
    }
    finds a_timer_that_wakes_nobody: "a new timer wakes nobody" => "deadlock";
}

model! {
    /// A timer is fired by one turn, or taken away before; the time of the first is right in the end.
    in all fn a_timer_is_fired_or_taken_away() {
        let timers = Arc::new(Timers::new());
        let fired = Arc::new(AtomicU32::new(0));
        let key = timers.deadline(at(5), Weak::new(), id(1));
        timers.deadline(at(7), Weak::new(), id(2));
        let pop = |now| {
            let (t, f) = (timers.clone(), fired.clone());
            Box::new(move || {
                if let Some(Due::Deadline(_, id)) = t.pop(at(now)) {
                    f.fetch_add(id.slot, Ordering::Relaxed);
                }
            })
        };
        let others = threads([pop(5), pop(5)]);
        timers.remove(at(5), key);
        join(others);
        assert!(fired.load(Ordering::Relaxed) <= 1, "fired twice");
        assert_eq!(timers.first(), at(7), "the first is not what is first");
    }
    finds a_first_that_is_stale: "a timer that is taken away stays first" => "the first is not what is first";
}

model! {
    /// A repeating timer ends with its guard: whoever knows that the guard has gone does not see it fire.
    in all fn a_timer_does_not_outlive_its_guard() {
        let timers = Arc::new(Timers::new());
        let (alive, gone) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let every = Some(Duration::from_nanos(5));
        let key = timers.level(at(5), every, Weak::new(), 1, 0, alive.clone());
        let (t, g) = (timers.clone(), gone.clone());
        let other = threads([Box::new(move || {
            for now in [5, 10] {
                let knew = g.load(Ordering::Acquire);
                if let Some(Due::Level { alive, .. }) = t.pop(at(now)) {
                    assert!(!knew || !alive.load(Ordering::Relaxed), "fired after its guard");
                }
            }
        })]);
        alive.store(false, Ordering::Relaxed);
        timers.remove(at(5), key);
        gone.store(true, Ordering::Release);
        join(other);
        while timers.pop(at(100)).is_some() {}
        assert_eq!(timers.first(), Time::NEVER, "it goes on");
    }
    finds a_timer_that_goes_on: "a repeating timer goes on" => "it goes on";
}

model! {
    /// An engine's turn that sleeps with a limit of its own still ends with an earlier timer.
    in all fn a_limit_does_not_hide_a_timer() {
        let bench = Bench::new();
        let shared = Arc::new(Shared::new(bench.clone(), false, 1));
        let s = shared.clone();
        let other = threads([Box::new(move || {
            while turn(&s, Some(Duration::from_nanos(50))) == 0 {
                assert!(s.reactor.now() < at(50), "slept past it");
            }
        })]);
        shared.timers.deadline(at(10), Weak::new(), id(1));
        shared.note_timers();
        bench.pass_to(10);
        join(other);
    }
    finds a_sleeper_that_does_not_look_again: "a sleeper does not look again" => "deadlock";
}
