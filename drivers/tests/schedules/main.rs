//! Whole handles under shuttle: four to eight threads read, write, cancel, drop and close over `loop`, in
//! very many schedules. Invariant: whatever the schedule, every op ends once, no byte is lost, doubled or out
//! of order, and nobody waits for ever. A schedule that fails is printed; in a file that `XIO_REPLAY` names, it
//! runs again.
//!
//! `.ci/models` runs it; `XIO_SCHEDULES` is how many a test, `XIO_SEED` where they begin.
#![cfg(shuttle)]

mod stage;

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;
use xio_core::driver::OpKind;
use xio_core::{CloseMode, ErrorKind, Handle, LevelNode};
use xio_drivers::{frame, null, queue};

use self::stage::{Record, Stage, dice, lets_go, stage};

/// Writes so many bytes, in one of the ways there are. Each byte says whose it is, and its place.
fn write(h: &Handle, record: &Arc<Record>, who: u8, place: &mut u8, may_stop: bool) {
    let n = 1 + u8::try_from(dice(3)).unwrap();
    let text: Vec<u8> = (*place..*place + n).map(|i| who << 6 | i).collect();
    *place += n;
    record.begin();
    let call = h.write(text.clone());
    match dice(3) {
        0 => record.write(&text, call.wait()),
        1 => record.write(&text, shuttle::future::block_on(call.into_future())),
        _ => {
            let (r, t) = (record.clone(), text);
            let ticket = call.then(move |w| r.write(&t, w));
            if may_stop && dice(2) == 0 {
                ticket.cancel();
            }
        }
    }
}

/// Reads, in one of the ways there are. Whether there is more to come.
fn read(h: &Handle, record: &Arc<Record>) -> bool {
    let call = h.read(BytesMut::with_capacity(1 + dice(4) as usize));
    let call = if dice(4) == 0 { call.deadline(Duration::from_nanos(1 + u64::from(dice(4)))) } else { call };
    let end = match dice(4) {
        0 => {
            record.begin();
            record.read(call.wait())
        }
        1 => {
            record.begin();
            record.read(shuttle::future::block_on(call.into_future()))
        }
        2 => {
            record.begin();
            let r = record.clone();
            let ticket = call.then(move |got| {
                r.read(got);
            });
            if dice(2) == 0 {
                ticket.cancel();
            }
            None
        }
        _ => {
            // Polled once or twice and given up; what came for it is for the next.
            let mut f = call.into_future();
            for _ in 0..=dice(2) {
                if let Poll::Ready(got) = Pin::new(&mut f).poll(&mut Context::from_waker(Waker::noop())) {
                    record.begin();
                    return record.read(got).is_none();
                }
                thread::yield_now();
            }
            None
        }
    };
    goes_on(end)
}

/// Whether another read may bring more.
fn goes_on(end: Option<ErrorKind>) -> bool {
    match end {
        None | Some(ErrorKind::TimedOut | ErrorKind::Cancelled | ErrorKind::Busy | ErrorKind::Truncated { .. }) => true,
        Some(ErrorKind::Eof | ErrorKind::Closed | ErrorKind::Reset | ErrorKind::Stopped) => false,
        Some(e) => panic!("{e:?}"),
    }
}

/// Reads whatever is left.
fn drain(h: &Handle, record: &Record) {
    loop {
        record.begin();
        if !goes_on(record.read(h.read(BytesMut::with_capacity(8)).wait())) {
            return;
        }
    }
}

/// Writers, readers, and one who moves the clock and turns the engine; nobody closes before all is written.
fn crowd(s: &Stage, may_stop: bool) {
    let mut threads = Vec::new();
    let writers: Vec<_> = (0..2)
        .map(|who| {
            let (h, r) = (s.near.clone(), s.record.clone());
            thread::spawn(move || {
                let mut place = 0;
                (0..=dice(2)).for_each(|_| write(&h, &r, who, &mut place, may_stop));
            })
        })
        .collect();
    for _ in 0..=dice(2) {
        let (h, r) = (s.far.clone(), s.record.clone());
        threads.push(thread::spawn(move || {
            for _ in 0..=dice(3) {
                if !read(&h, &r) {
                    return;
                }
            }
        }));
    }
    let (e, c, h) = (s.engine.clone(), s.rest.clone(), s.far.clone());
    let clock = thread::spawn(move || {
        for _ in 0..=dice(3) {
            c.pass(Duration::from_nanos(2));
            e.turn(Some(Duration::ZERO));
            if dice(3) == 0 {
                h.cancel_all(&[OpKind::Read]);
            }
        }
    });
    // Readers may go before all is read: then nobody else makes room.
    let (h, r) = (s.far.clone(), s.record.clone());
    let rest = thread::spawn(move || drain(&h, &r));
    for w in writers {
        w.join().unwrap();
    }
    s.near.flush().wait().unwrap();
    s.near.shutdown().wait().unwrap();
    for t in threads {
        t.join().unwrap();
    }
    clock.join().unwrap();
    rest.join().unwrap();
    // What fell back after the last of them, or was called off by a cancel of all.
    drain(&s.far, &s.record);
}

