//! What a user holds of an open stack: [`Handle`], and the calls that open, read, write and close.
//! Invariant: one submission type a kind of op, three endings each: `.wait()`, `.await`, `.then(f)`.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;

use crate::attr::{OpAttr, OpAttrs};
use crate::buffer::{LentMut, LentSlice, Pieces, Target, WriteBuf};
use crate::caps::Caps;
use crate::cntl::{Cntl, Command};
use crate::contact::Contact;
use crate::cx::{Cx, Event};
use crate::driver::{LinkPart, OpKind, Role};
use crate::engine::cells;
use crate::engine::core::{Core, Tree};
use crate::engine::end::{End, Failed, ReadDone, WriteDone};
use crate::engine::post::{Lane, Post, post};
use crate::engine::submit::{OpFuture, Ticket, block, call, start};
use crate::engine::{Engine, may_block};
use crate::error::{Error, ErrorKind};
use crate::io::Direction;
use crate::op::{Cell, Close, Flush, Kind, Listen, Open, Read, Ready, Shutdown, Write};
use crate::server::Server;
use crate::stack::Stack;
use crate::stats::Counts;
use crate::sync::Arc;
use crate::time::Time;

/// Outstanding ops a handle and direction, unless the open says otherwise.
pub const MAX_OPS: u32 = 64;
/// Outstanding bytes a handle and direction, unless the open says otherwise.
pub const MAX_BYTES: usize = 1 << 20;
/// Time an orderly close has before it is forced, unless the close says otherwise.
pub const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How to close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseMode {
    /// Outstanding reads are cancelled, writes still go out.
    #[default]
    Graceful,
    /// Everything outstanding is cancelled; a transport that can resets the connection.
    Abort,
    /// Waits for everything outstanding.
    Keep,
}

/// How a handle is set up, beside its stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) max_ops: u32,
    pub(crate) max_bytes: usize,
    pub(crate) idle: [Option<Duration>; 2],
    pub(crate) stats: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { max_ops: MAX_OPS, max_bytes: MAX_BYTES, idle: [None, None], stats: false }
    }
}

/// An open stack. Cheap to clone, `Send` and `Sync`; with the last clone it closes by itself.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Owner>);

/// The users' hold on a handle or server.
pub(crate) struct Owner {
    pub(crate) core: Arc<Core>,
    pub(crate) engine: Engine,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.shared.keep(self.core.clone());
        post(self.core.clone(), Post::LastUser);
    }
}

/// Closes a handle nobody holds any more.
pub(crate) fn close_unheld(core: &Arc<Core>) {
    let lane = Lane::enter(core);
    if lane.levels.is_empty() {
        let kept = lane.inner.shared.release(core.key);
        lane.leave();
        drop(kept);
        return;
    }
    let mut cell = Cell::<Close>::boxed();
    cell.end = End::Gone;
    cell.head.deadline = lane.inner.shared.now() + CLOSE_TIME;
    // Already closing: the close under way lets it go.
    let _ = start(core, lane, cell, false, None);
}

