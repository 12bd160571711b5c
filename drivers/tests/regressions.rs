//! Ways in which the engine, `frame` and `queue` could once be brought to lose, hang or lie.
#![cfg(all(
    feature = "tcp",
    feature = "loop",
    feature = "void",
    feature = "null",
    feature = "frame",
    feature = "queue"
))]

use std::future::{Future, IntoFuture};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use xio_core::attr::{Attr, Label};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cx::EventKind;
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::io::{Direction, Io};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, OpId, Open, Read, Write};
use xio_core::{Contact, Cx, Engine, Error, ErrorKind, Flow, Handle, Held, Level, LevelNode, Op, Stack};
use xio_drivers::{frame, null, queue, tcp, void};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

// ---- fixtures ------------------------------------------------------------------------------------

xio_core::options! {
    /// None.
    pub struct NoOptions for "fix" {}
}

/// A driver whose one level the test made.
struct Fix {
    info: Info,
    sees: Intercepts,
    level: Mutex<Option<Box<dyn Level>>>,
}

impl xio_core::Driver for Fix {
    fn info(&self) -> &Info {
        &self.info
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(NoOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        if self.info.shape == Shape::Transport { Needs::NOTHING } else { Needs::ANY }
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(below.first().map(|b| b.caps.clone()).unwrap_or_else(Caps::stream))
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        self.sees
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        self.level.lock().unwrap().take().ok_or_else(|| ErrorKind::Busy.into())
    }
}

fn fix(shape: Shape, sees: Intercepts, level: impl Level + 'static) -> LevelNode {
    let info = Info::new("fix", shape, "for one test");
    LevelNode::new(Arc::new(Fix { info, sees, level: Mutex::new(Some(Box::new(level))) }))
}

fn free() -> Intercepts {
    Intercepts::CONCURRENT_READS | Intercepts::CONCURRENT_WRITES
}

fn open(engine: &Engine, top: LevelNode) -> Handle {
    engine.open(&Stack::new(top).unwrap(), ()).wait().unwrap()
}

/// A handle over TCP with `over` on top, and the raw socket at the other end.
fn raw_with(engine: &Engine, over: impl FnOnce(LevelNode) -> LevelNode) -> (Handle, TcpStream) {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let stack = Stack::new(over(LevelNode::new(tcp::driver()))).unwrap();
    let h = engine.open(&stack, Contact::new(l.local_addr().unwrap().to_string())).wait().unwrap();
    (h, l.accept().unwrap().0)
}

/// Ends the test run if `f` takes longer than `limit`: a hang is a failure, not a wait.
fn within<T: Send + 'static>(limit: Duration, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (tx, rx) = mpsc::channel();
    let t = std::thread::spawn(move || {
        let _ = tx.send(f());
    });
    match rx.recv_timeout(limit) {
        Ok(v) => {
            t.join().unwrap();
            v
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(t.join().err().unwrap_or_else(|| Box::new("gone")))
        }
    }
}

#[derive(Default)]
struct Flag(AtomicUsize);
impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<F: Future + Unpin>(f: &mut F, flag: &Arc<Flag>) -> Poll<F::Output> {
    let waker = Waker::from(flag.clone());
    Pin::new(f).poll(&mut Context::from_waker(&waker))
}

