//! Stackable I/O drivers: the spec language, the binder that checks a stack before anything is
//! opened, the registry of drivers and the builder. The crate to depend on; it re-exports
//! `xio-core` as [`core`] and `xio-drivers` as [`drivers`].
//!
//! # Quick start
//! A stack is written top first; `/` reads as "over". This one sends messages over TCP:
//!
//! ```
//! use xio_stacks::prelude::*;
//!
//! let stack = Registry::with_defaults().stack("queue(depth=64)/frame/tcp(nodelay)")?;
//! let engine = Engine::new()?;
//!
//! let server = engine.listen(&stack, Contact::new("127.0.0.1:0")).wait()?;
//! let client = engine.open(&stack, server.contact()).wait()?;
//! let peer = server.accept().wait()?.open().wait()?;
//!
//! client.write("hello").wait()?;
//! let mut message = [0; 64];
//! let n = peer.read_into(&mut message).wait()?;
//! assert_eq!(&message[..n], b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The same stack in code:
//!
//! ```
//! use xio_stacks::drivers::{frame, queue, tcp};
//!
//! let spec = xio_stacks::stack(queue::Options::default().with_depth(64))
//!     .over(frame::Options::default())
//!     .over(tcp::Options::default().with_nodelay(true));
//! assert_eq!(spec, "queue(depth=64)/frame/tcp(nodelay)".parse().unwrap());
//! ```
//!
//! A stack that cannot work is refused, with the place and the way out:
//!
//! ```
//! # use xio_stacks::prelude::*;
//! let wrong = Registry::with_defaults().stack("tcp/queue").unwrap_err();
//! assert_eq!(wrong.to_string(), "\
//! error[E030]: `tcp` is a transport and must be the lowest level
//!  --> 1:1
//!   |
//! 1 | tcp/queue
//!   | ^^^
//!   |     ^^^^^ `queue` needs a level below it
//!   = help: specs are written top first; did you mean `queue/tcp`?");
//! ```
//!
//! Where to is not part of a stack: it is a [`Contact`], given when the stack is opened. An
//! [`Endpoint`] is both in one string, `queue/frame/tcp @ 127.0.0.1:7000`.
//!
//! For strings from outside, limit what they may name with [`Registry::only`].
//!
//! # Features
//! `tcp`, `loop`, `void`, `null`, `pick`, `frame`, `queue`: the driver of that name, all on by
//! default. `futures-io`, `tokio`: views of a handle for those ecosystems.

mod allow;
mod bind;
mod builder;
mod diagnostic;
mod endpoint;
pub mod prelude;
mod registry;
mod render;
pub mod spec;
mod suggest;

pub use xio_core as core;
pub use xio_drivers as drivers;

pub use allow::Allow;
pub use bind::MAX_ID;
pub use builder::{IntoSpec, stack};
pub use diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS, Severity};
pub use endpoint::Endpoint;
pub use registry::Registry;
pub use spec::{BranchSpec, LevelSpec, SpecOption, SpecValue, StackSpec};
pub use xio_core::{Contact, Engine, Error, ErrorKind, Handle, Link, Server, Stack};

/// The README's example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
