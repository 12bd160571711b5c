//! What a driver author writes: a level, a state machine that answers ops. The engine is the one
//! loop that calls it. Invariant: every method runs under the handle's one lock, alone, and must
//! not block.

use crate::cntl::Cntl;
use crate::contact::Contact;
use crate::cx::{Cx, Event};
use crate::error::Error;
use crate::io::IoDone;
use crate::op::{Accept, Close, Flow, Flush, Listen, Op, OpId, Open, Read, Ready, Shutdown, Write};

/// Why a held op is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its owner cancelled it, or the handle closes.
    Cancelled,
    /// Its deadline passed.
    TimedOut,
}

/// What a level says to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Take it: the engine finishes the op, the token goes stale.
    Take,
    /// Keep it: the level finishes the op soon with its real result. Reads that were asked for later may have
    /// to wait for that.
    Keep,
}

/// One level of an open stack.
///
/// Everything has a default that passes: a level only writes the methods of the op kinds its driver
/// names in [`Intercepts`](crate::driver::Intercepts). Each op method gets the op by value and must
/// answer with a [`Flow`], which only the op can make: pass it down, finish it, fail it, hold it,
/// hand it to the reactor, or send its heavy part out of the lock.
///
/// # Context
/// All methods are called under the handle's lock, from whatever thread drives the handle: a
/// caller's own, or the engine's. They may not block and need not be re-entrant. An op may be
/// finished inline. What a level asks of `cx` runs in the order asked, and before the op in hand
/// moves on: `cx.write(close_notify); op.pass()` is right as it stands.
///
/// ```
/// use xio_core::{Cx, Flow, Level, Op, op::Read};
/// /// Counts the bytes that come up.
/// struct Count { bytes: u64 }
/// impl Level for Count {
///     fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
///         self.bytes += op.got() as u64;
///         op.finished()
///     }
/// }
/// ```
#[allow(unused_variables, reason = "default methods name their arguments for the reader")]
pub trait Level: Send {
    /// An open goes down. A transport answers with I/O; after it the method is called again with
    /// [`Op::io_done`]. Allowed errors: any.
    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.pass()
    }
    /// An open comes back up; the level may still fail it, and the engine closes what is below.
    fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.finished()
    }
    /// A close goes down. Nothing of the levels above, and none of this level's own ops, is in or
    /// below this level any more; what it writes here is out before the level below is closed.
    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        op.pass()
    }
    /// A close comes back up.
    fn close_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        op.finished()
    }
    /// A read goes down.
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.pass()
    }
    /// A read comes back up.
    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.finished()
    }
    /// A read comes back from [`Op::work`].
    fn read_worked<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.finished()
    }
    /// A write goes down.
    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        op.pass()
    }
    /// A write comes back up.
    fn write_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        op.finished()
    }
    /// A write comes back from [`Op::work`].
    fn write_worked<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        op.pass()
    }
    /// A flush goes down: the level sends on what it keeps, then passes it.
    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        op.pass()
    }
    /// A flush comes back up.
    fn flush_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        op.finished()
    }
    /// The end of the write side goes down: like a flush, and nothing may be written after it.
    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        op.pass()
    }
    /// It comes back up.
    fn shutdown_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        op.finished()
    }
    /// A wait for readiness goes down; a level that keeps read data finishes it at once.
    fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        op.pass()
    }
    /// It comes back up.
    fn ready_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        op.finished()
    }
    /// An accept goes down.
    fn accept<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Accept>) -> Flow<'o> {
        op.pass()
    }
    /// An accept comes back up with a link; the level adds what it knows of it.
    fn accept_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Accept>) -> Flow<'o> {
        op.finished()
    }
    /// The start of a server, top to bottom (XIO's `server_pre_init`): the contact is where to
    /// listen. The transport listens and sets the contact a client can use.
    fn listen<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Listen>) -> Flow<'o> {
        op.pass()
    }
    /// The start of a server, bottom to top (XIO's `server_init`): the contact is where a client
    /// connects to; the level may amend it.
    fn listen_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Listen>) -> Flow<'o> {
        op.finished()
    }

    /// A read this level made is back. `finished` frees it, `pass` issues it again.
    fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.finished()
    }
    /// A write this level made is back.
    fn own_write_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        op.finished()
    }
    /// An open this level made is back.
    fn own_open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.finished()
    }
    /// A close this level made is back.
    fn own_close_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        op.finished()
    }
    /// A flush this level made is back.
    fn own_flush_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        op.finished()
    }
    /// A shutdown this level made is back.
    fn own_shutdown_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        op.finished()
    }
    /// A wait for readiness this level made is back.
    fn own_ready_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        op.finished()
    }
    /// An accept this level made is back.
    fn own_accept_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Accept>) -> Flow<'o> {
        op.finished()
    }
    /// The start of a server this level made is back.
    fn own_listen_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Listen>) -> Flow<'o> {
        op.finished()
    }

    /// A request made with [`Cx::io`] is done.
    fn io_done(&mut self, cx: &mut Cx<'_>, tag: u32, done: IoDone) {}

    /// A timer made with [`Cx::after`] or [`Cx::every`] fired. Never early, and never after it was
    /// dropped.
    fn timer(&mut self, cx: &mut Cx<'_>, tag: u32) {}

    /// Somebody woke the level through a [`Waker`](crate::cx::LevelWaker).
    fn woken(&mut self, cx: &mut Cx<'_>) {}

    /// Something happened below. `true` consumes it, `false` lets it rise.
    fn event(&mut self, cx: &mut Cx<'_>, event: &Event) -> bool {
        false
    }

    /// An op this level holds is to stop.
    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        Cancel::Take
    }

    /// Answers a command.
    ///
    /// # Errors
    /// [`crate::ErrorKind::UnsupportedCommand`] for a command it does not know, so that a query
    /// walks on to the level below; nothing may have changed then.
    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        Err(c.unsupported())
    }

    /// Whether this process may use what the level has: not a child that a fork made of the one that opened it. Asked
    /// of transports that share memory before each op of a user's, so that no level above takes an op that nobody will
    /// do.
    fn is_ours(&self) -> bool {
        true
    }

    /// Whether `contact` would reach the peer this level is connected to (EVPath's
    /// `connection_eq`). `None`: cannot tell.
    fn same_peer(&self, contact: &Contact) -> Option<bool> {
        None
    }
}
