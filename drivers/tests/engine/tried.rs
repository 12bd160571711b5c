//! What happens to a read or write while it is tried, before it has a number: a cancel, a close, a level
//! that gives itself up, bytes that fall back. The socket runs what the test gives it inside an attempt.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xio_core::buffer::{Piece, Room};
use xio_core::caps::Caps;
use xio_core::driver::{Intercepts, OpKind};
use xio_core::io::{Connected, Direction, Io, IoDone, RuntimeOption, Sock, Socket, SocketOptions};
use xio_core::op::{Close, Flush, Open, Read, Write};
use xio_core::reactor::{Bell, Waiter};
use xio_core::{Cx, Engine, Error, ErrorKind, Flow, Handle, Level, LevelNode, Op};
use xio_drivers::{frame, null};

use super::fixture::{LONG, get, none, open, poll, results, room, run, transform, transport};

type Hook = Box<dyn FnOnce() + Send>;

/// What the test does during the next attempts.
#[derive(Clone, Default)]
struct During {
    recv: Arc<Mutex<VecDeque<Hook>>>,
    send: Arc<Mutex<VecDeque<Hook>>>,
    /// After a wait on the caller's thread.
    waited: Arc<Mutex<VecDeque<Hook>>>,
    patient: Arc<Mutex<u32>>,
    /// When it is asked whether it is ready.
    asked: Arc<Mutex<VecDeque<Hook>>>,
    /// Patient calls that a signal is to end.
    signals: Arc<Mutex<u32>>,
    spin: Arc<Mutex<Duration>>,
}

impl During {
    fn recv(&self, f: impl FnOnce() + Send + 'static) {
        self.recv.lock().unwrap().push_back(Box::new(f));
    }
    fn send(&self, f: impl FnOnce() + Send + 'static) {
        self.send.lock().unwrap().push_back(Box::new(f));
    }
    fn waited(&self, f: impl FnOnce() + Send + 'static) {
        self.waited.lock().unwrap().push_back(Box::new(f));
    }
}

fn run_next(hooks: &Mutex<VecDeque<Hook>>) {
    let f = hooks.lock().unwrap().pop_front();
    if let Some(f) = f {
        f();
    }
}

struct Hooked(Sock, During);

impl Socket for Hooked {
    fn recv(&self, room: &mut Room<'_>) -> io::Result<usize> {
        let r = self.0.socket().recv(room);
        run_next(&self.1.recv);
        r
    }
    fn recv_patiently(&self, room: &mut Room<'_>) -> io::Result<usize> {
        *self.1.patient.lock().unwrap() += 1;
        let left = self.1.signals.lock().unwrap().checked_sub(1);
        if let Some(left) = left {
            *self.1.signals.lock().unwrap() = left;
            return Err(io::ErrorKind::Interrupted.into());
        }
        let r = self.0.socket().recv_patiently(room);
        run_next(&self.1.recv);
        r
    }
    fn send(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        let r = self.0.socket().send(pieces, skip);
        run_next(&self.1.send);
        r
    }
    fn send_patiently(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        *self.1.patient.lock().unwrap() += 1;
        self.send(pieces, skip)
    }
    fn accept(&self) -> io::Result<Connected> {
        self.0.socket().accept()
    }
    fn finish_connect(&self) -> io::Result<Option<std::net::SocketAddr>> {
        self.0.socket().finish_connect()
    }
    fn local(&self) -> Option<std::net::SocketAddr> {
        self.0.socket().local()
    }
    fn shutdown_write(&self) -> io::Result<()> {
        self.0.socket().shutdown_write()
    }
    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.0.socket().set_linger(linger)
    }
    fn is_ready(&self, direction: Direction) -> bool {
        run_next(&self.1.asked);
        self.0.socket().is_ready(direction)
    }
    /// For nothing: whoever waited looks itself.
    fn is_ready_patiently(&self, _: Direction) -> bool {
        run_next(&self.1.recv);
        true
    }
    fn arm(&self, direction: Direction, waiter: Waiter) -> bool {
        self.0.socket().arm(direction, waiter)
    }
    fn disarm(&self, direction: Direction, waiter: &Waiter) {
        self.0.socket().disarm(direction, waiter);
    }
    fn wait_here(&self, direction: Direction, bell: &Bell, timeout: Option<Duration>) -> Option<()> {
        let r = self.0.socket().wait_here(direction, bell, timeout);
        run_next(&self.1.waited);
        r
    }
    fn spin(&self) -> Duration {
        *self.1.spin.lock().unwrap()
    }
    fn prepare(&self, options: &SocketOptions) -> io::Result<()> {
        self.0.socket().prepare(options)
    }
    fn set_option(&self, option: RuntimeOption) -> io::Result<()> {
        self.0.socket().set_option(option)
    }
}

