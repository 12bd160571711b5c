//! The `file` transport: regular files, pipes, terminals, standard input and output, and descriptors
//! made elsewhere, as a byte stream.
//!
//! The contact is the path as it stands, relative to the working directory; nothing in it is
//! expanded. `-` is standard input for reading, standard output for writing, both for
//! `mode=read-write`; a file of that name is `./-`. A descriptor made elsewhere is given by the attr
//! ([`Options::with_fd`]), never by text, and opened with no contact.
//!
//! # Modes
//! | `mode` | like a shell's | created | emptied | writes go |
//! |---|---|---|---|---|
//! | `read` | `<` | no | no | nowhere: an error |
//! | `write` | `>` | yes | yes, unless `offset` or `length` is set | to the position |
//! | `append` | `>>` | yes | no | to the end |
//! | `read-write` | `<>` | no | no | to the position |
//!
//! `create`, `truncate` and `exclusive` change the columns. Reads where only writing was asked for are
//! those of a peer that says nothing: they wait, and end with `Eof` when the write side has ended.
//!
//! # Position
//! A regular file has one position, for reads and writes, which is this handle's alone: it is kept
//! here and never in the system, so two handles do not disturb each other. It starts at `offset` and
//! moves by what was delivered or written. The command [`Offset`](xio_core::cntl::Offset) asks for it or
//! sets it; an op with the attr [`Offset`](xio_core::attr::Offset) works there and leaves it alone.
//! Ops with the attr run side by side, as many as the engine's pool has threads; all others one after
//! the other. Levels that read several times for one read, as `frame` does, pass the attr on with each
//! of them: use it directly above.
//!
//! # Descriptors made elsewhere
//! Standard input and output and those given by the attr are used as they are: their flags are never
//! changed, nor is their shared position set. Reads and writes of such a regular file move the shared
//! position, as the system does it, until `offset` or the command gives the handle one of its own.
//! Standard input and output are never closed; a descriptor given with [`Fd::new`] is the level's to
//! close, one given with [`Fd::shared`] is not.
//!
//! # Where the work is done
//! System calls that may block run on the engine's pool, so no thread of the engine waits for a disk.
//! Nothing on the pool waits for a pipe, terminal or socket: what was opened here does not block, what
//! was given is asked first, and the wait for readiness is one thread for all levels of a driver.
//! Between that question and the read another process may take the bytes of a shared input; then a
//! thread of the pool waits for more. In simulated time only files are of use, which are read and
//! written for real and take no time.
//!
//! # Contract notes
//! - End of stream is not final: a file grows, a pipe gets another writer, a terminal goes on.
//! - A cancelled read loses nothing: the position moves when bytes are delivered, and what a pipe gave
//!   too late is the start of the next read. A write that is cancelled while the system has it may
//!   still reach the file.
//! - A pipe is opened at once for reading, and its first read waits for a writer; an open for writing
//!   waits for a reader, also until its deadline, and can be cancelled. A writer without readers gets
//!   `BrokenPipe`.
//! - A shutdown closes a file that was opened only for writing, so that readers of a pipe see the end.
//! - `sync` says when written data is forced to the device. Errors of that are those of the write,
//!   flush, shutdown or close it belongs to.
//! - It does not listen. Directories and sockets of the file system are refused.

mod cntl;
mod data;
mod driver;
mod ends;
mod job;
mod lane;
mod level;
mod open;
mod options;
mod place;
mod watch;

pub use driver::{Driver, driver};
pub use options::{Fd, Options};
