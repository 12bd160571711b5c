//! What the rules of the contract found, each in its smallest form.
#![cfg(all(feature = "tcp", feature = "loop", feature = "frame", feature = "queue"))]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::Attr;
use xio_core::buffer::{Piece, Pieces};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::{Close, Flush, Read, Write};
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Contact, Cx, Engine, Error, ErrorKind, Flow, Handle, Level, LevelNode, Op, Stack};
use xio_drivers::{frame, loop_, queue, tcp};

xio_core::options! {
    /// None.
    pub struct Options for "fixture" {}
}
struct Fixture<F>(Info, Intercepts, F);
impl<L: Level + 'static, F: Fn() -> L + Send + Sync + 'static> Driver for Fixture<F> {
    fn info(&self) -> &Info {
        &self.0
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(below[0].caps.clone())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        if role == Role::Handle { self.1 } else { Intercepts::NONE }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new((self.2)()))
    }
}
fn level<L: Level + 'static>(
    sees: Intercepts,
    make: impl Fn() -> L + Send + Sync + 'static,
    below: LevelNode,
) -> LevelNode {
    LevelNode::new(Arc::new(Fixture(Info::new("fixture", Shape::Transform, "x"), sees, make))).over(below)
}
fn world(config: SimConfig) -> (Arc<Sim>, Engine) {
    let sim = Sim::with_config(1, config);
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    (sim, engine)
}
fn pair(engine: &Engine, near: LevelNode, far: LevelNode, at: &str) -> (Handle, Handle) {
    let server = engine.listen(&Stack::new(far).unwrap(), Contact::new(at)).wait().unwrap();
    let a = engine.open(&Stack::new(near).unwrap(), server.contact()).wait().unwrap();
    (a, server.accept().wait().unwrap().open().wait().unwrap())
}

/// 1. C7: a level above sees other pieces on the way up than it passed.
#[test]
fn a_header_is_off_when_a_write_comes_up_above_its_level() {
    struct Looks(Arc<Mutex<Vec<usize>>>);
    impl Level for Looks {
        fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            self.0.lock().unwrap().push(op.len());
            op.pass()
        }
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            self.0.lock().unwrap().push(op.len());
            op.finished()
        }
    }
    let (_sim, engine) = world(SimConfig::calm());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let copy = seen.clone();
    let d = LevelNode::new(loop_::driver());
    let framed = LevelNode::new(frame::driver()).over(d);
    let sees = Intercepts::WRITE | Intercepts::WRITE_DONE;
    let (a, _b) = pair(&engine, level(sees, move || Looks(copy.clone()), framed.clone()), framed, "s");
    a.write(vec![0; 100]).wait().unwrap();
    assert_eq!(*seen.lock().unwrap(), [100, 100]);
}

/// 1b. The same for a read whose level lets an error go up without asking its target back.
#[test]
fn an_own_target_is_gone_when_a_failed_read_comes_up_above_its_level() {
    struct Looks(Arc<Mutex<Vec<(usize, usize)>>>);
    impl Level for Looks {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            self.0.lock().unwrap().push((op.got(), op.room()));
            op.finished()
        }
    }
    struct Takes;
    impl Level for Takes {
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            op.pass_take(8, 8)
        }
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            op.finished()
        }
    }
    let (_sim, engine) = world(SimConfig::calm());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let copy = seen.clone();
    let d = LevelNode::new(loop_::driver());
    let near = level(
        Intercepts::READ_DONE,
        move || Looks(copy.clone()),
        level(Intercepts::READ | Intercepts::READ_DONE, || Takes, d.clone()),
    );
    let (a, b) = pair(&engine, near, d, "s");
    b.write("abc").wait().unwrap();
    b.shutdown().wait().unwrap();
    let f = a.read(BytesMut::with_capacity(20)).wait_for(10).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::Eof, 0));
    assert_eq!(*seen.lock().unwrap(), [(0, 20)]);
}

/// 2. `below()` of a level that put nothing in place takes what the level above had put.
#[test]
fn below_gives_a_level_its_own_target_and_no_others() {
    struct Half;
    impl Level for Half {
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            op.pass_into(BytesMut::with_capacity(4), 1)
        }
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            let below = op.below();
            op.put(&below.buf);
            op.finished()
        }
    }
    struct Asks;
    impl Level for Asks {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            op.below();
            op.finished()
        }
    }
    let (_sim, engine) = world(SimConfig::calm());
    let d = LevelNode::new(loop_::driver());
    let near =
        level(Intercepts::READ | Intercepts::READ_DONE, || Half, level(Intercepts::READ_DONE, || Asks, d.clone()));
    let (a, b) = pair(&engine, near, d, "s");
    b.write("abcd").wait().unwrap();
    assert_eq!(a.read(BytesMut::with_capacity(9)).deadline(Duration::from_secs(1)).wait().unwrap().buf, "abcd");
}

