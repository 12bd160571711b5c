//! Group E: callbacks, and the threads they run on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use xio_core::driver::OpKind;
use xio_core::io::Direction;
use xio_core::{ErrorKind, Handle};

use super::data::room;
use crate::bench::{Bench, LONG, Tell};
use crate::jitter::Jitter;
use crate::verdict::Checked;

/// Real time after which what has not come never comes.
pub(super) const STUCK: Duration = Duration::from_secs(5);

/// Flushes again and again, each in the callback of the one before. Notes where the stack is.
fn again(h: Handle, left: usize, low: Arc<AtomicUsize>, high: Arc<AtomicUsize>) {
    let next = h.clone();
    h.flush().then(move |r| {
        let here = 0u8;
        let at = std::ptr::from_ref(&here).addr();
        low.fetch_min(at, Ordering::Relaxed);
        high.fetch_max(at, Ordering::Relaxed);
        if left > 0 && r.is_ok() {
            again(next, left - 1, low, high);
        }
    });
}

/// A callback may do anything that does not wait.
///
/// # Errors
/// See the rule's text.
pub fn e7(bench: &mut Bench) -> Checked {
    const CHAIN: usize = 3000;
    const STACK: usize = 128 * 1024;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    bench.stage(seed).build()?.run_rule(&mut |w| {
        let near = w.alone()?;
        let (low, high) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        again(near.clone(), CHAIN, low.clone(), high.clone());
        w.run_until(|| Arc::strong_count(&low) == 1);
        ensure_eq!(Arc::strong_count(&low), 1, "links of the chain that are left");
        let used = high.load(Ordering::Relaxed).saturating_sub(low.load(Ordering::Relaxed));
        ensure!(used < STACK, "a chain of {CHAIN} ops took {used} bytes of stack");
        Ok(())
    })?;
    bench.needs_peer()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let other = w.pair_at(pair.server.clone())?;
        let told: Tell<(&str, Option<ErrorKind>)> = Tell::new();
        let tell = told.clone();
        let (h, server, stack, engine) = (pair.near.clone(), pair.server.clone(), w.near.clone(), w.engine.clone());
        let waits = pair.near.read(room(10));
        let t = tell.clone();
        let waits = waits.then(move |r| t.note(("waits", r.err().map(|f| f.kind()))));
        // A deadline ends on the engine's thread, always.
        pair.near.read(room(10)).deadline(Duration::from_millis(5)).then(move |r| {
            tell.note(("timed", r.err().map(|f| f.kind())));
            let blocked = [h.flush().wait().err(), h.read(room(5)).wait().err().map(|f| f.error)];
            blocked.into_iter().for_each(|e| tell.note(("blocked", e.map(|e| e.kind()))));
            let (a, b, c, d) = (tell.clone(), tell.clone(), tell.clone(), tell.clone());
            let end = h.clone();
            h.write("from a callback").then(move |r| {
                a.note(("write", r.err().map(|f| f.kind())));
                let (more, last) = (a.clone(), end.clone());
                end.flush().then(move |r| {
                    more.note(("flush", r.err().map(|e| e.kind())));
                    last.close().then(move |r| more.note(("close", r.err().map(|e| e.kind()))));
                });
            });
            h.ready(Direction::Write).then(move |r| b.note(("ready", r.err().map(|e| e.kind()))));
            let asked = h.query(xio_core::cntl::Caps);
            tell.note(("query", asked.err().map(|e| e.kind())));
            waits.cancel();
            h.cancel_all(&[OpKind::Read]);
            engine.open(&stack, server.contact().clone()).deadline(LONG).then(move |r| {
                c.note(("open", r.err().map(|e| e.kind())));
            });
            let accept = server.accept().deadline(LONG).then(move |r| d.note(("accept", r.err().map(|e| e.kind()))));
            drop((other, accept));
        });
        w.run();
        let mut ends = told.take();
        ends.sort_by_key(|(name, _)| *name);
        let blocked = ("blocked", Some(ErrorKind::InCallback));
        let want = [
            ("accept", None),
            blocked,
            blocked,
            ("close", None),
            ("flush", None),
            ("open", None),
            ("query", None),
            ("ready", None),
            ("timed", Some(ErrorKind::TimedOut)),
            ("waits", Some(ErrorKind::Cancelled)),
            ("write", None),
        ];
        ensure_eq!(ends, want, "what came of the calls in a callback");
        Ok(())
    })
}