fn spin_until(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !f() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

// ---- cells ---------------------------------------------------------------------------------------

/// Holds the ops it sees and keeps them when they are cancelled; the test lets them go.
struct Holder {
    reads: Arc<Mutex<Vec<Held<Read>>>>,
    writes: Arc<Mutex<Vec<Held<Write>>>>,
    go: Arc<AtomicBool>,
}

impl Level for Holder {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if self.go.load(Ordering::SeqCst) {
            op.put(b"z");
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.reads.lock().unwrap().push(held);
        flow
    }
    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        if self.go.load(Ordering::SeqCst) {
            op.take_all();
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.writes.lock().unwrap().push(held);
        flow
    }
    fn cancel(&mut self, _: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
        Cancel::Keep
    }
}

type Helds<K> = Arc<Mutex<Vec<Held<K>>>>;

fn holder() -> (LevelNode, Helds<Read>, Helds<Write>, Arc<AtomicBool>) {
    let (r, w, go): (Helds<Read>, Helds<Write>, Arc<AtomicBool>) = Default::default();
    let level = Holder { reads: r.clone(), writes: w.clone(), go: go.clone() };
    (fix(Shape::Transport, Intercepts::READ | Intercepts::WRITE | free(), level), r, w, go)
}

#[test]
fn a_deserted_write_leaves_nothing_for_the_next() {
    let engine = Engine::new().unwrap();
    let (bottom, _, writes, go) = holder();
    let h = open(&engine, LevelNode::new(frame::driver()).over(bottom));
    let flag = Arc::default();
    let mut f = h.write("the old message").into_future();
    assert!(poll(&mut f, &flag).is_pending());
    drop(f);
    go.store(true, Ordering::SeqCst);
    let held = writes.lock().unwrap().pop().unwrap();
    held.retry();
    // The cell it used is the next one on this thread.
    let v = open(&engine, LevelNode::new(void::driver()));
    let done = v.write("new").wait().unwrap();
    let text: Vec<u8> = done.pieces.iter().flat_map(|p| p.to_vec()).collect();
    assert_eq!((done.n, &text[..]), (3, &b"new"[..]));
}

#[test]
fn a_deserted_read_leaves_nothing_for_the_next() {
    let engine = Engine::new().unwrap();
    let (bottom, _r, _w, _go) = holder();
    let h = open(&engine, LevelNode::new(frame::driver()).over(bottom));
    let flag = Arc::default();
    let mut f = h.read(BytesMut::with_capacity(77)).into_future();
    assert!(poll(&mut f, &flag).is_pending());
    drop(f);
    engine.shutdown();
    let engine = Engine::new().unwrap();
    let v = open(&engine, LevelNode::new(void::driver()));
    let done = v.read(BytesMut::with_capacity(5)).wait().unwrap();
    assert_eq!((done.n, done.buf.len()), (5, 5));
}

// ---- wake-ups ------------------------------------------------------------------------------------

/// First holds a read, then works until it is let go, then holds again, then finishes.
struct Slow {
    tokens: mpsc::Sender<Held<Read>>,
    step: usize,
    begun: mpsc::Sender<()>,
    gate: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Level for Slow {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        self.step += 1;
        match self.step {
            1 => {
                let (held, flow) = op.hold(cx);
                self.tokens.send(held).unwrap();
                flow
            }
            2 => {
                let (begun, gate) = (self.begun.clone(), self.gate.clone());
                op.work(move |_| {
                    begun.send(()).unwrap();
                    gate.lock().unwrap().recv().unwrap();
                })
            }
            _ => {
                op.put(b"x");
                op.finished()
            }
        }
    }
    fn read_worked<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        self.tokens.send(held).unwrap();
        flow
    }
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let engine = Engine::new().unwrap();
    let ((tokens, token), (begun, working), (go, gate)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let level = Slow { tokens, step: 0, begun, gate: Arc::new(Mutex::new(gate)) };
    let h = open(&engine, fix(Shape::Transport, Intercepts::READ, level));
    let flags: [Arc<Flag>; 3] = Default::default();
    let mut f = h.read(BytesMut::with_capacity(4)).into_future();
    assert!(poll(&mut f, &flags[0]).is_pending());
    let first: Held<Read> = token.recv().unwrap();
    let t = std::thread::spawn(move || first.retry());
    working.recv().unwrap();
    assert!(poll(&mut f, &flags[1]).is_pending());
    go.send(()).unwrap();
    let second = token.recv().unwrap();
    t.join().unwrap();
    assert!(poll(&mut f, &flags[2]).is_pending());
    second.retry();
    spin_until("the newest waker was not woken", || flags[2].0.load(Ordering::SeqCst) == 1);
}

#[test]
fn owner_driven_a_blocking_caller_is_reached_from_another_thread() {
    let engine = Engine::builder().owner_driven().build().unwrap();
    let (h, _peer) = raw_with(&engine, |b| b);
    let r = h.clone();
    within(LONG, move || {
        let t = std::thread::spawn(move || r.read(BytesMut::with_capacity(8)).wait().unwrap_err().kind());
        std::thread::sleep(SHORT);
        h.cancel_all(&[xio_core::driver::OpKind::Read]);
        assert_eq!(t.join().unwrap(), ErrorKind::Cancelled);
    });
}

#[test]
fn owner_driven_blocking_callers_do_not_wait_for_each_other() {
    let engine = Engine::builder().owner_driven().build().unwrap();
    let (a, mut a_peer) = raw_with(&engine, |b| b);
    let (b, mut b_peer) = raw_with(&engine, |b| b);
    within(LONG, move || {
        let t = std::thread::spawn(move || a.read(BytesMut::with_capacity(8)).wait().unwrap().n);
        std::thread::sleep(SHORT);
        // One with a deadline, while the other turns the engine without end.
        let began = Instant::now();
        let e = b.read(BytesMut::with_capacity(8)).deadline(SHORT).wait().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
        // And data that comes for it.
        for _ in 0..20 {
            let mut p = b_peer.try_clone().unwrap();
            let late = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                p.write_all(b"x").unwrap();
            });
            assert_eq!(b.read(BytesMut::with_capacity(8)).deadline(LONG).wait().unwrap().n, 1);
            late.join().unwrap();
        }
        b_peer.write_all(b"y").unwrap();
        a_peer.write_all(b"zz").unwrap();
        assert_eq!(t.join().unwrap(), 2);
    });
}

