//! Cancel and deadlines in every state an op can be in: it finishes once, with its real result or as
//! it was stopped, and its buffers come back.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use xio_core::caps::Caps;
use xio_core::driver::{Intercepts, OpKind};
use xio_core::io::{Io, IoDone, Sock, SocketOptions};
use xio_core::op::{Close, Open, Read, Write};
use xio_core::{Cx, Engine, ErrorKind, Flow, Level, LevelNode, Op, ReadDone};
use xio_drivers::{loop_, null};

use super::desk::Desk;
use super::fixture::{LONG, SHORT, get, none, open, over_loop, poll, results, room, run, transform, transport, until};

type Out = (u32, Result<usize, (ErrorKind, usize)>);

/// What a read came to: its bytes, or why not and the capacity that came back.
fn outcome(i: u32, r: Result<ReadDone, xio_core::Failed<ReadDone>>) -> Out {
    (i, r.map(|d| d.n).map_err(|f| (f.kind(), f.back.buf.capacity())))
}

#[test]
fn held() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, LevelNode::new(null::driver()).over(desk.node(Intercepts::CONCURRENT_READS)));
    let (reply, rx) = results();
    let mut tickets = Vec::new();
    for i in 0..3 {
        let r = reply();
        tickets.push(h.read(room(9)).then(move |x| r.send(outcome(i, x))));
    }
    tickets[1].cancel();
    tickets[1].cancel();
    assert_eq!(get(&rx), (1, Err((ErrorKind::Cancelled, 9))));
    // The level was asked once, and its other tokens are good.
    assert_eq!(desk.log.take(), ["open", "cancel Cancelled"]);
    assert_eq!(desk.held(), 2);
    desk.give("abc");
    assert_eq!(get(&rx), (0, Ok(3)));
    // A stale token harms nobody, whatever it says.
    let mut tokens = desk.reads();
    let token = tokens.pop_front().unwrap();
    tickets[2].cancel();
    assert_eq!(get(&rx), (2, Err((ErrorKind::Cancelled, 9))));
    token.fail(ErrorKind::Io);
    none(&rx);
    assert_eq!(h.outstanding(), (0, 0));
}

#[test]
fn held_and_kept() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    desk.keep();
    let h = open(&engine, desk.node(Intercepts::NONE));
    let (reply, rx) = results();
    let r = reply();
    let ticket = h.read(room(9)).then(move |x| r.send(outcome(0, x)));
    ticket.cancel();
    none(&rx);
    desk.give("real");
    assert_eq!(get(&rx), (0, Ok(4)));
    ticket.cancel();
    none(&rx);
}

#[test]
fn finished() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::NONE));
    let (reply, rx) = results();
    desk.give("abc");
    let r = reply();
    let done = h.read(room(9)).then(move |x| r.send(outcome(0, x)));
    assert_eq!(get(&rx), (0, Ok(3)));
    // Its number may be another op's by now.
    let r = reply();
    h.read(room(9)).then(move |x| r.send(outcome(1, x)));
    done.cancel();
    none(&rx);
    desk.give("def");
    assert_eq!(get(&rx), (1, Ok(3)));
}

#[test]
fn at_a_gate() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let gated = null::Options::default().with_gate(true);
    let top = LevelNode::new(null::driver()).with_attr(Box::new(gated)).over(desk.node(Intercepts::NONE));
    let h = open(&engine, top);
    let (reply, rx) = results();
    let mut tickets = Vec::new();
    for i in 0..5 {
        let r = reply();
        tickets.push(h.read(room(9)).then(move |x| r.send(outcome(i, x))));
    }
    assert_eq!(desk.held(), 1);
    tickets[2].cancel();
    assert_eq!(get(&rx), (2, Err((ErrorKind::Cancelled, 9))));
    // The level never saw it.
    assert_eq!(desk.log.take(), ["open"]);
    // The one inside is cancelled: the next comes in.
    tickets[0].cancel();
    assert_eq!(get(&rx), (0, Err((ErrorKind::Cancelled, 9))));
    assert_eq!(desk.held(), 1);
    for i in [1, 3, 4] {
        desk.give("x");
        assert_eq!(get(&rx), (i, Ok(1)));
    }
}

