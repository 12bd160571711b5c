//! Pairs inside one process: streams and messages, backpressure, ends, names, many threads.
#![cfg(feature = "loop")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use xio_core::attr::{Attr, Size};
use xio_core::cntl::{LocalContact, PathInfo, RemoteContact};
use xio_core::io::Direction;
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::loop_::{self, Options};

/// Long enough for anything that comes at all.
const LONG: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
const SHORT: Duration = Duration::from_millis(30);

fn stream() -> (Engine, Handle, Handle) {
    with(Options::default())
}

fn messages() -> (Engine, Handle, Handle) {
    with(Options::default().with_message(true))
}

fn with(options: Options) -> (Engine, Handle, Handle) {
    let engine = Engine::new().unwrap();
    let (a, b) = loop_::pair(&engine, options).unwrap();
    (engine, a, b)
}

fn bytes(n: usize) -> Bytes {
    (0..n).map(|i| (i % 251) as u8).collect()
}

fn read(h: &Handle, room: usize) -> Result<Bytes, ErrorKind> {
    h.read(BytesMut::with_capacity(room)).deadline(LONG).wait().map(|d| d.into_bytes()).map_err(|f| f.kind())
}

fn stack(driver: &std::sync::Arc<dyn xio_core::Driver>, options: Options) -> Stack {
    Stack::new(LevelNode::new(driver.clone()).with_attr(Box::new(options))).unwrap()
}

#[test]
fn bytes_go_both_ways() {
    let (_e, a, b) = stream();
    a.write("hello").wait().unwrap();
    b.write("world!").wait().unwrap();
    assert_eq!(read(&b, 100).unwrap(), "hello");
    assert_eq!(read(&a, 3).unwrap(), "wor");
    assert_eq!(read(&a, 100).unwrap(), "ld!");
}

#[test]
fn a_take_hands_out_the_writers_own_memory() {
    let (_e, a, b) = stream();
    let (x, y) = (bytes(100), bytes(5000));
    a.write(vec![x.clone(), y.clone()]).wait().unwrap();
    let done = b.take(usize::MAX).wait_for(5100).wait().unwrap();
    let at: Vec<_> = done.chunks.iter().map(|c| c.as_slice().unwrap().as_ptr()).collect();
    assert_eq!(at, [x.as_ptr(), y.as_ptr()]);
    // An owned buffer too, and only as much of it as was asked for.
    let own = BytesMut::from(&b"abcdef"[..]);
    let p = own.as_ptr();
    a.write(own).wait().unwrap();
    let done = b.take(4).wait().unwrap();
    assert_eq!((done.n, done.chunks[0].as_slice().unwrap()), (4, &b"abcd"[..]));
    assert_eq!(done.chunks[0].as_slice().unwrap().as_ptr(), p);
    assert_eq!(read(&b, 9).unwrap(), "ef");
}

#[test]
fn a_read_waits_for_as_much_as_it_wants() {
    let (_e, a, b) = stream();
    let (tx, rx) = mpsc::channel();
    b.read(BytesMut::with_capacity(10)).wait_for(8).then(move |r| tx.send(r.unwrap().into_bytes()).unwrap());
    for part in ["abc", "def"] {
        a.write(part).wait().unwrap();
    }
    assert!(rx.recv_timeout(SHORT).is_err());
    a.write("ghijkl").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), "abcdefghij");
    assert_eq!(read(&b, 9).unwrap(), "kl");
    // More than the pipe holds at once.
    let big = bytes(300_000);
    let copy = big.clone();
    let writer = std::thread::spawn(move || a.write(copy).wait().map(|d| d.n));
    let done = b.read(BytesMut::with_capacity(300_000)).wait_for(300_000).deadline(LONG).wait().unwrap();
    assert!(done.buf == big);
    assert_eq!(writer.join().unwrap().unwrap(), 300_000);
}

