//! The op as a level sees it: a one-word cursor taken by value that must be turned into a [`Flow`].
//! Invariant: a level answers each op exactly once. A double answer, a forgotten one and a stashed
//! flow do not compile, because making a flow consumes the cursor and the flow carries the
//! cursor's lifetime.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::attr::OpAttrs;
use crate::body::{AcceptBody, CloseBody, ListenBody, OpenBody, PlainBody, ReadBody, ReadyBody, WriteBody};
use crate::cx::Cx;
use crate::driver::OpKind;
use crate::engine::end::End;
use crate::engine::pump::Transfer;
use crate::engine::walk::Settled;
use crate::error::Error;
use crate::held::Held;
use crate::io::{Io, IoDone};
use crate::level::Level;
use crate::time::Time;

/// Number of an op in its handle; never used twice, so a stale one harms nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl OpId {
    /// Stands for an op that has not been given a number.
    pub(crate) const NONE: Self = Self { slot: u32::MAX, generation: 0 };

    /// Whether it has no number; a place in the order it may have.
    pub(crate) const fn is_none(self) -> bool {
        self.slot == u32::MAX
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// What every op has, whatever its kind.
pub(crate) struct Head {
    pub(crate) id: OpId,
    /// The level it is at or was last at.
    pub(crate) at: u8,
    /// The level that made it; 0 is the user.
    pub(crate) origin: u8,
    /// The branch `pass_to` chose.
    pub(crate) branch: u8,
    /// The branch of its origin that it was made for.
    pub(crate) own_branch: u8,
    pub(crate) role: Role,
    /// The owner would rather wait than be told `Busy`.
    pub(crate) waits: bool,
    /// Counted among the user's outstanding ops, with so many bytes.
    pub(crate) charged: bool,
    pub(crate) charge: usize,
    /// What its level calls it; for a user's read the place of its bytes, once it has any.
    pub(crate) tag: u64,
    pub(crate) error: Option<Error>,
    pub(crate) attrs: OpAttrs,
    pub(crate) io: IoSlot,
    pub(crate) deadline: Time,
    /// The op of the level above that this driver-made op serves.
    pub(crate) serves: OpId,
    pub(crate) word: u64,
    #[allow(clippy::box_collection, reason = "one word where there are none")]
    pub(crate) more_words: Option<Box<Vec<u64>>>,
}

/// What an op is for, where that is not plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    Plain,
    /// Carries a request made with `cx.io`.
    Request,
    /// Closes what a failed open had opened.
    Unwind,
}

pub(crate) enum IoSlot {
    None,
    Ask(Io),
    Done(Box<IoDone>),
    /// Done, and there is nothing to say.
    Plain,
    Work(Box<dyn std::any::Any + Send>),
}

impl Head {
    pub(crate) const fn new() -> Self {
        Self {
            id: OpId::NONE,
            at: 0,
            origin: 0,
            branch: 0,
            own_branch: 0,
            role: Role::Plain,
            waits: true,
            charged: false,
            charge: 0,
            tag: 0,
            error: None,
            attrs: OpAttrs::new(),
            io: IoSlot::None,
            deadline: Time::NEVER,
            serves: OpId::NONE,
            word: 0,
            more_words: None,
        }
    }
}

/// An op where it lies: head, body by kind, and what to do when it is finished.
pub(crate) struct Cell<K: Kind> {
    pub(crate) head: Head,
    pub(crate) body: K::Body,
    pub(crate) end: End<K>,
}

impl<K: Kind> Cell<K> {
    pub(crate) fn boxed() -> Box<Self> {
        Box::new(Self { head: Head::new(), body: K::empty(), end: End::Own })
    }
}

/// A cell of any kind, as a slab keeps it.
pub(crate) enum AnyCell {
    Open(Box<Cell<Open>>),
    Close(Box<Cell<Close>>),
    Read(Box<Cell<Read>>),
    Write(Box<Cell<Write>>),
    Flush(Box<Cell<Flush>>),
    Shutdown(Box<Cell<Shutdown>>),
    Ready(Box<Cell<Ready>>),
    Accept(Box<Cell<Accept>>),
    Listen(Box<Cell<Listen>>),
}

