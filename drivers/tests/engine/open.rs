//! Unwinding: an open that fails at one level closes exactly the levels below it that were open, each
//! once, from the top down: the reverse of how they opened.

use std::time::Duration;

use xio_core::caps::Caps;
use xio_core::driver::{Intercepts, OpKind};
use xio_core::op::{Accept, Close, Listen, Open};
use xio_core::{Contact, Cx, Engine, Error, ErrorKind, Flow, Held, Level, LevelNode, Op, Stack};
use xio_drivers::{loop_, null, pick};

use super::fixture::{LONG, Log, get, open, results, transform, transport};

/// When a level of the tower fails the open.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fail {
    Never,
    Down,
    Up,
}

struct Storey {
    name: String,
    log: Log,
    fail: Fail,
    bottom: bool,
}

impl Storey {
    fn error(&self) -> Error {
        Error::new(ErrorKind::Protocol).detail(format!("{} refuses", self.name))
    }
}

impl Level for Storey {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        match self.fail {
            Fail::Down => op.failed(self.error()),
            _ if self.bottom => {
                self.log.note(format!("open {}", self.name));
                op.finished()
            }
            _ => op.pass(),
        }
    }
    fn open_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        if op.error().is_some() {
            return op.finished();
        }
        if self.fail == Fail::Up {
            return op.failed(self.error());
        }
        self.log.note(format!("open {}", self.name));
        op.finished()
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.log.note(format!("close {}", self.name));
        if self.bottom { op.finished() } else { op.pass() }
    }
}

fn storey(name: String, log: &Log, fail: Fail, below: Option<LevelNode>) -> LevelNode {
    let sees = Intercepts::OPEN | Intercepts::OPEN_DONE | Intercepts::CLOSE;
    let (log, bottom) = (log.clone(), below.is_none());
    let make = {
        let name = name.clone();
        move || Storey { name: name.clone(), log: log.clone(), fail, bottom }
    };
    match below {
        Some(b) => transform(sees, make).over(b).with_id(name),
        None => transport(Caps::stream(), sees, make).with_id(name),
    }
}

/// Levels `0` (the top) to `depth - 1`, of which `k` fails.
fn tower(depth: usize, k: usize, fail: Fail, log: &Log) -> LevelNode {
    let mut node = None;
    for i in (0..depth).rev() {
        let fail = if i == k { fail } else { Fail::Never };
        node = Some(storey(format!("l{i}"), log, fail, node));
        if i % 2 == 1 {
            // Levels that see nothing of it change nothing.
            let options = null::Options::default().with_intercept("none".into());
            node = node.map(|n| LevelNode::new(null::driver()).with_attr(Box::new(options)).over(n));
        }
    }
    node.unwrap()
}

#[test]
fn a_failed_open_closes_what_was_open_in_reverse_and_once() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    for depth in 1..=6 {
        for k in 0..depth {
            for fail in [Fail::Down, Fail::Up] {
                let stack = Stack::new(tower(depth, k, fail, &log)).unwrap();
                if fail == Fail::Up && k == depth - 1 {
                    continue; // the bottom sees nothing come up
                }
                let e = engine.open(&stack, ()).deadline(LONG).wait().unwrap_err();
                assert_eq!((e.kind(), e.level()), (ErrorKind::Protocol, Some(&*format!("l{k}"))));
                assert!(e.to_string().contains(&format!("l{k} refuses")), "{e}");
                let mut want = Vec::new();
                if fail == Fail::Up {
                    want.extend((k + 1..depth).rev().map(|i| format!("open l{i}")));
                    want.extend((k + 1..depth).map(|i| format!("close l{i}")));
                }
                assert_eq!(log.take(), want, "depth {depth}, level {k}, {fail:?}");
            }
        }
        // And one that opens closes all.
        let h = open(&engine, tower(depth, depth, Fail::Never, &log));
        h.close().wait().unwrap();
        let mut want: Vec<_> = (0..depth).rev().map(|i| format!("open l{i}")).collect();
        want.extend((0..depth).map(|i| format!("close l{i}")));
        assert_eq!(log.take(), want, "depth {depth}");
    }
    assert_eq!(engine.handles(), 0);
}

#[test]
fn open_branches_are_closed_in_reverse() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let below = |name: &str, fail| {
        storey(format!("{name}1"), &log, fail, Some(storey(format!("{name}2"), &log, Fail::Never, None)))
    };
    let top = LevelNode::new(pick::driver())
        .branch("a", below("a", Fail::Never))
        .branch("b", below("b", Fail::Never))
        .branch("c", below("c", Fail::Up));
    let e = engine.open(&Stack::new(top).unwrap(), ()).deadline(LONG).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Protocol);
    let want = [
        "open a2", "open a1", "open b2", "open b1", "open c2", "close c2", "close b1", "close b2", "close a1",
        "close a2",
    ];
    assert_eq!(log.take(), want);
}