impl Handle {
    /// Reads into the free room of `buf`, which comes back with the bytes appended.
    pub fn read(&self, buf: impl Into<BytesMut>) -> ReadCall<'_> {
        let buf = buf.into();
        let room = buf.capacity() - buf.len();
        ReadCall { call: CallBase::new(self), target: Target::Fill(buf), room, wait_for: 1 }
    }

    /// Reads at most `most` bytes as chunks, without a copy where the stack can.
    pub fn take(&self, most: usize) -> ReadCall<'_> {
        ReadCall { call: CallBase::new(self), target: Target::none(), room: most, wait_for: 1 }
    }

    /// Reads into borrowed memory; blocking only.
    pub fn read_into<'a>(&'a self, buf: &'a mut [u8]) -> ReadInto<'a> {
        ReadInto { call: CallBase::new(self), buf, wait_for: 1 }
    }

    /// Writes owned bytes. On a stack with borders this is one message.
    pub fn write(&self, buf: impl Into<WriteBuf>) -> WriteCall<'_> {
        WriteCall { call: CallBase::new(self), pieces: buf.into().into_pieces() }
    }

    /// Writes borrowed memory; blocking only.
    pub fn write_from<'a>(&'a self, buf: &'a [u8]) -> WriteFrom<'a> {
        WriteFrom { call: CallBase::new(self), buf }
    }

    /// Waits until everything written has left every level.
    pub fn flush(&self) -> PlainCall<'_, Flush> {
        PlainCall::new(CallBase::new(self))
    }

    /// Ends the write side; the peer sees an end of stream after all data.
    pub fn shutdown(&self) -> PlainCall<'_, Shutdown> {
        PlainCall::new(CallBase::new(self))
    }

    /// Waits until a read or write would move something.
    pub fn ready(&self, direction: Direction) -> PlainCall<'_, Ready> {
        PlainCall::new(CallBase { direction, ..CallBase::new(self) })
    }

    /// Closes the handle for all its clones.
    pub fn close(&self) -> CloseCall<'_> {
        CloseCall { call: CallBase { deadline: Some(CLOSE_TIME), ..CallBase::new(self) }, mode: CloseMode::Graceful }
    }

    /// What the stack gives.
    pub fn caps(&self) -> Caps {
        self.stack().caps().clone()
    }

    /// The stack it was opened from.
    pub fn stack(&self) -> Stack {
        let lane = Lane::enter(&self.0.core);
        let stack = lane.inner.stack.clone();
        lane.leave_quiet();
        stack
    }

    /// The engine it runs on.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Gives one level a command.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownLevel`], [`ErrorKind::UnsupportedCommand`], [`ErrorKind::Closed`], or what
    /// the level says.
    pub fn cntl<C: Command>(&self, level: &str, command: C) -> Result<C::Reply, Error> {
        cntl(&self.0.core, Some(level), &command)
    }

    /// Asks level by level from the top, until one knows the command.
    ///
    /// # Errors
    /// As [`cntl`](Self::cntl).
    pub fn query<C: Command>(&self, command: C) -> Result<C::Reply, Error> {
        cntl(&self.0.core, None, &command)
    }

    /// Whether `contact` would reach the peer of this handle. `None`: no level can tell.
    pub fn same_peer(&self, contact: &Contact) -> Option<bool> {
        let lane = Lane::enter(&self.0.core);
        let answer = lane.levels.iter().find_map(|l| l.same_peer(contact));
        lane.leave_quiet();
        answer
    }

    /// What each level has seen so far, from the top; empty unless the open asked for it.
    pub fn stats(&self) -> Vec<(String, Counts)> {
        stats(&self.0.core)
    }

    /// Asks all outstanding ops of these kinds to stop.
    pub fn cancel_all(&self, kinds: &[OpKind]) {
        let mut lane = Lane::enter(&self.0.core);
        lane.cancel_kinds(kinds);
        lane.leave();
    }

    /// Calls `f` for every event that rises to the top. One listener; the last one set stays.
    pub fn on_event(&self, f: impl FnMut(&Event) + Send + 'static) {
        let mut lane = Lane::enter(&self.0.core);
        lane.inner.rare().on_event = Some(Box::new(f));
        lane.leave_quiet();
    }

    /// Outstanding reads and writes.
    pub fn outstanding(&self) -> (u32, u32) {
        let lane = Lane::enter(&self.0.core);
        let n = (lane.inner.sides[0].ops, lane.inner.sides[1].ops);
        lane.leave_quiet();
        n
    }

    /// Puts bytes back that were read and not used; the next read gets them first.
    pub fn unread(&self, bytes: bytes::Bytes) {
        let mut lane = Lane::enter(&self.0.core);
        lane.inner.rare().unread(bytes.into());
        lane.leave_quiet();
    }

    /// A half for reading and a half for writing; both are this handle.
    pub fn split(self) -> (Self, Self) {
        (self.clone(), self)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.stack())
    }
}

/// What calls on a handle have in common.
struct CallBase<'a> {
    handle: &'a Handle,
    deadline: Option<Duration>,
    attrs: OpAttrs,
    no_wait: bool,
    direction: Direction,
}

impl<'a> CallBase<'a> {
    fn new(handle: &'a Handle) -> Self {
        Self { handle, deadline: None, attrs: OpAttrs::new(), no_wait: false, direction: Direction::Read }
    }

    fn core(&self) -> &'a Arc<Core> {
        &self.handle.0.core
    }

    #[inline]
    fn until(&self) -> Time {
        match self.deadline {
            Some(d) => self.core().shared.now() + d,
            None => Time::NEVER,
        }
    }
}

