//! Group E: engines that go, and processes that split.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use xio_core::caps::Needs;
use xio_core::driver::Intercepts;
use xio_core::op::Close;
use xio_core::reactor::Sim;
use xio_core::{Cx, Engine, ErrorKind, Flow, Level, Op, Stack};

use super::data::{read_bytes, read_unit, room, same, transfer, units};
use super::e_calls::STUCK;
use crate::bench::{Bench, LONG, unless};
use crate::child;
use crate::dice::Dice;
use crate::saboteur;
use crate::subject::bind;
use crate::verdict::{Checked, Stop};

/// Where the last of an engine waits to be dropped.
type Slot = Mutex<Option<Engine>>;

/// Takes it out. It is dropped with the slot free: its drop waits for levels, one of which may stand here.
fn take(slot: &Slot) -> Option<Engine> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Drops an engine when it is closed.
struct Last(Arc<Slot>);

impl Level for Last {
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        drop(take(&self.0));
        op.pass()
    }
}

/// Where the last user of an engine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    /// In a callback that comes at once.
    Inline,
    /// In a callback of a turn, on whichever thread that is.
    Turn,
    /// With the last handle.
    Handle,
    /// Inside a level.
    Level,
}

/// An engine may be dropped anywhere.
///
/// # Errors
/// See the rule's text.
pub fn e11(bench: &mut Bench) -> Checked {
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let slot: Arc<Slot> = Arc::default();
    let root = bench.subject().root();
    let keep = slot.clone();
    let stack = bind(saboteur::level(0, Needs::ANY, Intercepts::CLOSE, move || Last(keep.clone()), root))?;
    for goes in [Goes::Inline, Goes::Turn, Goes::Handle, Goes::Level] {
        // Turned by this thread, in virtual time where it can be, and with a thread of the engine's own.
        for own in [false, true] {
            let engine = match own {
                true => Engine::new()?,
                false if bench.subject().is_real() => Engine::builder().owner_driven().build()?,
                false => Engine::builder().reactor(Sim::new(seed)).build()?,
            };
            let ends = without_engine(bench, &stack, engine, &slot, goes, own);
            ends.map_err(|s| s.at(format_args!("{goes:?}, own thread: {own}")))?;
        }
    }
    Ok(())
}

fn without_engine(bench: &Bench, stack: &Stack, engine: Engine, slot: &Slot, goes: Goes, own: bool) -> Checked {
    // Nobody accepts: a link would hold the engine as well.
    let server = match bench.caps().accepts {
        true => Some(engine.listen(stack, bench.subject().contact()).deadline(LONG).wait()?),
        false => None,
    };
    let to = server.as_ref().map_or_else(|| bench.subject().contact(), |s| s.contact()).clone();
    let h = engine.open(stack, to).deadline(LONG).wait()?;
    let (done, ended) = mpsc::channel();
    let tell = done.clone();
    h.read(room(10)).then(move |_| {
        let _ = tell.send("read");
    });
    match goes {
        Goes::Inline => {
            let last = (engine, server, h.clone());
            h.flush().then(move |_| {
                drop(last);
                let _ = done.send("flush");
            });
            drop(h);
        }
        Goes::Turn => {
            // Who turns an engine holds it; where nobody has to, the callback has the last of it.
            let turns = (!own).then(|| engine.clone());
            let last = (engine, server, h.clone());
            h.read(room(10)).deadline(Duration::from_millis(2)).then(move |_| {
                last.0.shutdown();
                drop(last);
                let _ = done.send("timed");
            });
            drop(h);
            if let Some(turns) = turns {
                let until = turns.now() + Duration::from_millis(10);
                while turns.now() < until && turns.next_deadline().is_some() {
                    turns.turn(Some(Duration::from_millis(10)));
                }
            }
        }
        Goes::Handle => drop((engine, server, h)),
        Goes::Level => {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine);
            drop((server, h));
        }
    }
    drop(take(slot));
    let want = usize::from(matches!(goes, Goes::Inline | Goes::Turn)) + 1;
    for i in 0..want {
        ended.recv_timeout(STUCK).map_err(|_| Stop::fail(format!("{i} of {want} callbacks came")))?;
    }
    ensure!(ended.try_recv().is_err(), "more callbacks came than there were ops");
    Ok(())
}

/// A handle does not cross a fork. The child asks for what it can; the parent and its peer notice nothing.
///
/// # Errors
/// See the rule's text.
pub fn e12(bench: &mut Bench) -> Checked {
    if !bench.caps().shared_memory {
        return unless("shared_memory=false");
    }
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let data = units(w.seed, 3, 100);
        transfer(w, &pair.near, &pair.far, &data, &mut dice)?;
        let loan = RefCell::new(pair.near.loan(100)?);
        loan.borrow_mut().put(&data[0]);
        child::run(STUCK, || {
            loan.borrow_mut().put(b"from the child");
            for (near, far) in pair.both_ways() {
                let wrote = near.write("from the child").deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind());
                let read = far.read(room(20)).deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind());
                for (what, r) in [("write", wrote), ("read", read)] {
                    // Whatever the driver says, it says so at once.
                    let refused = r.is_err_and(|k| k != ErrorKind::TimedOut);
                    ensure!(refused, "a {what} in the child came to {r:?}");
                }
            }
            Ok(())
        })?;
        let mut loan = loan.into_inner();
        loan.put(&data[1]);
        let both = [&data[0][..], &data[1]].concat();
        let both = both.get(..100).unwrap_or(&both);
        pair.near.write(loan).then(|_| ());
        let got = match w.caps().unit.has_borders() {
            true => read_unit(&pair.far, 200, &mut dice)?,
            false => read_bytes(&pair.far, both.len(), 100, &mut dice)?,
        };
        same(&got, both).map_err(|s| s.at("a loan that the child filled too"))?;
        for (near, far) in pair.both_ways() {
            transfer(w, near, far, &data, &mut dice).map_err(|s| s.at("after the fork"))?;
        }
        Ok(())
    })
}