#[test]
fn waiting_for_admission() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let stack = xio_core::Stack::new(desk.node(Intercepts::CONCURRENT_READS)).unwrap();
    let h = engine.open(&stack, ()).max_ops(1).wait().unwrap();
    let (reply, rx) = results();
    let r = reply();
    h.read(room(9)).then(move |x| r.send(outcome(0, x)));
    // A dropped future.
    let mut f = IntoFuture::into_future(h.read(room(9)));
    assert!(poll(&mut f).is_pending());
    drop(f);
    // A deadline.
    let start = Instant::now();
    let late = h.read(room(9)).deadline(SHORT).wait().unwrap_err();
    assert_eq!((late.kind(), late.back.buf.capacity()), (ErrorKind::TimedOut, 9));
    assert!(start.elapsed() >= SHORT);
    let late = run(IntoFuture::into_future(h.read(room(9)).deadline(SHORT))).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    // A cancel of everything, while a thread waits.
    let copy = h.clone();
    let thread = std::thread::spawn(move || outcome(1, copy.read(room(9)).wait()));
    let mut other = IntoFuture::into_future(h.read(room(9)));
    assert!(poll(&mut other).is_pending());
    std::thread::sleep(SHORT);
    h.cancel_all(&[OpKind::Write]);
    none(&rx);
    h.cancel_all(&[OpKind::Read]);
    assert_eq!(thread.join().unwrap(), (1, Err((ErrorKind::Cancelled, 9))));
    assert_eq!(run(other).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(get(&rx), (0, Err((ErrorKind::Cancelled, 9))));
    assert_eq!(h.outstanding(), (0, 0));
    desk.give("next");
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap().buf, "next");
}

/// A transport over a socket that the test gives it.
struct Wire(Arc<Mutex<Option<UnixStream>>>, Option<Sock>);

impl Level for Wire {
    fn open<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => {
                let fd = self.0.lock().unwrap().take().expect("one open a socket");
                op.io(Io::Adopt(Box::new((fd.into(), SocketOptions::default()))))
            }
            IoDone::Connected(c) => {
                self.1 = Some(c.sock);
                op.finished()
            }
            IoDone::Failed(e) => op.failed(e),
            _ => op.failed(ErrorKind::Contract),
        }
    }
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let sock = self.1.clone().expect("open");
        op.io(Io::Recv(sock))
    }
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let sock = self.1.clone().expect("open");
        op.io(Io::Send(sock))
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.1 = None;
        op.finished()
    }
}

/// A level over a socket, and its peer.
fn wire(caps: Caps) -> (LevelNode, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = Arc::new(Mutex::new(Some(near)));
    let sees = Intercepts::OPEN | Intercepts::CLOSE | Intercepts::READ | Intercepts::WRITE;
    (transport(caps, sees, move || Wire(near.clone(), None)), far)
}

