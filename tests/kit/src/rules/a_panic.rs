//! Group A: a panic, at every place where code of a driver runs.

use std::time::Duration;

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
    every(Fault::Panic, |faults| {
        faults.arm(false);
        let stage = bench.stage(seed).replace(|_, d| faults.around(d));
        stage.build()?.run_rule(&mut |w| {
            w.probes.may_kill();
            panics_in_one(bench, w, faults)
        })
    })?;
    Ok(())
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
        let after = near.read(room(1)).deadline(LONG).wait();
        ensure!(after.is_err(), "a handle that panicked or was closed can be read from");
    }
    drop(near);
    if let Some((far, _)) = far {
        let drained = drain(&far);
        w.run_for(Duration::from_secs(30));
        let last = drained.take().pop();
        ensure!(matches!(last, Some(Err(_))), "the peer of a handle that panicked waits for ever");
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