/// Holds its open until the test lets it go on.
struct Slow(Log, std::sync::mpsc::Sender<Held<Open>>, bool);

impl Level for Slow {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        if std::mem::replace(&mut self.2, true) {
            self.0.note("open");
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.1.send(held).unwrap();
        flow
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.0.note("close");
        op.finished()
    }
}

#[test]
fn an_open_that_times_out_closes_what_was_open() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let (tx, rx) = std::sync::mpsc::channel();
    let bottom = {
        let log = log.clone();
        transport(Caps::stream(), Intercepts::OPEN | Intercepts::CLOSE, move || Slow(log.clone(), tx.clone(), false))
    };
    let stack = Stack::new(LevelNode::new(null::driver()).over(bottom)).unwrap();
    let (reply, out) = results();
    let r = reply();
    engine
        .open(&stack, ())
        .deadline(Duration::from_millis(20))
        .then(move |h| r.send(h.map(drop).map_err(|e| e.kind())));
    let held = get(&rx);
    assert_eq!(get(&out), Err(ErrorKind::TimedOut));
    held.retry();
    assert_eq!(log.take(), Vec::<String>::new());
    // In time it opens, from a token used on another thread.
    let r = reply();
    engine.open(&stack, ()).deadline(LONG).then(move |h| r.send(h.map(drop).map_err(|e| e.kind())));
    get(&rx).retry();
    assert_eq!(get(&out), Ok(()));
    super::fixture::until(|| engine.handles() == 0);
    assert_eq!(log.take(), ["open", "close"]);
}

#[test]
fn a_failed_open_can_be_tried_again() {
    let engine = Engine::new().unwrap();
    let driver = loop_::driver();
    let stack = Stack::new(LevelNode::new(null::driver()).over(LevelNode::new(driver))).unwrap();
    for _ in 0..3 {
        assert_eq!(engine.open(&stack, Contact::new("x")).wait().unwrap_err().kind(), ErrorKind::Refused);
    }
    let _server = engine.listen(&stack, Contact::new("x")).wait().unwrap();
    engine.open(&stack, Contact::new("x")).wait().unwrap();
}

/// A server level that says what it sees.
struct Porch(String, Log, Fail);

impl Level for Porch {
    fn listen<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Listen>) -> Flow<'o> {
        self.1.note(format!("{} before", self.0));
        if self.2 == Fail::Down { op.failed(ErrorKind::Protocol) } else { op.pass() }
    }
    fn listen_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        if op.error().is_some() {
            return op.finished();
        }
        if self.2 == Fail::Up {
            return op.failed(ErrorKind::Protocol);
        }
        self.1.note(format!("{} at {}", self.0, op.contact()));
        let contact = Contact::new(format!("{}+{}", op.contact(), self.0));
        op.set_contact(contact);
        op.finished()
    }
    fn accept_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        if op.error().is_none() {
            op.set_link(cx, Box::new(self.0.clone()));
        }
        op.finished()
    }
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        let part = op.link(cx).and_then(|p| p.downcast::<String>().ok());
        self.1.note(format!("{} opens {:?}", self.0, part));
        op.pass()
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.1.note(format!("{} closes", self.0));
        op.pass()
    }
}

fn porches(log: &Log, fails: [Fail; 2], below: LevelNode) -> Stack {
    let sees =
        Intercepts::LISTEN | Intercepts::LISTEN_DONE | Intercepts::ACCEPT_DONE | Intercepts::OPEN | Intercepts::CLOSE;
    let porch = |name: &'static str, fail| {
        let log = log.clone();
        transform(sees, move || Porch(name.into(), log.clone(), fail)).with_id(name)
    };
    Stack::new(porch("p1", fails[0]).over(porch("p2", fails[1]).over(below))).unwrap()
}

