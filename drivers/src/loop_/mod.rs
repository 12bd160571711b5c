//! The `loop` transport: pairs inside one process, without a system call.
//!
//! A server listens under a name; an open towards the name connects at once, like a TCP connection
//! that waits in the backlog. A contact is the name, with or without `loop:` before it; a server
//! given none takes a fresh one. Each [`Driver`] has names of its own, so two registries never meet;
//! all stacks made from one driver do.
//!
//! A stream by default; with `message` each write is one message, of any length, also 0. Both ends
//! must agree. Bytes are not copied where the writer gave shared memory and the reader takes chunks.
//!
//! # Limits
//! At most `buffer` bytes lie unread at an end, and 1,024 pieces or messages; one message may be
//! longer than the buffer if it is alone. Then writes wait. At most `backlog` connections wait to be
//! accepted; then opens wait.
//!
//! # Contract notes
//! A close gives the peer the end of the stream after all data, and breaks its writes. An abort, and
//! a link that is dropped unopened, gives `Reset` both ways, at once; unread data is gone. A message
//! that does not fit its reader fails with `Truncated{len}`, and the next read gets the rest. A
//! cancelled op loses nothing: reads move bytes only as they finish, a cancelled write says how many
//! bytes the pipe took. Levels of two handles share one short lock for each direction and never touch
//! each other's handle: a held op is only asked to try again.

mod driver;
mod names;
mod options;
mod pipe;
mod server;

pub use driver::{Driver, driver, pair, pair_of};
pub use options::Options;