/// A transport over a hooked socket. Woken, it gives itself up.
struct Wire(Arc<Mutex<Option<UnixStream>>>, During, Option<Sock>, Arc<Mutex<Option<xio_core::cx::LevelWaker>>>);

impl Level for Wire {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        *self.3.lock().unwrap() = Some(cx.waker());
        match op.io_done() {
            IoDone::None => {
                let fd = self.0.lock().unwrap().take().expect("one open a socket");
                op.io(Io::Adopt(Box::new((fd.into(), SocketOptions::default()))))
            }
            IoDone::Connected(c) => {
                self.2 = Some(Sock::new(Arc::new(Hooked(c.sock, self.1.clone()))));
                op.finished()
            }
            IoDone::Failed(e) => op.failed(e),
            _ => op.failed(ErrorKind::Contract),
        }
    }
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let sock = self.2.clone().expect("open");
        op.io(Io::Recv(sock))
    }
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let sock = self.2.clone().expect("open");
        op.io(Io::Send(sock))
    }
    /// Asks the socket for nothing but that it is asked.
    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        cx.nudge(self.2.clone().expect("open"));
        op.finished()
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.2 = None;
        op.finished()
    }
    fn woken(&mut self, cx: &mut Cx<'_>) {
        cx.fail(Error::new(ErrorKind::Protocol));
    }
}

/// Its reads wait for readiness a moment, then they are held for good.
struct Patient(Wire, Vec<xio_core::Held<Read>>);

impl Level for Patient {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.0.open(cx, op)
    }
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if let IoDone::None = op.io_done() {
            let sock = self.0.2.clone().expect("open");
            return op.io(Io::Ready(sock, Direction::Read));
        }
        let (held, flow) = op.hold(cx);
        self.1.push(held);
        flow
    }
    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.0.close(cx, op)
    }
}

struct Line {
    node: LevelNode,
    far: UnixStream,
    during: During,
    waker: Arc<Mutex<Option<xio_core::cx::LevelWaker>>>,
}

fn line(caps: Caps) -> Line {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = Arc::new(Mutex::new(Some(near)));
    let sees = Intercepts::OPEN | Intercepts::CLOSE | Intercepts::READ | Intercepts::WRITE | Intercepts::FLUSH;
    let during = During::default();
    let waker = Arc::new(Mutex::new(None));
    let (d, w) = (during.clone(), waker.clone());
    let node = transport(caps, sees, move || Wire(near.clone(), d.clone(), None, w.clone()));
    Line { node, far, during, waker }
}

fn tell(far: &mut UnixStream, bytes: &[u8]) {
    io::Write::write_all(far, bytes).unwrap();
}

/// Reads in the three ways there are.
fn each_way(h: &Handle, n: usize, way: usize) -> Result<usize, ErrorKind> {
    match way {
        0 => h.read(room(n)).deadline(Duration::from_secs(2)).wait().map(|d| d.n).map_err(|f| f.kind()),
        1 => {
            let (reply, rx) = results();
            let r = reply();
            h.read(room(n))
                .deadline(Duration::from_secs(2))
                .then(move |x| r.send(x.map(|d| d.n).map_err(|f| f.kind())));
            get(&rx)
        }
        _ => run(h.read(room(n)).deadline(Duration::from_secs(2)).into_future()).map(|d| d.n).map_err(|f| f.kind()),
    }
}

