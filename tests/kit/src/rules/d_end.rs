//! Group D: end of stream, half close, reset. Ends that come with data or inside a message are in
//! `d_cut`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use xio_core::caps::Needs;
use xio_core::driver::Intercepts;
use xio_core::op::Read;
use xio_core::reactor::SimConfig;
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Handle, Level, Op};

use super::b_close::narrow;
use super::data::{Wrote, drain, much, room, same, wrote};
use crate::bench::{Bench, LONG, Pair, Tell, World};
use crate::dice::pattern;
use crate::saboteur;
use crate::verdict::{Checked, Stop};

/// How a read ended: its bytes, and the error beside them.
type Got = (Vec<u8>, Option<ErrorKind>);

/// Lets a world make `n` steps. Whether it made them all.
pub(super) fn step(w: &World, n: usize) -> bool {
    let mut made = 0;
    w.run_until(|| {
        made += 1;
        made > n
    })
}

/// Runs `f` in a new world for each event in turn after which it is to do its deed, until there are no
/// more events. `f` says whether there was such an event.
pub(super) fn sweep(
    bench: &Bench,
    network: impl Fn() -> SimConfig,
    mut f: impl FnMut(&World, usize) -> Checked<bool>,
) -> Checked {
    /// No run of these is longer.
    const MOST: usize = 400;
    bench.needs_virtual_time()?;
    let seeds = bench.seeds();
    for i in 0..MOST {
        let mut more = false;
        // A seed an event: all of them come up in turn.
        let stage = bench.stage(seeds[i % seeds.len()]).network(network());
        let run = stage.build()?.run_rule(&mut |w| {
            more = f(w, i)?;
            Ok(())
        });
        run.map_err(|s| s.at(format_args!("after event {i}")))?;
        if !more {
            return Ok(());
        }
    }
    Ok(())
}

/// Submits a read, whose end is told with its number.
fn read(h: &Handle, size: usize, wait_for: usize, number: usize, told: &Tell<(usize, Got)>) {
    let tell = told.clone();
    h.read(room(size)).wait_for(wait_for).then(move |r| {
        let got = match r {
            Ok(d) => (d.buf.to_vec(), None),
            Err(f) => (f.back.buf.to_vec(), Some(f.kind())),
        };
        tell.note((number, got));
    });
}

/// Ends what the far end writes, without waiting.
fn end_far(pair: &Pair) {
    for h in std::iter::once(&pair.far).chain(&pair.rest) {
        h.shutdown().then(|_| ());
    }
}

/// Every read that waits sees the end.
///
/// # Errors
/// See the rule's text.
pub fn d1(bench: &mut Bench) -> Checked {
    const READS: usize = 13;
    bench.needs_peer()?;
    bench.needs_half_close()?;
    bench.needs_order()?;
    sweep(bench, SimConfig::default, |w, i| {
        let pair = w.pair()?;
        let told = Tell::new();
        for n in 0..READS {
            // Ten bytes each of a stream, or a message.
            read(&pair.near, if w.caps().unit.has_borders() { 40 } else { 10 }, 10, n, &told);
        }
        for n in 0..3 {
            pair.far.write(pattern(w.seed, n * 30, 30)).then(|_| ());
        }
        let more = step(w, i);
        end_far(&pair);
        w.run();
        let mut data = Vec::new();
        let mut ends = 0;
        ensure_eq!(told.len(), READS, "reads that ended");
        for (place, (n, (bytes, error))) in told.take().into_iter().enumerate() {
            ensure_eq!(n, place, "the read that ended in this place");
            ensure!(ends == 0 || error == Some(ErrorKind::Eof), "read {n} after the end came to {error:?}");
            match error {
                None => data.extend(bytes),
                Some(ErrorKind::Eof) => {
                    ends += 1;
                    data.extend(bytes);
                }
                Some(kind) => return Err(Stop::fail(format!("read {n} ended with {kind:?}"))),
            }
        }
        ensure!(ends > 0, "no read saw the end");
        same(&data, &pattern(w.seed, 0, 90))?;
        Ok(more)
    })
}

/// A level that has more once its stream has ended: no read may come to it then.
#[derive(Default)]
struct Restless(bool);

impl Level for Restless {
    fn read<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if !self.0 {
            return op.pass();
        }
        op.put(b"x");
        op.finished()
    }
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.0 |= op.error().map(Error::kind) == Some(ErrorKind::Eof);
        op.finished()
    }
}

