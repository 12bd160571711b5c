//! Group C: many ops together: order, limits, fairness, both directions, parts of every size.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use xio_core::caps::Unit;
use xio_core::reactor::SimConfig;
use xio_core::{ErrorKind, Handle};

use super::data::{Wrote, drain, much, read_bytes, read_unit, room, same, units, write_all, wrote};
use crate::bench::{Bench, LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::jitter::{Cut, Jitter};
use crate::verdict::{Checked, Stop};

/// Reads end in the order they began.
///
/// # Errors
/// See the rule's text.
pub fn c10(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_stream()?;
    bench.needs_order()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let told = Tell::new();
        let mut total = 0;
        for i in 0..10 {
            let size = dice.between(1, 50);
            total += size;
            let tell = told.clone();
            let read = pair.near.read(room(size)).wait_for(size);
            read.then(move |r| tell.note((i, r.map(|d| d.buf.to_vec()).map_err(|f| f.kind()))));
        }
        let mut at = 0;
        while at < total {
            let n = dice.between(1, 40).min(total - at);
            pair.far.write(pattern(w.seed, at, n)).then(|_| ());
            if dice.chance(50) {
                w.run();
            }
            at += n;
        }
        w.run();
        let mut all = Vec::new();
        for (place, (i, r)) in told.take().into_iter().enumerate() {
            ensure_eq!(i, place, "the read that ended in this place");
            all.extend(r.map_err(|k| Stop::fail(format!("read {i} ended with {k:?}")))?);
        }
        same(&all, &pattern(w.seed, 0, total))
    })
}

/// A slow peer stops the writer.
///
/// # Errors
/// See the rule's text.
pub fn c11(bench: &mut Bench) -> Checked {
    const ONE: usize = 16 * 1024;
    bench.needs_peer()?;
    bench.needs_connection()?;
    bench.needs_virtual_time()?;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    bench.stage(seed).network(SimConfig::calm().with_buffer(ONE)).build()?.run_rule(&mut |w| {
        let pair = w.pair()?;
        // Both ends' levels, and what is on its way and in the sockets.
        let bound = 2 * bench.subject().holds_bytes() + 8 * ONE;
        let count = 4 * bound / ONE;
        let taken = Arc::new(AtomicUsize::new(0));
        for i in 0..count {
            let taken = taken.clone();
            pair.near.write(pattern(seed, i, ONE)).then(move |r| {
                taken.fetch_add(wrote(r).unwrap_or_else(|(_, n)| n), Ordering::Relaxed);
            });
        }
        w.run_for(Duration::from_secs(3600));
        let n = taken.load(Ordering::Relaxed);
        ensure!(n <= bound, "{n} bytes were taken for a peer that reads nothing; {bound} are the limit");
        // A level may send away what it has no room for.
        if !w.caps().reliable || pair.near.outstanding().1 == 0 {
            return Ok(());
        }
        // What waited goes on when it reads: writes that went down together do when all of them are through.
        for _ in 0..count {
            let got = pair.far.take(1 << 20).deadline(LONG).wait()?.n;
            w.run_for(Duration::from_secs(1));
            if got > 0 && (n == 0 || taken.load(Ordering::Relaxed) > n) {
                return Ok(());
            }
        }
        Err(Stop::fail("the writer stands still though its peer reads"))
    })
}

/// A busy handle starves nobody.
///
/// # Errors
/// See the rule's text.
pub fn c12(bench: &mut Bench) -> Checked {
    /// Ops of the busy one that may end before the other gets its turn.
    const FAIR: usize = 1000;
    bench.needs_peer()?;
    bench.needs_stream()?;
    bench.needs_virtual_time()?;
    let seeds = 0..6;
    for seed in seeds {
        bench.stage(seed).network(SimConfig::calm()).build()?.run_rule(&mut |w| {
            let busy = w.pair()?;
            let other = w.pair_at(busy.server.clone())?;
            let count = Arc::new(AtomicUsize::new(0));
            let told = Tell::new();
            let (tell, seen) = (told.clone(), count.clone());
            other.near.read(room(10)).then(move |_| tell.note(seen.load(Ordering::Relaxed)));
            one_by_one(busy.near.clone(), count.clone());
            // Both have something to read at the same moment.
            busy.far.write(pattern(seed, 0, 2000)).then(|_| ());
            other.far.write("mine").then(|_| ());
            w.run();
            let waited = told.take();
            ensure_eq!(waited.len(), 1, "reads of the other handle that ended");
            ensure!(waited[0] <= FAIR, "{} reads of a busy handle ended before another had its turn", waited[0]);
            Ok(())
        })?;
    }
    Ok(())
}