#[test]
fn a_turn_with_a_time_ends_while_another_thread_turns() {
    let engine = Engine::builder().owner_driven().build().unwrap();
    let other = engine.clone();
    let t = std::thread::spawn(move || {
        other.turn(Some(Duration::from_secs(4)));
    });
    std::thread::sleep(SHORT);
    engine.turn(Some(Duration::from_millis(20)));
    assert!(!t.is_finished(), "it waited for the other");
    t.join().unwrap();
}

#[test]
fn a_blocking_close_in_a_callback_gets_its_own_writes_out() {
    let engine = Engine::new().unwrap();
    let o = queue::Options::default().with_early(true).with_linger(Duration::from_secs(60));
    let (h, mut peer) = raw_with(&engine, move |b| LevelNode::new(queue::driver()).with_attr(Box::new(o)).over(b));
    h.write("behind").wait().unwrap();
    let v = open(&engine, LevelNode::new(void::driver()));
    let (tx, rx) = mpsc::channel();
    v.write("x").then(move |_| {
        let began = Instant::now();
        let r = h.close().wait().map_err(|e| e.kind());
        tx.send((r, began.elapsed())).unwrap();
    });
    let (r, took) = rx.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(r.is_ok() && took < Duration::from_secs(1), "{r:?} after {took:?}");
    let mut got = String::new();
    peer.read_to_string(&mut got).unwrap();
    assert_eq!(got, "behind");
}

#[test]
fn events_that_come_while_the_listener_runs_are_not_lost() {
    struct Shout;
    impl Level for Shout {
        fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            cx.event(EventKind::Drained);
            op.take_all();
            op.finished()
        }
    }
    let engine = Engine::new().unwrap();
    let h = open(&engine, fix(Shape::Transport, Intercepts::WRITE | free(), Shout));
    let seen = Arc::new(AtomicUsize::new(0));
    let (count, inner) = (seen.clone(), h.clone());
    h.on_event(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            inner.write("again").then(|_| {});
        }
    });
    h.write("x").wait().unwrap();
    spin_until("the second event was lost", || seen.load(Ordering::SeqCst) == 2);
}

// ---- cancels and deadlines -----------------------------------------------------------------------

/// Works, then asks the pool for something that takes until the other end of the channel goes.
struct ThenPool(mpsc::Sender<()>, Arc<Mutex<mpsc::Receiver<()>>>);
impl Level for ThenPool {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let began = self.0.clone();
        op.work(move |_| {
            began.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        })
    }
    fn read_worked<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let until = self.1.clone();
        op.io(Io::Blocking(Box::new(move || {
            let _ = until.lock().unwrap().recv();
            Ok(Box::new(()))
        })))
    }
}

