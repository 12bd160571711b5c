//! Group A: a panic, at every place where code of a driver runs.

use std::time::Duration;

use xio_core::ErrorKind;

use super::data::{drain, room, transfer, units};
use crate::bench::{Bench, Guests, LONG, Pair, Tell, World};
use crate::dice::{Dice, pattern};
use crate::nth_fault::{Fault, Faults, every};
use crate::verdict::{Checked, Stop};

/// A panic stays in its handle.
///
/// # Errors
/// See the rule's text.
pub fn a7(bench: &mut Bench) -> Checked {
    bench.needs_virtual_time()?;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    // In every method of every level, before it runs.
    every(Fault::Panic, |faults| {
        faults.arm(false);
        let stage = bench.stage(seed).replace(|_, d| faults.around(d));
        stage.build()?.run_rule(&mut |w| {
            w.probes.may_kill();
            panics_in_one(bench, w, faults)
        })
    })?;
    bench.stage(seed).build()?.run_rule(&mut |w| {
        w.probes.may_kill();
        panics_in_a_callback(w)
    })
}

/// The callback of a write panics, while a read and another handle wait.
fn panics_in_a_callback(w: &World) -> Checked {
    let (near, other) = match w.caps().accepts {
        true => {
            let p = w.pair()?;
            let other = w.pair_at(p.server.clone())?;
            w.keep((p.far, p.rest));
            (p.near, Some(other))
        }
        false => (w.alone()?, None),
    };
    let told = Tell::new();
    let tell = told.clone();
    near.read(room(64)).then(move |r| tell.note(r.map(|d| d.n).map_err(|f| f.kind())));
    // Not by `panic!`: a hook would print a backtrace.
    near.write("x").then(|_| std::panic::resume_unwind(Box::new("a panic of the test")));
    w.run();
    let read = told.take();
    // Where nobody has to write anything it was over before.
    ensure!(matches!(read[..], [Err(ErrorKind::Panicked) | Ok(_)]), "a read beside the callback ended with {read:?}");
    let after = near.write("y").deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind());
    ensure_eq!(after, Err(ErrorKind::Panicked), "a write after that");
    other.map_or(Ok(()), |pair| exchange(w, &pair, &mut Dice::new(w.seed)))
}

fn panics_in_one(bench: &Bench, w: &World, faults: &Faults) -> Checked {
    let mut dice = Dice::new(w.seed);
    let accepts = w.caps().accepts;
    let server = if accepts { Some(w.listen()?) } else { None };
    let bystanders = server.as_ref().map(|s| w.pair_of(&w.far, s.clone())).transpose()?;
    faults.arm(true);
    let ended = Tell::new();
    let opened = Tell::new();
    let (tell, told) = (opened.clone(), ended.clone());
    let to = server.as_ref().map_or_else(|| bench.subject().contact().clone(), |s| s.contact().clone());
    let guests = server.as_ref().map(Guests::of);
    w.open(to).deadline(LONG).then(move |r| tell.note(r));
    w.run();
    let near = opened.take().pop().ok_or_else(|| Stop::fail("an open never ended"))?;
    let far = guests.zip(server.as_ref()).and_then(|(g, s)| g.take(&w.near, s).ok());
    let mut count = 0;
    if let Ok(near) = &near {
        count = 3;
        let (a, b, c) = (told.clone(), told.clone(), told.clone());
        near.read(room(50)).then(move |r| a.note(r.err().map(|f| f.kind())));
        near.write(pattern(1, 0, 500)).then(move |r| b.note(r.err().map(|f| f.kind())));
        near.flush().then(move |r| c.note(r.err().map(|e| e.kind())));
        if let Some((far, _)) = &far {
            far.write("hello").then(|_| ());
        }
        w.run();
        let a = told.clone();
        near.close().then(move |r| a.note(r.err().map(|e| e.kind())));
        count += 1;
        w.run();
    }
    faults.arm(false);
    ensure_eq!(ended.len(), count, "ops that ended, of those on the handle that panicked");
    if let Ok(near) = &near {
        let after = near.read(room(1)).deadline(LONG).wait().map(|d| d.n).map_err(|f| f.kind());
        let want = if faults.hit().is_some() { ErrorKind::Panicked } else { ErrorKind::Closed };
        ensure_eq!(after, Err(want), "a read of the handle after that");
    }
    drop(near);
    if let Some((far, _)) = far {
        let drained = drain(&far);
        w.run_for(Duration::from_secs(30));
        let last = drained.take().pop();
        ensure!(
            matches!(last, Some(Err(_))) || !w.caps().connected,
            "the peer of a handle that panicked waits for ever"
        );
    }
    let Some(beside) = bystanders else { return Ok(()) };
    exchange(w, &beside, &mut dice).map_err(|s| s.at("a handle beside the one that panicked"))?;
    let after = w.pair_of(&w.far, beside.server.clone());
    after.and_then(|p| exchange(w, &p, &mut dice)).map_err(|s| s.at("a handle after the one that panicked"))
}

/// Moves a little both ways.
fn exchange(w: &World, pair: &Pair, dice: &mut Dice) -> Checked {
    if !w.caps().reliable || !w.caps().ordered {
        return Ok(());
    }
    pair.both_ways().iter().try_for_each(|(a, b)| transfer(w, a, b, &units(w.seed, 3, 300), dice))
}