/// Reads byte after byte, each read made in the callback of the one before.
fn one_by_one(h: Handle, count: Arc<AtomicUsize>) {
    let again = h.clone();
    h.read(room(1)).then(move |r| {
        if r.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
            one_by_one(again, count);
        }
    });
}

/// Reading and writing do not wait for each other.
///
/// # Errors
/// See the rule's text.
pub fn c13(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_virtual_time()?;
    for (buffer, size) in [(1, 50), (2, 50), (7, 200), (64, 1000), (1000, usize::MAX)] {
        let run = bench.each_on(
            |s| s.network(SimConfig::calm().with_buffer(buffer)),
            |w| {
                let pair = w.pair()?;
                let size = much(w).min(size);
                // Both write, neither reads.
                let ends = pair.both_ways().map(|(h, _)| {
                    let told: Tell<Wrote> = Tell::new();
                    for i in 0..2 {
                        let tell = told.clone();
                        h.write(pattern(w.seed, i * size, size)).then(move |r| tell.note(wrote(r)));
                    }
                    told
                });
                w.run();
                // One reads while its own writes wait.
                let far = drain(&pair.near);
                w.run();
                ensure_eq!(ends[1].all(), [Ok(size); 2], "the writes of the end whose peer reads");
                let near = drain(&pair.far);
                w.run();
                ensure_eq!(ends[0].all(), [Ok(size); 2], "the writes of the other end");
                for got in [far, near] {
                    let n: usize = got.take().into_iter().flatten().map(|b| b.len()).sum();
                    ensure!(n == 2 * size || !w.caps().reliable, "{n} bytes of {} came", 2 * size);
                }
                Ok(())
            },
        );
        run.map_err(|s| s.at(format_args!("with a window of {buffer} bytes")))?;
    }
    Ok(())
}

/// Cutting does not change results.
///
/// # Errors
/// See the rule's text.
pub fn c14(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.needs_virtual_time()?;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let results = |network: SimConfig, jitter: Option<Jitter>| -> Checked<Vec<Vec<u8>>> {
        let out = Tell::new();
        let insert = |_: usize, below| match jitter {
            Some(j) => j.over(below),
            None => below,
        };
        let stage = bench.stage(seed).network(network).near(insert).far(insert);
        stage.build()?.run_rule(&mut |w| {
            out.note(same_reads(w)?);
            Ok(())
        })?;
        Ok(out.take().pop().unwrap_or_default())
    };
    let calm = SimConfig::calm;
    let whole = results(calm(), None)?;
    let ways = [
        ("one byte at a time on the wire", calm().with_one_byte(), None),
        ("random parts on the wire", calm().with_short(0.9).with_spurious(0.5), None),
        ("one byte at a time between levels", calm(), Some(Jitter::cutting(seed, Cut::OneByte))),
        ("halves between levels", calm(), Some(Jitter::cutting(seed, Cut::Half))),
        ("random parts between levels", calm(), Some(Jitter::cutting(seed, Cut::Random))),
        ("ops that finish late", calm(), Some(Jitter::late(seed))),
    ];
    for (what, network, jitter) in ways {
        let other = results(network, jitter).map_err(|s| s.at(what))?;
        ensure!(other == whole, "the reads differ with {what}");
    }
    Ok(())
}

/// What reads get that wait for fixed amounts, or for messages; and whole messages and ends.
fn same_reads(w: &World) -> Checked<Vec<Vec<u8>>> {
    let pair = w.pair()?;
    let mut dice = Dice::new(w.seed);
    let data = units(w.seed, 8, w.caps().max_message.unwrap_or(usize::MAX).min(700));
    write_all(&pair.near, &data, &mut dice);
    if w.caps().half_close {
        pair.near.shutdown().then(|_| ());
    }
    let mut out = Vec::new();
    if w.caps().unit == Unit::Stream {
        let mut left: usize = data.iter().map(Vec::len).sum();
        while left > 0 {
            let n = dice.between(1, 200).min(left);
            let done = pair.far.read(room(n)).wait_for(n).deadline(LONG).wait()?;
            out.push(done.buf.to_vec());
            left -= n;
        }
    } else {
        for unit in &data {
            out.push(read_unit(&pair.far, unit.len() + 10, &mut dice)?);
        }
    }
    if w.caps().half_close {
        let end = pair.far.read(room(10)).deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind());
        ensure_eq!(end, Err(ErrorKind::Eof), "the end");
    }
    // The other way, where the amounts are left to the level below.
    if w.caps().unit == Unit::Stream {
        let all = data.concat();
        pair.far.write(all.clone()).then(|_| ());
        out.push(read_bytes(&pair.near, all.len(), 100, &mut dice)?);
    }
    Ok(out)
}
