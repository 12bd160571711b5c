//! The close barrier: before a level's `close` nothing of the levels above and nothing of its own is
//! in or below it; what it writes there is out before the level below closes.

use std::sync::{Arc, Mutex, mpsc};

use smallvec::SmallVec;
use xio_core::attr::Size;
use xio_core::buffer::{Piece, Pieces};
use xio_core::caps::Caps;
use xio_core::driver::Intercepts;
use xio_core::io::{Io, IoDone, Sock, SocketOptions};
use xio_core::op::{Close, Listen, Open, Read, Write};
use xio_core::{CloseMode, Contact, Cx, Engine, ErrorKind, Flow, Level, Op, Stack};
use xio_drivers::loop_;

use super::desk::Desk;
use super::fixture::{LONG, Log, get, none, open, over_loop, results, room, transform, transport, until};

/// Reads for ever on its own account, and says farewell in its close.
struct Farewell(Log);

impl Level for Farewell {
    fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        cx.take(0, 1, 100, 0);
        op.finished()
    }
    fn own_read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.0.note(format!("own read: {:?}", op.error().map(xio_core::Error::kind)));
        op.finished()
    }
    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.0.note("close");
        let bye: Pieces = SmallVec::from_iter([Piece::inline(b"bye")]);
        cx.write(0, bye, 0);
        op.pass()
    }
    fn own_write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        self.0.note(format!("own write: {:?}", op.error().map(xio_core::Error::kind)));
        op.finished()
    }
    fn close_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.0.note("closed");
        op.finished()
    }
}

const FAREWELL: Intercepts = Intercepts::NONE;

fn farewell(log: &Log) -> impl Fn(xio_core::LevelNode) -> xio_core::LevelNode {
    let log = log.clone();
    move |below| {
        let log = log.clone();
        let sees = FAREWELL | Intercepts::OPEN_DONE | Intercepts::CLOSE | Intercepts::CLOSE_DONE;
        transform(sees, move || Farewell(log.clone())).over(below)
    }
}

#[test]
fn what_is_written_in_close_is_out_before_the_level_below_closes() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, farewell(&desk.log)(desk.node(Intercepts::NONE)));
    h.close().wait().unwrap();
    let want = [
        "open",
        "cancel Cancelled",
        "own read: Some(Cancelled)",
        "close",
        "write bye",
        "own write: None",
        "close",
        "closed",
    ];
    assert_eq!(desk.log.take(), want);
}

#[test]
fn a_close_waits_for_a_slow_farewell() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let (h, far) = over_loop(&engine, loop_::Options::default().with_buffer(Size(4)), farewell(&log));
    h.write("full").wait().unwrap();
    let (reply, rx) = results();
    let r = reply();
    h.close().then(move |x| r.send(x.map_err(|e| e.kind())));
    none(&rx);
    assert_eq!(log.take(), ["own read: Some(Cancelled)", "close"]);
    assert_eq!(far.read(room(9)).wait_for(7).deadline(LONG).wait().unwrap().buf, "fullbye");
    assert_eq!(get(&rx), Ok(()));
    assert_eq!(log.take(), ["own write: None", "closed"]);
    assert_eq!(far.read(room(9)).wait().unwrap_err().kind(), ErrorKind::Eof);
}

#[test]
fn outstanding_reads_are_cancelled_and_writes_still_go_out() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    desk.hold_writes(true);
    let h = open(&engine, farewell(&desk.log)(desk.node(Intercepts::CONCURRENT_READS)));
    let (reply, rx) = results();
    for i in 0..2 {
        let r = reply();
        h.read(room(9)).then(move |x| r.send((i, x.map(|_| ()).map_err(|f| f.kind()))));
    }
    let r = reply();
    h.write("late").then(move |x| r.send((2, x.map(|_| ()).map_err(|f| f.kind()))));
    let r = reply();
    h.close().then(move |x| r.send((3, x.map_err(|e| e.kind()))));
    assert_eq!([get(&rx), get(&rx)], [(0, Err(ErrorKind::Cancelled)), (1, Err(ErrorKind::Cancelled))]);
    none(&rx);
    // Nothing starts any more.
    assert_eq!(h.read(room(1)).wait().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(h.close().wait().unwrap_err().kind(), ErrorKind::Closed);
    desk.hold_writes(false);
    desk.writes().into_iter().for_each(xio_core::Held::retry);
    assert_eq!([get(&rx), get(&rx)], [(2, Ok(())), (3, Ok(()))]);
    let log = desk.log.take();
    let at = |what: &str| log.iter().position(|l| l == what).unwrap_or_else(|| panic!("no {what} in {log:?}"));
    assert!(at("write late") < at("close") && at("close") < at("write bye"), "{log:?}");
}

