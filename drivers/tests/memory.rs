//! Every way bytes take through memory, once: lent, owned and taken, blocking, awaited and called back, over
//! `loop` and over real sockets, with and without a thread of the engine's own. Short, and made of nothing that
//! Miri lacks: `.ci/miri` runs it there.
#![cfg(all(feature = "tcp", feature = "loop", feature = "frame", feature = "queue"))]

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::io::Direction;
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::{frame, loop_, queue, tcp};

const LONG: Duration = Duration::from_secs(300);

fn over_tcp(engine: &Engine, over: impl Fn(LevelNode) -> LevelNode) -> (Handle, Handle) {
    let options = tcp::Options::default().with_reuse(false);
    let stack = Stack::new(over(LevelNode::new(tcp::driver()).with_attr(Box::new(options)))).unwrap();
    let server = engine.listen(&stack, Contact::new("127.0.0.1:0")).wait().unwrap();
    let near = engine.open(&stack, server.contact()).deadline(LONG).wait().unwrap();
    let far = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    (near, far)
}

fn engines() -> [Engine; 2] {
    [Engine::new().unwrap(), Engine::builder().owner_driven().build().unwrap()]
}

fn framed(n: LevelNode) -> LevelNode {
    LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(n))
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, which turns the engine meanwhile.
fn run<F: IntoFuture>(engine: &Engine, f: F) -> F::Output {
    let mut f = pin!(f.into_future());
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(v) = f.as_mut().poll(&mut Context::from_waker(&waker)) {
            return v;
        }
        engine.turn(Some(Duration::from_millis(1)));
    }
}

/// All ways there are, one after the other.
fn all_ways(engine: &Engine, a: &Handle, b: &Handle) {
    // Lent both ways.
    let mut room = [0; 5];
    assert_eq!(a.write_from(b"lent.").wait().unwrap(), 5);
    a.flush().wait().unwrap();
    assert_eq!(b.read_into(&mut room).wait_for(5).wait().unwrap(), 5);
    assert_eq!(&room, b"lent.");
    // Owned, in several pieces, and come back.
    let done = a.write(vec![Bytes::from("ow"), Bytes::from("ned")]).wait().unwrap();
    assert_eq!(done.n, 5);
    a.flush().wait().unwrap();
    assert_eq!(b.read(BytesMut::with_capacity(5)).wait_for(5).wait().unwrap().buf, "owned");
    // Taken, and awaited.
    run(engine, a.write("taken")).unwrap();
    run(engine, a.flush()).unwrap();
    assert_eq!(run(engine, b.take(5).wait_for(5)).unwrap().into_bytes(), "taken");
    // Called back.
    let (tx, rx) = mpsc::channel();
    b.take(5).wait_for(5).then(move |r| tx.send(r.unwrap().into_bytes()).unwrap());
    a.write("calls").then(|r| drop(r.unwrap()));
    let got = loop {
        engine.turn(Some(Duration::from_millis(1)));
        if let Ok(got) = rx.try_recv() {
            break got;
        }
    };
    assert_eq!(got, "calls");
    // Given up, with and without a time; what comes later is for the next.
    let late = b.read(BytesMut::with_capacity(4)).deadline(Duration::from_millis(1)).wait().unwrap_err();
    assert_eq!((late.kind(), late.back.buf.capacity()), (ErrorKind::TimedOut, 4));
    let mut f = b.read(BytesMut::with_capacity(5)).into_future();
    assert!(pin!(&mut f).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    a.write("after").wait().unwrap();
    a.flush().wait().unwrap();
    drop(f);
    let mut room = [0; 5];
    assert_eq!(b.read_into(&mut room).wait_for(5).wait().unwrap(), 5);
    assert_eq!(&room, b"after");
}

#[test]
fn bytes_in_memory() {
    for engine in engines() {
        let (a, b) = loop_::pair(&engine, loop_::Options::default()).unwrap();
        all_ways(&engine, &a, &b);
        a.close().wait().unwrap();
        assert_eq!(b.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
    }
}

#[test]
fn bytes_on_sockets() {
    for engine in engines() {
        let (a, b) = over_tcp(&engine, |n| n);
        all_ways(&engine, &a, &b);
        a.close().wait().unwrap();
        assert_eq!(b.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
    }
}

#[test]
fn messages() {
    for engine in engines() {
        // Miri sends no lists of pieces.
        let (a, b) = match cfg!(miri) {
            true => loop_::pair_of(&engine, loop_::Options::default(), framed).unwrap(),
            false => over_tcp(&engine, framed),
        };
        all_ways(&engine, &b, &a);
        // As long as none of the chunks ahead.
        let long = vec![7; 70_000];
        let h = a.clone();
        let text = long.clone();
        let writer = std::thread::spawn(move || h.write(text).wait().unwrap().n);
        assert_eq!(b.take(usize::MAX).deadline(LONG).wait().unwrap().into_bytes(), long);
        assert_eq!(writer.join().unwrap(), long.len());
    }
}

#[test]
fn a_blocking_read_on_one_thread_and_its_end_on_another() {
    for engine in engines() {
        for over_sockets in [false, true] {
            let (a, b) = match over_sockets {
                true => over_tcp(&engine, |n| n),
                false => loop_::pair(&engine, loop_::Options::default()).unwrap(),
            };
            let h = b.clone();
            let reader = std::thread::spawn(move || {
                let mut room = [0; 3];
                let n = h.read_into(&mut room).wait_for(3).wait().unwrap();
                let end = h.read_into(&mut room[..1]).wait().unwrap_err();
                (n, end.kind())
            });
            a.write("abc").wait().unwrap();
            if !over_sockets {
                // Miri has no poll.
                b.ready(Direction::Write).wait().unwrap();
            }
            a.shutdown().wait().unwrap();
            assert_eq!(reader.join().unwrap(), (3, ErrorKind::Eof));
        }
    }
}