/// Callbacks run without locks: another thread can use the handle while one runs.
///
/// # Errors
/// See the rule's text.
pub fn e8(bench: &mut Bench) -> Checked {
    bench.each(|w| {
        let near = w.alone()?;
        let told = Tell::new();
        // One that comes at once, and one that comes in a turn.
        let probe = |h: Handle, tell: Tell<bool>| {
            move || {
                let (done, waits) = mpsc::channel();
                std::thread::spawn(move || {
                    let _ = h.outstanding();
                    let _ = h.query(xio_core::cntl::Caps);
                    let _ = h.stats();
                    h.flush().then(|_| ());
                    h.cancel_all(&[OpKind::Ready]);
                    let _ = done.send(h);
                });
                tell.note(waits.recv_timeout(STUCK).is_ok());
            }
        };
        let (a, b) = (probe(near.clone(), told.clone()), probe(near.clone(), told.clone()));
        near.flush().then(move |_| a());
        near.read(room(10)).deadline(Duration::from_millis(5)).then(move |_| b());
        w.run();
        ensure_eq!(told.take(), [true, true], "threads that used the handle while a callback of it ran");
        Ok(())
    })
}

/// Callbacks of a handle run one after the other, whichever threads submit.
///
/// # Errors
/// See the rule's text.
pub fn e9(bench: &mut Bench) -> Checked {
    const THREADS: usize = 3;
    const OPS: usize = 60;
    bench.each(|w| {
        let near = w.alone()?;
        let (busy, twice, count) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            for i in 0..OPS {
                let (busy, twice, count) = (busy.clone(), twice.clone(), count.clone());
                let note = move || {
                    twice.fetch_add(usize::from(busy.swap(true, Ordering::AcqRel)), Ordering::Relaxed);
                    std::thread::yield_now();
                    busy.store(false, Ordering::Release);
                    count.fetch_add(1, Ordering::Relaxed);
                };
                if i % 2 == 0 {
                    near.flush().then(move |_| note());
                } else {
                    near.read(room(1)).then(move |_| note()).cancel();
                }
            }
        };
        std::thread::scope(|s| {
            let threads: Vec<_> = (0..THREADS).map(|_| s.spawn(work)).collect();
            while threads.iter().any(|t| !t.is_finished()) {
                w.engine.turn(Some(Duration::ZERO));
                std::thread::yield_now();
            }
        });
        w.run();
        ensure_eq!(count.load(Ordering::Relaxed), THREADS * OPS, "callbacks that came");
        ensure_eq!(twice.load(Ordering::Relaxed), 0, "callbacks that began while another of the handle ran");
        Ok(())
    })
}

/// Counts the callbacks that run at the same time.
#[derive(Clone, Default)]
struct Depth(Arc<AtomicUsize>, Tell<String>);

impl Depth {
    fn call(&self, what: &str, f: impl FnOnce()) {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        self.1.note(if n == 0 { what.to_owned() } else { format!("{what} inside another callback") });
        f();
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A callback is the last act of a submit or a turn.
///
/// # Errors
/// See the rule's text.
pub fn e10(bench: &mut Bench) -> Checked {
    let seed = bench.seeds().first().copied().unwrap_or_default();
    for late in [false, true] {
        let insert = |_: usize, below| if late { Jitter::late(seed).over(below) } else { below };
        bench.each_on(
            |s| s.near(insert),
            |w| {
                let (near, other) = (w.alone()?, w.alone()?);
                let depth = Depth::default();
                let (d, h) = (depth.clone(), near.clone());
                near.flush().then(move |_| {
                    let inner = d.clone();
                    d.call("the first", || {
                        let (a, b) = (inner.clone(), inner.clone());
                        h.flush().then(move |_| a.call("a flush", || ()));
                        let c = inner.clone();
                        other.flush().then(move |_| c.call("another handle's flush", || ()));
                        let c = h.clone();
                        let read = h.read(room(10)).then(move |_| {
                            // Its own op has ended, so nothing is outstanding.
                            let left = c.outstanding().0;
                            b.call(if left == 0 { "a read" } else { "a read that is not over" }, || ());
                        });
                        read.cancel();
                        inner.1.note("the end of the first".to_owned());
                    });
                });
                w.run();
                let mut order = depth.1.take();
                if order.len() > 2 {
                    order[2..].sort();
                }
                let want = ["the first", "the end of the first", "a flush", "a read", "another handle's flush"];
                ensure_eq!(order, want, "the callbacks");
                Ok(())
            },
        )?;
    }
    Ok(())
}
