//! One handle over several branches: routing, merging, ends and errors of branches, servers.
#![cfg(all(feature = "pick", feature = "loop"))]

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::attr::{Group, Size};
use xio_core::caps::{Caps, Unit};
use xio_core::driver::Driver;
use xio_core::io::Direction;
use xio_core::stack::FaultKind;
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, ReadDone, Server, Stack};
use xio_drivers::{loop_, pick};

/// Long enough for anything that comes at all.
const LONG: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
const SHORT: Duration = Duration::from_millis(30);

/// A handle over `pick{a: loop, b: loop}`, and the peers of its branches.
struct Bed {
    engine: Engine,
    stack: Stack,
    servers: Vec<Server>,
    contact: Contact,
}

fn leaf(driver: &Arc<dyn Driver>, options: &loop_::Options) -> LevelNode {
    LevelNode::new(driver.clone()).with_attr(Box::new(options.clone()))
}

impl Bed {
    fn new(labels: &[&str], leaf_options: loop_::Options, options: pick::Options) -> Self {
        let engine = Engine::new().unwrap();
        let driver = loop_::driver();
        let mut top = LevelNode::new(pick::driver()).with_attr(Box::new(options));
        let mut contact = Contact::None;
        let mut servers = Vec::new();
        for l in labels {
            top = top.branch(*l, leaf(&driver, &leaf_options));
            let one = Stack::new(leaf(&driver, &leaf_options)).unwrap();
            servers.push(engine.listen(&one, Contact::new(format!("peer-{l}"))).wait().unwrap());
            contact = contact.with_branch(*l, Contact::new(format!("peer-{l}")));
        }
        Self { engine, stack: Stack::new(top).unwrap(), servers, contact }
    }

    fn messages() -> Self {
        Self::new(&["a", "b"], loop_::Options::default().with_message(true), pick::Options::default())
    }

    fn open(&self) -> (Handle, Vec<Handle>) {
        let h = self.engine.open(&self.stack, self.contact.clone()).deadline(LONG).wait().unwrap();
        let far = |s: &Server| s.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
        (h, self.servers.iter().map(far).collect())
    }
}

fn read(h: &Handle, room: usize) -> Result<(Bytes, Option<String>), ErrorKind> {
    let done = h.read(BytesMut::with_capacity(room)).deadline(LONG).wait().map_err(|f| f.kind())?;
    let label = label(&done);
    Ok((done.into_bytes(), label))
}

fn label(done: &ReadDone) -> Option<String> {
    done.attrs.find::<Group>().map(|g| g.0.clone())
}

fn group(l: &str) -> Group {
    Group(l.into())
}

fn got(text: &'static str, label: &str) -> Result<(Bytes, Option<String>), ErrorKind> {
    Ok((Bytes::from_static(text.as_bytes()), Some(label.into())))
}

#[test]
fn writes_go_where_their_attr_says() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    h.write("to a").attr(group("a")).wait().unwrap();
    h.write("to b").attr(group("b")).wait().unwrap();
    h.write("to the first").wait().unwrap();
    assert_eq!(read(&far[0], 99).unwrap().0, "to a");
    assert_eq!(read(&far[0], 99).unwrap().0, "to the first");
    assert_eq!(read(&far[1], 99).unwrap().0, "to b");
    let f = h.write("x").attr(group("c")).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::InvalidInput);
    assert!(f.to_string().contains("there is no branch `c`; there are a, b"), "{f}");
    assert_eq!((f.back.n, &*f.back.pieces[0], f.back.attrs.find()), (0, &b"x"[..], Some(&group("c"))));
    h.flush().wait().unwrap();
    h.ready(Direction::Write).wait().unwrap();
    h.close().wait().unwrap();
}

#[test]
fn a_default_and_a_branch_for_every_name() {
    let options = pick::Options::default().with_default(Some("b".into()));
    let bed = Bed::new(&["a", "b", "*"], loop_::Options::default(), options);
    let (h, far) = bed.open();
    h.write("1").wait().unwrap();
    h.write("2").attr(group("else")).wait().unwrap();
    assert_eq!(read(&far[1], 9).unwrap().0, "1");
    assert_eq!(read(&far[2], 9).unwrap().0, "2");
    let bed = Bed::new(&["a"], loop_::Options::default(), pick::Options::default().with_default(Some("z".into())));
    let e = bed.engine.open(&bed.stack, bed.contact.clone()).wait().unwrap_err();
    assert!(e.to_string().contains("there is no branch `z`"), "{e}");
}