#[test]
fn a_cancel_that_meets_work_also_stops_the_pool_job_after_it() {
    let engine = Engine::new().unwrap();
    let (tx, rx) = mpsc::channel();
    let (job, until) = mpsc::channel();
    let h = open(&engine, fix(Shape::Transport, Intercepts::READ, ThenPool(tx, Arc::new(Mutex::new(until)))));
    let r = h.clone();
    let t = std::thread::spawn(move || r.read(BytesMut::with_capacity(8)).wait().unwrap_err().kind());
    rx.recv().unwrap();
    h.cancel_all(&[xio_core::driver::OpKind::Read]);
    // The job would take for ever.
    assert_eq!(within(LONG, move || t.join().unwrap()), ErrorKind::Cancelled);
    drop(job);
}

#[test]
fn a_panic_in_work_poisons_its_handle_only() {
    struct Bang;
    impl Level for Bang {
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            op.work(|_| panic!("bang"))
        }
    }
    let engine = Engine::new().unwrap();
    let h = open(&engine, fix(Shape::Transport, Intercepts::READ, Bang));
    // A future first: a panic that gets out of a blocking call aborts the process.
    let flag = Arc::default();
    let mut f = h.read(BytesMut::with_capacity(8)).into_future();
    let out = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut f, &flag)));
    let Ok(Poll::Ready(Err(e))) = out else { panic!("the panic got out of the poll") };
    assert_eq!(e.kind(), ErrorKind::Panicked);
    let e = h.read(BytesMut::with_capacity(8)).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Panicked);
}

#[test]
fn a_shutdown_ends_ops_whose_pool_jobs_never_ran() {
    struct Pooled;
    impl Level for Pooled {
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            op.io(Io::Blocking(Box::new(|| {
                std::thread::sleep(Duration::from_secs(2));
                Ok(Box::new(()))
            })))
        }
    }
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let h = open(&engine, fix(Shape::Transport, Intercepts::READ | free(), Pooled));
    let (tx, rx) = mpsc::channel();
    for _ in 0..2 {
        let tx = tx.clone();
        h.read(BytesMut::with_capacity(8)).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    }
    engine.shutdown();
    for _ in 0..2 {
        assert_eq!(rx.recv_timeout(Duration::from_secs(1)).unwrap(), ErrorKind::Stopped);
    }
}

#[test]
fn the_idle_limit_holds_for_every_ending_and_beside_a_deadline() {
    let engine = Engine::new().unwrap();
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let stack = Stack::new(LevelNode::new(tcp::driver())).unwrap();
    let h = engine.open(&stack, Contact::new(l.local_addr().unwrap().to_string())).read_idle(SHORT).wait().unwrap();
    let _peer = l.accept().unwrap();
    let began = Instant::now();
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(8)).deadline(LONG).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    assert_eq!(rx.recv().unwrap(), ErrorKind::TimedOut);
    assert!(began.elapsed() < LONG / 2, "beside a deadline: {:?}", began.elapsed());
    let began = Instant::now();
    let e = h.read(BytesMut::with_capacity(8)).deadline(LONG).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
    assert!(began.elapsed() < LONG / 2, "blocking: {:?}", began.elapsed());
}

#[test]
fn a_refused_blocking_call_gives_its_buffer_back() {
    let engine = Engine::new().unwrap();
    let (tx, rx) = mpsc::channel();
    let (h, mut peer) = raw_with(&engine, |b| b);
    let c = h.clone();
    h.read(BytesMut::with_capacity(8)).then(move |_| {
        let r = c.read(BytesMut::with_capacity(99)).wait().unwrap_err();
        let w = c.write("hello").wait().unwrap_err();
        tx.send((r.kind(), r.back.buf.capacity(), w.kind(), w.back.pieces.len())).unwrap();
    });
    peer.write_all(b"x").unwrap();
    assert_eq!(rx.recv().unwrap(), (ErrorKind::InCallback, 99, ErrorKind::InCallback, 1));
}

// ---- bytes ---------------------------------------------------------------------------------------

