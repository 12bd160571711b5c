//! The `pick` level: several branches under one handle.
//!
//! A write goes to the branch that its attr [`Group`](xio_core::attr::Group) names, else to `default`,
//! else to the first; the branch `*` takes every name that no other has. Reads come from any branch
//! that has something, in turn, uncopied, and carry the label of their branch as `Group`. The smallest
//! level with branches, and what routing by type feeds.
//!
//! Where a `pick` lies below another, labels are joined with a dot: in `pick{a: pick{x: …, y: …}}` the
//! group `a.y` leads to `y`, what is read from there carries `a.y`, and `a` alone leads to the default
//! of the inner one. A write with the attrs of a read goes back to who sent it.
//!
//! Open, close, flush and shutdown go to all branches and are done when all are; opens and closes are
//! under way together. The contact is a map, `{a: …, b: …}`, or one for all, and is asked for as a map
//! of the branches that are open. A server listens on all branches and accepts from any; a handle made
//! from a link has one branch only, the one it came by, and that is its default. A branch that was lost,
//! or was never there, is opened with the command [`Reopen`]; the others go on meanwhile.
//!
//! # Limits
//! What lies unread is at most `ahead` bytes a branch (of messages, one more) and 256 reads. Where a
//! `pick` lies below another, the end of one of its branches is not told further up while those beside it
//! go on: a read that has some bytes of that branch and waits for more waits until its deadline, or the end
//! of all.
//!
//! # Contract notes
//! All branches carry the same unit, no two the same label, and `default` is one of them: anything else
//! is refused when the stack is bound. A stream merged of several branches has no order, and says so in
//! its caps; one read never mixes two branches, so a read that waits for more bytes than its branch
//! has left fails with `UnexpectedEof`, and one that waits for more of a branch further down with
//! `Busy` where the branches beside that fill what may lie unread. The rest of a message that did not
//! fit is read next. An error of a branch is the result of one read and names the branch; the others go
//! on, as they do when a branch ends. The end of the last one is the end of the stream: every read after
//! it is told `Eof`, or its error where the last one broke. Readiness to write and `PathInfo` are those of
//! the default branch.

mod again;
mod ask;
mod driver;
mod gather;
mod lane;
mod level;
mod merge;
mod options;
mod route;
mod server;

pub use again::Reopen;
pub use driver::{Driver, driver};
pub use options::Options;
