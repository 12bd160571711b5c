//! What can be asked of a `queue` level and set on it, and what it says of itself.
#![cfg(all(feature = "queue", feature = "loop"))]

use std::sync::mpsc;
use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::Size;
use xio_core::cntl::{GetOption, SetOption};
use xio_core::cx::EventKind;
use xio_core::schema::Value;
use xio_core::{Engine, ErrorKind, Handle, LevelNode};
use xio_drivers::queue::Queued;
use xio_drivers::{loop_, queue};

/// Long enough for anything that comes at all.
const LONG: Duration = Duration::from_secs(20);

/// A queue over a pipe that takes 4 bytes, and the other end.
fn pair(engine: &Engine, options: queue::Options) -> (Handle, Handle) {
    let pipe = loop_::Options::default().with_buffer(Size(4));
    let over = |n| LevelNode::new(queue::driver()).with_attr(Box::new(options.clone())).over(n);
    loop_::pair_of(engine, pipe, over).unwrap()
}

fn held(h: &Handle) -> (usize, usize, usize) {
    let a = h.cntl("queue", Queued).unwrap();
    assert_eq!(h.query(Queued).unwrap(), a);
    (a.writes, a.bytes, a.behind)
}

#[test]
fn a_queue_says_how_much_it_holds() {
    let engine = Engine::new().unwrap();
    let (near, far) = pair(&engine, queue::Options::default());
    assert_eq!(held(&near), (0, 0, 0));
    // One has gone and one is on its way: they are no longer the queue's.
    for text in ["one", "two", "three", "four"] {
        near.write(text).then(|_| ());
    }
    assert_eq!(held(&near), (2, "threefour".len(), 0));
    let mut all = BytesMut::new();
    while all.len() < "onetwothreefour".len() {
        all.unsplit(far.read(BytesMut::with_capacity(64)).wait().unwrap().buf);
    }
    assert_eq!(all, "onetwothreefour");
    near.flush().wait().unwrap();
    assert_eq!(held(&near), (0, 0, 0));
    assert_eq!(far.query(Queued).unwrap(), queue::Amount::default());
}

#[test]
fn what_is_written_behind_counts_as_bytes_and_not_as_writes() {
    let engine = Engine::new().unwrap();
    let never = Duration::from_secs(3600);
    let (near, _far) = pair(&engine, queue::Options::default().with_early(true).with_linger(never));
    for n in 1..=3 {
        near.write("ab").wait().unwrap();
        assert_eq!(held(&near), (0, 2 * n, 2 * n));
    }
    near.close().abort().wait().unwrap();
    assert_eq!(near.query(Queued).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn an_option_that_changes_holds_at_once_and_is_told() {
    let engine = Engine::new().unwrap();
    let (near, _far) = pair(&engine, queue::Options::default().with_depth(1));
    let set = |name: &str, v: Value| near.cntl("queue", SetOption(name.into(), v)).map_err(|e| e.kind());
    let get = |name: &str| near.cntl("queue", GetOption(name.into())).unwrap();
    let write = || near.write("1234").no_wait().deadline(Duration::from_millis(1)).wait().unwrap_err().kind();
    // One has gone, one is on its way, one waits.
    for _ in 0..3 {
        near.write("1234").then(|_| ());
    }
    assert_eq!(write(), ErrorKind::Busy);
    set("depth", Value::Int(2)).unwrap();
    assert_eq!(write(), ErrorKind::TimedOut);
    set("low", Value::Size(0)).unwrap();
    set("high", Value::Size(4)).unwrap();
    assert_eq!(write(), ErrorKind::Busy);
    assert_eq!((get("depth"), get("high")), (Some(Value::Int(2)), Some(Value::Size(4))));
    for (name, value) in
        [("depth", Value::Int(0)), ("depth", Value::Bool(true)), ("low", Value::Size(5)), ("batch", Value::Size(1))]
    {
        assert_eq!(set(name, value), Err(ErrorKind::InvalidInput), "{name}");
    }
    assert_eq!(get("low"), Some(Value::Size(0)));
    // The option of a level below is left to it.
    assert_eq!(set("nodelay", Value::Bool(true)), Err(ErrorKind::UnsupportedCommand));
}

#[test]
fn a_queue_that_rises_over_its_mark_says_so_and_says_when_it_has_drained() {
    let engine = Engine::new().unwrap();
    let (near, far) = pair(&engine, queue::Options::default().with_high(Size(8)).with_low(Size(4)));
    let (tx, rx) = mpsc::channel();
    near.on_event(move |e| tx.send(e.kind.clone()).unwrap());
    std::thread::scope(|s| {
        for _ in 0..5 {
            s.spawn(|| near.write("1234").deadline(2 * LONG).wait().unwrap());
        }
        // Three wait: more than 8 bytes. Nothing has been read yet.
        assert_eq!(rx.recv_timeout(LONG), Ok(EventKind::Filled));
        let mut got = 0;
        while got < 5 * 4 {
            got += far.read(BytesMut::with_capacity(4)).wait().unwrap().n;
        }
        assert_eq!(rx.recv_timeout(LONG), Ok(EventKind::Drained));
    });
    assert!(rx.try_recv().is_err());
    assert_eq!(held(&near), (0, 0, 0));
}
