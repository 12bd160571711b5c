//! `rate` in virtual time: how long bytes take, to the nanosecond, and what becomes of those who wait.
#![cfg(all(feature = "rate", feature = "void", feature = "loop", feature = "queue", feature = "frame"))]

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use xio_core::attr::{Attr, Rate, Size};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{GetOption, SetOption};
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::io::Direction;
use xio_core::op::Read;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::schema::Value;
use xio_core::{CloseMode, Cx, Engine, Error, ErrorKind, Flow, Handle, Level, LevelNode, Op, Stack};
use xio_drivers::rate::{self, Options};
use xio_drivers::{frame, loop_, queue, void};

fn world() -> (Arc<Sim>, Engine) {
    let sim = Sim::with_config(1, SimConfig::calm().with_horizon(Duration::from_secs(1_000_000)));
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    (sim, engine)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn limit(bytes: u64) -> Options {
    Options::default().with_limit(Some(Rate(bytes)))
}

fn level(options: Options) -> LevelNode {
    LevelNode::new(rate::driver()).with_attr(Box::new(options))
}

/// Over `void`, which takes and gives anything at once.
fn over_void(engine: &Engine, options: Options, message: bool) -> Handle {
    let below = LevelNode::new(void::driver()).with_attr(Box::new(void::Options::default().with_message(message)));
    engine.open(&Stack::new(level(options).over(below)).unwrap(), ()).max_bytes(1 << 30).wait().unwrap()
}

/// A pair whose near end is limited.
fn pair(engine: &Engine, options: Options, below: loop_::Options) -> (Handle, Handle) {
    let leaf = LevelNode::new(loop_::driver()).with_attr(Box::new(below));
    let server = engine.listen(&Stack::new(leaf.clone()).unwrap(), ()).wait().unwrap();
    let near = engine.open(&Stack::new(level(options).over(leaf)).unwrap(), server.contact()).wait().unwrap();
    (near, server.accept().wait().unwrap().open().wait().unwrap())
}

fn took<T>(sim: &Sim, f: impl FnOnce() -> T) -> (T, Duration) {
    let began = sim.time();
    let out = f();
    (out, sim.time().since(began))
}

type Outcome = Result<usize, (ErrorKind, usize)>;

fn write(h: &Handle, n: usize) -> (xio_core::Ticket, Receiver<Outcome>) {
    let (tx, rx) = mpsc::channel();
    let send = move |r: Result<xio_core::WriteDone, xio_core::Failed<xio_core::WriteDone>>| {
        tx.send(r.map(|d| d.n).map_err(|f| (f.kind(), f.back.n))).unwrap();
    };
    (h.write(vec![7; n]).then(send), rx)
}

#[test]
fn without_a_limit_nothing_waits() {
    let (sim, engine) = world();
    let h = over_void(&engine, Options::default(), false);
    assert_eq!(h.write(vec![0; 10_000_000]).wait().unwrap().n, 10_000_000);
    assert_eq!(h.take(10_000_000).wait_for(10_000_000).wait().unwrap().n, 10_000_000);
    let h = over_void(&engine, Options::default().with_write_limit(Some(Rate(1))), false);
    h.take(1000).wait_for(1000).wait().unwrap();
    assert_eq!(sim.time().as_nanos(), 0);
}

#[test]
fn what_is_longer_than_the_bucket_takes_its_time_to_the_nanosecond() {
    let (sim, engine) = world();
    // A tenth of a second's worth is in the bucket; the rest flows in at the rate.
    for n in [1_000_000, 3_000_007] {
        let h = over_void(&engine, limit(2_000_000), false);
        let want = Duration::from_nanos((n as u64 - 200_000) * 500);
        assert_eq!(took(&sim, || h.write(vec![0; n]).wait().unwrap().n), (n, want));
        let h = over_void(&engine, limit(2_000_000), false);
        assert_eq!(took(&sim, || h.write_from(&vec![0; n]).wait().unwrap()), (n, want));
        let h = over_void(&engine, limit(2_000_000), false);
        assert_eq!(took(&sim, || h.take(n).wait_for(n).wait().unwrap().n), (n, want));
        let mut buf = vec![0; n];
        let h = over_void(&engine, limit(2_000_000), false);
        assert_eq!(took(&sim, || h.read_into(&mut buf).wait_for(n).wait().unwrap()), (n, want));
    }
    // A read that wants little gets little, and no more than the bucket holds.
    let h = over_void(&engine, limit(1000).with_burst(Some(Size(50))), false);
    assert_eq!(took(&sim, || h.take(1000).wait().unwrap().n), (50, ms(0)));
    assert_eq!(took(&sim, || h.take(1000).wait().unwrap().n), (10, ms(10)));
    assert_eq!(took(&sim, || h.take(3).wait().unwrap().n), (3, ms(3)));
    // The directions have a bucket each.
    assert_eq!(took(&sim, || h.write(vec![0; 50]).wait().unwrap().n), (50, ms(0)));
}

#[test]
fn messages_are_never_cut() {
    let (sim, engine) = world();
    let (near, far) =
        pair(&engine, limit(1000).with_burst(Some(Size(100))), loop_::Options::default().with_message(true));
    // The bucket is full, so a longer one goes at once; the next waits until the debt is paid.
    for (len, wait) in [(250, 0), (1, 151), (100, 100), (0, 0), (300, 100), (0, 200)] {
        let ((), t) = took(&sim, || {
            near.write(vec![1; len]).wait().unwrap();
        });
        assert_eq!(t, ms(wait), "{len}");
        assert_eq!(far.take(1000).wait().unwrap().n, len);
    }
    for len in [250usize, 10, 10] {
        far.write(vec![1; len]).wait().unwrap();
    }
    // A reader pays afterwards.
    for (len, wait) in [(250, 0), (10, 151), (10, 10)] {
        let (n, t) = took(&sim, || near.take(1000).wait().unwrap().n);
        assert_eq!((n, t), (len, ms(wait)));
    }
    // One that does not fit is not lost.
    far.write("abcdef").wait().unwrap();
    let e = near.read(BytesMut::with_capacity(4)).wait().unwrap_err();
    assert_eq!((e.kind(), &e.back.buf[..]), (ErrorKind::Truncated { len: 6 }, &b"abcd"[..]));
    assert_eq!(near.take(9).wait().unwrap().into_bytes(), "ef");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_ops_keep_to_the_rate_from_both_sides(
        rate in 1_000u64..10_000_000,
        burst in 1u64..100_000,
        message: bool,
        reads: bool,
        ops in prop::collection::vec(0usize..60_000, 1..20),
    ) {
        let (sim, engine) = world();
        let h = over_void(&engine, limit(rate).with_burst(Some(Size(burst))), message);
        let log = Arc::new(Mutex::new(Vec::new()));
        let began = sim.time();
        for n in &ops {
            let (log, sim) = (log.clone(), sim.clone());
            if reads {
                // Messages of `void` have 64 bytes.
                let n = (*n).max(if message { 64 } else { 1 });
                h.take(n).wait_for(n).then(move |r| log.lock().unwrap().push((r.unwrap().n, sim.time())));
            } else {
                h.write(vec![0; *n]).then(move |r| log.lock().unwrap().push((r.unwrap().n, sim.time())));
            }
        }
        sim.run(&engine);
        let log = log.lock().unwrap();
        let wanted = ops.iter().map(|n| match (reads, message) {
            (true, true) => 64,
            (true, false) => (*n).max(1),
            (false, _) => *n,
        });
        prop_assert!(log.iter().map(|(n, _)| *n).eq(wanted), "in order, whole");
        let longest = if message { ops.iter().copied().max().unwrap_or(0).max(64) } else { 0 } as u128;
        let mut passed = 0u128;
        for (i, (n, at)) in log.iter().enumerate() {
            passed += *n as u128;
            let t = u128::from(u64::try_from(at.since(began).as_nanos()).unwrap());
            // Never more than the bucket and what flowed in, but for one message.
            let flowed = u128::from(rate) * t;
            prop_assert!(passed * 1_000_000_000 <= (u128::from(burst) + longest) * 1_000_000_000 + flowed);
            // And no idling: what is short of that is a bucket, and the last nanosecond of each wait, of which
            // an op has one, and one for each part of it, which is at least half of what ten milliseconds let by.
            let waits = i as u128 + 1 + passed * 200 / u128::from(rate);
            prop_assert!(flowed <= (passed + u128::from(burst)) * 1_000_000_000 + waits * u128::from(rate));
        }
    }
}

#[test]
fn a_deadline_tells_what_had_gone() {
    let (sim, engine) = world();
    let (near, far) = pair(&engine, limit(1_000_000), loop_::Options::default().with_buffer(Size(1 << 20)));
    let (e, t) = took(&sim, || near.write(vec![7; 900_000]).deadline(ms(255)).wait().unwrap_err());
    // The bucket, and one part every ten milliseconds.
    assert_eq!((e.kind(), e.back.n, t), (ErrorKind::TimedOut, 100_000 + 250_000, ms(255)));
    near.shutdown().wait().unwrap();
    assert_eq!(far.take(1 << 20).wait_for(350_001).wait().unwrap_err().back.n, 350_000);
}

#[test]
fn a_write_whose_part_is_stuck_below_ends_with_what_went_of_it() {
    let (sim, engine) = world();
    let (near, far) = pair(&engine, limit(1_000_000), loop_::Options::default().with_buffer(Size(1000)));
    let (ticket, rx) = write(&near, 150_000);
    let (_, second) = write(&near, 10);
    sim.run_for(&engine, ms(500));
    assert!(rx.try_recv().is_err());
    ticket.cancel();
    sim.run_for(&engine, ms(1));
    assert_eq!(rx.try_recv().unwrap(), Err((ErrorKind::Cancelled, 1000)));
    assert_eq!(far.take(5000).wait().unwrap().n, 1000);
    // And the next has its turn.
    assert_eq!(far.take(5000).wait().unwrap().n, 10);
    assert_eq!(second.try_recv().unwrap(), Ok(10));
    // The same by deadline, and with the peer gone.
    let (e, _) = took(&sim, || near.write(vec![7; 500_000]).deadline(ms(100)).wait().unwrap_err());
    assert_eq!((e.kind(), e.back.n), (ErrorKind::TimedOut, 1000));
    let (_, rx) = write(&near, 500_000);
    sim.run_for(&engine, ms(100));
    far.close().abort().wait().unwrap();
    sim.run(&engine);
    assert_eq!(rx.try_recv().unwrap(), Err((ErrorKind::Reset, 0)));
}

#[test]
fn those_who_wait_keep_their_order_and_can_be_stopped() {
    let (sim, engine) = world();
    let h = over_void(&engine, limit(1000), false);
    h.write(vec![0; 100]).wait().unwrap();
    let (a, first) = write(&h, 10);
    let (b, second) = write(&h, 10);
    let (_, third) = write(&h, 10);
    let (tx, flushed) = mpsc::channel();
    h.flush().then(move |r| tx.send(r).unwrap());
    b.cancel();
    sim.run_for(&engine, ms(9));
    assert_eq!(second.try_recv().unwrap(), Err((ErrorKind::Cancelled, 0)));
    assert!(first.try_recv().is_err());
    a.cancel();
    sim.run_for(&engine, ms(1));
    assert_eq!(first.try_recv().unwrap(), Err((ErrorKind::Cancelled, 0)));
    // What the first would have taken is there for the third.
    assert_eq!(third.try_recv().unwrap(), Ok(10));
    sim.run_for(&engine, ms(1));
    flushed.try_recv().unwrap().unwrap();
    // Reads too.
    h.take(100).wait_for(100).wait().unwrap();
    let e = h.take(10).wait_for(10).deadline(ms(5)).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::TimedOut, 0));
    assert_eq!(took(&sim, || h.take(10).wait_for(10).wait().unwrap().n), (10, ms(5)));
}

