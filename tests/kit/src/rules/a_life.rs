//! Group A: the life of an op. What passes between levels the probes check; here are the runs in which
//! they see it, and what only users see.

use xio_core::driver::OpKind;
use xio_core::reactor::SimConfig;
use xio_core::{CloseMode, ErrorKind, Handle};

use super::data::{drain, much, read_unit, room, same, transfer, units};
use super::mixed::Mixed;
use crate::bench::{Bench, LONG, Tell, World};
use crate::chatty;
use crate::dice::{Dice, pattern};
use crate::nop::nop;
use crate::nth_fault::{Fault, Faults, every_of};
use crate::probe::{Event, Mark, Side};
use crate::verdict::{Checked, Stop};

/// Every op finishes exactly once.
///
/// # Errors
/// See the rule's text.
pub fn a1(bench: &mut Bench) -> Checked {
    bench.each(|w| {
        let mut m = Mixed::start(w)?;
        let ended: Vec<_> = m.ended.all().iter().map(|e| e.number).collect();
        for i in &m.must {
            ensure!(ended.contains(i), "op {i} never ended, though its peer reads everything");
        }
        m.close(w);
        let mut all: Vec<_> = m.ended.take().iter().map(|e| e.number).collect();
        all.sort_unstable();
        ensure_eq!(all, (0..m.count).collect::<Vec<_>>(), "the ops that ended");
        let (down, up) = OpKind::ALL.map(|k| w.probes.counts(k)).iter().fold((0, 0), |(d, u), (a, b)| (d + a, u + b));
        ensure!(up <= down, "{up} ops came up and {down} went down");
        Ok(())
    })
}

/// One call, one answer. That there is one and not two the types see to; here is the end of a stream,
/// which must not look like a success.
///
/// # Errors
/// See the rule's text.
pub fn a2(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let data = units(w.seed, 3, 200);
        if w.caps().ordered && w.caps().reliable {
            transfer(w, &pair.far, &pair.near, &data, &mut dice)?;
        }
        if !w.caps().half_close {
            return Ok(());
        }
        pair.end_far()?;
        for _ in 0..3 {
            match read_unit(&pair.near, 50, &mut dice) {
                Ok(bytes) => return Err(Stop::fail(format!("a read at the end succeeded with {} bytes", bytes.len()))),
                Err(f) => ensure_eq!(f.kind(), ErrorKind::Eof, "a read at the end"),
            }
        }
        Ok(())
    })
}

/// An op belongs to a level only during a call. What leaves a level and comes back the probes compare.
///
/// # Errors
/// See the rule's text.
pub fn a3(bench: &mut Bench) -> Checked {
    bench.each_on(
        |s| s.recorded(),
        |w| {
            let mut m = Mixed::start(w)?;
            m.close(w);
            let mut below = std::collections::BTreeMap::new();
            for e in w.probes.events().iter().filter(|e| e.side == Side::Near) {
                let key = (e.above, e.number);
                match (e.up, below.get(&key)) {
                    (false, None) => drop(below.insert(key, e.kind)),
                    (true, Some(kind)) if *kind == e.kind => drop(below.remove(&key)),
                    _ => return Err(Stop::fail(format!("a {} passed out of turn above level {}", e.kind, e.above))),
                }
            }
            Ok(())
        },
    )
}

/// A stale number harms nobody.
///
/// # Errors
/// See the rule's text.
pub fn a4(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let told = Tell::new();
        let submit = |h: &Handle| {
            let tell = told.clone();
            h.read(room(100)).then(move |r| match r {
                Ok(done) => tell.note((None, done.buf.to_vec())),
                Err(f) => tell.note((Some(f.kind()), f.back.buf.to_vec())),
            })
        };
        let mut sent = Vec::new();
        for i in 0..12 {
            let stale = submit(&pair.near);
            if dice.chance(50) {
                w.run_for(std::time::Duration::from_micros(dice.roll() % 1500));
            }
            stale.cancel();
            stale.cancel();
            submit(&pair.near);
            let unit = pattern(w.seed, i * 1000, dice.between(1, 90));
            pair.far.write(unit.clone()).deadline(LONG).wait()?;
            sent.push(unit);
            w.run();
            // Its place may be the next one's by now.
            let next = submit(&pair.near);
            stale.cancel();
            let unit = pattern(w.seed, i * 1000 + 500, 20);
            pair.far.write(unit.clone()).deadline(LONG).wait()?;
            sent.push(unit);
            w.run();
            next.cancel();
        }
        let mut got = Vec::new();
        for (kind, bytes) in told.take() {
            ensure!(matches!(kind, None | Some(ErrorKind::Cancelled)), "a read ended with {kind:?}");
            got.extend(bytes);
        }
        // Reads that got less than a unit leave the rest to be read.
        let sent = sent.concat();
        while got.len() < sent.len() {
            let part = pair.near.read(room(sent.len())).deadline(LONG).wait();
            got.extend(
                part.map_err(|f| Stop::from(f).at(format_args!("{} bytes got lost", sent.len() - got.len())))?.buf,
            );
        }
        same(&got, &sent)
    })
}

