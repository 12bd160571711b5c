//! The `trace` transform: says in the log what passes it, and changes nothing.
//!
//! Lines go to whatever subscriber of the `tracing` crate the program has, with the target [`TARGET`].
//! A line has no message, only fields, of which those are there that the op has:
//!
//! | field | what it holds |
//! |---|---|
//! | `at` | the option `name`, or the level's id |
//! | `handle` | number of the handle or server, as this driver counts them, from 1 |
//! | `way` | `down`, `up`; `ask` of a command, `event` of what rises by itself |
//! | `kind` | `open`, `close`, `read`, `write`, `flush`, `shutdown`, `ready`, `accept`, `listen`; a command's or event's name |
//! | `op` | number of the op at this level, from 1; the same down and up |
//! | `asked` | bytes: room of a read, length of a write; not there where a read takes whatever comes |
//! | `least` | bytes without which a read does not finish |
//! | `messages` | of a write, where it carries several |
//! | `direction`, `mode`, `contact`, `passive` | of a wait for readiness; of a close; of an open or listen; of an open over a link |
//! | `moved` | bytes of a read or write that moved while it was below |
//! | `error`, `by` | kind of the error and the level it comes from |
//! | `took_ns` | how long it was below, where `time` asks for it |
//!
//! Bytes of users are in no line, nor is the text of an error.
//!
//! # What it costs
//! A kind that is not in `on` is not intercepted and costs nothing. One that is costs a call each way and one
//! look at whether anybody listens. An op that goes down while nobody does comes up without a line.
//!
//! # Contract notes
//! It holds nothing, so it is never asked to cancel: an op that is cancelled or times out below comes up with
//! that error. The subscriber runs under the handle's lock: it may be slow, but may not use the handle.

mod driver;
mod line;
mod options;

pub use driver::{Driver, driver};
pub use line::TARGET;
pub use options::Options;
