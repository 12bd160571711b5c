//! Engine of a framework of stackable I/O drivers, in the line of Globus XIO.
//!
//! An operation goes *down* a stack of levels and comes back *up*. A level is a state machine that
//! answers each op: pass it on, finish it, hold it, or ask the reactor. The engine is the one loop
//! that moves ops; it keeps the promises every driver would otherwise have to keep for itself:
//! waiting for enough bytes, order, limits, cancel, deadlines, the end of stream, the close barrier,
//! the unwinding of a failed open.
//!
//! ```text
//!  user     handle.read(buf).wait()            the bytes
//!              |                                   ^
//!  level 1     read  -> pass                    read_done -> finished
//!  level 2     (does not see reads: never called, costs nothing)
//!  level 3     read  -> pass_into(own buffer)   read_done -> put, finished
//!              |                                   ^
//!  transport   read  -> io(Recv)  ==>  the reactor receives, with no lock held
//! ```
//!
//! Where what lives: a driver author reads [`level`] and [`driver`], then [`op`], [`cx`] and
//! [`body`]; a user reads [`Engine`], [`Stack`], [`Handle`], [`Server`]. Stacks are written as
//! strings with the crate `xio-stacks`; drivers are in `xio-drivers`.

pub mod attr;
pub mod body;
pub mod buffer;
pub mod caps;
pub mod cntl;
mod contact;
pub mod contract;
pub mod cx;
pub mod datagram;
pub mod driver;
mod engine;
mod error;
pub mod handle;
mod held;
pub mod io;
pub mod level;
#[cfg(all(test, loom))]
mod models;
pub mod op;
mod plan;
pub mod reactor;
pub mod schema;
mod server;
pub mod stack;
pub mod stats;
mod sync;
pub mod time;
pub mod views;

pub use crate::contact::{Contact, MAX_CONTACT, MAX_CONTACT_DEPTH};
pub use crate::cx::Cx;
pub use crate::driver::Driver;
pub use crate::engine::end::{Failed, ReadDone, WriteDone};
pub use crate::engine::future::OpFuture;
pub use crate::engine::submit::Ticket;
pub use crate::engine::{Builder, Engine};
pub use crate::error::{Error, ErrorKind, MAX_TEXT};
pub use crate::handle::{CloseMode, Handle};
pub use crate::held::Held;
pub use crate::level::Level;
pub use crate::op::{Flow, Op};
pub use crate::server::{AcceptCall, Link, Server};
pub use crate::stack::{LevelNode, Stack};
#[doc(hidden)]
pub use crate::sync::planted;
pub use bytes;
