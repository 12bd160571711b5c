//! Many threads on one handle, by seed: nothing is lost, nothing comes twice, everything ends, whoever
//! cancels, drops and closes what, when. Each test is over within a few seconds.
#![cfg(all(feature = "tcp", feature = "loop", feature = "frame", feature = "null", feature = "queue"))]

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use xio_core::attr::Size;
use xio_core::driver::OpKind;
use xio_core::io::Direction;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{CloseMode, Contact, Engine, ErrorKind, Handle, LevelNode, OpFuture, Stack, op};
use xio_drivers::{frame, loop_, null, queue, tcp};

/// Whatever takes as long as this will never come.
const NEVER: Duration = Duration::from_secs(30);

/// The seeds of a test: a few, or from `XIO_SEEDS` on as many times more as `XIO_STRESS` says.
fn seeds(few: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse().ok());
    let from = number("XIO_SEEDS").unwrap_or(0);
    from..from + few * number("XIO_STRESS").unwrap_or(1)
}

struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

fn poll<F: Future + Unpin>(f: &mut F) -> Poll<F::Output> {
    pin!(f).poll(&mut Context::from_waker(&waker()))
}

/// Runs a future on this thread, turning the engine where nobody else does.
fn run<F: Future + Unpin>(engine: &Engine, turns: bool, mut f: F) -> F::Output {
    let start = Instant::now();
    loop {
        if let Poll::Ready(v) = poll(&mut f) {
            return v;
        }
        assert!(start.elapsed() < NEVER, "a future that is never ready");
        match turns {
            true => drop(engine.turn(Some(Duration::from_millis(1)))),
            false => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Below {
    Tcp,
    OwnedTcp,
    Loop,
    Sim,
}

struct Bed {
    engine: Engine,
    /// Whether somebody has to turn the engine.
    turns: bool,
    a: Handle,
    b: Handle,
}

/// A pair over one of the transports; the levels above it are made by `over`.
fn bed(below: Below, seed: u64, over: impl Fn(LevelNode) -> LevelNode) -> Bed {
    let engine = match below {
        Below::Tcp | Below::Loop => Engine::new(),
        Below::OwnedTcp => Engine::builder().owner_driven().build(),
        Below::Sim => Engine::builder().reactor(Sim::with_config(seed, SimConfig::default().with_buffer(4096))).build(),
    }
    .unwrap();
    let turns = matches!(below, Below::OwnedTcp | Below::Sim);
    if below == Below::Loop {
        let options = loop_::Options::default().with_buffer(Size(4096));
        let (a, b) = loop_::pair_of(&engine, options, over).unwrap();
        return Bed { engine, turns, a, b };
    }
    let options = tcp::Options::default().with_nodelay(true);
    let stack = Stack::new(over(LevelNode::new(tcp::driver()).with_attr(Box::new(options)))).unwrap();
    let at = if below == Below::Sim { "10.0.0.1:7000" } else { "127.0.0.1:0" };
    let server = engine.listen(&stack, Contact::new(at)).wait().unwrap();
    let a = engine.open(&stack, server.contact()).deadline(NEVER).wait().unwrap();
    let b = server.accept().deadline(NEVER).wait().unwrap().open().wait().unwrap();
    Bed { engine, turns, a, b }
}

fn framed(n: LevelNode) -> LevelNode {
    LevelNode::new(null::driver()).over(LevelNode::new(frame::driver()).over(n))
}

fn queued(n: LevelNode) -> LevelNode {
    LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(n))
}

/// Message `i`: its number, then as many bytes as the number says.
fn message(i: u32) -> Vec<u8> {
    let len = (i.wrapping_mul(2_654_435_761) >> 20) as usize % if i.is_multiple_of(97) { 20_000 } else { 200 };
    let mut m = i.to_be_bytes().to_vec();
    m.extend((0..len).map(|k| (i as usize + k) as u8));
    m
}

fn number(m: &[u8]) -> u32 {
    let i = u32::from_be_bytes(m[..4].try_into().unwrap());
    assert!(m == message(i), "message {i} is not whole");
    i
}

/// Reads messages in every way there is, and gives most of them up, until the stream ends.
fn read_messages(bed: &Bed, seed: u64, seen: &[AtomicU32]) {
    let mut rng = Rng::new(seed);
    let h = &bed.b;
    let count = |m: &[u8]| {
        seen[number(m) as usize].fetch_add(1, Ordering::Relaxed);
    };
    let mut buf = vec![0; 30_000];
    let mut futures: VecDeque<OpFuture<op::Read>> = VecDeque::new();
    loop {
        let room = BytesMut::with_capacity(30_000);
        let end = match rng.below(8) {
            0 => match h.read(room).deadline(Duration::from_micros(rng.below(3000) as u64)).wait() {
                Ok(d) => {
                    count(&d.buf);
                    Ok(())
                }
                Err(f) => Err(f.kind()),
            },
            1 => match h.read_into(&mut buf).wait() {
                Ok(n) => {
                    count(&buf[..n]);
                    Ok(())
                }
                Err(e) => Err(e.kind()),
            },
            2 => match h.take(30_000).deadline(Duration::from_millis(60)).wait() {
                Ok(d) => {
                    count(&d.into_bytes());
                    Ok(())
                }
                Err(f) => Err(f.kind()),
            },
            3 => {
                let (tx, rx) = mpsc::channel();
                let ticket = h.read(room).then(move |r| {
                    let _ = tx.send(r.map(|d| d.buf).map_err(|f| f.kind()));
                });
                if rng.below(2) == 0 {
                    std::thread::yield_now();
                }
                ticket.cancel();
                let got = if bed.turns {
                    let start = Instant::now();
                    loop {
                        if let Ok(r) = rx.try_recv() {
                            break r;
                        }
                        assert!(start.elapsed() < NEVER, "a callback that never comes");
                        bed.engine.turn(Some(Duration::from_millis(1)));
                    }
                } else {
                    rx.recv_timeout(NEVER).expect("the callback comes")
                };
                got.map(|m| count(&m))
            }
            4 | 5 => {
                let mut f = h.read(room).into_future();
                match poll(&mut f) {
                    Poll::Ready(Ok(d)) => {
                        count(&d.buf);
                        Ok(())
                    }
                    Poll::Ready(Err(f)) => Err(f.kind()),
                    Poll::Pending => {
                        futures.push_back(f);
                        if futures.len() > 3 {
                            drop(futures.remove(rng.below(4)));
                        }
                        Ok(())
                    }
                }
            }
            6 => match futures.pop_front() {
                Some(f) if rng.below(2) == 0 => match run(&bed.engine, bed.turns, f) {
                    Ok(d) => {
                        count(&d.buf);
                        Ok(())
                    }
                    Err(f) => Err(f.kind()),
                },
                _ => Ok(()),
            },
            _ => {
                if rng.below(8) == 0 {
                    h.cancel_all(&[OpKind::Read]);
                }
                Ok(())
            }
        };
        match end {
            Err(ErrorKind::Eof) => return,
            Ok(()) | Err(ErrorKind::Cancelled | ErrorKind::TimedOut | ErrorKind::Busy) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn write_messages(h: &Handle, seed: u64, next: &AtomicU32, end: u32) {
    let mut rng = Rng::new(seed);
    loop {
        let i = next.fetch_add(1, Ordering::Relaxed);
        if i >= end {
            return;
        }
        let m = message(i);
        match rng.below(3) {
            0 => drop(h.write(m).deadline(NEVER).wait().unwrap()),
            1 => drop(h.write_from(&m).deadline(NEVER).wait().unwrap()),
            _ => match h.write(m.clone()).no_wait().deadline(NEVER).wait() {
                Ok(_) => {}
                Err(f) if f.kind() == ErrorKind::Busy => drop(h.write(m).deadline(NEVER).wait().unwrap()),
                Err(f) => panic!("{f}"),
            },
        }
        if rng.below(50) == 0 {
            h.flush().deadline(NEVER).wait().unwrap();
        }
    }
}

fn every_message_once(below: Below, over: fn(LevelNode) -> LevelNode, seed: u64, messages: u32) {
    let bed = bed(below, seed, over);
    let seen: Vec<_> = (0..messages).map(|_| AtomicU32::new(0)).collect();
    let next = AtomicU32::new(0);
    let left = AtomicU32::new(2);
    std::thread::scope(|s| {
        for r in 0..3 {
            let (bed, seen) = (&bed, &seen);
            s.spawn(move || read_messages(bed, seed * 100 + r, seen));
        }
        for w in 0..2 {
            let (bed, next, left) = (&bed, &next, &left);
            s.spawn(move || {
                write_messages(&bed.a, seed * 100 + 50 + w, next, messages);
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    bed.a.shutdown().deadline(NEVER).wait().unwrap();
                }
            });
        }
    });
    // What was dropped last lies at the top.
    loop {
        match bed.b.take(30_000).deadline(NEVER).wait() {
            Ok(d) => drop(seen[number(&d.into_bytes()) as usize].fetch_add(1, Ordering::Relaxed)),
            Err(f) => {
                assert_eq!(f.kind(), ErrorKind::Eof);
                break;
            }
        }
    }
    let wrong: Vec<_> = seen.iter().map(|n| n.load(Ordering::Relaxed)).enumerate().filter(|(_, n)| *n != 1).collect();
    assert!(wrong.is_empty(), "{below:?} seed {seed}: message, times: {wrong:?}");
    assert_eq!((bed.a.outstanding(), bed.b.outstanding()), ((0, 0), (0, 0)));
    bed.a.close().wait().unwrap();
    bed.b.close().wait().unwrap();
}

#[test]
fn every_message_comes_once_over_tcp() {
    for seed in seeds(3) {
        every_message_once(Below::Tcp, framed, seed, 1500);
        every_message_once(Below::Tcp, queued, seed, 1500);
    }
}

#[test]
fn every_message_comes_once_over_loop() {
    for seed in seeds(3) {
        every_message_once(Below::Loop, framed, seed, 1500);
        every_message_once(Below::Loop, queued, seed, 1500);
    }
}

#[test]
fn every_message_comes_once_on_an_engine_its_users_turn() {
    for seed in seeds(3) {
        every_message_once(Below::OwnedTcp, framed, seed, 800);
        every_message_once(Below::OwnedTcp, queued, seed, 800);
    }
}

/// Says that the test is over, also where it fails.
struct Over<'a>(&'a AtomicBool, &'a Handle);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        drop(self.1.close().abort().wait());
    }
}

/// One thread reads a stream in order, in every way, and drops what it likes of what it has not fetched;
/// another cancels. No byte is lost, none comes out of order.
fn bytes_in_order(below: Below, seed: u64, total: usize) {
    let bed = bed(below, seed, |n| LevelNode::new(null::driver()).over(n));
    let byte = |i: usize| (i.wrapping_mul(31) >> 3) as u8;
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        let (bed, over) = (&bed, &over);
        s.spawn(move || {
            let mut rng = Rng::new(seed + 1000);
            let mut at = 0;
            while at < total {
                let n = (1 + rng.below(400)).min(total - at);
                let data: Vec<u8> = (at..at + n).map(byte).collect();
                at += n;
                if bed.a.write_from(&data).deadline(NEVER).wait().is_err() {
                    return;
                }
                if rng.below(4) == 0 {
                    std::thread::sleep(Duration::from_micros(rng.below(200) as u64));
                }
            }
            drop(bed.a.shutdown().deadline(NEVER).wait());
        });
        s.spawn(move || {
            let mut rng = Rng::new(seed + 2000);
            while !over.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_micros(rng.below(2000) as u64));
                bed.b.cancel_all(&[OpKind::Read]);
            }
        });
        let ended = Over(over, &bed.a);
        let mut rng = Rng::new(seed);
        let mut at = 0;
        let mut log: VecDeque<String> = VecDeque::new();
        let mut futures: VecDeque<OpFuture<op::Read>> = VecDeque::new();
        let mut check = |got: &[u8], how: &str, log: &mut VecDeque<String>| {
            log.push_back(format!("{how} {}", got.len()));
            if log.len() > 40 {
                log.pop_front();
            }
            for b in got {
                assert!(*b == byte(at), "{below:?} seed {seed}: byte {at} is wrong; {log:?}");
                at += 1;
            }
        };
        let mut buf = [0; 300];
        loop {
            let n = 1 + rng.below(300);
            let wait_for = 1 + rng.below(n);
            let room = BytesMut::with_capacity(n);
            let kind = match rng.below(6) {
                // Those that were asked for before come first.
                0 if futures.is_empty() => match h_read(&bed.b, room, wait_for, &mut rng) {
                    Ok(b) => {
                        check(&b, "wait", &mut log);
                        None
                    }
                    Err((kind, b)) => {
                        check(&b, "wait!", &mut log);
                        Some(kind)
                    }
                },
                1 if futures.is_empty() => match bed.b.read_into(&mut buf[..n]).wait_for(wait_for).wait() {
                    Ok(n) => {
                        check(&buf[..n], "into", &mut log);
                        None
                    }
                    Err(e) => {
                        check(&buf[..e.moved() as usize], "into!", &mut log);
                        Some(e.kind())
                    }
                },
                0..=3 => {
                    let mut f = bed.b.read(room).wait_for(wait_for).into_future();
                    match poll(&mut f) {
                        Poll::Pending => {
                            futures.push_back(f);
                            if futures.len() > 4 {
                                log.push_back("drop".into());
                                drop(futures.remove(rng.below(futures.len())));
                            }
                            None
                        }
                        Poll::Ready(r) => {
                            let (b, kind) = match r {
                                Ok(d) => (d.buf, None),
                                Err(f) => {
                                    let kind = f.kind();
                                    (f.back.buf, Some(kind))
                                }
                            };
                            if futures.is_empty() {
                                check(&b, "poll", &mut log);
                                kind
                            } else {
                                // Those before it have theirs, or end without.
                                for f in futures.drain(..) {
                                    match run(&bed.engine, bed.turns, f) {
                                        Ok(d) => check(&d.buf, "before", &mut log),
                                        Err(f) => check(&f.back.buf, "before!", &mut log),
                                    }
                                }
                                check(&b, "poll", &mut log);
                                kind
                            }
                        }
                    }
                }
                4 => match futures.pop_front() {
                    Some(f) => match run(&bed.engine, bed.turns, f) {
                        Ok(d) => {
                            check(&d.buf, "run", &mut log);
                            None
                        }
                        Err(f) => {
                            check(&f.back.buf, "run!", &mut log);
                            Some(f.kind())
                        }
                    },
                    None => None,
                },
                _ => {
                    if !futures.is_empty() {
                        log.push_back("drop".into());
                        drop(futures.remove(rng.below(futures.len())));
                    }
                    None
                }
            };
            match kind {
                Some(ErrorKind::Eof) => {
                    futures.clear();
                    match bed.b.take(300).wait_for(0).deadline(NEVER).wait() {
                        Err(f) if f.kind() == ErrorKind::Eof => {
                            assert_eq!(f.back.n, 0);
                            break;
                        }
                        Err(f) => assert_eq!(f.kind(), ErrorKind::Cancelled),
                        Ok(d) => check(&d.into_bytes(), "end", &mut log),
                    }
                }
                None | Some(ErrorKind::Cancelled | ErrorKind::TimedOut) => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(at, total, "{below:?} seed {seed}: {log:?}");
        drop(ended);
    });
    assert_eq!(bed.b.outstanding(), (0, 0));
}

