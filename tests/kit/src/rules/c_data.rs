//! Group C: the data path, one op at a time. Units with borders are in `c_units`, many ops together in
//! `c_pace`.

use std::time::Duration;

use xio_core::reactor::SimConfig;
use xio_core::{ErrorKind, Handle};

use super::data::{Wrote, drain, read_bytes, room, same, transfer, units, wrote};
use crate::bench::{Bench, LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::verdict::{Checked, Stop};

/// What is read is what was written.
///
/// # Errors
/// See the rule's text.
pub fn c1(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let most = w.caps().max_message.unwrap_or(usize::MAX).min(12_000);
        for (from, to) in pair.both_ways() {
            transfer(w, from, to, &units(dice.roll(), 12, most), &mut dice)?;
        }
        Ok(())
    })
}

/// A read gets as much as it waits for.
///
/// # Errors
/// See the rule's text.
pub fn c2(bench: &mut Bench) -> Checked {
    bench.needs_stream()?;
    bench.each(|w| {
        let mut dice = Dice::new(w.seed);
        if !w.caps().accepts {
            let near = w.alone()?;
            return (0..20).try_for_each(|_| waits_for(&near, 200, &mut dice).map(drop));
        }
        let pair = w.pair()?;
        let total = 4000;
        let mut at = 0;
        while at < total {
            let n = dice.between(1, 400).min(total - at);
            pair.far.write(pattern(w.seed, at, n)).then(|_| ());
            at += n;
        }
        let mut got = Vec::new();
        while got.len() < total {
            got.extend(waits_for(&pair.near, total - got.len(), &mut dice)?);
        }
        if w.caps().ordered {
            same(&got, &pattern(w.seed, 0, total))?;
        }
        // Too little comes in time, and says so; it is not lost.
        pair.far.write(pattern(w.seed, 0, 5)).deadline(LONG).wait()?;
        let late = pair.near.read(room(50)).wait_for(20).deadline(Duration::from_secs(1)).wait();
        let Err(late) = late else { return Err(Stop::fail("a read of 5 bytes that waits for 20 succeeded")) };
        ensure_eq!(late.kind(), ErrorKind::TimedOut, "a read that waits for more than comes");
        ensure_eq!(late.back.n, late.back.buf.len(), "bytes that it reports, and has");
        pair.far.write(pattern(w.seed, 5, 5)).deadline(LONG).wait()?;
        let rest = read_bytes(&pair.near, 10 - late.back.n, 50, &mut dice)?;
        if w.caps().ordered {
            same(&[&late.back.buf[..], &rest].concat(), &pattern(w.seed, 0, 10))?;
        }
        if w.caps().half_close {
            pair.far.write(pattern(w.seed, 0, 5)).deadline(LONG).wait()?;
            pair.end_far()?;
            let end = pair.near.read(room(50)).wait_for(20).deadline(LONG).wait();
            let Err(end) = end else {
                return Err(Stop::fail("a read of the last 5 bytes that waits for 20 succeeded"));
            };
            ensure_eq!(end.back.n, 5, "bytes of a read that waits for more than there is");
            let says = matches!(end.kind(), ErrorKind::Eof | ErrorKind::UnexpectedEof);
            ensure!(says, "a read that waits for more than there is ended with {:?}", end.kind());
        }
        Ok(())
    })
}

/// A read of random room that waits for a random part of it, but for no more than `most`.
fn waits_for(h: &Handle, most: usize, dice: &mut Dice) -> Checked<Vec<u8>> {
    let size = dice.between(1, 300);
    let wait_for = dice.between(1, size.min(most) + 1);
    let done = h.read(room(size)).wait_for(wait_for).deadline(LONG).wait()?;
    let n = done.buf.len();
    ensure_eq!(done.n, n, "bytes that a read reports, and has");
    ensure!((wait_for..=size).contains(&n), "a read of {wait_for} to {size} bytes has {n}");
    Ok(done.buf.to_vec())
}

/// A read that can never be satisfied is refused.
///
/// # Errors
/// See the rule's text.
pub fn c3(bench: &mut Bench) -> Checked {
    bench.needs_stream()?;
    bench.each(|w| {
        let near = w.alone()?;
        let asked = w.now();
        let refused = near.read(room(4)).wait_for(5).deadline(LONG).wait();
        let refused = refused.map(|d| d.n).map_err(|f| (f.kind(), f.back.buf.capacity()));
        ensure_eq!(refused, Err((ErrorKind::InvalidInput, 4)), "a read into a buffer");
        let refused = near.take(4).wait_for(5).deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind());
        ensure_eq!(refused, Err(ErrorKind::InvalidInput), "a take");
        let mut lent = [0; 4];
        let refused = near.read_into(&mut lent).wait_for(5).deadline(LONG).wait().map_err(|e| e.kind());
        ensure_eq!(refused, Err(ErrorKind::InvalidInput), "a read into borrowed memory");
        let told = Tell::new();
        let tell = told.clone();
        near.read(room(4)).wait_for(5).then(move |r| tell.note(r.map(|d| d.n).map_err(|f| f.kind())));
        ensure_eq!(told.take(), [Err(ErrorKind::InvalidInput)], "a read with a callback");
        ensure!(w.stands_at(asked), "that took time");
        Ok(())
    })
}

