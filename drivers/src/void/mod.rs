//! The `void` transport: writes are swallowed, reads finish at once with zeros. For measuring what
//! a stack costs without I/O. With `message`, each read is one message of `size` bytes.
//!
//! Contract notes: a read always has data, so there is never an end of stream.

mod driver;
mod options;

pub use driver::{Driver, driver};
pub use options::Options;
