//! Breaks the rules of group H: resources, errors, composition.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs, Unit};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::{Listen, Open, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};

use super::{Proof, SaboteurOptions, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    ("H1", Proof::Driver { make: remembers_each_open, also: &[] }),
    ("H2", Proof::Driver { make: leaves_a_timer_behind, also: &["B6", "H1"] }),
    ("H4", Proof::Driver { make: tells_what_was_written, also: &[] }),
    ("H5", Proof::Engine("stats.rs, On::down: count each op twice (`+= 2`)")),
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
