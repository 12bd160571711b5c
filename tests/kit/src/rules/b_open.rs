//! Group B: open, unwinding, close.

use xio_core::ErrorKind;
use xio_core::driver::OpKind;

use crate::bench::{Bench, LONG, Tell, World};
use crate::nth_fault::{Fault, Faults, every_of};
use crate::probe::{Event, Side};
use crate::verdict::{Checked, Stop};

/// A failed open closes exactly what was open.
///
/// # Errors
/// See the rule's text.
pub fn b1(bench: &mut Bench) -> Checked {
    for seed in bench.seeds() {
        let plan = |n| Faults::new(n, Fault::Error(ErrorKind::Protocol)).only(&[OpKind::Open]);
        every_of(plan, |faults| {
            let stage = bench.stage(seed).recorded().near(|_, below| faults.level(below));
            stage.build()?.run_rule(&mut |w| {
                let server = if w.caps().accepts { Some(w.listen()?) } else { None };
                let to = server.as_ref().map_or_else(|| bench.subject().contact().clone(), |s| s.contact().clone());
                let opened = Tell::new();
                let tell = opened.clone();
                w.open(to).deadline(LONG).then(move |r| tell.note(r));
                w.run_until(|| !opened.is_empty());
                let handle = opened.take().pop().ok_or_else(|| Stop::fail("the open never ended"))?;
                match (faults.hit(), handle) {
                    (Some(_), Err(e)) => ensure_eq!(e.kind(), ErrorKind::Protocol, "the error of the open"),
                    (Some(_), Ok(_)) => return Err(Stop::fail("an open succeeded that a level had failed")),
                    (None, Ok(h)) => h.close().deadline(LONG).wait()?,
                    (None, Err(e)) => return Err(e.into()),
                }
                closes_mirror_opens(w)
            })
        })?;
    }
    Ok(())
}

/// Whether every boundary that opened has closed, along each path in reverse.
fn closes_mirror_opens(w: &World) -> Checked {
    let events = w.probes.events();
    let near = |f: &dyn Fn(&Event) -> bool| -> Vec<usize> {
        events.iter().filter(|e| e.side == Side::Near && f(e)).map(|e| e.above).collect()
    };
    let mut opened = near(&|e| e.kind == OpKind::Open && e.up && e.error.is_none());
    let closed = near(&|e| e.kind == OpKind::Close && !e.up);
    let sorted = |mut v: Vec<usize>| {
        v.sort_unstable();
        v
    };
    let (all, want) = (sorted(closed.clone()), sorted(opened.clone()));
    ensure_eq!(all, want, "boundaries that a close passed, by the level below them, against those that were open");
    opened.reverse();
    for path in w.near_paths() {
        let on_path = |v: &[usize]| v.iter().copied().filter(|n| path.contains(n)).collect::<Vec<_>>();
        ensure_eq!(on_path(&closed), on_path(&opened), "the order in which a close passed the boundaries of a path");
    }
    Ok(())
}
