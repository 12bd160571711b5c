//! Breaks the rules of group A: the life of an op.

use xio_core::caps::Needs;
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Flush, OpId};
use xio_core::{Cx, Flow, Held, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[("A1", Proof::Driver { make: keeps_flushes, also: &[] })];

/// Takes flushes and never answers them.
fn keeps_flushes() -> Subject {
    #[derive(Default)]
    struct Keeps(Vec<Held<Flush>>);
    impl Level for Keeps {
        fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
            let (held, flow) = op.hold(cx);
            self.0.push(held);
            flow
        }
        fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
            self.0.retain(|h| h.id() != id);
            Cancel::Take
        }
    }
    transform(Needs::STREAM, Intercepts::FLUSH, Keeps::default)
}
