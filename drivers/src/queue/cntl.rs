//! What a `queue` level can be asked.

use xio_core::cntl::Command;

/// Asks a queue what it holds: what has come to it and not gone down yet.
///
/// ```
/// use xio_core::{Engine, LevelNode, Stack};
/// use xio_drivers::{queue, void};
///
/// let node = LevelNode::new(queue::driver()).over(LevelNode::new(void::driver()));
/// let handle = Engine::new()?.open(&Stack::new(node).unwrap(), ()).wait()?;
/// assert_eq!(handle.query(queue::Queued)?.bytes, 0);
/// # Ok::<(), xio_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Queued;

impl Command for Queued {
    type Reply = Amount;
    const NAME: &'static str = "Queued";
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Amount {
    /// Writes that wait, their owners with them; `depth` is about these.
    pub writes: usize,
    /// Bytes in all; `high` and `low` are about these.
    pub bytes: usize,
    /// How many of them are written behind (`early`): their owners have been told.
    pub behind: usize,
}