#[test]
fn ready_knows_of_bytes_that_were_put_back() {
    let engine = Engine::new().unwrap();
    let (h, _peer) = raw_with(&engine, |b| b);
    h.unread(Bytes::from_static(b"abc"));
    h.ready(Direction::Read).deadline(SHORT).wait().unwrap();
    assert_eq!(h.read(BytesMut::with_capacity(8)).wait().unwrap().n, 3);
}

// ---- trees and failed levels ---------------------------------------------------------------------

/// Gives itself up when first written to.
struct GivesUp;
impl Level for GivesUp {
    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        cx.fail(Error::new(ErrorKind::Protocol).detail("given up"));
        op.pass()
    }
}

#[test]
fn a_level_in_the_middle_that_gave_up_lets_nothing_through() {
    let engine = Engine::new().unwrap();
    let middle = fix(Shape::Transform, Intercepts::WRITE | free(), GivesUp).over(LevelNode::new(void::driver()));
    let h = open(&engine, LevelNode::new(null::driver()).over(middle));
    let _ = h.write("x").wait();
    assert_eq!(h.read(BytesMut::with_capacity(8)).wait().unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(h.write("y").wait().unwrap_err().kind(), ErrorKind::Protocol);
}

/// A level with two branches that opens both and does not see closes.
struct Both(usize, Option<Held<Open>>);
impl Level for Both {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        cx.open(0, Contact::None, 0);
        cx.open(1, Contact::None, 0);
        let (held, flow) = op.hold(cx);
        self.1 = Some(held);
        flow
    }
    fn own_open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.0 += 1;
        if self.0 == 2
            && let Some(h) = self.1.take()
        {
            cx.finish(h, Ok(()));
        }
        op.finished()
    }
}

struct Refuses;
impl Level for Refuses {
    fn open_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.failed(ErrorKind::Refused)
    }
}

struct Counts(Arc<AtomicUsize>);
impl Level for Counts {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.finished()
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) < 1000, "closed without end");
        op.finished()
    }
}

#[test]
fn an_open_that_fails_over_a_tree_closes_each_leaf_once() {
    let engine = Engine::new().unwrap();
    let n: [Arc<AtomicUsize>; 2] = Default::default();
    let leaf = |n: &Arc<AtomicUsize>| fix(Shape::Transport, Intercepts::OPEN | Intercepts::CLOSE, Counts(n.clone()));
    let both = fix(Shape::Branching, Intercepts::OPEN | free(), Both(0, None))
        .branch("a", leaf(&n[0]))
        .branch("b", leaf(&n[1]));
    let top = fix(Shape::Transform, Intercepts::OPEN_DONE | free(), Refuses).over(both);
    let stack = Stack::new(top).unwrap();
    let kind = within(LONG, move || engine.open(&stack, ()).wait().unwrap_err().kind());
    assert_eq!(kind, ErrorKind::Refused);
    assert_eq!((n[0].load(Ordering::SeqCst), n[1].load(Ordering::SeqCst)), (1, 1));
}

/// A level that reaches for its own handle.
struct Reaches(Arc<Mutex<Option<Handle>>>);
impl Level for Reaches {
    fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        if let Some(h) = self.0.lock().unwrap().as_ref() {
            assert_eq!(h.read(BytesMut::with_capacity(8)).wait().unwrap_err().kind(), ErrorKind::InCallback);
        }
        op.take_all();
        op.finished()
    }
}

#[test]
fn a_blocking_call_in_a_level_is_an_error() {
    let engine = Engine::new().unwrap();
    let own = Arc::new(Mutex::new(None));
    let h = open(&engine, fix(Shape::Transport, Intercepts::WRITE | free(), Reaches(own.clone())));
    *own.lock().unwrap() = Some(h.clone());
    within(LONG, move || h.write("x").wait().unwrap());
    own.lock().unwrap().take();
}

/// Holds another handle and lets it go in its close, which waits for the engine's thread.
struct Tunnel(Option<Handle>, bool);
impl Level for Tunnel {
    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        if !self.1 {
            self.1 = true;
            return op.io(Io::Blocking(Box::new(|| {
                std::thread::sleep(SHORT);
                Ok(Box::new(()))
            })));
        }
        let _ = op.io_done();
        self.0 = None;
        op.finished()
    }
}

