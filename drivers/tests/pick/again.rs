//! A branch that is lost and opened again under the same handle.

use std::sync::mpsc;

use bytes::BytesMut;
use xio_core::attr::Size;
use xio_core::cntl::RemoteContact;
use xio_core::cx::EventKind;
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Server, Stack};
use xio_drivers::pick::Reopen;
use xio_drivers::{frame, loop_, pick};

use super::bed::{Bed, LONG, SHORT, got, group, leaf, read};

fn accepted(s: &Server) -> Handle {
    s.accept().deadline(LONG).wait().unwrap().open().wait().unwrap()
}

#[test]
fn a_lost_branch_is_opened_again_and_nothing_else_notices() {
    for message in [false, true] {
        let options = loop_::Options::default().with_message(message);
        let bed = Bed::new(&["a", "b"], options, pick::Options::default());
        let (h, far) = bed.open();
        let (tx, rx) = mpsc::channel();
        h.on_event(move |e| tx.send(e.kind.clone()).unwrap());
        far[0].write("before").wait().unwrap();
        far[1].write("beside").wait().unwrap();
        far[0].close().abort().wait().unwrap();
        let mut all = [(); 3].map(|()| read(&h, 99).map(|(b, _)| b.to_vec()));
        all.sort_by_key(|r| r.clone().unwrap_or_default());
        assert_eq!(all, [Err(ErrorKind::Reset), Ok(b"before".to_vec()), Ok(b"beside".to_vec())]);
        assert_eq!(h.write("x").attr(group("a")).wait().unwrap_err().kind(), ErrorKind::Reset);
        h.cntl("pick", Reopen::new("a")).unwrap();
        h.write("again").attr(group("a")).wait().unwrap();
        assert_eq!(rx.recv_timeout(LONG).unwrap(), EventKind::PathUp);
        let new = accepted(&bed.servers[0]);
        assert_eq!(read(&new, 99).unwrap().0, "again");
        for (far, from) in [(&new, "a"), (&far[1], "b"), (&new, "a")] {
            far.write("back").wait().unwrap();
            assert_eq!(read(&h, 99), got("back", from));
        }
        h.flush().wait().unwrap();
        h.close().wait().unwrap();
        assert_eq!(read(&new, 9), Err(ErrorKind::Eof));
    }
}

#[test]
fn what_was_read_ahead_of_a_lost_branch_comes_before_what_is_new() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default(), pick::Options::default());
    let (h, far) = bed.open();
    far[0].write("old").wait().unwrap();
    // It is open, so it is closed first.
    h.cntl("pick", Reopen::new("a")).unwrap();
    assert_eq!(read(&far[0], 9), Err(ErrorKind::Reset));
    let new = accepted(&bed.servers[0]);
    new.write("new").wait().unwrap();
    assert_eq!(read(&h, 3), got("old", "a"));
    assert_eq!(read(&h, 3), got("new", "a"));
    // A read never goes on from one to the other.
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(4)).wait_for(4).then(move |r| tx.send(r.unwrap_err()).unwrap());
    new.write("ne").wait().unwrap();
    h.cntl("pick", Reopen::new("a")).unwrap();
    let f = rx.recv_timeout(LONG).unwrap();
    assert_eq!((f.kind(), &f.back.buf[..]), (ErrorKind::UnexpectedEof, &b"ne"[..]));
    accepted(&bed.servers[0]).write("xt").wait().unwrap();
    assert_eq!(read(&h, 9), got("xt", "a"));
}

