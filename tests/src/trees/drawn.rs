//! The same programs, drawn from a row of numbers instead of a random test's dice: so a fuzzer's bytes are
//! choices one by one. Invariant: what can be drawn here can come up there.

use std::time::Duration;

use xio_core::io::Direction;

use super::script::{Kind, Program, Read, made};
use super::tree::{BOTTOMS, Choice, Draft, LEVELS, Tree};

/// Most steps of a script.
const STEPS: usize = 60;

/// Gives a number below the one it is given.
pub type Below<'a> = &'a mut dyn FnMut(usize) -> usize;

/// A program. Where all numbers are 0 it is the shortest one.
pub fn drawn(below: Below<'_>) -> Program {
    let borders = below(2) == 1;
    let tree = Tree::new(&pick(below, 3), borders);
    let (one_server, closes) = (below(2) == 1, below(5) == 4);
    let rest = Read { room: [4000, 21, 300][below(3)], ..read(below) };
    let rest = Read { wait_for: rest.wait_for.min(rest.room), ..rest };
    let n = tree.leaves.len();
    let mut steps: Vec<_> = (0..below(STEPS)).map(|_| made(kind(below), below(n))).collect();
    if closes {
        steps.push(made(Kind::Close(below(2) == 1), 0));
    }
    Program { tree, one_server, steps, rest }
}

fn levels(below: Below<'_>, most: usize) -> Vec<&'static str> {
    (0..below(most)).map(|_| LEVELS[below(LEVELS.len())]).collect()
}

fn pick(below: Below<'_>, depth: usize) -> Draft {
    let levels = levels(below, 3);
    let ahead = ["64KiB", "7B", "100B", "2KiB"][below(4)];
    let default = (below(2) == 1).then(|| below(4));
    let choice = Choice { ahead, default, any: below(2) == 1 };
    let branches = (0..=below(3)).map(|_| draft(below, depth)).collect();
    Draft::Pick(levels, choice, branches)
}

fn draft(below: Below<'_>, depth: usize) -> Draft {
    if depth > 0 && below(4) == 3 {
        pick(below, depth - 1)
    } else {
        Draft::Leaf(levels(below, 4), BOTTOMS[below(BOTTOMS.len())])
    }
}

fn kind(below: Below<'_>) -> Kind {
    match below(32) {
        0..=11 => Kind::Write(below(2) == 1, below(4), len(below), 1 + below(3), limit(below)),
        12..=19 => Kind::Read(below(4) != 3, read(below), limit(below)),
        20 | 21 => Kind::Flush(below(2) == 1),
        22 => Kind::Ready(below(2) == 1, [Direction::Read, Direction::Write][below(2)]),
        23 => Kind::Shutdown(below(4) == 3),
        24..=26 => Kind::Cancel(below(4)),
        27..=30 => Kind::Turn(1 + below(3) as u32),
        _ => Kind::Leave(below(2) == 1),
    }
}

fn read(below: Below<'_>) -> Read {
    let room = if below(2) == 0 { 1 + below(50) } else { 100 + below(4900) };
    let wait_for = [1, room.div_ceil(2), room.min(7)][below(3)];
    Read { room, wait_for, take: below(2) == 1 }
}

fn len(below: Below<'_>) -> usize {
    match below(8) {
        0..=3 => below(20),
        4..=6 => below(300),
        _ => 1000 + below(9000),
    }
}

/// None mostly.
fn limit(below: Below<'_>) -> Option<Duration> {
    (below(5) == 4).then(|| Duration::from_micros(below(4000) as u64))
}
