//! A transport that answers as it is told: for each kind of op a list of steps, in order. It notes what
//! was written to it, and complains of writes that nobody announced and of steps that nobody used.
//! Invariant: it has no peer, no socket and no will of its own; a delayed step waits in virtual time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use xio_core::attr::Attr;
use xio_core::buffer::Chunk;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cx::Timer;
use xio_core::driver::{Info, Intercepts, OpKind, Role, Shape};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, Kind, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, LevelNode, Op};

use crate::probe::{Event, Side};
use crate::verdict::{Checked, Stop};

/// What an op meets.
#[derive(Clone, Debug)]
enum Answer {
    /// A read finds bytes, and with the last of them perhaps an error.
    Data(Bytes, Option<ErrorKind>),
    /// A write has so many bytes taken, and perhaps fails then.
    Takes(usize, Option<ErrorKind>),
    Done,
    Fails(ErrorKind),
}

#[derive(Clone, Debug)]
struct Step {
    answer: Answer,
    after: Duration,
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
        self.steps.push((kind, Step { answer, after: Duration::ZERO }));
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

    /// What passed a boundary once, to pass it again: `events` as a probe recorded them above level
    /// `above`. Reads get the bytes they had where the probe kept them, else zeros.
    pub fn replay(caps: Caps, events: &[Event], side: Side, above: usize) -> Self {
        let mut script = Self::new(caps);
        for e in events.iter().filter(|e| e.side == side && e.above == above && e.up) {
            let answer = match (e.kind, e.error) {
                // Ended from above: below nothing had happened.
                (_, Some(ErrorKind::Cancelled | ErrorKind::TimedOut)) if e.bytes == 0 => continue,
                (OpKind::Read, error) => {
                    let bytes = e.data.clone().unwrap_or_else(|| vec![0; e.bytes].into());
                    Answer::Data(bytes, error)
                }
                (OpKind::Write, None) => Answer::Takes(usize::MAX, None),
                (OpKind::Write, Some(kind)) => Answer::Takes(e.bytes, Some(kind)),
                (_, None) => Answer::Done,
                (_, Some(kind)) => Answer::Fails(kind),
            };
            script.steps.push((e.kind, Step { answer, after: Duration::ZERO }));
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
    /// Ops that the script says nothing of, and steps that no op came for.
    pub fn finish(&self) -> Checked {
        let play = self.lock();
        if let Some(first) = play.unexpected.first() {
            return Err(Stop::fail(format!("the script says nothing of {first}")));
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

xio_core::options! {
    /// What it does is in its script.
    pub struct ScriptOptions for "script" {}
}

const INFO: Info = Info::new("script", Shape::Transport, "answers as it is told");

struct Scripted {
    caps: Caps,
    played: Played,
}

impl xio_core::Driver for Scripted {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(ScriptOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::NOTHING
    }
    fn caps(&self, _: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(self.caps.clone())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::OPEN
            | Intercepts::CLOSE
            | Intercepts::READ
            | Intercepts::WRITE
            | Intercepts::FLUSH
            | Intercepts::SHUTDOWN
            | Intercepts::READY
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Player { played: self.played.clone(), waits: Vec::new(), borders: self.caps.unit.has_borders() }))
    }
}

/// An op that waits for its step's time, or for ever.
enum Token {
    Open(Held<Open>),
    Close(Held<Close>),
    Read(Held<Read>),
    Write(Held<Write>),
    Flush(Held<Flush>),
    Shutdown(Held<Shutdown>),
    Ready(Held<Ready>),
}

impl Token {
    fn id(&self) -> OpId {
        match self {
            Self::Open(h) => h.id(),
            Self::Close(h) => h.id(),
            Self::Read(h) => h.id(),
            Self::Write(h) => h.id(),
            Self::Flush(h) => h.id(),
            Self::Shutdown(h) => h.id(),
            Self::Ready(h) => h.id(),
        }
    }

    fn retry(self, cx: &mut Cx<'_>) {
        match self {
            Self::Open(h) => cx.retry(h),
            Self::Close(h) => cx.retry(h),
            Self::Read(h) => cx.retry(h),
            Self::Write(h) => cx.retry(h),
            Self::Flush(h) => cx.retry(h),
            Self::Shutdown(h) => cx.retry(h),
            Self::Ready(h) => cx.retry(h),
        }
    }
}

struct Player {
    played: Played,
    waits: Vec<(Token, Option<Timer>)>,
    borders: bool,
}

impl Player {
    /// The step of an op of this kind, where its time has come; else how long that is.
    fn step(&self, kind: OpKind) -> Option<Result<Step, Duration>> {
        let mut play = self.played.lock();
        let queue = &mut play.queues[kind as usize];
        let after = std::mem::take(&mut queue.front_mut()?.after);
        if after.is_zero() { queue.pop_front().map(Ok) } else { Some(Err(after)) }
    }

    fn put_back(&self, kind: OpKind, answer: Answer) {
        self.played.lock().queues[kind as usize].push_front(Step { answer, after: Duration::ZERO });
    }

    fn wait<'o, K: Kind>(
        &mut self,
        cx: &mut Cx<'_>,
        op: Op<'o, K>,
        after: Option<Duration>,
        token: fn(Held<K>) -> Token,
    ) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        let timer = after.map(|d| cx.after(d, 0));
        self.waits.push((token(held), timer));
        flow
    }
}

macro_rules! plain {
    ($($K:ident $down:ident;)+) => {$(
        fn $down<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            match self.step(OpKind::$K) {
                None => op.finished(),
                Some(Err(after)) => self.wait(cx, op, Some(after), Token::$K),
                Some(Ok(Step { answer: Answer::Fails(kind), .. })) => op.failed(kind),
                Some(Ok(_)) => op.finished(),
            }
        }
    )+};
}

