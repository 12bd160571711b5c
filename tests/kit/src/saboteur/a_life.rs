//! Breaks the rules of group A: the life of an op.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xio_core::buffer::Chunk;
use xio_core::caps::Needs;
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, OpId, Open, Read, Ready, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    (
        "A1",
        Proof::Driver { make: keeps_flushes, also: &["B6", "E3", "E7", "E8", "E9", "E10", "E11", "H5", "H6", "H7"] },
    ),
    ("A2", Proof::Driver { make: ends_without_a_word, also: &["D3"] }),
    ("A3", Proof::CompileFail("xio_core::op::Op")),
    ("A4", Proof::Driver { make: believes_in_stale_tokens, also: &["C2", "C5", "E2", "E3", "E5", "E6"] }),
    ("A5", Proof::Driver { make: hides_an_error, also: &[] }),
    ("A6", Proof::Driver { make: drops_a_wait, also: &[] }),
    ("A7", Proof::Driver { make: sulks_after_a_panic, also: &[] }),
    ("A8", Proof::Engine { fault: "the last callback comes first", also: &["B4", "B7", "C10", "D1"] }),
    ("A9", Proof::Engine { fault: "a level does not hear of its own op", also: &["D3"] }),
    ("A10", Proof::Driver { make: uses_the_scratch_word, also: &[] }),
];

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

/// Answers the end of a stream with a success.
fn ends_without_a_word() -> Subject {
    struct Mute;
    impl Level for Mute {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if op.error().map(Error::kind) == Some(ErrorKind::Eof) {
                op.clear_error();
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | Intercepts::CONCURRENT_READS, || Mute)
}

/// Serves reads with reads of its own, and gives what comes to whoever asked first, alive or not.
fn believes_in_stale_tokens() -> Subject {
    #[derive(Default)]
    struct Believes {
        held: VecDeque<Held<Read>>,
        stash: Chunk,
        asked: bool,
        end: Option<Error>,
    }
    impl Believes {
        fn ask(&mut self, cx: &mut Cx<'_>) {
            if !self.held.is_empty() && self.end.is_none() && !std::mem::replace(&mut self.asked, true) {
                cx.take(0, 1, 1 << 16, 0);
            }
        }
    }
    impl Level for Believes {
        fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if !self.stash.is_empty() || op.room() == 0 || op.wanted() == 0 {
                op.put_chunk(&mut self.stash);
                return op.finished();
            }
            if let Some(e) = &self.end {
                let e = e.clone();
                return op.failed(e);
            }
            let (held, flow) = op.hold(cx);
            self.held.push_back(held);
            self.ask(cx);
            flow
        }
        fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            self.asked = false;
            self.end = op.clear_error();
            for chunk in op.brought().chunks {
                let Some(held) = self.held.pop_front() else { continue };
                // The rest of what did not fit is kept; what came back whole was for nobody, and is lost.
                let (alive, len) = (cx.is_live(&held), chunk.len());
                if let Err(rest) = cx.finish_chunk(held, chunk)
                    && (alive || rest.len() < len)
                {
                    self.stash = rest;
                }
            }
            if self.end.is_some() {
                self.held.drain(..).for_each(|h| cx.retry(h));
            }
            self.ask(cx);
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ | Intercepts::CLOSE, Believes::default)
}

/// Takes an unreachable network for a success.
fn hides_an_error() -> Subject {
    struct Hides;
    impl Level for Hides {
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            if op.error().map(Error::kind) == Some(ErrorKind::Unreachable) {
                op.clear_error();
                op.take_all();
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::WRITE_DONE | Intercepts::CONCURRENT_WRITES, || Hides)
}

/// Lets waits for readiness fall.
fn drops_a_wait() -> Subject {
    struct Drops;
    impl Level for Drops {
        fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
            let (held, flow) = op.hold(cx);
            drop(held);
            flow
        }
    }
    transform(Needs::STREAM, Intercepts::READY, || Drops)
}

/// Once a level of it has gone without a close, no other opens.
fn sulks_after_a_panic() -> Subject {
    /// When that was; virtual time begins anew with each engine, and so does its temper.
    #[derive(Clone)]
    struct Sulks {
        since: Arc<AtomicU64>,
        open: bool,
        now: u64,
    }
    impl Level for Sulks {
        fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            self.now = cx.now().as_nanos();
            let since = self.since.load(Ordering::Relaxed);
            if since > self.now {
                self.since.store(0, Ordering::Relaxed);
            } else if since > 0 {
                return op.failed(ErrorKind::Busy);
            }
            op.pass()
        }
        fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            self.open = op.error().is_none();
            self.now = cx.now().as_nanos();
            op.finished()
        }
        fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
            self.open = false;
            op.pass()
        }
    }
    impl Drop for Sulks {
        fn drop(&mut self) {
            if self.open {
                self.since.store(self.now.max(1), Ordering::Relaxed);
            }
        }
    }
    let since = Arc::new(AtomicU64::new(0));
    let sees = Intercepts::OPEN | Intercepts::OPEN_DONE | Intercepts::CLOSE;
    transform(Needs::STREAM, sees, move || Sulks { since: since.clone(), open: false, now: 0 })
}

/// Keeps the length of a write in a word that it has not asked for.
fn uses_the_scratch_word() -> Subject {
    struct Forgetful;
    impl Level for Forgetful {
        fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            *cx.word(&mut op) = op.len() as u64;
            op.pass()
        }
        fn write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            if op.error().is_none() && *cx.word(&mut op) != op.len() as u64 {
                return op.failed(ErrorKind::Protocol);
            }
            op.finished()
        }
    }
    let sees = Intercepts::WRITE | Intercepts::WRITE_DONE | Intercepts::CONCURRENT_WRITES;
    transform(Needs::STREAM, sees, || Forgetful)
}