#[test]
fn nothing_is_asked_of_an_empty_pipe_twice() {
    let (_e, _a, b) = stream();
    // No room, and no wish to wait: done at once, without an end.
    assert_eq!(read(&b, 0).unwrap(), "");
    assert_eq!(b.read(BytesMut::with_capacity(4)).wait_for(0).wait().unwrap().n, 0);
    let f = b.read(BytesMut::with_capacity(4)).deadline(SHORT).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.buf.capacity()), (ErrorKind::TimedOut, 4));
}

#[test]
fn writes_wait_while_the_pipe_is_full() {
    let (_e, a, b) = with(Options::default().with_buffer(Size(100)));
    a.write(bytes(100)).wait().unwrap();
    assert_eq!(a.query(PathInfo).unwrap().in_flight, Some(100));
    let (tx, rx) = mpsc::channel();
    a.write("x").then(move |r| tx.send(r.unwrap().n).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err());
    assert_eq!(read(&b, 1).unwrap().len(), 1);
    assert_eq!(rx.recv_timeout(LONG).unwrap(), 1);
    // A cancelled write says how much the pipe took, and that much arrives.
    assert_eq!(read(&b, 100).unwrap().len(), 100);
    let (tx, rx) = mpsc::channel();
    let ticket = a.write(bytes(150)).then(move |r| tx.send(r.unwrap_err()).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err());
    ticket.cancel();
    let f = rx.recv_timeout(LONG).unwrap();
    assert_eq!((f.kind(), f.back.n, f.error.moved(), f.back.pieces[0].len()), (ErrorKind::Cancelled, 100, 100, 150));
    // The next write has nothing of the cancelled one's rest.
    let w = std::thread::spawn({
        let a = a.clone();
        move || a.write("next").wait().unwrap()
    });
    assert_eq!(read(&b, 100).unwrap(), bytes(100));
    assert_eq!(read(&b, 100).unwrap(), "next");
    w.join().unwrap();
}

#[test]
fn a_shutdown_and_a_flush_stay_behind_the_writes_before_them() {
    let (_e, a, b) = with(Options::default().with_buffer(Size(10)));
    let (tx, rx) = mpsc::channel();
    for i in 0..3 {
        let tx = tx.clone();
        a.write(bytes(25)).then(move |r| tx.send((i, r.map(|_| ()).map_err(|f| f.error))).unwrap());
    }
    let (tx2, tx3) = (tx.clone(), tx.clone());
    a.flush().then(move |r| tx2.send((3, r)).unwrap());
    a.shutdown().then(move |r| tx3.send((4, r)).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err());
    let mut got = Vec::new();
    loop {
        match b.read(BytesMut::with_capacity(7)).deadline(LONG).wait() {
            Ok(d) => got.extend_from_slice(&d.buf),
            Err(f) => break assert_eq!(f.kind(), ErrorKind::Eof),
        }
    }
    assert_eq!(got, [bytes(25), bytes(25), bytes(25)].concat());
    let order: Vec<_> = (0..5).map(|_| rx.recv_timeout(LONG).unwrap()).map(|(i, r)| r.map(|()| i).unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    // A write that is cancelled lets those behind it go.
    let (_e, a, _b) = with(Options::default().with_buffer(Size(10)));
    let ticket = a.write(bytes(25)).then(|r| assert_eq!(r.unwrap_err().kind(), ErrorKind::Cancelled));
    let (tx, rx) = mpsc::channel();
    let tx2 = tx.clone();
    let flush = a.flush().then(move |r| tx.send(r.map_err(|e| e.kind())).unwrap());
    a.shutdown().then(move |r| tx2.send(r.map_err(|e| e.kind())).unwrap());
    flush.cancel();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Err(ErrorKind::Cancelled));
    assert!(rx.recv_timeout(SHORT).is_err());
    ticket.cancel();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Ok(()));
}

