//! What can be set on a `pick` level.

use xio_core::attr::Size;
use xio_core::schema::ValueKind;

xio_core::options! {
    /// Options of the `pick` driver.
    pub struct Options for "pick" {
        /// Label of the branch for writes that name none; the first branch where unset.
        default, with_default: Option<String> = None, ValueKind::Text;
        /// Bytes that are read ahead from each branch.
        ahead, with_ahead: Size = Size(64 << 10), ValueKind::Size { min: 1, max: 1 << 30 };
    }
}
