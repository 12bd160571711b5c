//! Group E: deadlines and timers.

use std::time::Duration;

use xio_core::caps::{Needs, Unit};
use xio_core::cx::Timer;
use xio_core::driver::Intercepts;
use xio_core::op::Flush;
use xio_core::time::Time;
use xio_core::{Cx, ErrorKind, Flow, Handle, Level, Op};

use super::data::{read_unit, room, same, transfer, units, wrote};
use super::e_cancel::got;
use crate::bench::{Bench, LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::saboteur;
use crate::verdict::Checked;

/// As late as a timer may be.
const TICK: Duration = Duration::from_millis(1);
/// A deadline is a cancel that says so.
///
/// # Errors
/// See the rule's text.
pub fn e5(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let reliable = w.caps().reliable && w.caps().ordered;
        for _ in 0..4 {
            // A read runs out of time beside another and a write that do not.
            let told: Tell<(&str, Option<ErrorKind>)> = Tell::new();
            let (a, b, c) = (told.clone(), told.clone(), told.clone());
            let after = Duration::from_millis(1 + dice.roll() % 20);
            pair.near.read(room(50)).deadline(after).then(move |r| a.note(("timed", got(r).1)));
            let waits = if w.caps().unit == Unit::Stream { 7 } else { 1 };
            pair.near.read(room(50)).wait_for(waits).then(move |r| b.note(("other", got(r).1)));
            pair.near.write(pattern(w.seed, 0, 50)).then(move |r| c.note(("write", r.err().map(|f| f.kind()))));
            w.run_for(after + Duration::from_millis(1));
            let mut ends = told.take();
            ends.sort_by_key(|(name, _)| *name);
            let timed = ends.iter().find(|(name, _)| *name == "timed");
            ensure_eq!(timed, Some(&("timed", Some(ErrorKind::TimedOut))), "the read whose time is over");
            w.run_for(Duration::from_secs(2));
            ends.extend(told.take());
            let write = ends.iter().find(|(name, _)| *name == "write");
            ensure_eq!(write, Some(&("write", None)), "the write beside it");
            ensure!(!ends.iter().any(|(name, _)| *name == "other"), "the read beside it ended: {ends:?}");
            // The handle works on: what comes is for the read that waits.
            pair.far.write(pattern(w.seed, 0, 7)).deadline(LONG).wait()?;
            w.run_for(Duration::from_secs(2));
            if reliable {
                ensure_eq!(told.take(), [("other", None)], "the read that waits");
                let all = read_unit(&pair.far, 50, &mut dice)?;
                let rest = if w.caps().unit == Unit::Stream && all.len() < 50 {
                    super::data::read_bytes(&pair.far, 50 - all.len(), 50, &mut dice)?
                } else {
                    Vec::new()
                };
                same(&[all, rest].concat(), &pattern(w.seed, 0, 50))?;
            }
            // One in the past moves nothing, though there is something.
            pair.far.write(pattern(w.seed, 500, 9)).deadline(LONG).wait()?;
            w.run_for(Duration::from_secs(2));
            let past = pair.near.read(room(50)).deadline(Duration::ZERO).wait().map(|d| d.n);
            let past = past.map_err(|f| (f.kind(), f.back.n, f.back.buf.len()));
            ensure_eq!(past, Err((ErrorKind::TimedOut, 0, 0)), "a read whose deadline is now");
            let past = wrote(pair.near.write(pattern(w.seed, 0, 50)).deadline(Duration::ZERO).wait());
            ensure_eq!(past, Err((ErrorKind::TimedOut, 0)), "a write whose deadline is now");
            if reliable {
                let mut all = Vec::new();
                while all.len() < 9 {
                    all.extend(read_unit(&pair.near, 9, &mut dice)?);
                }
                same(&all, &pattern(w.seed, 500, 9)).map_err(|s| s.at("bytes that were there"))?;
                let most = w.caps().max_message.unwrap_or(usize::MAX).min(300);
                transfer(w, &pair.near, &pair.far, &units(w.seed, 3, most), &mut dice)?;
            } else {
                break;
            }
        }
        Ok(())
    })
}

/// Sets timers at a flush, and notes when they fire.
struct Clock {
    fired: Tell<(u32, Time)>,
    timers: Vec<(u32, Timer)>,
}

