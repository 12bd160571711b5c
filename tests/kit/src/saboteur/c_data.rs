//! Breaks the rules of group C: the data path.

use smallvec::SmallVec;
use xio_core::buffer::Piece;
use xio_core::caps::Needs;
use xio_core::driver::Intercepts;
use xio_core::op::Write;
use xio_core::{Cx, Flow, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[("C1", Proof::Driver { make: flips_a_bit, also: &[] })];

/// Flips a bit of every long write.
fn flips_a_bit() -> Subject {
    struct Flips;
    impl Level for Flips {
        fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            if op.len() < 5000 {
                return op.pass();
            }
            let mut all: Vec<u8> = op.pieces().iter().flat_map(|p| p.iter().copied()).collect();
            all[4321] ^= 4;
            op.pass_with(SmallVec::from_iter([Piece::from(bytes::Bytes::from(all))]))
        }
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            // Failed anew, so that the owner's pieces are back in place for the levels above.
            match op.clear_error() {
                Some(e) => op.failed(e),
                None => op.finished(),
            }
        }
    }
    transform(Needs::STREAM, Intercepts::WRITE | Intercepts::WRITE_DONE, || Flips)
}
