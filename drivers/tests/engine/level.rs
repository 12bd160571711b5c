//! What a level can ask for: timers, events, deliveries, failure, work, words, own ops, merging.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use xio_core::attr::Offset;
use xio_core::buffer::{Chunk, Piece};
use xio_core::caps::Caps;
use xio_core::cntl::{Cntl, Command};
use xio_core::cx::{Event, EventKind, Timer};
use xio_core::driver::Intercepts;
use xio_core::io::IoDone;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, OpId, Open, Read, Write};
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Contact, Cx, Engine, Error, ErrorKind, Flow, Held, Level, LevelNode, Op, Stack};
use xio_drivers::{frame, loop_, null, pick, tcp};

use super::desk::Desk;
use super::fixture::{LONG, Log, get, none, open, over_loop, results, room, transform, transport, until};

/// Runs a closure as the level at the bottom: a way into a [`Cx`].
struct Do(Job);

type Job = Box<dyn Fn(&mut Ward, &mut Cx<'_>) + Send>;

impl Command for Do {
    type Reply = ();
    const NAME: &'static str = "Do";
}

/// What [`Do`] works on.
#[derive(Default)]
struct Ward {
    timers: Vec<Timer>,
    fired: Vec<(u32, Instant)>,
    tell: Option<Sender<u32>>,
    refused: usize,
    done: Vec<String>,
    await_reads: bool,
    log: Option<Log>,
}

impl Level for Ward {
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        if let Some(log) = &self.log {
            log.note("close");
        }
        op.finished()
    }
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if self.await_reads { op.await_delivery() } else { op.pass() }
    }
    fn timer(&mut self, _: &mut Cx<'_>, tag: u32) {
        self.fired.push((tag, Instant::now()));
        if let Some(t) = &self.tell {
            t.send(tag).unwrap();
        }
        if tag == 99 {
            self.timers.clear();
        }
    }
    fn io_done(&mut self, _: &mut Cx<'_>, tag: u32, done: IoDone) {
        let text = match done {
            IoDone::Value(v) => format!("{tag}: {}", v.downcast::<u32>().unwrap()),
            other => format!("{tag}: {other:?}"),
        };
        self.done.push(text);
        if let Some(log) = &self.log {
            log.note(format!("io_done {tag}"));
        }
        if let Some(t) = &self.tell {
            t.send(tag).unwrap();
        }
    }
    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        match c.command::<Do>() {
            Some(Do(f)) => {
                f(self, cx);
                c.reply::<Do>(())
            }
            None => Err(c.unsupported()),
        }
    }
}

