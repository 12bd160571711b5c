//! One fault a run: the n-th call of a driver fails or panics, or the n-th system call fails, for every n
//! until a run has none left; over shipped stacks and everything a handle can do. Each run ends, leaves
//! nothing behind, and says what went wrong where. More stacks, networks and faults with `XIO_SEEDS`.
//!
//! Fallible allocations are those that a message sizes: what `frame` gathers of one that is longer than a
//! block and than its reader's room, what `void` makes. All others are bounded by a named limit, by a
//! buffer of the user's, or by bytes that have arrived; where there is no memory for these the process
//! ends, as with `Vec`.

mod judge;
mod play;
mod scene;

use std::time::Instant;

use xio_core::ErrorKind;
use xio_testkit::budget::Budget;
use xio_testkit::nth_fault::Fault;

use self::judge::{Case, Seam, Sum};

/// What is left of each run is counted with it.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

/// Runs every scenario over every stack.
fn all(what: &str, seam: Seam, faults: &[Fault], least: u64) {
    let began = Instant::now();
    let mut sum = Sum::default();
    for seed in 1..=seeds() {
        let (scenarios, share) = match seam {
            Seam::Memory => (play::LARGE, 1),
            _ => (play::SCENARIOS, SHARE),
        };
        let all = scene::STACKS.iter().flat_map(|spec| scenarios.iter().map(move |s| (spec, s)));
        // What `queue` gathers to write it behind is not tried for, nor is a list of small parts, which is as
        // long as they are many.
        let tries = |spec: &str| !spec.contains("early") && !spec.contains("buffer=64B");
        let all = all.filter(|(spec, _)| seam != Seam::Memory || tries(spec));
        for (spec, scenario) in all.step_by(share) {
            for fault in faults {
                sum.add(Case { spec, scenario, seam, fault: *fault, seed });
            }
        }
    }
    println!("{what}: {sum} in {:?}", began.elapsed());
    sum.check(least);
}

/// In a build that is not made for speed, of so many scenarios one is played.
const SHARE: usize = if cfg!(debug_assertions) { 7 } else { 1 };

/// Networks that each scenario runs on; more with `XIO_SEEDS`.
fn seeds() -> u64 {
    let more = std::env::var("XIO_SEEDS").ok().and_then(|n| n.parse::<u64>().ok());
    let least = if cfg!(debug_assertions) { 1 } else { 2 };
    more.map_or(least, |n| (n / 1000).clamp(least, 20))
}

#[test]
fn every_call_of_a_driver_fails_once() {
    all("calls that fail", Seam::Call, &[Fault::Error(ErrorKind::Unreachable)], 1000);
}

#[test]
fn every_call_of_a_driver_panics_once() {
    all("calls that panic", Seam::Call, &[Fault::Panic], 1000);
}

#[test]
fn every_system_call_fails_once() {
    let faults = [ErrorKind::Unreachable, ErrorKind::Exhausted, ErrorKind::Reset, ErrorKind::Busy].map(Fault::Error);
    all("system calls that fail", Seam::System, &faults, 1000);
}

#[test]
fn every_allocation_that_may_fail_fails_once() {
    all("allocations that fail", Seam::Memory, &[Fault::Error(ErrorKind::Exhausted)], 1);
}