macro_rules! modifiers {
    () => {
        /// Fails the op with `TimedOut` after `d`.
        pub fn deadline(mut self, d: Duration) -> Self {
            self.call.deadline = Some(d);
            self
        }
    };
    (data) => {
        modifiers!();
        /// Sets an attr that travels with the op.
        pub fn attr<T: OpAttr>(mut self, value: T) -> Self {
            self.call.attrs.set(value);
            self
        }
        /// Sets all attrs that travel with the op.
        pub fn attrs(mut self, attrs: OpAttrs) -> Self {
            self.call.attrs = attrs;
            self
        }
        /// Fails with `Busy`, buffers given back, where the limit of outstanding ops is reached,
        /// rather than wait for room. A callback ending always does.
        pub fn no_wait(mut self) -> Self {
            self.call.no_wait = true;
            self
        }
    };
}

/// A read to be ended in one of three ways.
#[must_use = "a call does nothing until it is ended with wait, await or then"]
pub struct ReadCall<'a> {
    call: CallBase<'a>,
    target: Target,
    room: usize,
    wait_for: usize,
}

fn read_cell(t: &mut Tree, target: Target, room: usize, wait_for: usize, attrs: OpAttrs) -> Box<Cell<Read>> {
    let mut cell = cells::read();
    cell.body.ask(target, room, wait_for);
    ready_read(t, cell, wait_for, attrs)
}

#[inline]
fn ready_read(t: &Tree, mut cell: Box<Cell<Read>>, wait_for: usize, attrs: OpAttrs) -> Box<Cell<Read>> {
    cell.head.charge = if cell.body.room == usize::MAX { 0 } else { cell.body.room };
    cell.head.attrs = attrs;
    if cell.body.room < wait_for && !t.plan.unit.has_borders() && cell.body.room > 0 {
        let text = format!("wait_for is {wait_for} but the buffer has room for {}", cell.body.room);
        cell.head.error = Some(Error::new(ErrorKind::InvalidInput).detail(text));
    }
    cell
}

impl ReadCall<'_> {
    modifiers!(data);

    /// Finishes only when at least `n` bytes are there. Ignored on stacks with borders.
    pub fn wait_for(mut self, n: usize) -> Self {
        self.wait_for = n;
        self
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed, with the buffer and what had arrived.
    pub fn wait(self) -> Result<ReadDone, Failed<ReadDone>> {
        let (core, until) = (self.call.core(), self.call.until());
        let Self { call, target, room, wait_for } = self;
        if let Err(e) = may_block() {
            let buf = if let Target::Fill(buf) = target { buf } else { BytesMut::new() };
            return Err(Failed::new(e, ReadDone { buf, attrs: call.attrs, ..ReadDone::default() }));
        }
        let mut cell = block::<Read>(core, until, call.no_wait, |t| read_cell(t, target, room, wait_for, call.attrs))
            .map_err(|e| Failed::new(e, ReadDone::default()))?;
        let out = Read::outcome(&mut cell);
        cells::keep_read(cell);
        out
    }

    /// Has `f` called with the outcome.
    pub fn then(self, f: impl FnOnce(Result<ReadDone, Failed<ReadDone>>) + Send + 'static) -> Ticket {
        let (core, until) = (self.call.core(), self.call.until());
        let Self { call: base, target, room, wait_for } = self;
        let setup = move |t: &mut Tree| {
            let mut cell = read_cell(t, target, room, wait_for, base.attrs);
            cell.head.deadline = until;
            cell
        };
        call::<Read>(core, setup, f)
    }
}

impl<'a> IntoFuture for ReadCall<'a> {
    type Output = Result<ReadDone, Failed<ReadDone>>;
    type IntoFuture = OpFuture<Read>;

    fn into_future(self) -> OpFuture<Read> {
        let core = self.call.core().clone();
        let until = self.call.until();
        let Self { call, target, room, wait_for } = self;
        let attrs = call.attrs;
        OpFuture::new(
            core,
            call.no_wait,
            Box::new(move |t| {
                let mut cell = read_cell(t, target, room, wait_for, attrs);
                cell.head.deadline = until;
                cell
            }),
        )
    }
}