#[test]
fn a_nudge_is_made_once_with_the_lock_free_whatever_comes_of_it() {
    let engine = Engine::new().unwrap();
    let l = line(Caps::stream());
    let h = open(&engine, l.node);
    let (reply, rx) = results();
    for panics in [false, true, false] {
        let (copy, r) = (h.clone(), reply());
        l.during.asked.lock().unwrap().push_back(Box::new(move || {
            // Takes the lock.
            r.send(copy.outstanding());
            assert!(!panics, "a panic of the socket's, which harms nobody");
        }));
        h.flush().wait().unwrap();
        assert_eq!(get(&rx), (0, 0));
        assert!(l.during.asked.lock().unwrap().is_empty());
    }
    h.close().wait().unwrap();
}

#[test]
fn a_cancel_while_a_read_is_tried_holds_for_its_next_attempts() {
    let engine = Engine::new().unwrap();
    for way in 0..3 {
        let mut l = line(Caps::stream());
        let h = open(&engine, LevelNode::new(frame::driver()).over(l.node));
        // The header alone: the level above asks once more.
        tell(&mut l.far, &[0, 0, 0, 5]);
        let copy = h.clone();
        l.during.recv(move || copy.cancel_all(&[OpKind::Read]));
        assert_eq!(each_way(&h, 9, way), Err(ErrorKind::Cancelled), "way {way}");
    }
}

#[test]
fn a_level_that_gives_itself_up_while_a_read_is_tried_ends_it() {
    let engine = Engine::new().unwrap();
    for way in 0..3 {
        let l = line(Caps::stream());
        let h = open(&engine, LevelNode::new(null::driver()).over(l.node));
        let waker = l.waker.lock().unwrap().clone().unwrap();
        l.during.recv(move || waker.wake());
        assert_eq!(each_way(&h, 9, way), Err(ErrorKind::Protocol), "way {way}");
    }
}

#[test]
fn a_level_that_gives_itself_up_while_a_numbered_op_is_out_ends_it() {
    let engine = Engine::new().unwrap();
    let mut l = line(Caps::stream());
    let h = open(&engine, LevelNode::new(null::driver()).over(l.node));
    let (reply, rx) = results();
    let r = reply();
    h.read(room(9)).wait_for(9).then(move |x| r.send(x.map(|d| d.n).map_err(|f| f.kind())));
    none(&rx);
    // The engine's thread tries it: one byte, then nothing, and meanwhile the level gives up.
    let waker = l.waker.lock().unwrap().clone().unwrap();
    l.during.recv(|| ());
    l.during.recv(move || waker.wake());
    tell(&mut l.far, b"x");
    assert_eq!(get(&rx), Err(ErrorKind::Protocol));
}

/// Keeps what comes up.
struct Keeper(Vec<xio_core::Held<Read>>);

impl Level for Keeper {
    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if op.error().is_some() {
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.0.push(held);
        flow
    }
}

#[test]
fn a_close_while_a_read_is_tried_ends_it_wherever_it_stops() {
    let engine = Engine::new().unwrap();
    for way in 0..3 {
        let mut l = line(Caps::stream());
        let keeper = transform(Intercepts::READ_DONE, || Keeper(Vec::new()));
        let h = open(&engine, keeper.over(l.node));
        tell(&mut l.far, b"abc");
        let (reply, rx) = results();
        let (copy, r) = (h.clone(), reply());
        l.during.recv(move || {
            copy.close().then(move |x| r.send(x.map_err(|e| e.kind())));
        });
        assert_eq!(each_way(&h, 9, way), Err(ErrorKind::Cancelled), "way {way}");
        assert_eq!(get(&rx), Ok(()));
    }
}

/// Sets a timer on each read and write, and notes that it came.
struct Ticker(Arc<Mutex<u32>>, Vec<xio_core::cx::Timer>, bool);

impl Level for Ticker {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.1.push(cx.after(Duration::from_millis(20), 0));
        op.pass()
    }
    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        self.1.push(cx.after(Duration::from_millis(20), 0));
        if self.2 {
            op.take_all();
            return op.finished();
        }
        op.pass()
    }
    fn timer(&mut self, _: &mut Cx<'_>, _: u32) {
        *self.0.lock().unwrap() += 1;
    }
}

