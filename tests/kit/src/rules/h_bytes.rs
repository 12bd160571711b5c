//! Group H: what comes from below, hostile or coded by a peer. The bottom is a script here. Invariant:
//! the bytes are the same for equal seeds.

use std::time::Duration;

use xio_core::caps::{Caps, Unit};
use xio_core::{ErrorKind, Handle};

use super::data::{read_bytes, read_unit, same};
use crate::bench::{Bench, LONG, World, unless};
use crate::budget;
use crate::dice::{Dice, pattern};
use crate::script::{Played, Script};
use crate::subject::bind;
use crate::verdict::{Checked, Stop};

/// Writes that a script takes.
const WRITES: usize = 2000;

/// What the subject stands over in the other rules, as a script can be it.
fn bottom(bench: &Bench) -> Checked<Caps> {
    if bench.subject().over(Script::new(Caps::stream()).build().0).is_none() {
        return Err(Stop::not_applicable("a transport of its own, or branches"));
    }
    let stack = bind(bench.subject().root())?;
    let below = stack.levels().find(|l| l.above() == Some(0)).map(|l| l.caps().unit);
    match below {
        Some(Unit::Stream) => Ok(Caps::stream()),
        Some(Unit::Message) => Ok(Caps::message()),
        _ => Err(Stop::not_applicable("below=datagram")),
    }
}

/// Runs `f` with the subject open over a script.
fn over(bench: &Bench, seed: u64, script: Script, f: impl FnOnce(&World, &Handle, &Played) -> Checked) -> Checked {
    let (node, played) = script.build();
    let root = bench.subject().over(node).ok_or_else(|| Stop::not_applicable("a transport of its own"))?;
    let world = bench.stage(seed).root(root).build()?;
    let mut f = Some(f);
    world.run_rule(&mut |w| {
        let h = w.open(bench.subject().contact().clone()).deadline(LONG).wait()?;
        f.take().map_or(Ok(()), |f| f(w, &h, &played))
    })
}

/// A script that takes whatever is written.
fn takes_writes(below: &Caps) -> Script {
    (0..WRITES).fold(Script::new(below.clone()), |s, _| s.writes_all())
}

/// What a peer would send for these units: one item a message below, or one for all of a stream.
fn encode(bench: &Bench, seed: u64, below: &Caps, units: &[Vec<u8>]) -> Checked<Vec<Vec<u8>>> {
    let one = |units: &[Vec<u8>]| {
        let script = takes_writes(below);
        let mut wire = Vec::new();
        over(bench, seed, script, |_, h, played| {
            for unit in units {
                h.write(unit.clone()).deadline(LONG).wait()?;
            }
            h.flush().deadline(LONG).wait()?;
            wire = played.written();
            Ok(())
        })?;
        Ok(wire)
    };
    if below.unit == Unit::Stream {
        return Ok(vec![one(units)?]);
    }
    units.iter().map(|u| one(std::slice::from_ref(u))).collect()
}

/// A script that sends these items; those of a stream in parts.
fn sends(below: &Caps, wire: &[Vec<u8>], dice: &mut Dice) -> Script {
    let mut script = takes_writes(below);
    for item in wire {
        if below.unit != Unit::Stream {
            script = script.read(item.clone());
            continue;
        }
        let mut rest = &item[..];
        while !rest.is_empty() {
            let (part, more) = rest.split_at(dice.between(1, 200).min(rest.len()));
            script = script.read(part.to_vec());
            rest = more;
        }
    }
    script
}

/// What these items decode to: units, or one of all bytes.
fn decode(bench: &Bench, seed: u64, below: &Caps, wire: &[Vec<u8>], want: &[Vec<u8>]) -> Checked<Vec<Vec<u8>>> {
    let mut dice = Dice::new(seed);
    let script = sends(below, wire, &mut dice);
    let mut got = Vec::new();
    over(bench, seed, script, |w, h, _| {
        if !w.caps().unit.has_borders() {
            got = vec![read_bytes(h, want.iter().map(Vec::len).sum(), 500, &mut dice)?];
            return Ok(());
        }
        for unit in want {
            got.push(read_unit(h, unit.len() + 10, &mut dice)?);
        }
        Ok(())
    })?;
    Ok(got)
}

fn samples(seed: u64) -> Vec<Vec<u8>> {
    [1, 40, 300, 7, 128, 255, 256].iter().map(|n| pattern(seed, n * 1000, *n)).collect()
}

