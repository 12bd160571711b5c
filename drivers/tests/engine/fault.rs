//! Levels that break the contract: what they do hurts their own handle only, and has a name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use xio_core::cntl::Cntl;
use xio_core::cntl::LocalContact;
use xio_core::driver::Intercepts;
use xio_core::io::Direction;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, OpId, Open, Read, Write};
use xio_core::{Cx, Engine, Error, ErrorKind, Flow, Level, LevelNode, Op};
use xio_drivers::{loop_, null};

use super::desk::Desk;
use super::fixture::{LONG, get, none, open, over_loop, results, room, transform, until};

#[test]
fn a_dropped_token_fails_its_op_and_names_the_driver() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, LevelNode::new(null::driver()).over(desk.node(Intercepts::NONE).with_id("desk")));
    let (reply, rx) = results();
    let r = reply();
    h.read(room(9)).then(move |x| r.send(x.unwrap_err()));
    drop(desk.reads());
    let f = get(&rx);
    assert_eq!((f.kind(), f.error.driver(), f.error.level()), (ErrorKind::Dropped, Some("fixture"), Some("desk")));
    assert!(f.to_string().contains("fixture") && f.to_string().contains("read"), "{f}");
    // A blocking caller too, from another thread.
    let copy = desk.clone();
    let dropper = std::thread::spawn(move || {
        until(|| copy.held() == 1);
        drop(copy.reads());
    });
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Dropped);
    dropper.join().unwrap();
    desk.give("on");
    assert_eq!(h.read(room(9)).wait().unwrap().buf, "on");
}

#[test]
fn a_token_used_in_the_call_that_made_it() {
    /// Lets its token go at once, one way or another.
    struct Rash(u32);
    impl Level for Rash {
        fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            self.0 += 1;
            if self.0 == 4 {
                return op.failed(ErrorKind::Protocol);
            }
            let (held, flow) = op.hold(cx);
            match self.0 {
                1 => drop(held),
                2 => held.fail(ErrorKind::Protocol),
                3 => held.retry(),
                5 => cx.finish(held, Err(ErrorKind::Protocol.into())),
                _ => cx.pass_held(held),
            }
            flow
        }
    }
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, transform(Intercepts::READ, || Rash(0)).over(desk.node(Intercepts::NONE)));
    let read = || h.read(room(9)).deadline(LONG).wait().map(|d| d.buf).map_err(|f| f.kind());
    assert_eq!(read(), Err(ErrorKind::Dropped));
    assert_eq!(read(), Err(ErrorKind::Protocol));
    assert_eq!(read(), Err(ErrorKind::Protocol));
    assert_eq!(read(), Err(ErrorKind::Protocol));
    desk.give("passed");
    assert_eq!(read().unwrap(), "passed");
}

#[test]
fn success_without_a_byte_is_an_error() {
    struct Idle;
    impl Level for Idle {
        fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            let (held, flow) = op.hold(cx);
            cx.finish(held, Ok(()));
            flow
        }
        fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            op.finished_part(0)
        }
    }
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let sees = Intercepts::READ | Intercepts::WRITE;
    let h = open(&engine, transform(sees, || Idle).over(desk.node(Intercepts::NONE)));
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::NoProgress);
    assert_eq!(h.write("x").deadline(LONG).wait().unwrap_err().kind(), ErrorKind::NoProgress);
}

#[test]
fn a_branch_that_is_not_there() {
    struct Lost;
    impl Level for Lost {
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            op.pass_to(7)
        }
        fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            cx.flush(9, 0);
            op.pass()
        }
    }
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let sees = Intercepts::READ | Intercepts::WRITE;
    let h = open(&engine, transform(sees, || Lost).over(desk.node(Intercepts::NONE)));
    assert_eq!(h.read(room(9)).wait().unwrap_err().kind(), ErrorKind::Contract);
    h.write("x").deadline(LONG).wait().unwrap();
}

/// Panics at the chosen place.
struct Bomb {
    at: &'static str,
    timer: Option<xio_core::cx::Timer>,
    dropped: Arc<AtomicU32>,
}

impl Bomb {
    fn reach(&self, at: &str) {
        assert!(self.at != at, "a bomb of the tests, at {at}");
    }
}

impl Level for Bomb {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.reach("open");
        op.pass()
    }
    fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.reach("open_done");
        if self.at == "timer" {
            self.timer = Some(cx.after(std::time::Duration::from_millis(1), 0));
        }
        if self.at == "own_read_done" {
            cx.take(0, 1, 10, 0);
        }
        op.finished()
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.reach("close");
        op.pass()
    }
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.reach("read");
        match self.at {
            "work" => op.work(|_| panic!("a bomb of the tests, at work")),
            "cancel" | "own_read_done" | "timer" | "cntl" => {
                let (held, flow) = op.hold(cx);
                // Held until something goes wrong: the level's own drop gives it up.
                cx.on_free(move || drop(held));
                flow
            }
            _ => op.pass(),
        }
    }
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.reach("read_done");
        op.finished()
    }
    fn own_read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.reach("own_read_done");
        op.finished()
    }
    fn timer(&mut self, _: &mut Cx<'_>, _: u32) {
        self.reach("timer");
    }
    fn cancel(&mut self, _: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
        self.reach("cancel");
        Cancel::Take
    }
    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        self.reach("cntl");
        Err(c.unsupported())
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            self.reach("drop");
        }
    }
}