/// Results rise as they were finished.
///
/// # Errors
/// See the rule's text.
pub fn a5(bench: &mut Bench) -> Checked {
    let kinds = [OpKind::Read, OpKind::Write];
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let plan = |n| {
        let faults = Faults::new(n, Fault::Error(ErrorKind::Unreachable)).only(&kinds);
        faults.arm(false);
        faults
    };
    every_of(plan, |faults| {
        let stage = bench.stage(seed).recorded().near(|_, below| faults.level(below));
        stage.build()?.run_rule(&mut |w| {
            let (near, far) = match w.caps().accepts {
                true => {
                    let p = w.pair()?;
                    w.keep((p.rest, p.server));
                    (p.near, Some(p.far))
                }
                false => (w.alone()?, None),
            };
            faults.arm(true);
            w.probes.forget();
            for i in 0..3u64 {
                // What a fault does to the stream is not the matter here.
                let _ = near.write(pattern(seed, 0, 50)).attr(Mark(2 * i)).deadline(LONG).wait();
                if let Some(far) = &far {
                    far.write(pattern(seed, 0, 50)).deadline(LONG).wait()?;
                }
                let _ = near.read(room(100)).attr(Mark(2 * i + 1)).deadline(LONG).wait();
            }
            faults.arm(false);
            rises_in_order(w)
        })
    })?;
    Ok(())
}

/// Whether what came up at each boundary came up at the one above it, later, and with its error.
fn rises_in_order(w: &World) -> Checked {
    let events: Vec<Event> =
        w.probes.events().into_iter().filter(|e| e.side == Side::Near && e.mark.is_some()).collect();
    for path in w.near_paths() {
        // Paths are from the transport to the top.
        for pair in path.windows(2) {
            let [lower, upper] = [pair[0], pair[1]];
            for (i, e) in events.iter().enumerate().filter(|(_, e)| e.above == upper && e.up) {
                let before = &events[..i];
                let began = before.iter().rposition(|d| d.above == upper && d.number == e.number && !d.up).unwrap_or(0);
                let inside = |d: &&Event| d.above == lower && d.mark == e.mark && d.kind == e.kind;
                let last = events[began..i].iter().rfind(inside);
                if let Some(l) = last.filter(|l| !l.up) {
                    let text = format!("a {} rose above level {upper} while below level {lower} it had not", l.kind);
                    return Err(Stop::fail(text));
                }
                if let Some(kind @ ErrorKind::Unreachable) = last.and_then(|l| l.error)
                    && e.error.is_none()
                {
                    let text = format!("a {} that had failed below ({kind:?}) succeeded above level {upper}", e.kind);
                    return Err(Stop::fail(text));
                }
            }
        }
    }
    Ok(())
}

/// A dropped op is reported, and no driver drops one. That no op comes up dropped the probes check.
///
/// # Errors
/// See the rule's text.
pub fn a6(bench: &mut Bench) -> Checked {
    bench.each(|w| {
        let mut m = Mixed::start(w)?;
        m.close(w);
        let dropped = m.ended.all().into_iter().find(|e| e.result == Err(ErrorKind::Dropped));
        ensure!(dropped.is_none(), "an op ended as dropped: {dropped:?}");
        Ok(())
    })
}