/// 3. C12: callbacks that submit again hold an engine's turn for ever.
#[test]
fn a_busy_handle_lets_another_have_its_turn() {
    fn on(h: Handle, n: Arc<AtomicUsize>) {
        let again = h.clone();
        h.read(BytesMut::with_capacity(1)).then(move |r| {
            if r.is_ok() {
                n.fetch_add(1, Ordering::Relaxed);
                on(again, n)
            }
        });
    }
    let mut worst = 0;
    for seed in 0..6 {
        let sim = Sim::with_config(seed, SimConfig::calm());
        let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
        let t = LevelNode::new(tcp::driver());
        let (a, b) = pair(&engine, t.clone(), t.clone(), "127.0.0.1:7001");
        let (c, d) = pair(&engine, t.clone(), t, "127.0.0.1:7002");
        let n = Arc::new(AtomicUsize::new(0));
        let (seen, copy) = (Arc::new(AtomicUsize::new(0)), n.clone());
        let s = seen.clone();
        c.read(BytesMut::with_capacity(9)).then(move |_| s.store(copy.load(Ordering::Relaxed), Ordering::Relaxed));
        on(a.clone(), n);
        b.write(vec![0; 20_000]).then(|_| ());
        d.write("mine").then(|_| ());
        sim.run(&engine);
        worst = worst.max(seen.load(Ordering::Relaxed));
    }
    assert!(worst <= 1000, "{worst} ops of one handle ended before the other's first");
}

/// 4. C6: a write that times out while it rides with others says that nothing of it went.
#[test]
fn a_rider_that_times_out_says_how_much_is_on_its_way() {
    let (sim, engine) = world(SimConfig::calm().with_buffer(1000));
    let t = LevelNode::new(tcp::driver());
    let (a, b) = pair(&engine, LevelNode::new(queue::driver()).over(t.clone()), t, "127.0.0.1:7001");
    // One is on its way; two wait and will be joined.
    a.write(vec![1; 3000]).then(|_| ());
    a.write(vec![2; 3000]).then(|_| ());
    let told = Arc::new(Mutex::new(None));
    let tell = told.clone();
    a.write(vec![3; 3000])
        .deadline(Duration::from_millis(50))
        .then(move |r| *tell.lock().unwrap() = Some(r.map(|d| d.n).map_err(|f| (f.kind(), f.back.n))));
    // The first goes; the joined ones are stuck until after the deadline.
    let first = b.take(4000).wait_for(3500).wait().unwrap().n;
    sim.run_for(&engine, Duration::from_millis(100));
    a.shutdown().then(|_| ());
    let mut all = first;
    while let Ok(d) = b.take(10_000).wait() {
        all += d.n;
    }
    let said = told.lock().unwrap().take().unwrap().unwrap_or_else(|(_, n)| n);
    assert_eq!(6000 + said, all, "what was said to have gone, and what came");
}

/// 5. C6: a write whose pieces a level replaced says 0 when it is stopped half-way on a stream.
#[test]
fn a_replaced_write_that_is_stopped_says_how_much_went_or_ends_the_stream() {
    struct Mask;
    impl Level for Mask {
        fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            let p: Pieces = op
                .pieces()
                .iter()
                .map(|p| Piece::from(bytes::Bytes::from(p.iter().map(|b| !b).collect::<Vec<_>>())))
                .collect();
            op.pass_with(p)
        }
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            match op.clear_error() {
                Some(e) => op.failed(e),
                None => op.finished(),
            }
        }
    }
    let (_sim, engine) = world(SimConfig::calm().with_buffer(1000));
    let t = LevelNode::new(tcp::driver());
    let (a, b) =
        pair(&engine, level(Intercepts::WRITE | Intercepts::WRITE_DONE, || Mask, t.clone()), t, "127.0.0.1:7001");
    let f = a.write(vec![1; 3000]).deadline(Duration::from_millis(20)).wait().unwrap_err();
    let came = b.take(9000).wait().unwrap().n;
    let next = a.write("next").deadline(Duration::from_secs(1)).wait();
    assert!(f.back.n == came || next.is_err(), "{came} bytes came, {} were reported, and the stream goes on", f.back.n);
}

/// 6. A5: a write that went down in parts succeeds above, though its last part failed below.
#[test]
#[cfg(feature = "fault")]
fn a_write_in_parts_fails_when_its_last_part_failed_with_all_its_bytes_gone() {
    struct FailsTheSecond(usize);
    impl Level for FailsTheSecond {
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            self.0 += 1;
            if self.0 == 2 { op.failed(ErrorKind::Unreachable) } else { op.finished() }
        }
    }
    let (_sim, engine) = world(SimConfig::calm());
    let t = LevelNode::new(tcp::driver());
    let cuts = xio_drivers::fault::Options::default().with_short_write(1.0);
    let near = LevelNode::new(xio_drivers::fault::driver()).with_attr(Box::new(cuts)).over(level(
        Intercepts::WRITE_DONE,
        || FailsTheSecond(0),
        t.clone(),
    ));
    let (a, _b) = pair(&engine, near, t, "127.0.0.1:7001");
    let r = a.write(vec![1; 3000]).wait();
    assert_eq!(r.map(|d| d.n).map_err(|f| f.kind()), Err(ErrorKind::Unreachable));
}