#[test]
fn many_pieces_wait_like_many_bytes() {
    let (_e, a, b) = stream();
    let one = Bytes::from_static(b"x");
    let f = a.write(vec![one; 2000]).deadline(SHORT).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::TimedOut, 1024));
    assert_eq!(read(&b, 5000).unwrap().len(), 1024);
}

#[test]
fn a_reader_without_a_reader_is_no_limit_to_the_other_way() {
    let (_e, a, b) = with(Options::default().with_buffer(Size(8)));
    let (tx, rx) = mpsc::channel();
    for h in [&a, &b] {
        let tx = tx.clone();
        h.write(bytes(100)).then(move |r| tx.send(r.unwrap().n).unwrap());
    }
    for h in [&a, &b] {
        let done = h.read(BytesMut::with_capacity(100)).wait_for(100).deadline(LONG).wait().unwrap();
        assert_eq!(done.buf, bytes(100));
    }
    assert_eq!([(); 2].map(|()| rx.recv_timeout(LONG).unwrap()), [100, 100]);
}

#[test]
fn messages_keep_their_borders() {
    let (_e, a, b) = messages();
    a.write("one").wait().unwrap();
    a.write("").wait().unwrap();
    a.write(vec![Bytes::from_static(b"tw"), Bytes::new(), Bytes::from_static(b"o")]).wait().unwrap();
    a.write_from(b"three").wait().unwrap();
    assert_eq!(read(&b, 100).unwrap(), "one");
    assert_eq!(read(&b, 100).unwrap(), "");
    let done = b.take(100).wait().unwrap();
    assert_eq!((done.n, done.chunks.len()), (3, 2));
    // Too long for its reader: the first part with the length, then the rest.
    let f = b.read(BytesMut::with_capacity(2)).wait().unwrap_err();
    assert_eq!((f.kind(), &f.back.buf[..]), (ErrorKind::Truncated { len: 5 }, &b"th"[..]));
    let f = b.read(BytesMut::with_capacity(1)).wait().unwrap_err();
    assert_eq!((f.kind(), &f.back.buf[..]), (ErrorKind::Truncated { len: 3 }, &b"r"[..]));
    assert_eq!(read(&b, 100).unwrap(), "ee");
}

#[test]
fn an_empty_message_wakes_its_reader() {
    let (_e, a, b) = messages();
    let (tx, rx) = mpsc::channel();
    b.read(BytesMut::with_capacity(4)).wait_for(4).then(move |r| tx.send(r.unwrap().n).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err());
    a.write("").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), 0);
}

#[test]
fn a_message_goes_in_whole_or_waits() {
    let (_e, a, b) = with(Options::default().with_message(true).with_buffer(Size(10)));
    // Alone, one may be longer than the buffer.
    a.write(bytes(50)).wait().unwrap();
    let f = a.write("x").deadline(SHORT).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::TimedOut, 0));
    assert_eq!(read(&b, 100).unwrap().len(), 50);
    a.write(bytes(6)).wait().unwrap();
    assert_eq!(a.write(bytes(5)).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    a.write(bytes(4)).wait().unwrap();
    assert_eq!((read(&b, 100).unwrap().len(), read(&b, 100).unwrap().len()), (6, 4));
}

