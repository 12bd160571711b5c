//! Branches within branches: `pick{a: pick{x: …, y: …}, *: pick{b: …}}`.

use std::sync::mpsc;

use bytes::{Bytes, BytesMut};
use xio_core::attr::{Group, OpAttrs, Priority, Size};
use xio_core::reactor::Sim;
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::{frame, loop_, pick, queue, tcp};

use super::bed::{LONG, SHORT, got, group, label, leaf, read};

/// `pick{a: pick{x, y}, *: pick{b}}` over loops, and the peers of `a.x`, `a.y`, `*.b`.
fn nest(options: &loop_::Options) -> (Handle, [Handle; 3]) {
    let engine = Engine::new().unwrap();
    let driver = loop_::driver();
    let one = Stack::new(leaf(&driver, options)).unwrap();
    let servers = ["x", "y", "b"].map(|n| engine.listen(&one, Contact::new(n)).wait().unwrap());
    let node = || LevelNode::new(pick::driver());
    let xy = node().branch("x", leaf(&driver, options)).branch("y", leaf(&driver, options));
    let top = node().branch("a", xy).branch("*", node().branch("b", leaf(&driver, options)));
    let contact = "{a: {x: x, y: y}, *: {b: b}}".parse::<Contact>().unwrap();
    let h = engine.open(&Stack::new(top).unwrap(), contact).deadline(LONG).wait().unwrap();
    (h, servers.map(|s| s.accept().deadline(LONG).wait().unwrap().open().wait().unwrap()))
}

#[test]
fn a_group_goes_down_label_by_label_and_comes_back_whole() {
    let (h, far) = nest(&loop_::Options::default().with_message(true));
    let sent = |to: &str| {
        let attrs = OpAttrs::new().with(group(to)).with(Priority(3));
        let done = h.write(to.to_owned()).attrs(attrs.clone()).wait().unwrap();
        assert_eq!(done.attrs, attrs);
    };
    // The label alone leads to the default further down; `b` and `*.b` are one.
    ["a.y", "a.x", "a", "*.b", "b"].iter().for_each(|to| sent(to));
    let got = |i: usize, n: usize| (0..n).map(|_| read(&far[i], 9).unwrap().0).collect::<Vec<_>>();
    assert_eq!([got(0, 2), got(1, 1), got(2, 2)], [vec!["a.x", "a"], vec!["a.y"], vec!["*.b", "b"]]);
    for (to, known) in [("a.z", "x, y"), ("z", "b"), ("*.z", "b")] {
        let f = h.write("lost").attr(group(to)).wait().unwrap_err();
        assert_eq!((f.kind(), f.back.n, f.back.attrs.find()), (ErrorKind::InvalidInput, 0, Some(&group(to))));
        assert!(f.to_string().contains(&format!("there are {known}")), "{f}");
    }
}

#[test]
fn a_write_with_the_attrs_of_a_read_goes_back_to_its_sender() {
    for message in [false, true] {
        let (h, far) = nest(&loop_::Options::default().with_message(message));
        for (i, from) in ["a.x", "a.y", "*.b"].into_iter().enumerate() {
            far[i].write("question").wait().unwrap();
            let done = h.take(99).deadline(LONG).wait().unwrap();
            assert_eq!(label(&done).as_deref(), Some(from));
            h.write("answer").attrs(done.attrs).wait().unwrap();
            assert_eq!(read(&far[i], 99).unwrap().0, "answer");
        }
    }
}

#[test]
fn a_read_never_mixes_branches_of_a_branch() {
    let (h, far) = nest(&loop_::Options::default());
    let (tx, rx) = mpsc::channel();
    for i in 0..2 {
        let tx = tx.clone();
        h.read(BytesMut::with_capacity(6)).wait_for(6).then(move |r| {
            let done = r.unwrap();
            tx.send((i, label(&done).unwrap(), done.into_bytes())).unwrap();
        });
    }
    far[0].write("abc").wait().unwrap();
    far[1].write("yyy").wait().unwrap();
    assert!(rx.recv_timeout(SHORT).is_err());
    far[1].write("YYYrest").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (1, "a.y".into(), "yyyYYY".into()));
    far[0].write("ABC").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (0, "a.x".into(), "abcABC".into()));
    assert_eq!(read(&h, 9), got("rest", "a.y"));
    // What lies there of several is given out one by one, as much of it as fits.
    for (i, text) in [(0, "one"), (1, "two"), (0, "three")] {
        far[i].write(text).wait().unwrap();
    }
    let mut all = [read(&h, 99).unwrap(), read(&h, 99).unwrap()];
    all.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(all.map(Ok), [got("onethree", "a.x"), got("two", "a.y")]);
}

#[test]
fn an_error_further_down_leaves_the_branches_beside_it() {
    for message in [false, true] {
        let (h, far) = nest(&loop_::Options::default().with_message(message));
        far[0].close().abort().wait().unwrap();
        let f = h.read(BytesMut::with_capacity(9)).deadline(LONG).wait().unwrap_err();
        assert_eq!((f.kind(), f.back.attrs.find()), (ErrorKind::Reset, Some(&Group("a.x".into()))));
        assert!(f.to_string().contains("branch `a`") && f.to_string().contains("branch `x`"), "{f}");
        for text in ["still", "here"] {
            far[1].write(text).wait().unwrap();
            assert_eq!(read(&h, 9), got(text, "a.y"));
        }
        // The end of the last one is the end of the branch, and that of the last branch the end.
        far[1].close().wait().unwrap();
        far[2].write("last").wait().unwrap();
        assert_eq!(read(&h, 9), got("last", "*.b"));
        far[2].close().wait().unwrap();
        assert_eq!(read(&h, 9), Err(ErrorKind::Eof));
    }
}