#[test]
fn the_last_hold_on_an_engine_may_go_inside_a_level() {
    struct Tell(mpsc::Sender<()>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    struct Bottom(#[allow(dead_code, reason = "held for its drop")] Tell);
    impl Level for Bottom {}
    let engine = Engine::new().unwrap();
    let (tx, rx) = mpsc::channel();
    let inner = open(&engine, fix(Shape::Transport, Intercepts::NONE, Bottom(Tell(tx.clone()))));
    struct Both(Tunnel, Tell);
    impl Level for Both {
        fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
            let held = self.0.0.is_some();
            let flow = self.0.close(cx, op);
            if held && self.0.0.is_none() {
                let _ = self.1.0.send(());
            }
            flow
        }
    }
    let level = Both(Tunnel(Some(inner), false), Tell(tx));
    let outer = open(&engine, fix(Shape::Transport, Intercepts::CLOSE, level));
    drop(engine);
    drop(outer);
    // Both levels are dropped, and the one got out of its close again.
    for _ in 0..3 {
        rx.recv_timeout(LONG).expect("a level was never dropped");
    }
}

/// Works first, in its own time, so that a flush can come in between.
struct Works(mpsc::Sender<()>);
impl Level for Works {
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let begun = self.0.clone();
        op.work(move |_| {
            begun.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(100));
        })
    }
}

/// Keeps a write until a flush comes.
#[derive(Default)]
struct Keeps(Option<Held<Write>>);
impl Level for Keeps {
    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        self.0 = Some(held);
        flow
    }
    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        if let Some(h) = self.0.take() {
            cx.finish(h, Ok(()));
        }
        op.finished()
    }
}

#[test]
fn a_flush_reaches_a_level_that_took_the_write_it_waited_for() {
    let engine = Engine::new().unwrap();
    let (tx, rx) = mpsc::channel();
    let keeps = fix(Shape::Transport, Intercepts::WRITE | Intercepts::FLUSH | free(), Keeps::default());
    let h = open(&engine, fix(Shape::Transform, Intercepts::WRITE | free(), Works(tx)).over(keeps));
    let w = h.clone();
    let t = std::thread::spawn(move || w.write("x").wait().unwrap().n);
    rx.recv().unwrap();
    h.flush().deadline(Duration::from_secs(2)).wait().unwrap();
    assert_eq!(t.join().unwrap(), 1);
}

// ---- queue ---------------------------------------------------------------------------------------

fn queued(o: queue::Options) -> LevelNode {
    LevelNode::new(queue::driver()).with_attr(Box::new(o))
}

fn framed(o: frame::Options) -> LevelNode {
    LevelNode::new(frame::driver()).with_attr(Box::new(o))
}

#[test]
fn a_write_that_rides_with_others_still_has_its_deadline() {
    let engine = Engine::new().unwrap();
    let (bottom, writes) = stuck();
    let h = open(&engine, queued(queue::Options::default()).over(bottom));
    let (tx, rx) = mpsc::channel();
    for _ in 0..3 {
        let tx = tx.clone();
        h.write("abc").deadline(Duration::from_millis(300)).then(move |r| tx.send(r.err().map(|e| e.kind())).unwrap());
    }
    // The first goes alone; let it through, so that the others are joined.
    let first = writes.lock().unwrap().remove(0);
    first.retry();
    let mut got: Vec<_> = (0..3).map(|_| rx.recv_timeout(Duration::from_secs(2)).expect("no end")).collect();
    got.sort_by_key(Option::is_some);
    assert_eq!(got, [None, Some(ErrorKind::TimedOut), Some(ErrorKind::TimedOut)]);
}

#[test]
fn a_cancelled_write_that_rides_with_others_ends_at_once_and_says_what_is_committed() {
    let engine = Engine::new().unwrap();
    let (bottom, writes) = stuck();
    let h = open(&engine, queued(queue::Options::default()).over(bottom));
    let (tx, rx) = mpsc::channel();
    let tickets: Vec<_> = (0..3)
        .map(|i| {
            let tx = tx.clone();
            h.write("abc").then(move |r| tx.send((i, r.map(|d| d.n).map_err(|f| (f.kind(), f.back.n)))).unwrap())
        })
        .collect();
    let first = writes.lock().unwrap().remove(0);
    first.retry();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (0, Ok(3)));
    tickets[1].cancel();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (1, Err((ErrorKind::Cancelled, 3))));
    // The other rides on, and has its real result.
    let joined = writes.lock().unwrap().remove(0);
    joined.fail(ErrorKind::Reset);
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (2, Err((ErrorKind::Reset, 0))));
}