#[test]
fn a_flush_a_shutdown_and_a_close_go_behind_what_waits() {
    let (sim, engine) = world();
    let (near, far) = pair(&engine, limit(1000), loop_::Options::default());
    let (_, rx) = write(&near, 1100);
    let ((), t) = took(&sim, || near.flush().wait().unwrap());
    assert_eq!((rx.try_recv(), t), (Ok(Ok(1100)), ms(1000)));
    let (_, rx) = write(&near, 500);
    let (e, t) = took(&sim, || near.flush().deadline(ms(100)).wait().unwrap_err());
    assert_eq!((e.kind(), t), (ErrorKind::TimedOut, ms(100)));
    near.shutdown().wait().unwrap();
    assert_eq!(rx.try_recv().unwrap(), Ok(500));
    assert_eq!(far.take(5000).wait_for(1601).wait().unwrap_err().back.n, 1600);
    let (near, far) = pair(&engine, limit(1000), loop_::Options::default());
    let (_, rx) = write(&near, 600);
    let ((), t) = took(&sim, || near.close().wait().unwrap());
    assert_eq!((rx.try_recv(), t), (Ok(Ok(600)), ms(500)));
    assert_eq!(far.take(5000).wait_for(601).wait().unwrap_err().back.n, 600);
    // An abort does not wait.
    let (near, _far) = pair(&engine, limit(1000), loop_::Options::default());
    let (_, rx) = write(&near, 600);
    let ((), t) = took(&sim, || near.close().mode(CloseMode::Abort).wait().unwrap());
    assert_eq!((rx.try_recv(), t), (Ok(Err((ErrorKind::Cancelled, 100))), ms(0)));
}