/// A blocking read into borrowed memory.
#[must_use = "a call does nothing until it is ended with wait"]
pub struct ReadInto<'a> {
    call: CallBase<'a>,
    buf: &'a mut [u8],
    wait_for: usize,
}

impl ReadInto<'_> {
    modifiers!(data);

    /// Finishes only when at least `n` bytes are there. Ignored on stacks with borders.
    pub fn wait_for(mut self, n: usize) -> Self {
        self.wait_for = n;
        self
    }

    /// Waits on this thread; says how many bytes came.
    ///
    /// # Errors
    /// Why it failed; [`Error::moved`] says how many bytes are in the buffer.
    #[inline]
    pub fn wait(self) -> Result<usize, Error> {
        self.wait_attrs().map(|(n, _)| n)
    }

    /// As [`wait`](Self::wait), with the attrs that came up.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[inline]
    pub fn wait_attrs(self) -> Result<(usize, OpAttrs), Error> {
        let (core, until) = (self.call.core(), self.call.until());
        let Self { call, buf, wait_for } = self;
        let lent = LentMut::new(buf);
        let mut cell = block::<Read>(core, until, call.no_wait, |t| {
            let mut cell = cells::read();
            cell.body.ask_lent(lent, wait_for);
            ready_read(t, cell, wait_for, call.attrs)
        })?;
        cell.body.leave(0);
        let n = cell.body.got;
        let attrs = std::mem::take(&mut cell.head.attrs);
        let error = cell.head.error.take();
        cells::keep_read(cell);
        match error {
            None => Ok((n, attrs)),
            Some(e) => Err(e.with_moved(n as u64)),
        }
    }
}

/// A write to be ended in one of three ways.
#[must_use = "a call does nothing until it is ended with wait, await or then"]
pub struct WriteCall<'a> {
    call: CallBase<'a>,
    pieces: Pieces,
}

fn write_cell(pieces: Pieces, attrs: OpAttrs) -> Box<Cell<Write>> {
    let mut cell = cells::write();
    cell.body.ask(pieces);
    cell.head.charge = cell.body.len();
    cell.head.attrs = attrs;
    cell
}

impl WriteCall<'_> {
    modifiers!(data);

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed, with the pieces and how many bytes had gone.
    pub fn wait(self) -> Result<WriteDone, Failed<WriteDone>> {
        let (core, until) = (self.call.core(), self.call.until());
        let Self { call, pieces } = self;
        if let Err(e) = may_block() {
            return Err(Failed::new(e, WriteDone { n: 0, pieces, attrs: call.attrs }));
        }
        let mut cell = block::<Write>(core, until, call.no_wait, |_| write_cell(pieces, call.attrs))
            .map_err(|e| Failed::new(e, WriteDone::default()))?;
        let out = Write::outcome(&mut cell);
        cells::keep_write(cell);
        out
    }

    /// Has `f` called with the outcome.
    pub fn then(self, f: impl FnOnce(Result<WriteDone, Failed<WriteDone>>) + Send + 'static) -> Ticket {
        let (core, until) = (self.call.core(), self.call.until());
        let Self { call: base, pieces } = self;
        let setup = move |_: &mut Tree| {
            let mut cell = write_cell(pieces, base.attrs);
            cell.head.deadline = until;
            cell
        };
        call::<Write>(core, setup, f)
    }
}

impl<'a> IntoFuture for WriteCall<'a> {
    type Output = Result<WriteDone, Failed<WriteDone>>;
    type IntoFuture = OpFuture<Write>;

    fn into_future(self) -> OpFuture<Write> {
        let core = self.call.core().clone();
        let until = self.call.until();
        let Self { call, pieces } = self;
        let attrs = call.attrs;
        OpFuture::new(
            core,
            call.no_wait,
            Box::new(move |_| {
                let mut cell = write_cell(pieces, attrs);
                cell.head.deadline = until;
                cell
            }),
        )
    }
}

/// A blocking write of borrowed memory.
#[must_use = "a call does nothing until it is ended with wait"]
pub struct WriteFrom<'a> {
    call: CallBase<'a>,
    buf: &'a [u8],
}