#[test]
fn reads_come_from_every_branch_in_turn() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    for i in 0..3 {
        far[0].write(format!("a{i}")).wait().unwrap();
        far[1].write(format!("b{i}")).wait().unwrap();
    }
    let all: Vec<_> = (0..6).map(|_| read(&h, 9).unwrap()).collect();
    let labels: String = all.iter().map(|(_, l)| l.clone().unwrap()).collect();
    assert!(labels == "ababab" || labels == "bababa", "{labels}");
    for l in ["a", "b"] {
        let own: Vec<_> = all.iter().filter(|(_, x)| x.as_deref() == Some(l)).map(|(b, _)| b.clone()).collect();
        assert_eq!(own, (0..3).map(|i| format!("{l}{i}")).collect::<Vec<_>>());
    }
    // Reads that wait are served in their order.
    let (tx, rx) = mpsc::channel();
    for i in 0..4 {
        let tx = tx.clone();
        h.read(BytesMut::with_capacity(9)).then(move |r| {
            let done = r.unwrap();
            tx.send((i, label(&done).unwrap(), done.into_bytes())).unwrap();
        });
    }
    for (peer, text) in [(1, "x"), (0, ""), (0, "y"), (1, "z")] {
        far[peer].write(text).wait().unwrap();
    }
    let all: Vec<_> = (0..4).map(|_| rx.recv_timeout(LONG).unwrap()).collect();
    let want = [(0, "b", "x"), (1, "a", ""), (2, "a", "y"), (3, "b", "z")];
    assert_eq!(all, want.map(|(i, l, t)| (i, l.to_owned(), Bytes::from_static(t.as_bytes()))));
}

#[test]
fn a_busy_branch_does_not_starve_another() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    for i in 0..1000u32 {
        far[0].write(i.to_be_bytes().to_vec()).wait().unwrap();
    }
    far[1].write("here").wait().unwrap();
    let at = (0..1001).position(|_| read(&h, 9).unwrap().1.as_deref() == Some("b"));
    assert!(at.unwrap() <= 2, "{at:?}");
}

#[test]
fn chunks_are_merged_uncopied() {
    for message in [false, true] {
        let options = loop_::Options::default().with_message(message);
        let bed = Bed::new(&["a", "b"], options, pick::Options::default());
        let (h, far) = bed.open();
        // Before there is a reader, and after.
        let early = Bytes::from(vec![1; 5000]);
        far[1].write(early.clone()).wait().unwrap();
        let done = h.take(usize::MAX).deadline(LONG).wait().unwrap();
        assert_eq!(done.chunks[0].as_slice().unwrap().as_ptr(), early.as_ptr());
        let (tx, rx) = mpsc::channel();
        h.take(usize::MAX).then(move |r| tx.send(r.unwrap()).unwrap());
        let late = Bytes::from(vec![2; 5000]);
        far[0].write(late.clone()).wait().unwrap();
        let done = rx.recv_timeout(LONG).unwrap();
        assert_eq!(done.chunks[0].as_slice().unwrap().as_ptr(), late.as_ptr());
        assert_eq!((done.n, label(&done).as_deref()), (5000, Some("a")));
    }
}

#[test]
fn a_message_that_does_not_fit_leaves_its_rest() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(2)).then(move |r| tx.send(r.unwrap_err()).unwrap());
    far[1].write(vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defg")]).wait().unwrap();
    let f = rx.recv_timeout(LONG).unwrap();
    assert_eq!((f.kind(), &f.back.buf[..]), (ErrorKind::Truncated { len: 7 }, &b"ab"[..]));
    let f = h.read(BytesMut::with_capacity(2)).wait().unwrap_err();
    assert_eq!((f.kind(), &f.back.buf[..]), (ErrorKind::Truncated { len: 5 }, &b"cd"[..]));
    assert_eq!(read(&h, 9), got("efg", "b"));
}

