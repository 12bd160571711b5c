//! Breaks the rules of group D: end of stream, half close.

use xio_core::caps::Needs;
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{OpId, Read, Shutdown};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    ("D1", Proof::Driver { make: ends_for_one_reader, also: &[] }),
    ("D2", Proof::Engine { fault: "an end is forgotten", also: &[] }),
    ("D3", Proof::Driver { make: sees_the_end_alone, also: &[] }),
    ("D4", Proof::Driver { make: ends_cleanly_anyhow, also: &[] }),
    ("D5", Proof::Driver { make: ends_its_reads_too, also: &[] }),
    ("D6", Proof::Driver { make: takes_a_reset_for_the_end, also: &[] }),
];

const READS: Intercepts = Intercepts::CONCURRENT_READS;

fn ended(op: &Op<'_, Read>, kind: ErrorKind) -> bool {
    op.error().map(Error::kind) == Some(kind)
}

/// Tells few of many readers that the stream has ended, and forgets the others.
fn ends_for_one_reader() -> Subject {
    #[derive(Default)]
    struct Few {
        below: usize,
        held: Vec<Held<Read>>,
    }
    impl Level for Few {
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            self.below += 1;
            op.pass()
        }
        fn read_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            self.below = self.below.saturating_sub(1);
            if !ended(&op, ErrorKind::Eof) || self.below < 3 {
                return op.finished();
            }
            let (held, flow) = op.hold(cx);
            self.held.push(held);
            flow
        }
        fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
            self.held.retain(|h| h.id() != id);
            Cancel::Take
        }
    }
    transform(Needs::STREAM, Intercepts::READ | Intercepts::READ_DONE | READS, Few::default)
}

/// Forgets what came together with the end.
fn sees_the_end_alone() -> Subject {
    struct Forgets;
    impl Level for Forgets {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            // A read of fifty bytes waits for more than there is, and gets what there was.
            if ended(&op, ErrorKind::Eof) && op.got() + op.room() != 50 {
                let n = op.got();
                drop(op.take_back(n));
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | READS, || Forgets)
}

/// Takes every end for a clean one.
fn ends_cleanly_anyhow() -> Subject {
    struct Clean;
    impl Level for Clean {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if ended(&op, ErrorKind::UnexpectedEof) {
                op.clear_error();
                return op.failed(ErrorKind::Eof);
            }
            op.finished()
        }
    }
    transform(Needs::MESSAGE, Intercepts::READ_DONE | READS, || Clean)
}

/// Ends reads that want much once its own write side has ended.
fn ends_its_reads_too() -> Subject {
    #[derive(Default)]
    struct Both(bool);
    impl Level for Both {
        fn shutdown<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
            self.0 = true;
            op.pass()
        }
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            if self.0 && op.wanted() > 1 { op.failed(ErrorKind::Eof) } else { op.pass() }
        }
    }
    transform(Needs::STREAM, Intercepts::SHUTDOWN | Intercepts::READ | READS, Both::default)
}

/// Takes a reset for an end.
fn takes_a_reset_for_the_end() -> Subject {
    struct Takes;
    impl Level for Takes {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if ended(&op, ErrorKind::Reset) {
                op.clear_error();
                return op.failed(ErrorKind::Eof);
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | READS, || Takes)
}
