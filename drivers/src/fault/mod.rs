//! The `fault` transform: seeded faults, to see what the levels around it and the program above make of
//! them.
//!
//! What becomes of an op follows from `seed`, the kind of the op and its number among the ops of that
//! kind on this handle, and from nothing else: neither time, nor threads, nor what the other direction
//! does. Equal seed and equal ops fare alike, also on two handles of one stack.
//!
//! | fault | on | what happens |
//! |---|---|---|
//! | `error`, `error_rate` | the kinds in `on` | the op fails before it has moved anything |
//! | `delay` | the kinds in `on` | the op goes down later; order is kept |
//! | `stall` | the kinds in `on` | the op never goes on; a cancel, deadline or close ends it |
//! | `loss` | messages | a written message goes nowhere, a read one is thrown away |
//! | `dup` | messages | it comes twice |
//! | `reorder` | written messages | it goes after the next one, or 20 ms later, or with a flush or close |
//! | `corrupt` | reads, writes | one bit of it is another |
//! | `short_read` | streams | the read brings only a part of what it could |
//! | `short_write` | streams | the write goes down in two parts |
//! | `reset_after`, `reset_after_ops` | reads and writes together | `Reset`, for good |
//!
//! The first `after` ops of each kind are left alone. Several `fault` levels can stand in one stack, for
//! several errors or for a rate of its own for each kind; give them different seeds.
//!
//! # What it gives
//! What lies below, but not reliable with `loss` or `dup`, and not ordered with `reorder` or `dup`. A
//! stream has no messages to lose, and a message cannot be read in parts: where an option makes no sense
//! over what lies below, the stack is refused.
//!
//! # Contract notes
//! Held ops can be cancelled and time out at any moment; a delayed read has taken nothing yet. Reads and
//! writes are let in one at a time, but writes that are only delayed overlap, so `delay` adds to the
//! time of each and takes nothing from the rate of many. Flush and shutdown go behind the writes that
//! are held here. A reset breaks this level and what is above it; the peer hears of it when the
//! handle is closed.

mod data;
mod dice;
mod driver;
mod hold;
mod level;
mod options;
mod put;

pub use driver::{Driver, driver};
pub use options::Options;