#[test]
fn limits_change_for_those_who_wait_too() {
    let (sim, engine) = world();
    let h = over_void(&engine, limit(1000), false);
    let set = |name: &str, v: Value| h.query(SetOption(name.into(), v));
    let (_, rx) = write(&h, 1100);
    sim.run_for(&engine, ms(500));
    set("write_limit", Value::Rate(10_000)).unwrap();
    let (n, t) = took(&sim, || {
        sim.run(&engine);
        rx.try_recv().unwrap()
    });
    assert_eq!((n, t), (Ok(1100), ms(50)));
    assert_eq!(h.query(GetOption("write_limit".into())).unwrap(), Some(Value::Rate(10_000)));
    assert_eq!(h.query(GetOption("limit".into())).unwrap(), Some(Value::Rate(1000)));
    assert!(set("limit", Value::Rate(0)).unwrap_err().to_string().contains("nothing would ever pass"));
    assert!(set("limit", Value::Int(1)).is_err());
    assert!(set("burst", Value::Size(0)).is_err());
    assert_eq!(set("nodelay", Value::Bool(true)).unwrap_err().kind(), ErrorKind::UnsupportedCommand);
    set("burst", Value::Size(5000)).unwrap();
    sim.run_for(&engine, Duration::from_secs(1));
    assert_eq!(took(&sim, || h.write(vec![0; 5000]).wait().unwrap().n), (5000, ms(0)));
    // One that had no limit gets one.
    let h = over_void(&engine, Options::default(), false);
    h.write(vec![0; 5000]).wait().unwrap();
    h.query(SetOption("limit".into(), Value::Rate(1000))).unwrap();
    assert_eq!(took(&sim, || h.write(vec![0; 300]).wait().unwrap().n), (300, ms(200)));
}