#[test]
fn a_timer_set_in_an_op_that_never_waits_fires() {
    for finishes in [false, true] {
        let engine = Engine::new().unwrap();
        let l = line(Caps::stream());
        let count = Arc::new(Mutex::new(0));
        let c = count.clone();
        let ticker = transform(Intercepts::READ | Intercepts::WRITE, move || Ticker(c.clone(), Vec::new(), finishes));
        let h = open(&engine, ticker.over(l.node));
        // The engine sleeps without an end.
        std::thread::sleep(Duration::from_millis(50));
        h.write("x").wait().unwrap();
        super::fixture::until(|| *count.lock().unwrap() == 1);
        std::thread::sleep(Duration::from_millis(50));
        let reader = h.clone();
        let t = std::thread::spawn(move || reader.read(room(9)).wait().map_err(|f| f.kind()).map(|d| d.n));
        super::fixture::until(|| *count.lock().unwrap() == 2);
        h.cancel_all(&[OpKind::Read]);
        assert_eq!(t.join().unwrap(), Err(ErrorKind::Cancelled));
    }
}

/// Wakes another handle on each read.
struct Nudge(Arc<Mutex<Option<xio_core::Held<Read>>>>);

impl Level for Nudge {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if let Some(h) = self.0.lock().unwrap().take() {
            h.fail(ErrorKind::Io);
        }
        op.pass()
    }
}

/// Holds reads where the test finds them.
struct Shelf(Arc<Mutex<Option<xio_core::Held<Read>>>>);

impl Level for Shelf {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        *self.0.lock().unwrap() = Some(held);
        flow
    }
}

#[test]
fn no_callback_runs_while_its_thread_has_an_op_in_hand() {
    // The data is there; or it comes later, and nobody else turns the engine.
    nudged(&Engine::new().unwrap(), false);
    nudged(&Engine::builder().owner_driven().build().unwrap(), true);
}

/// A callback that a read brings about reads, too.
fn nudged(engine: &Engine, later: bool) {
    let slot = Arc::new(Mutex::new(None));
    let s = slot.clone();
    let other = open(engine, transport(Caps::stream(), Intercepts::READ, move || Shelf(s.clone())));
    let l = line(Caps::stream());
    let s = slot.clone();
    let h = open(engine, transform(Intercepts::READ, move || Nudge(s.clone())).over(l.node));
    let (reply, rx) = results();
    let (copy, r) = (h.clone(), reply());
    other.read(room(9)).then(move |x| {
        assert_eq!(x.unwrap_err().kind(), ErrorKind::Io);
        // It may block, and the read that brought it here is ahead of it.
        let got = copy.read(room(1)).deadline(Duration::from_secs(5)).wait().map(|d| d.buf).map_err(|f| f.kind());
        r.send(got);
    });
    assert!(slot.lock().unwrap().is_some());
    let mut far = l.far;
    let writer = std::thread::spawn(move || {
        if later {
            std::thread::sleep(Duration::from_millis(50));
        }
        tell(&mut far, b"ab");
        far
    });
    let far = if later { None } else { writer.join().ok() };
    let first = h.read(room(1)).deadline(LONG).wait().unwrap().buf;
    let second = get(&rx);
    assert_eq!((&first[..], second.as_deref()), (&b"a"[..], Ok(&b"b"[..])));
    drop(far);
}

#[test]
fn a_read_that_waits_for_nothing_does_not_wait() {
    let engine = Engine::new().unwrap();
    let l = line(Caps::stream());
    let h = open(&engine, l.node);
    let done = h.read(room(9)).wait_for(0).wait().unwrap();
    assert_eq!((done.n, *l.during.patient.lock().unwrap()), (0, 0));
}

#[test]
fn only_a_blocking_caller_has_patience() {
    let engine = Engine::new().unwrap();
    let mut l = line(Caps::stream());
    let h = open(&engine, l.node);
    let soon = Duration::from_millis(40);
    tell(&mut l.far, b"abcde");
    run(h.write(&b"x"[..]).into_future()).unwrap();
    assert_eq!(run(h.read(room(1)).into_future()).unwrap().buf, "a");
    h.write(&b"x"[..]).deadline(soon).wait().unwrap();
    assert_eq!(h.read(room(1)).deadline(soon).wait().unwrap().buf, "b");
    assert_eq!(*l.during.patient.lock().unwrap(), 0);
    h.write(&b"x"[..]).wait().unwrap();
    assert_eq!(h.read(room(1)).wait().unwrap().buf, "c");
    assert_eq!(*l.during.patient.lock().unwrap(), 2);
}