#[test]
fn a_close_ends_the_stream_after_all_data() {
    let (_e, a, b) = stream();
    a.write(bytes(1000)).wait().unwrap();
    let (tx, rx) = mpsc::channel();
    for i in 0..4 {
        let tx = tx.clone();
        b.read(BytesMut::with_capacity(600)).then(move |r| tx.send((i, r.map(|d| d.n).map_err(|f| f.kind()))).unwrap());
    }
    a.close().wait().unwrap();
    let got: Vec<_> = (0..4).map_while(|_| rx.recv_timeout(LONG).ok()).collect();
    assert_eq!(got, [(0, Ok(600)), (1, Ok(400)), (2, Err(ErrorKind::Eof)), (3, Err(ErrorKind::Eof))]);
    assert_eq!(read(&b, 9), Err(ErrorKind::Eof));
    assert_eq!(b.write("x").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    b.close().wait().unwrap();
}

#[test]
fn an_end_inside_what_was_waited_for_gives_what_came() {
    let (_e, a, b) = stream();
    a.write("abc").wait().unwrap();
    a.close().wait().unwrap();
    let f = b.read(BytesMut::with_capacity(9)).wait_for(9).wait().unwrap_err();
    assert_eq!((f.kind(), &f.back.buf[..], f.error.moved()), (ErrorKind::Eof, &b"abc"[..], 3));
}

#[test]
fn half_closed_the_other_way_goes_on() {
    let (_e, a, b) = stream();
    a.write("last").wait().unwrap();
    a.shutdown().wait().unwrap();
    assert_eq!(a.write("x").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(read(&b, 9).unwrap(), "last");
    assert_eq!(read(&b, 9), Err(ErrorKind::Eof));
    b.write("still").wait().unwrap();
    assert_eq!(read(&a, 9).unwrap(), "still");
}

#[test]
fn a_close_breaks_a_write_that_waits() {
    let (_e, a, b) = with(Options::default().with_buffer(Size(4)));
    let (tx, rx) = mpsc::channel();
    a.write("abcdef").then(move |r| tx.send(r.unwrap_err()).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err());
    b.close().wait().unwrap();
    let f = rx.recv_timeout(LONG).unwrap();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::BrokenPipe, 4));
}

