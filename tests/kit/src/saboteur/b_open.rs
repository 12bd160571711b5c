//! Breaks the rules of group B: open, unwinding, close.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use xio_core::body::CloseBody;
use xio_core::buffer::Pieces;
use xio_core::caps::Needs;
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, OpId, Open, Read, Write};
use xio_core::time::Time;
use xio_core::{Cx, ErrorKind, Flow, Held, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    ("B1", Proof::Driver { make: hides_a_failed_open, also: &["B3"] }),
    ("B2", Proof::Driver { make: has_an_error_of_its_own, also: &[] }),
    ("B3", Proof::Driver { make: reads_too_early, also: &[] }),
    ("B4", Proof::Driver { make: keeps_cancelled_reads, also: &[] }),
    ("B5", Proof::Driver { make: remembers_the_last_write, also: &[] }),
    ("B6", Proof::Driver { make: closes_not_after_a_read, also: &[] }),
    ("B7", Proof::Engine { fault: "a close can be cancelled", also: &[] }),
    ("B8", Proof::Driver { make: remembers_failed_writes, also: &[] }),
    ("B9", Proof::Driver { make: keeps_a_cancelled_open, also: &[] }),
    ("B10", Proof::Driver { make: closes_gently, also: &[] }),
    ("B11", Proof::Driver { make: bears_a_grudge, also: &[] }),
    ("B12", Proof::Engine { fault: "a stop ends no op", also: &[] }),
];

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

/// Fails with an error that says nothing of the one it got.
fn has_an_error_of_its_own() -> Subject {
    struct Own;
    impl Level for Own {
        fn open_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            if op.error().is_some_and(|e| e.kind() == ErrorKind::Protocol) {
                return op.failed(ErrorKind::Io);
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::OPEN_DONE, || Own)
}

/// Reads on its own account before anything below is open.
fn reads_too_early() -> Subject {
    struct Early;
    impl Level for Early {
        fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            cx.take(0, 1, 100, 0);
            op.pass()
        }
    }
    transform(Needs::STREAM, Intercepts::OPEN, || Early)
}

/// Holds every read of 111 bytes but the first, and keeps it when it is to stop.
fn keeps_cancelled_reads() -> Subject {
    #[derive(Default)]
    struct Keeps(bool, Vec<Held<Read>>);
    impl Level for Keeps {
        fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            // That many only one test asks for.
            if op.room() != 111 || !std::mem::replace(&mut self.0, true) {
                return op.pass();
            }
            let (held, flow) = op.hold(cx);
            self.1.push(held);
            flow
        }
        fn cancel(&mut self, _: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
            Cancel::Keep
        }
    }
    transform(Needs::STREAM, Intercepts::READ | Intercepts::CONCURRENT_READS, Keeps::default)
}

/// A place that outlives every handle.
type Memory = Arc<Mutex<Option<Pieces>>>;

fn remember(memory: &Memory, pieces: Pieces) {
    let old = memory.lock().unwrap_or_else(PoisonError::into_inner).replace(pieces);
    drop(old);
}

/// Keeps the last short write, for nobody.
fn remembers_the_last_write() -> Subject {
    struct Remembers(Memory);
    impl Level for Remembers {
        fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            if op.len() <= 100 {
                let pieces = op.share();
                remember(&self.0, pieces);
            }
            op.pass()
        }
    }
    let memory = Memory::default();
    transform(Needs::STREAM, Intercepts::WRITE | Intercepts::CONCURRENT_WRITES, move || Remembers(memory.clone()))
}

/// Keeps what could not be written, for nobody.
fn remembers_failed_writes() -> Subject {
    struct Remembers(Memory);
    impl Level for Remembers {
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            if op.error().is_some() {
                let pieces = op.share();
                remember(&self.0, pieces);
            }
            op.finished()
        }
    }
    let memory = Memory::default();
    transform(Needs::STREAM, Intercepts::WRITE_DONE | Intercepts::CONCURRENT_WRITES, move || Remembers(memory.clone()))
}

/// Answers no close at the moment at which seven bytes were read.
fn closes_not_after_a_read() -> Subject {
    #[derive(Default)]
    struct Stuck {
        read: Option<Time>,
        held: Option<Held<Close>>,
    }
    impl Level for Stuck {
        fn read_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            self.read = (op.got() == 7).then(|| cx.now());
            op.finished()
        }
        fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
            if self.read != Some(cx.now()) {
                return op.pass();
            }
            let (held, flow) = op.hold(cx);
            self.held = Some(held);
            flow
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | Intercepts::CONCURRENT_READS | Intercepts::CLOSE, Stuck::default)
}

/// Never answers an open that was told to stop.
fn keeps_a_cancelled_open() -> Subject {
    #[derive(Default)]
    struct Keeps {
        held: Option<Held<Open>>,
        timer: Option<xio_core::cx::Timer>,
    }
    impl Level for Keeps {
        fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            if op.error().is_some() {
                return op.finished();
            }
            let (held, flow) = op.hold(cx);
            self.held = Some(held);
            self.timer = Some(cx.after(std::time::Duration::from_millis(2), 0));
            flow
        }
        fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
            if let Some(held) = self.held.take() {
                cx.finish(held, Ok(()));
            }
        }
        fn cancel(&mut self, _: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
            self.timer = None;
            Cancel::Keep
        }
    }
    transform(Needs::STREAM, Intercepts::OPEN_DONE, Keeps::default)
}

/// Closes in good order whatever was asked.
fn closes_gently() -> Subject {
    struct Gentle;
    impl Level for Gentle {
        fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
            *op = CloseBody::default();
            op.pass()
        }
    }
    transform(Needs::STREAM, Intercepts::CLOSE, || Gentle)
}

/// Once an open of it has failed, no other succeeds.
fn bears_a_grudge() -> Subject {
    /// Virtual time begins anew with each engine, and so does it.
    struct Grudge(Arc<AtomicU64>);
    impl Level for Grudge {
        fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            let (since, now) = (self.0.load(Ordering::Relaxed), cx.now().as_nanos());
            if since > now {
                self.0.store(0, Ordering::Relaxed);
            } else if since > 0 {
                return op.failed(ErrorKind::Busy);
            }
            op.pass()
        }
        fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            if op.error().is_some() {
                self.0.store(cx.now().as_nanos().max(1), Ordering::Relaxed);
            }
            op.finished()
        }
    }
    let since = Arc::new(AtomicU64::new(0));
    transform(Needs::STREAM, Intercepts::OPEN | Intercepts::OPEN_DONE, move || Grudge(since.clone()))
}
