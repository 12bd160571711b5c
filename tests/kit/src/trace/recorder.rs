//! The level that records. Invariant: it passes every op as it is; a read's bytes are taken out and put back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use xio_core::attr::Attr;
use xio_core::buffer::Chunk;
use xio_core::caps::{Branch, Caps, Needs, Unit};
use xio_core::driver::{Info, Intercepts, OpKind, Role, Shape};
use xio_core::op::{Close, Flush, Open, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, LevelNode, Op};

use super::{TooLong, Trace};

/// Records what a transport answers: a trace for each handle. Cheap to clone.
///
/// ```
/// use xio_core::{Engine, LevelNode, Stack};
/// use xio_drivers::{loop_, null};
/// use xio_testkit::trace::Recorder;
///
/// // Right over the transport, below whatever is to be tested.
/// let recorder = Recorder::new();
/// let transport = LevelNode::new(loop_::driver());
/// let engine = Engine::new()?;
/// let server = engine.listen(&Stack::new(transport.clone()).unwrap(), ()).wait()?;
/// let stack = Stack::new(LevelNode::new(null::driver()).over(recorder.over(transport))).unwrap();
/// let client = engine.open(&stack, server.contact()).wait()?;
/// let served = server.accept().wait()?.open().wait()?;
///
/// client.write("ping").wait()?;
/// served.write("pong").wait()?;
/// client.take(9).wait()?;
/// client.close().wait()?;
///
/// let traces = recorder.traces().unwrap();
/// let text = "xio-trace 1 stream\nopen\nwrite \"ping\"\nread \"pong\"\nclose\n";
/// assert_eq!(traces[0].to_string(), text);
/// # Ok::<(), xio_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// In the order in which handles began to open.
    traces: Vec<Trace>,
    over: bool,
}

impl Recorder {
    /// One that has recorded nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A level that records what comes up from `below`, a transport. What it gives is what that gives.
    #[must_use]
    pub fn over(&self, below: LevelNode) -> LevelNode {
        LevelNode::new(Arc::new(RecordDriver(self.clone()))).over(below)
    }

    /// A trace for each handle that was opened, in that order.
    ///
    /// # Errors
    /// One of them would be too long.
    pub fn traces(&self) -> Result<Vec<Trace>, TooLong> {
        let kept = self.lock();
        if kept.over { Err(TooLong) } else { Ok(kept.traces.clone()) }
    }

    fn begin(&self, unit: Unit) -> usize {
        let mut kept = self.lock();
        kept.traces.push(Trace::new(unit));
        kept.traces.len() - 1
    }

    fn note(&self, number: usize, kind: OpKind, data: impl Into<Bytes>, error: Option<&Error>) {
        let kept = &mut *self.lock();
        if let Some(trace) = kept.traces.get_mut(number) {
            kept.over |= trace.push(kind, data, error.map(Error::kind)).is_err();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

xio_core::options! {
    /// A recorder has none.
    pub struct RecordOptions for "record" {}
}

const INFO: Info = Info::new("record", Shape::Transform, "records what a transport answers");

struct RecordDriver(Recorder);

impl xio_core::Driver for RecordDriver {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(RecordOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        if role == Role::Server {
            return Intercepts::NONE;
        }
        Intercepts::WORD
            | Intercepts::CONCURRENT_READS
            | Intercepts::CONCURRENT_WRITES
            | Intercepts::OPEN
            | Intercepts::OPEN_DONE
            | Intercepts::READ
            | Intercepts::READ_DONE
            | Intercepts::WRITE
            | Intercepts::WRITE_DONE
            | Intercepts::FLUSH_DONE
            | Intercepts::SHUTDOWN_DONE
            | Intercepts::READY_DONE
            | Intercepts::CLOSE_DONE
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Tape { recorder: self.0.clone(), number: usize::MAX }))
    }
}

struct Tape {
    recorder: Recorder,
    /// Which of the traces is this handle's.
    number: usize,
}

macro_rules! plain {
    ($($K:ident $done:ident;)+) => {$(
        fn $done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            self.recorder.note(self.number, OpKind::$K, Bytes::new(), op.error());
            op.finished()
        }
    )+};
}

impl Level for Tape {
    plain! {
        Open open_done;
        Close close_done;
        Flush flush_done;
        Shutdown shutdown_done;
        Ready ready_done;
    }

    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.number = self.recorder.begin(cx.caps_below().map_or(Unit::Stream, |c| c.unit));
        op.pass()
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        *cx.word(&mut op) = op.got() as u64;
        op.pass()
    }

    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let had = usize::try_from(*cx.word(&mut op)).unwrap_or(usize::MAX);
        let n = op.got().saturating_sub(had);
        let data = op.take_back(n);
        op.put_chunk(&mut Chunk::from(data.clone()));
        self.recorder.note(self.number, OpKind::Read, data, op.error());
        op.finished()
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        *cx.word(&mut op) = op.moved() as u64;
        op.pass()
    }

    fn write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let had = usize::try_from(*cx.word(&mut op)).unwrap_or(usize::MAX);
        let all = op.pieces().iter().flat_map(|p| p.iter().copied());
        let data: Vec<u8> = all.take(op.moved()).skip(had).collect();
        self.recorder.note(self.number, OpKind::Write, data, op.error());
        op.finished()
    }
}
