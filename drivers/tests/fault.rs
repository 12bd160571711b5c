//! `fault` in virtual time: each fault alone, what they leave whole, and that a seed says it all.
#![cfg(all(feature = "fault", feature = "void", feature = "loop", feature = "queue", feature = "frame"))]

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use xio_core::attr::Size;
use xio_core::io::Direction;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::fault::{self, Options};
use xio_drivers::{frame, loop_, queue, void};

fn world() -> (Arc<Sim>, Engine) {
    let sim = Sim::with_config(1, SimConfig::calm());
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    (sim, engine)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn seed(n: i64) -> Options {
    Options::default().with_seed(n)
}

fn on(o: Options, words: &[&str]) -> Options {
    o.with_on(words.iter().map(|w| (*w).to_owned()).collect())
}

fn level(options: Options) -> LevelNode {
    LevelNode::new(fault::driver()).with_attr(Box::new(options))
}

fn leaf(message: bool) -> LevelNode {
    let o = loop_::Options::default().with_message(message).with_buffer(Size(1 << 20));
    // Ends meet only where they are of one driver.
    static DRIVER: OnceLock<Arc<dyn xio_core::Driver>> = OnceLock::new();
    LevelNode::new(DRIVER.get_or_init(loop_::driver).clone()).with_attr(Box::new(o))
}

/// A pair whose near end has faults.
fn pair(engine: &Engine, options: Options, message: bool) -> (Handle, Handle) {
    let server = engine.listen(&Stack::new(leaf(message)).unwrap(), ()).wait().unwrap();
    let top = Stack::new(level(options).over(leaf(message))).unwrap();
    let near = engine.open(&top, server.contact()).wait().unwrap();
    (near, server.accept().wait().unwrap().open().wait().unwrap())
}

fn refused(options: Options, below: LevelNode) -> String {
    Stack::new(level(options).over(below)).unwrap_err().iter().map(ToString::to_string).collect()
}

fn took<T>(sim: &Sim, f: impl FnOnce() -> T) -> (T, Duration) {
    let began = sim.time();
    let out = f();
    (out, sim.time().since(began))
}

fn writes(h: &Handle, n: usize) -> Vec<Result<(), ErrorKind>> {
    (0..n).map(|i| h.write(vec![i as u8]).wait().map(drop).map_err(|f| f.kind())).collect()
}

fn numbers(h: &Handle, n: usize) -> Vec<u8> {
    (0..n).map(|_| h.take(9).deadline(ms(100)).wait().unwrap().into_bytes()[0]).collect()
}

fn rest(h: &Handle) -> Vec<Bytes> {
    std::iter::from_fn(|| h.take(1 << 20).deadline(ms(100)).wait().ok().map(|d| d.into_bytes())).collect()
}

fn outcome<T: Send + 'static>() -> (mpsc::Sender<T>, Receiver<T>) {
    mpsc::channel()
}

#[test]
fn without_faults_it_is_not_there() {
    let (sim, engine) = world();
    for message in [true, false] {
        let (near, far) = pair(&engine, seed(3), message);
        near.write("hello").wait().unwrap();
        assert_eq!(far.take(9).wait().unwrap().into_bytes(), "hello");
        far.write("back").wait().unwrap();
        assert_eq!(near.take(9).wait().unwrap().into_bytes(), "back");
        near.close().wait().unwrap();
    }
    assert_eq!(sim.time().as_nanos(), 0);
}

#[test]
fn what_makes_no_sense_over_what_lies_below_is_refused() {
    for (o, name) in
        [(seed(0).with_loss(0.1), "loss"), (seed(0).with_dup(0.1), "dup"), (seed(0).with_reorder(0.1), "reorder")]
    {
        let text = refused(o.clone(), leaf(false));
        assert!(text.contains(&format!("`{name}` is about whole messages, and there is a stream")), "{text}");
        assert!(text.contains("put `frame` below `fault`"), "{text}");
        Stack::new(level(o.clone()).over(leaf(true))).unwrap();
        Stack::new(level(o).over(LevelNode::new(frame::driver()).over(leaf(false)))).unwrap();
    }
    for (o, name) in [(seed(0).with_short_read(0.1), "short_read"), (seed(0).with_short_write(0.1), "short_write")] {
        let text = refused(o, leaf(true));
        assert!(text.contains(&format!("`{name}` cuts a stream, and there is a message")), "{text}");
    }
    let text = refused(seed(0).with_error_rate(0.5), leaf(true));
    assert!(text.contains("add one, like `error=reset`"), "{text}");
    // What it gives.
    let caps = |o: Options| Stack::new(level(o).over(leaf(true))).unwrap().caps().clone();
    assert!(caps(seed(0).with_corrupt(1.0).with_stall(1.0)).reliable);
    assert!(!caps(seed(0).with_loss(0.1)).reliable && caps(seed(0).with_loss(0.1)).ordered);
    assert!(caps(seed(0).with_reorder(0.1)).reliable && !caps(seed(0).with_reorder(0.1)).ordered);
    assert!(!caps(seed(0).with_dup(0.1)).reliable && !caps(seed(0).with_dup(0.1)).ordered);
}