#[test]
fn patience_ends_with_a_signal() {
    let engine = Engine::new().unwrap();
    let mut l = line(Caps::stream());
    let h = open(&engine, l.node);
    // Signals that come faster than a wait ends would have the caller wait where nobody can ring it.
    *l.during.signals.lock().unwrap() = 3;
    tell(&mut l.far, b"a");
    assert_eq!(h.read(room(1)).wait().unwrap().buf, "a");
    assert_eq!(*l.during.patient.lock().unwrap(), 1);
}

#[test]
fn patience_with_a_peer_that_dribbles_ends() {
    const BYTES: usize = 100;
    let engine = Engine::new().unwrap();
    let mut l = line(Caps::stream());
    let h = open(&engine, l.node);
    tell(&mut l.far, b".");
    for _ in 1..BYTES {
        let mut far = l.far.try_clone().unwrap();
        l.during.recv(move || {
            std::thread::sleep(Duration::from_millis(1));
            tell(&mut far, b".");
        });
    }
    assert_eq!(h.read(room(BYTES)).wait_for(BYTES).wait().unwrap().n, BYTES);
    // Four milliseconds after the first byte the caller can be rung, whatever the peer does.
    let patient = *l.during.patient.lock().unwrap();
    assert!((1..=6).contains(&patient), "{patient}");
}

#[test]
fn a_socket_that_panics_in_an_attempt_poisons_its_handle_alone() {
    let engine = Engine::new().unwrap();
    let l = line(Caps::stream());
    let h = open(&engine, l.node);
    l.during.recv(|| panic!("the socket"));
    let (reply, rx) = results();
    let r = reply();
    let copy = h.clone();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        copy.read(room(9)).then(move |x| r.send(x.map(|d| d.n).map_err(|f| f.kind())));
    }));
    assert_eq!(get(&rx), Err(ErrorKind::Panicked));
    assert_eq!(each_way(&h, 9, 0), Err(ErrorKind::Panicked));
}

#[test]
fn a_read_tried_first_comes_first_though_another_got_its_number_before() {
    let engine = Engine::new().unwrap();
    let mut l = line(Caps::stream());
    let h = open(&engine, l.node);
    let (copy, second) = (h.clone(), Arc::new(Mutex::new(None)));
    let s = second.clone();
    l.during.recv(move || {
        let mut f = copy.read(room(9)).into_future();
        assert!(poll(&mut f).is_pending());
        *s.lock().unwrap() = Some(f);
    });
    let mut first = h.read(room(5)).into_future();
    assert!(poll(&mut first).is_pending());
    tell(&mut l.far, b"early");
    super::fixture::until(|| h.outstanding().0 == 1);
    tell(&mut l.far, b"late");
    super::fixture::until(|| h.outstanding().0 == 0);
    drop(first);
    let second = second.lock().unwrap().take().unwrap();
    assert_eq!(run(second).unwrap().buf, "early");
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap().buf, "late");
}

#[test]
fn a_flush_waits_for_a_write_that_is_tried() {
    let engine = Engine::new().unwrap();
    let l = line(Caps::stream());
    let h = open(&engine, LevelNode::new(null::driver()).over(l.node));
    let (reply, rx) = results();
    let (copy, r) = (h.clone(), reply());
    let order = Arc::new(Mutex::new(Vec::new()));
    let o = order.clone();
    let o2 = order.clone();
    l.during.send(move || {
        copy.flush().then(move |x| {
            o.lock().unwrap().push("flush");
            r.send(x.map_err(|e| e.kind()));
        });
        o2.lock().unwrap().push("attempt");
    });
    h.write("x").wait().unwrap();
    assert_eq!(get(&rx), Ok(()));
    assert_eq!(*order.lock().unwrap(), ["attempt", "flush"]);
}