#[test]
fn a_server_starts_top_down_and_bottom_up() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let leaf = LevelNode::new(loop_::driver());
    let stack = porches(&log, [Fail::Never; 2], leaf.clone());
    let server = engine.listen(&stack, Contact::new("s")).wait().unwrap();
    assert_eq!(log.take(), ["p1 before", "p2 before", "p2 at loop:s", "p1 at loop:s+p2"]);
    assert_eq!(server.contact().text(), Some("loop:s+p2+p1"));
    // Each level finds its own part in the link, on both sides of the stack.
    let near = engine.open(&stack, Contact::new("s")).wait().unwrap();
    assert_eq!(log.take(), ["p1 opens None", "p2 opens None"]);
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    assert_eq!(log.take(), ["p1 opens Some(\"p1\")", "p2 opens Some(\"p2\")"]);
    near.write("x").wait().unwrap();
    assert_eq!(far.read(super::fixture::room(9)).wait().unwrap().buf, "x");
    server.close().unwrap();
    assert_eq!(log.take(), ["p1 closes", "p2 closes"]);
    assert_eq!(server.close().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(server.accept().wait().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_failed_listen_stops_what_listened() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let leaf = LevelNode::new(loop_::driver());
    for (fails, level, want) in [
        ([Fail::Up, Fail::Never], "p1", &["p1 before", "p2 before", "p2 at loop:s", "p2 closes"][..]),
        ([Fail::Never, Fail::Up], "p2", &["p1 before", "p2 before"]),
        ([Fail::Never, Fail::Down], "p2", &["p1 before", "p2 before"]),
    ] {
        let e = engine.listen(&porches(&log, fails, leaf.clone()), Contact::new("s")).wait().unwrap_err();
        assert_eq!((e.kind(), e.level(), e.op()), (ErrorKind::Protocol, Some(level), Some(OpKind::Listen)));
        assert_eq!(log.take(), want);
        // The name is free again.
        assert_eq!(
            engine.open(&Stack::new(leaf.clone()).unwrap(), Contact::new("s")).wait().unwrap_err().kind(),
            ErrorKind::Refused
        );
    }
    assert_eq!(engine.handles(), 0);
}

/// Takes the first connection into itself and gives the second out.
struct Joins(u32, Log);

impl Level for Joins {
    fn accept_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Accept>) -> Flow<'o> {
        self.0 += 1;
        self.1.note(format!("link {}", self.0));
        if self.0 == 1 { op.joined() } else { op.finished() }
    }
}

#[test]
fn an_accept_whose_link_joined_another_goes_on_waiting() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let copy = log.clone();
    let leaf = LevelNode::new(loop_::driver());
    let stack = Stack::new(transform(Intercepts::ACCEPT_DONE, move || Joins(0, copy.clone())).over(leaf)).unwrap();
    let server = engine.listen(&stack, Contact::new("s")).wait().unwrap();
    let (reply, rx) = results();
    let r = reply();
    server.accept().deadline(LONG).then(move |l| r.send(l.map(|l| l.peer().clone()).map_err(|e| e.kind())));
    let first = engine.open(&stack, Contact::new("s")).wait().unwrap();
    super::fixture::none(&rx);
    let second = engine.open(&stack, Contact::new("s")).wait().unwrap();
    assert_eq!(get(&rx).unwrap(), second.query(xio_core::cntl::LocalContact).unwrap());
    assert_eq!(log.take(), ["link 1", "link 2"]);
    drop((first, second));
}

#[test]
fn a_handle_in_the_opening_is_given_up_by_its_engine() {
    let engine = Engine::new().unwrap();
    let (tx, rx) = std::sync::mpsc::channel();
    let log = Log::default();
    let bottom =
        transport(Caps::stream(), Intercepts::OPEN | Intercepts::CLOSE, move || Slow(log.clone(), tx.clone(), false));
    let stack = Stack::new(bottom).unwrap();
    let (reply, out) = results();
    let r = reply();
    engine.open(&stack, ()).then(move |h| r.send(h.map(drop).map_err(|e| e.kind())));
    let copy = engine.clone();
    let stack2 = stack.clone();
    let thread = std::thread::spawn(move || copy.open(&stack2, ()).wait().map(drop).unwrap_err().kind());
    let held = [get(&rx), get(&rx)];
    // A future that is dropped gives its open up.
    let mut future = Box::pin(IntoFuture::into_future(engine.open(&stack, ())));
    assert!(super::fixture::poll(&mut future).is_pending());
    let third = get(&rx);
    drop(future);
    super::fixture::until(|| engine.handles() == 2);
    third.retry();
    engine.shutdown();
    assert_eq!(get(&out), Err(ErrorKind::Stopped));
    assert_eq!(thread.join().unwrap(), ErrorKind::Stopped);
    held.into_iter().for_each(Held::retry);
}

/// Opens at once, and holds every close for ever.
struct NeverCloses(Vec<Held<Close>>);

impl Level for NeverCloses {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.finished()
    }
    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        self.0.push(held);
        flow
    }
}

#[test]
fn an_unwinding_that_never_ends_is_given_up_and_the_first_error_stays() {
    let sim = xio_core::reactor::Sim::new(1);
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    let log = Log::default();
    let bottom = transport(Caps::stream(), Intercepts::OPEN | Intercepts::CLOSE, || NeverCloses(Vec::new()));
    let stack = Stack::new(storey("l0".into(), &log, Fail::Up, Some(bottom))).unwrap();
    let began = sim.time();
    let e = engine.open(&stack, ()).deadline(Duration::from_millis(50)).wait().unwrap_err();
    assert_eq!((e.kind(), e.level()), (ErrorKind::Protocol, Some("l0")));
    // Half a second after the open's own time.
    assert_eq!(sim.time().since(began), Duration::from_millis(550));
    assert_eq!(engine.handles(), 0);
}