fn h_read(h: &Handle, room: BytesMut, wait_for: usize, rng: &mut Rng) -> Result<BytesMut, (ErrorKind, BytesMut)> {
    let deadline = Duration::from_micros(rng.below(3000) as u64);
    h.read(room).wait_for(wait_for).deadline(deadline).wait().map(|d| d.buf).map_err(|f| (f.kind(), f.back.buf))
}

#[test]
fn bytes_come_in_order_over_tcp() {
    for seed in seeds(6) {
        bytes_in_order(Below::Tcp, seed, 60_000);
    }
}

#[test]
fn bytes_come_in_order_over_loop() {
    for seed in seeds(6) {
        bytes_in_order(Below::Loop, seed, 60_000);
    }
}

#[test]
fn bytes_come_in_order_on_an_engine_its_users_turn() {
    for seed in seeds(6) {
        bytes_in_order(Below::OwnedTcp, seed, 40_000);
    }
}

/// Every kind of op from several threads on both ends, until somebody closes: each ends exactly once.
fn hammer(below: Below, over: fn(LevelNode) -> LevelNode, seed: u64, rounds: usize) {
    let bed = bed(below, seed, over);
    let asked = AtomicU32::new(0);
    let ended = Arc::new(AtomicU32::new(0));
    let twice = Arc::new(Mutex::new(Vec::<u32>::new()));
    let began = Instant::now();
    std::thread::scope(|s| {
        for t in 0..4u64 {
            let (bed, asked, ended, twice) = (&bed, &asked, &ended, &twice);
            s.spawn(move || {
                let mut rng = Rng::new(seed * 10 + t);
                let h = if t % 2 == 0 { &bed.a } else { &bed.b };
                let mut tickets = VecDeque::new();
                let mut futures: VecDeque<OpFuture<op::Read>> = VecDeque::new();
                let call = || {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let (ended, twice) = (ended.clone(), twice.clone());
                    let once = AtomicU32::new(0);
                    move || {
                        if once.fetch_add(1, Ordering::Relaxed) > 0 {
                            twice.lock().unwrap().push(1);
                        }
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                };
                for round in 0..rounds {
                    let n = 1 + rng.below(3000);
                    let room = BytesMut::with_capacity(4000);
                    let soon = Duration::from_micros(rng.below(3000) as u64);
                    match rng.below(16) {
                        0 => drop(h.read(room).deadline(soon).wait()),
                        1 => drop(h.read_into(&mut [0; 100]).wait_for(rng.below(100)).deadline(soon).wait()),
                        2 | 3 => {
                            let f = call();
                            tickets.push_back(h.read(room).then(move |_| f()));
                        }
                        4 | 5 => {
                            let f = call();
                            tickets.push_back(h.write(vec![7; n]).then(move |_| f()));
                        }
                        6 => drop(h.write(vec![7; n]).deadline(soon).wait()),
                        7 => drop(h.write_from(&vec![7; n]).deadline(soon).wait()),
                        8 => {
                            let mut f = h.read(room).into_future();
                            if poll(&mut f).is_pending() {
                                futures.push_back(f);
                            }
                        }
                        9 => drop(futures.pop_front()),
                        10 => {
                            if let Some(t) = tickets.pop_front() {
                                t.cancel();
                            }
                        }
                        11 => {
                            let f = call();
                            drop(h.flush().deadline(Duration::from_secs(5)).then(move |_| f()));
                        }
                        12 => {
                            let f = call();
                            drop(h.ready(Direction::Read).deadline(soon).then(move |_| f()));
                        }
                        13 => drop(h.ready(Direction::Write).deadline(soon).wait()),
                        14 if rng.below(4) == 0 => h.cancel_all(&[OpKind::Read, OpKind::Flush]),
                        15 if bed.turns => drop(bed.engine.turn(Some(Duration::ZERO))),
                        _ => drop(h.take(4000).deadline(soon).wait()),
                    }
                    if round == rounds - 1 && t < 2 {
                        let mode = [CloseMode::Graceful, CloseMode::Abort, CloseMode::Graceful, CloseMode::Abort]
                            [rng.below(4)];
                        let f = call();
                        h.close().mode(mode).deadline(Duration::from_secs(2)).then(move |_| f());
                    }
                }
            });
        }
    });
    let wait = Instant::now();
    while ended.load(Ordering::Relaxed) < asked.load(Ordering::Relaxed) {
        let (a, e) = (asked.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
        assert!(wait.elapsed() < NEVER, "{below:?} seed {seed}: {e} of {a} ended");
        if bed.turns {
            bed.engine.turn(Some(Duration::from_millis(1)));
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(twice.lock().unwrap().is_empty());
    assert_eq!(ended.load(Ordering::Relaxed), asked.load(Ordering::Relaxed));
    assert_eq!((bed.a.outstanding(), bed.b.outstanding()), ((0, 0), (0, 0)));
    assert!(began.elapsed() < NEVER);
    let engine = bed.engine.clone();
    drop(bed);
    let wait = Instant::now();
    while engine.handles() > 0 {
        assert!(wait.elapsed() < NEVER, "{below:?} seed {seed}: a handle stays");
        engine.turn(Some(Duration::from_millis(1)));
    }
}

#[test]
fn every_op_ends_once_over_tcp() {
    for seed in seeds(8) {
        hammer(Below::Tcp, framed, seed, 150);
        hammer(Below::Tcp, queued, seed, 150);
        hammer(Below::Tcp, |n| n, seed, 150);
    }
}

#[test]
fn every_op_ends_once_over_loop() {
    for seed in seeds(8) {
        hammer(Below::Loop, framed, seed, 150);
        hammer(Below::Loop, queued, seed, 150);
        hammer(Below::Loop, |n| n, seed, 150);
    }
}

#[test]
fn every_op_ends_once_on_an_engine_its_users_turn() {
    for seed in seeds(8) {
        hammer(Below::OwnedTcp, framed, seed, 150);
        hammer(Below::OwnedTcp, queued, seed, 150);
        hammer(Below::OwnedTcp, |n| n, seed, 150);
    }
}

#[test]
fn every_op_ends_once_in_a_simulated_network() {
    for seed in seeds(8) {
        hammer(Below::Sim, framed, seed, 150);
        hammer(Below::Sim, queued, seed, 150);
        hammer(Below::Sim, |n| n, seed, 150);
    }
}
