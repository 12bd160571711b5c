//! Finds what outlives its time: memory by weak references, descriptors and threads of the process by
//! counting. Invariant: a canary keeps nothing alive; its bird does.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

/// What a driver is given to hold. Alive as long as any clone or slice of it is.
#[derive(Clone, Debug)]
pub struct Bird(Arc<()>);

/// Knows whether a [`Bird`] is still about.
#[derive(Clone, Debug, Default)]
pub struct Canary(Weak<()>);

impl Canary {
    /// A bird and the one who watches it.
    pub fn new() -> (Bird, Self) {
        let bird = Bird(Arc::new(()));
        let canary = Self(Arc::downgrade(&bird.0));
        (bird, canary)
    }

    /// Bytes that carry a bird: it lives until the last owner of the memory lets go.
    pub fn bytes(data: Vec<u8>) -> (Bytes, Self) {
        struct Owner(Vec<u8>, #[allow(dead_code, reason = "held for its drop")] Bird);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let (bird, canary) = Self::new();
        (Bytes::from_owner(Owner(data, bird)), canary)
    }

    /// Whether somebody still holds the bird.
    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Many canaries.
#[derive(Clone, Debug, Default)]
pub struct Nest(Arc<Mutex<Vec<Canary>>>);

impl Nest {
    /// Watches one more.
    pub fn add(&self, canary: Canary) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(canary);
    }

    /// Bytes whose memory is watched.
    pub fn bytes(&self, data: Vec<u8>) -> Bytes {
        let (bytes, canary) = Canary::bytes(data);
        self.add(canary);
        bytes
    }

    /// How many birds are still about, of those that there ever were.
    pub fn alive(&self) -> (usize, usize) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (all.iter().filter(|c| c.is_alive()).count(), all.len())
    }
}

/// What the process has open; `None` where the system does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// File descriptors.
    pub fds: Option<usize>,
    /// Threads.
    pub threads: Option<usize>,
}

impl Census {
    /// Counts now. Other tests of the same process count too: of use only where one runs alone.
    pub fn take() -> Self {
        let count = |dir: &str| std::fs::read_dir(dir).ok().map(Iterator::count);
        Self { fds: count("/proc/self/fd"), threads: count("/proc/self/task") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_keeps_the_bird_alive() {
        let (bytes, canary) = Canary::bytes(vec![1, 2, 3]);
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert!(canary.is_alive());
        drop(slice);
        assert!(!canary.is_alive());
        assert!(Census::take().threads.is_none_or(|n| n > 0));
    }
}
