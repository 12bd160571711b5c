//! Where a rule works: an engine over the simulated network (or real sockets), a pair of handles of
//! the subject with a probe at every boundary, virtual time. Invariant: each [`World`] is new, runs on
//! one thread, and is looked through for broken rules when it ends.

mod pair;
mod stage;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use xio_core::caps::{Caps, Unit};

pub use self::pair::{Guests, Pair};
pub use self::stage::Stage;
pub use self::world::World;
use crate::report::Options;
use crate::subject::Subject;
use crate::verdict::{Checked, Stop};

/// Virtual time after which what has not come never comes.
pub const LONG: Duration = Duration::from_secs(600);

/// The room a rule works in.
#[derive(Debug)]
pub struct Bench {
    subject: Subject,
    options: Options,
    caps: Caps,
    rule: &'static str,
}

impl Bench {
    /// A room for a rule and a subject.
    ///
    /// # Errors
    /// Where the levels of the subject do not fit.
    pub fn new(rule: &'static str, subject: Subject, options: Options) -> Checked<Self> {
        let caps = subject.caps()?;
        Ok(Self { subject, options, caps, rule })
    }

    /// What is tested.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What its stack gives.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Whether messages or datagrams keep their borders.
    pub fn has_borders(&self) -> bool {
        self.caps.unit.has_borders()
    }

    /// Seeds to run with.
    pub fn seeds(&self) -> Vec<u64> {
        if self.subject.is_real() { vec![0] } else { self.options.seeds.clone() }
    }

    /// A world to be set up. Nothing is built before [`Stage::build`].
    pub fn stage(&self, seed: u64) -> Stage<'_> {
        Stage::new(self, seed)
    }

    /// Runs `f` in a new world for each seed, and looks through each world when it ends.
    ///
    /// # Errors
    /// The first failure, with its seed.
    pub fn each(&self, mut f: impl FnMut(&World) -> Checked) -> Checked {
        self.each_on(|stage| stage, |w| f(w))
    }

    /// The same with a stage set up by `set`.
    ///
    /// # Errors
    /// The first failure, with its seed.
    pub fn each_on<'a>(
        &'a self,
        set: impl Fn(Stage<'a>) -> Stage<'a>,
        mut f: impl FnMut(&World) -> Checked,
    ) -> Checked {
        for seed in self.seeds() {
            let world = set(self.stage(seed)).build()?;
            world.run_rule(&mut f).map_err(|s| s.at(format_args!("seed {seed}")))?;
        }
        Ok(())
    }

    // ---- what a rule needs -----------------------------------------------------------------------

    /// The rule is about two ends.
    ///
    /// # Errors
    /// Not applicable, where nobody can connect to the subject.
    pub fn needs_peer(&self) -> Checked {
        if self.caps.accepts && self.caps.connects && self.caps.duplex { Ok(()) } else { unless("accepts=false") }
    }

    /// The rule is about streams.
    ///
    /// # Errors
    /// Not applicable on messages and datagrams.
    pub fn needs_stream(&self) -> Checked {
        if self.has_borders() { unless(format!("unit={}", self.caps.unit)) } else { Ok(()) }
    }

    /// The rule is about this unit.
    ///
    /// # Errors
    /// Not applicable on others.
    pub fn needs_unit(&self, unit: Unit) -> Checked {
        if self.caps.unit == unit { Ok(()) } else { unless(format!("unit={}", self.caps.unit)) }
    }

    /// The rule is about data that arrives whole and in order.
    ///
    /// # Errors
    /// Not applicable where that is not promised.
    pub fn needs_order(&self) -> Checked {
        match (self.caps.reliable, self.caps.ordered) {
            (true, true) => Ok(()),
            (false, _) => unless("reliable=false"),
            (_, false) => unless("ordered=false"),
        }
    }

    /// The rule ends one side of a connection.
    ///
    /// # Errors
    /// Not applicable where that cannot be done alone.
    pub fn needs_half_close(&self) -> Checked {
        if self.caps.half_close { Ok(()) } else { unless("half_close=false") }
    }

    /// The rule is about ends that know of each other.
    ///
    /// # Errors
    /// Not applicable where one does not see what becomes of the other.
    pub fn needs_connection(&self) -> Checked {
        if self.caps.connected { Ok(()) } else { unless("connected=false") }
    }

    /// The rule is about time that a test can turn.
    ///
    /// # Errors
    /// Not applicable on real sockets.
    pub fn needs_virtual_time(&self) -> Checked {
        if self.subject.is_real() { unless("on real sockets") } else { Ok(()) }
    }
}

/// The rule does not apply, for the subject has this property.
///
/// # Errors
/// Always.
pub fn unless(cap: impl Into<String>) -> Checked {
    Err(Stop::not_applicable(cap))
}

/// A list that callbacks write and the test reads.
#[derive(Debug)]
pub struct Tell<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Tell<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Tell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Tell<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    /// Adds to it.
    pub fn note(&self, value: T) {
        self.lock().push(value);
    }

    /// Takes everything out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.lock())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Tell<T> {
    /// A copy of everything.
    pub fn all(&self) -> Vec<T> {
        self.lock().clone()
    }
}
