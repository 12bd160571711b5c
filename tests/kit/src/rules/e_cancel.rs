//! Group E: cancel. Time is in `e_time`, callbacks and threads are in `e_calls`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use xio_core::caps::{Needs, Unit};
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{OpId, Read};
use xio_core::reactor::SimConfig;
use xio_core::{Cx, ErrorKind, Flow, Held, Level, Op, Ticket};

use super::b_close::narrow;
use super::d_end::{step, sweep};
use super::data::{Wrote, drain, much, room, same, wrote};
use crate::bench::{Bench, LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::saboteur;
use crate::verdict::{Checked, Stop};

/// How a read ended: bytes, and the error beside them.
pub(super) type Got = (Vec<u8>, Option<ErrorKind>);

/// How a read ended.
pub(super) fn got(r: Result<xio_core::ReadDone, xio_core::Failed<xio_core::ReadDone>>) -> Got {
    match r {
        Ok(d) => (d.buf.to_vec(), None),
        Err(f) => (f.back.buf.to_vec(), Some(f.kind())),
    }
}

/// A cancelled op ends once. Reads and writes, stopped after each event in turn.
///
/// # Errors
/// See the rule's text.
pub fn e1(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    sweep(
        bench,
        || SimConfig::default().with_buffer(4000),
        |w, i| {
            let pair = w.pair()?;
            let stream = w.caps().unit == Unit::Stream;
            let (reads, writes): (Tell<Got>, Tell<Wrote>) = (Tell::new(), Tell::new());
            let (a, b) = (reads.clone(), writes.clone());
            let read = pair.near.read(room(60)).wait_for(if stream { 60 } else { 1 }).then(move |r| a.note(got(r)));
            let size = much(w).min(9000);
            let write = pair.near.write(pattern(w.seed, 0, size)).then(move |r| b.note(wrote(r)));
            for n in 0..3 {
                pair.far.write(pattern(w.seed, n * 20, 20)).then(|_| ());
            }
            let drained = drain(&pair.far);
            let more = step(w, i);
            for ticket in [&read, &write] {
                ticket.cancel();
                ticket.cancel();
            }
            w.run();
            ensure_eq!((reads.len(), writes.len()), (1, 1), "ends of the read and of the write");
            let (bytes, error) = reads.take().pop().unwrap_or_default();
            ensure!(matches!(error, None | Some(ErrorKind::Cancelled)), "the read ended with {error:?}");
            ensure!(error.is_some() || !stream || bytes.len() == 60, "a read of 60 bytes has {}", bytes.len());
            same(&bytes, &pattern(w.seed, 0, bytes.len())).map_err(|s| s.at("bytes of the read"))?;
            let wrote = writes.take().pop();
            let n = match wrote {
                Some(Ok(n) | Err((ErrorKind::Cancelled, n))) => n,
                _ => return Err(Stop::fail(format!("the write ended with {wrote:?}"))),
            };
            ensure!(n <= size && (n == size || wrote != Some(Ok(n))), "a write of {size} bytes says {n}");
            if w.caps().reliable {
                let came: Vec<u8> = drained.take().into_iter().flatten().flatten().collect();
                let good = if stream { came.len() == n } else { came.is_empty() && n < size || came.len() == size };
                ensure!(good, "{} bytes came of a write that says {n}, of {size}", came.len());
            }
            Ok(more)
        },
    )
}

/// A cancel is prompt and loses nothing.
///
/// # Errors
/// See the rule's text.
pub fn e2(bench: &mut Bench) -> Checked {
    const PROMPT: Duration = Duration::from_millis(1);
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    bench.each_on(
        |s| s.network(narrow()),
        |w| {
            // The peer does nothing at all.
            let pair = w.pair()?;
            let told: Tell<(&str, Wrote)> = Tell::new();
            let (a, b, c) = (told.clone(), told.clone(), told.clone());
            let ops = [
                pair.near.read(room(9)).then(move |r| a.note(("read", r.map(|d| d.n).map_err(|f| (f.kind(), 0))))),
                pair.near.take(9).then(move |r| b.note(("take", r.map(|d| d.n).map_err(|f| (f.kind(), 0))))),
                pair.near.write(pattern(w.seed, 0, much(w))).then(move |r| c.note(("write", wrote(r)))),
            ];
            w.run_for(Duration::from_millis(30));
            ops.iter().for_each(Ticket::cancel);
            w.run_for(PROMPT);
            ensure_eq!(told.len(), 3, "ops that had ended a tick after their cancel");
            for (name, r) in told.take() {
                let good = matches!(r, Err((ErrorKind::Cancelled, _))) || name == "write" && r.is_ok();
                ensure!(good, "the {name} ended with {r:?}");
            }
            Ok(())
        },
    )?;
    bench.needs_order()?;
    for drops in [false, true] {
        let run = sweep(bench, SimConfig::default, |w, i| loses_nothing(w, i, drops));
        run.map_err(|s| s.at(if drops { "future dropped" } else { "cancelled" }))?;
    }
    Ok(())
}

/// Reads that are stopped after event `i`, and those behind them: together they have everything.
fn loses_nothing(w: &World, i: usize, drops: bool) -> Checked<bool> {
    use std::future::{Future, IntoFuture};
    const UNITS: usize = 5;
    let pair = w.pair()?;
    let stream = w.caps().unit == Unit::Stream;
    let told: Tell<Got> = Tell::new();
    let tell = told.clone();
    let call = pair.near.read(room(30)).wait_for(if stream { 30 } else { 1 });
    let (mut future, mut ticket) = (None, None);
    if drops {
        let mut f = Box::pin(call.into_future());
        let polled = f.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        if let std::task::Poll::Ready(r) = polled {
            tell.note(got(r));
        } else {
            future = Some(f);
        }
    } else {
        ticket = Some(call.then(move |r| tell.note(got(r))));
    }
    for n in 0..UNITS {
        pair.far.write(pattern(w.seed, n * 10, 10)).then(|_| ());
    }
    let more = step(w, i);
    if let Some(t) = ticket {
        t.cancel();
    }
    drop(future);
    w.run_for(Duration::from_millis(1));
    let mut all = Vec::new();
    for (bytes, error) in told.take() {
        ensure!(matches!(error, None | Some(ErrorKind::Cancelled)), "the read ended with {error:?}");
        all.extend(bytes);
    }
    let mut dice = Dice::new(w.seed);
    while all.len() < UNITS * 10 {
        let most = if stream { dice.between(1, 20).min(UNITS * 10 - all.len()) } else { 20 };
        match pair.near.read(room(most)).deadline(Duration::from_secs(60)).wait() {
            Ok(d) => all.extend_from_slice(&d.buf),
            Err(f) => return Err(Stop::from(f).at(format_args!("{} of {} bytes have come", all.len(), UNITS * 10))),
        }
    }
    same(&all, &pattern(w.seed, 0, UNITS * 10))?;
    Ok(more)
}

fn count(n: &AtomicUsize) {
    n.fetch_add(1, Ordering::Relaxed);
}

/// Cancelling what is over does nothing.
///
/// # Errors
/// See the rule's text.
pub fn e3(bench: &mut Bench) -> Checked {
    bench.each(|w| {
        let mut dice = Dice::new(w.seed);
        let mut stale: Vec<Ticket> = Vec::new();
        let ended = Arc::new(AtomicUsize::new(0));
        let (near, far) = if w.caps().accepts {
            let p = w.pair()?;
            w.keep((p.rest, p.server));
            (p.near, Some(p.far))
        } else {
            (w.alone()?, None)
        };
        let whole = w.caps().reliable && w.caps().ordered;
        for round in 0..15 {
            // One that is over at once, and one whose cancel ends it: each is over for good.
            for _ in 0..2 {
                let n = ended.clone();
                stale.push(near.flush().then(move |_| count(&n)));
                let n = ended.clone();
                let read = near.read(room(10)).then(move |_| count(&n));
                read.cancel();
                w.run_for(Duration::from_millis(1));
                stale.push(read);
            }
            ensure_eq!(ended.load(Ordering::Relaxed), stale.len(), "ops that are over in round {round}");
            let Some(far) = far.as_ref().filter(|_| whole) else { continue };
            // Those that wait now have their places.
            let unit = pattern(w.seed, round * 100, dice.between(1, 50));
            let told: Tell<Got> = Tell::new();
            let tell = told.clone();
            near.read(room(50)).wait_for(unit.len()).then(move |r| tell.note(got(r)));
            stale.iter().for_each(Ticket::cancel);
            far.write(unit.clone()).deadline(LONG).wait()?;
            stale.iter().for_each(Ticket::cancel);
            w.run();
            ensure_eq!(told.take(), [(unit, None)], "a read while others are cancelled that are over, round {round}");
        }
        near.close().deadline(LONG).wait()?;
        stale.iter().for_each(Ticket::cancel);
        drop(near);
        stale.iter().for_each(Ticket::cancel);
        w.run_for(Duration::from_millis(1));
        w.end();
        stale.iter().for_each(Ticket::cancel);
        ensure_eq!(ended.load(Ordering::Relaxed), stale.len(), "callbacks that came");
        Ok(())
    })
}

/// What levels were asked to stop.
type Asked = Arc<Mutex<Vec<(&'static str, OpId)>>>;
/// How many reads a level has come to hold.
type Holding = Arc<AtomicUsize>;

/// Where a level holds a read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Down,
    Up,
    Never,
}

/// Notes each cancel it is asked for, and takes it.
struct Notes {
    name: &'static str,
    holds: Holds,
    asked: Asked,
    held: Vec<Held<Read>>,
    holding: Holding,
    /// Lets go of what it holds.
    answer: Cancel,
}

impl Level for Notes {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if self.holds == Holds::Down { self.hold(cx, op) } else { op.pass() }
    }
    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if self.holds == Holds::Up { self.hold(cx, op) } else { op.finished() }
    }
    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((self.name, id));
        if self.answer == Cancel::Take {
            self.held.retain(|h| h.id() != id);
        }
        self.answer
    }
}

