//! Group B: ends that nobody waits for: a dropped handle, a deadline, an engine that stops.

use std::time::Duration;

use xio_core::driver::OpKind;
use xio_core::io::Direction;
use xio_core::{CloseMode, ErrorKind};

use super::b_close::{Ended, by_name, narrow};
use super::data::{drain, much, room, wrote};
use crate::bench::{Bench, LONG, Tell};
use crate::canary::Nest;
use crate::dice::pattern;
use crate::hole;
use crate::probe::Side;
use crate::verdict::{Checked, Stop};

/// A dropped handle closes itself.
///
/// # Errors
/// See the rule's text.
pub fn b8(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    // The peer reads on, or never again.
    for reads in [true, false] {
        bench.each_on(
            |s| s.network(narrow()),
            |w| {
                let pair = w.pair()?;
                let (told, memory): (Tell<Ended>, _) = (Tell::new(), Nest::default());
                let (a, b) = (told.clone(), told.clone());
                pair.near.read(room(9)).then(move |r| a.note(("read", r.map(|d| d.n).map_err(|f| (f.kind(), 0)))));
                let data = pattern(w.seed, 0, much(w));
                pair.near.write(memory.bytes(data.clone())).then(move |r| b.note(("write", wrote(r))));
                let handles = w.engine.handles();
                drop(pair.near);
                let drained = reads.then(|| drain(&pair.far));
                w.run_for(Duration::from_secs(20));
                let ended = told.take();
                ensure_eq!(ended.len(), 2, "callbacks that came");
                if let Some(drained) = drained {
                    let want = vec![("read", Err((ErrorKind::Cancelled, 0))), ("write", Ok(data.len()))];
                    ensure_eq!(by_name(ended, "close"), want, "how the ops ended");
                    let got = drained.take();
                    if w.caps().connected {
                        let end = got.last();
                        ensure!(matches!(end, Some(Err(ErrorKind::Eof))), "the peer ended with {end:?}");
                        let bytes: usize = got.into_iter().flatten().map(|b| b.len()).sum();
                        ensure_eq!(bytes, data.len(), "bytes that the peer got");
                    }
                }
                ensure_eq!(w.engine.handles(), handles - 1, "handles that are left");
                drop((pair.far, pair.rest, pair.server));
                w.release();
                w.run_for(Duration::from_secs(20));
                ensure_eq!(memory.alive().0, 0, "written buffers that somebody still holds");
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// A close does as asked, in bounded time.
///
/// # Errors
/// See the rule's text.
pub fn b10(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    for mode in [CloseMode::Graceful, CloseMode::Abort] {
        bench.each_on(
            |s| s.recorded(),
            |w| {
                let pair = w.pair()?;
                let data = pattern(w.seed, 0, 3000);
                pair.near.write(data.clone()).deadline(LONG).wait()?;
                let asked = w.now();
                pair.near.close().mode(mode).deadline(Duration::from_secs(5)).wait()?;
                let took = w.now().since(asked);
                ensure!(mode != CloseMode::Abort || took < Duration::from_secs(1), "an abort took {took:?}");
                let drained = drain(&pair.far);
                w.run();
                let got = drained.take();
                match (mode, got.last()) {
                    _ if !w.caps().connected => {}
                    (CloseMode::Graceful, Some(Err(ErrorKind::Eof))) => {
                        let bytes: usize = got.iter().flatten().map(Vec::len).sum();
                        ensure_eq!(bytes, data.len(), "bytes that the peer got");
                    }
                    (CloseMode::Abort, Some(Err(_))) => {}
                    (_, last) => return Err(Stop::fail(format!("the peer of a close ({mode:?}) ended with {last:?}"))),
                }
                let closes = |e: &crate::probe::Event| e.side == Side::Near && e.kind == OpKind::Close && !e.up;
                for e in w.probes.events().iter().filter(|e| closes(e)) {
                    ensure_eq!(e.bytes, mode as usize, "the mode in which the close came to level {}", e.above);
                }
                Ok(())
            },
        )?;
    }
    // The peer never reads: by its deadline the close turns into an abort.
    bench.each_on(
        |s| s.network(narrow()),
        |w| {
            let pair = w.pair()?;
            for i in 0..3 {
                pair.near.write(pattern(w.seed, i, much(w))).then(|_| ());
            }
            let told = Tell::new();
            let tell = told.clone();
            let limit = Duration::from_millis(300);
            pair.near.close().deadline(limit).then(move |r| tell.note(r.map_err(|e| e.kind())));
            w.run_for(limit + Duration::from_millis(501));
            ensure_eq!(told.len(), 1, "closes that ended half a second after their deadline");
            Ok(())
        },
    )
}

/// An engine that stops ends everything.
///
/// # Errors
/// See the rule's text.
pub fn b12(bench: &mut Bench) -> Checked {
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let levels = crate::subject::bind(bench.subject().root())?.levels().len();
    // Without a level that answers nothing, and with one above each level.
    for at in 0..=levels {
        let stage = bench.stage(seed).near(|n, below| if n == at { hole::over(below) } else { below });
        let run = stage.build()?.run_rule(&mut |w| {
            let server = if w.caps().accepts { Some(w.listen()?) } else { None };
            let to = server.as_ref().map_or_else(|| bench.subject().contact().clone(), |s| s.contact().clone());
            let told: Tell<Ended> = Tell::new();
            let links = Tell::new();
            let mut count = 1;
            let near = w.open(to).deadline(LONG).wait()?;
            if let Some(server) = &server {
                w.run();
                for _ in 0..8 {
                    let (tell, keep) = (told.clone(), links.clone());
                    server.accept().then(move |l| match l {
                        Ok(l) => {
                            keep.note(l);
                            tell.note(("link", Ok(0)));
                        }
                        Err(e) => tell.note(("accept", Err((e.kind(), 0)))),
                    });
                    count += 1;
                }
            }
            let (a, b, c) = (told.clone(), told.clone(), told.clone());
            near.read(room(64)).then(move |r| a.note(("read", r.map(|d| d.n).map_err(|f| (f.kind(), 0)))));
            near.write(pattern(1, 0, 100)).then(move |r| b.note(("write", wrote(r).map_err(|(k, _)| (k, 0)))));
            near.ready(Direction::Read).then(move |r| c.note(("ready", r.map(|()| 0).map_err(|e| (e.kind(), 0)))));
            count += 2;
            let asked = w.now();
            w.probes.may_kill();
            w.engine.shutdown();
            ensure_eq!(told.len(), count, "ops that had ended when the shutdown came back");
            ensure!(w.stands_at(asked), "the shutdown took virtual time");
            for (name, r) in told.take() {
                let done = name != "accept" && r.is_ok();
                ensure!(done || r == Err((ErrorKind::Stopped, 0)), "the {name} ended with {r:?}");
            }
            ensure_eq!(near.flush().wait().map_err(|e| e.kind()), Err(ErrorKind::Stopped), "a flush after it");
            drop((near, server, links));
            w.release();
            ensure_eq!(w.engine.handles(), 0, "handles that are left");
            Ok(())
        });
        run.map_err(|s| s.at(format_args!("a level that answers nothing above level {at}")))?;
    }
    Ok(())
}
