//! Group C: the data path, one op at a time. Units with borders are in `c_units`, many ops together in
//! `c_pace`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::reactor::SimConfig;
use xio_core::{ErrorKind, Handle};

use super::data::{Wrote, drain, read_bytes, read_unit, room, same, transfer, units, wrote};
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
        ensure_eq!(w.now(), asked, "the time after all that");
        Ok(())
    })
}

/// Any list of pieces can be written.
///
/// # Errors
/// See the rule's text.
pub fn c4(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let most = w.caps().max_message.unwrap_or(usize::MAX);
        let mut dice = Dice::new(w.seed);
        // Pieces of equal size, each followed by empty ones.
        let shapes = [(1, 0, 0), (1, 10, 1), (3, 5, 2), (200, 1, 0), (1023, 2, 0), (1025, 2, 1), (2100, 1, 0)];
        for (i, (count, size, empty)) in shapes.into_iter().enumerate() {
            let all = Bytes::from(pattern(w.seed, i * 1000, count * size));
            if all.len() > most {
                continue;
            }
            let mut pieces = vec![Bytes::new(); empty];
            for n in 0..count {
                pieces.push(all.slice(n * size..(n + 1) * size));
                pieces.extend(vec![Bytes::new(); empty]);
            }
            arrives(w, &pair.near, &pair.far, pieces, &all, &mut dice)
                .map_err(|s| s.at(format_args!("{count} pieces of {size} bytes with {empty} empty ones between")))?;
        }
        arrives(w, &pair.near, &pair.far, Vec::new(), &Bytes::new(), &mut dice).map_err(|s| s.at("no piece"))
    })
}

fn arrives(w: &World, from: &Handle, to: &Handle, pieces: Vec<Bytes>, all: &Bytes, dice: &mut Dice) -> Checked {
    let told: Tell<Wrote> = Tell::new();
    let tell = told.clone();
    from.write(pieces).then(move |r| tell.note(wrote(r)));
    let got = if w.caps().unit.has_borders() {
        read_unit(to, all.len() + 1, dice)?
    } else {
        read_bytes(to, all.len(), 2500, dice)?
    };
    same(&got, all)?;
    w.run_until(|| !told.is_empty());
    ensure_eq!(told.take(), [Ok(all.len())], "the write");
    Ok(())
}

/// A read writes only where it says.
///
/// # Errors
/// See the rule's text.
pub fn c5(bench: &mut Bench) -> Checked {
    const FILL: u8 = 0xA5;
    bench.needs_peer()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        for i in 0..10 {
            let len = dice.between(1, 200);
            pair.far.write(pattern(w.seed, i * 1000, len)).deadline(LONG).wait()?;
            let mut lent = vec![FILL; 300];
            let n = pair.near.read_into(&mut lent).deadline(LONG).wait()?;
            ensure!(lent[n..].iter().all(|b| *b == FILL), "a read of {n} bytes wrote behind them");
            let kept = lent.clone();
            // Into a buffer that holds something already.
            pair.far.write(pattern(w.seed, i * 1000, len)).deadline(LONG).wait()?;
            let mut buf = BytesMut::with_capacity(400);
            buf.extend_from_slice(&[FILL; 50]);
            let done = pair.near.read(buf).deadline(LONG).wait()?;
            ensure!(done.buf[..50].iter().all(|b| *b == FILL), "a read wrote before its place");
            ensure_eq!(done.buf.len(), 50 + done.n, "the length of the buffer");
            // What is left of a stream would be taken for the next unit.
            while !w.caps().unit.has_borders() {
                let rest = pair.near.read(room(500)).deadline(Duration::from_millis(50)).wait();
                if rest.is_err() {
                    break;
                }
            }
            // A read that has ended writes no more.
            let mut gone = vec![FILL; 300];
            let late = pair.near.read_into(&mut gone).deadline(Duration::from_millis(5)).wait();
            ensure!(late.is_err(), "a read of nothing succeeded");
            pair.far.write(pattern(w.seed, i, 30)).deadline(LONG).wait()?;
            w.run();
            ensure!(gone.iter().all(|b| *b == FILL), "a read that had timed out wrote");
            ensure!(lent == kept, "a read that had ended wrote");
            pair.near.read(room(500)).deadline(LONG).wait()?;
        }
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
            let mut at = 0;
            for round in 0..10 {
                let lens: Vec<usize> = (0..dice.between(1, 6)).map(|_| dice.between(1, 9000)).collect();
                let times_out = dice.chance(50);
                let until = Duration::from_micros(dice.roll() % 8000);
                let ends = stopped_last(w, &pair.near, at, &lens, until, times_out);
                for (i, r) in ends {
                    let n = *r.as_ref().unwrap_or_else(|(_, n)| n);
                    ensure!(n <= lens[i], "a write of {} bytes reports {n}", lens[i]);
                    ensure!(r.is_err() || n == lens[i], "a write of {} bytes succeeded with {n}", lens[i]);
                    ensure!(r.is_ok() || i + 1 == lens.len(), "write {i} of round {round} ended with {r:?}");
                    at += n;
                }
            }
            pair.near.shutdown().then(|_| ());
            w.run();
            let got: Vec<u8> = drained.take().into_iter().flatten().flatten().collect();
            same(&got, &pattern(w.seed, 0, at))
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

/// Written buffers come back unchanged.
///
/// # Errors
/// See the rule's text.
pub fn c7(bench: &mut Bench) -> Checked {
    bench.needs_virtual_time()?;
    bench.each_on(
        |s| s.network(SimConfig::calm().with_buffer(500)),
        |w| {
            let near = w.alone()?;
            let mut dice = Dice::new(w.seed);
            let told = Tell::new();
            let mut count = 0;
            for i in 0..12 {
                let data = pattern(w.seed, i * 1000, if i == 0 { 77 } else { dice.between(0, 900) });
                let call = match i % 3 {
                    0 => near.write(BytesMut::from(&data[..])),
                    1 => near.write(super::data::cut(&data, &mut dice)),
                    _ => near.write(Bytes::from(data.clone())),
                };
                let tell = told.clone();
                let ticket = call.deadline(Duration::from_secs(1)).then(move |r| {
                    let back = r.unwrap_or_else(|f| f.back);
                    let pieces: Vec<u8> = back.pieces.iter().flat_map(|p| p.iter().copied()).collect();
                    tell.note(pieces == data);
                });
                count += 1;
                if dice.chance(30) {
                    w.run_for(Duration::from_micros(500));
                    ticket.cancel();
                }
            }
            w.run();
            let same = told.take();
            ensure_eq!(same.len(), count, "writes that ended");
            ensure!(same.iter().all(|s| *s), "the buffers of these came back changed: {same:?}");
            let lent = pattern(w.seed, 0, 77);
            let _ = near.write_from(&lent).deadline(Duration::from_millis(10)).wait();
            ensure!(lent == pattern(w.seed, 0, 77), "borrowed memory was changed");
            Ok(())
        },
    )
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
                ensure_eq!(w.now(), asked, "the time after reads of nothing");
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
