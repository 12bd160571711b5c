//! Callbacks and wakers, told by whatever thread ends the op: one callback of a handle after the other, and
//! the last waker is the one that counts.

use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::bed::{Bench, Wire};
use super::stage::{self, Desk};
use super::{join, model, threads};
use crate::sync::{Arc, AtomicBool, AtomicU32, Condvar, Mutex, Ordering};

const NOW: Option<Duration> = Some(Duration::ZERO);

model! {
    /// Two threads end two ops of a handle: their callbacks run one after the other, both.
    in all fn callbacks_of_a_handle_do_not_overlap() {
        let (bench, desk) = (Bench::new(), Desk::new(false));
        let engine = stage::engine(&bench, false);
        let handle = stage::at_desk(&engine, &desk);
        let (inside, ran) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        for _ in 0..2 {
            let (i, r) = (inside.clone(), ran.clone());
            handle.read(stage::room()).then(move |_| {
                assert!(!i.swap(true, Ordering::AcqRel), "two callbacks at once");
                r.fetch_add(1, Ordering::Relaxed);
                i.store(false, Ordering::Release);
            });
        }
        let d = desk.clone();
        let other = threads([Box::new(move || d.give(b"1"))]);
        desk.give(b"2");
        join(other);
        assert_eq!(ran.load(Ordering::Relaxed), 2, "a callback did not run");
    }
    finds callbacks_that_do_not_wait: "callbacks do not wait for each other" => "two callbacks at once";
    finds a_callback_that_is_left: "a callback is left to nobody" => "a callback did not run";
}

/// A waker that a thread can wait for.
struct Alarm {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Alarm {
    fn new() -> Arc<Self> {
        Arc::new(Self { woken: Mutex::new(false), changed: Condvar::new() })
    }

    fn wait(&self) {
        let mut woken = self.woken.lock();
        while !*woken {
            self.changed.wait(&mut woken);
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_all();
    }
}

model! {
    /// A future is polled with another waker while its op is out and ends: it is ready, or that waker wakes.
    in all fn the_last_waker_is_woken() {
        let bench = Bench::new();
        let wire = Wire::new(&bench);
        let engine = stage::engine(&bench, false);
        let handle = stage::on_wire(&engine, &wire);
        let mut read = handle.read(stage::room()).into_future();
        let mut poll = |alarm: &Arc<Alarm>| {
            let waker = Waker::from(alarm.clone());
            Pin::new(&mut read).poll(&mut Context::from_waker(&waker))
        };
        let (first, second) = (Alarm::new(), Alarm::new());
        assert!(poll(&first).is_pending());
        let (w, e) = (wire.clone(), engine.clone());
        let other = threads([Box::new(move || {
            w.arrive(b"x");
            e.turn(NOW);
        })]);
        let got = match poll(&second) {
            Poll::Ready(got) => got,
            Poll::Pending => {
                second.wait();
                let Poll::Ready(got) = poll(&second) else { panic!("woken for nothing") };
                got
            }
        };
        assert_eq!(&got.expect("bytes").buf[..], b"x");
        join(other);
    }
    finds a_waker_that_is_forgotten: "a waker of an op that is out is forgotten" => "deadlock";
}
