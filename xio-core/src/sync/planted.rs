//! Faults that tests plant in the engine, to show that they would be found. Invariant: a build that is
//! shipped has none; there `planted` is a constant, and what it stands beside costs nothing.

use std::sync::LazyLock;

use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

/// Whether a fault of this name is planted: that is what the environment says, since a process that has a
/// fault is good for nothing else.
pub fn planted(name: &str) -> bool {
    static PLANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("XIO_PLANTED").ok());
    PLANTED.as_deref() == Some(name)
}

/// A lock of the whole process, taken where this fault is planted; its thread may take it again.
pub(crate) fn locked(name: &str) -> Option<ReentrantMutexGuard<'static, ()>> {
    static LOCK: ReentrantMutex<()> = ReentrantMutex::new(());
    planted(name).then(|| LOCK.lock())
}