impl WriteFrom<'_> {
    modifiers!(data);

    /// Waits on this thread; says how many bytes went.
    ///
    /// # Errors
    /// Why it failed; [`Error::moved`] says how many bytes had gone.
    #[inline]
    pub fn wait(self) -> Result<usize, Error> {
        let (core, until) = (self.call.core(), self.call.until());
        let Self { call, buf } = self;
        let lent = LentSlice::new(buf);
        let mut cell = block::<Write>(core, until, call.no_wait, |_| {
            let mut cell = cells::write();
            cell.body.ask_lent(lent);
            cell.head.charge = cell.body.len();
            cell.head.attrs = call.attrs;
            cell
        })?;
        let n = cell.body.finish_lent();
        cell.head.attrs = OpAttrs::new();
        let error = cell.head.error.take();
        cells::keep_write(cell);
        match error {
            None => Ok(n),
            Some(e) => Err(e.with_moved(n as u64)),
        }
    }
}

/// An op that carries nothing: flush, shutdown, ready.
#[must_use = "a call does nothing until it is ended with wait, await or then"]
pub struct PlainCall<'a, K: Kind> {
    call: CallBase<'a>,
    kind: std::marker::PhantomData<fn(K)>,
}

impl<'a, K: Kind<Outcome = Result<(), Error>>> PlainCall<'a, K> {
    fn new(call: CallBase<'a>) -> Self {
        Self { call, kind: std::marker::PhantomData }
    }

    modifiers!();

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed.
    pub fn wait(self) -> Result<(), Error> {
        let (core, until) = (self.call.core(), self.call.until());
        let direction = self.call.direction;
        let mut cell = block::<K>(core, until, false, |_| plain_cell(direction, Time::NEVER))?;
        K::outcome(&mut cell)
    }

    /// Has `f` called with the outcome.
    pub fn then(self, f: impl FnOnce(Result<(), Error>) + Send + 'static) -> Ticket {
        let (core, until) = (self.call.core(), self.call.until());
        let direction = self.call.direction;
        call::<K>(core, move |_| plain_cell(direction, until), f)
    }
}

fn plain_cell<K: Kind>(direction: Direction, until: Time) -> Box<Cell<K>> {
    let mut cell = Cell::<K>::boxed();
    K::set_direction(&mut cell.body, direction);
    cell.head.deadline = until;
    cell
}

impl<K: Kind<Outcome = Result<(), Error>>> IntoFuture for PlainCall<'_, K> {
    type Output = Result<(), Error>;
    type IntoFuture = OpFuture<K>;

    fn into_future(self) -> OpFuture<K> {
        let core = self.call.core().clone();
        let until = self.call.until();
        let direction = self.call.direction;
        OpFuture::new(core, false, Box::new(move |_| plain_cell(direction, until)))
    }
}

/// A close to be ended in one of three ways.
#[must_use = "a call does nothing until it is ended with wait, await or then"]
pub struct CloseCall<'a> {
    call: CallBase<'a>,
    mode: CloseMode,
}

impl CloseCall<'_> {
    modifiers!();

    /// How to close.
    pub fn mode(mut self, mode: CloseMode) -> Self {
        self.mode = mode;
        self
    }

    /// Cancels everything outstanding and closes at once.
    pub fn abort(self) -> Self {
        self.mode(CloseMode::Abort)
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed; [`ErrorKind::Closed`] if it was closed before.
    pub fn wait(self) -> Result<(), Error> {
        let (core, until) = (self.call.core(), self.call.until());
        let mode = self.mode;
        let mut cell = block::<Close>(core, Time::NEVER, false, |_| close_cell(mode, until))?;
        Close::outcome(&mut cell)
    }

    /// Has `f` called with the outcome.
    pub fn then(self, f: impl FnOnce(Result<(), Error>) + Send + 'static) -> Ticket {
        let (core, until) = (self.call.core(), self.call.until());
        let mode = self.mode;
        call::<Close>(core, move |_| close_cell(mode, until), f)
    }
}

fn close_cell(mode: CloseMode, until: Time) -> Box<Cell<Close>> {
    let mut cell = Cell::<Close>::boxed();
    cell.body.mode = mode;
    cell.head.deadline = until;
    cell
}

