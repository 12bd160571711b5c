//! The `frame` transform: length-delimited messages over a reliable stream.
//!
//! # Wire format
//! Each message is its length as an unsigned big-endian number of `header` bytes (1, 2, 4 or 8),
//! then that many bytes. The length does not count the header. A message of length 0 is a message.
//!
//! # Limits
//! A length above `max` is a protocol error: the read fails, and so does every read after it, for
//! there is no way to find the next border. Nothing is ever allocated from a length alone; memory
//! grows with the bytes that arrived, at most 64 KiB ahead of them.
//!
//! # Contract notes
//! One write is one message. A read gets one message; if it does not fit, the read fails with
//! `Truncated{len}`, the buffer holds the first part, and the next read gets the rest. A stream that
//! ends inside a message is `UnexpectedEof`. A cancelled read loses nothing: what had arrived is the
//! start of the next.

mod driver;
mod options;

pub use driver::{Driver, driver};
pub use options::Options;
