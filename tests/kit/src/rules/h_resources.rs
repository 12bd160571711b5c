//! Group H: resources, errors, accounts. What comes from below is in `h_bytes`, composition in `h_compose`.

use std::sync::Arc;
use std::time::Duration;

use xio_core::driver::OpKind;
use xio_core::reactor::SimConfig;
use xio_core::{Contact, Error, ErrorKind};

use super::data::{room, transfer, units};
use super::mixed::Mixed;
use crate::bench::{Bench, Guests, LONG, Tell, World, unless};
use crate::budget;
use crate::canary::Nest;
use crate::dice::Dice;
use crate::nth_fault::{Fault, Faults, every_of};
use crate::probe::Side;
use crate::subject::bind;
use crate::verdict::Checked;

/// Virtual time that the clean-up of a connection may take.
const TIDY: Duration = Duration::from_secs(30);
/// What every payload of these rules is made of.
const PAYLOAD: &str = "a-secret-of-the-user-";

pub(super) fn needs_budget() -> Checked {
    if budget::installed() { Ok(()) } else { unless("no counting allocator") }
}

/// Memory is bounded and comes back.
///
/// # Errors
/// See the rule's text.
pub fn h1(bench: &mut Bench) -> Checked {
    needs_budget()?;
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    // In a calm network all seeds are the same.
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let world = bench.stage(seed).without_probes().network(SimConfig::calm()).build()?;
    world.run_rule(&mut |w| {
        let stated = i64::try_from(bench.subject().holds_bytes()).unwrap_or(i64::MAX);
        // Of its final size: it is counted with the rest.
        let mut left = Vec::with_capacity(12);
        for _ in 0..12 {
            let before = budget::mark();
            let server = w.engine.listen(&w.far, bench.subject().contact()).deadline(LONG).wait()?;
            let pair = w.pair_at(server)?;
            let idle = budget::thread().since(before).live;
            // Two ends, two directions each.
            ensure!(idle <= 4 * stated, "an idle pair takes {idle} bytes");
            let waits: Vec<_> = (0..200).map(|_| pair.near.read(room(64)).then(drop)).collect();
            let ops = budget::thread().since(before).live - idle;
            ensure!(ops <= 200 * 64 + 2 * stated, "200 reads of 64 bytes take {ops} bytes");
            waits.iter().for_each(xio_core::Ticket::cancel);
            w.run();
            drop(waits);
            if w.caps().reliable && w.caps().ordered {
                transfer(w, &pair.near, &pair.far, &units(w.seed, 8, 500), &mut Dice::new(w.seed))?;
            }
            pair.near.close().deadline(LONG).wait()?;
            pair.far.close().deadline(LONG).wait()?;
            drop(pair);
            w.run_for(TIDY);
            left.push(budget::thread().live);
        }
        // The first rounds fill what threads and engines keep for the next op.
        let [.., a, _, _, _, _, b] = left[..] else { return Ok(()) };
        ensure!(b <= a, "after each close there is more memory in use: {left:?}");
        Ok(())
    })
}

/// No descriptor, thread or timer is left. Threads a simulated engine has none.
///
/// # Errors
/// See the rule's text.
pub fn h2(bench: &mut Bench) -> Checked {
    bench.needs_virtual_time()?;
    for seed in bench.seeds() {
        let levels = Nest::default();
        let world = bench.stage(seed).replace(|_, d| levels.around(d)).build()?;
        let sim = world.sim()?.clone();
        world.run_rule(&mut |w| {
            for closes in [true, false] {
                nothing_is_left(w, closes).map_err(|s| s.at(format_args!("closed: {closes}")))?;
                ensure_eq!(levels.alive().0, 0, "levels that are left (closed: {closes})");
            }
            Ok(())
        })?;
        drop(world);
        ensure_eq!(Arc::strong_count(&sim), 1, "owners of the reactor when the engine is gone, this test one of them");
    }
    Ok(())
}