impl IntoFuture for CloseCall<'_> {
    type Output = Result<(), Error>;
    type IntoFuture = OpFuture<Close>;

    fn into_future(self) -> OpFuture<Close> {
        let core = self.call.core().clone();
        let until = self.call.until();
        let mode = self.mode;
        OpFuture::new(core, false, Box::new(move |_| close_cell(mode, until)))
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The opening of a stack, to be ended in one of three ways.
#[must_use = "a call does nothing until it is ended with wait, await or then"]
pub struct OpenCall {
    engine: Engine,
    stack: Stack,
    contact: Contact,
    links: Vec<(u8, LinkPart)>,
    setup: Setup,
    deadline: Option<Duration>,
}

macro_rules! setup_methods {
    () => {
        /// Fails with `TimedOut` after `d`, and closes whatever was open by then.
        pub fn deadline(mut self, d: Duration) -> Self {
            self.deadline = Some(d);
            self
        }
        /// Most ops outstanding in one direction; 64 unless said otherwise.
        pub fn max_ops(mut self, ops: u32) -> Self {
            self.setup.max_ops = ops.max(1);
            self
        }
        /// Most bytes outstanding in one direction; 1 MiB unless said otherwise. One op may be larger.
        pub fn max_bytes(mut self, bytes: usize) -> Self {
            self.setup.max_bytes = bytes;
            self
        }
        /// Counts what every level sees; see [`Handle::stats`].
        pub fn with_stats(mut self) -> Self {
            self.setup.stats = true;
            self
        }
    };
}

impl OpenCall {
    pub(crate) fn new(engine: Engine, stack: Stack, contact: Contact) -> Self {
        Self { engine, stack, contact, links: Vec::new(), setup: Setup::default(), deadline: None }
    }

    pub(crate) fn over_link(mut self, links: Vec<(u8, LinkPart)>) -> Self {
        self.links = links;
        self
    }

    setup_methods!();

    /// Fails reads with `TimedOut` when no byte has come for `d`.
    pub fn read_idle(mut self, d: Duration) -> Self {
        self.setup.idle[0] = Some(d);
        self
    }

    /// Fails writes with `TimedOut` when no byte has gone for `d`.
    pub fn write_idle(mut self, d: Duration) -> Self {
        self.setup.idle[1] = Some(d);
        self
    }

    fn begin(self) -> Result<(Handle, Box<Cell<Open>>, Time), Error> {
        let core = self.engine.core(&self.stack, Role::Handle, &self.setup)?;
        let until = self.deadline.map_or(Time::NEVER, |d| core.shared.now() + d);
        let mut cell = Cell::<Open>::boxed();
        cell.body.contact = self.contact;
        cell.body.links = self.links;
        Ok((Handle(Arc::new(Owner { core, engine: self.engine })), cell, until))
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed; every level that was open by then is closed again.
    pub fn wait(self) -> Result<Handle, Error> {
        let (handle, cell, until) = self.begin()?;
        let mut cell = block::<Open>(&handle.0.core, until, false, |_| cell)?;
        Open::outcome(&mut cell).map(|()| handle)
    }

    /// Has `f` called with the handle.
    pub fn then(self, f: impl FnOnce(Result<Handle, Error>) + Send + 'static) {
        match self.begin() {
            Err(e) => f(Err(e)),
            Ok((handle, mut cell, until)) => {
                cell.head.deadline = until;
                let core = handle.0.core.clone();
                call::<Open>(&core, move |_| cell, move |r| f(r.map(|()| handle)));
            }
        }
    }
}

impl IntoFuture for OpenCall {
    type Output = Result<Handle, Error>;
    type IntoFuture = Boxed<Result<Handle, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (handle, mut cell, until) = self.begin()?;
            cell.head.deadline = until;
            OpFuture::<Open>::new(handle.0.core.clone(), false, Box::new(move |_| cell)).await.map(|()| handle)
        })
    }
}

/// The start of a server, to be ended in one of two ways.
#[must_use = "a call does nothing until it is ended with wait or await"]
pub struct ListenCall {
    engine: Engine,
    stack: Stack,
    contact: Contact,
    setup: Setup,
    deadline: Option<Duration>,
}

impl ListenCall {
    pub(crate) fn new(engine: Engine, stack: Stack, contact: Contact) -> Self {
        Self { engine, stack, contact, setup: Setup::default(), deadline: None }
    }

    setup_methods!();

