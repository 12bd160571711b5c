//! The loops this framework's figures are measured against, and the arithmetic that turns
//! rounds of samples into a ratio.
//!
//! Holds: plain sockets ([`raw`]), the same with waits that can be ended ([`cancellable`]) and with a
//! header before each message ([`framed`]), datagrams ([`datagrams`], [`floods`]), bare rings of memory ([`rings`]), bare
//! virtual calls and tokio's levels ([`layers`]), as child processes Globus XIO ([`globus`]) and what is heavy to
//! build ([`beside`]), CPU
//! placement ([`placement`]), interleaved rounds ([`rounds`]) and a counting allocator
//! ([`counting`]).
//!
//! Invariant: this crate knows nothing of the framework it is a baseline for, so that a change
//! there can never move the line it is held to.
//!
//! Does not: judge. It says what the ratio is and whether a bar given by the caller is met.
//!
//! Linux only: the placement and the spinning loops ask the kernel directly.
//!
//! ```no_run
//! use xio_peers::placement::Placement;
//! use xio_peers::rounds::{Better, Contender, Ratio, interleave};
//! use xio_peers::{raw, sample::Sample};
//!
//! # fn ours() -> std::io::Result<Sample> { raw::pingpong(Placement::TwoCpus, 64, 3000) }
//! let results = interleave(9, 1, &mut [
//!     Contender::new("raw", || raw::pingpong(Placement::TwoCpus, 64, 3000)),
//!     Contender::new("ours", ours),
//! ])?;
//! let time = |i: usize| results[i].figures(|s| s.ns_per_op);
//! let ratio = Ratio::of(&time(1), &time(0), Better::Lower)?;
//! println!("{ratio}");
//! assert!(ratio.meets(1.10));
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod beside;
pub mod buffer;
pub mod cancellable;
mod child;
pub mod counting;
pub mod datagrams;
pub mod floods;
pub mod framed;
pub mod globus;
pub mod layers;
pub mod pair;
pub mod placement;
pub mod raw;
pub mod rings;
pub mod rounds;
pub mod sample;
