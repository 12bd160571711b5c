//! What a voyage keeps of itself: who is under way, what was counted, what broke. Invariant: each op is
//! entered when it is submitted and struck out when it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xio_core::reactor::Sim;
use xio_core::{Contact, Engine, Stack};

use super::{Fault, Settings};
use crate::dice::Dice;

/// Broken rules that are kept; more say nothing new.
const KEPT: usize = 20;

pub(super) struct Book {
    pub(super) borders: bool,
    /// Nothing is lost, and everything comes in order.
    pub(super) exact: bool,
    pub(super) half_close: bool,
    /// Longest message.
    pub(super) longest: usize,
    pub(super) cancels: bool,
    pub(super) closes: bool,
    pub(super) bytes_each: usize,
    seed: u64,
    next: AtomicU64,
    ending: AtomicBool,
    under_way: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    bytes: AtomicU64,
    digest: AtomicU64,
    connections: AtomicU64,
    /// Connections that the network drops before they are accepted, whichever those are.
    aborted: AtomicU64,
    peers: Mutex<Vec<Contact>>,
    broken: Mutex<Vec<String>>,
}

impl Book {
    pub(super) fn new(stack: &Stack, settings: &Settings) -> Self {
        let caps = stack.caps();
        Self {
            borders: caps.unit.has_borders(),
            exact: caps.reliable && caps.ordered,
            half_close: caps.half_close,
            longest: caps.max_message.unwrap_or(usize::MAX).min(6000),
            cancels: settings.faults.has(Fault::Cancel),
            closes: settings.faults.has(Fault::Close),
            bytes_each: settings.bytes,
            seed: settings.seed,
            next: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            under_way: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            digest: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            peers: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    /// A seed that no other end has.
    pub(super) fn seed(&self) -> u64 {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        Dice::new(self.seed ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).roll()
    }

    pub(super) fn begin_op(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_op(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ops(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn got(&self, bytes: usize) {
        let all = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mix = |d: u64| Some((d.rotate_left(5) ^ all ^ (self.ops() << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let _ = self.digest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mix);
    }

    /// Fingerprint of what reads got, one after the other.
    pub(super) fn digest(&self) -> u64 {
        self.digest.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_out(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn arrive(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Clients that are not through yet.
    pub(super) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn connected(&self, at: Contact) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let mut peers = lock(&self.peers);
        if peers.len() >= 64 {
            peers.remove(0);
        }
        peers.push(at);
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// One of the last connections, by what tells it from others.
    pub(super) fn someone(&self, dice: &mut Dice) -> Option<Contact> {
        let peers = lock(&self.peers);
        let last = peers.len().min(4);
        peers.get(peers.len() - last + dice.between(0, last)).cloned()
    }

    pub(super) fn abort_one(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on ends come to an end.
    pub(super) fn finish(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    pub(super) fn broke(&self, what: String) {
        let mut broken = lock(&self.broken);
        if broken.len() < KEPT {
            broken.push(what);
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        !lock(&self.broken).is_empty()
    }

    pub(super) fn broken(&self) -> Vec<String> {
        lock(&self.broken).clone()
    }

    /// Looks whether all is as before the voyage.
    pub(super) fn look_back(&self, engine: &Engine, sim: &Sim) {
        let (begun, ended) = (self.begun.load(Ordering::Relaxed), self.ops());
        if begun != ended {
            self.broke(format!("{begun} ops began and {ended} ended"));
        }
        if engine.handles() > 0 {
            self.broke(format!("{} handles are left", engine.handles()));
        }
        if sim.sockets() > 0 {
            self.broke(format!("{} sockets are left", sim.sockets()));
        }
        if engine.next_deadline().is_some() {
            self.broke("a timer is left".into());
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}
