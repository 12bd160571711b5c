//! Group C: what is in buffers before, beside and after the bytes that move.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::Handle;
use xio_core::buffer::WriteBuf;
use xio_core::reactor::SimConfig;

use super::data::{Wrote, read_bytes, read_unit, room, same, wrote};
use crate::bench::{Bench, LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::verdict::Checked;

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
        arrives(w, &pair.near, &pair.far, Vec::<Bytes>::new(), &Bytes::new(), &mut dice)
            .map_err(|s| s.at("no piece"))?;
        for (i, len) in [1, 77, 2000, 200, 40_000].into_iter().enumerate().filter(|(_, len)| *len <= most) {
            // Room that is not all needed, one that nobody sends, and a write that goes first.
            let all = Bytes::from(pattern(w.seed, i * 1000, len));
            let mut loan = pair.near.loan(len + 10 * (i % 2))?;
            let other = pair.near.loan(10)?;
            let half = loan.put(&all[..len / 2]);
            if i > 1 {
                arrives(w, &pair.near, &pair.far, "first", &Bytes::from_static(b"first"), &mut dice)?;
            }
            ensure_eq!((half, loan.put(&all[half..])), (len / 2, len - len / 2), "what a loan took");
            drop(other);
            arrives(w, &pair.near, &pair.far, loan, &all, &mut dice)
                .map_err(|s| s.at(format_args!("a loan of {len} bytes")))?;
        }
        Ok(())
    })
}

fn arrives(w: &World, from: &Handle, to: &Handle, what: impl Into<WriteBuf>, all: &Bytes, dice: &mut Dice) -> Checked {
    let told: Tell<Wrote> = Tell::new();
    let tell = told.clone();
    from.write(what).then(move |r| tell.note(wrote(r)));
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
    bench.needs_order()?;
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
