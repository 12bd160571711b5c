//! What can be set on a `queue` level.

use std::time::Duration;

use xio_core::attr::Size;
use xio_core::schema::ValueKind;
use xio_core::{Error, ErrorKind};

xio_core::options! {
    /// Options of the `queue` driver.
    pub struct Options for "queue" {
        /// Writes that wait before more are refused to those who do not wait.
        depth, with_depth: u32 = 1024, ValueKind::Int { min: 1, max: 1_048_576 }, runtime;
        /// The same in bytes; one write may be larger.
        high, with_high: Size = Size(1 << 20), ValueKind::Size { min: 1, max: 1 << 40 }, runtime;
        /// The queue counts as drained under this many bytes.
        low, with_low: Size = Size(256 << 10), ValueKind::ANY_SIZE, runtime;
        /// Finish writes as soon as they are in the queue.
        early, with_early: bool = false, ValueKind::Bool;
        /// Bytes of writes that go down together.
        batch, with_batch: Size = Size(32 << 10), ValueKind::Size { min: 1, max: 1 << 30 };
        /// With `early`: how long a batch that is not full may wait.
        linger, with_linger: Duration = Duration::from_micros(200), ValueKind::Duration { max: Duration::from_secs(3600) };
        check check_options;
    }
}

fn check_options(o: &Options) -> Result<(), Error> {
    if o.low.0 > o.high.0 {
        return Err(Error::new(ErrorKind::InvalidInput).detail("`low` is above `high`"));
    }
    Ok(())
}
