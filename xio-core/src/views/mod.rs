//! Views of a handle as the traits other code expects. Each says what it loses.

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(any(feature = "tokio", feature = "futures-io"))]
mod polled;
mod std_io;
#[cfg(feature = "tokio")]
mod tokio_io;

#[cfg(feature = "futures-io")]
pub use self::futures_io::FuturesIo;
pub use std_io::StdIo;
#[cfg(feature = "tokio")]
pub use tokio_io::TokioIo;
