//! A transport that answers as it is told: for each kind of op a list of steps, in order. It notes what
//! was written to it, and complains of writes that nobody announced and of steps that nobody used.
//! Invariant: it has no peer, no socket and no will of its own; a delayed step waits in virtual time.

mod player;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use xio_core::caps::Caps;
use xio_core::driver::OpKind;
use xio_core::{ErrorKind, LevelNode};

use self::player::Scripted;
use crate::trace::Trace;
use crate::verdict::{Checked, Stop};

/// What an op meets.
#[derive(Clone, Debug)]
enum Answer {
    /// A read finds bytes, and with the last of them perhaps an error.
    Data(Bytes, Option<ErrorKind>),
    /// A write has so many bytes taken, and perhaps fails then.
    Takes(usize, Option<ErrorKind>),
    /// A write brings these bytes, which are so much of what is written in all, and perhaps fails then. On a
    /// stream it may bring them in parts, or more with them.
    Brings(Bytes, Option<ErrorKind>),
    Done,
    Fails(ErrorKind),
}

#[derive(Clone, Debug)]
struct Step {
    answer: Answer,
    after: Duration,
    /// Not before so much was written: bytes of a stream, else messages.
    behind: usize,
}

/// What is to happen, step by step.
///
/// ```
/// use xio_core::{Engine, Stack, caps::Caps, reactor::Sim};
/// use xio_testkit::script::Script;
/// let (node, script) = Script::new(Caps::stream()).read("hel").read("lo").writes_all().build();
/// let engine = Engine::builder().reactor(Sim::new(1)).build()?;
/// let h = engine.open(&Stack::new(node).unwrap(), ()).wait()?;
/// assert_eq!(h.read(bytes::BytesMut::with_capacity(9)).wait_for(5).wait()?.buf, "hello");
/// h.write("bye").wait()?;
/// h.close().wait()?;
/// script.finish().unwrap();
/// assert_eq!(script.written(), b"bye");
/// # Ok::<(), xio_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Script {
    caps: Caps,
    steps: Vec<(OpKind, Step)>,
}

impl Script {
    /// An empty one, for a transport that gives these caps. What it says nothing of succeeds, but for
    /// reads, which wait, and writes, which it complains of.
    pub fn new(caps: Caps) -> Self {
        Self { caps, steps: Vec::new() }
    }

    fn step(mut self, kind: OpKind, answer: Answer) -> Self {
        self.steps.push((kind, Step { answer, after: Duration::ZERO, behind: 0 }));
        self
    }

    /// Reads find these bytes; on a stack with borders they are one message.
    #[must_use]
    pub fn read(self, bytes: impl Into<Bytes>) -> Self {
        self.step(OpKind::Read, Answer::Data(bytes.into(), None))
    }

    /// A read finds these bytes and with the last of them an error, `Eof` perhaps.
    #[must_use]
    pub fn read_then(self, bytes: impl Into<Bytes>, error: ErrorKind) -> Self {
        self.step(OpKind::Read, Answer::Data(bytes.into(), Some(error)))
    }

    /// A write has at most so many bytes taken, and is asked again for the rest.
    #[must_use]
    pub fn writes(self, bytes: usize) -> Self {
        self.step(OpKind::Write, Answer::Takes(bytes, None))
    }

    /// A write has all its bytes taken.
    #[must_use]
    pub fn writes_all(self) -> Self {
        self.writes(usize::MAX)
    }

    /// A write has at most so many bytes taken, and fails then.
    #[must_use]
    pub fn writes_then(self, bytes: usize, error: ErrorKind) -> Self {
        self.step(OpKind::Write, Answer::Takes(bytes, Some(error)))
    }

    /// An op of this kind fails.
    #[must_use]
    pub fn fails(self, kind: OpKind, error: ErrorKind) -> Self {
        self.step(kind, Answer::Fails(error))
    }

    /// An op of this kind succeeds; of use before one that fails.
    #[must_use]
    pub fn done(self, kind: OpKind) -> Self {
        self.step(kind, Answer::Done)
    }

