//! What a handle holds while nothing moves: live bytes of the heap, counted by the allocator.
//!
//! Invariant: one test, for the allocator counts the whole process.

use std::sync::mpsc;

use bytes::BytesMut;
use xio_core::{Engine, Handle};
use xio_peers::counting;
use xio_tests::{pair, stack};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();

/// Pairs before those that count, and those: together under a power of two, at which tables grow.
const PAIRS: (usize, usize) = (300, 200);
/// Messages that wait at once, and their bytes.
const BURST: (usize, usize) = (32, 2000);

/// A burst that waits in every level, and comes through.
fn burst(from: &Handle, to: &Handle) {
    let (tx, rx) = mpsc::channel();
    for _ in 0..BURST.0 {
        let tx = tx.clone();
        from.write(vec![7u8; BURST.1]).then(move |r| tx.send(r.is_ok()).unwrap());
    }
    let mut left = BURST.0 * BURST.1;
    while left > 0 {
        left -= to.read(BytesMut::with_capacity(BURST.1)).wait().unwrap().n;
    }
    assert!((0..BURST.0).all(|_| rx.recv().unwrap()));
    from.flush().wait().unwrap();
}

/// Live bytes a handle, each with a take read outstanding.
fn held(spec: &str, busy_before: bool) -> f64 {
    let engine = Engine::new().unwrap();
    let stack = stack(spec);
    let open = || {
        let (a, b) = pair(&engine, &stack).unwrap();
        if busy_before {
            burst(&a, &b);
            burst(&b, &a);
        }
        for h in [&a, &b] {
            h.take(64 * 1024).then(drop);
        }
        [a, b]
    };
    // What is made once: tables, threads, the thread's own lists.
    let _first: Vec<_> = (0..PAIRS.0).flat_map(|_| open()).collect();
    let mut handles = Vec::with_capacity(2 * PAIRS.1);
    let before = counting::global();
    (0..PAIRS.1).for_each(|_| handles.extend(open()));
    counting::global().since(before).live_bytes as f64 / handles.len() as f64
}

#[test]
fn an_idle_handle_is_small_and_as_small_again_after_a_burst() {
    assert!(counting::installed());
    for (spec, most) in [("tcp(nodelay)", 830.0), ("frame/tcp(nodelay)", 990.0), ("queue/frame/tcp(nodelay)", 1040.0)] {
        let (fresh, after) = (held(spec, false), held(spec, true));
        println!("{spec}: {fresh} bytes a handle, {after} after a burst");
        assert!(fresh < most, "{spec}: {fresh} bytes a handle");
        assert!(after < fresh + 32.0, "{spec}: {fresh} bytes a handle, but {after} after a burst");
    }
}
