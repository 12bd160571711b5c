//! Ends, errors and closes of branches and of all of them.

use std::sync::mpsc;

use bytes::BytesMut;
use xio_core::ErrorKind;
use xio_core::attr::Size;
use xio_core::io::Direction;
use xio_drivers::{loop_, pick};

use super::bed::{Bed, LONG, SHORT, got, group, read};

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
    // The end of the last branch is the end, however it came.
    assert_eq!([(); 2].map(|()| read(&h, 9)), [(); 2].map(|()| Err(ErrorKind::Reset)));
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
