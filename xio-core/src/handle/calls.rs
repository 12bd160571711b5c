//! The ops a user asks of a handle: reads, writes, flush, shutdown, ready, close, each to be ended with
//! `.wait()`, `.await` or `.then(f)`. Invariant: a call does nothing until it is ended, and gives its
//! buffers back on every outcome.

use std::future::IntoFuture;
use std::time::Duration;

use bytes::BytesMut;

use super::{CLOSE_TIME, CloseMode, Handle};
use crate::attr::{OpAttr, OpAttrs};
use crate::buffer::{LentMut, LentSlice, Loan, Pieces, Target, WriteBuf};
use crate::cntl::Borrow;
use crate::engine::block::block;
use crate::engine::cells;
use crate::engine::core::{Core, Tree};
use crate::engine::end::{Failed, ReadDone, WriteDone};
use crate::engine::future::OpFuture;
use crate::engine::may_block;
use crate::engine::submit::{Ticket, call};
use crate::error::{Error, ErrorKind};
use crate::io::Direction;
use crate::op::{Cell, Close, Flush, Kind, Read, Ready, Shutdown, Write};
use crate::sync::{Arc, planted};
use crate::time::Time;

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

    /// Memory for one write of up to `room` bytes, to be filled and then given to [`write`](Self::write).
    ///
    /// Where the transport sends from memory of its own that has room now, and no level above it changes the bytes, the
    /// loan lies there (`shm` with `trust=peer`: in the ring), and the write copies nothing. Else it is private memory,
    /// and all else is the same. What is written before it moves it out of the way, and waits only while it is being
    /// filled. One that is dropped leaves nothing behind. A write that has gone does not give it back.
    ///
    /// ```
    /// # use xio_core::Handle;
    /// # fn send(handle: &Handle, rows: &[u32]) -> Result<(), xio_core::Error> {
    /// let mut loan = handle.loan(4 * rows.len())?;
    /// loan.fill(|room| {
    ///     for (to, row) in room.chunks_exact_mut(4).zip(rows) {
    ///         to.copy_from_slice(&row.to_be_bytes());
    ///     }
    ///     4 * rows.len()
    /// });
    /// handle.write(loan).wait()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Closed`; `Exhausted` where there is not so much memory.
    pub fn loan(&self, room: usize) -> Result<Loan, Error> {
        match self.query(Borrow(room)) {
            Ok(Some(loan)) => Ok(loan),
            Err(e) if e.kind() == ErrorKind::Closed => Err(e),
            // What else is wrong, the write will tell.
            Ok(None) | Err(_) => Loan::own(room),
        }
    }

    /// Waits until everything that was written before has left every level.
    pub fn flush(&self) -> PlainCall<'_, Flush> {
        PlainCall::new(CallBase::new(self))
    }

    /// Ends the write side; the peer sees an end of stream after all data. `Unsupported` on a stack without
    /// [`half_close`](crate::caps::Caps::half_close).
    pub fn shutdown(&self) -> PlainCall<'_, Shutdown> {
        PlainCall::new(CallBase::new(self))
    }

    /// Waits until a read or write would move something. Several waits for the same thing may end in any
    /// order.
    pub fn ready(&self, direction: Direction) -> PlainCall<'_, Ready> {
        PlainCall::new(CallBase { direction, ..CallBase::new(self) })
    }

    /// Closes the handle for all its clones.
    pub fn close(&self) -> CloseCall<'_> {
        CloseCall { call: CallBase { deadline: Some(CLOSE_TIME), ..CallBase::new(self) }, mode: CloseMode::Graceful }
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
    let too_small = cell.body.room < wait_for && !planted("a read may wait for more than fits");
    if too_small && !t.plan.unit.has_borders() && cell.body.room > 0 {
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

    /// Has `f` called with the outcome, on the thread that finishes the read and with no lock held; the
    /// callbacks of one handle one after the other. A callback that waits for another callback of the same
    /// thread waits for ever.
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