/// Lets one write through when it is retried; the rest stays.
struct Stuck(Helds<Write>, usize);
impl Level for Stuck {
    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        self.1 += 1;
        if self.1 == 2 {
            op.take_all();
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.0.lock().unwrap().push(held);
        flow
    }
}

fn stuck() -> (LevelNode, Helds<Write>) {
    let w: Helds<Write> = Default::default();
    (fix(Shape::Transport, Intercepts::WRITE | free(), Stuck(w.clone(), 0)), w)
}

fn frames(peer: &mut TcpStream) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    let mut out = Vec::new();
    let mut at = &all[..];
    while at.len() >= 4 {
        let n = u32::from_be_bytes(at[..4].try_into().unwrap()) as usize;
        out.push(at[4..4 + n].to_vec());
        at = &at[4 + n..];
    }
    out
}

#[test]
fn a_message_that_is_too_long_fails_alone() {
    let engine = Engine::new().unwrap();
    let f = frame::Options::default().with_max(xio_core::attr::Size(100));
    let (bottom, _, writes, go) = holder();
    let h = open(&engine, queued(queue::Options::default()).over(framed(f).over(bottom)));
    let (tx, rx) = mpsc::channel();
    for (i, n) in [1usize, 10, 200, 20].into_iter().enumerate() {
        let tx = tx.clone();
        h.write(vec![7u8; n]).then(move |r| tx.send((i, r.err().map(|e| e.kind()))).unwrap());
    }
    go.store(true, Ordering::SeqCst);
    let held = writes.lock().unwrap().remove(0);
    held.retry();
    let mut got: Vec<_> = (0..4).map(|_| rx.recv_timeout(LONG).unwrap()).collect();
    got.sort_by_key(|g| g.0);
    assert_eq!(got, [(0, None), (1, None), (2, Some(ErrorKind::TooLong)), (3, None)]);
}

#[test]
fn early_a_message_that_is_too_long_is_refused_at_once() {
    let engine = Engine::new().unwrap();
    let f = frame::Options::default().with_max(xio_core::attr::Size(100));
    let q = queue::Options::default().with_early(true).with_linger(Duration::from_secs(60));
    let (h, mut peer) = raw_with(&engine, |b| queued(q).over(framed(f).over(b)));
    h.write("one").wait().unwrap();
    assert_eq!(h.write(vec![0u8; 200]).wait().unwrap_err().kind(), ErrorKind::TooLong);
    h.write("two").wait().unwrap();
    h.close().wait().unwrap();
    assert_eq!(frames(&mut peer), [b"one", b"two"]);
}

#[test]
fn early_an_empty_message_is_sent() {
    let engine = Engine::new().unwrap();
    let q = queue::Options::default().with_early(true).with_linger(Duration::from_secs(60));
    let (h, mut peer) = raw_with(&engine, |b| queued(q).over(framed(frame::Options::default()).over(b)));
    h.write("").wait().unwrap();
    h.flush().wait().unwrap();
    h.write("").wait().unwrap();
    h.close().wait().unwrap();
    assert_eq!(frames(&mut peer), [b"", b""]);
}

/// Notes each write, and whether it has attrs.
struct Notes(Arc<Mutex<Vec<(usize, bool)>>>);
impl Level for Notes {
    fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        self.0.lock().unwrap().push((op.len(), !op.attrs().is_empty()));
        op.take_all();
        op.finished()
    }
}