fn with(h: &xio_core::Handle, level: &str, f: impl Fn(&mut Ward, &mut Cx<'_>) + Send + 'static) {
    h.cntl(level, Do(Box::new(f))).unwrap();
}

/// Hands a value out of [`with`].
fn ask<T: Send + 'static>(
    h: &xio_core::Handle,
    level: &str,
    f: impl Fn(&mut Ward, &mut Cx<'_>) -> T + Send + 'static,
) -> T {
    let (tx, rx) = mpsc::channel();
    with(h, level, move |w, cx| tx.send(f(w, cx)).unwrap());
    get(&rx)
}

/// At the bottom. What a level has on its way is waited for by a close that the level sees.
fn ward(caps: Caps, await_reads: bool) -> LevelNode {
    let sees = Intercepts::READ | Intercepts::CONCURRENT_READS | Intercepts::CLOSE;
    transport(caps, sees, move || Ward { await_reads, ..Ward::default() }).with_id("ward")
}

#[test]
fn timers_fire_once_never_early_and_not_when_dropped() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, ward(Caps::stream(), false));
    let (tx, rx) = mpsc::channel();
    let start = Instant::now();
    with(&h, "ward", move |w, cx| {
        w.tell = Some(tx.clone());
        w.timers.push(cx.after(Duration::from_millis(40), 1));
        w.timers.push(cx.after(Duration::from_millis(20), 2));
        drop(cx.after(Duration::from_millis(10), 3));
        w.timers.push(cx.after(Duration::from_millis(30), 4));
    });
    with(&h, "ward", |w, _| drop(w.timers.pop()));
    assert_eq!([get(&rx), get(&rx)], [2, 1]);
    none(&rx);
    for (tag, at) in ask(&h, "ward", |w, _| w.fired.clone()) {
        let due = Duration::from_millis(if tag == 1 { 40 } else { 20 });
        assert!(at - start >= due, "{tag} fired {:?} early", due - (at - start));
    }
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn a_repeating_timer_stops_with_its_guard_and_with_its_handle() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, ward(Caps::stream(), false));
    let (tx, rx) = mpsc::channel();
    let copy = tx.clone();
    with(&h, "ward", move |w, cx| {
        w.tell = Some(copy.clone());
        w.timers.push(cx.every(Duration::from_millis(5), 7));
    });
    assert_eq!([get(&rx), get(&rx), get(&rx)], [7, 7, 7]);
    // A timer that drops all guards, this one's too.
    with(&h, "ward", |w, cx| w.timers.push(cx.after(Duration::ZERO, 99)));
    while get(&rx) != 99 {}
    none(&rx);
    with(&h, "ward", |w, cx| w.timers.push(cx.every(Duration::from_millis(5), 8)));
    assert_eq!(get(&rx), 8);
    h.close().wait().unwrap();
    while rx.try_recv().is_ok() {}
    none(&rx);
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn an_earlier_timer_wakes_a_sleeping_engine() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, ward(Caps::stream(), false));
    let (tx, rx) = mpsc::channel();
    with(&h, "ward", move |w, cx| {
        w.tell = Some(tx.clone());
        w.timers.push(cx.after(LONG * 2, 1));
    });
    std::thread::sleep(Duration::from_millis(5));
    with(&h, "ward", |w, cx| w.timers.push(cx.after(Duration::from_millis(10), 2)));
    assert_eq!(get(&rx), 2);
}

/// Sees events, and consumes those it is told to.
struct Ears(&'static str, Log, Option<EventKind>);

impl Level for Ears {
    fn event(&mut self, _: &mut Cx<'_>, e: &Event) -> bool {
        self.1.note(format!("{} {:?} by {}", self.0, e.kind, e.branch));
        self.2.as_ref() == Some(&e.kind)
    }
}

#[test]
fn events_rise_level_by_level_until_one_is_consumed() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let ears = |name: &'static str, consumes: Option<EventKind>| {
        let log = log.clone();
        transform(Intercepts::EVENT, move || Ears(name, log.clone(), consumes.clone()))
    };
    let branch = |name, id: &str| ears(name, None).over(ward(Caps::stream(), true).with_id(id));
    let pick = LevelNode::new(pick::driver()).branch("a", branch("low a", "wa")).branch("b", branch("low b", "wb"));
    let top = ears("top", Some(EventKind::Filled)).over(LevelNode::new(null::driver()).over(pick));
    // Nothing opens by itself at `ward`: it is a leaf that does not intercept opens.
    let h = open(&engine, top);
    let (tx, rx) = mpsc::channel();
    h.on_event(move |e| tx.send((e.kind.clone(), e.branch)).unwrap());
    with(&h, "wb", |_, cx| cx.event(EventKind::PathDown));
    assert_eq!(get(&rx).0, EventKind::PathDown);
    assert_eq!(log.take(), ["low b PathDown by 0", "top PathDown by 0"]);
    with(&h, "wa", |_, cx| {
        cx.event(EventKind::Filled);
        cx.event(EventKind::Other("own"));
    });
    assert_eq!(get(&rx).0, EventKind::Other("own"));
    none(&rx);
    let want = ["low a Filled by 0", "top Filled by 0", "low a Other(\"own\") by 0", "top Other(\"own\") by 0"];
    assert_eq!(log.take(), want);
    // A listener may use its handle, and the last one set is the one that hears.
    let (reply, heard) = results();
    let copy = h.clone();
    h.on_event(move |_| reply().send(copy.outstanding()));
    with(&h, "wa", |_, cx| cx.event(EventKind::Drained));
    get(&heard);
    none(&rx);
}