#[test]
fn a_read_of_a_stream_stays_with_one_branch() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default(), pick::Options::default());
    let (h, far) = bed.open();
    let (tx, rx) = mpsc::channel();
    for i in 0..2 {
        let tx = tx.clone();
        h.read(BytesMut::with_capacity(6)).wait_for(6).then(move |r| {
            let done = r.unwrap();
            tx.send((i, label(&done).unwrap(), done.into_bytes())).unwrap();
        });
    }
    far[0].write("aaa").wait().unwrap();
    far[1].write("bbb").wait().unwrap();
    assert!(rx.recv_timeout(SHORT).is_err());
    far[1].write("BBBrest").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (1, "b".into(), "bbbBBB".into()));
    far[0].write("AAA").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (0, "a".into(), "aaaAAA".into()));
    assert_eq!(read(&h, 9), got("rest", "b"));
    // What it waits for does not come any more.
    far[0].write("xx").wait().unwrap();
    far[0].close().wait().unwrap();
    let f = h.read(BytesMut::with_capacity(9)).wait_for(3).deadline(LONG).wait().unwrap_err();
    assert_eq!((f.kind(), &f.back.buf[..]), (ErrorKind::UnexpectedEof, &b"xx"[..]));
    assert!(f.to_string().contains("branch `a`"), "{f}");
    far[1].write("on").wait().unwrap();
    assert_eq!(read(&h, 9), got("on", "b"));
    // Without the wish to wait, nothing is waited for.
    assert_eq!(h.read(BytesMut::with_capacity(9)).wait_for(0).wait().unwrap().n, 0);
}

#[test]
fn branches_end_one_by_one() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    far[0].write("last of a").wait().unwrap();
    far[0].close().wait().unwrap();
    assert_eq!(read(&h, 99), got("last of a", "a"));
    far[1].write("b goes on").wait().unwrap();
    assert_eq!(read(&h, 99), got("b goes on", "b"));
    assert_eq!(h.write("x").attr(group("a")).wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    let (tx, rx) = mpsc::channel();
    for _ in 0..2 {
        let tx = tx.clone();
        h.read(BytesMut::with_capacity(9)).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    }
    far[1].shutdown().wait().unwrap();
    assert_eq!([(); 2].map(|()| rx.recv_timeout(LONG).unwrap()), [ErrorKind::Eof; 2]);
    assert_eq!(read(&h, 9), Err(ErrorKind::Eof));
    h.ready(Direction::Read).wait().unwrap();
    h.write("b still listens").attr(group("b")).wait().unwrap();
    assert_eq!(read(&far[1], 99).unwrap().0, "b still listens");
}

#[test]
fn an_error_of_a_branch_is_told_once_and_says_which() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    far[1].close().abort().wait().unwrap();
    let f = h.read(BytesMut::with_capacity(9)).deadline(LONG).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::Reset);
    assert!(f.to_string().contains("branch `b`"), "{f}");
    far[0].write("on").wait().unwrap();
    assert_eq!(read(&h, 9), got("on", "a"));
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(9)).then(move |r| tx.send(r.unwrap_err()).unwrap());
    far[0].close().abort().wait().unwrap();
    let f = rx.recv_timeout(LONG).unwrap();
    assert!(f.to_string().contains("branch `a`"), "{f}");
    assert_eq!(read(&h, 9), Err(ErrorKind::Eof));
}

#[test]
fn what_is_read_ahead_is_bounded() {
    let options = loop_::Options::default().with_buffer(Size(1000));
    let bed = Bed::new(&["a", "b"], options, pick::Options::default().with_ahead(Size(500)));
    let (h, far) = bed.open();
    for f in &far {
        let w = f.write(vec![7; 5000]).deadline(SHORT).wait().unwrap_err();
        assert_eq!((w.kind(), w.back.n), (ErrorKind::TimedOut, 1500));
    }
    let mut n = 0;
    while n < 3000 {
        n += read(&h, 4000).unwrap().0.len();
    }
    assert_eq!(n, 3000);
}

