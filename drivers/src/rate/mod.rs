//! The `rate` transform: a token bucket for each direction.
//!
//! A bucket holds `burst` bytes and is full at the start; it fills with `limit` bytes a second. What
//! passes takes its bytes out. Bytes are counted as they pass this level: above `frame` those of the
//! messages, below it those of the headers too. Without a limit a direction is not slowed down; with
//! `SetOption` one can be set, changed and, by setting it high, lifted while the level is open.
//!
//! # On a stream
//! A write that is longer than what the bucket holds goes in parts, none of them shorter than 10 ms
//! of the limit if that fits the bucket. A read gets at most what the bucket holds.
//!
//! # On messages
//! A message is never cut. A write waits until the bucket holds all of it, or is full where it is
//! longer than the bucket, which then owes the rest. A read waits until the bucket owes nothing; what it
//! brings is taken out afterwards.
//!
//! Over any time `t` no more than `burst + limit * t` bytes pass, on messages one message more, and a
//! direction that always has something to do passes no less than that by more than a bucket.
//!
//! # Contract notes
//! Ops of a direction go in the order they came, one at a time. One that waits can be cancelled and
//! times out like any other, and takes nothing out of the bucket. A write that is stopped after some of
//! its parts says how many bytes went. A flush or shutdown goes behind the writes before it; so does an
//! orderly close, which has a time limit of its own. Waits for readiness wait for the bucket too.

mod bucket;
mod driver;
mod options;

pub use driver::{Driver, driver};
pub use options::Options;