#[test]
fn early_an_empty_write_does_not_lend_its_attrs_to_the_next() {
    let engine = Engine::new().unwrap();
    let q = queue::Options::default().with_early(true).with_linger(Duration::from_secs(60));
    let notes: Arc<Mutex<Vec<_>>> = Arc::default();
    let h = open(&engine, queued(q).over(fix(Shape::Transport, Intercepts::WRITE, Notes(notes.clone()))));
    h.write("").attr(Label::ONDEMAND).wait().unwrap();
    h.write("ab").wait().unwrap();
    h.flush().wait().unwrap();
    assert_eq!(*notes.lock().unwrap(), [(2, false)]);
}

/// Takes nothing.
struct Broken;
impl Level for Broken {
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        op.failed(ErrorKind::BrokenPipe)
    }
}

#[test]
fn early_a_close_reports_what_could_not_be_written() {
    let engine = Engine::new().unwrap();
    let q = queue::Options::default().with_early(true).with_linger(Duration::from_secs(60));
    let h = open(&engine, queued(q).over(fix(Shape::Transport, Intercepts::WRITE, Broken)));
    h.write("lost").wait().unwrap();
    assert_eq!(h.close().wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn early_a_close_whose_time_is_over_says_so() {
    let engine = Engine::new().unwrap();
    let q = queue::Options::default().with_early(true).with_linger(Duration::from_secs(60));
    let (bottom, _reads, _writes, _go) = holder();
    let h = open(&engine, queued(q).over(bottom));
    h.write("lost").wait().unwrap();
    let r = h.close().deadline(Duration::from_millis(200)).wait();
    assert_eq!(r.unwrap_err().kind(), ErrorKind::TimedOut, "bytes were lost and the close was content");
}

#[test]
fn a_flush_does_not_wait_for_what_comes_after_it() {
    let engine = Engine::new().unwrap();
    let (bottom, _, writes, _) = holder();
    let h = open(&engine, queued(queue::Options::default()).over(bottom));
    let keep = |h: &Handle| h.write("abc").then(|_| {});
    keep(&h);
    keep(&h);
    let (tx, rx) = mpsc::channel();
    h.flush().then(move |r| tx.send(r.is_ok()).unwrap_or_default());
    // Always one more write waits.
    for _ in 0..20 {
        keep(&h);
        let held: Vec<_> = writes.lock().unwrap().drain(..).collect();
        drop(held);
    }
    assert!(rx.try_recv().is_ok(), "the flush starves");
}

// ---- stale tokens --------------------------------------------------------------------------------

/// Makes a read of its own and lets it go down again when it comes back.
struct Again(usize);
impl Level for Again {
    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let id = cx.take(0, 1, 10, 0);
        cx.cancel(id);
        op.take_all();
        op.finished()
    }
    fn own_read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.0 += 1;
        assert!(self.0 < 3, "the second hold was ended by the token of the first: {:?}", op.error());
        op.pass()
    }
}

/// Holds reads; a cancelled one's token is dropped.
#[derive(Default)]
struct Drops(Option<Held<Read>>, Arc<AtomicUsize>);
impl Level for Drops {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let (held, flow) = op.hold(cx);
        self.0 = Some(held);
        flow
    }
    fn cancel(&mut self, _: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
        self.0 = None;
        Cancel::Take
    }
}

#[test]
fn a_stale_token_does_not_end_a_later_hold_of_the_same_op() {
    let engine = Engine::new().unwrap();
    let holds = Arc::new(AtomicUsize::new(0));
    let drops = fix(Shape::Transport, Intercepts::READ | Intercepts::WRITE | free(), Drops(None, holds.clone()));
    let h = open(&engine, fix(Shape::Transform, Intercepts::WRITE | free(), Again(0)).over(drops));
    h.write("x").wait().unwrap();
    std::thread::sleep(SHORT);
    assert_eq!(holds.load(Ordering::SeqCst), 2);
    h.flush().wait().unwrap();
}

#[test]
fn timers_that_were_dropped_leave_nothing() {
    struct Guards;
    impl Level for Guards {
        fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            drop(cx.after(Duration::from_secs(3600), 0));
            op.take_all();
            op.finished()
        }
    }
    let engine = Engine::new().unwrap();
    let h = open(&engine, fix(Shape::Transport, Intercepts::WRITE | free(), Guards));
    h.write("x").wait().unwrap();
    assert!(engine.next_deadline().is_none());
}
