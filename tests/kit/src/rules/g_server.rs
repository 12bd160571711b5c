//! Group G: servers. Links are in `g_links`.

use std::sync::Arc;
use std::time::Duration;

use xio_core::cx::EventKind;
use xio_core::driver::OpKind;
use xio_core::reactor::{AcceptFault, SimConfig};
use xio_core::{ErrorKind, LevelNode, Stack};

use super::g_links::{branches, clients, links, listen, needs_server};
use crate::bench::{Bench, Guests, LONG, Tell, World, unless};
use crate::dice::pattern;
use crate::nth_fault::{Fault, Faults, every_of};
use crate::probe::{Event, Side};
use crate::subject::bind;
use crate::verdict::{Checked, Stop};

/// A server starts from both ends.
///
/// # Errors
/// See the rule's text.
pub fn g1(bench: &mut Bench) -> Checked {
    needs_server(bench)?;
    let plan = |n| Faults::new(n, Fault::Error(ErrorKind::Protocol)).only(&[OpKind::Listen]);
    for seed in bench.seeds() {
        every_of(plan, |faults| {
            // In both stacks, so that the numbers of their boundaries are the same.
            let stage = bench.stage(seed).recorded();
            let stage = stage.near(|_, below| faults.level(below)).far(|_, below| faults.level(below));
            stage.build()?.run_rule(&mut |w| {
                let started = listen(bench, w);
                match (faults.hit(), started) {
                    (Some(_), Err(_)) => {}
                    (Some(_), Ok(_)) => return Err(Stop::fail("a server started that a level had refused to start")),
                    (None, started) => started?.close()?,
                }
                w.run();
                starts_and_stops(w)
            })
        })?;
    }
    Ok(())
}

/// Whether servers started from the top down and the bottom up, and what listened was stopped in reverse.
fn starts_and_stops(w: &World) -> Checked {
    let events = w.probes.events();
    let of = |f: &dyn Fn(&Event) -> bool| -> Vec<usize> {
        events.iter().filter(|e| e.side == Side::Far && f(e)).map(|e| e.above).collect()
    };
    let down = of(&|e| e.kind == OpKind::Listen && !e.up);
    let up = of(&|e| e.kind == OpKind::Listen && e.up);
    let listening = of(&|e| e.kind == OpKind::Listen && e.up && e.error.is_none());
    let closed = of(&|e| e.kind == OpKind::Close && !e.up);
    ensure!(!down.is_empty(), "no level heard of the server");
    for path in w.near_paths() {
        let on_path = |v: &[usize]| v.iter().copied().filter(|n| path.contains(n)).collect::<Vec<_>>();
        let back = |mut v: Vec<usize>| {
            v.reverse();
            v
        };
        let (down, up) = (on_path(&down), on_path(&up));
        let top_down: Vec<usize> = path.iter().rev().copied().take(down.len()).collect();
        ensure_eq!(down, top_down, "the way of a listen down");
        ensure_eq!(up, back(down), "the way of a listen up");
        ensure_eq!(on_path(&closed), back(on_path(&listening)), "what was stopped");
    }
    Ok(())
}

/// A failed accept does not end a server.
///
/// # Errors
/// See the rule's text.
pub fn g4(bench: &mut Bench) -> Checked {
    needs_server(bench)?;
    bench.needs_virtual_time()?;
    if bench.caps().connected {
        descriptors_run_out(bench)?;
    }
    let seed = bench.seeds().first().copied().unwrap_or_default();
    for kind in [ErrorKind::Reset, ErrorKind::Unreachable, ErrorKind::Exhausted, ErrorKind::Io] {
        let plan = |n| Faults::new(n, Fault::Error(kind)).only(&[OpKind::Accept]);
        let all = every_of(plan, |faults| {
            let stage = bench.stage(seed).reactor(|sim| faults.reactor(sim));
            stage.build()?.run_rule(&mut |w| {
                let pair = w.pair()?;
                pair.near.close().deadline(LONG).wait()?;
                Ok(())
            })
        });
        all.map_err(|s| s.at(format_args!("an accept that fails as {kind:?}")))?;
    }
    Ok(())
}