/// Calls `$f::<K>(cell, …)` with the cell of the kind that is inside.
macro_rules! with_cell {
    ($any:expr, $cell:ident => $body:expr) => {
        match $any {
            $crate::op::AnyCell::Open($cell) => $body,
            $crate::op::AnyCell::Close($cell) => $body,
            $crate::op::AnyCell::Read($cell) => $body,
            $crate::op::AnyCell::Write($cell) => $body,
            $crate::op::AnyCell::Flush($cell) => $body,
            $crate::op::AnyCell::Shutdown($cell) => $body,
            $crate::op::AnyCell::Ready($cell) => $body,
            $crate::op::AnyCell::Accept($cell) => $body,
            $crate::op::AnyCell::Listen($cell) => $body,
        }
    };
}
pub(crate) use with_cell;

impl AnyCell {
    pub(crate) fn head(&self) -> &Head {
        with_cell!(self, c => &c.head)
    }

    pub(crate) fn head_mut(&mut self) -> &mut Head {
        with_cell!(self, c => &mut c.head)
    }

    pub(crate) fn kind(&self) -> OpKind {
        match self {
            Self::Open(_) => OpKind::Open,
            Self::Close(_) => OpKind::Close,
            Self::Read(_) => OpKind::Read,
            Self::Write(_) => OpKind::Write,
            Self::Flush(_) => OpKind::Flush,
            Self::Shutdown(_) => OpKind::Shutdown,
            Self::Ready(_) => OpKind::Ready,
            Self::Accept(_) => OpKind::Accept,
            Self::Listen(_) => OpKind::Listen,
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A kind of op, as a type: [`Open`], [`Close`], [`Read`], [`Write`], [`Flush`], [`Shutdown`],
/// [`Ready`], [`Accept`] or [`Listen`].
#[allow(private_interfaces, private_bounds, reason = "sealed: only the engine calls these")]
pub trait Kind: sealed::Sealed + Sized + Send + 'static {
    /// The same as a value.
    const KIND: OpKind;
    /// What an op of this kind carries.
    type Body: Send;
    /// What its owner gets.
    type Outcome: Send + 'static;

    #[doc(hidden)]
    fn empty() -> Self::Body;
    #[doc(hidden)]
    fn down<'o>(level: &mut dyn Level, cx: &mut Cx<'_>, op: Op<'o, Self>) -> Flow<'o>;
    #[doc(hidden)]
    fn up<'o>(level: &mut dyn Level, cx: &mut Cx<'_>, op: Op<'o, Self>) -> Flow<'o>;
    #[doc(hidden)]
    fn own<'o>(level: &mut dyn Level, cx: &mut Cx<'_>, op: Op<'o, Self>) -> Flow<'o>;
    #[doc(hidden)]
    fn worked<'o>(_: &mut dyn Level, _: &mut Cx<'_>, op: Op<'o, Self>) -> Flow<'o> {
        op.finished()
    }
    #[doc(hidden)]
    fn wrap(cell: Box<Cell<Self>>) -> AnyCell;
    #[doc(hidden)]
    fn unwrap(any: AnyCell) -> Option<Box<Cell<Self>>>;
    #[doc(hidden)]
    fn outcome(cell: &mut Cell<Self>) -> Self::Outcome;
    /// Gives up what the level the op is leaving had put in place of the owner's buffers, and says
    /// whether the level moved anything itself.
    #[doc(hidden)]
    fn leave_level(_body: &mut Self::Body, _node: u8) -> bool {
        false
    }
    /// The op comes up to `node`: what the levels below it had put in place comes off.
    #[doc(hidden)]
    fn come_up(_body: &mut Self::Body, _node: u8) {}
    /// Whether an op that a level finished itself has moved enough.
    #[doc(hidden)]
    fn settle(_body: &mut Self::Body, _borders: bool) -> Settled {
        Settled::Enough
    }
    /// Moves bytes between the op and a socket until it is done or would block; a patient caller has
    /// time for the first.
    #[doc(hidden)]
    fn transfer(_body: &mut Self::Body, _io: &Io, _patient: bool) -> Transfer {
        Transfer::Failed(Error::new(crate::error::ErrorKind::Contract).detail("this kind of op moves no bytes"))
    }
    /// Whether a request is such a transfer; any other one comes back to the level.
    #[doc(hidden)]
    fn transfers(io: &Io) -> bool {
        match io {
            Io::Recv(_) | Io::Send(_) => true,
            Io::SendDatagrams(..) => matches!(Self::KIND, OpKind::Write),
            _ => false,
        }
    }
    /// Sets the direction of a wait for readiness.
    #[doc(hidden)]
    fn set_direction(_body: &mut Self::Body, _direction: crate::io::Direction) {}
    /// The direction of a wait for readiness.
    #[doc(hidden)]
    fn direction(_body: &Self::Body) -> Option<crate::io::Direction> {
        None
    }
    /// The body, if it is a read's.
    #[doc(hidden)]
    fn read_body(_body: &mut Self::Body) -> Option<&mut ReadBody> {
        None
    }
    /// The body, if it is an accept's.
    #[doc(hidden)]
    fn accept_body(_body: &mut Self::Body) -> Option<&mut AcceptBody> {
        None
    }
    /// Whether a level put something else in place of what the owner wrote.
    #[doc(hidden)]
    fn is_dressed(_body: &Self::Body) -> bool {
        false
    }
    /// Bytes the op is to move in all.
    #[doc(hidden)]
    fn total(_body: &Self::Body) -> usize {
        0
    }
    /// Bytes moved so far, and whether that is the read direction.
    #[doc(hidden)]
    fn moved(_body: &Self::Body) -> Option<(bool, usize)> {
        None
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $K:ident, $Body:ty, $empty:expr, $Outcome:ty, $down:ident, $up:ident, $own:ident
       $(, worked = $worked:ident, leave = $leave:path, come_up = $come_up:expr, settle = $settle:path, transfer = $transfer:path, moved = $moved:expr, total = $total:expr, dressed = $dressed:expr, read = $read:expr)?
       $(, set_direction = $set_direction:expr, direction = $direction:expr)?
       $(, accept = $accept:expr)?;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $K {}
        impl sealed::Sealed for $K {}
        #[allow(private_interfaces, reason = "sealed: only the engine calls these")]
        impl Kind for $K {
            const KIND: OpKind = OpKind::$K;
            type Body = $Body;
            type Outcome = $Outcome;
            #[inline]
            fn empty() -> $Body { $empty }
            #[inline]
            fn down<'o>(level: &mut dyn Level, cx: &mut Cx<'_>, op: Op<'o, Self>) -> Flow<'o> { level.$down(cx, op) }
            #[inline]
            fn up<'o>(level: &mut dyn Level, cx: &mut Cx<'_>, op: Op<'o, Self>) -> Flow<'o> { level.$up(cx, op) }
            #[inline]
            fn own<'o>(level: &mut dyn Level, cx: &mut Cx<'_>, op: Op<'o, Self>) -> Flow<'o> { level.$own(cx, op) }
            $(
                #[inline]
                fn worked<'o>(level: &mut dyn Level, cx: &mut Cx<'_>, op: Op<'o, Self>) -> Flow<'o> {
                    level.$worked(cx, op)
                }
                #[inline]
                fn leave_level(body: &mut $Body, node: u8) -> bool { $leave(body, node) }
                #[inline]
                fn come_up(body: &mut $Body, node: u8) { $come_up(body, node) }
                #[inline]
                fn settle(body: &mut $Body, borders: bool) -> Settled { $settle(body, borders) }
                #[inline]
                fn transfer(body: &mut $Body, io: &Io, patient: bool) -> Transfer { $transfer(body, io, patient) }
                fn moved(body: &$Body) -> Option<(bool, usize)> { $moved(body) }
                fn total(body: &$Body) -> usize { $total(body) }
                fn is_dressed(body: &$Body) -> bool { $dressed(body) }
                fn read_body(body: &mut $Body) -> Option<&mut ReadBody> { $read(body) }
            )?
            $(
                fn set_direction(body: &mut $Body, d: crate::io::Direction) { $set_direction(body, d) }
                fn direction(body: &$Body) -> Option<crate::io::Direction> { $direction(body) }
            )?
            $(
                fn accept_body(body: &mut $Body) -> Option<&mut AcceptBody> { $accept(body) }
            )?
            #[inline]
            fn wrap(cell: Box<Cell<Self>>) -> AnyCell { AnyCell::$K(cell) }
            #[inline]
            fn unwrap(any: AnyCell) -> Option<Box<Cell<Self>>> {
                match any { AnyCell::$K(c) => Some(c), _ => None }
            }
            fn outcome(cell: &mut Cell<Self>) -> $Outcome { <$Outcome as crate::engine::end::FromCell<Self>>::from_cell(cell) }
        }
    )+};
}

use crate::engine::end::{Failed, ReadDone, WriteDone};

kinds! {
    /// Opens the stack.
    Open, OpenBody, OpenBody::default(), Result<(), Error>, open, open_done, own_open_done;
    /// Closes it.
    Close, CloseBody, CloseBody::default(), Result<(), Error>, close, close_done, own_close_done;
    /// Reads.
    Read, ReadBody, ReadBody::empty(), Result<ReadDone, Failed<ReadDone>>, read, read_done, own_read_done,
        worked = read_worked, leave = ReadBody::leave, come_up = ReadBody::come_up, settle = ReadBody::settle,
        transfer = ReadBody::transfer, moved = |b: &ReadBody| Some((true, b.got)), total = |b: &ReadBody| b.got, dressed = |_| false,
        read = Some;
    /// Writes.
    Write, WriteBody, WriteBody::empty(), Result<WriteDone, Failed<WriteDone>>, write, write_done, own_write_done,
        worked = write_worked, leave = WriteBody::leave, come_up = WriteBody::come_up, settle = WriteBody::settle,
        transfer = WriteBody::transfer, moved = |b: &WriteBody| Some((false, b.moved)), total = |b: &WriteBody| b.total, dressed = WriteBody::is_dressed,
        read = |_| None;
    /// Makes sure that what was written has left every level.
    Flush, PlainBody, PlainBody::default(), Result<(), Error>, flush, flush_done, own_flush_done;
    /// Ends the write side.
    Shutdown, PlainBody, PlainBody::default(), Result<(), Error>, shutdown, shutdown_done, own_shutdown_done;
    /// Waits until a transfer would move something.
    Ready, ReadyBody, ReadyBody::default(), Result<(), Error>, ready, ready_done, own_ready_done,
        set_direction = |b: &mut ReadyBody, d| b.direction = d, direction = |b: &ReadyBody| Some(b.direction);
    /// Waits for a link.
    Accept, AcceptBody, AcceptBody::default(), Result<crate::engine::end::Accepted, Error>, accept, accept_done, own_accept_done,
        accept = Some;
    /// Starts a server.
    Listen, ListenBody, ListenBody::default(), Result<crate::contact::Contact, Error>, listen, listen_done, own_listen_done;
}

/// The cursor of an op at one level. One word; consumed by answering.
///
/// It derefs to the op's body: [`ReadBody`], [`WriteBody`] and so on.
///
/// ```compile_fail,E0382
/// # use xio_core::{Op, op::{Flow, Read}};
/// fn twice<'o>(op: Op<'o, Read>) -> Flow<'o> {
///     let _ = op.finished();
///     op.finished() // used after move
/// }
/// ```
///
/// ```compile_fail
/// # use xio_core::{Op, op::{Flow, Read}};
/// fn forgotten<'o>(op: Op<'o, Read>) -> Flow<'o> {
///     drop(op); // nothing else can make a flow
/// }
/// ```
///
/// ```compile_fail,E0308
/// # use xio_core::{Op, op::{Flow, Read, Write}};
/// fn wrong_kind<'o>(op: Op<'o, Read>) -> Flow<'o> {
///     finish_write(op) // a read is not a write
/// }
/// fn finish_write<'o>(op: Op<'o, Write>) -> Flow<'o> { op.finished() }
/// ```
///
/// ```compile_fail
/// # use xio_core::{Op, op::{Flow, Read}};
/// struct Level { stash: Option<Flow<'static>> }
/// impl Level {
///     fn read<'o>(&mut self, op: Op<'o, Read>) -> Flow<'o> {
///         self.stash = Some(op.finished()); // does not live that long
///         loop {}
///     }
/// }
/// ```
pub struct Op<'o, K: Kind> {
    pub(crate) cell: &'o mut Cell<K>,
    brand: Brand<'o>,
}

