//! What happens to an op outside the lock: its system call, its work, its wait. Invariant: no
//! handle's lock is held anywhere in this file's attempts.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::datagram::Outgoing;
use crate::engine::core::Step;
use crate::engine::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::io::{Connected, Direction, Io, IoDone, Sock};
use crate::op::{Cell, IoSlot, Job, Kind};

/// How a transfer went.
#[allow(unreachable_pub, reason = "named by a sealed trait")]
pub enum Transfer {
    Done,
    Block(Sock, Direction),
    Failed(Error),
}

/// How an attempt went.
pub(crate) enum Attempt {
    /// Go on from here.
    Go(Step),
    /// Not ready; the request is still in the op.
    Block(Sock, Direction),
    /// The pool has to run it.
    Pool(PoolJob),
}

/// A request that may block, and gives what the op waits for.
pub(crate) type PoolJob = Box<dyn FnOnce() -> IoDone + Send>;

/// As [`attempt`]; what panics fails the op and poisons its handle. The caller may have lent memory, or
/// have something set that says the op is out: it must not unwind.
#[inline]
pub(crate) fn attempt_caught<K: Kind>(shared: &Shared, cell: &mut Cell<K>, patient: bool) -> Attempt {
    catch_unwind(AssertUnwindSafe(|| attempt(shared, cell, patient))).unwrap_or_else(|_| {
        let at = cell.head.at;
        cell.head.io = IoSlot::None;
        K::leave_level(&mut cell.body, at);
        cell.head.error = Some(Error::new(ErrorKind::Panicked));
        Attempt::Go(Step::Leave(at))
    })
}

/// Tries what the op at its level asks for. `patient`: the caller has nothing better to do.
#[inline]
fn attempt<K: Kind>(shared: &Shared, cell: &mut Cell<K>, patient: bool) -> Attempt {
    let at = cell.head.at;
    match &cell.head.io {
        IoSlot::Ask(io) if K::transfers(io) => match K::transfer(&mut cell.body, io, patient) {
            Transfer::Done => {
                cell.head.io = IoSlot::None;
                K::leave_level(&mut cell.body, at);
                Attempt::Go(Step::Leave(at))
            }
            Transfer::Block(sock, direction) => Attempt::Block(sock, direction),
            Transfer::Failed(e) => {
                cell.head.io = IoSlot::None;
                cell.head.error = Some(e);
                Attempt::Go(Step::Leave(at))
            }
        },
        _ => control(shared, cell, patient),
    }
}

