//! A level that sits between any two others and checks how ops pass: the oracle of the kit. It passes
//! everything and changes nothing. Invariant: what it complains of is a fact at its boundary, with the
//! id of the rule that forbids it; it guesses nothing about the levels on either side.

mod level;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xio_core::attr::OpAttr;
use xio_core::driver::OpKind;
use xio_core::{ErrorKind, LevelNode};

pub(crate) use self::level::NAME;
use self::level::ProbeDriver;

/// Most events that are kept.
const MAX_EVENTS: usize = 1 << 20;
/// Most complaints that are kept.
const MAX_COMPLAINTS: usize = 100;

/// An op attr by which an op is known at every boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u64);

impl OpAttr for Mark {}

/// Which end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The end that opens.
    Near,
    /// The end that accepts.
    Far,
}

/// An op passed a boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Which end.
    pub side: Side,
    /// Number of the level below the boundary, in preorder from 0.
    pub above: usize,
    /// What kind of op.
    pub kind: OpKind,
    /// Whether it came up; else it went down.
    pub up: bool,
    /// Its number at this boundary, in the order of going down.
    pub number: u64,
    /// The [`Mark`] it carries.
    pub mark: Option<u64>,
    /// The error it came up with.
    pub error: Option<ErrorKind>,
    /// Going down: the room of a read, the bytes of a write, the number of a close's mode. Coming up:
    /// the bytes that moved.
    pub bytes: usize,
}

/// A rule that was seen broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Complaint {
    /// Its id.
    pub rule: &'static str,
    /// What was seen, and where.
    pub text: String,
}

/// What all probes of a stack have seen. Cheap to clone.
#[derive(Clone, Default)]
pub struct Probes(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    record: bool,
    /// Ops may be killed: an engine stops, a level panics, a close is forced.
    may_kill: bool,
    events: Vec<Event>,
    complaints: Vec<Complaint>,
    down: [u64; OpKind::COUNT],
    up: [u64; OpKind::COUNT],
}

impl Probes {
    /// Probes that have seen nothing; with `record` they keep every event.
    pub fn new(record: bool) -> Self {
        Self(Arc::new(Mutex::new(Seen { record, ..Seen::default() })))
    }

    /// A probe over `below`, which is level `above` of its stack.
    #[must_use]
    pub fn over(&self, side: Side, above: usize, name: &str, below: LevelNode) -> LevelNode {
        let driver = ProbeDriver { probes: self.clone(), side, above, name: name.into() };
        LevelNode::new(Arc::new(driver)).with_id(format!("probe-{above}-{name}")).over(below)
    }

    /// From now on ops may end without coming up: the engine is stopped, or a level panics.
    pub fn may_kill(&self) {
        self.lock().may_kill = true;
    }

    /// Takes the complaints out.
    pub fn complaints(&self) -> Vec<Complaint> {
        std::mem::take(&mut self.lock().complaints)
    }

    /// The events so far, where they are kept.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Forgets the events so far.
    pub fn forget(&self) {
        self.lock().events.clear();
    }

    /// How many ops of a kind have gone down through any boundary, and come up.
    pub fn counts(&self, kind: OpKind) -> (u64, u64) {
        let seen = self.lock();
        (seen.down[kind as usize], seen.up[kind as usize])
    }

    /// Complains in the name of a rule, for other tools of the kit.
    pub fn complain(&self, rule: &'static str, text: impl Into<String>) {
        let mut seen = self.lock();
        if seen.complaints.len() < MAX_COMPLAINTS {
            let text = text.into();
            seen.complaints.push(Complaint { rule, text });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