#[test]
fn errors_fall_on_their_part_of_the_ops_and_move_nothing() {
    let (_, engine) = world();
    let o = seed(5).with_error(Some("refused".into())).with_error_rate(0.3);
    let (near, far) = pair(&engine, on(o, &["write"]), true);
    let got = writes(&near, 100);
    let failed = got.iter().filter(|r| **r == Err(ErrorKind::Refused)).count();
    assert!((15..45).contains(&failed) && got.iter().flatten().count() == 100 - failed);
    let whole: Vec<u8> = (0..100).filter(|i| got[*i as usize].is_ok()).collect();
    assert_eq!(numbers(&far, whole.len()), whole);
    assert!(rest(&far).is_empty());
    // Reads fail without taking anything.
    let o = seed(5).with_error(Some("io".into())).with_error_rate(0.5);
    let (near, far) = pair(&engine, on(o, &["read"]), true);
    writes(&far, 20);
    let mut came = Vec::new();
    while came.len() < 20 {
        match near.take(9).wait() {
            Ok(d) => came.push(d.into_bytes()[0]),
            Err(f) => {
                assert_eq!((f.kind(), f.back.n), (ErrorKind::Io, 0));
                assert!(f.to_string().contains("a fault of seed 5, read "), "{f}");
            }
        }
    }
    assert!(came.into_iter().eq(0..20));
}