/// Hostile bytes do no harm.
///
/// # Errors
/// See the rule's text.
pub fn h6(bench: &mut Bench) -> Checked {
    let below = bottom(bench)?;
    for seed in bench.seeds() {
        let mut dice = Dice::new(seed);
        let wire = encode(bench, seed, &below, &samples(seed))?;
        for i in 0..24 {
            let hostile = hostile(i, &wire, &mut dice);
            let mut script = sends(&below, &hostile, &mut dice);
            for _ in 0..8 {
                script = script.fails(xio_core::driver::OpKind::Read, ErrorKind::Eof);
            }
            over(bench, seed, script, |_, h, _| survives(bench, h))
                .map_err(|s| s.at(format_args!("seed {seed}, input {i}")))?;
        }
    }
    Ok(())
}

/// Bytes of no good peer: noise, all alike, or good ones with some changed.
fn hostile(i: usize, wire: &[Vec<u8>], dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut noise = |n: usize| -> Vec<u8> { (0..n).map(|_| dice.roll().to_le_bytes()[0]).collect() };
    match i {
        0 => vec![vec![0; 300]],
        // What follows is good, and comes too late.
        1 => [vec![vec![0xFF; 300]], wire.to_vec()].concat(),
        2 => vec![vec![0x7F; 300], vec![0x80; 300]],
        3..10 => vec![noise(1 + 37 * i), noise(500)],
        _ => {
            let mut changed = wire.to_vec();
            for item in changed.iter_mut().filter(|b| !b.is_empty()) {
                for _ in 0..=i % 4 {
                    let at = dice.between(0, item.len());
                    item[at] ^= 1 << dice.between(0, 8);
                }
                if i.is_multiple_of(5) {
                    item.truncate(dice.between(0, item.len()));
                }
            }
            changed
        }
    }
}

/// Reads until there is nothing left; whatever comes must be data or an error.
fn survives(bench: &Bench, h: &Handle) -> Checked {
    let start = budget::mark();
    let mut broken = None;
    for _ in 0..300 {
        let r = h.take(4000).deadline(Duration::from_secs(1)).wait();
        match (r, broken) {
            (Ok(d), Some(kind)) => {
                let text =
                    format!("after a read had failed as {kind:?} the next brought {} bytes", d.into_bytes().len());
                return Err(Stop::fail(text));
            }
            (Ok(_), None) => {}
            (Err(f), _) => match f.kind() {
                kind @ (ErrorKind::Panicked | ErrorKind::Dropped | ErrorKind::NoProgress | ErrorKind::Contract) => {
                    return Err(Stop::fail(format!("hostile bytes ended a read as {kind:?}: {}", f.error)));
                }
                kind @ (ErrorKind::Protocol | ErrorKind::UnexpectedEof) => broken = Some(kind),
                // A message that is too long for this read, and is well formed.
                ErrorKind::Truncated { .. } if broken.is_none() => {}
                _ => break,
            },
        }
    }
    let most = i64::try_from(2 * bench.subject().holds_bytes()).unwrap_or(i64::MAX);
    let peak = budget::thread().since(start).peak;
    ensure!(peak <= most, "hostile bytes made the levels take {peak} bytes of memory");
    Ok(())
}

/// Coding is the identity.
///
/// # Errors
/// See the rule's text.
pub fn h7(bench: &mut Bench) -> Checked {
    let below = bottom(bench)?;
    over(bench, 1, takes_writes(&below), |w, _, played| {
        w.run();
        // What it reads begins with the greeting of another end than its own.
        if played.written().is_empty() { Ok(()) } else { unless("greets=true") }
    })?;
    for seed in bench.seeds() {
        let plain = samples(seed);
        let wire = encode(bench, seed, &below, &plain)?;
        let once = decode(bench, seed, &below, &wire, &plain)?;
        same(&once.concat(), &plain.concat()).map_err(|s| s.at("decoded"))?;
        ensure!(once.len() == 1 || once == plain, "the borders of messages have moved");
        let again = encode(bench, seed, &below, &once)?;
        let twice = decode(bench, seed, &below, &again, &once)?;
        same(&twice.concat(), &plain.concat()).map_err(|s| s.at("decoded, encoded and decoded again"))?;
        ensure_eq!(twice.len(), once.len(), "messages of the second time");
    }
    Ok(())
}