fn over(s: Stage) {
    let Stage { engine, near, far, record, rest } = s;
    near.close().wait().unwrap();
    far.close().wait().unwrap();
    drop((near, far));
    record.is_over();
    lets_go(&engine);
    drop((engine, rest));
}

fn plain() {
    let s = stage(|bottom| LevelNode::new(null::driver()).over(bottom));
    crowd(&s, true);
    s.record.is_over();
    s.record.balances();
    over(s);
}

fn framed() {
    let s = stage(|bottom| LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(bottom)));
    crowd(&s, false);
    over(s);
}

/// Everybody reads, writes and cancels while somebody closes an end, aborts it, drops it or stops the engine.
fn closing() {
    let s = stage(|bottom| bottom);
    let mut threads = Vec::new();
    for who in 0..2 {
        let (h, r) = (s.near.clone(), s.record.clone());
        threads.push(thread::spawn(move || {
            let mut place = 0;
            (0..=dice(2)).for_each(|_| write(&h, &r, who, &mut place, true));
        }));
        let (h, r) = (s.far.clone(), s.record.clone());
        threads.push(thread::spawn(move || while read(&h, &r) && dice(3) > 0 {}));
    }
    let Stage { rest, engine, near, far, record } = s;
    let (e, c) = (engine.clone(), rest.clone());
    threads.push(thread::spawn(move || {
        (0..=dice(2)).for_each(|_| {
            c.pass(Duration::from_nanos(2));
            e.turn(Some(Duration::ZERO));
        })
    }));
    match dice(4) {
        0 => drop(far.close().wait()),
        1 => drop(far.close().mode(CloseMode::Abort).wait()),
        2 => engine.shutdown(),
        _ => {}
    }
    // First the end that reads: what cannot go out any more would keep the other one open for its time.
    drop((far.close().wait(), near.close().wait(), near, far));
    for t in threads {
        t.join().unwrap();
    }
    record.is_over();
    lets_go(&engine);
}

/// One read, and four who may end it: bytes, a cancel, its deadline and a close.
fn contest() {
    let Stage { rest, engine, near, far, record } = stage(|bottom| bottom);
    record.begin();
    let r = record.clone();
    let call = far.read(BytesMut::with_capacity(2)).deadline(Duration::from_nanos(2));
    let ticket = call.then(move |got| {
        r.read(got);
    });
    let (e, c, r, h) = (engine.clone(), rest.clone(), record.clone(), near.clone());
    let threads = [
        thread::spawn(move || write(&h, &r, 0, &mut 0, false)),
        thread::spawn(move || ticket.cancel()),
        thread::spawn(move || {
            c.pass(Duration::from_nanos(2));
            e.turn(Some(Duration::ZERO));
        }),
    ];
    drop(far.close().wait());
    for t in threads {
        t.join().unwrap();
    }
    drop((near, far));
    record.is_over();
    lets_go(&engine);
}

/// A fault in the engine, planted in a process of its own, is found.
fn finds(fault: &str, test: &str, sign: &str) {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("XIO_PLANTED", fault)
        .env_remove("XIO_REPLAY")
        .output()
        .unwrap();
    let said = [run.stdout, run.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("running 1 test"), "there is no test `{test}`");
    assert!(!run.status.success() && said.contains(sign), "`{fault}` was not found by `{sign}`: {said}");
}

fn run(name: &str, share: usize, f: fn()) {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number"));
    if let Ok(file) = std::env::var("XIO_REPLAY") {
        return shuttle::replay_from_file(f, file);
    }
    let n = usize::try_from(number("XIO_SCHEDULES").unwrap_or(2_000)).unwrap() * share / 100;
    let seed = number("XIO_SEED").unwrap_or(1);
    let began = Instant::now();
    let go = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = shuttle::Config::new();
        config.stack_size = 256 * 1024;
        config.silence_warnings = true;
        shuttle::Runner::new(scheduler, config).run(f)
    };
    let random = go(Box::new(RandomScheduler::new_from_seed(seed, n - n / 4)));
    let pct = go(Box::new(PctScheduler::new_from_seed(seed, 3, n / 4)));
    println!("{name}: {random} random and {pct} pct schedules from seed {seed} in {:.1?}", began.elapsed());
}

#[test]
fn faults_are_found() {
    finds("bytes go with a dropped read", "nothing_is_lost_in_a_crowd", "lost or doubled");
    finds("a gate that opens lets nobody in", "nothing_is_lost_in_a_crowd", "deadlock");
    finds("a turner trusts the wake-up alone", "nothing_is_lost_in_a_crowd", "deadlock");
    finds("a token is used at once", "a_crowd_over_a_queue_of_messages", "one handle's lock at a time");
    finds("an op that ended keeps its number", "everything_ends_when_somebody_closes", "deadlock");
    finds("the last user is not noticed", "a_read_that_everybody_ends_ends_once", "a handle is left");
}

#[test]
fn a_read_that_everybody_ends_ends_once() {
    run("contest", 400, contest);
}

#[test]
fn nothing_is_lost_in_a_crowd() {
    run("plain", 100, plain);
}

#[test]
fn a_crowd_over_a_queue_of_messages() {
    run("framed", 50, framed);
}

#[test]
fn everything_ends_when_somebody_closes() {
    run("closing", 100, closing);
}