type Brand<'o> = PhantomData<fn(&'o ()) -> &'o ()>;

/// What a level answered. Only an [`Op`] makes one.
#[must_use = "a level must return the flow of the op it was given"]
pub struct Flow<'o> {
    pub(crate) act: Act,
    brand: Brand<'o>,
}

/// The answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Act {
    /// Down to the first branch.
    Pass,
    /// Down to the branch in the head.
    PassTo,
    /// Up; the level moved nothing itself.
    Up,
    /// Up after the engine has checked that enough moved.
    Done,
    /// Up with the error in the head.
    Fail,
    Hold,
    Io,
    Work,
    /// Waits for what the level delivers.
    Inbox,
    /// An accept whose connection became part of an open handle: start over.
    Joined,
}

impl<'o, K: Kind> Op<'o, K> {
    #[inline]
    pub(crate) fn new(cell: &'o mut Cell<K>) -> Self {
        Self { cell, brand: PhantomData }
    }

    #[inline]
    fn flow(self, act: Act) -> Flow<'o> {
        Flow { act, brand: PhantomData }
    }

    /// Passes the op down to the level below; to the first branch where there are several. From
    /// a `*_done` method it goes down once more.
    #[inline]
    pub fn pass(self) -> Flow<'o> {
        self.flow(Act::Pass)
    }

    /// Passes the op down to one branch, counted from 0 in the order of the spec. Clears the error,
    /// so that a failed op can try another branch.
    #[inline]
    pub fn pass_to(self, branch: u8) -> Flow<'o> {
        self.cell.head.branch = branch;
        self.cell.head.error = None;
        self.flow(Act::PassTo)
    }

    /// Sends the op back up as it is: done, or with the error it has.
    #[inline]
    pub fn finished(self) -> Flow<'o> {
        let head = &self.cell.head;
        let act = if head.error.is_some() {
            Act::Up
        } else if K::leave_level(&mut self.cell.body, head.at) {
            Act::Done
        } else {
            Act::Up
        };
        self.flow(act)
    }

    /// Sends the op back up with an error. The engine adds the level and the stack to it.
    #[cold]
    pub fn failed(self, error: impl Into<Error>) -> Flow<'o> {
        self.cell.head.error = Some(error.into());
        K::leave_level(&mut self.cell.body, self.cell.head.at);
        self.flow(Act::Fail)
    }

    /// Keeps the op at this level. The token finishes it later, from anywhere; dropped, the op
    /// fails with [`crate::ErrorKind::Dropped`] and the driver's name.
    pub fn hold(self, cx: &mut Cx<'_>) -> (Held<K>, Flow<'o>) {
        let held = cx.hold::<K>(&mut self.cell.head);
        (held, self.flow(Act::Hold))
    }

    /// Asks the reactor. `Recv` and `Send` finish the op at this level; after anything else the
    /// same method of the level is called again, with [`io_done`](Self::io_done).
    #[inline]
    pub fn io(self, io: Io) -> Flow<'o> {
        self.cell.head.io = IoSlot::Ask(io);
        self.flow(Act::Io)
    }

    /// What the request made with [`io`](Self::io) came to; [`IoDone::None`] before there was one.
    #[inline]
    pub fn io_done(&mut self) -> IoDone {
        if let IoSlot::Plain = self.cell.head.io {
            self.cell.head.io = IoSlot::None;
            return IoDone::Done;
        }
        if let IoSlot::Done(done) = &mut self.cell.head.io {
            let done = std::mem::take(&mut **done);
            self.cell.head.io = IoSlot::None;
            return done;
        }
        IoDone::None
    }

    /// Runs the heavy part of this op with the handle's lock released, then calls `read_worked` or
    /// `write_worked` of this level. Meant for work of a microsecond or more. The other direction
    /// goes on meanwhile, so what `job` needs must be shared with the level (an `Arc`, a lock).
    pub fn work(self, job: impl FnOnce(&mut K::Body) + Send + 'static) -> Flow<'o> {
        let at = self.cell.head.at;
        if let Some(body) = K::read_body(&mut self.cell.body) {
            body.worker = at;
        }
        let job: Job<K> = Box::new(job);
        self.cell.head.io = IoSlot::Work(Box::new(job));
        self.flow(Act::Work)
    }

    /// The error the op has, on its way up.
    pub fn error(&self) -> Option<&Error> {
        self.cell.head.error.as_ref()
    }

    /// Takes the error away, so that the op counts as a success from here up.
    pub fn clear_error(&mut self) -> Option<Error> {
        self.cell.head.error.take()
    }

    /// Whether the owner would rather wait for room than be told `Busy`. A callback never waits.
    pub fn may_wait(&self) -> bool {
        self.cell.head.waits
    }

    /// Whether this is the op that a token of this number stood for: one that was held, and comes in again.
    /// What is kept for it must not fall to another op, if it ended while it was not held.
    pub fn is(&self, id: OpId) -> bool {
        self.cell.head.id == id
    }

    /// The tag the level gave when it made this op.
    #[inline]
    pub fn tag(&self) -> u32 {
        u32::try_from(self.cell.head.tag).unwrap_or_default()
    }

    /// The attrs that travel with the op.
    pub fn attrs(&self) -> &OpAttrs {
        &self.cell.head.attrs
    }

    /// The attrs that travel with the op, to change.
    pub fn attrs_mut(&mut self) -> &mut OpAttrs {
        &mut self.cell.head.attrs
    }
}

