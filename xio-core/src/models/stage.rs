//! Handles for models: an engine over the bench, and two transports, one that asks the reactor and one that
//! holds its ops until the model says more. Invariant: opening one takes no other thread.

use std::collections::VecDeque;
use std::sync::Weak;

use bytes::{Bytes, BytesMut};

use super::bed::{Bench, Wire, connected};
use crate::attr::Attr;
use crate::buffer::Chunk;
use crate::caps::{Branch, Caps, Needs};
use crate::driver::{Driver, Info, Intercepts, Role, Shape};
use crate::io::{Direction, Io, Sock};
use crate::level::{Cancel, Reason};
use crate::op::{Close, OpId, Open, Read, Ready, Write};
use crate::sync::{Arc, AtomicU32, Mutex, Ordering};
use crate::{Cx, Engine, Error, ErrorKind, Flow, Handle, Held, Level, LevelNode, Op, Stack};

#[allow(unreachable_pub, dead_code, reason = "the macro is for drivers")]
mod options {
    crate::options! {
        /// There are none.
        pub struct Options for "stage" {}
    }
}

/// An engine that its owner drives, or one with a thread of its own.
pub(super) fn engine(bench: &Arc<Bench>, own_thread: bool) -> Engine {
    let builder = Engine::builder().reactor(bench.clone()).pool_threads(1);
    let builder = if own_thread { builder } else { builder.owner_driven() };
    builder.build().expect("an engine")
}

/// A handle over a wire.
pub(super) fn on_wire(engine: &Engine, wire: &Arc<Wire>) -> Handle {
    on_wire_with(engine, wire, crate::handle::MAX_OPS)
}

/// The same with room for so many ops a direction.
pub(super) fn on_wire_with(engine: &Engine, wire: &Arc<Wire>, ops: u32) -> Handle {
    let sock = connected(wire).sock;
    let stack = stack(move || Box::new(OnWire { sock: sock.clone() }));
    engine.open(&stack, ()).max_ops(ops).wait().expect("an open handle")
}

/// A handle over a desk.
pub(super) fn at_desk(engine: &Engine, desk: &Arc<Desk>) -> Handle {
    engine.open(&desk_stack(desk), ()).wait().expect("an open handle")
}

pub(super) fn desk_stack(desk: &Arc<Desk>) -> Stack {
    let desk = desk.clone();
    stack(move || Box::new(AtDesk { desk: desk.clone() }))
}

fn stack(make: impl Fn() -> Box<dyn Level> + Send + Sync + 'static) -> Stack {
    let info = Info::new("stage", Shape::Transport, "for models");
    Stack::new(LevelNode::new(Arc::new(Stage { info, make: Box::new(make) }))).expect("a stack")
}

pub(super) fn room() -> BytesMut {
    BytesMut::with_capacity(8)
}

/// What became of an op: nothing, bytes or an error; it asserts that it ends once.
pub(super) struct Fate {
    times: AtomicU32,
    end: Mutex<Option<Result<Bytes, ErrorKind>>>,
}

impl Fate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { times: AtomicU32::new(0), end: Mutex::new(None) })
    }

    pub(super) fn set(&self, end: Result<Bytes, ErrorKind>) {
        *self.end.lock() = Some(end);
        assert_eq!(self.times.fetch_add(1, Ordering::Relaxed), 0, "an op ended twice");
    }

    /// A callback for a read.
    pub(super) fn of_read(
        self: &Arc<Self>,
    ) -> impl FnOnce(Result<crate::ReadDone, crate::Failed<crate::ReadDone>>) + Send + 'static {
        let me = self.clone();
        move |r| {
            me.set(match r {
                Ok(d) => Ok(d.into_bytes()),
                Err(e) => {
                    assert!(e.back.n == 0, "bytes came with an error");
                    Err(e.kind())
                }
            })
        }
    }

    /// A callback for anything else.
    pub(super) fn of_other(self: &Arc<Self>) -> impl FnOnce(Result<(), Error>) + Send + 'static {
        let me = self.clone();
        move |r| me.set(r.map(|()| Bytes::new()).map_err(|e| e.kind()))
    }

    pub(super) fn is_set(&self) -> bool {
        self.times.load(Ordering::Relaxed) > 0
    }

    pub(super) fn get(&self) -> Result<Bytes, ErrorKind> {
        self.end.lock().clone().expect("an op never ended")
    }
}