#[test]
fn a_cancel_reaches_a_caller_that_spins_for_the_second_time() {
    let engine = Engine::new().unwrap();
    let mut l = line(Caps::stream());
    let h = open(&engine, l.node);
    let d = l.during.clone();
    // Attempts: nothing; after a wait one byte, then nothing: from here on it spins.
    l.during.recv(|| ());
    l.during.recv(|| ());
    l.during.recv(move || *d.spin.lock().unwrap() = Duration::from_secs(1));
    let copy = h.clone();
    l.during.recv(move || copy.cancel_all(&[OpKind::Read]));
    let t = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        tell(&mut l.far, b"x");
        l.far
    });
    let start = std::time::Instant::now();
    let f = h.read(room(9)).wait_for(2).deadline(LONG).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::Cancelled, 1));
    assert!(start.elapsed() < LONG, "it heard of the cancel only when its time was up");
    drop(t.join().unwrap());
}

#[test]
fn a_read_called_back_late_comes_before_one_that_was_asked_for_later() {
    let engine = Engine::new().unwrap();
    let mut l = line(Caps::stream());
    let h = open(&engine, l.node);
    let mut first = h.read(room(9)).into_future();
    assert!(poll(&mut first).is_pending());
    tell(&mut l.far, b"early");
    super::fixture::until(|| h.outstanding().0 == 0);
    // The second waits on a thread of its own, the third is asked for before that thread wakes up.
    let third = Arc::new(Mutex::new(None));
    let (copy, t) = (h.clone(), third.clone());
    l.during.waited(move || {
        let mut f = copy.read(room(9)).into_future();
        assert!(poll(&mut f).is_pending());
        *t.lock().unwrap() = Some(f);
    });
    let copy = h.clone();
    let second = std::thread::spawn(move || copy.read(room(9)).deadline(Duration::from_secs(5)).wait().map(|d| d.buf));
    super::fixture::until(|| h.outstanding().0 == 1);
    std::thread::sleep(Duration::from_millis(50));
    drop(first);
    assert_eq!(second.join().unwrap().unwrap(), "early");
    tell(&mut l.far, b"late");
    let third = third.lock().unwrap().take().unwrap();
    assert_eq!(run(third).unwrap().buf, "late");
}

#[test]
fn a_wait_for_readiness_ends_when_bytes_fall_back() {
    let engine = Engine::new().unwrap();
    let (a, b) = xio_drivers::loop_::pair_of(&engine, xio_drivers::loop_::Options::default(), |n| n).unwrap();
    let mut first = b.read(room(9)).into_future();
    assert!(poll(&mut first).is_pending());
    a.write("early").wait().unwrap();
    let mut ready = b.ready(Direction::Read).into_future();
    assert!(poll(&mut ready).is_pending());
    drop(first);
    run(ready).unwrap();
    assert_eq!(b.take(9).wait().unwrap().into_bytes(), "early");
    let mut ready = b.ready(Direction::Read).into_future();
    assert!(poll(&mut ready).is_pending());
    b.unread("back".into());
    run(ready).unwrap();
}

#[test]
fn bytes_of_a_read_that_timed_out_stay_behind_those_that_fall_back() {
    let engine = Engine::new().unwrap();
    let (a, b) = xio_drivers::loop_::pair_of(&engine, xio_drivers::loop_::Options::default(), |n| n).unwrap();
    let mut first = b.read(room(5)).into_future();
    assert!(poll(&mut first).is_pending());
    let mut second = b.read(room(9)).wait_for(9).deadline(Duration::from_millis(20)).into_future();
    assert!(poll(&mut second).is_pending());
    a.write("early").wait().unwrap();
    a.write("late").wait().unwrap();
    super::fixture::until(|| b.outstanding().0 == 0);
    drop(first);
    let second = run(second).unwrap_err();
    let mut all = second.back.buf.to_vec();
    while all.len() < 9 {
        all.extend_from_slice(&b.read(room(9)).deadline(LONG).wait().unwrap().buf);
    }
    assert_eq!(String::from_utf8_lossy(&all), "earlylate");
}