#[test]
fn an_abort_resets_both_ways_at_once() {
    let (_e, a, b) = with(Options::default().with_buffer(Size(4)));
    let (tx, rx) = mpsc::channel();
    let tx2 = tx.clone();
    b.read(BytesMut::with_capacity(4)).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    b.write("abcdef").then(move |r| tx2.send(r.unwrap_err().kind()).unwrap());
    a.close().abort().wait().unwrap();
    let got: Vec<_> = (0..2).map(|_| rx.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(got, [ErrorKind::Reset, ErrorKind::Reset]);
    // Data that lay unread is gone with the connection.
    let (_e, a, b) = stream();
    a.write("lost").wait().unwrap();
    a.close().abort().wait().unwrap();
    assert_eq!(read(&b, 9), Err(ErrorKind::Reset));
    assert_eq!(b.write("x").wait().unwrap_err().kind(), ErrorKind::Reset);
    b.close().wait().unwrap();
}

#[test]
fn a_dropped_handle_ends_the_stream() {
    let (engine, a, b) = stream();
    a.write("bye").wait().unwrap();
    drop(a);
    assert_eq!(read(&b, 9).unwrap(), "bye");
    assert_eq!(read(&b, 9), Err(ErrorKind::Eof));
    drop(b);
    assert_eq!(engine.handles(), 0);
}

#[test]
fn cancelled_reads_lose_nothing() {
    let (_e, a, b) = stream();
    for i in 0..200u32 {
        let (tx, rx) = mpsc::channel();
        let ticket = b.read(BytesMut::with_capacity(64)).then(move |r| tx.send(r).unwrap());
        let writer = a.clone();
        let w = std::thread::spawn(move || writer.write(i.to_be_bytes().to_vec()).wait().unwrap());
        ticket.cancel();
        let got = match rx.recv_timeout(LONG).unwrap() {
            Ok(d) => d.into_bytes(),
            Err(f) => {
                assert_eq!((f.kind(), f.back.n), (ErrorKind::Cancelled, 0));
                read(&b, 64).unwrap()
            }
        };
        w.join().unwrap();
        assert_eq!(&got[..], i.to_be_bytes());
    }
}

#[test]
fn readiness_is_that_of_the_pipe() {
    let (_e, a, b) = with(Options::default().with_buffer(Size(4)));
    a.ready(Direction::Write).wait().unwrap();
    assert_eq!(b.ready(Direction::Read).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    let (tx, rx) = mpsc::channel();
    let tx2 = tx.clone();
    b.ready(Direction::Read).then(move |r| tx.send(r).unwrap());
    a.write("abcd").wait().unwrap();
    rx.recv_timeout(LONG).unwrap().unwrap();
    b.ready(Direction::Read).wait().unwrap();
    a.ready(Direction::Write).then(move |r| tx2.send(r).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err());
    assert_eq!(read(&b, 2).unwrap(), "ab");
    rx.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(read(&b, 2).unwrap(), "cd");
    b.close().wait().unwrap();
    a.ready(Direction::Write).wait().unwrap();
    a.ready(Direction::Read).wait().unwrap();
}

#[test]
fn names_lead_to_servers() {
    let engine = Engine::new().unwrap();
    let driver = loop_::driver();
    let stack = stack(&driver, Options::default());
    let refused = engine.open(&stack, Contact::new("echo")).wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("`echo`"), "{refused}");
    let server = engine.listen(&stack, Contact::new("echo")).wait().unwrap();
    assert_eq!(server.contact().text(), Some("loop:echo"));
    let again = engine.listen(&stack, Contact::new("loop:echo")).wait().unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AddrInUse);
    assert_eq!(driver.is_self(&Options::default(), &Contact::new("echo")), Some(true));
    assert_eq!(driver.is_self(&Options::default(), &Contact::new("else")), Some(false));

    let near = engine.open(&stack, server.contact()).wait().unwrap();
    near.write("early").wait().unwrap();
    let mut link = server.accept().wait().unwrap();
    assert_eq!(link.local(), server.contact());
    assert_eq!(link.cntl(None, RemoteContact).unwrap(), *link.peer());
    let far = link.open().wait().unwrap();
    assert_eq!(read(&far, 9).unwrap(), "early");
    assert_eq!(near.query(RemoteContact).unwrap(), *server.contact());
    assert_eq!(near.query(LocalContact).unwrap(), far.query(RemoteContact).unwrap());
    assert_eq!(near.same_peer(&Contact::new("echo")), Some(true));
    assert_eq!(near.same_peer(&Contact::new("other")), Some(false));
    assert_eq!(far.same_peer(&near.query(LocalContact).unwrap()), Some(true));

    // Handles outlive their server; its name is free again.
    server.close().unwrap();
    near.write("on").wait().unwrap();
    assert_eq!(read(&far, 9).unwrap(), "on");
    let _again = engine.listen(&stack, Contact::new("echo")).wait().unwrap();
    for bad in [Contact::None, Contact::new("loop:"), Contact::None.with_branch("a", Contact::new("x"))] {
        assert_eq!(engine.open(&stack, bad).wait().unwrap_err().kind(), ErrorKind::InvalidContact);
    }
}

#[test]
fn two_drivers_do_not_know_each_other() {
    let engine = Engine::new().unwrap();
    let (one, two) = (stack(&loop_::driver(), Options::default()), stack(&loop_::driver(), Options::default()));
    let _server = engine.listen(&one, Contact::new("x")).wait().unwrap();
    let _other = engine.listen(&two, Contact::new("x")).wait().unwrap();
    drop(_other);
    assert_eq!(engine.open(&two, Contact::new("x")).wait().unwrap_err().kind(), ErrorKind::Refused);
    engine.open(&one, Contact::new("x")).wait().unwrap();
}

#[test]
fn both_ends_agree_on_messages() {
    let engine = Engine::new().unwrap();
    let driver = loop_::driver();
    let server = engine.listen(&stack(&driver, Options::default().with_message(true)), ()).wait().unwrap();
    let e = engine.open(&stack(&driver, Options::default()), server.contact()).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("set `message` at both ends"), "{e}");
}

