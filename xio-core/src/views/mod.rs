//! Views of a handle as the traits other code expects. Each says what it loses.

mod std_io;
#[cfg(feature = "tokio")]
mod tokio_io;

pub use std_io::StdIo;
#[cfg(feature = "tokio")]
pub use tokio_io::TokioIo;