#[test]
fn an_event_says_by_which_branch_it_came() {
    struct Branches(Log, Option<Held<Open>>, u8);
    impl Level for Branches {
        fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            let (held, flow) = op.hold(cx);
            self.1 = Some(held);
            for b in 0..cx.branches() {
                cx.open(b, Contact::None, 0);
            }
            flow
        }
        fn own_open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            self.2 += 1;
            if self.2 == cx.branches()
                && let Some(h) = self.1.take()
            {
                cx.finish(h, Ok(()));
            }
            op.finished()
        }
        fn event(&mut self, cx: &mut Cx<'_>, e: &Event) -> bool {
            self.0.note(format!("{} by {:?}", e.branch, cx.label(e.branch)));
            true
        }
    }
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let copy = log.clone();
    let sees = Intercepts::OPEN | Intercepts::EVENT;
    let below = |id: &str| LevelNode::new(null::driver()).over(ward(Caps::stream(), true).with_id(id));
    let top = super::fixture::branching(sees, move || Branches(copy.clone(), None, 0))
        .branch("x", below("wx"))
        .branch("y", below("wy"));
    let h = open(&engine, top);
    with(&h, "wy", |_, cx| cx.event(EventKind::PathUp));
    with(&h, "wx", |_, cx| cx.event(EventKind::PathUp));
    assert_eq!(log.take(), ["1 by Some(\"y\")", "0 by Some(\"x\")"]);
}

#[test]
fn deliveries_are_bounded_and_come_in_order() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, LevelNode::new(null::driver()).over(ward(Caps::stream(), true)));
    let (reply, rx) = results();
    for i in 0..2 {
        let r = reply();
        h.read(room(4)).then(move |x| r.send((i, x.unwrap().buf.freeze())));
    }
    none(&rx);
    let data = Bytes::from_static(b"abcdefghij");
    let copy = data.clone();
    with(&h, "ward", move |_, cx| cx.deliver(copy.clone().into()).unwrap());
    assert_eq!([get(&rx), get(&rx)], [(0, "abcd".into()), (1, "efgh".into())]);
    let done = h.take(9).wait().unwrap();
    assert_eq!(done.chunks[0].as_slice().unwrap().as_ptr(), data[8..].as_ptr());
    // Nobody reads: so much lies here and no more; the rest comes back to the level.
    let n = ask(&h, "ward", |w, cx| {
        cx.limit_deliveries(1000);
        let mut n = 0;
        while let Ok(()) = cx.deliver(Bytes::from(vec![n; 300]).into()) {
            n += 1;
        }
        w.refused += 1;
        n
    });
    assert_eq!(n, 3);
    let done = h.read(room(2000)).wait_for(900).wait().unwrap();
    assert_eq!(done.buf, [vec![0; 300], vec![1; 300], vec![2; 300]].concat());
    // One larger than the limit goes in alone.
    with(&h, "ward", |_, cx| cx.deliver(Bytes::from(vec![9; 5000]).into()).unwrap());
    assert_eq!(h.take(9000).wait().unwrap().n, 5000);
    // A read that waits can be cancelled, and loses nothing.
    let r = reply();
    let ticket = h.read(room(4)).then(move |x| r.send((7, Bytes::from(format!("{:?}", x.unwrap_err().kind())))));
    ticket.cancel();
    assert_eq!(get(&rx), (7, "Cancelled".into()));
    with(&h, "ward", |_, cx| cx.deliver(Bytes::from_static(b"later").into()).unwrap());
    assert_eq!(h.read(room(9)).wait().unwrap().buf, "later");
}

#[test]
fn delivered_messages_keep_their_borders() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, ward(Caps::message(), true));
    with(&h, "ward", |_, cx| {
        for m in [&b"one"[..], b"", b"three"] {
            cx.deliver(Bytes::from_static(m).into()).unwrap();
        }
    });
    assert_eq!(h.read(room(9)).wait().unwrap().buf, "one");
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap().n, 0);
    let f = h.read(room(2)).wait().unwrap_err();
    assert_eq!((f.kind(), &f.back.buf[..]), (ErrorKind::Truncated { len: 5 }, &b"th"[..]));
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap().buf, "ree");
}