/// The timer that goes on, and how often it is let.
const AGAIN: u32 = 100;
const TIMES: usize = 4;

impl Level for Clock {
    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        for i in 0..10 {
            let timer = cx.after(Duration::from_micros(u64::from(i) * 777), i);
            // The guards of every second are dropped at once, or by another timer.
            if i % 2 == 0 {
                self.timers.push((i, timer));
            }
        }
        self.timers.push((50, cx.after(Duration::from_millis(6), 50)));
        self.timers.push((AGAIN, cx.every(Duration::from_millis(3), AGAIN)));
        op.pass()
    }
    fn timer(&mut self, cx: &mut Cx<'_>, tag: u32) {
        self.fired.note((tag, cx.now()));
        if tag == 6 {
            self.timers.retain(|(t, _)| *t != 50);
        }
        if self.fired.all().iter().filter(|(t, _)| *t == AGAIN).count() == TIMES {
            self.timers.retain(|(t, _)| *t != AGAIN);
        }
    }
}

/// Timers are never early: those of levels, and deadlines.
///
/// # Errors
/// See the rule's text.
pub fn e6(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    let fired = Tell::new();
    let insert = |n: usize, below| {
        if n > 0 {
            return below;
        }
        let fired = fired.clone();
        let make = move || Clock { fired: fired.clone(), timers: Vec::new() };
        saboteur::level(n, Needs::ANY, Intercepts::FLUSH, make, below)
    };
    bench.each_on(
        |s| s.near(insert),
        |w| {
            let pair = w.pair()?;
            fired.take();
            let began = w.now();
            pair.near.flush().then(|_| ());
            w.run_for(Duration::from_secs(2));
            let fired = fired.take();
            for (tag, at) in &fired {
                let before = fired.iter().take_while(|f| *f != &(*tag, *at)).filter(|(t, _)| t == tag).count();
                let due = match *tag {
                    AGAIN => Duration::from_millis(3) * u32::try_from(before + 1).unwrap_or(u32::MAX),
                    tag => Duration::from_micros(u64::from(tag) * 777),
                };
                on_time(at.since(began), due).map_err(|s| s.at(format_args!("timer {tag}")))?;
            }
            let mut tags: Vec<_> = fired.iter().map(|(tag, _)| *tag).collect();
            tags.sort_unstable();
            ensure_eq!(tags, [0, 2, 4, 6, 8, AGAIN, AGAIN, AGAIN, AGAIN], "the timers that fired");
            deadlines(w, &pair.near, &pair.far)
        },
    )
}

fn on_time(took: Duration, due: Duration) -> Checked {
    ensure!(took >= due, "it fired after {took:?}, which is before its {due:?}");
    ensure!(took <= due + TICK, "it fired after {took:?}, long after its {due:?}");
    Ok(())
}

fn deadlines(w: &World, near: &Handle, far: &Handle) -> Checked {
    let mut dice = Dice::new(w.seed);
    let told: Tell<(Duration, Option<ErrorKind>, Time)> = Tell::new();
    let began = w.now();
    for _ in 0..12 {
        let due = Duration::from_micros(1000 + dice.roll() % 50_000);
        let (tell, engine) = (told.clone(), w.engine.clone());
        near.read(room(7777)).deadline(due).then(move |r| tell.note((due, r.err().map(|f| f.kind()), engine.now())));
    }
    w.run_for(Duration::from_secs(1));
    ensure_eq!(told.len(), 12, "reads that ended");
    for (due, error, at) in told.take() {
        ensure_eq!(error, Some(ErrorKind::TimedOut), "a read that gets nothing");
        on_time(at.since(began), due).map_err(|s| s.at("a deadline"))?;
    }
    // One that is over has no deadline any more.
    let tell = told.clone();
    let engine = w.engine.clone();
    near.read(room(7777)).deadline(Duration::from_secs(5)).then(move |r| {
        tell.note((Duration::ZERO, r.err().map(|f| f.kind()), engine.now()));
    });
    far.write(pattern(w.seed, 0, 20)).deadline(LONG).wait()?;
    w.run_for(Duration::from_secs(20));
    if w.caps().reliable {
        ensure_eq!(told.take().into_iter().map(|t| t.1).collect::<Vec<_>>(), [None], "a read that got something");
    }
    Ok(())
}