#[test]
fn close_and_shutdown_reach_all_branches() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    h.shutdown().wait().unwrap();
    for f in &far {
        assert_eq!(read(f, 9), Err(ErrorKind::Eof));
        f.write("answer").wait().unwrap();
    }
    let mut labels = [(); 2].map(|()| read(&h, 9).unwrap().1.unwrap());
    labels.sort();
    assert_eq!(labels, ["a", "b"]);
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(9)).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    h.close().wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), ErrorKind::Cancelled);
    for f in &far {
        assert_eq!(f.write("x").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
    let (h, far) = bed.open();
    h.close().abort().wait().unwrap();
    for f in &far {
        assert_eq!(read(f, 9), Err(ErrorKind::Reset));
    }
    let (h, far) = bed.open();
    drop(h);
    for f in &far {
        assert_eq!(read(f, 9), Err(ErrorKind::Eof));
    }
}

#[test]
fn flush_waits_for_every_branch() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default().with_buffer(Size(4)), pick::Options::default());
    let (h, far) = bed.open();
    let (tx, rx) = mpsc::channel();
    h.write("abcdefgh").attr(group("b")).then(|r| assert_eq!(r.unwrap().n, 8));
    let (tx2, tx3) = (tx.clone(), tx.clone());
    let ticket = h.flush().then(move |r| tx.send(r.map_err(|e| e.kind())).unwrap());
    ticket.cancel();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Err(ErrorKind::Cancelled));
    h.flush().deadline(SHORT).then(move |r| tx2.send(r.map_err(|e| e.kind())).unwrap());
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Err(ErrorKind::TimedOut));
    h.flush().then(move |r| tx3.send(r.map_err(|e| e.kind())).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err());
    assert_eq!(far[1].read(BytesMut::with_capacity(8)).wait_for(8).wait().unwrap().n, 8);
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Ok(()));
}

#[test]
fn a_branch_that_does_not_open_fails_the_open() {
    let bed = Bed::new(&["a", "b", "c"], loop_::Options::default(), pick::Options::default());
    let contact = bed.contact.clone().with_branch("b", Contact::new("nobody"));
    let e = bed.engine.open(&bed.stack, contact.clone()).deadline(LONG).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    // The stack, the op and the kind stand once, though two levels speak.
    let text = "pick in `pick{a: loop, b: loop, c: loop}`: open: branch `b`: b.loop (loop): connection refused: nobody listens as `nobody`";
    assert_eq!(e.to_string(), text);
    // The branches that were open are closed again.
    for i in [0, 2] {
        let far = bed.servers[i].accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
        assert_eq!(read(&far, 9), Err(ErrorKind::Reset));
    }
    let lacks = Contact::None.with_branch("a", Contact::new("peer-a")).with_branch("c", Contact::new("peer-c"));
    let e = bed.engine.open(&bed.stack, lacks).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidContact);
    assert!(e.to_string().contains("branch `b`"), "{e}");
    let (h, _far) = bed.open();
    h.close().wait().unwrap();
}

#[test]
fn an_open_that_takes_too_long_leaves_nothing_behind() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default().with_backlog(1), pick::Options::default());
    // Nobody accepts on `b`: its backlog is full.
    let one = bed.servers[1].stack().clone();
    let full = bed.engine.open(&one, Contact::new("peer-b")).wait().unwrap();
    let e = bed.engine.open(&bed.stack, bed.contact.clone()).deadline(SHORT).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
    let far = bed.servers[0].accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    assert_eq!(read(&far, 9), Err(ErrorKind::Reset));
    drop(bed.servers[1].accept().wait().unwrap());
    assert_eq!(read(&full, 9), Err(ErrorKind::Reset));
    assert!(bed.servers[1].accept().deadline(SHORT).wait().is_err(), "the late open came through");
}