#[test]
fn a_level_that_gives_up_fails_what_is_in_or_below_it_and_all_that_comes() {
    /// Gives up when it is told to.
    struct Quitter;
    impl Level for Quitter {
        fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
            if c.command::<Do>().is_none() {
                return Err(c.unsupported());
            }
            cx.fail(Error::new(ErrorKind::Protocol).detail("it gave up"));
            c.reply::<Do>(())
        }
    }
    // At the top, in the middle, at the bottom.
    for place in 0..3 {
        let engine = Engine::new().unwrap();
        let desk = Desk::default();
        let quitter = || transform(Intercepts::NONE, || Quitter).with_id("quitter");
        let null = || LevelNode::new(null::driver());
        let bottom = desk.node(Intercepts::CONCURRENT_READS);
        let top = match place {
            0 => quitter().over(null().over(bottom)),
            1 => null().over(quitter().over(null().over(bottom))),
            _ => null().over(null().over(quitter().over(bottom))),
        };
        let h = open(&engine, top);
        let (reply, rx) = results();
        for i in 0..2 {
            let r = reply();
            h.read(room(9)).then(move |x| r.send((i, x.unwrap_err())));
        }
        h.cntl("quitter", Do(Box::new(|_, _| ()))).unwrap();
        for i in 0..2 {
            let (n, f) = get(&rx);
            assert_eq!((n, f.kind(), f.back.buf.capacity()), (i, ErrorKind::Protocol, 9));
            assert!(f.to_string().contains("it gave up") && f.to_string().contains("quitter"), "{f}");
        }
        let f = h.read(room(9)).deadline(LONG).wait().unwrap_err();
        assert_eq!(f.kind(), ErrorKind::Protocol, "place {place}");
        let f = h.write("x").deadline(LONG).wait().unwrap_err();
        assert_eq!((f.kind(), f.back.n), (ErrorKind::Protocol, 0), "place {place}");
        assert!(f.to_string().contains("it gave up"), "{f}");
        none(&rx);
        h.close().wait().unwrap();
        // `close` still reached every level.
        assert_eq!(desk.log.take().last().map(String::as_str), Some("close"));
    }
}

/// Turns bytes around with the lock free, both ways.
struct Worker(Arc<AtomicU32>);

impl Level for Worker {
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let count = self.0.clone();
        op.work(move |body| {
            count.fetch_add(body.len() as u32, Ordering::SeqCst);
        })
    }
    fn write_worked<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let mut all: Vec<u8> = op.pieces().iter().flat_map(|p| p.iter().copied()).collect();
        all.reverse();
        op.pass_with(SmallVec::from_iter([Piece::from(Bytes::from(all))]))
    }
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.pass_take(1, 100)
    }
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if op.error().is_some() {
            return op.finished();
        }
        op.work(|body| {
            let below = body.below();
            let mut all: Vec<u8> = below.chunks.into_iter().flat_map(|c| c.into_bytes().to_vec()).collect();
            all.reverse();
            body.put(&all);
        })
    }
}

#[test]
fn work_runs_with_the_lock_free_and_comes_back() {
    let engine = Engine::new().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let copy = count.clone();
    let sees = Intercepts::READ | Intercepts::READ_DONE | Intercepts::WRITE;
    let worker = move |below| {
        let copy = copy.clone();
        transform(sees, move || Worker(copy.clone())).over(below)
    };
    let (h, far) = over_loop(&engine, loop_::Options::default(), |n| LevelNode::new(null::driver()).over(worker(n)));
    let done = h.write("abc").wait().unwrap();
    assert_eq!((done.n, &*done.pieces[0]), (3, &b"abc"[..]));
    assert_eq!(far.read(room(9)).wait().unwrap().buf, "cba");
    // From callbacks and futures, in order, though each is out for a while.
    let (reply, rx) = results();
    for (i, text) in ["12", "34", "56"].into_iter().enumerate() {
        let r = reply();
        h.write(text).then(move |x| r.send((i, x.map(|d| d.n).map_err(|f| f.kind()))));
    }
    assert_eq!([get(&rx), get(&rx), get(&rx)], [(0, Ok(2)), (1, Ok(2)), (2, Ok(2))]);
    assert_eq!(far.read(room(9)).wait_for(6).wait().unwrap().buf, "214365");
    assert_eq!(count.load(Ordering::SeqCst), 9);
    let r = reply();
    h.read(room(9)).then(move |x| r.send((9, x.map(|d| usize::from(d.buf[0])).map_err(|f| f.kind()))));
    far.write("xyz").wait().unwrap();
    assert_eq!(get(&rx), (9, Ok(usize::from(b'z'))));
    far.close().wait().unwrap();
    assert_eq!(h.read(room(9)).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Eof);
}