impl Level for Player {
    plain! {
        Open open;
        Close close;
        Flush flush;
        Shutdown shutdown;
        Ready ready;
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if op.room() == 0 && !self.borders {
            return op.finished();
        }
        let (bytes, error) = match self.step(OpKind::Read) {
            None => return self.wait(cx, op, None, Token::Read),
            Some(Err(after)) => return self.wait(cx, op, Some(after), Token::Read),
            Some(Ok(Step { answer: Answer::Data(bytes, error), .. })) => (bytes, error),
            Some(Ok(Step { answer: Answer::Fails(kind), .. })) => return op.failed(kind),
            Some(Ok(_)) => return op.failed(ErrorKind::Contract),
        };
        let len = bytes.len();
        let mut chunk = Chunk::from(bytes);
        op.put_chunk(&mut chunk);
        if !chunk.is_empty() {
            self.put_back(OpKind::Read, Answer::Data(chunk.into_bytes(), error));
            return if self.borders { op.failed(ErrorKind::Truncated { len }) } else { op.finished() };
        }
        match error {
            Some(kind) => op.failed(kind),
            None => op.finished(),
        }
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let left = op.len() - op.moved();
        let (most, error) = match self.step(OpKind::Write) {
            None => {
                self.played.lock().unexpected.push(format!("a write of {left} bytes"));
                return op.failed(ErrorKind::Contract);
            }
            Some(Err(after)) => return self.wait(cx, op, Some(after), Token::Write),
            Some(Ok(Step { answer: Answer::Takes(n, error), .. })) => (n, error),
            Some(Ok(Step { answer: Answer::Fails(kind), .. })) => return op.failed(kind),
            Some(Ok(_)) => return op.failed(ErrorKind::Contract),
        };
        let n = left.min(most);
        let all = op.pieces().iter().flat_map(|p| p.iter().copied());
        let part: Vec<u8> = all.skip(op.moved()).take(n).collect();
        self.played.lock().written.extend(part);
        match error {
            // The part that went is told with the error, when the op comes again for the rest.
            Some(kind) if n > 0 && n < left => {
                self.put_back(OpKind::Write, Answer::Fails(kind));
                op.finished_part(n)
            }
            Some(kind) if n < left || n == 0 => op.failed(kind),
            _ if n == left => {
                op.take_all();
                op.finished()
            }
            _ => op.finished_part(n),
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        // Each timer is for one wait; any that is due will do, for all enter their method again.
        if let Some(i) = self.waits.iter().position(|(_, t)| t.is_some()) {
            let (token, _) = self.waits.remove(i);
            token.retry(cx);
        }
    }

    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.waits.retain(|(t, _)| t.id() != id);
        Cancel::Take
    }
}