/// 7. A1: of the writes that waited at the gate of a level that was lost, the first kept its place there.
#[test]
fn every_write_that_waits_where_a_message_was_torn_ends() {
    let (sim, engine) = world(SimConfig::calm());
    let narrow = loop_::Options::default().with_buffer(xio_core::attr::Size(64));
    let framed = LevelNode::new(frame::driver()).over(LevelNode::new(loop_::driver()).with_attr(Box::new(narrow)));
    let (a, b) = pair(&engine, framed.clone(), framed, "torn");
    let told = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..4 {
        let tell = told.clone();
        a.write(vec![1; 200]).then(move |r| tell.lock().unwrap().push(r.map(|d| d.n).map_err(|f| f.error)));
    }
    b.close().abort().wait().unwrap();
    sim.run(&engine);
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 4);
    for e in told.iter().map(|r| r.as_ref().unwrap_err()) {
        assert_eq!((e.kind(), e.level()), (ErrorKind::Reset, Some("loop")), "{e}");
    }
}

/// 8. B4: a flush that waited for a write below a level was cancelled without coming up through it.
#[test]
fn a_flush_that_is_stopped_comes_up_through_the_levels_it_has_passed() {
    struct Sees(Arc<Mutex<Vec<&'static str>>>);
    impl Level for Sees {
        fn flush<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
            self.0.lock().unwrap().push("flush down");
            op.pass()
        }
        fn flush_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
            self.0.lock().unwrap().push("flush up");
            op.finished()
        }
        fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
            self.0.lock().unwrap().push("close");
            op.pass()
        }
    }
    let (sim, engine) = world(SimConfig::calm().with_buffer(500));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let copy = seen.clone();
    let t = LevelNode::new(tcp::driver());
    let sees = Intercepts::FLUSH | Intercepts::FLUSH_DONE | Intercepts::CLOSE;
    let (a, _b) = pair(&engine, level(sees, move || Sees(copy.clone()), t.clone()), t, "127.0.0.1:7001");
    a.write(vec![1; 3000]).then(|_| ());
    a.flush().then(|r| assert_eq!(r.map_err(|e| e.kind()), Err(ErrorKind::Cancelled)));
    sim.run(&engine);
    a.close().abort().wait().unwrap();
    assert_eq!(*seen.lock().unwrap(), ["flush down", "flush up", "close"]);
}

/// 9. C6: what had gone of a write that ended before its level saw it again was booked to the next one.
#[test]
#[cfg(feature = "fault")]
fn what_went_of_a_stopped_write_in_parts_is_not_booked_to_the_next() {
    /// Fails the write it is told to, when that comes in a second time.
    struct Stops(Box<dyn Level>, usize);
    impl Level for Stops {
        fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            self.1 += 1;
            if self.1 == 2 { op.failed(ErrorKind::Unreachable) } else { self.0.write(cx, op) }
        }
        fn own_write_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            self.0.own_write_done(cx, op)
        }
    }
    struct Around(Arc<dyn Driver>);
    impl Driver for Around {
        fn info(&self) -> &Info {
            self.0.info()
        }
        fn attr(&self) -> Box<dyn Attr> {
            self.0.attr()
        }
        fn needs(&self, attr: &dyn Attr) -> Needs {
            self.0.needs(attr)
        }
        fn caps(&self, attr: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
            self.0.caps(attr, below)
        }
        fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
            Intercepts::WRITE
        }
        fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
            Ok(Box::new(Stops(self.0.level(attr, role)?, 0)))
        }
    }
    let (sim, engine) = world(SimConfig::calm());
    let t = LevelNode::new(tcp::driver());
    let cuts = xio_drivers::fault::Options::default().with_short_write(1.0);
    let near = LevelNode::new(Arc::new(Around(xio_drivers::fault::driver()))).with_attr(Box::new(cuts)).over(t.clone());
    let (a, b) = pair(&engine, near, t, "127.0.0.1:7001");
    let first = a.write(vec![1; 300]).wait();
    assert_eq!(first.map_err(|f| f.kind()).err(), Some(ErrorKind::Unreachable));
    let came = b.take(9000).wait().unwrap().n;
    assert_eq!(a.write(vec![2; 20]).wait().map(|d| d.n).unwrap(), 20);
    sim.run(&engine);
    let mut rest = Vec::new();
    while rest.len() < 20 {
        rest.extend_from_slice(&b.take(9000).deadline(Duration::from_secs(1)).wait().unwrap().into_bytes());
    }
    assert!(came < 300);
    assert_eq!(rest, [2; 20]);
}