    fn begin(self) -> Result<(Server, Box<Cell<Listen>>, Time), Error> {
        let core = self.engine.core(&self.stack, Role::Server, &self.setup)?;
        let until = self.deadline.map_or(Time::NEVER, |d| core.shared.now() + d);
        let mut cell = Cell::<Listen>::boxed();
        cell.body.contact = self.contact;
        let server = Server::new(Arc::new(Owner { core, engine: self.engine }), self.stack);
        Ok((server, cell, until))
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed; every level that was started by then is stopped again.
    pub fn wait(self) -> Result<Server, Error> {
        let (server, cell, until) = self.begin()?;
        let mut cell = block::<Listen>(server.core(), until, false, |_| cell)?;
        Listen::outcome(&mut cell).map(|c| server.at(c))
    }
}

impl IntoFuture for ListenCall {
    type Output = Result<Server, Error>;
    type IntoFuture = Boxed<Result<Server, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (server, mut cell, until) = self.begin()?;
            cell.head.deadline = until;
            let core = server.core().clone();
            OpFuture::<Listen>::new(core, false, Box::new(move |_| cell)).await.map(|c| server.at(c))
        })
    }
}

/// Gives a command to one level, or to each from the top until one knows it.
pub(crate) fn cntl<C: Command>(core: &Arc<Core>, level: Option<&str>, command: &C) -> Result<C::Reply, Error> {
    let mut lane = Lane::enter(core);
    let mut c = Cntl::new(command);
    let result = lane.cntl(level, &mut c);
    let c = c.detach();
    lane.leave();
    result?;
    // Deferred answers make their system call here, with the lock released.
    c.into_reply::<C>()
}

pub(crate) fn stats(core: &Arc<Core>) -> Vec<(String, Counts)> {
    let lane = Lane::enter(core);
    let counts = lane.inner.rare.as_ref().and_then(|r| r.counts.clone());
    let ids = lane.inner.stack.nodes().iter().map(|n| n.place.level.to_string());
    let out = counts.map(|c| ids.zip(c.iter().copied()).collect()).unwrap_or_default();
    lane.leave_quiet();
    out
}

impl Tree {
    fn cntl(&mut self, level: Option<&str>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if self.levels.is_empty() {
            return Err(self.inner.dead());
        }
        let stack = self.inner.stack.clone();
        let mut found = false;
        for (i, node) in stack.nodes().iter().enumerate() {
            if level.is_some_and(|l| *l != *node.place.level) {
                continue;
            }
            found = true;
            let Self { levels, plan, inner } = self;
            let n = u8::try_from(i + 1).unwrap_or(u8::MAX);
            let mut cx = Cx { inner, plan, node: n };
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| levels[i].cntl(&mut cx, c)));
            self.queue_posts();
            match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(e)) if e.kind() == ErrorKind::UnsupportedCommand => {
                    if let Some(result) = generic(node, c) {
                        return result;
                    }
                }
                Ok(Err(e)) => return Err(e.at_level(node.place.clone())),
                Err(_) => {
                    self.poison_at(n);
                    return Err(self.inner.dead());
                }
            }
        }
        if found {
            return Err(c.unsupported());
        }
        let known: Vec<_> = stack.levels().map(|l| l.id().to_owned()).collect();
        Err(Error::new(ErrorKind::UnknownLevel).detail(format!(
            "`{}`; there are {}",
            level.unwrap_or_default(),
            known.join(", ")
        )))
    }

    fn cancel_kinds(&mut self, kinds: &[OpKind]) {
        let ids: Vec<_> = self.inner.ids(|e| e.origin == 0 && kinds.contains(&e.kind)).collect();
        for id in ids {
            self.cancel(id, crate::level::Reason::Cancelled);
        }
    }
}

/// Commands the engine answers where a level does not.
fn generic(node: &crate::stack::Node, c: &mut Cntl<'_>) -> Option<Result<(), Error>> {
    use crate::cntl;
    if c.command::<cntl::Caps>().is_some() {
        return Some(c.reply::<cntl::Caps>(node.caps.clone()));
    }
    if let Some(cntl::GetOption(name)) = c.command()
        && node.attr.specs().iter().any(|s| s.name == name)
    {
        return Some(c.reply::<cntl::GetOption>(node.attr.value(name)));
    }
    None
}