#[test]
fn an_abort_stops_writes_too() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    desk.hold_writes(true);
    let h = open(&engine, desk.node(Intercepts::NONE));
    let (reply, rx) = results();
    let r = reply();
    h.write("x").then(move |x| r.send(x.map(|_| ()).map_err(|f| f.kind())));
    h.close().abort().wait().unwrap();
    assert_eq!(get(&rx), Err(ErrorKind::Cancelled));
    none(&rx);
}

#[test]
fn keep_waits_for_everything() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::NONE));
    let (reply, rx) = results();
    let r = reply();
    h.read(room(9)).then(move |x| r.send(x.map(|d| d.n).map_err(|f| f.kind())));
    let r = reply();
    h.close().mode(CloseMode::Keep).then(move |x| r.send(x.map(|()| 99).map_err(|e| e.kind())));
    none(&rx);
    desk.give("kept");
    assert_eq!([get(&rx), get(&rx)], [Ok(4), Ok(99)]);
}

#[test]
fn a_close_is_forced_at_its_deadline() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    desk.keep();
    desk.hold_writes(true);
    let h = open(&engine, desk.node(Intercepts::NONE));
    let (reply, rx) = results();
    let r = reply();
    h.write("x").then(move |x| r.send(x.map(|_| ()).map_err(|f| f.kind())));
    let start = std::time::Instant::now();
    // The level keeps its write whatever is asked of it: abort first, then force.
    let closed = h.close().deadline(std::time::Duration::from_millis(20)).wait();
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= std::time::Duration::from_millis(20) && start.elapsed() < LONG / 2);
    assert!(get(&rx).is_err());
    none(&rx);
    // Its tokens are stale now.
    desk.writes().into_iter().for_each(|h| h.fail(ErrorKind::Io));
    none(&rx);
}

#[test]
fn a_close_that_had_to_cancel_writes_says_so() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    desk.hold_writes(true);
    let h = open(&engine, desk.node(Intercepts::NONE));
    let (reply, rx) = results();
    let r = reply();
    h.write("x").then(move |x| r.send(x.map(|_| ()).map_err(|f| f.kind())));
    // The level lets its write go when it is asked to, but that is not until the time is over.
    let closed = h.close().deadline(std::time::Duration::from_millis(20)).wait();
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(get(&rx), Err(ErrorKind::Cancelled));
}

#[test]
fn the_last_clone_closes_and_a_level_is_dropped_with_no_lock_held() {
    /// Uses its own handle as it goes: hangs if its lock is held.
    struct Canary(mpsc::Sender<&'static str>, Option<xio_core::cx::LevelWaker>);
    impl Level for Canary {
        fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            self.1 = Some(cx.waker());
            let (stop, free) = (self.0.clone(), self.0.clone());
            cx.on_stop(move || stop.send("stop").unwrap());
            cx.on_free(move || free.send("free").unwrap());
            op.finished()
        }
        fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
            self.0.send("close").unwrap();
            op.pass()
        }
    }
    impl Drop for Canary {
        fn drop(&mut self) {
            if let Some(w) = &self.1 {
                w.wake();
            }
            self.0.send("drop").unwrap();
        }
    }
    let engine = Engine::new().unwrap();
    let (tx, rx) = mpsc::channel();
    let desk = Desk::default();
    let make = move || Canary(tx.clone(), None);
    let top = transform(Intercepts::OPEN_DONE | Intercepts::CLOSE, make).over(desk.node(Intercepts::NONE));
    let h = open(&engine, top);
    let (a, b) = h.split();
    drop(a);
    assert!(rx.try_recv().is_err());
    drop(b);
    assert_eq!([get(&rx), get(&rx), get(&rx), get(&rx)], ["close", "stop", "drop", "free"]);
    until(|| engine.handles() == 0);
}