/// Accepts fail beside good ones, then for want of descriptors.
fn descriptors_run_out(bench: &Bench) -> Checked {
    bench.each_on(
        |s| s.network(SimConfig::calm()),
        |w| {
            let sim = w.sim()?.clone();
            let server = listen(bench, w)?;
            if sim.sockets() == 0 {
                return unless("sockets=0");
            }
            let guests = Guests::of(&server);
            sim.fail_accepts(3, AcceptFault::Aborted);
            let first = clients(w, server.contact(), 4);
            w.run();
            ensure_eq!(guests.len(), 4 * branches(w) - 3, "connections that came beside three that were aborted");
            let (seen, clock) = (Tell::new(), sim.clone());
            let tell = seen.clone();
            server.on_event(move |e| {
                if matches!(e.kind, EventKind::Other(_)) {
                    tell.note(clock.time());
                }
            });
            let before = guests.len();
            sim.fail_accepts(12, AcceptFault::TooManyFiles);
            let second = clients(w, server.contact(), 1);
            w.run_until(|| guests.len() >= before + branches(w));
            ensure_eq!(guests.len(), before + branches(w), "connections that came once there were descriptors again");
            let seen = seen.take();
            ensure!(!seen.is_empty(), "no event said that descriptors ran out");
            for at in &seen {
                let soon = seen.iter().filter(|t| *t >= at && t.since(*at) < Duration::from_secs(1)).count();
                ensure!(soon <= 20 * branches(w), "{soon} accepts failed within a second");
            }
            if branches(w) == 1 {
                let gaps: Vec<_> = seen.windows(2).map(|p| p[1].since(p[0])).collect();
                ensure!(gaps.is_sorted() && gaps.first() < gaps.last(), "the accepts waited {gaps:?}");
            }
            drop((first, second, guests));
            Ok(())
        },
    )
}

/// The transport of a stack alone; `None` where there are several.
fn transport(stack: &Stack) -> Option<LevelNode> {
    let parents: Vec<_> = stack.levels().filter_map(|l| l.above()).collect();
    let mut leaves = stack.levels().enumerate().filter(|(n, _)| !parents.contains(n)).map(|(_, l)| l);
    let leaf = leaves.next()?;
    leaves.next().is_none().then(|| LevelNode::new(Arc::clone(leaf.driver())).with_attr(leaf.attr().copy()))
}

/// Connections that are not open yet are bounded. The peer has the transport alone, and is silent first,
/// then sends without end.
///
/// # Errors
/// See the rule's text.
pub fn g5(bench: &mut Bench) -> Checked {
    needs_server(bench)?;
    bench.needs_virtual_time()?;
    let greets = Tell::new();
    bench.each(|w| {
        // Of the very driver that listens: it may know its servers.
        let Some(raw) = transport(&w.far) else { return unless("several transports") };
        let raw = bind(raw)?;
        let server = listen(bench, w)?;
        for noisy in [false, true] {
            let told = Tell::new();
            let tell = told.clone();
            w.engine.open(&raw, server.contact().clone()).deadline(LONG).then(move |r| tell.note(r));
            let came = links(w, &server, 1);
            ensure_eq!(came.len(), 1, "links of a silent client");
            let silent = told.take().pop().ok_or_else(|| Stop::fail("a transport did not open"))??;
            let opened = Tell::new();
            for link in came {
                let tell = opened.clone();
                // No deadline: the level has to know one.
                link.open().then(move |r| tell.note(r.map_err(|e| e.kind())));
            }
            if !opened.is_empty() {
                continue;
            }
            greets.note(());
            let went = Tell::new();
            if noisy {
                for i in 0..64 {
                    let tell = went.clone();
                    silent.write(pattern(w.seed, i << 16, 1 << 16)).then(move |r| tell.note(r.is_ok()));
                }
            }
            w.run_for(LONG);
            ensure_eq!(opened.len(), 1, "opens of a link that ended though its peer greets nobody");
            let taken = went.take().into_iter().filter(|ok| *ok).count() << 16;
            // What the network holds comes on top.
            ensure!(taken <= bench.subject().holds_bytes() + (1 << 18), "{taken} bytes were taken before the open");
        }
        Ok(())
    })?;
    if greets.is_empty() { unless("greets=false") } else { Ok(()) }
}
