//! Group B: open and unwinding. The close is in `b_close`.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use xio_core::driver::OpKind;
use xio_core::reactor::SimConfig;
use xio_core::{Contact, Error, ErrorKind, Handle, Server};

use super::data::{transfer, units};
use crate::bench::{Bench, Guests, LONG, Tell, World};
use crate::dice::Dice;
use crate::nth_fault::{Fault, Faults, every_of};
use crate::probe::{Event, Side};
use crate::verdict::{Checked, Stop};

/// Virtual time that the clean-up of a connection may take.
const TIDY: Duration = Duration::from_secs(30);

/// Where a world's near end opens to, and the server that is there.
fn target(bench: &Bench, w: &World) -> Checked<(Contact, Option<Server>)> {
    if !w.caps().accepts {
        return Ok((bench.subject().contact().clone(), None));
    }
    let server = w.listen()?;
    Ok((server.contact().clone(), Some(server)))
}

/// Opens the near stack, and waits until that has come to something.
fn open(w: &World, to: Contact) -> Checked<Result<Handle, Error>> {
    let opened = Tell::new();
    let tell = opened.clone();
    w.open(to).deadline(LONG).then(move |r| tell.note(r));
    w.run_until(|| !opened.is_empty());
    opened.take().pop().ok_or_else(|| Stop::fail("an open never ended"))
}

/// A plan that fails the n-th open on its way through a level.
fn failing_open(n: u64) -> Faults {
    Faults::new(n, Fault::Error(ErrorKind::Protocol)).only(&[OpKind::Open])
}

/// A failed open closes exactly what was open.
///
/// # Errors
/// See the rule's text.
pub fn b1(bench: &mut Bench) -> Checked {
    for seed in bench.seeds() {
        every_of(failing_open, |faults| {
            let stage = bench.stage(seed).recorded().near(|_, below| faults.level(below));
            stage.build()?.run_rule(&mut |w| {
                let (to, _server) = target(bench, w)?;
                let opened = open(w, to)?;
                match (faults.hit(), opened) {
                    (Some(_), Err(_)) => {}
                    (Some(_), Ok(_)) => return Err(Stop::fail("an open succeeded that a level had failed")),
                    (None, Ok(h)) => h.close().deadline(LONG).wait()?,
                    (None, Err(e)) => return Err(e.into()),
                }
                closes_mirror_opens(w)
            })
        })?;
    }
    Ok(())
}

/// Whether every boundary that opened has closed, along each path in reverse.
fn closes_mirror_opens(w: &World) -> Checked {
    let events = w.probes.events();
    let near = |f: &dyn Fn(&Event) -> bool| -> Vec<usize> {
        events.iter().filter(|e| e.side == Side::Near && f(e)).map(|e| e.above).collect()
    };
    let mut opened = near(&|e| e.kind == OpKind::Open && e.up && e.error.is_none());
    let closed = near(&|e| e.kind == OpKind::Close && !e.up);
    let sorted = |mut v: Vec<usize>| {
        v.sort_unstable();
        v
    };
    let (all, want) = (sorted(closed.clone()), sorted(opened.clone()));
    ensure_eq!(all, want, "boundaries that a close passed, by the level below them, against those that were open");
    opened.reverse();
    for path in w.near_paths() {
        let on_path = |v: &[usize]| v.iter().copied().filter(|n| path.contains(n)).collect::<Vec<_>>();
        ensure_eq!(on_path(&closed), on_path(&opened), "the order in which a close passed the boundaries of a path");
    }
    Ok(())
}

/// The error of an open is that of the level that failed. Every close fails, too.
///
/// # Errors
/// See the rule's text.
pub fn b2(bench: &mut Bench) -> Checked {
    let seed = bench.seeds().first().copied().unwrap_or_default();
    every_of(failing_open, |faults| {
        let closes = Faults::always(Fault::Error(ErrorKind::AddrInUse)).only(&[OpKind::Close]);
        let level = |_: usize, below| closes.level(faults.level(below));
        bench.stage(seed).near(level).build()?.run_rule(&mut |w| {
            let (to, _server) = target(bench, w)?;
            let opened = open(w, to)?;
            let Some(place) = faults.hit() else { return Ok(()) };
            let Err(e) = opened else { return Err(Stop::fail("an open succeeded that a level had failed")) };
            ensure_eq!(e.kind(), ErrorKind::Protocol, "the error `{e}`");
            let named = chain(&e).any(|e| e.level().is_some_and(|l| place.ends_with(&format!("`{l}`"))));
            ensure!(named, "the error does not name the level that failed: {e}");
            Ok(())
        })
    })?;
    Ok(())
}

/// An error and those that caused it.
fn chain(e: &Error) -> impl Iterator<Item = &Error> {
    std::iter::successors(Some(e), |e| std::error::Error::source(*e)?.downcast_ref())
}

