//! Scripts of ops over random trees of levels, against the model of [`xio_tests::trees`]: reads and writes
//! with deadlines, cancels, flushes, shutdowns, peers that go, closes.

use xio_tests::trees;

use crate::Target;
use crate::input::Input;

pub(crate) const TARGET: Target = Target {
    name: "ops",
    body: run,
    covers: &["xio-core/src/engine/core.rs", "drivers/src/loop_/pipe.rs"],
    fault: "the rest of a message waits its turn",
};

/// The first byte is the network's seed, the others say which program runs over it.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = u64::from(input.byte());
    trees::simulated(&trees::drawn(&mut |n| input.below(n)), seed);
}
