//! Who waits for a socket whose readiness comes as edges. Invariant: an edge that comes while nobody waits
//! is remembered until an attempt made after it finds nothing, so no wake-up is lost; a waiter is handed
//! out once. It makes no system call.

use std::io;

use super::{Waiter, Waiters};
use crate::io::Direction;
use crate::sync::{AtomicU32, Mutex, Ordering, planted};

pub(crate) struct Edges {
    /// Edges that came so far, by direction.
    came: [AtomicU32; 2],
    /// How many had come when an attempt last found nothing. Where that is not all of them, there
    /// may be something again.
    drained: [AtomicU32; 2],
    waiters: Mutex<[Waiters; 2]>,
}

impl Edges {
    pub(crate) fn new() -> Self {
        let waiters = Mutex::new([Waiters::new(), Waiters::new()]);
        Self { came: Default::default(), drained: Default::default(), waiters }
    }

    /// An edge came: hands out those who wait.
    pub(crate) fn edge(&self, direction: Direction, ready: &mut Vec<Waiter>) {
        let mut waiters = self.waiters.lock();
        let waiters = &mut waiters[direction as usize];
        if !planted("an edge is not counted") {
            self.came[if planted("directions are one") { 1 } else { direction as usize }]
                .fetch_add(1, Ordering::AcqRel);
        }
        waiters.move_to(ready);
        if planted("an edge keeps its waiters") {
            ready.iter().for_each(|w| waiters.push(w.clone()));
        }
        if planted("an edge wakes one") {
            ready.drain(ready.len().min(1)..).for_each(|w| waiters.push(w));
        }
    }

    /// Makes an attempt. One that finds nothing has seen to the edges that had come before it, and to
    /// no later ones, whoever else makes attempts meanwhile.
    #[inline]
    pub(crate) fn attempt<T>(&self, direction: Direction, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let (came, drained) = (&self.came[direction as usize], &self.drained[direction as usize]);
        let mut seen = came.load(Ordering::Acquire);
        let r = f();
        if planted("an attempt looks afterwards") {
            seen = came.load(Ordering::Acquire);
        }
        if r.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
            let later = |d: u32| (seen.wrapping_sub(d).cast_signed() > 0).then_some(seen);
            let _ = drained.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
        }
        r
    }

    /// Has `waiter` handed out with the next edge. `false`: there may be something already.
    pub(crate) fn arm(&self, direction: Direction, waiter: Waiter) -> bool {
        let mut waiters = self.waiters.lock();
        let i = direction as usize;
        if self.came[i].load(Ordering::Acquire) != self.drained[i].load(Ordering::Acquire) {
            return false;
        }
        waiters[i].push(waiter);
        true
    }

    /// Takes one waiter away.
    pub(crate) fn disarm(&self, direction: Direction, waiter: &Waiter) {
        let waiters = &mut self.waiters.lock()[direction as usize];
        if planted("a waiter takes all away") {
            *waiters = Waiters::new();
        }
        waiters.remove(waiter);
    }
}