#[test]
fn armed() {
    use std::io::Write as _;
    let engine = Engine::new().unwrap();
    let (node, mut far) = wire(Caps::stream());
    let h = open(&engine, LevelNode::new(null::driver()).over(node));
    let (reply, rx) = results();
    let mut tickets = Vec::new();
    for i in 0..3 {
        let r = reply();
        tickets.push(h.read(room(9)).then(move |x| r.send(outcome(i, x))));
    }
    none(&rx);
    tickets[0].cancel();
    assert_eq!(get(&rx), (0, Err((ErrorKind::Cancelled, 9))));
    far.write_all(b"abc").unwrap();
    assert_eq!(get(&rx), (1, Ok(3)));
    // Bytes that came before a cancel are told.
    let r = reply();
    let part = h.read(room(9)).wait_for(9).then(move |x| {
        let f = x.unwrap_err();
        r.send((9, Err((f.kind(), f.back.n))));
    });
    far.write_all(b"de").unwrap();
    assert_eq!(get(&rx), (2, Ok(2)));
    far.write_all(b"fg").unwrap();
    std::thread::sleep(SHORT);
    part.cancel();
    assert_eq!(get(&rx), (9, Err((ErrorKind::Cancelled, 2))));
    // A thread that waits on its own socket.
    let copy = h.clone();
    let start = Instant::now();
    let thread = std::thread::spawn(move || outcome(3, copy.read(room(9)).wait()));
    std::thread::sleep(SHORT);
    h.cancel_all(&[OpKind::Read]);
    assert_eq!(thread.join().unwrap(), (3, Err((ErrorKind::Cancelled, 9))));
    // Deadlines: blocking, callback.
    let late = h.read(room(9)).deadline(SHORT).wait().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    let r = reply();
    h.read(room(9)).deadline(SHORT).then(move |x| r.send(outcome(4, x)));
    assert_eq!(get(&rx), (4, Err((ErrorKind::TimedOut, 9))));
    assert!(start.elapsed() < LONG);
    far.write_all(b"end").unwrap();
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap().buf, "end");
    none(&rx);
}

#[test]
fn a_stopped_write_tears_its_message_and_says_so() {
    let engine = Engine::new().unwrap();
    let (node, mut far) = wire(Caps::message());
    let h = open(&engine, node);
    let big = vec![0; 4 << 20];
    let f = h.write(big.clone()).deadline(SHORT).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::TimedOut);
    assert!(f.back.n > 0 && f.back.n < big.len() && f.error.moved() == f.back.n as u64, "{}", f.back.n);
    let f = h.write("next").deadline(LONG).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::BrokenPipe);
    assert!(f.to_string().contains("a stopped write left"), "{f}");
    // The other direction goes on.
    std::io::Write::write_all(&mut far, b"still").unwrap();
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap().buf, "still");
    drop(far);
    // A stream has no borders to tear.
    let (node, mut far) = wire(Caps::stream());
    let h = open(&engine, node);
    let f = h.write(big.clone()).deadline(SHORT).wait().unwrap_err();
    let sent = f.back.n;
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut far, &mut all).unwrap();
        all.len()
    });
    h.write(vec![0; 10]).deadline(LONG).wait().unwrap();
    h.close().wait().unwrap();
    assert_eq!(reader.join().unwrap(), sent + 10);
}

/// Works on reads outside the lock until it is told to end.
struct Slow(Arc<(Mutex<u32>, std::sync::Condvar)>);

impl Level for Slow {
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let state = self.0.clone();
        op.work(move |_| {
            let mut n = state.0.lock().unwrap();
            *n += 1;
            while *n < 2 {
                let (guard, timeout) = state.1.wait_timeout(n, LONG).unwrap();
                n = guard;
                assert!(!timeout.timed_out());
            }
        })
    }
}

#[test]
fn out_at_work() {
    let engine = Engine::new().unwrap();
    let state = Arc::new((Mutex::new(0), std::sync::Condvar::new()));
    let copy = state.clone();
    let slow = move |below| transform(Intercepts::READ_DONE, move || Slow(copy.clone())).over(below);
    let (h, far) = over_loop(&engine, loop_::Options::default(), slow);
    far.write("abc").wait().unwrap();
    let (reply, rx) = results();
    let reader = h.clone();
    let r = reply();
    // The work runs on the submitting thread.
    let thread = std::thread::spawn(move || {
        reader.read(room(9)).then(move |x| r.send(outcome(0, x)));
    });
    until(|| *state.0.lock().unwrap() == 1);
    // The lock is free meanwhile.
    h.write("other way").wait().unwrap();
    h.cancel_all(&[OpKind::Read]);
    none(&rx);
    *state.0.lock().unwrap() += 1;
    state.1.notify_all();
    // Its bytes are there, so they are its result.
    assert_eq!(get(&rx), (0, Ok(3)));
    thread.join().unwrap();
    assert_eq!(far.read(room(9)).wait().unwrap().buf, "other way");
}

