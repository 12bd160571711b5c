//! What threads may do to each other, explored by loom: every order of their steps, up to a number of
//! preemptions. Each model is a test that must hold, and beside it one for each fault that can be planted in
//! the engine, which the model must find. Invariant: the code under a model is the engine's own.
//!
//! `.ci/models` runs them; with `--deep` each goes one preemption further. Loom takes none of the choices
//! that cost no preemption once its bound is used up, so that a bound of 3 is about what others call 2.
//! What is not seen: orders of reference counts, which stay the standard library's, and anything inside a
//! system call.

mod bed;
mod bell;
mod calls;
mod edges;
mod ends;
mod engines;
mod pairs;
mod pool;
mod reads;
mod stage;
mod timers;
mod tries;
mod turns;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::sync::thread;

/// Steps of one execution that are more than any model needs: one that never ends is a fault too.
const MOST_STEPS: usize = 10_000;

/// Runs a model in all its orders, or in all with so many preemptions.
fn explore(name: &str, bound: Option<usize>, model: fn()) {
    let further = usize::from(std::env::var_os("XIO_DEEP").is_some());
    let mut builder = loom::model::Builder::new();
    builder.max_branches = MOST_STEPS;
    builder.preemption_bound = bound.map(|b| b + further);
    let (orders, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let count = orders.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        join(threads([Box::new(model)]));
    });
    let orders = orders.load(Ordering::Relaxed);
    println!("{name}: {orders} orders, bound {:?}, {:.2?}", builder.preemption_bound, began.elapsed());
    assert!(orders > 1, "a model of one order shows nothing");
}

/// Runs a test of this program again in a process with a fault planted; it must fail, and say so. A process
/// of its own, since a model that fails in the middle of the engine leaves nothing that could be used.
fn must_find(test: &str, fault: &str, sign: &str) {
    let test = test.split_once("::").map_or(test, |(_, path)| path);
    let me = std::env::current_exe().expect("the path of this program");
    let run = Command::new(me).args(["--exact", test, "--nocapture"]).env("XIO_PLANTED", fault).output();
    let run = run.expect("to run this program again");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("running 1 test"), "there is no test `{test}`: {said}");
    assert!(!run.status.success(), "`{fault}` was not found");
    assert!(said.contains(sign), "`{fault}` was found by another sign than `{sign}`:\n{said}");
}

/// A model, how many preemptions it needs (`all`: no limit), and the faults that it finds, each with what it
/// says then.
macro_rules! model {
    (
        $(#[doc = $doc:literal])+
        in $reach:tt fn $name:ident() $body:block
        $(finds $test:ident: $fault:literal => $sign:literal;)*
    ) => {
        $(#[doc = $doc])+
        mod $name {
            use super::*;

            fn model() $body

            #[test]
            fn holds() {
                $crate::models::explore(module_path!(), $crate::models::bound!($reach), model);
            }

            $(#[test]
            fn $test() {
                $crate::models::must_find(concat!(module_path!(), "::holds"), $fault, $sign);
            })*
        }
    };
}
pub(crate) use model;

macro_rules! bound {
    (all) => {
        None
    };
    ($n:literal) => {
        Some($n)
    };
}
pub(crate) use bound;

/// Threads of a model, each run to its end.
fn threads<const N: usize>(bodies: [Box<dyn FnOnce() + Send>; N]) -> [thread::JoinHandle<()>; N] {
    bodies.map(|f| thread::Builder::new().spawn(f).expect("a thread of a model"))
}

/// Waits for all of them.
fn join<const N: usize>(threads: [thread::JoinHandle<()>; N]) {
    threads.into_iter().for_each(|t| t.join().expect("a thread of a model"));
}
