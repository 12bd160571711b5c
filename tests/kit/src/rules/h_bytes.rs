//! Group H: what comes from below, hostile or coded by a peer. The bottom is a script here, or one for each
//! branch. Invariant: the bytes are the same for equal seeds.

use std::time::Duration;

use xio_core::caps::{Caps, Unit};
use xio_core::driver::OpKind;
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
    if bench.subject().bottoms() == 0 {
        return Err(Stop::not_applicable("a transport of its own"));
    }
    let stack = bind(bench.subject().root())?;
    let below = stack.levels().find(|l| l.above() == Some(0)).map(|l| l.caps().unit);
    match below {
        Some(Unit::Stream) => Ok(Caps::stream()),
        Some(Unit::Message) => Ok(Caps::message()),
        _ => Err(Stop::not_applicable("below=datagram")),
    }
}

/// What goes over the wire of each branch, in order. A message below is an item; of a stream there is one item
/// a branch.
type Wire = Vec<(usize, Vec<u8>)>;

/// Runs `f` with the subject open over these scripts, one a branch.
fn over(
    bench: &Bench,
    seed: u64,
    scripts: Vec<Script>,
    f: impl FnOnce(&World, &Handle, &[Played]) -> Checked,
) -> Checked {
    let (nodes, played): (Vec<_>, Vec<_>) = scripts.into_iter().map(Script::build).unzip();
    let root = bench.subject().over(nodes).ok_or_else(|| Stop::not_applicable("a transport of its own"))?;
    let world = bench.stage(seed).root(root).build()?;
    let mut f = Some(f);
    world.run_rule(&mut |w| {
        let h = w.open(bench.subject().contact().clone()).deadline(LONG).wait()?;
        f.take().map_or(Ok(()), |f| f(w, &h, &played))
    })
}

/// A script for each branch that takes whatever is written.
fn takes_writes(bench: &Bench, below: &Caps) -> Vec<Script> {
    let one = || (0..WRITES).fold(Script::new(below.clone()), |s, _| s.writes_all());
    (0..bench.subject().bottoms()).map(|_| one()).collect()
}

/// What a peer would send for these units.
fn encode(bench: &Bench, seed: u64, below: &Caps, units: &[Vec<u8>]) -> Checked<Wire> {
    let one = |units: &[Vec<u8>]| {
        let scripts = takes_writes(bench, below);
        let mut wire = Wire::new();
        over(bench, seed, scripts, |_, h, played| {
            for unit in units {
                h.write(unit.clone()).deadline(LONG).wait()?;
            }
            h.flush().deadline(LONG).wait()?;
            wire = played.iter().map(Played::written).enumerate().filter(|(_, w)| !w.is_empty()).collect();
            Ok(())
        })?;
        Ok(wire)
    };
    if below.unit == Unit::Stream {
        return one(units);
    }
    Ok(units.iter().map(|u| one(std::slice::from_ref(u))).collect::<Checked<Vec<_>>>()?.concat())
}

/// Scripts that send these items; those of a stream in parts.
fn sends(bench: &Bench, below: &Caps, wire: &Wire, dice: &mut Dice) -> Vec<Script> {
    let mut scripts = takes_writes(bench, below);
    for (branch, item) in wire {
        let mut add = |bytes: Vec<u8>| {
            let script = std::mem::replace(&mut scripts[*branch], Script::new(below.clone()));
            scripts[*branch] = script.read(bytes);
        };
        if below.unit != Unit::Stream {
            add(item.clone());
            continue;
        }
        let mut rest = &item[..];
        while !rest.is_empty() {
            let (part, more) = rest.split_at(dice.between(1, 200).min(rest.len()));
            add(part.to_vec());
            rest = more;
        }
    }
    scripts
}

/// What these items decode to: units, or one of all bytes.
fn decode(bench: &Bench, seed: u64, below: &Caps, wire: &Wire, want: &[Vec<u8>]) -> Checked<Vec<Vec<u8>>> {
    let mut dice = Dice::new(seed);
    let scripts = sends(bench, below, wire, &mut dice);
    let mut got = Vec::new();
    over(bench, seed, scripts, |w, h, _| {
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
        for i in 0..24 * bench.subject().bottoms() {
            let (i, branch) = (i % 24, i / 24);
            let hostile = hostile(i, branch, &wire, &mut dice);
            let mut scripts = sends(bench, &below, &hostile, &mut dice);
            // Of the others nothing comes, and no end: what is read is of this branch.
            let script = std::mem::replace(&mut scripts[branch], Script::new(below.clone()));
            scripts[branch] = (0..8).fold(script, |s, _| s.fails(OpKind::Read, ErrorKind::Eof));
            over(bench, seed, scripts, |_, h, _| survives(bench, h))
                .map_err(|s| s.at(format_args!("seed {seed}, input {i}, branch {branch}")))?;
        }
    }
    Ok(())
}

/// Bytes of no good peer, all on one branch: noise, all alike, or good ones with some changed.
fn hostile(i: usize, branch: usize, wire: &Wire, dice: &mut Dice) -> Wire {
    let mut noise = |n: usize| -> Vec<u8> { (0..n).map(|_| dice.roll().to_le_bytes()[0]).collect() };
    let good = || wire.iter().map(|(_, item)| item.clone()).collect::<Vec<_>>();
    let items = match i {
        0 => vec![vec![0; 300]],
        // What follows is good, and comes too late.
        1 => [vec![vec![0xFF; 300]], good()].concat(),
        2 => vec![vec![0x7F; 300], vec![0x80; 300]],
        3..10 => vec![noise(1 + 37 * i), noise(500)],
        _ => {
            let mut changed = good();
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
    };
    items.into_iter().map(|item| (branch, item)).collect()
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
    over(bench, 1, takes_writes(bench, &below), |w, _, played| {
        w.run();
        // What it reads begins with the greeting of another end than its own.
        if played.iter().all(|p| p.written().is_empty()) { Ok(()) } else { unless("greets=true") }
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