#[test]
fn one_that_waited_for_room_and_went_lets_the_next_in() {
    let engine = Engine::new().unwrap();
    let desk = super::desk::Desk::default();
    desk.hold_writes(true);
    let stack = xio_core::Stack::new(desk.node(Intercepts::CONCURRENT_WRITES)).unwrap();
    let h = engine.open(&stack, ()).max_bytes(100).wait().unwrap();
    let ask = |n: usize| {
        let mut f = h.write(vec![0; n]).into_future();
        assert!(poll(&mut f).is_pending());
        f
    };
    let _first = ask(50);
    let big = ask(80);
    let _small = ask(40);
    assert_eq!(h.outstanding(), (0, 1));
    drop(big);
    assert_eq!(h.outstanding(), (0, 2));
    assert_eq!(desk.writes().len(), 2);
}

#[test]
fn a_flush_waits_for_the_writes_before_it_and_for_no_others() {
    let engine = Engine::new().unwrap();
    let desk = super::desk::Desk::default();
    desk.hold_writes(true);
    let stack = xio_core::Stack::new(desk.node(Intercepts::NONE)).unwrap();
    let h = engine.open(&stack, ()).max_ops(1).wait().unwrap();
    let ask = || {
        let mut f = h.write("x").into_future();
        assert!(poll(&mut f).is_pending());
        f
    };
    let mut writes = VecDeque::from([ask(), ask()]);
    let mut flush = h.flush().into_future();
    assert!(poll(&mut flush).is_pending());
    // There is always one that waits for room.
    for i in 0..20 {
        if poll(&mut flush).is_ready() {
            assert!(i >= 1);
            return;
        }
        writes.push_back(ask());
        for held in desk.writes() {
            held.fail(ErrorKind::Io);
        }
        let _ = run(writes.pop_front().unwrap());
    }
    panic!("the flush never went");
}

#[test]
fn a_read_called_back_has_all_its_room_again() {
    let engine = Engine::new().unwrap();
    let mut l = line(Caps::stream());
    let h = open(&engine, l.node);
    let mut first = h.read(room(5)).into_future();
    assert!(poll(&mut first).is_pending());
    let mut second = h.read(room(1000)).wait_for(1000).into_future();
    assert!(poll(&mut second).is_pending());
    let (seen, bytes) = (Arc::new(Mutex::new(0)), b"earlyla");
    for _ in 0..3 {
        let s = seen.clone();
        l.during.recv(move || *s.lock().unwrap() += 1);
    }
    tell(&mut l.far, bytes);
    super::fixture::until(|| h.outstanding().0 == 1 && *seen.lock().unwrap() == 3);
    drop(first);
    tell(&mut l.far, &[b'x'; 993]);
    assert!(run(second).unwrap().buf.ends_with(b"xx"));
}

#[test]
fn a_read_that_had_nothing_when_it_was_called_back_has_the_place_of_what_it_gets() {
    let engine = Engine::new().unwrap();
    let (a, b) = xio_drivers::loop_::pair_of(&engine, xio_drivers::loop_::Options::default(), |n| n).unwrap();
    let ask = |n, wait_for| {
        let mut f = b.read(room(n)).wait_for(wait_for).into_future();
        assert!(poll(&mut f).is_pending());
        f
    };
    let (first, second) = (ask(9, 1), ask(5, 0));
    // The second wants nothing and has ended with nothing when the bytes of the first fall back.
    a.write("abcdefghi").wait().unwrap();
    let third = ask(9, 1);
    drop(first);
    drop(second);
    assert_eq!(run(third).unwrap().buf, "abcde");
    assert_eq!(b.take(9).deadline(LONG).wait().unwrap().into_bytes(), "fghi");
}

#[test]
fn a_cancelled_read_is_not_called_back() {
    let engine = Engine::new().unwrap();
    let (a, b) = xio_drivers::loop_::pair_of(&engine, xio_drivers::loop_::Options::default(), |n| n).unwrap();
    let ask = || {
        let mut f = b.read(room(9)).into_future();
        assert!(poll(&mut f).is_pending());
        f
    };
    let first = ask();
    a.write("early").wait().unwrap();
    let others = [ask(), ask()];
    b.cancel_all(&[OpKind::Read]);
    drop(first);
    for f in others {
        assert_eq!(run(f).unwrap_err().kind(), ErrorKind::Cancelled);
    }
    assert_eq!(b.take(9).deadline(LONG).wait().unwrap().into_bytes(), "early");
}