/// What tore a message in a branch is forgotten with its connection.
#[test]
fn a_branch_that_was_torn_is_whole_when_it_is_opened_again() {
    let engine = Engine::new().unwrap();
    let narrow = loop_::Options::default().with_buffer(Size(64));
    let framed = LevelNode::new(frame::driver()).over(leaf(&loop_::driver(), &narrow));
    let server = engine.listen(&Stack::new(framed.clone()).unwrap(), Contact::new("torn")).wait().unwrap();
    let stack = Stack::new(LevelNode::new(pick::driver()).branch("a", framed)).unwrap();
    let h = engine.open(&stack, server.contact()).deadline(LONG).wait().unwrap();
    let far = accepted(&server);
    assert_eq!(h.write(vec![1; 200]).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(h.write("behind").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    far.close().abort().wait().unwrap();
    assert_eq!(read(&h, 9).unwrap_err(), ErrorKind::Reset);
    h.cntl("pick", Reopen::new("a")).unwrap();
    let far = accepted(&server);
    h.write("whole").deadline(LONG).wait().unwrap();
    assert_eq!(read(&far, 9).unwrap().0, "whole");
    // Nor is the new end that of the old one.
    far.close().wait().unwrap();
    assert_eq!(read(&h, 9), Err(ErrorKind::Eof));
}

#[test]
fn a_branch_that_does_not_open_again_says_so_and_may_be_tried_again() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    far[0].close().wait().unwrap();
    h.cntl("pick", Reopen::new("a").with_contact(Contact::new("nobody"))).unwrap();
    let f = h.read(BytesMut::with_capacity(9)).deadline(LONG).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::Refused);
    assert!(f.to_string().contains("branch `a`") && f.to_string().contains("nobody"), "{f}");
    assert_eq!(h.write("x").attr(group("a")).wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    far[1].write("b goes on").wait().unwrap();
    assert_eq!(read(&h, 99), got("b goes on", "b"));
    // Elsewhere it opens, and is known to.
    h.cntl("pick", Reopen::new("a").with_contact(Contact::new("peer-b"))).unwrap();
    let new = accepted(&bed.servers[1]);
    new.write("a at b").wait().unwrap();
    assert_eq!(read(&h, 99), got("a at b", "a"));
    assert_eq!(h.query(RemoteContact).unwrap().to_string(), "{a: loop:peer-b, b: loop:peer-b}");
    let e = h.cntl("pick", Reopen::new("c")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert!(e.to_string().contains("there are a, b"), "{e}");
}

#[test]
fn the_end_of_the_others_is_not_the_end_while_a_branch_is_opened_again() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default().with_backlog(1), pick::Options::default());
    let (h, far) = bed.open();
    far[0].close().wait().unwrap();
    // Nobody accepts on `a`: its backlog is full.
    let full = bed.engine.open(bed.servers[0].stack(), Contact::new("peer-a")).wait().unwrap();
    h.cntl("pick", Reopen::new("a")).unwrap();
    assert_eq!(h.cntl("pick", Reopen::new("a")).unwrap_err().kind(), ErrorKind::Busy);
    far[1].close().wait().unwrap();
    let (tx, rx) = mpsc::channel();
    h.read(BytesMut::with_capacity(9)).then(move |r| tx.send(r.map(|d| d.buf).map_err(|f| f.kind())).unwrap());
    let (wrote, written) = mpsc::channel();
    let limited = h.write("x").attr(group("a")).deadline(SHORT).wait().unwrap_err();
    assert_eq!((limited.kind(), limited.back.n), (ErrorKind::TimedOut, 0));
    h.write("held").attr(group("a")).then(move |r| wrote.send(r.map(|d| d.n).map_err(|f| f.kind())).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err() && written.try_recv().is_err());
    drop(accepted(&bed.servers[0]));
    drop(full);
    let new = accepted(&bed.servers[0]);
    assert_eq!(written.recv_timeout(LONG).unwrap(), Ok(4));
    assert_eq!(read(&new, 9).unwrap().0, "held");
    new.write("here").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap().unwrap(), "here");
    new.close().wait().unwrap();
    assert_eq!(read(&h, 9), Err(ErrorKind::Eof));
}

#[test]
fn a_close_gives_a_branch_up_that_is_being_opened() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default().with_backlog(1), pick::Options::default());
    let (h, _far) = bed.open();
    let full = bed.engine.open(bed.servers[0].stack(), Contact::new("peer-a")).wait().unwrap();
    h.cntl("pick", Reopen::new("a")).unwrap();
    let (tx, rx) = mpsc::channel();
    h.write("x").attr(group("a")).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    h.close().abort().wait().unwrap();
    assert!(matches!(rx.recv_timeout(LONG).unwrap(), ErrorKind::Cancelled | ErrorKind::BrokenPipe));
    drop(accepted(&bed.servers[0]));
    assert!(bed.servers[0].accept().deadline(SHORT).wait().is_err(), "the late open came through");
    drop(full);
}

#[test]
fn a_branch_that_opens_after_the_end_of_writing_sees_that_end() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    h.shutdown().wait().unwrap();
    far[0].close().abort().wait().unwrap();
    h.cntl("pick", Reopen::new("a")).unwrap();
    let new = accepted(&bed.servers[0]);
    assert_eq!(read(&new, 9), Err(ErrorKind::Eof));
    new.write("still read").wait().unwrap();
    // After the reset that ended the one before.
    assert!((0..2).any(|_| read(&h, 99) == got("still read", "a")));
}

#[test]
fn a_handle_from_a_link_opens_the_other_branch() {
    let bed = Bed::messages();
    let server = bed.engine.listen(&bed.stack, "{a: sa, b: sb}".parse::<Contact>().unwrap()).wait().unwrap();
    let client = bed.engine.open(bed.servers[0].stack(), Contact::new("sb")).wait().unwrap();
    let h = accepted(&server);
    assert_eq!(h.cntl("pick", Reopen::new("a")).unwrap_err().kind(), ErrorKind::InvalidContact);
    h.cntl("pick", Reopen::new("a").with_contact(Contact::new("peer-a"))).unwrap();
    let new = accepted(&bed.servers[0]);
    for (peer, label) in [(&client, "b"), (&new, "a")] {
        h.write(label).attr(group(label)).wait().unwrap();
        assert_eq!(read(peer, 9).unwrap().0, label);
        peer.write("answer").wait().unwrap();
        assert_eq!(read(&h, 9), got("answer", label));
    }
}