#[test]
fn a_reset_further_down_is_told_after_its_data_and_to_its_readers() {
    let (h, far) = nest(&loop_::Options::default());
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(9)).wait_for(9).then(move |r| tx.send(r.unwrap_err()).unwrap());
    far[0].write("xx").wait().unwrap();
    far[1].write("yy").wait().unwrap();
    assert_eq!(read(&h, 9), got("yy", "a.y"));
    far[0].close().abort().wait().unwrap();
    let f = rx.recv_timeout(LONG).unwrap();
    assert_eq!((f.kind(), &f.back.buf[..], f.back.attrs.find()), (ErrorKind::Reset, &b"xx"[..], Some(&group("a.x"))));
    far[1].write("on").wait().unwrap();
    assert_eq!(read(&h, 9), got("on", "a.y"));
}

#[test]
fn bytes_of_a_reader_who_went_away_stay_with_their_branch() {
    let (h, far) = nest(&loop_::Options::default());
    let mut left = Box::pin(IntoFuture::into_future(h.read(BytesMut::with_capacity(9)).wait_for(9)));
    let waker = std::task::Waker::noop();
    assert!(left.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    far[1].write("yy").wait().unwrap();
    drop(left);
    far[2].write("bbbb").wait().unwrap();
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(4)).wait_for(4).then(move |r| {
        let done = r.unwrap();
        tx.send((label(&done).unwrap(), done.into_bytes())).unwrap();
    });
    assert!(rx.recv_timeout(SHORT).is_err());
    far[1].write("YY").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), ("a.y".into(), Bytes::from_static(b"yyYY")));
    assert_eq!(read(&h, 9), got("bbbb", "*.b"));
}

#[test]
fn a_read_that_waits_behind_what_nobody_reads_is_told_so() {
    let (h, far) = nest(&loop_::Options::default());
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(9)).wait_for(9).then(move |r| tx.send(r.unwrap_err()).unwrap());
    far[0].write("xx").wait().unwrap();
    // It fills what may lie unread of the branch `a`, and that of `y` in it.
    far[1].write(vec![7; 64 << 10]).wait().unwrap();
    let f = rx.recv_timeout(LONG).unwrap();
    assert_eq!((f.kind(), &f.back.buf[..], f.back.attrs.find()), (ErrorKind::Busy, &b"xx"[..], Some(&group("a.x"))));
    assert!(f.to_string().contains("branch `a` is full"), "{f}");
    let mut n = 0;
    while n < 64 << 10 {
        let (bytes, from) = read(&h, 9999).unwrap();
        assert_eq!(from.as_deref(), Some("a.y"));
        n += bytes.len();
    }
    far[0].write("more").wait().unwrap();
    assert_eq!(read(&h, 9), got("more", "a.x"));
}

/// The error of a write is put away at the queue, which sends the next one, and goes on from there: the
/// queue is not what was torn, and hears of every write that it has sent.
#[test]
fn half_a_message_on_one_branch_is_nothing_to_the_others() {
    let sim = Sim::new(0);
    let engine = Engine::builder().owner_driven().reactor(sim.clone()).build().unwrap();
    let options = loop_::Options::default().with_buffer(Size(64));
    let over = |below| LevelNode::new(frame::driver()).over(below);
    let x = over(leaf(&loop_::driver(), &options));
    let y = over(LevelNode::new(tcp::driver()));
    let listen = |node: &LevelNode, at: &str| {
        engine.listen(&Stack::new(node.clone()).unwrap(), Contact::new(at)).wait().unwrap()
    };
    let servers = [listen(&x, "x"), listen(&y, "10.0.0.1:7000")];
    let branches = LevelNode::new(pick::driver()).branch("x", x).branch("y", y);
    let stack = Stack::new(LevelNode::new(queue::driver()).over(branches)).unwrap();
    let to = "{x: x, y: 10.0.0.1:7000}".parse::<Contact>().unwrap();
    let h = engine.open(&stack, to).wait().unwrap();
    let far = servers.each_ref().map(|s| s.accept().wait().unwrap().open().wait().unwrap());
    let (tx, rx) = mpsc::channel();
    for (to, len) in [("x", 1000), ("y", 3), ("x", 4), ("y", 5)] {
        let tx = tx.clone();
        h.write(vec![1; len]).attr(group(to)).then(move |r| tx.send((len, r.map_err(|f| f.kind()).is_ok())).unwrap());
    }
    far[0].close().wait().unwrap();
    let (done, shut) = mpsc::channel();
    h.shutdown().then(move |r| done.send(r.is_ok()).unwrap());
    sim.run(&engine);
    let mut all: Vec<_> = rx.try_iter().collect();
    all.sort_unstable();
    assert_eq!(all, [(3, true), (4, false), (5, true), (1000, false)]);
    assert_eq!(shut.try_recv(), Ok(true));
    assert_eq!([read(&far[1], 9).unwrap().0.len(), read(&far[1], 9).unwrap().0.len()], [3, 5]);
}
