//! What reads bring, from which branch, in which order.

use std::sync::mpsc;

use bytes::{Bytes, BytesMut};
use xio_core::ErrorKind;
use xio_core::attr::Size;
use xio_drivers::{loop_, pick};

use super::bed::{Bed, LONG, SHORT, got, label, read};

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
