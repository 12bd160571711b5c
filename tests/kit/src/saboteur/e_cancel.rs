//! Breaks the rules of group E: cancel, time, re-entrancy, threads.

use std::time::Duration;

use xio_core::caps::Needs;
use xio_core::cx::Timer;
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{OpId, Read};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    ("E1", Proof::Driver { make: hides_a_cancel, also: &[] }),
    ("E2", Proof::Driver { make: loses_what_came_before_a_cancel, also: &[] }),
    ("E3", Proof::Engine { fault: "a cancel knows the place alone", also: &[] }),
    ("E4", Proof::Engine { fault: "a level is asked again", also: &[] }),
    ("E5", Proof::Driver { make: takes_late_for_cancelled, also: &[] }),
    ("E6", Proof::Driver { make: is_early, also: &[] }),
    ("E7", Proof::Engine { fault: "a callback may wait", also: &[] }),
    ("E8", Proof::Engine { fault: "a callback runs under a lock", also: &[] }),
    ("E9", Proof::Engine { fault: "callbacks do not wait for each other", also: &[] }),
    ("E10", Proof::Engine { fault: "a callback interrupts another", also: &[] }),
    ("E11", Proof::Engine { fault: "a thread waits for itself", also: &[] }),
    ("E12", Proof::Driver { make: trusts_a_child, also: &[] }),
];

const READS: Intercepts = Intercepts::CONCURRENT_READS;

/// Whether a read of this size ended in this way. Reads of these sizes one test makes alone.
fn ended(op: &Op<'_, Read>, size: usize, kind: ErrorKind) -> bool {
    op.got() + op.room() == size && op.error().map(Error::kind) == Some(kind)
}

/// Says of a cancelled read that something went wrong.
fn hides_a_cancel() -> Subject {
    struct Hides;
    impl Level for Hides {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if ended(&op, 60, ErrorKind::Cancelled) {
                op.clear_error();
                return op.failed(ErrorKind::Io);
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | READS, || Hides)
}

/// Throws away what a read had when it was cancelled.
fn loses_what_came_before_a_cancel() -> Subject {
    struct Loses;
    impl Level for Loses {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if ended(&op, 30, ErrorKind::Cancelled) {
                let n = op.got();
                drop(op.take_back(n));
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | READS, || Loses)
}

/// Says of a read that was late that somebody cancelled it.
fn takes_late_for_cancelled() -> Subject {
    struct Takes;
    impl Level for Takes {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if ended(&op, 50, ErrorKind::TimedOut) && op.got() == 0 {
                op.clear_error();
                return op.failed(ErrorKind::Cancelled);
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | READS, || Takes)
}

/// Ends reads before their time.
fn is_early() -> Subject {
    #[derive(Default)]
    struct Early(Vec<(Held<Read>, Timer)>);
    impl Level for Early {
        fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            if op.room() != 7777 {
                return op.pass();
            }
            let (held, flow) = op.hold(cx);
            self.0.push((held, cx.after(Duration::from_micros(100), 0)));
            flow
        }
        fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
            if !self.0.is_empty() {
                cx.finish(self.0.remove(0).0, Err(ErrorKind::TimedOut.into()));
            }
        }
        fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
            self.0.retain(|(h, _)| h.id() != id);
            Cancel::Take
        }
    }
    transform(Needs::STREAM, Intercepts::READ | READS, Early::default)
}

/// Lets a child process write into the accounts of its parent.
fn trusts_a_child() -> Subject {
    Subject::transform(crate::ledger::trusting())
}