#[test]
fn a_full_backlog_makes_opens_wait() {
    let engine = Engine::new().unwrap();
    let stack = stack(&loop_::driver(), Options::default().with_backlog(1));
    let server = engine.listen(&stack, ()).wait().unwrap();
    let _first = engine.open(&stack, server.contact()).wait().unwrap();
    let late = engine.open(&stack, server.contact()).deadline(SHORT).wait().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    let (tx, rx) = mpsc::channel();
    engine.open(&stack, server.contact()).then(move |r| tx.send(r).unwrap());
    assert!(rx.recv_timeout(SHORT).is_err());
    server.accept().wait().unwrap();
    rx.recv_timeout(LONG).unwrap().unwrap();
    // A server that goes refuses those who still wait, and resets those nobody accepted.
    let (tx, rx) = mpsc::channel();
    engine.open(&stack, server.contact()).then(move |r| tx.send(r.map(drop)).unwrap());
    server.close().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap().unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn a_link_nobody_opens_resets_its_peer() {
    let engine = Engine::new().unwrap();
    let stack = stack(&loop_::driver(), Options::default());
    let server = engine.listen(&stack, ()).wait().unwrap();
    let [a, b] = [(); 2].map(|()| engine.open(&stack, server.contact()).wait().unwrap());
    let (tx, rx) = mpsc::channel();
    a.read(BytesMut::with_capacity(4)).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    let link = server.accept().wait().unwrap();
    let kept = server.accept().wait().unwrap();
    drop(link);
    assert_eq!(rx.recv_timeout(LONG).unwrap(), ErrorKind::Reset);
    // An accepted link outlives its server.
    server.close().unwrap();
    let far = kept.open().wait().unwrap();
    b.write("x").wait().unwrap();
    assert_eq!(read(&far, 9).unwrap(), "x");
}

#[test]
fn accepts_wait_in_order_and_end_with_the_server() {
    let engine = Engine::new().unwrap();
    let stack = stack(&loop_::driver(), Options::default());
    let server = engine.listen(&stack, ()).wait().unwrap();
    let (tx, rx) = mpsc::channel();
    let tickets: Vec<_> = (0..3)
        .map(|i| {
            let tx = tx.clone();
            server.accept().then(move |r| tx.send((i, r.map_err(|e| e.kind()))).unwrap())
        })
        .collect();
    tickets[0].cancel();
    let (i, r) = rx.recv_timeout(LONG).unwrap();
    assert_eq!((i, r.unwrap_err()), (0, ErrorKind::Cancelled));
    let a = engine.open(&stack, server.contact()).wait().unwrap();
    let (i, r) = rx.recv_timeout(LONG).unwrap();
    assert_eq!((i, r.unwrap().peer()), (1, &a.query(LocalContact).unwrap()));
    server.close().unwrap();
    let (i, r) = rx.recv_timeout(LONG).unwrap();
    assert_eq!((i, r.unwrap_err()), (2, ErrorKind::Cancelled));
}

/// Every byte comes once and in order, whatever the sizes, through a small pipe, with threads on
/// both sides and three ways to write and to read.
#[test]
fn a_megabyte_through_a_small_pipe() {
    let (_e, a, b) = with(Options::default().with_buffer(Size(1000)));
    let all = bytes(1 << 20);
    let copy = all.clone();
    let writer = std::thread::spawn(move || {
        let mut at = 0;
        let mut seed = 7u32;
        while at < copy.len() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = ((seed >> 16) as usize % 3000).min(copy.len() - at);
            let part = copy.slice(at..at + n);
            match seed >> 30 {
                0 => assert_eq!(a.write_from(&part).wait().unwrap(), n),
                1 => assert_eq!(a.write(BytesMut::from(&part[..])).wait().unwrap().n, n),
                _ => assert_eq!(a.write(vec![part.slice(..n / 2), part.slice(n / 2..)]).wait().unwrap().n, n),
            }
            at += n;
        }
        a.close().wait().unwrap();
    });
    let mut got = BytesMut::new();
    let mut seed = 11u32;
    loop {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let n = (seed >> 16) as usize % 2500 + 1;
        let done = if seed & 1 << 31 == 0 {
            b.take(n).deadline(LONG).wait()
        } else {
            b.read(BytesMut::with_capacity(n)).wait_for(n / 2).deadline(LONG).wait()
        };
        match done {
            Ok(d) => got.extend_from_slice(&d.into_bytes()),
            Err(f) => {
                assert_eq!(f.kind(), ErrorKind::Eof);
                let back = f.back.into_bytes();
                got.extend_from_slice(&back);
                break;
            }
        }
    }
    writer.join().unwrap();
    assert!(got == all);
}

