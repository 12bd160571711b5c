//! Peers that stop, and connections that end: nobody else notices, and nothing hangs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use bytes::BytesMut;
use xio_core::io::Direction;
use xio_core::{CloseMode, Contact, Engine, ErrorKind, Handle, Server, Stack};
use xio_stacks::Registry;

use crate::fixture::{LONG, kind};

fn stack(spec: &str) -> Stack {
    Registry::with_defaults().stack(spec).unwrap_or_else(|e| panic!("{e}"))
}

fn listen(engine: &Engine, spec: &str) -> Server {
    engine.listen(&stack(spec), Contact::new("127.0.0.1:0")).wait().unwrap()
}

fn pair(engine: &Engine, spec: &str) -> (Handle, Handle) {
    let server = listen(engine, spec);
    let near = engine.open(&stack(spec), server.contact().clone()).deadline(LONG).wait().unwrap();
    (near, server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap())
}

/// A peer of bare sockets, and the handle that serves it.
fn bare(server: &Server) -> (TcpStream, Handle) {
    let peer = TcpStream::connect(server.contact().text().unwrap()).unwrap();
    (peer, server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap())
}

/// A question and an answer on handles of the same engine, and a timer of it.
fn works(engine: &Engine, spec: &str) {
    let (near, far) = pair(engine, spec);
    near.write("question").deadline(LONG).wait().unwrap();
    assert_eq!(far.take(8).wait_for(8).deadline(LONG).wait().unwrap().into_bytes(), "question");
    let (tx, rx) = mpsc::channel();
    drop(near.take(9).deadline(Duration::from_millis(5)).then(move |r| tx.send(r.unwrap_err().kind()).unwrap()));
    assert_eq!(rx.recv_timeout(LONG).unwrap(), ErrorKind::TimedOut);
}

/// EVPath reads the first bytes of a new connection with its lock held: until they come nothing else goes on.
#[test]
fn a_silent_peer_holds_up_nobody() {
    for spec in ["tcp", "frame/tcp", "queue/frame/tcp"] {
        let engine = Engine::new().unwrap();
        let server = listen(&engine, spec);
        // One that is not even accepted, one that is not opened, and one that is read from.
        let _waits = TcpStream::connect(server.contact().text().unwrap()).unwrap();
        let link = server.accept().deadline(LONG).wait().unwrap();
        let (_silent, served) = bare(&server);
        let (tx, rx) = mpsc::channel();
        drop(served.read(BytesMut::with_capacity(9)).then(move |r| tx.send(r.is_ok()).unwrap()));
        let _unaccepted = TcpStream::connect(server.contact().text().unwrap()).unwrap();
        works(&engine, spec);
        assert!(rx.try_recv().is_err(), "{spec}: a read of nothing ended");
        served.close().deadline(LONG).wait().unwrap();
        assert_eq!(rx.recv_timeout(LONG), Ok(false));
        drop(link);
    }
}

/// EVPath reads the rest of a message with its lock held: a pause in it stops everything else.
#[test]
fn a_peer_that_stops_anywhere_in_a_message_holds_up_nobody() {
    const MESSAGE: &[u8] = b"\0\0\0\x05hello";
    let engine = Engine::new().unwrap();
    let server = listen(&engine, "queue/frame/tcp");
    for at in 0..=MESSAGE.len() {
        let (mut peer, served) = bare(&server);
        peer.set_nodelay(true).unwrap();
        peer.write_all(&MESSAGE[..at]).unwrap();
        let (tx, rx) = mpsc::channel();
        let read = served.read(BytesMut::with_capacity(9)).deadline(LONG);
        drop(read.then(move |r| tx.send(r.map(|d| d.into_bytes()).map_err(|f| f.kind())).unwrap()));
        works(&engine, "queue/frame/tcp");
        // The handle itself can do the other thing meanwhile.
        served.write("ok").deadline(LONG).wait().unwrap();
        let mut got = [0; 6];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"\0\0\0\x02ok");
        peer.write_all(&MESSAGE[at..]).unwrap();
        assert_eq!(rx.recv_timeout(LONG).unwrap().unwrap(), "hello", "stopped after {at} bytes");
    }
}

/// In Globus XIO a write after a read or write that failed hung.
#[test]
fn after_an_error_every_op_ends() {
    for spec in ["tcp", "frame/tcp", "queue/frame/tcp", "queue(early)/frame/tcp", "rate(limit=1GB/s)/tcp", "loop"] {
        let engine = Engine::new().unwrap();
        let (near, far) = if spec == "loop" {
            // A `loop` knows the servers of its own driver.
            let stack = stack(spec);
            let server = engine.listen(&stack, ()).wait().unwrap();
            let near = engine.open(&stack, server.contact().clone()).wait().unwrap();
            (near, server.accept().wait().unwrap().open().wait().unwrap())
        } else {
            pair(&engine, spec)
        };
        far.close().mode(CloseMode::Abort).wait().unwrap();
        let failed = near.take(9).deadline(LONG).wait().unwrap_err().kind();
        assert_eq!(failed, ErrorKind::Reset, "{spec}");
        for turn in 0..3 {
            let hung = |what: &str, kind: Option<ErrorKind>| {
                assert_ne!(kind, Some(ErrorKind::TimedOut), "{spec}: {what} hung, turn {turn}");
                kind
            };
            let write = near.write("abc").deadline(LONG).wait().map_err(|f| f.error);
            let write = hung("a write", kind(write));
            assert!(write.is_some() || spec.contains("early"), "{spec}: a write to nobody went, turn {turn}");
            let read = near.take(9).deadline(LONG).wait().map_err(|f| f.error);
            assert!(hung("a read", kind(read)).is_some(), "{spec}");
            let lent = near.read_into(&mut [0; 9]).deadline(LONG).wait();
            assert!(hung("a lent read", kind(lent)).is_some(), "{spec}");
            hung("a flush", kind(near.flush().deadline(LONG).wait()));
            hung("readiness", kind(near.ready(Direction::Write).deadline(LONG).wait()));
            hung("readiness", kind(near.ready(Direction::Read).deadline(LONG).wait()));
        }
        assert_ne!(kind(near.shutdown().deadline(LONG).wait()), Some(ErrorKind::TimedOut), "{spec}");
        assert_ne!(kind(near.close().deadline(LONG).wait()), Some(ErrorKind::TimedOut), "{spec}");
    }
}
