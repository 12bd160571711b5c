//! What reads bring, from which branch, in which order.

use std::sync::mpsc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::attr::{Rate, Size};
use xio_core::{ErrorKind, Handle, LevelNode, Server, Stack};
use xio_drivers::{loop_, pick, rate};

use super::bed::{Bed, LONG, SHORT, got, group, label, read};

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

#[test]
fn the_rest_of_a_message_is_read_before_those_of_other_branches() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    far[0].write("abcdef").wait().unwrap();
    far[1].write("other").wait().unwrap();
    far[0].write("next").wait().unwrap();
    let cut = |room: usize| {
        let f = h.read(BytesMut::with_capacity(room)).deadline(LONG).wait().unwrap_err();
        (f.kind(), f.back.buf.freeze())
    };
    let (first, second) = (read(&h, 9).unwrap(), cut(2));
    // Whichever was first: the other is cut, and read to its end.
    let long = if first.1.as_deref() == Some("a") { "other" } else { "abcdef" };
    assert_eq!(second, (ErrorKind::Truncated { len: long.len() }, Bytes::from(&long[..2])));
    assert_eq!(cut(1), (ErrorKind::Truncated { len: long.len() - 2 }, Bytes::from(&long[2..3])));
    assert_eq!(read(&h, 9).unwrap().0, &long[3..]);
    // Reads that wait are served so, too.
    let (h, far) = bed.open();
    let (tx, rx) = mpsc::channel();
    for i in 0..3 {
        let tx = tx.clone();
        h.read(BytesMut::with_capacity(3)).then(move |r| {
            let done = r.unwrap_or_else(|f| f.back);
            tx.send((i, label(&done).unwrap(), done.into_bytes())).unwrap();
        });
    }
    far[1].write("12345").wait().unwrap();
    far[0].write("a").wait().unwrap();
    let all = [(); 3].map(|()| rx.recv_timeout(LONG).unwrap());
    assert_eq!(
        all.map(|(i, l, b)| (i, l, b.to_vec())),
        [(0, "b".into(), b"123".to_vec()), (1, "b".into(), b"45".to_vec()), (2, "a".into(), b"a".to_vec()),]
    );
}

#[test]
fn a_deadline_over_several_branches_takes_nothing_with_it() {
    for message in [false, true] {
        let options = loop_::Options::default().with_message(message);
        let bed = Bed::new(&["a", "b"], options, pick::Options::default());
        let (h, far) = bed.open();
        let f = h.read(BytesMut::with_capacity(9)).deadline(SHORT).wait().unwrap_err();
        assert_eq!((f.kind(), f.back.n), (ErrorKind::TimedOut, 0));
        // Neither what comes then, nor what came before a read that has no time at all.
        far[1].write("late").wait().unwrap();
        assert_eq!(read(&h, 9), got("late", "b"));
        far[0].write("early").wait().unwrap();
        let done = match h.read(BytesMut::with_capacity(9)).deadline(Duration::ZERO).wait() {
            Ok(done) => (done.buf.freeze(), Some("a".into())),
            Err(f) => {
                assert_eq!((f.kind(), f.back.n), (ErrorKind::TimedOut, 0));
                read(&h, 9).unwrap()
            }
        };
        assert_eq!(Ok(done), got("early", "a"));
    }
    // A read that has some bytes gives them back, and the branch is free for the next.
    let bed = Bed::new(&["a", "b"], loop_::Options::default(), pick::Options::default());
    let (h, far) = bed.open();
    far[0].write("xx").wait().unwrap();
    let f = h.read(BytesMut::with_capacity(9)).wait_for(5).deadline(SHORT).wait().unwrap_err();
    assert_eq!((f.kind(), &f.back.buf[..], f.back.attrs.find()), (ErrorKind::TimedOut, &b"xx"[..], Some(&group("a"))));
    far[0].write("yy").wait().unwrap();
    assert_eq!(read(&h, 9), got("yy", "a"));
}

#[test]
fn a_read_that_is_cancelled_leaves_its_turn_to_the_next() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default(), pick::Options::default());
    let (h, far) = bed.open();
    let (tx, rx) = mpsc::channel();
    let tickets: Vec<_> = (0..3)
        .map(|i| {
            let tx = tx.clone();
            h.read(BytesMut::with_capacity(4)).wait_for(4).then(move |r| {
                let (kind, done) = r.map_or_else(|f| (Some(f.error.kind()), f.back), |d| (None, d));
                tx.send((i, kind, done.into_bytes())).unwrap();
            })
        })
        .collect();
    far[0].write("aa").wait().unwrap();
    far[1].write("bbbb").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (1, None, "bbbb".into()));
    tickets[0].cancel();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (0, Some(ErrorKind::Cancelled), "aa".into()));
    far[0].write("AAAA").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), (2, None, "AAAA".into()));
}

/// A branch that never rests does not keep the others from being read, however much of it there is.
#[test]
fn a_branch_that_is_written_without_end_leaves_room_for_others() {
    let options = loop_::Options::default().with_buffer(Size(1000));
    let bed = Bed::new(&["busy", "b"], options, pick::Options::default().with_ahead(Size(500)));
    let (h, far) = bed.open();
    fn refill(far: &Handle) {
        let again = far.clone();
        far.write(vec![7; 900]).then(move |r| {
            if r.is_ok() {
                refill(&again);
            }
        });
    }
    refill(&far[0]);
    for i in 0..50u8 {
        far[1].write(vec![i]).wait().unwrap();
        let at = (0..9).find(|_| read(&h, 100).unwrap() == (Bytes::from(vec![i]), Some("b".into())));
        assert!(at.is_some_and(|at| at <= 3), "{i} came after {at:?} reads");
    }
    h.close().abort().wait().unwrap();
}

/// A level that asks for a read in parts gets all of them from one branch.
#[test]
fn a_read_that_is_asked_for_in_parts_stays_with_its_branch() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default(), pick::Options::default());
    let parts = rate::Options::default().with_limit(Some(Rate(100_000))).with_burst(Some(Size(4)));
    let level = LevelNode::new(rate::driver()).with_attr(Box::new(parts));
    let stack = Stack::new(level.over(bed.stack.root())).unwrap();
    for round in 0..5 {
        let h = bed.engine.open(&stack, bed.contact.clone()).deadline(LONG).wait().unwrap();
        let far = |s: &Server| s.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
        let far: Vec<_> = bed.servers.iter().map(far).collect();
        far[0].write(vec![b'a'; 10]).wait().unwrap();
        far[1].write(vec![b'b'; 10]).wait().unwrap();
        let (tx, rx) = mpsc::channel();
        h.read(BytesMut::with_capacity(25)).wait_for(13).then(move |r| tx.send(r.unwrap().buf).unwrap());
        let more = |f: &Handle, c| f.write(vec![c; 5]).wait().unwrap();
        more(&far[0], b'a');
        more(&far[1], b'b');
        let got = rx.recv_timeout(LONG).unwrap();
        assert!(got.len() >= 13 && got.iter().all(|c| *c == got[0]), "{round}: {got:?}");
    }
}