#[test]
fn a_close_from_a_callback_and_a_second_one() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::NONE));
    let (reply, rx) = results();
    let (copy, r, r2) = (h.clone(), reply(), reply());
    h.read(room(9)).then(move |x| {
        r.send(x.map(|d| d.n).map_err(|f| f.kind()));
        let again = copy.clone();
        copy.close().then(move |x| {
            assert_eq!(again.close().wait().unwrap_err().kind(), ErrorKind::Closed);
            r2.send(x.map(|()| 99).map_err(|e| e.kind()));
        });
    });
    desk.give("x");
    assert_eq!([get(&rx), get(&rx)], [Ok(1), Ok(99)]);
    assert_eq!(desk.log.take(), ["open", "close"]);
    assert_eq!(h.flush().wait().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(h.query(xio_core::cntl::LocalContact).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(h.ready(xio_core::io::Direction::Read).wait().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn two_closes_at_once() {
    let engine = Engine::new().unwrap();
    for _ in 0..200 {
        let desk = Desk::default();
        let h = open(&engine, desk.node(Intercepts::NONE));
        let (reply, rx) = results();
        let r = reply();
        h.read(room(9)).then(move |x| r.send(x.unwrap_err().kind()));
        let threads = [(); 2].map(|()| {
            let h = h.clone();
            std::thread::spawn(move || h.close().deadline(LONG).wait().map_err(|e| e.kind()))
        });
        let mut ends = threads.map(|t| t.join().unwrap());
        ends.sort_by_key(Result::is_err);
        assert_eq!(ends, [Ok(()), Err(ErrorKind::Closed)]);
        assert_eq!(get(&rx), ErrorKind::Cancelled);
        let log = desk.log.take();
        assert_eq!(log.iter().filter(|l| *l == "close").count(), 1, "{log:?}");
    }
    until(|| engine.handles() == 0);
}

#[test]
fn a_dropped_future_of_a_close_closes_all_the_same() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    desk.hold_writes(true);
    let h = open(&engine, desk.node(Intercepts::NONE));
    let mut write = IntoFuture::into_future(h.write("x"));
    assert!(super::fixture::poll(&mut write).is_pending());
    let mut close = IntoFuture::into_future(h.close());
    assert!(super::fixture::poll(&mut close).is_pending());
    drop(close);
    desk.hold_writes(false);
    desk.writes().into_iter().for_each(xio_core::Held::retry);
    assert_eq!(super::fixture::run(write).unwrap().n, 1);
    until(|| desk.log.take().iter().any(|l| l == "close"));
    drop(h);
    until(|| engine.handles() == 0);
}

/// Listens, and lets the test have the socket, too.
struct Ear(Arc<Mutex<Option<Sock>>>, Option<Sock>);

impl Level for Ear {
    fn listen<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => op.io(Io::Listen(Box::new(("127.0.0.1:0".parse().unwrap(), SocketOptions::default())))),
            IoDone::Connected(c) => {
                op.set_contact(Contact::new(c.local.expect("an address").to_string()));
                *self.0.lock().unwrap() = Some(c.sock.clone());
                self.1 = Some(c.sock);
                op.finished()
            }
            _ => op.failed(ErrorKind::Contract),
        }
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let _ = op.io_done();
        match self.1.take() {
            Some(sock) => op.io(Io::Close(Box::new((sock, None)))),
            None => op.finished(),
        }
    }
}

#[test]
fn a_closed_server_listens_no_more_though_a_thread_still_has_its_socket() {
    let engine = Engine::new().unwrap();
    let held = Arc::new(Mutex::new(None));
    let h = held.clone();
    let ear = transport(Caps::stream(), Intercepts::LISTEN | Intercepts::CLOSE, move || Ear(h.clone(), None));
    let server = engine.listen(&Stack::new(ear).unwrap(), ()).wait().unwrap();
    let at = server.contact().to_string();
    let _first = std::net::TcpStream::connect(&at).unwrap();
    server.close().unwrap();
    assert!(held.lock().unwrap().is_some());
    let e = std::net::TcpStream::connect(&at).unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::ConnectionRefused);
}
