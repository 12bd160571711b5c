//! What can be set on a `void` level.

use xio_core::attr::Size;
use xio_core::schema::ValueKind;

xio_core::options! {
    /// Options of the `void` driver.
    pub struct Options for "void" {
        /// Messages rather than a stream.
        message, with_message: bool = false, ValueKind::Bool;
        /// Bytes of each message that is read; a stream fills whatever room there is.
        size, with_size: Size = Size(64), ValueKind::Size { min: 0, max: 1 << 30 };
    }
}