#[test]
fn every_kind_of_op_can_fail() {
    let (_, engine) = world();
    let broken = |word: &str| on(seed(1).with_error(Some("protocol".into())), &[word]);
    let protocol = |r: Result<(), xio_core::Error>| {
        let e = r.unwrap_err();
        assert_eq!((e.kind(), e.driver()), (ErrorKind::Protocol, Some("fault")), "{e}");
    };
    let over = |o: Options| Stack::new(level(o).over(leaf(false))).unwrap();
    let server = engine.listen(&over(Options::default()), ()).wait().unwrap();
    protocol(engine.open(&over(broken("open")), server.contact()).wait().map(drop));
    protocol(engine.listen(&over(broken("listen")), ()).wait().map(drop));
    assert_eq!(engine.handles(), 1);
    let stack = over(broken("accept"));
    let server = engine.listen(&stack, ()).wait().unwrap();
    protocol(server.accept().wait().map(drop));
    let (near, far) = pair(&engine, broken("flush"), false);
    protocol(near.flush().wait());
    near.write("x").wait().unwrap();
    let (near, _far) = pair(&engine, broken("shutdown"), false);
    protocol(near.shutdown().wait());
    let (near, far2) = pair(&engine, broken("close"), false);
    near.write("y").wait().unwrap();
    protocol(near.close().wait());
    // What lies below is closed all the same.
    assert_eq!(rest(&far2), ["y"]);
    assert_eq!(far2.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
    drop((near, far));
}

#[test]
fn the_first_ops_are_left_alone() {
    let (_, engine) = world();
    let o = on(seed(1).with_error(Some("reset".into())).with_after(3), &["write"]);
    let (near, _far) = pair(&engine, o, true);
    let want = [Ok(()), Ok(()), Ok(()), Err(ErrorKind::Reset), Err(ErrorKind::Reset)];
    assert_eq!(writes(&near, 5), want);
}

#[test]
fn messages_are_lost_doubled_and_overtaken_whole() {
    let (_, engine) = world();
    let sorted = |mut v: Vec<u8>| {
        v.sort_unstable();
        v
    };
    let all = |far: &Handle| rest(far).iter().map(|b| b[0]).collect::<Vec<_>>();
    // Written ones.
    let (near, far) = pair(&engine, seed(1).with_loss(0.4), true);
    assert!(writes(&near, 100).iter().all(Result::is_ok));
    let came = all(&far);
    assert!((40..80).contains(&came.len()) && came.is_sorted() && came.windows(2).all(|w| w[0] < w[1]), "{came:?}");
    let (near, far) = pair(&engine, seed(1).with_dup(0.4), true);
    writes(&near, 100);
    let came = all(&far);
    assert!((120..160).contains(&came.len()) && came.is_sorted(), "{came:?}");
    assert!((0..100).all(|i| matches!(came.iter().filter(|n| **n == i).count(), 1 | 2)));
    let (near, far) = pair(&engine, seed(1).with_reorder(0.3), true);
    writes(&near, 100);
    near.flush().wait().unwrap();
    let came = all(&far);
    assert!(!came.is_sorted() && sorted(came.clone()).into_iter().eq(0..100), "{came:?}");
    // Read ones.
    let (near, far) = pair(&engine, seed(1).with_loss(0.4), true);
    writes(&far, 100);
    let came = all(&near);
    assert!((40..80).contains(&came.len()) && came.windows(2).all(|w| w[0] < w[1]), "{came:?}");
    let (near, far) = pair(&engine, seed(1).with_dup(1.0), true);
    writes(&far, 10);
    assert_eq!(near.take(9).wait().unwrap().into_bytes(), vec![0]);
    near.ready(Direction::Read).deadline(ms(1)).wait().unwrap();
    let came = all(&near);
    assert!(came.into_iter().eq((0..10).flat_map(|i| [i, i]).skip(1)));
    // A copy that does not fit is a message too.
    far.write("abcdef").wait().unwrap();
    near.take(9).wait().unwrap();
    let e = near.read(BytesMut::with_capacity(4)).wait().unwrap_err();
    assert_eq!((e.kind(), &e.back.buf[..]), (ErrorKind::Truncated { len: 6 }, &b"abcd"[..]));
    assert_eq!(near.take(9).wait().unwrap().into_bytes(), "ef");
}

#[test]
fn a_message_that_nothing_overtakes_comes_all_the_same() {
    let (sim, engine) = world();
    let (near, far) = pair(&engine, seed(1).with_reorder(1.0), true);
    near.write("a").wait().unwrap();
    assert_eq!(took(&sim, || far.take(9).wait().unwrap().into_bytes()), ("a".into(), ms(20)));
    for word in ["b", "c", "d"] {
        near.write(word).wait().unwrap();
    }
    assert_eq!(rest(&far), ["c", "b", "d"]);
    near.write("e").wait().unwrap();
    near.close().wait().unwrap();
    assert_eq!(rest(&far), ["e"]);
}

#[test]
fn a_reader_who_loses_everything_lets_others_live() {
    let (sim, engine) = world();
    let below = LevelNode::new(void::driver()).with_attr(Box::new(void::Options::default().with_message(true)));
    let stack = Stack::new(level(seed(1).with_loss(1.0)).over(below)).unwrap();
    let h = engine.open(&stack, ()).wait().unwrap();
    let (e, t) = took(&sim, || h.take(100).deadline(ms(50)).wait().unwrap_err());
    assert_eq!((e.kind(), t), (ErrorKind::TimedOut, ms(50)));
    h.close().deadline(ms(50)).wait().unwrap();
}

#[test]
fn one_bit_is_changed_and_the_writers_bytes_are_not() {
    let (_, engine) = world();
    let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum::<u32>();
    for message in [true, false] {
        let (near, far) = pair(&engine, seed(2).with_corrupt(1.0), message);
        let data = vec![0x55; 1000];
        let done = near.write(data.clone()).wait().unwrap();
        assert_eq!((done.n, &*done.pieces[0]), (1000, &data[..]));
        let got = far.take(2000).wait().unwrap().into_bytes();
        assert_eq!((got.len(), differ(&got, &data)), (1000, 1));
        far.write(data.clone()).wait().unwrap();
        let mut buf = [0; 2000];
        assert_eq!(near.read_into(&mut buf).wait().unwrap(), 1000);
        assert_eq!(differ(&buf[..1000], &data), 1);
        near.write("").wait().unwrap();
    }
}

#[test]
fn a_stream_that_is_cut_loses_nothing() {
    let (_, engine) = world();
    let data: Vec<u8> = (0..200_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    for s in 0..20 {
        let (near, far) = pair(&engine, seed(s).with_short_read(0.7).with_short_write(0.7), false);
        for part in data.chunks(3000) {
            assert_eq!(near.write_from(part).wait().unwrap(), part.len());
        }
        near.shutdown().wait().unwrap();
        let mut all = BytesMut::new();
        while let Ok(d) = far.take(1 << 20).wait() {
            all.extend_from_slice(&d.into_bytes());
        }
        assert!(all == data);
        far.write(data.clone()).wait().unwrap();
        let (mut short, mut all) = (0, BytesMut::new());
        while all.len() < data.len() {
            let left = data.len() - all.len();
            // `wait_for` holds, however short a step is.
            let least = if all.len() % 3 == 0 { left.min(500) } else { 1 };
            let d = near.take(5000).wait_for(least).wait().unwrap();
            assert!(d.n >= least);
            short += u32::from(d.n < left.min(5000));
            all.extend_from_slice(&d.into_bytes());
        }
        assert!(all == data && short > 5, "{short} short reads");
    }
}

#[test]
fn delays_add_to_each_op_and_take_nothing_from_many() {
    let (sim, engine) = world();
    let o = || on(seed(1).with_delay(vec![ms(30)]), &["write"]);
    let (near, far) = pair(&engine, o(), true);
    assert_eq!(took(&sim, || near.write("a").wait().unwrap().n), (1, ms(30)));
    assert_eq!(took(&sim, || writes(&near, 3)).1, ms(90));
    let (tx, rx) = outcome();
    let ((), t) = took(&sim, || {
        for i in 0..20u8 {
            let tx = tx.clone();
            near.write(vec![i]).then(move |r| tx.send(r.map(|_| i)).unwrap());
        }
        // A flush goes behind them.
        near.flush().wait().unwrap();
    });
    assert_eq!((t, rx.try_iter().flatten().count()), (ms(30), 20));
    assert!(rest(&far).iter().skip(4).map(|b| b[0]).eq(0..20));
    // Each its own time, and none overtakes another.
    let (near, far) = pair(&engine, on(seed(1).with_delay(vec![ms(5), ms(50)]), &["write"]), true);
    let times: Vec<_> = (0..30).map(|_| took(&sim, || writes(&near, 1)).1).collect();
    assert!(times.iter().all(|t| (ms(5)..=ms(50)).contains(t)) && times.iter().any(|t| *t < ms(15)));
    assert!(times.iter().any(|t| *t > ms(40)));
    rest(&far);
    for i in 0..30u8 {
        near.write(vec![i]).then(|r| drop(r.unwrap()));
    }
    near.shutdown().wait().unwrap();
    assert!(rest(&far).iter().map(|b| b[0]).eq(0..30));
    // Reads and the rest.
    let o = on(seed(1).with_delay(vec![ms(7)]), &["read", "open", "flush", "shutdown", "close"]);
    let ((near, far), t) = took(&sim, || pair(&engine, o, true));
    assert_eq!(t, ms(7));
    far.write("x").wait().unwrap();
    assert_eq!(took(&sim, || near.take(9).wait().unwrap().n), (1, ms(7)));
    assert_eq!(took(&sim, || near.flush().wait().unwrap()), ((), ms(7)));
    assert_eq!(took(&sim, || near.shutdown().wait().unwrap()), ((), ms(7)));
    assert_eq!(took(&sim, || near.close().wait().unwrap()), ((), ms(7)));
}

#[test]
fn delayed_ops_can_be_stopped_and_lose_nothing() {
    let (sim, engine) = world();
    let (near, far) = pair(&engine, seed(1).with_delay(vec![ms(30)]), true);
    let (tx, rx) = outcome();
    let tickets: Vec<_> = (0..5u8)
        .map(|i| {
            let tx = tx.clone();
            near.write(vec![i]).then(move |r| tx.send((i, r.map_err(|f| f.kind()).map(drop))).unwrap())
        })
        .collect();
    sim.run_for(&engine, ms(10));
    tickets[0].cancel();
    tickets[2].cancel();
    sim.run_for(&engine, ms(21));
    let mut got: Vec<_> = rx.try_iter().collect();
    got.sort_unstable_by_key(|(i, _)| *i);
    let c = Err(ErrorKind::Cancelled);
    assert_eq!(got, [(0, c), (1, Ok(())), (2, c), (3, Ok(())), (4, Ok(()))]);
    assert_eq!(numbers(&far, 3), [1, 3, 4]);
    far.write("x").wait().unwrap();
    let e = near.take(9).deadline(ms(10)).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::TimedOut, 0));
    assert_eq!(near.take(9).wait().unwrap().into_bytes(), "x");
}