#[test]
fn a_server_accepts_from_every_branch_in_turn() {
    let bed = Bed::messages();
    let server = bed.engine.listen(&bed.stack, "{a: sa, b: sb}".parse::<Contact>().unwrap()).wait().unwrap();
    assert_eq!(server.contact().to_string(), "{a: loop:sa, b: loop:sb}");
    let one = bed.servers[0].stack().clone();
    let clients: Vec<_> = ["sb", "sb", "sa", "sa"]
        .map(|name| bed.engine.open(&one, Contact::new(name)).wait().unwrap())
        .into_iter()
        .collect();
    let mut order = String::new();
    let mut kept = Vec::new();
    for _ in 0..4 {
        let link = server.accept().deadline(LONG).wait().unwrap();
        let from = link.local().to_string();
        let h = link.open().deadline(LONG).wait().unwrap();
        order.push_str(&from[from.len() - 1..]);
        let label = &from[from.len() - 1..];
        // The branch it came by is the only one, and the default.
        h.write("hello").wait().unwrap();
        let other = if label == "a" { "b" } else { "a" };
        let f = h.write("x").attr(group(other)).wait().unwrap_err();
        assert_eq!(f.kind(), ErrorKind::BrokenPipe);
        assert!(f.to_string().contains("is not open"), "{f}");
        kept.push(h);
    }
    assert!(order == "abab" || order == "baba", "{order}");
    for c in &clients {
        assert_eq!(read(c, 9).unwrap().0, "hello");
    }
    let (tx, rx) = mpsc::channel();
    server.accept().then(move |r| tx.send(r.map(drop).map_err(|e| e.kind())).unwrap());
    server.close().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Err(ErrorKind::Cancelled));
    assert_eq!(bed.engine.open(&one, Contact::new("sa")).wait().unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn an_accepted_handle_reads_and_ends_with_its_branch() {
    let bed = Bed::messages();
    let server = bed.engine.listen(&bed.stack, "{a: sa, b: sb}".parse::<Contact>().unwrap()).wait().unwrap();
    let one = bed.servers[0].stack().clone();
    let client = bed.engine.open(&one, Contact::new("sb")).wait().unwrap();
    client.write("in").wait().unwrap();
    let h = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    assert_eq!(read(&h, 9), got("in", "b"));
    client.close().wait().unwrap();
    assert_eq!(read(&h, 9), Err(ErrorKind::Eof));
    h.close().wait().unwrap();
}

#[test]
fn a_listen_that_fails_stops_what_listened() {
    let bed = Bed::messages();
    let taken = "{a: free, b: peer-b}".parse::<Contact>().unwrap();
    let e = bed.engine.listen(&bed.stack, taken).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrInUse);
    assert!(e.to_string().contains("branch `b`"), "{e}");
    let one = bed.servers[0].stack().clone();
    assert_eq!(bed.engine.open(&one, Contact::new("free")).wait().unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn caps_are_the_weakest_and_units_must_agree() {
    let d = loop_::driver();
    let message = loop_::Options::default().with_message(true);
    let stream = loop_::Options::default();
    let both = |a: &loop_::Options, b: &loop_::Options| {
        Stack::new(LevelNode::new(pick::driver()).branch("a", leaf(&d, a)).branch("b", leaf(&d, b)))
    };
    assert_eq!(*both(&message, &message).unwrap().caps(), Caps::message());
    let caps = both(&stream, &stream).unwrap().caps().clone();
    assert!(caps.unit == Unit::Stream && !caps.ordered);
    let faults = both(&stream, &message).unwrap_err();
    assert!(matches!(&faults[0].kind, FaultKind::Refused(e) if e.kind() == ErrorKind::Misfit));
    let text = faults[0].to_string();
    assert!(text.contains("branch 1 a stream, branch 2 a message"), "{text}");
    #[cfg(feature = "frame")]
    {
        let merged = LevelNode::new(pick::driver()).branch("a", leaf(&d, &stream)).branch("b", leaf(&d, &stream));
        assert!(Stack::new(LevelNode::new(xio_drivers::frame::driver()).over(merged)).is_err());
    }
}

/// Two writers on each of three branches, callbacks and blocking calls, nothing lost or doubled, each
/// branch in order.
#[test]
fn many_messages_through_three_branches() {
    const EACH: u32 = 2000;
    let options = loop_::Options::default().with_message(true).with_buffer(Size(500));
    let bed = Bed::new(&["a", "b", "c"], options, pick::Options::default());
    let (h, far) = bed.open();
    let writers: Vec<_> = far
        .into_iter()
        .map(|f| {
            std::thread::spawn(move || {
                for i in 0..EACH {
                    f.write(i.to_be_bytes().to_vec()).deadline(LONG).wait().unwrap();
                }
                f.close().wait().unwrap();
            })
        })
        .collect();
    let mut next = [0u32; 3];
    loop {
        match read(&h, 4) {
            Ok((b, l)) => {
                let i = usize::from(l.unwrap().as_bytes()[0] - b'a');
                assert_eq!(u32::from_be_bytes(b[..].try_into().unwrap()), next[i]);
                next[i] += 1;
            }
            Err(e) => break assert_eq!(e, ErrorKind::Eof),
        }
    }
    assert_eq!(next, [EACH; 3]);
    writers.into_iter().for_each(|w| w.join().unwrap());
}