/// Remembers in the op's word what it saw on the way down.
struct Marks(u64, bool);

impl Level for Marks {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if self.1 {
            assert_eq!(*cx.word(&mut op), 0, "a fresh op has words of its own");
        }
        self.0 += 1;
        *cx.word(&mut op) = self.0;
        op.pass()
    }
    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if self.1 {
            let n = *cx.word(&mut op);
            let so_far = op.attrs().find::<Offset>().map_or(0, |o| o.0);
            op.attrs_mut().set(Offset(so_far * 1000 + n));
        }
        op.finished()
    }
}

#[test]
fn every_level_that_asks_has_a_word_of_its_own_on_every_op() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let marks = |start: u64, declared: bool| {
        let word = if declared { Intercepts::WORD } else { Intercepts::NONE };
        let sees = Intercepts::READ | Intercepts::READ_DONE | Intercepts::CONCURRENT_READS | word;
        transform(sees, move || Marks(start, declared))
    };
    // The third writes into a word although it asked for none: nobody else's may change.
    let bottom = desk.node(Intercepts::CONCURRENT_READS);
    let h = open(&engine, marks(100, true).over(marks(200, true).over(marks(700, false).over(bottom))));
    let (reply, rx) = results();
    for i in 0..3 {
        let r = reply();
        h.read(room(9)).then(move |x| {
            let done = x.unwrap();
            r.send((i, done.attrs.find::<Offset>().unwrap().0));
        });
    }
    for _ in 0..3 {
        desk.give("x");
    }
    // The lower level comes first on the way up.
    assert_eq!([get(&rx), get(&rx), get(&rx)], [(0, 201_101), (1, 202_102), (2, 203_103)]);
    desk.give("y");
    assert_eq!(h.read(room(9)).wait().unwrap().attrs.find::<Offset>().unwrap().0, 204_104);
}

/// Reads ahead on its own account and serves its readers with what came: merging.
struct Ahead {
    held: VecDeque<Held<Read>>,
    stash: VecDeque<Chunk>,
    came_back: Arc<AtomicU32>,
}

impl Level for Ahead {
    fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        cx.take(0, 1, usize::MAX, 5);
        op.finished()
    }
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if let Some(mut c) = self.stash.pop_front() {
            op.put_chunk(&mut c);
            if !c.is_empty() {
                self.stash.push_front(c);
            }
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.held.push_back(held);
        flow
    }
    fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        assert_eq!(op.tag(), 5);
        let below = op.brought();
        assert_eq!(below.got, below.chunks.iter().map(Chunk::len).sum::<usize>());
        if op.error().is_none() {
            cx.take(0, 1, usize::MAX, 5);
        }
        for mut chunk in below.chunks {
            while let Some(held) = self.held.pop_front() {
                match cx.finish_chunk(held, chunk) {
                    Ok(()) => {
                        chunk = Chunk::default();
                        break;
                    }
                    Err(rest) => {
                        self.came_back.fetch_add(1, Ordering::SeqCst);
                        chunk = rest;
                    }
                }
            }
            if !chunk.is_empty() {
                self.stash.push_back(chunk);
            }
        }
        op.finished()
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        op.pass()
    }
    fn cancel(&mut self, _: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
        // Keeps the stale token on purpose.
        Cancel::Take
    }
}