#[test]
fn a_stalled_op_ends_with_a_cancel_a_deadline_or_a_close() {
    let (sim, engine) = world();
    let (near, far) = pair(&engine, on(seed(1).with_stall(1.0).with_after(1), &["write", "read"]), true);
    writes(&near, 1);
    let (e, t) = took(&sim, || near.write("b").deadline(ms(500)).wait().unwrap_err());
    assert_eq!((e.kind(), e.back.n, t), (ErrorKind::TimedOut, 0, ms(500)));
    let (tx, rx) = outcome();
    let (tx2, tx3) = (tx.clone(), tx.clone());
    let ticket = near.write("c").then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    near.write("d").then(move |r| tx2.send(r.unwrap_err().kind()).unwrap());
    sim.run_for(&engine, ms(100));
    ticket.cancel();
    sim.run_for(&engine, ms(100));
    assert_eq!(rx.try_recv().unwrap(), ErrorKind::Cancelled);
    far.write("x").wait().unwrap();
    near.take(1).wait().unwrap();
    assert_eq!(numbers(&far, 1), [0]);
    near.take(1).then(move |r| tx3.send(r.unwrap_err().kind()).unwrap());
    sim.run_for(&engine, ms(100));
    assert!(rx.try_recv().is_err());
    // A graceful close waits for the write until its own time is over.
    let (_, t) = took(&sim, || near.close().deadline(ms(1000)).wait());
    assert_eq!(t, ms(1000));
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [ErrorKind::Cancelled; 2]);
    assert!(rest(&far).is_empty());
    // An open that never goes on is not left over.
    let stack = Stack::new(level(on(seed(1).with_stall(1.0), &["open"])).over(leaf(true))).unwrap();
    let server = engine.listen(&Stack::new(leaf(true)).unwrap(), ()).wait().unwrap();
    let e = engine.open(&stack, server.contact()).deadline(ms(10)).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
}

