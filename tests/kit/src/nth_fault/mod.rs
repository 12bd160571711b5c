//! Fails the n-th call of something, for n = 1, 2, 3 … until a run has no fault left. Faults hit what
//! passes between levels ([`Faults::level`]), what is called in a driver ([`Faults::around`]), or the
//! reactor's sockets ([`Faults::reactor`]). Invariant: one run has one fault at most, and runs with
//! equal seeds and equal n fail at the same place.

mod around;
mod level;
mod reactor;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xio_core::driver::OpKind;
use xio_core::{Error, ErrorKind};

use crate::verdict::{Checked, Stop};

/// Most runs of [`every`].
const MAX_RUNS: u64 = 10_000;

/// Stands for every call.
const ALWAYS: u64 = u64::MAX;

/// The text of every error and panic that is made here.
pub const TEXT: &str = "a fault of the test";

/// What happens at the n-th call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An error of this kind.
    Error(ErrorKind),
    /// A panic.
    Panic,
}

/// A plan of one fault, shared by everything that may have it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug)]
struct Plan {
    n: u64,
    calls: u64,
    fault: Fault,
    kinds: Vec<OpKind>,
    armed: bool,
    hit: Option<String>,
}

impl Faults {
    /// A fault at the n-th call, counted from 1; 0: never.
    pub fn new(n: u64, fault: Fault) -> Self {
        Self(Arc::new(Mutex::new(Plan { n, calls: 0, fault, kinds: Vec::new(), armed: true, hit: None })))
    }

    /// A fault at every call.
    pub fn always(fault: Fault) -> Self {
        Self::new(ALWAYS, fault)
    }

    /// Counts calls of these kinds of op alone.
    #[must_use]
    pub fn only(self, kinds: &[OpKind]) -> Self {
        self.lock().kinds = kinds.to_vec();
        self
    }

    /// Counts from now on, or no more.
    pub fn arm(&self, armed: bool) {
        self.lock().armed = armed;
    }

    /// Notes that something else than a call has failed.
    pub fn mark(&self, place: &str) {
        self.lock().hit = Some(place.into());
    }

    /// Whether the fault is a panic.
    pub fn is_panic(&self) -> bool {
        self.lock().fault == Fault::Panic
    }

    /// Where the fault was, if it was.
    pub fn hit(&self) -> Option<String> {
        self.lock().hit.clone()
    }

    /// Counts a call; says whether it is the one to fail.
    ///
    /// # Panics
    /// If it is, and the fault is a panic.
    pub fn call(&self, kind: Option<OpKind>, place: impl FnOnce() -> String) -> Option<Error> {
        let error = {
            let mut plan = self.lock();
            let counts = plan.armed && (plan.kinds.is_empty() || kind.is_some_and(|k| plan.kinds.contains(&k)));
            plan.calls += u64::from(counts);
            if !counts || plan.n != ALWAYS && plan.calls != plan.n {
                return None;
            }
            plan.hit = Some(place());
            plan.fault
        };
        match error {
            Fault::Error(kind) => Some(Error::new(kind).detail(TEXT)),
            // Not by `panic!`: a hook would print a backtrace for each of many.
            Fault::Panic => std::panic::resume_unwind(Box::new(TEXT)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `f` with the fault at the first call, the second and so on, until a run has none. Says how
/// many faults there were.
///
/// # Errors
/// The first failure, with the place of the fault.
pub fn every(fault: Fault, mut f: impl FnMut(&Faults) -> Checked) -> Checked<u64> {
    every_of(|n| Faults::new(n, fault), &mut f)
}

/// The same with plans that `plan` makes.
///
/// # Errors
/// The first failure, with the place of the fault.
pub fn every_of(plan: impl Fn(u64) -> Faults, mut f: impl FnMut(&Faults) -> Checked) -> Checked<u64> {
    for n in 1..=MAX_RUNS {
        let faults = plan(n);
        let result = f(&faults);
        let place = faults.hit();
        result.map_err(|s| s.at(format_args!("fault {n} ({})", place.as_deref().unwrap_or("none came"))))?;
        if place.is_none() {
            return Ok(n - 1);
        }
    }
    Err(Stop::fail(format!("more than {MAX_RUNS} calls in one run")))
}