/// The heavy part of an op.
pub(crate) type Job<K> = Box<dyn FnOnce(&mut <K as Kind>::Body) + Send>;

impl<'o> Op<'o, Read> {
    /// Passes the read down into `buf`, a buffer of the level's own, until at least `wait_for`
    /// bytes are in it. In `read_done`, [`below`](Self::below) gives it back.
    pub fn pass_into(self, buf: bytes::BytesMut, wait_for: usize) -> Flow<'o> {
        let at = self.cell.head.at;
        self.cell.body.put_below(at, crate::buffer::Target::Fill(buf), usize::MAX, wait_for);
        self.flow(Act::Pass)
    }

    /// Passes the read down as a take: at least `wait_for` bytes come as chunks, no more than
    /// `most`. In `read_done`, [`below`](Self::below) gives them.
    #[inline]
    pub fn pass_take(self, wait_for: usize, most: usize) -> Flow<'o> {
        let at = self.cell.head.at;
        self.cell.body.put_below(at, crate::buffer::Target::none(), most, wait_for);
        self.flow(Act::Pass)
    }

    /// Passes the read down into the owner's own buffer, but at most `most` bytes of it.
    pub fn pass_part(self, most: usize, wait_for: usize) -> Flow<'o> {
        let at = self.cell.head.at;
        self.cell.body.limit_below(at, most, wait_for);
        self.flow(Act::Pass)
    }

    /// Gives back what `pass_into` or `pass_take` of this level put in place, with what came; the
    /// read is again as the level above wants it. After `pass_part` there is nothing to give back
    /// but the count.
    pub fn below(&mut self) -> crate::body::Below {
        let at = self.cell.head.at;
        self.cell.body.below_of(at)
    }

    /// What a read that this level made brought, taken out of it in `own_read_done`; nothing for any
    /// other read.
    pub fn brought(&mut self) -> crate::body::Below {
        let head = &self.cell.head;
        let own = head.origin != crate::plan::USER && head.at == head.origin;
        self.cell.body.brought(own)
    }

    /// Waits for a chunk that this level delivers with [`Cx::deliver`]. For drivers that are handed
    /// their data by somebody else.
    pub fn await_delivery(self) -> Flow<'o> {
        self.flow(Act::Inbox)
    }
}