#[test]
fn a_thread_hears_of_its_read_that_was_called_back_after_it_had_ended() {
    let engine = Engine::new().unwrap();
    let slot = Arc::new(Mutex::new(None));
    let s = slot.clone();
    let other = open(&engine, transport(Caps::stream(), Intercepts::READ, move || Shelf(s.clone())));
    let mut l = line(Caps::stream());
    let s = slot.clone();
    let h = open(
        &engine,
        transform(Intercepts::READ | Intercepts::CONCURRENT_READS, move || Nudge(s.clone())).over(l.node),
    );
    let ask = |n| {
        let mut f = h.read(room(n)).into_future();
        assert!(poll(&mut f).is_pending());
        f
    };
    let (first, second) = (ask(5), ask(9));
    // A callback keeps the third one's thread between its submit and its wait.
    let ((inside, is_inside), (go, may_go)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    other.read(room(9)).then(move |_| {
        inside.send(()).unwrap();
        may_go.recv_timeout(LONG).unwrap();
    });
    let (copy, start) = (h.clone(), std::time::Instant::now());
    let third =
        std::thread::spawn(move || copy.read(room(9)).deadline(LONG).wait().map(|d| d.buf).map_err(|f| f.kind()));
    is_inside.recv_timeout(LONG).unwrap();
    tell(&mut l.far, b"early");
    l.far.shutdown(std::net::Shutdown::Write).unwrap();
    super::fixture::until(|| h.outstanding().0 == 0);
    // The second gets what falls back; the third looks once more, and its thread looks at it meanwhile.
    l.during.recv(move || {
        go.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    });
    drop(first);
    assert_eq!(run(second).unwrap().buf, "early");
    assert_eq!(third.join().unwrap(), Err(ErrorKind::Eof));
    assert!(start.elapsed() < LONG, "it heard of it only when its time was up");
}

#[test]
fn a_wait_for_room_goes_on_when_bytes_fall_back() {
    let engine = Engine::new().unwrap();
    let options = xio_drivers::loop_::Options::default().with_buffer(xio_core::attr::Size(4));
    let (a, b) = xio_drivers::loop_::pair_of(&engine, options, |n| n).unwrap();
    a.write("full").wait().unwrap();
    let mut ready = a.ready(Direction::Write).into_future();
    assert!(poll(&mut ready).is_pending());
    a.unread("back".into());
    std::thread::sleep(super::fixture::SHORT);
    assert!(poll(&mut ready).is_pending());
    assert_eq!(b.take(9).wait().unwrap().into_bytes(), "full");
    run(ready).unwrap();
}

/// A line whose reads wait for readiness, and its handle.
fn patient(engine: &Engine) -> (During, UnixStream, Handle) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = Arc::new(Mutex::new(Some(near)));
    let during = During::default();
    let (d, sees) = (during.clone(), Intercepts::OPEN | Intercepts::CLOSE | Intercepts::READ);
    let node = transport(Caps::stream(), sees, move || {
        Patient(Wire(near.clone(), d.clone(), None, Arc::default()), Vec::new())
    });
    (during, far, open(engine, node))
}

#[test]
fn what_is_asked_of_a_read_that_waits_for_readiness_holds_when_it_is_held() {
    let engine = Engine::new().unwrap();
    let (during, _far, h) = patient(&engine);
    // Bytes fall back: they are its own.
    let copy = h.clone();
    during.recv(move || copy.unread("back".into()));
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap().buf, "back");
    let copy = h.clone();
    during.recv(move || copy.cancel_all(&[OpKind::Read]));
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Cancelled);
    // A close waits for it, and ends it.
    let (reply, rx) = results();
    let (copy, r) = (h.clone(), reply());
    during.recv(move || {
        copy.close().then(move |x| r.send(x.map_err(|e| e.kind())));
    });
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(get(&rx), Ok(()));
}
