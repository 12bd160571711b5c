//! The op as a level sees it: a one-word cursor taken by value that must be turned into a [`Flow`].
//! Invariant: a level answers each op exactly once. A double answer, a forgotten one and a stashed
//! flow do not compile, because making a flow consumes the cursor and the flow carries the
//! cursor's lifetime.

mod cell;
mod kind;

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

pub(crate) use self::cell::{AnyCell, Cell, Head, IoSlot, Role, with_cell};
pub use self::kind::{Accept, Close, Flush, Kind, Listen, Open, Read, Ready, Shutdown, Write};
use crate::attr::OpAttrs;
use crate::cx::Cx;
use crate::error::Error;
use crate::held::Held;
use crate::io::{Io, IoDone};

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

/// The cursor of an op at one level. One word; consumed by answering.
///
/// It derefs to the op's body: [`ReadBody`](crate::body::ReadBody), [`WriteBody`](crate::body::WriteBody) and so on.
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
    /// Whether it is a user's read as it was asked for: what is put in goes to the user, and to no level above that
    /// may ask for more before it lets go.
    pub fn is_users(&self) -> bool {
        self.cell.head.origin == crate::plan::USER && self.cell.body.is_whole()
    }

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