impl<'o> Op<'o, Write> {
    /// Passes the write down with `lead`, a header of this level, in front.
    #[inline]
    pub fn pass_lead(self, lead: crate::buffer::Piece) -> Flow<'o> {
        self.cell.body.lead(self.cell.head.at, lead);
        self.flow(Act::Pass)
    }

    /// Passes other pieces down in place of the owner's. The owner's come back, and count as moved,
    /// when these have gone.
    pub fn pass_with(self, pieces: crate::buffer::Pieces) -> Flow<'o> {
        let at = self.cell.head.at;
        self.cell.body.replace(at, pieces);
        self.flow(Act::Pass)
    }

    /// Finishes the write with this many bytes taken; the engine comes again with the rest.
    pub fn finished_part(self, bytes: usize) -> Flow<'o> {
        self.cell.body.take_part(bytes);
        self.flow(Act::Done)
    }
}

impl<'o> Op<'o, Accept> {
    /// The connection became part of a handle that is already open; the accept goes on waiting.
    pub fn joined(self) -> Flow<'o> {
        self.flow(Act::Joined)
    }
}

impl<K: Kind> Deref for Op<'_, K> {
    type Target = K::Body;
    #[inline]
    fn deref(&self) -> &K::Body {
        &self.cell.body
    }
}

impl<K: Kind> DerefMut for Op<'_, K> {
    #[inline]
    fn deref_mut(&mut self) -> &mut K::Body {
        &mut self.cell.body
    }
}
