//! What can be set on a `null` level.

use xio_core::schema::ValueKind;

xio_core::options! {
    /// Options of the `null` driver.
    pub struct Options for "null" {
        /// Which ways the engine calls the level: `none`, `down`, `up` or `both`.
        intercept, with_intercept: String = String::from("both"), ValueKind::Enum(&["none", "down", "up", "both"]);
        /// Let one read and one write in at a time, as a level with a state per op would.
        gate, with_gate: bool = false, ValueKind::Bool;
    }
}
