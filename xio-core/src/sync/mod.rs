//! The only door to locks, atomics, shared queues, thread locals and threads, so that models can swap them. Built with
//! `--cfg loom` or `--cfg shuttle`, the same names come from there. Invariant: no other file of this
//! crate names a lock, an atomic or a thread local, or starts a thread.

#[cfg(any(loom, shuttle))]
mod modelled;

#[cfg(not(any(loom, shuttle)))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
    pub(crate) use std::{thread, thread_local};

    pub(crate) use crossbeam::queue::SegQueue as Queue;
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
}

#[cfg(any(loom, shuttle, planted))]
#[path = "planted.rs"]
mod faults;

#[cfg(not(any(loom, shuttle, planted)))]
mod faults {
    /// Whether a fault of this name is planted, for the proof that it is found. Never in a build for use.
    #[inline(always)]
    pub const fn planted(_: &str) -> bool {
        false
    }

    /// A lock that is taken where this fault is planted.
    #[inline(always)]
    pub(crate) const fn locked(_: &str) -> Option<()> {
        None
    }
}

pub(crate) use self::faults::locked;
pub use self::faults::planted;
#[cfg(any(loom, shuttle))]
pub(crate) use self::modelled::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use self::real::*;

// Counting references is left to the standard library in models, too: they need its weak references.
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;