/// Callbacks on one side, blocking calls on the other, many pairs at once, two engines.
#[test]
fn many_pairs_over_two_engines() {
    let (one, two) = (Engine::new().unwrap(), Engine::new().unwrap());
    let stack = stack(&loop_::driver(), Options::default().with_buffer(Size(64)));
    let server = one.listen(&stack, Contact::new("s")).wait().unwrap();
    let start = Instant::now();
    let threads: Vec<_> = (0..4)
        .map(|t| {
            let (two, stack, contact) = (two.clone(), stack.clone(), server.contact().clone());
            std::thread::spawn(move || {
                let h = two.open(&stack, contact).wait().unwrap();
                for i in 0..500u32 {
                    let n = 1 + (i as usize * 37 + t) % 200;
                    let writer = h.clone();
                    let (tx, rx) = mpsc::channel();
                    writer.write(bytes(n)).then(move |r| tx.send(r.unwrap().n).unwrap());
                    let done = h.read(BytesMut::with_capacity(n)).wait_for(n).deadline(LONG).wait().unwrap();
                    assert!(done.buf == bytes(n));
                    assert_eq!(rx.recv_timeout(LONG).unwrap(), n);
                }
                h.close().wait().unwrap();
            })
        })
        .collect();
    let echoes: Vec<_> = (0..4)
        .map(|_| {
            let far = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
            std::thread::spawn(move || {
                loop {
                    match far.take(100).deadline(LONG).wait() {
                        Ok(d) => drop(far.write(d.into_bytes()).deadline(LONG).wait().unwrap()),
                        Err(f) => break assert_eq!(f.kind(), ErrorKind::Eof),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().chain(echoes).for_each(|t| t.join().unwrap());
    assert!(start.elapsed() < LONG);
}

#[test]
fn options_are_those_of_the_schema() {
    let names: Vec<_> = Options::default().specs().iter().map(|s| s.name).collect();
    assert_eq!(names, ["message", "buffer", "backlog"]);
}

/// Numbers of ops are those of their handle: the other end has the same ones.
#[test]
fn a_cancel_at_one_end_leaves_the_op_of_the_same_number_at_the_other() {
    let (_e, a, b) = with(Options::default().with_buffer(Size(1)));
    let (tx, rx) = mpsc::channel();
    let far = b.write("zz").then(drop);
    a.write("ab").then(move |r| tx.send(r.map(|d| d.n).map_err(|f| f.kind())).unwrap());
    far.cancel();
    assert_eq!(b.read(BytesMut::with_capacity(2)).wait_for(2).deadline(LONG).wait().unwrap().buf, "ab");
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Ok(2));
}

#[test]
fn an_open_that_is_given_up_leaves_the_open_of_the_same_number_beside_it() {
    let engine = Engine::new().unwrap();
    let driver = loop_::driver();
    let s = stack(&driver, Options::default().with_backlog(1));
    let server = engine.listen(&s, ()).wait().unwrap();
    let _first = engine.open(&s, server.contact()).wait().unwrap();
    let (tx, rx) = mpsc::channel();
    engine.open(&s, server.contact()).then(move |r| tx.send(r.map_err(|e| e.kind())).unwrap());
    // It waits behind the other one and gives up.
    let late = engine.open(&s, server.contact()).deadline(SHORT).wait().map(drop).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    drop(server.accept().deadline(LONG).wait().unwrap());
    drop(rx.recv_timeout(LONG).unwrap().unwrap());
}
