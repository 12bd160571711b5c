//! Group A: the life of an op.

use std::time::Duration;

use xio_core::io::Direction;

use super::data::{drain, room};
use crate::bench::{Bench, LONG, Tell};
use crate::dice::{Dice, pattern};
use crate::verdict::Checked;

/// Every op finishes exactly once.
///
/// # Errors
/// See the rule's text.
pub fn a1(bench: &mut Bench) -> Checked {
    bench.each(|w| {
        let mut dice = Dice::new(w.seed);
        let (near, far) = match w.caps().accepts {
            true => {
                let p = w.pair()?;
                w.keep((p.rest, p.server));
                (p.near, Some(p.far))
            }
            false => (w.alone()?, None),
        };
        let ended = Tell::new();
        let (mut count, mut must) = (0, Vec::new());
        let mut next = || {
            count += 1;
            (count - 1, ended.clone())
        };
        let drained = far.as_ref().map(drain);
        for _ in 0..12 {
            let (i, tell) = next();
            let read = near.read(room(dice.between(1, 300)));
            let read = if dice.chance(30) { read.deadline(Duration::from_millis(3)) } else { read };
            let ticket = read.then(move |_| tell.note(i));
            let (i, tell) = next();
            let write = near.write(pattern(w.seed, 0, dice.between(0, 3000))).then(move |_| tell.note(i));
            let (cancels, both) = (dice.chance(30), dice.chance(50));
            if cancels {
                ticket.cancel();
                if both {
                    write.cancel();
                }
            }
            must.push(i);
        }
        let (i, tell) = next();
        near.flush().then(move |_| tell.note(i));
        must.push(i);
        for direction in [Direction::Read, Direction::Write] {
            let (i, tell) = next();
            near.ready(direction).then(move |_| tell.note(i));
        }
        if let Some(far) = &far {
            far.write(pattern(w.seed, 0, 500)).deadline(LONG).wait()?;
        }
        w.run();
        let all = ended.all();
        for i in must {
            ensure!(all.contains(&i), "op {i} never ended, though its peer reads everything");
        }
        if w.caps().half_close {
            let (i, tell) = next();
            near.shutdown().then(move |_| tell.note(i));
        }
        let (i, tell) = next();
        near.close().then(move |_| tell.note(i));
        w.run();
        drop((far, drained));
        let mut all = ended.take();
        all.sort_unstable();
        ensure_eq!(all, (0..count).collect::<Vec<_>>(), "the ops that ended");
        Ok(())
    })
}
