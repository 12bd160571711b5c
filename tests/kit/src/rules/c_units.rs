//! Group C: messages and datagrams.

use std::time::Duration;

use xio_core::caps::Unit;
use xio_core::reactor::SimConfig;
use xio_core::{ErrorKind, Handle};

use super::data::{Wrote, read_unit, room, same, wrote};
use crate::bench::{Bench, LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::verdict::{Checked, Stop};

/// A read too small for the unit that waits: its first part, and its real length.
fn too_small(h: &Handle, most: usize, unit: &[u8], take: bool) -> Checked {
    let read = if take { h.take(most) } else { h.read(room(most)) };
    let Err(f) = read.deadline(LONG).wait() else {
        return Err(Stop::fail(format!("a read of {most} bytes of a unit of {} succeeded", unit.len())));
    };
    ensure_eq!(f.kind(), ErrorKind::Truncated { len: unit.len() }, "a read of {most} bytes");
    let got = f.back.into_bytes();
    same(&got, &unit[..most]).map_err(|s| s.at("the part that fitted"))
}

/// Datagrams keep their borders.
///
/// # Errors
/// See the rule's text.
pub fn c9(bench: &mut Bench) -> Checked {
    bench.needs_unit(Unit::Datagram)?;
    bench.needs_peer()?;
    let (mut whole, mut cut) = (0, 0);
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let mut left: Vec<Vec<u8>> = Vec::new();
        for i in 0..10 {
            let lens = [dice.between(1, 100), dice.between(200, 1200), dice.between(0, 50)];
            for len in lens {
                let unit = pattern(w.seed, i * 5000 + len, len);
                pair.far.write(unit.clone()).deadline(LONG).wait()?;
                left.push(unit);
            }
            w.run();
            for most in [2000, dice.between(1, 199), 2000] {
                let take = dice.chance(50);
                let read = if take { pair.near.take(most) } else { pair.near.read(room(most)) };
                let (got, len) = match read.deadline(LONG).wait() {
                    Ok(done) => (done.into_bytes(), None),
                    Err(f) => match f.kind() {
                        ErrorKind::Truncated { len } => (f.back.into_bytes(), Some(len)),
                        // It was lost, or comes when another one does.
                        ErrorKind::TimedOut if !w.caps().reliable || !w.caps().ordered => continue,
                        kind => return Err(Stop::fail(format!("a read of {most} bytes failed: {kind:?}"))),
                    },
                };
                ensure!(len.is_none() || got.len() == most, "a read of {most} bytes is cut off after {}", got.len());
                *(if len.is_some() { &mut cut } else { &mut whole }) += 1;
                // Which one nobody can know where they overtake each other.
                let first = if w.caps().ordered { left.len().min(1) } else { left.len() };
                let len = len.unwrap_or(got.len());
                let Some(at) = left[..first].iter().position(|u| u.len() == len && u.starts_with(&got)) else {
                    let text =
                        format!("{} bytes of a datagram of {len} that nobody sent, or that came before", got.len());
                    return Err(Stop::fail(text));
                };
                left.remove(at);
            }
        }
        ensure!(!w.caps().reliable || left.is_empty(), "{} datagrams never came", left.len());
        Ok(())
    })?;
    ensure!(whole > 0 && cut > 0, "{whole} datagrams came whole and {cut} were cut off");
    Ok(())
}