/// Nothing before the open, nothing after the close. What enters levels the probes check.
///
/// # Errors
/// See the rule's text.
pub fn b3(bench: &mut Bench) -> Checked {
    bench.each(|w| {
        let m = super::mixed::Mixed::start(w)?;
        let refused = Tell::new();
        m.near.close().then(|_| ());
        // The close is under way, or done.
        for i in 0..3 {
            let (a, b, c) = (refused.clone(), refused.clone(), refused.clone());
            m.near.read(super::data::room(10)).then(move |r| a.note((i, r.map(|d| d.n).map_err(|f| f.kind()))));
            m.near.write("late").then(move |r| b.note((i, r.map(|d| d.n).map_err(|f| f.kind()))));
            m.near.flush().then(move |r| c.note((i, r.map(|()| 0).map_err(|e| e.kind()))));
            w.run();
        }
        for (i, r) in refused.take() {
            ensure_eq!(r, Err(ErrorKind::Closed), "an op after the close had begun (round {i})");
        }
        Ok(())
    })
}

/// An open can be given up at any moment.
///
/// # Errors
/// See the rule's text.
pub fn b9(bench: &mut Bench) -> Checked {
    bench.needs_virtual_time()?;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let took = Tell::new();
    let calm = || bench.stage(seed).network(SimConfig::calm()).recorded();
    calm().build()?.run_rule(&mut |w| {
        let (to, _server) = target(bench, w)?;
        let began = w.now();
        open(w, to)??;
        took.note(w.now().since(began));
        Ok(())
    })?;
    let whole = took.take().pop().unwrap_or_default();
    let step = (whole / 16).max(Duration::from_micros(10));
    for i in 0..18 {
        for drops in [false, true] {
            let at = step * i;
            let how = if drops { "future dropped" } else { "deadline" };
            let run = calm().build()?.run_rule(&mut |w| give_up(bench, w, at, drops));
            run.map_err(|s| s.at(format_args!("{how} after {at:?} of {whole:?}")))?;
        }
        if whole.is_zero() {
            break;
        }
    }
    Ok(())
}

fn give_up(bench: &Bench, w: &World, at: Duration, drops: bool) -> Checked {
    let (to, server) = target(bench, w)?;
    let guests = server.as_ref().map(Guests::of);
    let began = w.now();
    let handle = if drops {
        let mut future = w.open(to).into_future();
        let first = poll(&mut future);
        w.run_for(at);
        match first {
            Poll::Ready(r) => Some(r),
            Poll::Pending => match poll(&mut future) {
                Poll::Ready(r) => Some(r),
                Poll::Pending => None,
            },
        }
    } else {
        let opened = Tell::new();
        let tell = opened.clone();
        w.open(to).deadline(at).then(move |r| tell.note(r));
        w.run_for(at + Duration::from_millis(1));
        let r = opened.take().pop();
        ensure!(r.is_some(), "the open had not ended a tick after its deadline");
        r
    };
    match handle {
        Some(Ok(h)) => h.close().deadline(LONG).wait()?,
        Some(Err(e)) => ensure_eq!(e.kind(), ErrorKind::TimedOut, "the error of the open"),
        None => {}
    }
    ensure!(drops || w.now().since(began) <= at + LONG, "the open took too long");
    // Whoever came goes again.
    w.run_for(TIDY);
    drop(guests);
    w.release();
    drop(server);
    w.run_for(TIDY);
    closes_mirror_opens(w)?;
    ensure_eq!(w.engine.handles(), 0, "handles that are left");
    ensure_eq!(w.sim()?.sockets(), 0, "sockets that are left");
    Ok(())
}

fn poll<F: Future + ?Sized>(f: &mut Pin<Box<F>>) -> Poll<F::Output> {
    f.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// After a failed open the next one works.
///
/// # Errors
/// See the rule's text.
pub fn b11(bench: &mut Bench) -> Checked {
    let seed = bench.seeds().first().copied().unwrap_or_default();
    every_of(failing_open, |faults| {
        bench.stage(seed).near(|_, below| faults.level(below)).build()?.run_rule(&mut |w| {
            faults.arm(false);
            // One that nobody answers, where that can be.
            if w.caps().accepts && w.caps().connected {
                let gone = w.engine.listen(&w.far, bench.subject().contact()).deadline(LONG).wait()?;
                let to = gone.contact().clone();
                gone.close()?;
                let refused = open(w, to)?;
                ensure!(refused.is_err(), "an open succeeded to a server that had closed");
            }
            w.run_for(Duration::from_millis(1));
            let (to, server) = target(bench, w)?;
            faults.arm(true);
            let first = open(w, to.clone())?;
            faults.arm(false);
            if faults.hit().is_none() {
                first?;
                return Ok(());
            }
            w.run_for(Duration::from_millis(1));
            let Some(server) = server else { return open(w, to)?.map(drop).map_err(Stop::from) };
            // What the failed one left in the server's backlog is not ours.
            let old = Guests::of(&server);
            w.run();
            drop(old);
            let pair = w.pair_at(server)?;
            if w.caps().reliable && w.caps().ordered {
                transfer(w, &pair.near, &pair.far, &units(seed, 3, 200), &mut Dice::new(seed))?;
            }
            Ok(())
        })
    })?;
    Ok(())
}
