//! What can be set on a `loop` level.

use xio_core::attr::Size;
use xio_core::schema::ValueKind;
use xio_core::{Contact, Error};

xio_core::options! {
    /// Options of the `loop` driver.
    pub struct Options for "loop" {
        /// Messages rather than a stream; the same at both ends.
        message, with_message: bool = false, ValueKind::Bool;
        /// Bytes that may lie unread at this end.
        buffer, with_buffer: Size = Size(64 << 10), ValueKind::Size { min: 1, max: 1 << 30 };
        /// Connections that may wait to be accepted.
        backlog, with_backlog: u32 = 128, ValueKind::Int { min: 1, max: 65_536 };
        contact check_contact;
    }
}

fn check_contact(_: &Options, contact: &Contact) -> Result<(), Error> {
    super::names::name(contact).map(drop)
}
