//! Two ends of a stack, each on a thread of its own where the placement says, with an engine of its
//! own.
//!
//! Invariant: an end that fails aborts its handle, so that the other one never waits for ever.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use xio_peers::datagrams::windows;
use xio_peers::placement::Side;
use xio_peers::raw::warm_up;
use xio_stacks::core::handle::OpenCall;
use xio_stacks::{Engine, Error, ErrorKind, Handle, Server};

use super::plan::{Moment, Plan, Shot};
use crate::relay::abort;

/// How long opening may take.
const SETUP_TIME: Duration = Duration::from_secs(5);

/// One sample of a ping-pong. `ping` does so many round trips and appends the time of each in
/// nanoseconds, `pong` answers as many.
pub(super) fn pingpong(
    plan: &Plan,
    ops: usize,
    ping: impl Fn(&Plan, &Handle, usize, &mut Vec<u32>) -> Result<(), Error> + Sync,
    pong: impl Fn(&Plan, &Handle, usize) -> Result<(), Error> + Sync,
) -> io::Result<Shot> {
    let warm = warm_up(ops);
    let (shot, ()) = two_ends(
        plan,
        |handle| {
            let mut trips = Vec::with_capacity(warm.max(ops));
            ping(plan, handle, warm, &mut trips)?;
            trips.clear();
            let start = Moment::now();
            ping(plan, handle, ops, &mut trips)?;
            Ok(start.trips(Moment::now(), plan.size, &mut trips)?)
        },
        |handle| {
            pong(plan, handle, warm)?;
            pong(plan, handle, ops)
        },
    )?;
    Ok(shot)
}

/// One sample of a stream. `pour` writes so many messages and may say how many were under way,
/// `drain` reads as many.
pub(super) fn stream(
    plan: &Plan,
    ops: usize,
    pour: impl Fn(&Plan, &Handle, usize) -> Result<Option<f64>, Error> + Sync,
    drain: impl Fn(&Plan, &Handle, usize) -> Result<(), Error> + Sync,
) -> io::Result<Shot> {
    let warm = warm_up(ops);
    if !plan.stack.caps().connected {
        return in_windows(plan, ops, pour, drain);
    }
    let ((start, seen), end) = two_ends(
        plan,
        |handle| {
            pour(plan, handle, warm)?;
            handle.flush().wait()?;
            // The other end has taken the warm-up and stands ready.
            handle.read_into(&mut [0]).wait()?;
            let start = Moment::now();
            let seen = pour(plan, handle, ops)?;
            handle.flush().wait()?;
            // It closes only when it has everything.
            expect_end(handle)?;
            Ok((start, seen))
        },
        |handle| {
            drain(plan, handle, warm)?;
            handle.write(Bytes::from_static(&[1])).wait().map_err(|f| f.error)?;
            handle.flush().wait()?;
            drain(plan, handle, ops)?;
            Ok(Moment::now())
        },
    )?;
    start.row(end, plan.size, ops, seen.or_else(|| plan.behind()))
}

/// A stream over datagrams: after each window the other end says that it has it, so that nothing overflows
/// and gets lost.
fn in_windows(
    plan: &Plan,
    ops: usize,
    pour: impl Fn(&Plan, &Handle, usize) -> Result<Option<f64>, Error> + Sync,
    drain: impl Fn(&Plan, &Handle, usize) -> Result<(), Error> + Sync,
) -> io::Result<Shot> {
    let warm = warm_up(ops);
    let ((start, seen), end) = two_ends(
        plan,
        |handle| {
            let run = |count| {
                windows(count, plan.size).try_fold(None, |_, n| {
                    let seen = pour(plan, handle, n)?;
                    handle.flush().wait()?;
                    handle.read_into(&mut [0]).deadline(SETUP_TIME).wait()?;
                    Ok::<_, Error>(seen)
                })
            };
            run(warm)?;
            let start = Moment::now();
            Ok((start, run(ops)?))
        },
        |handle| {
            let run = |count| {
                windows(count, plan.size).try_for_each(|n| {
                    drain(plan, handle, n)?;
                    handle.write(Bytes::from_static(&[1])).wait().map_err(|f| f.error)?;
                    handle.flush().wait()
                })
            };
            run(warm)?;
            run(ops)?;
            Ok(Moment::now())
        },
    )?;
    start.row(end, plan.size, ops, seen.or_else(|| plan.behind()))
}

