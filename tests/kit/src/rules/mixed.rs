//! A run of everything a handle can do, as many rules want it: reads, writes, flushes, waits, cancels
//! and deadlines, under way together. Invariant: every op that is submitted is listed.

use std::time::Duration;

use xio_core::driver::OpKind;
use xio_core::io::Direction;
use xio_core::{ErrorKind, Handle};

use super::data::{drain, room, wrote};
use crate::bench::{LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::verdict::Checked;

/// How an op ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number, in the order of submission.
    pub number: usize,
    /// Its kind.
    pub kind: OpKind,
    /// Bytes, or why not.
    pub result: Result<usize, ErrorKind>,
}

/// A handle in the middle of things.
pub struct Mixed {
    /// The end that does it all.
    pub near: Handle,
    /// Its peer, which reads whatever comes.
    pub far: Option<Handle>,
    /// How ops have ended so far.
    pub ended: Tell<Ended>,
    /// How many were submitted.
    pub count: usize,
    /// Those that end by themselves, though nobody stops them.
    pub must: Vec<usize>,
}

impl Mixed {
    /// Starts it, and lets it run until nothing more happens.
    ///
    /// # Errors
    /// Where there is no pair.
    pub fn start(w: &World) -> Checked<Self> {
        let (near, far) = if w.caps().accepts {
            let p = w.pair()?;
            w.keep((p.rest, p.server));
            (p.near, Some(p.far))
        } else {
            (w.alone()?, None)
        };
        let mut m = Self { near, far, ended: Tell::new(), count: 0, must: Vec::new() };
        m.submit(w);
        if let Some(far) = &m.far {
            far.write(pattern(w.seed, 0, 500)).deadline(LONG).wait()?;
        }
        w.run();
        Ok(m)
    }

    fn submit(&mut self, w: &World) {
        let mut dice = Dice::new(w.seed);
        if let Some(far) = &self.far {
            w.keep(drain(far));
        }
        for _ in 0..12 {
            let read = self.near.clone();
            let read = read.read(room(dice.between(1, 300)));
            let read = if dice.chance(30) { read.deadline(Duration::from_millis(3)) } else { read };
            let (number, tell) = self.next(false);
            let ticket = read.then(move |r| {
                let result = r.map(|d| d.n).map_err(|f| f.kind());
                tell.note(Ended { number, kind: OpKind::Read, result });
            });
            let (number, tell) = self.next(true);
            let write = self.near.write(pattern(w.seed, 0, dice.between(0, 3000))).then(move |r| {
                let result = wrote(r).map_err(|(kind, _)| kind);
                tell.note(Ended { number, kind: OpKind::Write, result });
            });
            let (cancels, both) = (dice.chance(30), dice.chance(50));
            if cancels {
                ticket.cancel();
                if both {
                    write.cancel();
                }
            }
        }
        let (number, tell) = self.next(true);
        self.near.flush().then(move |r| tell.note(plain(number, OpKind::Flush, r)));
        for direction in [Direction::Read, Direction::Write] {
            let (number, tell) = self.next(false);
            self.near.ready(direction).then(move |r| tell.note(plain(number, OpKind::Ready, r)));
        }
    }

    /// The number of the op that is submitted next, and where it tells its end.
    fn next(&mut self, must: bool) -> (usize, Tell<Ended>) {
        let number = self.count;
        self.count += 1;
        if must {
            self.must.push(number);
        }
        (number, self.ended.clone())
    }

    /// Ends the write side where that can be done, then closes, and lets it run.
    pub fn close(&mut self, w: &World) {
        if w.caps().half_close {
            let (number, tell) = self.next(false);
            self.near.shutdown().then(move |r| tell.note(plain(number, OpKind::Shutdown, r)));
        }
        let (number, tell) = self.next(false);
        self.near.close().then(move |r| tell.note(plain(number, OpKind::Close, r)));
        w.run();
    }
}

fn plain(number: usize, kind: OpKind, r: Result<(), xio_core::Error>) -> Ended {
    Ended { number, kind, result: r.map(|()| 0).map_err(|e| e.kind()) }
}