#[test]
fn a_panic_poisons_its_own_handle_only() {
    // The panics are meant: keep them out of the test's output.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("a bomb of the tests") {
            eprintln!("{info}");
        }
    }));
    let engine = Engine::new().unwrap();
    let (other, far) = over_loop(&engine, loop_::Options::default(), |n| LevelNode::new(null::driver()).over(n));
    for at in
        ["open", "open_done", "read", "read_done", "work", "own_read_done", "timer", "cancel", "cntl", "close", "drop"]
    {
        let dropped = Arc::new(AtomicU32::new(0));
        let sees = Intercepts::OPEN
            | Intercepts::OPEN_DONE
            | Intercepts::CLOSE
            | Intercepts::READ
            | Intercepts::READ_DONE
            | Intercepts::CONCURRENT_READS;
        let count = dropped.clone();
        let bomb = transform(sees, move || Bomb { at, timer: None, dropped: count.clone() });
        let leaf = LevelNode::new(loop_::driver());
        let server = engine.listen(&xio_core::Stack::new(leaf.clone()).unwrap(), ()).wait().unwrap();
        let stack = xio_core::Stack::new(bomb.over(leaf)).unwrap();
        let opened = engine.open(&stack, server.contact()).deadline(LONG).wait();
        if at.starts_with("open") {
            let e = opened.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Panicked, "{at}: {e}");
            assert!(e.to_string().contains("fixture"), "{at}: {e}");
        } else {
            let h = opened.unwrap();
            let far = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
            let (reply, rx) = results();
            for i in 0..2 {
                let r = reply();
                h.read(room(9)).then(move |x| r.send((i, x.map(|d| d.n).map_err(|f| f.kind()))));
            }
            match at {
                "cancel" => h.cancel_all(&[xio_core::driver::OpKind::Read]),
                "cntl" => assert_eq!(h.query(LocalContact).unwrap_err().kind(), ErrorKind::Panicked),
                "close" | "drop" => drop(h.close().deadline(LONG).wait()),
                _ => drop(far.write("data").wait()),
            }
            let first = get(&rx).1;
            let second = get(&rx).1;
            if !matches!(at, "close" | "drop") {
                assert_eq!((first, second), (Err(ErrorKind::Panicked), Err(ErrorKind::Panicked)), "{at}");
                let e = h.read(room(9)).wait().unwrap_err();
                assert_eq!(e.kind(), ErrorKind::Panicked, "{at}");
                assert_eq!(h.close().wait().map_err(|e| e.kind()), Err(ErrorKind::Panicked), "{at}");
            }
            none(&rx);
            // The level below went with it: the peer sees the end one way or the other.
            let end = far.read(room(9)).deadline(LONG).wait().unwrap_err();
            assert!(matches!(end.kind(), ErrorKind::Reset | ErrorKind::Eof), "{at}: {end}");
        }
        until(|| dropped.load(Ordering::SeqCst) == 1);
        // Another handle of the same engine does not notice.
        other.write("still").wait().unwrap();
        assert_eq!(far.read(room(9)).deadline(LONG).wait().unwrap().buf, "still");
    }
    let _ = std::panic::take_hook();
}

#[test]
fn a_callback_that_panics_poisons_its_handle_only() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::CONCURRENT_READS));
    let (reply, rx) = results();
    h.read(room(9)).then(|_| panic!("a bomb of the tests, in a callback"));
    let r = reply();
    h.read(room(9)).then(move |x| r.send(x.unwrap_err().kind()));
    desk.give("x");
    assert_eq!(get(&rx), ErrorKind::Panicked);
    assert_eq!(h.write("x").wait().unwrap_err().kind(), ErrorKind::Panicked);
    let desk = Desk::default();
    open(&engine, desk.node(Intercepts::NONE)).write("fine").wait().unwrap();
}

#[test]
fn every_op_that_a_panic_ends_names_the_level_that_panicked() {
    let engine = Engine::new().unwrap();
    let sees = Intercepts::READ | Intercepts::CONCURRENT_READS;
    let bomb = transform(sees, || Bomb { at: "cntl", timer: None, dropped: Arc::default() }).with_id("bomb");
    let (h, _far) =
        over_loop(&engine, loop_::Options::default(), |n| LevelNode::new(null::driver()).over(bomb.over(n)));
    // A read waits at the level, a wait for readiness below it.
    let (reply, rx) = results();
    let (read, ready) = (reply(), reply());
    h.read(room(9)).then(move |x| read.send(x.map(drop).map_err(|f| f.error)));
    h.ready(Direction::Read).then(move |x| ready.send(x));
    let asked = h.query(LocalContact).unwrap_err();
    let later = h.write("x").wait().unwrap_err().error;
    for e in [get(&rx).unwrap_err(), get(&rx).unwrap_err(), asked, later] {
        assert_eq!((e.kind(), e.level()), (ErrorKind::Panicked, Some("bomb")), "{e}");
        assert!(e.to_string().starts_with("bomb (fixture) in `null/fixture/loop`: "), "{e}");
    }
}

/// Sends every read down again, whatever came.
struct Again;

impl Level for Again {
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.pass()
    }
}

#[test]
fn a_level_that_passes_an_op_down_for_ever_is_told_so() {
    let engine = Engine::new().unwrap();
    let over = |n| transform(Intercepts::READ_DONE | Intercepts::CONCURRENT_READS, || Again).over(n);
    let (a, b) = over_loop(&engine, loop_::Options::default(), over);
    b.write("something").wait().unwrap();
    let e = a.take(4).deadline(LONG).wait().unwrap_err();
    assert_eq!((e.kind(), e.error.driver()), (ErrorKind::NoProgress, Some("fixture")), "{e}");
}