#[test]
fn after_so_many_bytes_or_ops_everything_is_reset() {
    let (_, engine) = world();
    let reset_after = |n: u64| seed(0).with_reset_after(Some(Size(n)));
    // On a stream to the byte, in either direction.
    let (near, far) = pair(&engine, reset_after(1000), false);
    near.write(vec![1; 400]).wait().unwrap();
    let e = near.write(vec![2; 700]).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::Reset, 600));
    assert!(e.to_string().contains("a fault: 1000 bytes had passed"), "{e}");
    for _ in 0..2 {
        assert_eq!(near.write("x").wait().unwrap_err().kind(), ErrorKind::Reset);
        assert_eq!(near.take(1).wait().unwrap_err().kind(), ErrorKind::Reset);
    }
    assert_eq!(far.take(5000).wait_for(1000).wait().unwrap().n, 1000);
    near.close().wait().unwrap();
    let (near, far) = pair(&engine, reset_after(1000), false);
    far.write(vec![1; 3000]).wait().unwrap();
    assert_eq!(near.take(600).wait_for(600).wait().unwrap().n, 600);
    let e = near.take(600).wait_for(600).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::Reset, 400));
    // Messages that would go beyond are gone.
    let (near, far) = pair(&engine, reset_after(1000), true);
    near.write(vec![1; 999]).wait().unwrap();
    let e = near.write(vec![1; 2]).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::Reset, 0));
    assert_eq!(rest(&far).len(), 1);
    let (near, far) = pair(&engine, reset_after(5), true);
    far.write("123").wait().unwrap();
    far.write("456").wait().unwrap();
    assert_eq!(near.take(9).wait().unwrap().n, 3);
    let e = near.take(9).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::Reset, 0));
    // Ops.
    let (near, far) = pair(&engine, seed(0).with_reset_after_ops(Some(3)), true);
    far.write("x").wait().unwrap();
    near.write("a").wait().unwrap();
    near.take(1).wait().unwrap();
    near.write("b").wait().unwrap();
    let e = near.take(1).wait().unwrap_err();
    assert!(e.kind() == ErrorKind::Reset && e.to_string().contains("3 reads and writes had passed"), "{e}");
    assert_eq!(near.write("c").wait().unwrap_err().kind(), ErrorKind::Reset);
    // What is outstanding goes too.
    let (near, _far) = pair(&engine, reset_after(1), false);
    let (tx, rx) = outcome();
    near.take(1).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    assert_eq!(near.write("ab").wait().unwrap_err().kind(), ErrorKind::Reset);
    assert_eq!(rx.try_recv().unwrap(), ErrorKind::Reset);
}

