//! Group B: the close.

use std::future::IntoFuture;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use xio_core::io::Direction;
use xio_core::reactor::SimConfig;
use xio_core::{CloseMode, ErrorKind, Handle};

use super::data::{Wrote, drain, much, room, wrote};
use crate::bench::{Bench, LONG, Tell, World};
use crate::canary::Nest;
use crate::dice::pattern;
use crate::verdict::Checked;

/// A network in which little is on its way.
pub(super) fn narrow() -> SimConfig {
    SimConfig::calm().with_buffer(4000)
}

/// How an op ended, by name.
pub(super) type Ended = (&'static str, Wrote);

/// Submits reads, writes and a wait, and a close; tells how they end.
fn outstanding(w: &World, near: &Handle, reads: usize, mode: CloseMode) -> Tell<Ended> {
    let told = Tell::new();
    for _ in 0..reads {
        let tell = told.clone();
        near.read(room(111)).then(move |r| tell.note(("read", r.map(|d| d.n).map_err(|f| (f.kind(), f.back.n)))));
    }
    for i in 0..3 {
        let tell = told.clone();
        near.write(pattern(w.seed, i * much(w), much(w))).then(move |r| tell.note(("write", wrote(r))));
    }
    let tell = told.clone();
    near.ready(Direction::Read).then(move |r| tell.note(("ready", r.map(|()| 0).map_err(|e| (e.kind(), 0)))));
    let tell = told.clone();
    let close = near.close().mode(mode).deadline(LONG);
    close.then(move |r| tell.note(("close", r.map(|()| 0).map_err(|e| (e.kind(), 0)))));
    told
}

/// In the order of their names, without those of one name.
pub(super) fn by_name(mut ended: Vec<Ended>, without: &str) -> Vec<Ended> {
    ended.retain(|(name, _)| *name != without);
    ended.sort_by_key(|(name, _)| *name);
    ended
}

/// A close waits until all ops have ended.
///
/// # Errors
/// See the rule's text.
pub fn b4(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    for mode in [CloseMode::Graceful, CloseMode::Abort, CloseMode::Keep] {
        let run = bench.each_on(
            |s| s.network(narrow()),
            |w| {
                let pair = w.pair()?;
                let reads = if mode == CloseMode::Keep { 1 } else { 3 };
                let told = outstanding(w, &pair.near, reads, mode);
                w.run_for(Duration::from_millis(20));
                let drained = drain(&pair.far);
                if mode == CloseMode::Keep {
                    // The read and the wait for readiness both end only if something comes for them.
                    pair.far.write("for the read").then(|_| ());
                    w.run_for(Duration::from_millis(500));
                    pair.far.write("for the wait").then(|_| ());
                }
                w.run();
                ensure_eq!(told.len(), reads + 5, "ops that ended, with the close");
                drop(drained);
                for (i, (name, r)) in told.take().into_iter().enumerate() {
                    let (ended, kind) = (i + 1 == reads + 5, r.map_err(|(k, _)| k));
                    ensure_eq!(name == "close", ended, "place {i} of the {name}");
                    let good = match (name, mode) {
                        ("close", _) => kind == Ok(0),
                        ("ready", _) => true,
                        ("read", CloseMode::Graceful) => kind == Err(ErrorKind::Cancelled),
                        ("write", CloseMode::Abort) => kind == Ok(much(w)) || kind == Err(ErrorKind::Cancelled),
                        ("write", _) => kind == Ok(much(w)),
                        ("read", CloseMode::Keep) => kind.is_ok(),
                        _ => kind.is_ok() || kind == Err(ErrorKind::Cancelled),
                    };
                    ensure!(good, "the {name} ended with {kind:?}");
                }
                Ok(())
            },
        );
        run.map_err(|s| s.at(format_args!("{mode:?}")))?;
    }
    Ok(())
}

/// After a close nothing is left.
///
/// # Errors
/// See the rule's text.
pub fn b5(bench: &mut Bench) -> Checked {
    bench.needs_virtual_time()?;
    let levels = Nest::default();
    bench.each_on(
        |s| s.replace(|_, d| levels.around(d)),
        |w| {
            let memory = Nest::default();
            let (near, far) = match w.caps().accepts {
                true => {
                    let p = w.pair()?;
                    w.keep(p.rest);
                    (p.near, Some(p.far))
                }
                false => (w.alone()?, None),
            };
            let told = Tell::new();
            let tell = told.clone();
            near.write(memory.bytes(pattern(1, 0, 100))).deadline(LONG).wait()?;
            if let Some(far) = &far {
                far.take(1000).deadline(LONG).wait()?;
                far.write(memory.bytes(pattern(1, 0, 100))).deadline(LONG).wait()?;
                near.take(1000).deadline(LONG).wait()?;
            }
            near.read(room(10)).then(move |_| tell.note(()));
            near.close().deadline(LONG).wait()?;
            let calls = told.len();
            ensure_eq!(calls, 1, "callbacks that came before the close had finished");
            ensure_eq!(levels.alive().0, 0, "levels that are left after the close");
            refuses_everything(&near)?;
            if let Some(far) = &far {
                far.close().deadline(LONG).wait()?;
            }
            drop((near, far));
            w.release();
            w.run_for(Duration::from_secs(3600));
            ensure_eq!(told.len(), calls, "callbacks, an hour later");
            ensure_eq!(memory.alive().0, 0, "written buffers that somebody still holds");
            ensure_eq!(w.engine.handles(), 0, "handles that are left");
            ensure_eq!(w.engine.next_deadline(), None, "the next timer");
            Ok(())
        },
    )?;
    ensure!(levels.alive().1 > 0, "no level was watched");
    Ok(())
}

/// Whether a closed handle says so, whatever it is asked.
fn refuses_everything(h: &Handle) -> Checked {
    let answers = [
        h.read(room(10)).wait().map(|d| d.n).map_err(|f| f.kind()),
        h.read(room(0)).wait().map(|d| d.n).map_err(|f| f.kind()),
        h.take(10).wait().map(|d| d.n).map_err(|f| f.kind()),
        h.write("x").wait().map(|d| d.n).map_err(|f| f.kind()),
        h.flush().wait().map(|()| 0).map_err(|e| e.kind()),
        h.shutdown().wait().map(|()| 0).map_err(|e| e.kind()),
        h.ready(Direction::Write).wait().map(|()| 0).map_err(|e| e.kind()),
        h.close().wait().map(|()| 0).map_err(|e| e.kind()),
        h.query(xio_core::cntl::Caps).map(|_| 0).map_err(|e| e.kind()),
    ];
    for (i, answer) in answers.into_iter().enumerate() {
        ensure_eq!(answer, Err(ErrorKind::Closed), "call {i} on a closed handle");
    }
    Ok(())
}

/// Where a close is asked for.
#[derive(Clone, Copy, Debug)]
enum From {
    /// The user's own code, twice.
    Twice,
    Read,
    Write,
    Flush,
    /// The callback of an open.
    Open,
}

/// Closing twice or from anywhere is harmless.
///
/// # Errors
/// See the rule's text.
pub fn b6(bench: &mut Bench) -> Checked {
    bench.needs_virtual_time()?;
    for from in [From::Twice, From::Read, From::Write, From::Flush, From::Open] {
        bench.each(|w| close_from(bench, w, from)).map_err(|s| s.at(format_args!("closed from {from:?}")))?;
    }
    Ok(())
}

fn close_from(bench: &Bench, w: &World, from: From) -> Checked {
    let told = Tell::new();
    // Closes twice, the second time in the callback of the first.
    let close = {
        let tell = told.clone();
        move |h: &Handle| {
            let (again, tell) = (h.clone(), tell.clone());
            h.close().then(move |r| {
                tell.note(r.map_err(|e| e.kind()));
                again.close().then(move |r| tell.note(r.map_err(|e| e.kind())));
            });
        }
    };
    if let From::Open = from {
        let to = if w.caps().accepts { w.listen()?.contact().clone() } else { bench.subject().contact().clone() };
        w.open(to).deadline(LONG).then(move |h| {
            if let Ok(h) = h {
                close(&h);
            }
        });
        w.run();
        ensure_eq!(told.take(), [Ok(()), Err(ErrorKind::Closed)], "the two closes");
        return Ok(());
    }
    let (near, far) = match w.caps().accepts {
        true => {
            let p = w.pair()?;
            w.keep((p.rest, p.server));
            (p.near, Some(p.far))
        }
        false => (w.alone()?, None),
    };
    let asked = w.now();
    let h = near.clone();
    match from {
        From::Read => {
            near.read(room(7)).then(move |_| close(&h));
            if let Some(far) = &far {
                far.write(pattern(1, 0, 7)).deadline(LONG).wait()?;
            }
        }
        From::Write => drop(near.write("x").then(move |_| close(&h))),
        From::Flush => drop(near.flush().then(move |_| close(&h))),
        From::Twice | From::Open => {
            close(&near);
            close(&near);
        }
    }
    w.run();
    let mut ends = told.take();
    ends.sort_by_key(Result::is_err);
    ensure_eq!(ends.first(), Some(&Ok(())), "the first of the closes");
    let want = if let From::Twice = from { 4 } else { 2 };
    ensure_eq!(ends.len(), want, "closes that ended");
    ensure!(ends[1..].iter().all(|r| *r == Err(ErrorKind::Closed)), "the closes ended with {ends:?}");
    let took = w.now().since(asked);
    ensure!(took < Duration::from_secs(62), "the closes took {took:?}");
    Ok(())
}

/// A close cannot be cancelled.
///
/// # Errors
/// See the rule's text.
pub fn b7(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    for drops in [false, true] {
        bench.each_on(
            |s| s.network(narrow()),
            |w| {
                let pair = w.pair()?;
                let told: Tell<Ended> = Tell::new();
                let (a, b) = (told.clone(), told.clone());
                let read =
                    pair.near.read(room(9)).then(move |r| a.note(("read", r.map(|d| d.n).map_err(|f| (f.kind(), 0)))));
                pair.near.write(pattern(w.seed, 0, much(w))).then(move |r| b.note(("write", wrote(r))));
                if drops {
                    let mut close = pin!(pair.near.close().deadline(LONG).into_future());
                    let _ = Future::poll(close.as_mut(), &mut Context::from_waker(Waker::noop()));
                } else {
                    let c = told.clone();
                    let close = pair.near.close().deadline(LONG);
                    let close = close.then(move |r| c.note(("close", r.map(|()| 0).map_err(|e| (e.kind(), 0)))));
                    w.run_for(Duration::from_millis(5));
                    close.cancel();
                    close.cancel();
                }
                read.cancel();
                w.run_for(Duration::from_millis(20));
                read.cancel();
                let drained = drain(&pair.far);
                w.run();
                let bytes: usize = drained.take().into_iter().flatten().map(|b| b.len()).sum();
                ensure_eq!(bytes, much(w), "bytes that the peer got");
                let ended = told.take();
                ensure!(drops || ended.last() == Some(&("close", Ok(0))), "the last to end: {:?}", ended.last());
                let want = vec![("read", Err((ErrorKind::Cancelled, 0))), ("write", Ok(much(w)))];
                ensure_eq!(by_name(ended, "close"), want, "how the ops ended");
                ensure_eq!(pair.near.flush().wait().map_err(|e| e.kind()), Err(ErrorKind::Closed), "a flush after it");
                Ok(())
            },
        )?;
    }
    Ok(())
}
