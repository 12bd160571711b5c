//! The kinds of op as types: what each carries, which calls of a level it makes, what its owner gets.
//! Invariant: what differs between kinds stands here or in their bodies; the loop is the same for all.

use super::{AnyCell, Cell, Flow, Op};
use crate::body::{AcceptBody, CloseBody, ListenBody, OpenBody, PlainBody, ReadBody, ReadyBody, WriteBody};
use crate::cx::Cx;
use crate::driver::OpKind;
use crate::engine::end::{Failed, ReadDone, WriteDone};
use crate::engine::pump::Transfer;
use crate::engine::walk::Settled;
use crate::error::Error;
use crate::io::Io;
use crate::level::Level;

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
    /// Whether the bytes moved so far end where a message of several does.
    #[doc(hidden)]
    fn is_at_border(_body: &Self::Body) -> bool {
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
       $(, worked = $worked:ident, leave = $leave:path, come_up = $come_up:expr, settle = $settle:path, transfer = $transfer:path, moved = $moved:expr, total = $total:expr, dressed = $dressed:expr, at_border = $at_border:expr, read = $read:expr)?
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
                fn is_at_border(body: &$Body) -> bool { $at_border(body) }
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

kinds! {
    /// Opens the stack.
    Open, OpenBody, OpenBody::default(), Result<(), Error>, open, open_done, own_open_done;
    /// Closes it.
    Close, CloseBody, CloseBody::default(), Result<(), Error>, close, close_done, own_close_done;
    /// Reads.
    Read, ReadBody, ReadBody::empty(), Result<ReadDone, Failed<ReadDone>>, read, read_done, own_read_done,
        worked = read_worked, leave = ReadBody::leave, come_up = ReadBody::come_up, settle = ReadBody::settle,
        transfer = ReadBody::transfer, moved = |b: &ReadBody| Some((true, b.got)), total = |b: &ReadBody| b.got, dressed = |_| false, at_border = |_| false,
        read = Some;
    /// Writes.
    Write, WriteBody, WriteBody::empty(), Result<WriteDone, Failed<WriteDone>>, write, write_done, own_write_done,
        worked = write_worked, leave = WriteBody::leave, come_up = WriteBody::come_up, settle = WriteBody::settle,
        transfer = WriteBody::transfer, moved = |b: &WriteBody| Some((false, b.moved)), total = |b: &WriteBody| b.total, dressed = WriteBody::is_dressed, at_border = WriteBody::is_at_border,
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