fn nothing_is_left(w: &World, closes: bool) -> Checked {
    let handles = if w.caps().accepts {
        let server = w.listen()?;
        let pair = w.pair_at(server)?;
        let mut all = pair.rest;
        all.extend([pair.far, pair.near]);
        all
    } else {
        vec![w.alone()?]
    };
    for h in &handles {
        h.read(room(10)).deadline(LONG).then(drop);
        h.read(room(10)).then(drop).cancel();
        h.write("some bytes").deadline(LONG).then(drop);
        h.ready(xio_core::io::Direction::Read).deadline(LONG).then(drop);
    }
    w.run_for(Duration::from_millis(5));
    for h in &handles {
        if closes {
            h.close().deadline(LONG).then(drop);
        }
    }
    drop(handles);
    w.release();
    w.run_for(TIDY);
    ensure_eq!(w.engine.handles(), 0, "handles that are left");
    ensure_eq!(w.sim()?.sockets(), 0, "sockets that are left");
    ensure_eq!(w.engine.next_deadline(), None, "the next timer");
    Ok(())
}

/// An error says what happened and no more.
///
/// # Errors
/// See the rule's text.
pub fn h4(bench: &mut Bench) -> Checked {
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let plan = |n| {
        Faults::new(n, Fault::Error(ErrorKind::Unreachable)).only(&[
            OpKind::Open,
            OpKind::Read,
            OpKind::Write,
            OpKind::Flush,
            OpKind::Shutdown,
        ])
    };
    every_of(plan, |faults| {
        let stage = bench.stage(seed).near(|_, below| faults.level(below));
        stage.build()?.run_rule(&mut |w| {
            for e in errors_of_a_run(bench, w)? {
                says_enough(&e)?;
                if e.kind() == ErrorKind::Unreachable {
                    let place = faults.hit().unwrap_or_default();
                    let named = std::iter::successors(Some(&e), |e| std::error::Error::source(*e)?.downcast_ref());
                    let named = named.filter_map(Error::level).any(|l| place.ends_with(&format!("`{l}`")));
                    ensure!(named, "the error does not name the level of the fault: {e}");
                }
            }
            Ok(())
        })
    })?;
    let long = Contact::new("no-such-place/".repeat(1000));
    bench.each(|w| {
        let opened = w.open(long.clone()).deadline(LONG).wait();
        opened.map_or_else(|e| short(&e), |_| Ok(()))
    })
}

fn errors_of_a_run(bench: &Bench, w: &World) -> Checked<Vec<Error>> {
    let mut errors = Vec::new();
    let server = if w.caps().accepts { Some(w.listen()?) } else { None };
    let guests = server.as_ref().map(Guests::of);
    let to = server.as_ref().map_or_else(|| bench.subject().contact().clone(), |s| s.contact().clone());
    let near = match w.open(to).deadline(LONG).wait() {
        Ok(h) => h,
        Err(e) => return Ok(vec![e]),
    };
    w.run();
    let text = PAYLOAD.repeat(8);
    let far = match (guests, &server) {
        // An end that a fault kept from opening is not asked.
        (Some(g), Some(s)) => g.take(&w.far, s).ok(),
        _ => None,
    };
    errors.extend(near.write(text.clone()).deadline(LONG).wait().err().map(|f| f.error));
    errors.extend(near.flush().deadline(LONG).wait().err());
    if let Some((far, _)) = &far {
        far.write(text.clone()).deadline(LONG).wait()?;
        errors.extend(near.read(room(40)).wait_for(1).deadline(TIDY).wait().err().map(|f| f.error));
        errors.extend(near.take(500).deadline(TIDY).wait().err().map(|f| f.error));
        errors.extend(near.read(room(40)).deadline(Duration::from_millis(3)).wait().err().map(|f| f.error));
    }
    let told = Tell::new();
    let tell = told.clone();
    near.read(room(40)).then(move |r| tell.note(r.err().map(|f| f.error))).cancel();
    if w.caps().half_close {
        errors.extend(near.shutdown().deadline(LONG).wait().err());
        errors.extend(near.write(text).deadline(LONG).wait().err().map(|f| f.error));
    }
    errors.extend(near.close().deadline(LONG).wait().err());
    errors.extend(near.read(room(40)).wait().err().map(|f| f.error));
    w.run();
    errors.extend(told.take().into_iter().flatten());
    Ok(errors)
}

fn short(e: &Error) -> Checked {
    for text in [e.to_string(), std::error::Error::source(e).map(ToString::to_string).unwrap_or_default()] {
        ensure!(text.len() <= 1024, "the text of an error has {} bytes", text.len());
        ensure!(!text.contains(PAYLOAD), "an error tells what was written: {text}");
    }
    ensure!(!format!("{e:?}").contains(PAYLOAD), "an error tells what was written when it is debugged: {e:?}");
    Ok(())
}