#[test]
fn a_read_finishes_with_a_chunk_that_an_own_read_fetched() {
    let engine = Engine::new().unwrap();
    let came_back = Arc::new(AtomicU32::new(0));
    let copy = came_back.clone();
    let sees = Intercepts::OPEN_DONE | Intercepts::CLOSE | Intercepts::READ | Intercepts::CONCURRENT_READS;
    let ahead = move |n| {
        let copy = copy.clone();
        let make = move || Ahead { held: VecDeque::new(), stash: VecDeque::new(), came_back: copy.clone() };
        transform(sees, make).over(n)
    };
    let (h, far) = over_loop(&engine, loop_::Options::default(), ahead);
    let (reply, rx) = results();
    let r = reply();
    h.take(usize::MAX).then(move |x| r.send(x.map_err(|f| f.kind())));
    let data = Bytes::from(vec![7; 3000]);
    far.write(data.clone()).wait().unwrap();
    let done = get(&rx).unwrap();
    assert_eq!((done.n, done.chunks[0].as_slice().unwrap().as_ptr()), (3000, data.as_ptr()));
    // The chunk of a reader who has gone goes to the next, whole.
    let r = reply();
    let ticket = h.take(usize::MAX).then(move |x| r.send(x.map_err(|f| f.kind())));
    ticket.cancel();
    assert_eq!(get(&rx).unwrap_err(), ErrorKind::Cancelled);
    let r = reply();
    h.take(usize::MAX).then(move |x| r.send(x.map_err(|f| f.kind())));
    far.write(data.clone()).wait().unwrap();
    let done = get(&rx).unwrap();
    assert_eq!((done.n, done.chunks[0].as_slice().unwrap().as_ptr()), (3000, data.as_ptr()));
    assert_eq!(came_back.load(Ordering::SeqCst), 1);
    // One that does not fit is finished with what does, and waits for more if it wants more.
    let r = reply();
    h.read(room(10)).wait_for(8).then(move |x| r.send(x.map_err(|f| f.kind())));
    far.write("12345").wait().unwrap();
    none(&rx);
    far.write("678901").wait().unwrap();
    assert_eq!(get(&rx).unwrap().buf, "1234567890");
    assert_eq!(h.read(room(10)).wait().unwrap().buf, "1");
    h.close().wait().unwrap();
}

/// Writes before and after what it passes, and flushes for itself.
struct Chatty(Log);

impl Level for Chatty {
    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        cx.write(0, SmallVec::from_iter([Piece::inline(b"before")]), 1);
        cx.write(0, SmallVec::from_iter([Piece::inline(b"before too")]), 2);
        op.pass()
    }
    fn write_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        cx.write(0, SmallVec::from_iter([Piece::inline(b"after")]), 3);
        op.finished()
    }
    fn own_write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        self.0.note(format!("own {}", op.tag()));
        op.finished()
    }
}

#[test]
fn what_a_level_asks_for_runs_in_order_before_the_op_moves_on() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let log = desk.log.clone();
    let sees = Intercepts::WRITE | Intercepts::WRITE_DONE;
    let h = open(&engine, transform(sees, move || Chatty(log.clone())).over(desk.node(Intercepts::NONE)));
    h.write("mine").wait().unwrap();
    let want = ["open", "write before", "own 1", "write before too", "own 2", "write mine", "write after", "own 3"];
    assert_eq!(desk.log.take(), want);
}

#[test]
fn requests_of_a_levels_own_come_back() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, ward(Caps::stream(), false));
    let (tx, rx) = mpsc::channel();
    with(&h, "ward", move |w, cx| {
        w.tell = Some(tx.clone());
        cx.blocking(|| Ok(Box::new(42u32)), 1);
        cx.blocking(|| Err(std::io::Error::from(std::io::ErrorKind::NotFound)), 2);
    });
    let mut tags = [get(&rx), get(&rx)];
    tags.sort_unstable();
    assert_eq!(tags, [1, 2]);
    let mut done = ask(&h, "ward", |w, _| w.done.clone());
    done.sort();
    assert_eq!(done[0], "1: 42");
    assert!(done[1].starts_with("2: Failed("), "{}", done[1]);
    // One that is on its way is stopped, and told so, before the level's close; what the pool still
    // makes of it comes too late.
    let (go, wait) = mpsc::channel::<()>();
    let (wait, log) = (Arc::new(Mutex::new(wait)), Log::default());
    let copy = log.clone();
    with(&h, "ward", move |w, cx| {
        let wait = wait.clone();
        let job = move || {
            let _ = wait.lock().unwrap().recv_timeout(LONG);
            Ok(Box::new(1u32) as Box<dyn std::any::Any + Send>)
        };
        (w.tell, w.log) = (None, Some(copy.clone()));
        cx.blocking(job, 3);
    });
    h.close().wait().unwrap();
    go.send(()).unwrap();
    assert_eq!(log.take(), ["io_done 3", "close"]);
}

