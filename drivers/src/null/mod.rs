//! The `null` transform: passes everything. `intercept=none` costs nothing at all, `down`, `up` and
//! `both` have the engine call the level on the way down, up, or both ways; each call counts bytes,
//! so that it is not empty work. For measuring what a level costs, and for tests: a `null` anywhere
//! in a stack must change nothing but time.

mod driver;
mod options;

pub use driver::{Driver, driver};
pub use options::Options;