    /// The last step comes so long after its op.
    #[must_use]
    pub fn after(mut self, d: Duration) -> Self {
        if let Some((_, step)) = self.steps.last_mut() {
            step.after = d;
        }
        self
    }

    /// A recorded run, to run it again: reads find what they found then, each when what had been written before
    /// it then is written; writes are to bring what they brought then, on a stream in whatever parts, and what
    /// differs is complained of by [`Played::finish`].
    ///
    /// ```
    /// use xio_core::{Engine, Stack, reactor::Sim};
    /// use xio_testkit::{script::Script, trace::Trace};
    /// let trace = Trace::parse("xio-trace 1 stream\nwrite \"ping\"\nread \"pong\"\n").unwrap();
    /// let (node, script) = Script::replay(&trace).build();
    /// let engine = Engine::builder().reactor(Sim::new(1)).build()?;
    /// let h = engine.open(&Stack::new(node).unwrap(), ()).wait()?;
    /// h.write("pi").wait()?;
    /// h.write("ng").wait()?;
    /// assert_eq!(h.take(9).wait()?.into_bytes(), "pong");
    /// script.finish().unwrap();
    /// # Ok::<(), xio_core::Error>(())
    /// ```
    pub fn replay(trace: &Trace) -> Self {
        let mut script = Self::new(trace.caps());
        let borders = script.caps.unit.has_borders();
        let mut written = 0;
        for r in trace.records() {
            let ended_from_above = matches!(r.error, Some(ErrorKind::Cancelled | ErrorKind::TimedOut));
            let answer = match (r.kind, r.error) {
                // Nothing had happened below.
                _ if ended_from_above && r.data.is_empty() => continue,
                (OpKind::Write, None) if r.data.is_empty() && !borders => continue,
                // Its bytes were for the next one.
                (OpKind::Read, _) if ended_from_above => Answer::Data(r.data.clone(), None),
                (OpKind::Read, error) => Answer::Data(r.data.clone(), error),
                (OpKind::Write, error) => Answer::Brings(r.data.clone(), error),
                (_, None) => Answer::Done,
                (_, Some(kind)) => Answer::Fails(kind),
            };
            let behind = if r.kind == OpKind::Read { written } else { 0 };
            script.steps.push((r.kind, Step { answer, after: Duration::ZERO, behind }));
            if r.kind == OpKind::Write {
                written += if borders { 1 } else { r.data.len() };
            }
        }
        script
    }

    /// The transport, and the one who knows what became of the script. Handles share the steps.
    pub fn build(self) -> (LevelNode, Played) {
        let mut play = Play::default();
        for (kind, step) in self.steps {
            play.queues[kind as usize].push_back(step);
        }
        let played = Played(Arc::new(Mutex::new(play)));
        let driver = Scripted { caps: self.caps, played: played.clone() };
        (LevelNode::new(Arc::new(driver)), played)
    }
}

/// What became of a script.
#[derive(Clone, Debug)]
pub struct Played(Arc<Mutex<Play>>);

#[derive(Debug, Default)]
struct Play {
    queues: [VecDeque<Step>; OpKind::COUNT],
    written: Vec<u8>,
    /// Writes that brought all they had, or a part.
    writes: usize,
    unexpected: Vec<String>,
}

impl Played {
    /// All bytes that writes have brought.
    pub fn written(&self) -> Vec<u8> {
        self.lock().written.clone()
    }

    /// Whether everything went as written.
    ///
    /// # Errors
    /// Ops that the script says nothing of, writes that bring something else, and steps that no op came for.
    pub fn finish(&self) -> Checked {
        let play = self.lock();
        if let Some(first) = play.unexpected.first() {
            return Err(Stop::fail(first.clone()));
        }
        for kind in OpKind::ALL {
            if let Some(step) = play.queues[kind as usize].front() {
                return Err(Stop::fail(format!("no {kind} came for {:?}", step.answer)));
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Play> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