struct Stage {
    info: Info,
    make: Box<dyn Fn() -> Box<dyn Level> + Send + Sync>,
}

impl Driver for Stage {
    fn info(&self) -> &Info {
        &self.info
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(options::Options::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::NOTHING
    }
    fn caps(&self, _: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(Caps::stream())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::OPEN | Intercepts::CLOSE | Intercepts::READ | Intercepts::WRITE | Intercepts::READY
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok((self.make)())
    }
}

/// Asks the reactor, as a socket's driver does.
struct OnWire {
    sock: Sock,
}

impl Level for OnWire {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.finished()
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        op.finished()
    }
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.io(Io::Recv(self.sock.clone()))
    }
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        op.io(Io::Send(self.sock.clone()))
    }
    fn ready<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Ready>) -> Flow<'o> {
        match op.io_done() {
            crate::io::IoDone::None => op.io(Io::Ready(self.sock.clone(), Direction::Read)),
            _ => op.finished(),
        }
    }
}

/// What a model and its level share. Its lock comes after the handle's: tokens are used without it.
pub(super) struct Desk {
    inner: Mutex<Papers>,
    /// Whether it keeps what is cancelled.
    keeps: bool,
    /// Who gets what is written here.
    peer: Mutex<Weak<Self>>,
}

#[derive(Default)]
struct Papers {
    reads: VecDeque<Held<Read>>,
    data: VecDeque<Bytes>,
}

impl Desk {
    pub(super) fn new(keeps: bool) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Papers::default()), keeps, peer: Mutex::new(Weak::new()) })
    }

    /// Two desks; what is written at one is there to read at the other.
    pub(super) fn pair() -> (Arc<Self>, Arc<Self>) {
        let (a, b) = (Self::new(false), Self::new(false));
        *a.peer.lock() = Arc::downgrade(&b);
        *b.peer.lock() = Arc::downgrade(&a);
        (a, b)
    }

    /// Has the first held read find these bytes.
    pub(super) fn give(&self, bytes: &'static [u8]) {
        self.hand(Bytes::from_static(bytes));
    }

    fn hand(&self, bytes: Bytes) {
        let held = {
            let mut i = self.inner.lock();
            i.data.push_back(bytes);
            i.reads.pop_front()
        };
        held.into_iter().for_each(Held::retry);
    }

    /// Takes the token of the first held read.
    pub(super) fn first(&self) -> Option<Held<Read>> {
        self.inner.lock().reads.pop_front()
    }

    /// Bytes that no read has taken.
    pub(super) fn left(&self) -> usize {
        self.inner.lock().data.iter().map(Bytes::len).sum()
    }
}

struct AtDesk {
    desk: Arc<Desk>,
}

impl Level for AtDesk {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.finished()
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        op.finished()
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let mut i = self.desk.inner.lock();
        let Some(bytes) = i.data.pop_front() else {
            let (held, flow) = op.hold(cx);
            i.reads.push_back(held);
            return flow;
        };
        op.put_chunk(&mut Chunk::from(bytes));
        op.finished()
    }

    fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        if let Some(peer) = self.desk.peer.lock().upgrade() {
            peer.hand(op.pieces().iter().flat_map(|p| p.iter().copied()).collect());
        }
        op.take_all();
        op.finished()
    }

    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        if self.desk.keeps {
            return Cancel::Keep;
        }
        let mut i = self.desk.inner.lock();
        let gone = i.reads.iter().position(|h| h.id() == id).and_then(|at| i.reads.remove(at));
        drop(i);
        drop(gone);
        Cancel::Take
    }
}
