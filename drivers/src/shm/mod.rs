//! The `shm` transport: shared memory between two processes of one user, a stream or messages.
//!
//! A server listens at a path, where it makes a unix socket. Whoever opens that path makes two rings of memory,
//! one a direction, and sends them over the socket. From then on bytes are copied into a ring and out of it,
//! without a system call; the socket stays, for a byte that wakes a sleeper and to tell when the peer is gone.
//!
//! # Contact
//! A path, of 107 bytes at most. A server given none takes a fresh one in the user's run directory, or in that for
//! temporary files; its contact says which. A socket that a killed server left behind is replaced. An end that
//! opened is known to its peer as `pid:N`.
//!
//! # Who may connect
//! Processes of one user: the system tells either end who the other is, and another user is refused with
//! `PermissionDenied` (at the server: passed over). The socket has mode 0600; its directory has to be the user's or
//! root's, and where others may write to it, one in which nobody renames what is another's (`/tmp`).
//!
//! # Options
//! | option | value | default | |
//! |---|---|---|---|
//! | `message` | bool | `false` | messages rather than a stream; the same at both ends |
//! | `buffer` | 4KiB..=1GiB | 256KiB | bytes of each ring, rounded up to a power of two; the end that opens decides |
//! | `spin` | up to 10ms, runtime | `0s` | a blocking caller spins before it sleeps |
//! | `held` | up to half the ring | 128KiB | bytes that takes may leave in the ring; 0: none |
//! | `trust` | `none`, `peer` | `none` | `peer`: those bytes are the reader's to look at, not only to copy |
//! | `backlog` | 1..=4096 | 128 | connections that may wait to be accepted |
//!
//! # What lies in a ring
//! 4096 bytes of words, then the ring. Words: how far is written (u64 at 128), how far is read (u64, 256), the
//! reader's end and how it sleeps (u32, 384 and 388), the writer's end and how it sleeps (512, 516). Positions
//! count bytes from 2^32. A message is its length and a mark (u32 each, little endian; the mark is made of
//! length and position, so that no header is all zeroes), its bytes, and padding to a multiple of 8.
//!
//! # A peer that does not keep to it
//! Memory is taken from a peer only sealed against shrinking and growing, and of a size that a ring has. Each
//! shared word is read once and checked against what this end knows itself; what does not fit is the error
//! `Protocol`, after which nothing more is read or written. Bytes are copied out before anybody looks at them. A peer
//! can send what bytes it likes, and end the connection; it cannot make this end crash, hang or read elsewhere.
//!
//! # Takes
//! A take of more than 1 KiB hands up chunks that lie in the ring until they are dropped, in whatever order; they
//! outlive the connection. A peer could still write there, so they can only be copied out. Where `trust=peer` says that
//! this one does not, a chunk that ends a user's read by itself is as good as the reader's own memory, without any copy;
//! parts of a longer read, and what a level above takes in parts, are as without it.
//!
//! The ring gives room back in order, so a chunk that is kept would stop the writer in the end. Where more than `held`
//! bytes would be kept from it, or a reader waits for a message that may need all of the ring, the oldest chunks move
//! to memory of their own. Those that are as good as the reader's memory cannot: for them the writer waits.
//!
//! # Loans
//! Where `trust=peer` says that the peer leaves alone what it was not shown, what
//! [`Handle::loan`](xio_core::Handle::loan) gives lies in the ring, behind what is written, if there is room for it now
//! in one run and no other loan is out. Sent as the next write, it is shown to the peer without a copy. Whatever is
//! written before it moves it to memory of its own; while it is being filled, other writes wait.
//!
//! # Waiting
//! A blocking caller spins for `spin`, sleeps for up to 8 ms on a word in the ring (futex), where only the peer
//! can wake it (a cancel comes that much late), and is then held, as callbacks and futures are at once: the socket's readiness, one descriptor for data, room and the peer's end,
//! brings it back. Sleepers say so in the ring, so a peer that finds nobody asleep makes no system call.
//!
//! # Contract notes
//! - A write finishes when its bytes are in the ring: they are read even where this process dies then. A message
//!   is in the ring as a whole or not at all. Of a write with several (a batch of `queue`'s) as many go in at once as
//!   there is room for, and one that stops leaves whole ones behind.
//! - A close gives the peer the end of the stream after all data, and breaks its writes. An abort gives `Reset`
//!   both ways at once. A peer that is gone without a word, a killed one, gives `Reset` after all data: within
//!   milliseconds, since the system closes its socket.
//! - A message that does not fit its reader fails with `Truncated{len}`, and the next read gets the rest. None is
//!   longer than the ring less 8 bytes.
//! - A writer that waits for room is woken when half the ring is free.
//! - After a fork the child's ops on a handle of the parent are refused as `Unsupported`.
//! - The end that opens is connected once the server's backlog has it. A server of the other kind (`message`)
//!   lets the first op fail with `Refused`.

#[cfg(not(loom))]
#[doc(hidden)]
pub mod bare;
mod driver;
mod kept;
mod lent;
mod level;
mod live;
mod map;
mod meet;
mod memory;
#[cfg(all(test, loom))]
mod models;
mod options;
mod post;
mod put;
mod ring;
mod server;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(test)]
mod twin;

pub use driver::{Driver, driver};
pub use options::Options;

/// How many shared words a hostile peer overwrites in a test; `XIO_FLIPS` says more.
#[cfg(all(test, not(loom)))]
fn flips() -> u64 {
    std::env::var("XIO_FLIPS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}