/// Everything but transfers.
fn control<K: Kind>(shared: &Shared, cell: &mut Cell<K>, patient: bool) -> Attempt {
    let at = cell.head.at;
    let io = match std::mem::replace(&mut cell.head.io, IoSlot::None) {
        IoSlot::Ask(io) => io,
        IoSlot::Work(job) => {
            if let Ok(job) = job.downcast::<Job<K>>() {
                let body = &mut cell.body;
                // The caller may have lent memory: it must not unwind.
                if catch_unwind(AssertUnwindSafe(|| job(body))).is_err() {
                    K::leave_level(&mut cell.body, at);
                    cell.head.error = Some(Error::new(ErrorKind::Panicked));
                    return Attempt::Go(Step::Leave(at));
                }
            }
            return Attempt::Go(Step::Worked(at));
        }
        other => {
            cell.head.io = other;
            return Attempt::Go(Step::Again(at));
        }
    };
    let came = match io {
        Io::Recv(_) | Io::Send(_) | Io::None => IoDone::Done,
        Io::Datagram(options) => result(shared.reactor.datagram(&options), done),
        Io::RecvDatagrams(sock) => match sock.0.recv_datagrams(patient) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                cell.head.io = IoSlot::Ask(Io::RecvDatagrams(sock.clone()));
                return Attempt::Block(sock, Direction::Read);
            }
            came => result(came, |d| IoDone::Datagrams(Box::new(d))),
        },
        Io::PollDatagrams(sock) => result(sock.0.recv_datagrams(false), |d| IoDone::Datagrams(Box::new(d))),
        Io::SendDatagrams(sock, envelope) => {
            let to = envelope.as_ref().and_then(|e| e.to);
            match sock.0.send_datagrams(&Outgoing::empty(to), patient) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    cell.head.io = IoSlot::Ask(Io::SendDatagrams(sock.clone(), envelope));
                    return Attempt::Block(sock, Direction::Write);
                }
                sent => result(sent, |_| IoDone::Done),
            }
        }
        Io::Resolve { host, port } => {
            let reactor = shared.reactor.clone();
            if reactor.is_virtual() {
                result(reactor.resolve(&host, port), IoDone::Addresses)
            } else {
                return Attempt::Pool(Box::new(move || result(reactor.resolve(&host, port), IoDone::Addresses)));
            }
        }
        Io::Blocking(f) => {
            let job: PoolJob = Box::new(move || result(f(), IoDone::Value));
            if shared.reactor.is_virtual() { job() } else { return Attempt::Pool(job) }
        }
        Io::Connect(what) => match shared.reactor.connect(what.0, &what.1) {
            Ok((sock, false)) => {
                cell.head.io = IoSlot::Ask(Io::Connecting(sock.clone()));
                return Attempt::Block(sock, Direction::Write);
            }
            Ok((sock, true)) => result(sock.0.finish_connect(), |peer| connected(sock, peer)),
            Err(e) => IoDone::Failed(e),
        },
        Io::Connecting(sock) => match sock.0.finish_connect() {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                cell.head.io = IoSlot::Ask(Io::Connecting(sock.clone()));
                return Attempt::Block(sock, Direction::Write);
            }
            other => result(other, |peer| connected(sock, peer)),
        },
        Io::Listen(what) => result(shared.reactor.listen(what.0, &what.1), done),
        Io::Adopt(what) => result(shared.reactor.adopt(what.0, &what.1), done),
        Io::Accept(sock, options) => match sock.0.accept() {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                cell.head.io = IoSlot::Ask(Io::Accept(sock.clone(), options));
                return Attempt::Block(sock, Direction::Read);
            }
            Ok(c) => {
                let set = c.sock.0.prepare(&options);
                result(set.map(|()| c), done)
            }
            Err(e) => IoDone::Failed(e),
        },
        Io::ShutdownWrite(sock) => result(sock.0.shutdown_write(), |()| IoDone::Done),
        Io::Close(what) => {
            let (sock, linger) = *what;
            let waits = linger.is_some_and(|d| !d.is_zero()) && !shared.reactor.is_virtual();
            let close = move || {
                if linger.is_some() {
                    // A socket whose peer is gone refuses; it closes all the same.
                    let _ = sock.0.set_linger(linger);
                }
                sock.0.closing();
                drop(sock);
                IoDone::Done
            };
            // Linux waits for a lingering close even on a socket that does not block.
            if waits {
                return Attempt::Pool(Box::new(close));
            }
            close()
        }
        Io::Ready(sock, direction) => {
            let ready = if patient { sock.0.is_ready_patiently(direction) } else { sock.0.is_ready(direction) };
            if !ready {
                cell.head.io = IoSlot::Ask(Io::Ready(sock.clone(), direction));
                return Attempt::Block(sock, direction);
            }
            IoDone::Done
        }
    };
    cell.head.io = match came {
        IoDone::Done => IoSlot::Plain,
        came => IoSlot::Done(Box::new(came)),
    };
    Attempt::Go(Step::Again(at))
}

fn done(c: Connected) -> IoDone {
    IoDone::Connected(Box::new(c))
}

fn connected(sock: Sock, peer: Option<SocketAddr>) -> IoDone {
    let local = sock.0.local();
    done(Connected::new(sock, local, peer))
}

fn result<T>(r: std::io::Result<T>, ok: impl FnOnce(T) -> IoDone) -> IoDone {
    match r {
        Ok(v) => ok(v),
        Err(e) => IoDone::Failed(e),
    }
}

/// The error of a request that was stopped.
pub(crate) fn stopped(reason: crate::level::Reason) -> Error {
    match reason {
        crate::level::Reason::Cancelled => Error::new(ErrorKind::Cancelled),
        crate::level::Reason::TimedOut => Error::new(ErrorKind::TimedOut),
    }
}