fn expect_end(handle: &Handle) -> Result<(), Error> {
    match handle.read_into(&mut [0]).wait() {
        Err(e) if e.kind() == ErrorKind::Eof => Ok(()),
        Err(e) => Err(e),
        Ok(_) => Err(Error::new(ErrorKind::Protocol).detail("the other end sent what nobody asked for")),
    }
}

/// Runs both closures, each with its end of a fresh connection.
fn two_ends<C: Send, S: Send>(
    plan: &Plan,
    client: impl FnOnce(&Handle) -> Result<C, Error> + Send,
    server: impl FnOnce(&Handle) -> Result<S, Error> + Send,
) -> io::Result<(C, S)> {
    let (tell, told) = mpsc::channel();
    let (client, server) = std::thread::scope(|s| {
        let server = s.spawn(move || {
            let engine = plan.engine(Side::Server)?;
            let listener = listen(plan, &engine, tell)?;
            let link = listener.accept().deadline(SETUP_TIME).wait()?;
            let open = link.open().deadline(SETUP_TIME).max_ops(plan.window_ops()).max_bytes(plan.window_bytes());
            hold(patient(plan, open).wait()?, server)
        });
        let client = s.spawn(move || {
            let engine = plan.engine(Side::Client)?;
            let Ok(listener): Result<Server, _> = told.recv() else { return Err(unheard()) };
            let open = engine.open(&plan.stack, listener.contact()).deadline(SETUP_TIME);
            let open = open.max_ops(plan.window_ops()).max_bytes(plan.window_bytes());
            let open = patient(plan, open).wait();
            // Ends the accept of a server to which nobody comes.
            let handle = open.inspect_err(|_| drop(listener.close()))?;
            hold(handle, client)
        });
        (client.join().unwrap_or_else(|_| Err(lost())), server.join().unwrap_or_else(|_| Err(lost())))
    });
    match (client, server) {
        (Ok(c), Ok(s)) => Ok((c, s)),
        (Err(e), Ok(_)) | (Ok(_), Err(e)) => Err(e.into()),
        // The cause before what it led to.
        (Err(c), Err(s)) => Err(if follows(&c) { s } else { c }.into()),
    }
}

/// Has reads of what may get lost end some time.
fn patient(plan: &Plan, open: OpenCall) -> OpenCall {
    if plan.stack.caps().connected { open } else { open.read_idle(SETUP_TIME) }
}

/// Listens, and hands the server to the client. Where that fails the channel is dropped: the client
/// then has nobody to wait for.
fn listen(plan: &Plan, engine: &Engine, tell: mpsc::Sender<Server>) -> Result<Server, Error> {
    let server = engine.listen(&plan.stack, plan.contact.clone()).deadline(SETUP_TIME).wait()?;
    // A client that is gone has an error of its own.
    let _ = tell.send(server.clone());
    Ok(server)
}

/// Runs `f`; closes the handle after it in the way that fits its end.
fn hold<T>(handle: Handle, f: impl FnOnce(&Handle) -> Result<T, Error>) -> Result<T, Error> {
    let end = f(&handle);
    match end {
        Ok(_) => match handle.close().wait() {
            Err(e) if e.kind() != ErrorKind::Closed => return Err(e),
            _ => {}
        },
        Err(_) => abort(&handle),
    }
    end
}

fn lost() -> Error {
    Error::new(ErrorKind::Panicked).detail("an end of the measurement")
}

fn unheard() -> Error {
    Error::new(ErrorKind::Closed).detail("the other end does not listen")
}

/// Whether an error only says that the other end is gone.
fn follows(e: &Error) -> bool {
    use ErrorKind::{BrokenPipe, Cancelled, Closed, Eof, Reset, TimedOut, UnexpectedEof};
    matches!(e.kind(), BrokenPipe | Cancelled | Closed | Eof | Reset | TimedOut | UnexpectedEof)
}