#[test]
fn a_waker_reaches_its_level_from_any_thread() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, LevelNode::new(null::driver()).over(desk.node(Intercepts::CONCURRENT_READS)));
    let (reply, rx) = results();
    let r = reply();
    h.read(room(9)).then(move |x| r.send(x.unwrap().buf));
    until(|| desk.held() == 1);
    let copy = desk.clone();
    // With no data: the read enters its level again and is held again.
    std::thread::spawn(move || copy.wake()).join().unwrap();
    until(|| desk.held() == 1);
    desk.give("now");
    assert_eq!(get(&rx), "now");
    h.close().wait().unwrap();
    desk.wake();
}

/// Serves each read with an own read of the level below.
struct Servant(Log, VecDeque<Held<Read>>);

impl Level for Servant {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        let own = cx.take(0, 1, 100, 0);
        cx.serve(own, &held);
        self.1.push_back(held);
        flow
    }
    fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        self.0.note(format!("own: {:?}", op.error().map(Error::kind)));
        for chunk in op.brought().chunks {
            if let Some(held) = self.1.pop_front() {
                let _ = cx.finish_chunk(held, chunk);
            }
        }
        op.finished()
    }
    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        op.pass()
    }
    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.1.retain(|h| h.id() != id);
        Cancel::Take
    }
}

#[test]
fn an_own_op_goes_with_the_op_it_serves() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let log = Log::default();
    let copy = log.clone();
    let sees = Intercepts::READ | Intercepts::CLOSE | Intercepts::CONCURRENT_READS;
    let top = transform(sees, move || Servant(copy.clone(), VecDeque::new()));
    let h = open(&engine, top.over(desk.node(Intercepts::CONCURRENT_READS)));
    let (reply, rx) = results();
    let r = reply();
    let ticket = h.read(room(9)).then(move |x| r.send(x.map(|d| d.buf).map_err(|f| f.kind())));
    assert_eq!(desk.held(), 1);
    ticket.cancel();
    assert_eq!(get(&rx), Err(ErrorKind::Cancelled));
    assert_eq!((desk.held(), log.take()), (0, vec!["own: Some(Cancelled)".to_owned()]));
    let r = reply();
    h.read(room(9)).deadline(Duration::from_millis(10)).then(move |x| r.send(x.map(|d| d.buf).map_err(|f| f.kind())));
    assert_eq!(get(&rx), Err(ErrorKind::TimedOut));
    until(|| desk.held() == 0);
    let r = reply();
    h.read(room(9)).deadline(LONG).then(move |x| r.send(x.map(|d| d.buf).map_err(|f| f.kind())));
    desk.give("served");
    assert_eq!(get(&rx).unwrap(), "served");
    // A close with one on its way.
    let r = reply();
    h.read(room(9)).then(move |x| r.send(x.map(|d| d.buf).map_err(|f| f.kind())));
    h.close().wait().unwrap();
    assert_eq!(get(&rx), Err(ErrorKind::Cancelled));
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn each_level_has_a_limit_of_its_own_for_deliveries() {
    let engine = Engine::new().unwrap();
    let pick = LevelNode::new(pick::driver())
        .branch("a", ward(Caps::stream(), true).with_id("wa"))
        .branch("b", ward(Caps::stream(), true).with_id("wb"));
    let h = open(&engine, pick);
    with(&h, "wa", |_, cx| cx.limit_deliveries(100));
    with(&h, "wb", |_, cx| cx.limit_deliveries(1 << 20));
    let fits = |level: &str| {
        ask(&h, level, |_, cx| {
            // The read ahead of `pick` takes the first away.
            cx.deliver(Bytes::from(vec![0; 90]).into()).unwrap();
            cx.deliver(Bytes::from(vec![0; 90]).into()).is_ok()
        })
    };
    assert_eq!((fits("wa"), fits("wb")), (false, true));
}