/// One write, one message.
///
/// # Errors
/// See the rule's text.
pub fn c15(bench: &mut Bench) -> Checked {
    bench.needs_unit(Unit::Message)?;
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let most = w.caps().max_message.unwrap_or(usize::MAX).min(20_000);
        for i in 0..6 {
            let take = dice.chance(50);
            // All of them wait before the first is read.
            let lens = [1, 0, dice.between(10, most), 3, dice.between(10, most.min(300))];
            let units: Vec<_> = lens.iter().map(|len| pattern(w.seed, i * 50_000 + len, *len)).collect();
            for unit in &units {
                pair.far.write(unit.clone()).then(|_| ());
            }
            w.run();
            for unit in &units[..2] {
                same(&read_unit(&pair.near, most + 100, &mut dice)?, unit)?;
            }
            // One in three parts.
            let long = &units[2];
            let (a, b) = (dice.between(1, long.len() / 3 + 1), dice.between(1, long.len() / 3 + 1));
            too_small(&pair.near, a, long, take)?;
            too_small(&pair.near, b, &long[a..], !take)?;
            same(&read_unit(&pair.near, most, &mut dice)?, &long[a + b..]).map_err(|s| s.at("the last part"))?;
            for unit in &units[3..] {
                same(&read_unit(&pair.near, most + 100, &mut dice)?, unit)?;
            }
        }
        Ok(())
    })
}

/// A half-written message is never passed over.
///
/// # Errors
/// See the rule's text.
pub fn c16(bench: &mut Bench) -> Checked {
    bench.needs_unit(Unit::Message)?;
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.needs_virtual_time()?;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    for i in 0..24u32 {
        // From before the first byte to after the last.
        let at = Duration::from_micros(400) * i;
        for times_out in [false, true] {
            let stage = bench.stage(seed).network(SimConfig::calm().with_buffer(1500));
            let run = stage.build()?.run_rule(&mut |w| stopped_at(w, at, times_out));
            run.map_err(|s| s.at(format_args!("stopped after {at:?}")))?;
        }
    }
    Ok(())
}

/// Which of the messages is stopped, and which is written after that.
const STOPPED: usize = 3;
const AFTER: usize = 4;

fn stopped_at(w: &World, at: Duration, times_out: bool) -> Checked {
    let pair = w.pair()?;
    let most = w.caps().max_message.unwrap_or(usize::MAX);
    let lens = [100, 3000, 40, 9000, 50].map(|len: usize| len.min(most));
    let messages: Vec<_> = lens.iter().enumerate().map(|(i, len)| pattern(w.seed, i * 20_000, *len)).collect();
    let ends: Tell<(usize, Wrote)> = Tell::new();
    let write = |i: usize, deadline: Duration| {
        let tell = ends.clone();
        pair.near.write(messages[i].clone()).deadline(deadline).then(move |r| tell.note((i, wrote(r))))
    };
    let got: Tell<Result<Vec<u8>, ErrorKind>> = super::data::drain(&pair.far);
    (0..STOPPED).for_each(|i| drop(write(i, LONG)));
    let long = write(STOPPED, if times_out { at } else { LONG });
    w.run_for(at);
    if !times_out {
        long.cancel();
    }
    w.run_for(Duration::from_millis(1));
    write(AFTER, LONG);
    w.run();
    pair.near.close().then(|_| ());
    w.run();
    let mut ends = ends.take();
    ends.sort_by_key(|(i, _)| *i);
    ensure_eq!(ends.len(), messages.len(), "writes that ended");
    let mut read = got.take();
    let end = read.pop();
    ensure!(matches!(end, Some(Err(_))), "the peer never saw an end");
    let mut next = 0;
    for r in read {
        let Ok(bytes) = r else { return Err(Stop::fail("the peer read on after an error")) };
        let which = messages.iter().position(|m| *m == bytes).filter(|i| *i >= next);
        let Some(i) = which else {
            return Err(Stop::fail(format!("the peer read {} bytes that are no message of ours", bytes.len())));
        };
        ensure!(ends[i].1 != Err((ErrorKind::Cancelled, 0)), "message {i} was cancelled, sent nothing, and arrived");
        ensure!(ends[i].1 != Err((ErrorKind::TimedOut, 0)), "message {i} timed out, sent nothing, and arrived");
        ends[i].1 = Err((ErrorKind::Stopped, 0));
        next = i + 1;
    }
    let lost = ends.iter().find(|(_, r)| r.is_ok());
    ensure!(lost.is_none(), "message {:?} was written and never read", lost.map(|(i, _)| i));
    Ok(())
}
