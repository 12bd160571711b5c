//! Breaks the rules of group H: resources, errors, composition.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use xio_core::attr::Attr;
use xio_core::buffer::{Piece, Pieces};
use xio_core::caps::{Branch, Caps, Needs, Unit};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::{Listen, Open, Read, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};

use super::{Proof, SaboteurOptions, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    ("H1", Proof::Driver { make: remembers_each_open, also: &[] }),
    ("H2", Proof::Driver { make: leaves_a_timer_behind, also: &["B6", "E11", "H1"] }),
    ("H3", Proof::Driver { make: joins_what_it_writes, also: &[] }),
    ("H4", Proof::Driver { make: tells_what_was_written, also: &[] }),
    ("H5", Proof::Engine { fault: "an op counts twice", also: &[] }),
    ("H6", Proof::Driver { make: goes_on_after_an_error, also: &["H3"] }),
    ("H7", Proof::Driver { make: codes_well_in_company, also: &[] }),
    ("H8", Proof::Driver { make: finds_out_too_late, also: &[] }),
];

/// Keeps a little of each open, for ever.
fn remembers_each_open() -> Subject {
    struct Remembers(Arc<Mutex<Vec<Vec<u8>>>>);
    impl Level for Remembers {
        fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(vec![0; 100]);
            op.pass()
        }
    }
    let memory = Arc::new(Mutex::default());
    transform(Needs::STREAM, Intercepts::OPEN, move || Remembers(memory.clone()))
}

const INFO: Info = Info::new("saboteur", Shape::Transform, "breaks a rule about resources");

/// What sets a driver apart from one that only passes.
enum Whole {
    /// Its server sets a timer that nobody takes back.
    Timer,
    /// It takes whatever is below, and opens over streams alone.
    Late,
}

impl Driver for Whole {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(SaboteurOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        match self {
            Self::Timer => Needs::STREAM,
            Self::Late => Needs::ANY,
        }
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match (self, role) {
            (Self::Timer, Role::Server) => Intercepts::LISTEN,
            (Self::Late, Role::Handle) => Intercepts::OPEN,
            _ => Intercepts::NONE,
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(match self {
            Self::Timer => Box::new(Forgets),
            Self::Late => Box::new(Late),
        })
    }
}

struct Forgets;
impl Level for Forgets {
    fn listen<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Listen>) -> Flow<'o> {
        // It is due before those that wait an hour would see it.
        std::mem::forget(cx.after(Duration::from_secs(50 * 60), 0));
        op.pass()
    }
}

struct Late;
impl Level for Late {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        match cx.caps_below() {
            Some(c) if c.unit != Unit::Stream => op.failed(ErrorKind::Misfit),
            _ => op.pass(),
        }
    }
}

/// Its server leaves a timer behind.
fn leaves_a_timer_behind() -> Subject {
    Subject::transform(Arc::new(Whole::Timer))
}

/// Says that it fits over anything, and does not.
fn finds_out_too_late() -> Subject {
    Subject::transform(Arc::new(Whole::Late))
}

/// The error of a write tells what was to be written.
fn tells_what_was_written() -> Subject {
    struct Tells;
    impl Level for Tells {
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            let Some(e) = op.clear_error() else { return op.finished() };
            let bytes: Vec<u8> = op.pieces().iter().flat_map(|p| p.iter().copied()).take(60).collect();
            op.failed(e.detail(format!("while writing `{}`", String::from_utf8_lossy(&bytes))))
        }
    }
    transform(Needs::STREAM, Intercepts::WRITE_DONE | Intercepts::CONCURRENT_WRITES, || Tells)
}

/// Says that a run of ones breaks its protocol, and reads on as if nothing had been.
fn goes_on_after_an_error() -> Subject {
    struct GoesOn;
    impl Level for GoesOn {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            let n = op.got();
            if op.error().is_some() || n < 8 {
                return op.finished();
            }
            let bytes = op.take_back(n);
            if bytes.windows(8).any(|w| w == [0xFF; 8]) {
                return op.failed(ErrorKind::Protocol);
            }
            op.put(&bytes);
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | Intercepts::CONCURRENT_READS, || GoesOn)
}

/// What it writes is right only while the other end is in the same process.
fn codes_well_in_company() -> Subject {
    struct Codes(Arc<AtomicU32>);
    impl Level for Codes {
        fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            if self.0.load(Ordering::Relaxed) > 1 || op.len() < 30 {
                return op.pass();
            }
            let pieces: Pieces = op.share();
            let mut bytes: Vec<u8> = pieces.iter().flat_map(|p| p.iter().copied()).collect();
            bytes[20] ^= 4;
            op.pass_with(std::iter::once(Piece::from(bytes::Bytes::from(bytes))).collect())
        }
    }
    impl Drop for Codes {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let alive = Arc::new(AtomicU32::new(0));
    transform(Needs::STREAM, Intercepts::WRITE, move || {
        alive.fetch_add(1, Ordering::Relaxed);
        Codes(alive.clone())
    })
}

/// Joins the pieces of each write, however much that is.
fn joins_what_it_writes() -> Subject {
    struct Joins;
    impl Level for Joins {
        fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            let mut run = Vec::with_capacity(op.len());
            op.pieces().iter().for_each(|p| run.extend_from_slice(p));
            drop(std::hint::black_box(run));
            op.pass()
        }
    }
    transform(Needs::STREAM, Intercepts::WRITE | Intercepts::CONCURRENT_WRITES, || Joins)
}