#[test]
fn levels_stack_and_a_frame_above_a_cut_stream_is_whole() {
    let (_, engine) = world();
    let cut = seed(9).with_short_read(0.8).with_short_write(0.8);
    let frames = |below| LevelNode::new(frame::driver()).over(below);
    let server = engine.listen(&Stack::new(frames(leaf(false))).unwrap(), ()).wait().unwrap();
    let top = LevelNode::new(queue::driver())
        .over(frames(level(cut.clone().with_seed(8)).over(level(cut).over(leaf(false)))));
    let near = engine.open(&Stack::new(top).unwrap(), server.contact()).wait().unwrap();
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    for i in 0..100usize {
        let message = vec![i as u8; i * 97];
        near.write(message.clone()).wait().unwrap();
        assert_eq!(far.take(1 << 20).wait().unwrap().into_bytes(), message);
        far.write(message.clone()).wait().unwrap();
        assert_eq!(near.take(1 << 20).wait().unwrap().into_bytes(), message);
    }
}

/// One run: what becomes of writes and reads, with other things going on in between.
fn run(o: Options, sizes: &[usize], noisy: bool) -> Vec<String> {
    let (sim, engine) = world();
    let (near, far) = pair(&engine, o, true);
    let mut log = Vec::new();
    for (i, n) in sizes.iter().enumerate() {
        let data: Vec<u8> = (0..*n).map(|j| (i * 31 + j) as u8).collect();
        if noisy && i % 3 == 0 {
            sim.run_for(&engine, ms(7));
        }
        let w = near.write(data.clone()).deadline(ms(500)).wait();
        log.push(format!("{:?}", w.map(|d| d.n).map_err(|f| f.kind())));
        far.write(data).wait().unwrap();
        if noisy {
            near.ready(Direction::Write).deadline(ms(1)).wait().ok();
        }
        let r = near.take(1 << 20).deadline(ms(500)).wait();
        log.push(format!("{:?}", r.map(|d| d.into_bytes()).map_err(|f| f.kind())));
    }
    near.flush().deadline(ms(500)).wait().ok();
    log.extend(rest(&far).iter().map(|b| format!("{b:?}")));
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_seed_and_the_ops_say_it_all(
        s in 0i64..1000,
        sizes in prop::collection::vec(0usize..300, 1..30),
        parts in prop::collection::vec(0.0f64..0.5, 5),
    ) {
        let o = seed(s)
            .with_loss(parts[0])
            .with_dup(parts[1])
            .with_corrupt(parts[2])
            .with_stall(parts[3] / 4.0)
            .with_error(Some("io".into()))
            .with_error_rate(parts[4] / 2.0)
            .with_delay(vec![ms(0), ms(9)]);
        let first = run(o.clone(), &sizes, false);
        prop_assert_eq!(&first, &run(o.clone(), &sizes, false));
        prop_assert_eq!(&first, &run(o, &sizes, true), "time passed in between");
    }

    #[test]
    fn whatever_is_delivered_was_written(
        s in 0i64..1000,
        n in 1usize..60,
        loss in 0.0f64..0.6,
        dup in 0.0f64..0.6,
        reorder in 0.0f64..0.6,
    ) {
        let (_, engine) = world();
        let (near, far) = pair(&engine, seed(s).with_loss(loss).with_dup(dup).with_reorder(reorder), true);
        prop_assert!(writes(&near, n).iter().all(Result::is_ok));
        near.close().wait().unwrap();
        let came: Vec<u8> = rest(&far).iter().map(|b| b[0]).collect();
        for i in 0..u8::try_from(n).unwrap() {
            let times = came.iter().filter(|c| **c == i).count();
            prop_assert!(times <= 2 && (times >= 1 || loss > 0.0) && (times <= 1 || dup > 0.0));
        }
        prop_assert!(came.iter().all(|c| usize::from(*c) < n));
    }
}
