//! Breaks the rules of group B: open, unwinding, close.

use xio_core::caps::Needs;
use xio_core::driver::Intercepts;
use xio_core::op::Open;
use xio_core::{Cx, Flow, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[("B1", Proof::Driver { make: hides_a_failed_open, also: &[] })];

/// Says that it is open though what is below is not.
fn hides_a_failed_open() -> Subject {
    struct Hides;
    impl Level for Hides {
        fn open_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
            op.clear_error();
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::OPEN_DONE, || Hides)
}
