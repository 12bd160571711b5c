//! What can be asked of a `queue` level.
#![cfg(all(feature = "queue", feature = "loop"))]

use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::Size;
use xio_core::{Engine, ErrorKind, Handle, LevelNode};
use xio_drivers::queue::Queued;
use xio_drivers::{loop_, queue};

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