/// A write says how much went. The peer reads slowly; of several writes the last is stopped.
///
/// # Errors
/// See the rule's text.
pub fn c6(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_stream()?;
    bench.needs_order()?;
    bench.needs_virtual_time()?;
    bench.each_on(
        |s| s.network(SimConfig::calm().with_buffer(3000)),
        |w| {
            let pair = w.pair()?;
            let mut dice = Dice::new(w.seed);
            w.sim()?.slow(std::net::Ipv4Addr::LOCALHOST.into(), 4_000_000);
            let drained = drain(&pair.far);
            // Much that comes to little where it is coded: the count is of the owner's bytes all the same.
            let zeros = vec![0; 5000];
            let n = wrote(pair.near.write(zeros.clone()).deadline(LONG).wait());
            ensure_eq!(n, Ok(zeros.len()), "a write of {} zeros", zeros.len());
            let mut at = 0;
            let mut over = false;
            for round in 0..10 {
                let lens: Vec<usize> = (0..dice.between(1, 6)).map(|_| dice.between(1, 9000)).collect();
                let times_out = dice.chance(50);
                let until = Duration::from_micros(dice.roll() % 8000);
                let ends = stopped_last(w, &pair.near, at, &lens, until, times_out);
                // What was stopped cannot be counted in the owner's bytes: nothing may follow it.
                over = matches!(ends.first(), Some((_, Err((ErrorKind::BrokenPipe, 0))))) && round > 0;
                if over {
                    break;
                }
                for (i, r) in ends {
                    let n = *r.as_ref().unwrap_or_else(|(_, n)| n);
                    ensure!(n <= lens[i], "a write of {} bytes reports {n}", lens[i]);
                    ensure!(r.is_err() || n == lens[i], "a write of {} bytes succeeded with {n}", lens[i]);
                    ensure!(r.is_ok() || i + 1 == lens.len(), "write {i} of round {round} ended with {r:?}");
                    at += n;
                }
            }
            match wrote(pair.near.write(pattern(w.seed, at, 1)).deadline(LONG).wait()) {
                Ok(n) => at += n,
                Err((kind, _)) => over |= kind == ErrorKind::BrokenPipe,
            }
            pair.near.shutdown().then(|_| ());
            w.run();
            let mut got: Vec<u8> = drained.take().into_iter().flatten().flatten().collect();
            let rest = got.split_off(zeros.len().min(got.len()));
            same(&got, &zeros).map_err(|s| s.at("the zeros"))?;
            let got = rest;
            ensure!(got.len() == at || (over && got.len() > at), "{} bytes came of {at} that went", got.len());
            same(&got, &pattern(w.seed, 0, got.len()))
        },
    )
}

/// Submits writes of these lengths, from place `at` of a pattern on, and stops the last after a while.
fn stopped_last(
    w: &World,
    h: &Handle,
    mut at: usize,
    lens: &[usize],
    until: Duration,
    times_out: bool,
) -> Vec<(usize, Wrote)> {
    let told = Tell::new();
    let mut last = None;
    for (i, len) in lens.iter().enumerate() {
        let tell = told.clone();
        let call = h.write(pattern(w.seed, at, *len));
        let call = if times_out && i + 1 == lens.len() { call.deadline(until) } else { call };
        last = Some(call.then(move |r| tell.note((i, wrote(r)))));
        at += len;
    }
    w.run_for(until);
    if let Some(last) = last.filter(|_| !times_out) {
        last.cancel();
    }
    w.run();
    let mut ends = told.take();
    ends.sort_by_key(|(i, _)| *i);
    ends
}

/// Nothing can be read and written.
///
/// # Errors
/// See the rule's text.
pub fn c8(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.each(|w| {
        let pair = w.pair()?;
        if w.caps().unit.has_borders() {
            bench.needs_order()?;
            for text in ["", "one", "", ""] {
                pair.far.write(text).deadline(LONG).wait()?;
            }
            for text in ["", "one", "", ""] {
                let got = pair.near.read(room(10)).deadline(LONG).wait()?;
                ensure_eq!(got.buf, text, "a message");
            }
            return Ok(());
        }
        for data in [false, true] {
            let asked = w.now();
            let none = Duration::from_millis(1);
            let n = pair.near.read(room(0)).deadline(none).wait().map(|d| d.n).map_err(|f| f.kind());
            ensure_eq!(n, Ok(0), "a read without room (data: {data})");
            let n = pair.near.take(0).deadline(none).wait().map(|d| d.n).map_err(|f| f.kind());
            ensure_eq!(n, Ok(0), "a take of nothing (data: {data})");
            let n = pair.near.read_into(&mut []).deadline(none).wait().map_err(|e| e.kind());
            ensure_eq!(n, Ok(0), "a read into no memory (data: {data})");
            if !data {
                let n = pair.near.read(room(9)).wait_for(0).deadline(none).wait().map(|d| d.n).map_err(|f| f.kind());
                ensure_eq!(n, Ok(0), "a read that waits for nothing");
                ensure!(w.stands_at(asked), "reads of nothing took time");
            }
            let n = pair.near.write("").deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind());
            ensure_eq!(n, Ok(0), "a write of nothing (data: {data})");
            if data {
                let got = pair.near.read(room(9)).wait_for(4).deadline(LONG).wait()?;
                ensure_eq!(got.buf, "data", "what came after all that");
            } else {
                pair.far.write("data").deadline(LONG).wait()?;
                w.run();
            }
        }
        // None of these was an end.
        pair.near.write("more").deadline(LONG).wait()?;
        let got = pair.far.read(room(9)).wait_for(4).deadline(LONG).wait()?;
        ensure_eq!(got.buf, "more", "what the peer got");
        Ok(())
    })
}