/// Notes what it sees of a write that comes back.
struct Looker(Log);

impl Level for Looker {
    fn write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let bytes: Vec<u8> = op.pieces().iter().flat_map(|p| p.to_vec()).collect();
        self.0.note(format!("{} {} {}", bytes.len(), op.len(), op.moved()));
        op.finished()
    }
}

#[test]
fn a_level_sees_its_own_pieces_come_back_and_not_those_of_levels_below() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let over = |n| {
        let seen = log.clone();
        let sees = Intercepts::WRITE_DONE | Intercepts::CONCURRENT_WRITES;
        let looker = transform(sees, move || Looker(seen.clone()));
        looker.over(LevelNode::new(frame::driver()).over(n))
    };
    let (a, _b) = over_loop(&engine, loop_::Options::default(), over);
    // Short ones go as one run with their header, long ones behind it.
    for n in [1, 20, 5000] {
        assert_eq!(a.write(vec![7u8; n]).wait().unwrap().pieces.iter().map(|p| p.len()).sum::<usize>(), n);
        assert_eq!(log.take(), [format!("{n} {n} {n}")]);
    }
}

/// Takes ten bytes of a write, then fails it; notes what it was offered.
struct Chokes(Log, u32);

impl Level for Chokes {
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        self.0.note(format!("{}", op.len() - op.moved()));
        self.1 += 1;
        match self.1 {
            1 => op.finished_part(10),
            _ => op.failed(ErrorKind::Reset),
        }
    }
}

/// Sends a failed write down once more.
struct Stubborn(bool);

impl Level for Stubborn {
    fn write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        if op.error().is_some() && !std::mem::replace(&mut self.0, true) { op.pass() } else { op.finished() }
    }
}

#[test]
fn what_failed_half_way_under_a_header_is_not_sent_again() {
    let engine = Engine::new().unwrap();
    let log = Log::default();
    let seen = log.clone();
    let bottom = transport(Caps::stream(), Intercepts::WRITE, move || Chokes(seen.clone(), 0));
    let framed = LevelNode::new(frame::driver()).over(bottom);
    let h = open(&engine, transform(Intercepts::WRITE_DONE, || Stubborn(false)).over(framed));
    let e = h.write(vec![7; 100]).deadline(LONG).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Reset, "{e}");
    // The header and the body once; the rest of them is nobody's to send.
    assert_eq!(log.take(), ["104", "94"]);
    assert_eq!(h.write("more").wait().unwrap_err().kind(), ErrorKind::Reset);
}

#[test]
fn writes_at_the_gate_of_a_torn_stream_all_end() {
    let sim = Sim::with_config(3, SimConfig::calm().with_buffer(10));
    let engine = Engine::builder().owner_driven().reactor(sim.clone()).build().unwrap();
    let node = LevelNode::new(frame::driver()).over(LevelNode::new(tcp::driver()));
    let stack = Stack::new(node).unwrap();
    let server = engine.listen(&stack, Contact::new("10.0.0.1:7000")).wait().unwrap();
    let h = engine.open(&stack, server.contact().clone()).wait().unwrap();
    let peer = server.accept().wait().unwrap().open().wait().unwrap();
    let (tx, rx) = mpsc::channel();
    for _ in 0..9 {
        let tx = tx.clone();
        h.write("").then(move |r| tx.send(r.map_err(|f| f.kind()).err()).unwrap());
    }
    // Two messages and a half fit; nobody reads them.
    peer.close().wait().unwrap();
    sim.run(&engine);
    let all: Vec<_> = rx.try_iter().collect();
    assert_eq!((all.len(), all.iter().flatten().count()), (9, 7), "{all:?}");
}
