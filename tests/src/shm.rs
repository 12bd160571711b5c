//! What the two processes of a shared memory test agree on: numbered messages whose bytes follow from their
//! numbers, and how often a test goes round.

use std::time::Duration;

use xio_core::attr::Size;
use xio_core::{LevelNode, Stack};
use xio_drivers::queue;
use xio_drivers::shm::{Options, driver};

/// Longest message, more than the smallest ring takes in one go as a stream.
const MOST: u64 = 3000;

/// Bytes of the message of this number: its number first.
pub fn length(number: u64) -> usize {
    // Enough of a mixture that lengths do not repeat with the ring's size.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    8 + (mixed % (MOST - 8)) as usize
}

/// The message of this number.
pub fn message(number: u64) -> Vec<u8> {
    let mut m = number.to_le_bytes().to_vec();
    m.resize(length(number), number as u8);
    m
}

/// Whether these bytes are the message of this number, whole.
pub fn is_message(bytes: &[u8], number: u64) -> bool {
    bytes == message(number)
}

/// A stack of `shm` with the smallest ring.
///
/// # Panics
/// Never: it has one level.
pub fn stack(message: bool, spin: bool) -> Stack {
    Stack::new(level(message, spin)).expect("one level fits")
}

/// The same below a queue that joins more messages than the ring has room for.
///
/// # Panics
/// Never: a queue fits over anything.
pub fn queued(message: bool, spin: bool) -> Stack {
    let early = queue::Options::default().with_early(true).with_batch(Size(16 << 10));
    let queue = LevelNode::new(queue::driver()).with_attr(Box::new(early));
    Stack::new(queue.over(level(message, spin))).expect("a queue fits over anything")
}

fn level(message: bool, spin: bool) -> LevelNode {
    let spin = if spin { Duration::from_micros(20) } else { Duration::ZERO };
    let options = Options::default().with_message(message).with_buffer(Size(4096)).with_spin(spin);
    LevelNode::new(driver()).with_attr(Box::new(options))
}

/// How often to go round: what the environment says, or so often.
pub fn rounds(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}