#[test]
fn a_deadline_fires_once_and_never_early() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::CONCURRENT_READS));
    let (reply, rx) = results();
    let start = Instant::now();
    for (i, ms) in [(0, 60), (1, 20), (2, 40)] {
        let r = reply();
        h.read(room(9)).deadline(Duration::from_millis(ms)).then(move |x| {
            assert!(start.elapsed() >= Duration::from_millis(ms));
            r.send(outcome(i, x));
        });
    }
    for i in [1, 2, 0] {
        assert_eq!(get(&rx), (i, Err((ErrorKind::TimedOut, 9))));
    }
    none(&rx);
    assert_eq!(desk.log.take(), ["open", "cancel TimedOut", "cancel TimedOut", "cancel TimedOut"]);
    assert_eq!(engine.next_deadline(), None);
    // One that finished in time does not time out later.
    let r = reply();
    h.read(room(9)).deadline(SHORT).then(move |x| r.send(outcome(3, x)));
    desk.give("in time");
    assert_eq!(get(&rx), (3, Ok(7)));
    assert_eq!(engine.next_deadline(), None);
    // The handle is as good as before, both ways.
    std::thread::sleep(SHORT);
    none(&rx);
    h.write("x").wait().unwrap();
}

#[test]
fn a_deadline_in_the_past_moves_nothing() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::NONE));
    let f = h.read(room(9)).deadline(Duration::ZERO).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::TimedOut, 0));
    let (reply, rx) = results();
    let r = reply();
    h.read(room(9)).deadline(Duration::ZERO).then(move |x| r.send(outcome(0, x)));
    assert_eq!(get(&rx), (0, Err((ErrorKind::TimedOut, 9))));
}

#[test]
fn idle_limits_count_from_the_last_byte() {
    use std::io::Write as _;
    let engine = Engine::new().unwrap();
    let (node, mut far) = wire(Caps::stream());
    let stack = xio_core::Stack::new(node).unwrap();
    let h = engine.open(&stack, ()).read_idle(Duration::from_millis(200)).wait().unwrap();
    let start = Instant::now();
    let writer = std::thread::spawn(move || {
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(60));
            far.write_all(b"x").unwrap();
        }
        far
    });
    let (reply, rx) = results();
    let r = reply();
    h.read(room(9)).wait_for(9).then(move |x| r.send(x.map(|d| d.n).map_err(|f| (f.kind(), f.back.n))));
    assert_eq!(get(&rx), Err((ErrorKind::TimedOut, 5)));
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    drop(writer.join().unwrap());
}

/// Cancel, finish and close race; every op ends once and no byte is lost.
#[test]
fn races_end_every_op_once() {
    let engine = Engine::new().unwrap();
    let (h, far) = over_loop(&engine, loop_::Options::default(), |n| LevelNode::new(null::driver()).over(n));
    let (reply, rx) = results();
    let mut want = 0u64;
    let mut got = 0u64;
    for i in 0..500u32 {
        let r = reply();
        let ticket =
            h.read(room(4)).then(move |x| r.send((i, x.map(|d| d.buf.len()).map_err(|f| (f.kind(), f.back.n)))));
        let writer = far.clone();
        let thread = std::thread::spawn(move || writer.write("abcd").wait().map(|d| d.n).unwrap());
        if i % 3 == 0 {
            std::thread::yield_now();
        }
        ticket.cancel();
        want += thread.join().unwrap() as u64;
        match get(&rx) {
            (n, Ok(len)) => {
                assert_eq!((n, len), (i, 4));
                got += 4;
            }
            (n, Err(e)) => {
                assert_eq!((n, e), (i, (ErrorKind::Cancelled, 0)));
                got += h.read(room(4)).wait().unwrap().n as u64;
            }
        }
    }
    none(&rx);
    assert_eq!(want, got);
    assert_eq!(h.outstanding(), (0, 0));
}