impl Notes {
    fn hold<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        self.held.push(held);
        self.holding.fetch_add(1, Ordering::Relaxed);
        flow
    }
}

/// A cancel asks the level that holds the op. One on its way down, and one on its way up.
///
/// # Errors
/// See the rule's text.
pub fn e4(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    for (holds, keeps) in [(Holds::Down, false), (Holds::Down, true), (Holds::Up, false), (Holds::Up, true)] {
        let (asked, holding) = (Asked::default(), Holding::default());
        let sees = Intercepts::READ | Intercepts::READ_DONE | Intercepts::CONCURRENT_READS;
        let notes = |n: usize, name, holds, below| {
            let (asked, holding) = (asked.clone(), holding.clone());
            let answer = if keeps { Cancel::Keep } else { Cancel::Take };
            let make = move || {
                let (asked, holding) = (asked.clone(), holding.clone());
                Notes { name, holds, asked, held: Vec::new(), holding, answer }
            };
            saboteur::level(n, Needs::ANY, sees, make, below)
        };
        let insert = |n: usize, below| match n {
            0 => {
                let below = notes(100, "the level below", Holds::Never, below);
                let below = notes(101, "the level that holds it", holds, below);
                notes(102, "the level above", Holds::Never, below)
            }
            n => notes(n, "a level further down", Holds::Never, below),
        };
        bench.stage(seed).network(SimConfig::calm()).near(insert).build()?.run_rule(&mut |w| {
            let pair = w.pair()?;
            let ended = Tell::new();
            let tell = ended.clone();
            let read = pair.near.read(room(30)).then(move |r| tell.note(got(r).1));
            pair.far.write(pattern(seed, 0, 30)).deadline(LONG).wait()?;
            w.run_until(|| holding.load(Ordering::Relaxed) > 0);
            ensure!(ended.is_empty(), "a read ended that a level holds");
            read.cancel();
            read.cancel();
            w.run_for(Duration::from_millis(1));
            read.cancel();
            w.run_for(Duration::from_millis(1));
            let who: Vec<_> =
                asked.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, _)| *name).collect();
            ensure_eq!(who, ["the level that holds it"], "who was asked to stop one read");
            if !keeps {
                ensure_eq!(ended.take(), [Some(ErrorKind::Cancelled)], "how the read ended");
            }
            w.probes.may_kill();
            Ok(())
        })?;
    }
    Ok(())
}