fn says_enough(e: &Error) -> Checked {
    short(e)?;
    ensure!(e.op().is_some(), "the error does not name the op: {e}");
    // What the user's own doing ended is no level's fault: a cancel, a deadline, a close, a shutdown.
    let own = [ErrorKind::Cancelled, ErrorKind::TimedOut, ErrorKind::Closed, ErrorKind::BrokenPipe];
    if !own.contains(&e.kind()) {
        ensure!(e.level().is_some() && e.driver().is_some(), "the error does not name its level: {e}");
    }
    Ok(())
}

/// Ops are accounted for.
///
/// # Errors
/// See the rule's text.
pub fn h5(bench: &mut Bench) -> Checked {
    bench.each_on(
        |s| s.recorded(),
        |w| {
            let mut m = Mixed::start(w)?;
            balances(w, None)?;
            let (reads, writes) = m.near.outstanding();
            balances(w, Some([(OpKind::Read, reads), (OpKind::Write, writes)]))?;
            m.close(w);
            balances(w, None)?;
            for e in ups_and_downs(w) {
                ensure_eq!(e.2, e.3, "{} above level {}: what came up and what went down", e.1, e.0);
            }
            counted_by_the_engine(bench, w)
        },
    )
}

/// By boundary of the near end and kind: how many ops came up and went down.
fn ups_and_downs(w: &World) -> Vec<(usize, OpKind, u64, u64)> {
    let mut all = std::collections::BTreeMap::new();
    for e in w.probes.events().iter().filter(|e| e.side == Side::Near) {
        let (up, down) = all.entry((e.above, e.kind as usize)).or_insert((0, 0));
        *if e.up { up } else { down } += 1;
    }
    all.into_iter().map(|((n, kind), (up, down))| (n, OpKind::ALL[kind], up, down)).collect()
}

fn balances(w: &World, top: Option<[(OpKind, u32); 2]>) -> Checked {
    let all = ups_and_downs(w);
    ensure!(!all.is_empty(), "no probe saw anything");
    for (n, kind, up, down) in &all {
        ensure!(up <= down, "{up} {kind}s came up above level {n} and {down} went down");
    }
    for (kind, outstanding) in top.into_iter().flatten() {
        let below: u64 = all.iter().filter(|(n, k, ..)| *n == 0 && *k == kind).map(|(_, _, up, down)| down - up).sum();
        ensure_eq!(below, u64::from(outstanding), "{kind}s that are below the top, and that the handle counts");
    }
    Ok(())
}

/// What the engine counts is what the probes have seen.
fn counted_by_the_engine(bench: &Bench, w: &World) -> Checked {
    w.probes.forget();
    let server = if w.caps().accepts { Some(w.listen()?) } else { None };
    let guests = server.as_ref().map(Guests::of);
    let to = server.as_ref().map_or_else(|| bench.subject().contact().clone(), |s| s.contact().clone());
    let near = w.open(to).with_stats().deadline(LONG).wait()?;
    w.run();
    for i in 0..5 {
        near.write(vec![7; 100 * i]).deadline(LONG).wait()?;
        near.read(room(50)).then(drop);
    }
    near.flush().deadline(LONG).wait()?;
    w.run();
    let stats = near.stats();
    ensure!(!stats.is_empty(), "a handle opened with statistics has none");
    let ids: Vec<String> = bind(bench.subject().root())?.levels().map(|l| l.id().to_owned()).collect();
    for (n, kind, up, down) in ups_and_downs(w).into_iter().filter(|(_, k, ..)| *k != OpKind::Open) {
        let prefix = format!("probe-{n}-");
        let count = |is_it: &dyn Fn(&str) -> bool| {
            stats.iter().find(|(id, _)| is_it(id)).map_or(0, |(_, c)| c.ops[kind as usize])
        };
        ensure_eq!(count(&|id| id.starts_with(&prefix)), down, "{kind}s above level {n}, as the engine counts them");
        // Of a level that does not see them none are counted; some may wait before it, in order.
        let at_level = count(&|id| ids.get(n).is_some_and(|i| i == id));
        let fits = at_level == 0 || at_level == down || at_level < down && up < down;
        ensure!(fits, "the engine counts {at_level} {kind}s at level {n}, not {down}");
    }
    drop(guests);
    Ok(())
}
