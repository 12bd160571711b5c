//! The `queue` transform: a bounded queue of writes.
//!
//! While a write is on its way the next ones wait here. From `depth` of them or `high` bytes on, those
//! that would rather not wait (callbacks, `no_wait`) get `Busy` with their buffer; the others wait.
//! When the way is free, everything that waits goes down as one op: on a stream the writes become
//! one run of bytes, on messages a batch that the levels below still know as single messages. Writes
//! are joined only where their attrs are equal.
//!
//! A write finishes when the level below has finished it. With `early` it finishes as soon as it is
//! in the queue: the queue then writes behind, in batches of `batch` bytes, and sends what is left
//! after `linger`, on a flush, a shutdown, a close, or when a read goes down. An error of a write
//! behind is reported by the next write, flush, shutdown or orderly close. A write of more than
//! `batch` bytes is not copied: it goes behind those before it, and finishes as without `early`.
//!
//! [`Queued`] asks how much waits.
//!
//! # Contract notes
//! A queued write can be cancelled and timed out at any moment before its batch is on its way; from
//! then on it has its real result, or `TimedOut` while its bytes still go out. Where writes that went down together
//! fail, those that had gone by then are told so, and the others why. Events: `Filled` when the queue rises over
//! `high`, `Drained` when it falls under `low`.

mod cntl;
mod driver;
mod line;
mod options;

pub use cntl::{Amount, Queued};
pub use driver::{Driver, driver};
pub use options::Options;