/// Callbacks come once, and before that of the close.
///
/// # Errors
/// See the rule's text.
pub fn a8(bench: &mut Bench) -> Checked {
    for mode in [CloseMode::Graceful, CloseMode::Abort] {
        bench.each(|w| {
            let m = Mixed::start(w)?;
            let order = Tell::new();
            // Some that are under way when the close comes, and some that are submitted in callbacks.
            for i in 0..5 {
                let (tell, again) = (order.clone(), m.near.clone());
                m.near.read(room(10)).then(move |_| {
                    tell.note(i);
                    let tell = tell.clone();
                    again.write("x").then(move |_| tell.note(10 + i));
                });
            }
            let tell = order.clone();
            m.near.write(pattern(1, 0, much(w))).then(move |_| tell.note(20));
            let tell = order.clone();
            m.near.close().mode(mode).then(move |_| tell.note(99));
            w.run();
            let order = order.take();
            ensure_eq!(order.iter().filter(|i| **i == 99).count(), 1, "callbacks of the close");
            let after: Vec<_> =
                order.iter().skip_while(|i| **i != 99).skip(1).filter(|i| **i < 10 || **i == 20).collect();
            ensure!(after.is_empty(), "callbacks of {after:?} came after that of the close");
            let mut first: Vec<_> = order.into_iter().filter(|i| *i != 99).collect();
            first.sort_unstable();
            ensure_eq!(first, [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20], "callbacks that came");
            Ok(())
        })?;
    }
    Ok(())
}

/// Ops of drivers are ops. A level over the subject reads and writes on its own account, and says
/// farewell in its close.
///
/// # Errors
/// See the rule's text.
pub fn a9(bench: &mut Bench) -> Checked {
    let logs = Tell::new();
    bench.each_on(
        // So narrow that the farewell takes several round trips.
        |s| {
            s.network(SimConfig::calm().with_buffer(4))
                .near(|n, below| if n == 0 { chatty::over(&logs, below) } else { below })
        },
        |w| {
            logs.take();
            let (near, drained) = match w.caps().accepts {
                true => {
                    let p = w.pair()?;
                    let drained = drain(&p.far);
                    p.far.write("hi").deadline(LONG).wait()?;
                    w.keep((p.far, p.rest, p.server));
                    (p.near, Some(drained))
                }
                false => (w.alone()?, None),
            };
            w.run();
            let tell = logs.clone();
            near.close().then(move |r| tell.note(format!("closed {:?}", r.map_err(|e| e.kind()))));
            w.run();
            let log = logs.take();
            let at = |what: &str| log.iter().position(|l| l.starts_with(what));
            for what in ["wrote greeting", "read", "closing", "wrote farewell", "closed"] {
                ensure!(at(what).is_some(), "`{what}` never came: {log:?}");
                ensure_eq!(log.iter().filter(|l| l.starts_with(what) && l.len() > what.len()).count(), 1, "`{what}`");
            }
            ensure_eq!(log.last().map(String::as_str), Some("closed Ok(())"), "the end of {log:?}");
            ensure!(at("wrote farewell") < at("closed"), "the close did not wait for the farewell: {log:?}");
            if let Some(drained) = drained.filter(|_| w.caps().reliable) {
                let bytes: Vec<u8> = drained.take().into_iter().flatten().flatten().collect();
                same(&bytes, b"greetingfarewell").map_err(|s| s.at("what the level wrote"))?;
            }
            Ok(())
        },
    )
}

/// A level that only passes is not seen.
///
/// # Errors
/// See the rule's text.
pub fn a10(bench: &mut Bench) -> Checked {
    let levels = crate::subject::bind(bench.subject().root())?.levels().len();
    let plain = passing(bench, &|_| 0)?;
    let everywhere = passing(bench, &|_| 2)?;
    ensure_eq!(everywhere, plain, "with two of them everywhere");
    for at in 0..levels {
        let one = passing(bench, &|n| u32::from(n == at))?;
        ensure_eq!(one, plain, "with one above level {at}");
    }
    Ok(())
}

/// What users see of a run with so many passing levels above each.
fn passing(bench: &Bench, how_many: &dyn Fn(usize) -> u32) -> Checked<Vec<String>> {
    let over = |n, below| (0..how_many(n)).fold(below, |b, _| nop(b));
    let seen = Tell::new();
    bench.each_on(
        |s| s.near(over).far(over),
        |w| {
            let mut m = Mixed::start(w)?;
            m.close(w);
            seen.note(format!("{:?}", m.ended.take()));
            Ok(())
        },
    )?;
    Ok(seen.take())
}
