//! Whole ops over `void`, through any number of `null` levels.

use std::sync::mpsc;

use bytes::BytesMut;
use xio_core::{Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::{null, void};

fn stack(nulls: usize) -> Stack {
    let mut node = LevelNode::new(void::driver());
    for _ in 0..nulls {
        node = LevelNode::new(null::driver()).over(node);
    }
    Stack::new(node).unwrap()
}

fn open(engine: &Engine, nulls: usize) -> Handle {
    engine.open(&stack(nulls), ()).wait().unwrap()
}

#[test]
fn reads_fill_take_and_lend() {
    let engine = Engine::new().unwrap();
    for nulls in [0, 1, 5] {
        let h = open(&engine, nulls);
        let mut buf = [7u8; 100];
        assert_eq!(h.read_into(&mut buf).wait().unwrap(), 100);
        assert_eq!(buf, [0; 100]);
        let done = h.read(BytesMut::with_capacity(10)).wait().unwrap();
        assert_eq!((done.n, done.buf.len()), (10, 10));
        let done = h.take(1000).wait().unwrap();
        assert_eq!((done.n, done.chunks.len()), (1000, 1));
        assert_eq!(h.write_from(&[1; 50]).wait().unwrap(), 50);
        let done = h.write("hello").wait().unwrap();
        assert_eq!((done.n, &*done.pieces[0]), (5, &b"hello"[..]));
        h.flush().wait().unwrap();
        h.shutdown().wait().unwrap();
        assert_eq!(h.write("x").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
        h.close().wait().unwrap();
        let e = h.read_into(&mut buf).wait().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Closed);
        assert_eq!(h.close().wait().unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn callbacks_run_after_the_submit_and_in_order() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, 2);
    let (tx, rx) = mpsc::channel();
    for i in 0..10 {
        let tx = tx.clone();
        h.read(BytesMut::with_capacity(8)).then(move |r| tx.send((i, r.unwrap().n)).unwrap());
    }
    let got: Vec<_> = rx.iter().take(10).collect();
    assert_eq!(got, (0..10).map(|i| (i, 8)).collect::<Vec<_>>());
}

#[test]
fn a_dropped_handle_frees_everything() {
    let engine = Engine::new().unwrap();
    for _ in 0..10 {
        let h = open(&engine, 1);
        h.write("x").wait().unwrap();
    }
    assert_eq!(engine.handles(), 0);
}

/// A chain of a million completions, each submitted by the one before, on a small stack.
#[test]
fn a_million_chained_inline_completions_on_64_kib() {
    fn next(h: Handle, left: u32, done: mpsc::Sender<()>) {
        if left == 0 {
            done.send(()).unwrap();
            return;
        }
        let again = h.clone();
        h.write(&b"x"[..]).then(move |r| {
            r.unwrap();
            next(again, left - 1, done);
        });
    }
    let (tx, rx) = mpsc::channel();
    let engine = Engine::new().unwrap();
    let h = open(&engine, 1);
    std::thread::Builder::new().stack_size(64 * 1024).spawn(move || next(h, 1_000_000, tx)).unwrap().join().unwrap();
    rx.recv().unwrap();
}