#[test]
fn readiness_waits_for_the_bucket() {
    let (sim, engine) = world();
    let h = over_void(&engine, limit(1000), false);
    assert_eq!(took(&sim, || h.ready(Direction::Write).wait().unwrap()), ((), ms(0)));
    h.write(vec![0; 100]).wait().unwrap();
    assert_eq!(took(&sim, || h.ready(Direction::Read).wait().unwrap()), ((), ms(0)));
    assert_eq!(took(&sim, || h.ready(Direction::Write).wait().unwrap()), ((), ms(1)));
    h.write(vec![0; 1]).wait().unwrap();
    let (e, t) = took(&sim, || h.ready(Direction::Write).deadline(Duration::from_micros(10)).wait().unwrap_err());
    assert_eq!((e.kind(), t), (ErrorKind::TimedOut, Duration::from_micros(10)));
}

#[test]
fn levels_above_that_join_and_cut_writes_change_nothing() {
    let (sim, engine) = world();
    let leaf =
        LevelNode::new(loop_::driver()).with_attr(Box::new(loop_::Options::default().with_buffer(Size(1 << 20))));
    let frames = |below| LevelNode::new(frame::driver()).over(below);
    let server = engine.listen(&Stack::new(frames(leaf.clone())).unwrap(), ()).wait().unwrap();
    let top = LevelNode::new(queue::driver()).over(frames(level(limit(100_000)).over(leaf)));
    let near = engine.open(&Stack::new(top).unwrap(), server.contact()).wait().unwrap();
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    let (_, t) = took(&sim, || {
        for i in 0..60usize {
            near.write(vec![i as u8; i * 100]).then(|r| drop(r.unwrap()));
        }
        for i in 0..60usize {
            assert_eq!(far.take(1 << 20).wait().unwrap().into_bytes(), vec![i as u8; i * 100]);
        }
    });
    let bytes = (0..60u64).map(|i| i * 100 + 4).sum::<u64>();
    let want = Duration::from_nanos((bytes - 10_000) * 10_000);
    assert_eq!(t, want);
}

xio_core::options! {
    /// It has none.
    pub struct Nothing for "reader" {}
}

/// Reads each message into a buffer of its own first.
struct Reader;

impl xio_core::Driver for Reader {
    fn info(&self) -> &Info {
        const INFO: Info = Info::new("reader", Shape::Transform, "for tests");
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Nothing::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::MESSAGE
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(below[0].caps.clone())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::READ | Intercepts::READ_DONE
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Self))
    }
}

impl Level for Reader {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.pass_into(BytesMut::with_capacity(100), 1)
    }
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let below = op.below();
        op.put(&below.buf);
        op.finished()
    }
}

#[test]
fn a_buffer_that_a_level_above_put_in_place_stays_there() {
    let (_, engine) = world();
    let leaf = LevelNode::new(loop_::driver()).with_attr(Box::new(loop_::Options::default().with_message(true)));
    let server = engine.listen(&Stack::new(leaf.clone()).unwrap(), ()).wait().unwrap();
    let top = LevelNode::new(Arc::new(Reader)).over(level(limit(1000)).over(leaf));
    let near = engine.open(&Stack::new(top).unwrap(), server.contact()).wait().unwrap();
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    for word in ["one", "", "three"] {
        far.write(word).wait().unwrap();
        assert_eq!(near.take(100).wait().unwrap().into_bytes(), word);
    }
}