/// The end of a stream stays. The level on top would not let it.
///
/// # Errors
/// See the rule's text.
pub fn d2(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_order()?;
    if bench.caps().eof_resets {
        return crate::bench::unless("eof_resets=true");
    }
    for closes in [true, false] {
        if !closes && !bench.caps().half_close {
            continue;
        }
        let sees = Intercepts::READ | Intercepts::READ_DONE | Intercepts::CONCURRENT_READS;
        let insert = |n, below| match n {
            0 => saboteur::level(n, Needs::ANY, sees, Restless::default, below),
            _ => below,
        };
        bench.each_on(
            |s| s.near(insert),
            |w| {
                let pair = w.pair()?;
                pair.far.write(pattern(w.seed, 0, 300)).deadline(LONG).wait()?;
                if closes {
                    for h in std::iter::once(&pair.far).chain(&pair.rest) {
                        h.close().then(|_| ());
                    }
                } else {
                    pair.end_far()?;
                }
                let mut bytes = 0;
                let end = loop {
                    match pair.near.read(room(1000)).deadline(LONG).wait() {
                        Ok(d) => bytes += d.n,
                        Err(f) => break f.kind(),
                    }
                };
                ensure_eq!((bytes, end), (300, ErrorKind::Eof), "bytes, and what came behind them");
                // What the close of the peer still brings.
                w.run_for(std::time::Duration::from_secs(1));
                let since = w.now();
                for i in 0..4 {
                    let reads = [
                        pair.near.read(room(10)).deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind()),
                        pair.near.take(10).deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind()),
                        pair.near.read_into(&mut [0; 10]).deadline(LONG).wait().map_err(|e| e.kind()),
                        pair.near.read(room(10)).no_wait().wait().map(|d| d.n).map_err(|f| f.kind()),
                    ];
                    ensure_eq!(reads, [Err(ErrorKind::Eof); 4], "reads after the end, round {i}");
                }
                ensure!(w.stands_at(since), "reads after the end took time");
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Ending the write side leaves the other alone.
///
/// # Errors
/// See the rule's text.
pub fn d5(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_half_close()?;
    bench.needs_order()?;
    sweep(
        bench,
        || narrow().with_short(0.5),
        |w, i| {
            let pair = w.pair()?;
            let size = much(w).min(6000);
            let ends: Tell<(&str, Wrote)> = Tell::new();
            let note = |name: &'static str| {
                let tell = ends.clone();
                move |r: Result<(), Error>| tell.note((name, r.map(|()| 0).map_err(|e| (e.kind(), 0))))
            };
            let write = |name: &'static str| {
                let tell = ends.clone();
                pair.near.write(pattern(w.seed, 0, size)).then(move |r| tell.note((name, wrote(r))));
            };
            write("write");
            pair.near.shutdown().then(note("shutdown"));
            let drained = drain(&pair.far);
            let more = step(w, i);
            pair.near.shutdown().then(note("second shutdown"));
            write("late write");
            // The other direction, both before and after.
            pair.far.write("still here").then(|_| ());
            let told = Tell::new();
            read(&pair.near, 100, 10, 0, &told);
            w.run();
            let mut ends = ends.take();
            ends.sort_by_key(|(name, _)| *name);
            let broken = Err((ErrorKind::BrokenPipe, 0));
            let want = [("late write", broken), ("second shutdown", broken), ("shutdown", Ok(0)), ("write", Ok(size))];
            ensure_eq!(ends, want, "how the ops ended");
            let got = drained.take();
            ensure_eq!(got.last(), Some(&Err(ErrorKind::Eof)), "the peer's end");
            let bytes: Vec<u8> = got.into_iter().flatten().flatten().collect();
            same(&bytes, &pattern(w.seed, 0, size))?;
            ensure_eq!(told.take(), [(0, (b"still here".to_vec(), None))], "the read of the end that shut down");
            Ok(more)
        },
    )
}

/// A reset is not an end.
///
/// # Errors
/// See the rule's text.
pub fn d6(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_connection()?;
    let networked = Arc::new(AtomicUsize::new(0));
    let seen = networked.clone();
    sweep(bench, narrow, move |w, i| {
        let pair = w.pair()?;
        if w.sim()?.sockets() == 0 {
            crate::bench::unless("no socket below")?;
        }
        let (reads, writes) = (Tell::new(), Tell::new());
        pair.far.write(pattern(w.seed, 0, 30)).then(|_| ());
        for n in 0..4 {
            read(&pair.near, 20 + 20 * usize::from(w.caps().unit.has_borders()), 1, n, &reads);
        }
        for n in 0..3 {
            let tell = writes.clone();
            pair.near.write(pattern(w.seed, n, much(w))).then(move |r| tell.note(wrote(r).map_err(|(k, _)| k)));
        }
        let more = step(w, i);
        // A level that reads ahead may have let all of them through by now.
        let all_through = writes.len() == 3;
        let hits = reset(w, pair.server.contact())?;
        ensure!(hits > 0, "no connection was reset");
        seen.fetch_add(hits, Ordering::Relaxed);
        w.run();
        ensure_eq!((reads.len(), writes.len()), (4, 3), "reads and writes that ended");
        let reads: Vec<_> = reads.take().into_iter().map(|(_, (_, error))| error.map_or(Ok(()), Err)).collect();
        let writes: Vec<_> = writes.take().into_iter().map(|r| r.map(drop)).collect();
        for (what, ends) in [("reads", reads), ("writes", writes)] {
            let good = ends.iter().all(|r| matches!(r, Ok(()) | Err(ErrorKind::Reset)));
            let told = ends.contains(&Err(ErrorKind::Reset)) || (what == "writes" && all_through);
            ensure!(good && told, "the {what} ended with {ends:?}");
        }
        Ok(more)
    })?;
    ensure!(networked.load(Ordering::Relaxed) > 0, "nothing was reset");
    Ok(())
}

/// Resets the connections of every leaf.
fn reset(w: &World, at: &Contact) -> Checked<usize> {
    match at {
        Contact::Branches(map) => map.values().map(|c| reset(w, c)).sum(),
        leaf => Ok(w.sim()?.reset(leaf.clone())),
    }
}
