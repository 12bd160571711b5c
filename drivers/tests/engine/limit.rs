//! What the engine does for users: order, limits, callbacks, futures, statistics, its own end.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use xio_core::attr::Size;
use xio_core::driver::{Intercepts, OpKind};
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::{frame, loop_, null, void};

use super::desk::Desk;
use super::fixture::{LONG, SHORT, get, none, open, poll, results, room, run, until};

fn framed(engine: &Engine) -> (Handle, Handle) {
    loop_::pair_of(engine, loop_::Options::default(), |n| LevelNode::new(frame::driver()).over(n)).unwrap()
}

#[test]
fn twenty_outstanding_reads_get_whole_messages_in_order() {
    let engine = Engine::new().unwrap();
    for nulls in 0..3 {
        let over = |n| {
            let gated = null::Options::default().with_gate(true);
            let framed = LevelNode::new(frame::driver()).over(n);
            (0..nulls).fold(framed, |n, _| LevelNode::new(null::driver()).with_attr(Box::new(gated.clone())).over(n))
        };
        let (a, b) = loop_::pair_of(&engine, loop_::Options::default().with_buffer(Size(50)), over).unwrap();
        let (reply, rx) = results();
        for i in 0..20 {
            let r = reply();
            b.read(room(2000)).then(move |x| r.send((i, x.unwrap().buf)));
        }
        assert_eq!(b.outstanding(), (20, 0));
        // Header and body arrive in pieces of every size.
        let message = |i: usize| -> Vec<u8> { vec![i as u8; i * 37 % 900] };
        for i in 0..20 {
            a.write(message(i)).wait().unwrap();
        }
        for i in 0..20 {
            let (n, got) = get(&rx);
            assert_eq!((n, &got[..]), (i, &message(i)[..]));
        }
        none(&rx);
        // All of them end with the stream.
        for i in 0..20 {
            let r = reply();
            b.read(room(9)).then(move |x| {
                let f = x.unwrap_err();
                assert_eq!((f.kind(), f.back.buf.capacity()), (ErrorKind::Eof, 9));
                r.send((i, f.back.buf));
            });
        }
        a.close().wait().unwrap();
        assert_eq!((0..20).map(|_| get(&rx).0).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_cancelled_read_in_the_middle_leaves_the_others_their_messages() {
    let engine = Engine::new().unwrap();
    let (a, b) = framed(&engine);
    let (reply, rx) = results();
    let mut tickets = Vec::new();
    for i in 0..10 {
        let r = reply();
        tickets.push(b.read(room(99)).then(move |x| r.send((i, x.map(|d| d.buf).map_err(|f| f.kind())))));
    }
    for i in [0, 3, 9] {
        tickets[i].cancel();
        assert_eq!(get(&rx), (i, Err(ErrorKind::Cancelled)));
    }
    for i in [1, 2, 4, 5, 6, 7, 8] {
        let text = format!("message {i}");
        a.write(text.clone()).wait().unwrap();
        let (n, got) = get(&rx);
        assert_eq!((n, &got.unwrap()[..]), (i, text.as_bytes()));
    }
}

#[test]
fn a_full_handle_is_busy_for_those_who_do_not_wait() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let stack = Stack::new(desk.node(Intercepts::CONCURRENT_READS)).unwrap();
    let h = engine.open(&stack, ()).max_ops(2).max_bytes(100).wait().unwrap();
    let (reply, rx) = results();
    for i in 0..2 {
        let r = reply();
        h.read(room(9)).then(move |x| r.send((i, x.map(|d| d.n).map_err(|f| (f.kind(), f.back.buf.capacity())))));
    }
    // A callback never waits for room.
    let r = reply();
    h.read(room(9)).then(move |x| r.send((2, x.map(|d| d.n).map_err(|f| (f.kind(), f.back.buf.capacity())))));
    assert_eq!(get(&rx), (2, Err((ErrorKind::Busy, 9))));
    let f = h.read(room(7)).no_wait().wait().unwrap_err();
    assert_eq!((f.kind(), f.error.is_temporary(), f.back.buf.capacity()), (ErrorKind::Busy, true, 7));
    let f = run(h.read(room(7)).no_wait().into_future()).unwrap_err();
    assert_eq!((f.kind(), f.back.buf.capacity()), (ErrorKind::Busy, 7));
    // The other direction has limits of its own.
    h.write("x").no_wait().wait().unwrap();
    // Waiting forms wait, in their order.
    let (order, came) = mpsc::channel();
    let threads: Vec<_> = (0..3)
        .map(|i| {
            let (h, order) = (h.clone(), order.clone());
            let thread = std::thread::spawn(move || {
                let done = h.read(room(9)).deadline(LONG).wait().unwrap();
                order.send((i, done.buf)).unwrap();
            });
            std::thread::sleep(SHORT);
            thread
        })
        .collect();
    assert!(came.try_recv().is_err());
    assert_eq!(h.outstanding(), (2, 0));
    for (i, text) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        until(|| desk.held() > 0);
        desk.give(text);
        match i {
            0 | 1 => assert_eq!(get(&rx), (i, Ok(1))),
            _ => assert_eq!(get(&came), (i - 2, text.as_bytes().into())),
        }
    }
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(h.outstanding(), (0, 0));
}

#[test]
fn bytes_are_limited_too_but_one_op_may_be_larger() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    desk.hold_writes(true);
    let stack = Stack::new(desk.node(Intercepts::CONCURRENT_WRITES)).unwrap();
    let h = engine.open(&stack, ()).max_bytes(100).wait().unwrap();
    let (reply, rx) = results();
    let big = Bytes::from(vec![1; 1000]);
    let r = reply();
    h.write(big.clone()).then(move |x| r.send(x.map(|d| d.n).map_err(|f| (f.kind(), f.back.n))));
    let f = h.write("x").no_wait().wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n, &*f.back.pieces[0]), (ErrorKind::Busy, 0, &b"x"[..]));
    let mut later = h.write("x").into_future();
    assert!(poll(&mut later).is_pending());
    desk.hold_writes(false);
    desk.writes().into_iter().for_each(xio_core::Held::retry);
    assert_eq!(get(&rx), Ok(1000));
    assert_eq!(run(later).unwrap().n, 1);
}

#[test]
fn more_than_fits_is_refused_at_once() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, LevelNode::new(void::driver()));
    let f = h.read(room(4)).wait_for(5).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.buf.capacity()), (ErrorKind::InvalidInput, 4));
}

#[test]
fn a_blocking_call_in_a_callback_on_the_engines_thread_is_an_error() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::CONCURRENT_READS));
    let (reply, rx) = results();
    // A deadline ends the op on the engine's own thread.
    let (copy, r) = (h.clone(), reply());
    h.read(room(9)).deadline(SHORT).then(move |x| {
        assert_eq!(x.unwrap_err().kind(), ErrorKind::TimedOut);
        let read = copy.read(room(9)).wait().unwrap_err().kind();
        let write = copy.write("x").wait().unwrap_err().kind();
        let close = copy.close().wait().unwrap_err().kind();
        let opened = copy.engine().open(&copy.stack(), ()).wait().map(drop).unwrap_err().kind();
        r.send([read, write, close, opened]);
    });
    assert_eq!(get(&rx), [ErrorKind::InCallback; 4]);
    // What does not block is allowed there: submit, cancel, drop.
    let (copy, r) = (h.clone(), reply());
    h.read(room(9)).deadline(SHORT).then(move |_| {
        let inner = copy.read(room(9)).then(move |x| r.send([x.unwrap_err().kind(); 4]));
        inner.cancel();
        drop(copy);
    });
    assert_eq!(get(&rx), [ErrorKind::Cancelled; 4]);
}

#[test]
fn callbacks_of_one_handle_run_one_after_the_other_and_before_that_of_its_close() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::CONCURRENT_READS));
    let inside = Arc::new(Mutex::new(()));
    let (reply, rx) = results();
    for i in 0..50 {
        let (inside, r) = (inside.clone(), reply());
        h.read(room(9)).then(move |_| {
            let _alone = inside.try_lock().expect("two callbacks of one handle at once");
            std::thread::yield_now();
            r.send(i);
        });
    }
    let r = reply();
    let closer = h.clone();
    let givers: Vec<_> = (0..4)
        .map(|_| {
            let desk = desk.clone();
            std::thread::spawn(move || (0..10).for_each(|_| desk.give("x")))
        })
        .collect();
    givers.into_iter().for_each(|g| g.join().unwrap());
    closer.close().then(move |_| r.send(99));
    let all: Vec<_> = (0..51).map(|_| get(&rx)).collect();
    assert_eq!(all[50], 99);
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 51);
}

#[test]
fn the_end_of_an_engine_ends_everything_with_stopped() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    desk.keep();
    desk.hold_writes(true);
    let gated = null::Options::default().with_gate(true);
    let node = LevelNode::new(null::driver()).with_attr(Box::new(gated)).over(desk.node(Intercepts::NONE));
    let h = engine.open(&Stack::new(node).unwrap(), ()).max_ops(3).wait().unwrap();
    let driver = loop_::driver();
    let leaf = Stack::new(LevelNode::new(driver)).unwrap();
    let server = engine.listen(&leaf, Contact::new("s")).wait().unwrap();
    let (reply, rx) = results();
    let r = reply();
    server.accept().then(move |x| r.send(("accept", x.map(drop).unwrap_err().kind())));
    // Held, at the gate, waiting for admission; a write that its level keeps whatever happens.
    for name in ["held", "gate", "gate"] {
        let r = reply();
        h.read(room(9)).then(move |x| r.send((name, x.unwrap_err().kind())));
    }
    let r = reply();
    h.write("x").then(move |x| r.send(("write", x.unwrap_err().kind())));
    let mut future = h.read(room(9)).into_future();
    assert!(poll(&mut future).is_pending());
    let threads = ["read", "write", "accept"].map(|what| {
        let (h, server) = (h.clone(), server.clone());
        std::thread::spawn(move || match what {
            "read" => h.read(room(9)).wait().unwrap_err().kind(),
            "write" => h.write_from(b"y").wait().unwrap_err().kind(),
            _ => server.accept().wait().map(drop).unwrap_err().kind(),
        })
    });
    std::thread::sleep(SHORT);
    engine.shutdown();
    for _ in 0..5 {
        let (what, kind) = get(&rx);
        assert_eq!(kind, ErrorKind::Stopped, "{what}");
    }
    for t in threads {
        assert_eq!(t.join().unwrap(), ErrorKind::Stopped);
    }
    assert_eq!(run(future).unwrap_err().kind(), ErrorKind::Stopped);
    none(&rx);
    // Nothing starts any more, nothing hangs, and twice does nothing.
    assert_eq!(h.read(room(9)).wait().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(h.close().wait().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(engine.open(&leaf, Contact::new("s")).wait().unwrap_err().kind(), ErrorKind::Stopped);
    engine.shutdown();
    drop((h, server));
    until(|| engine.handles() == 0);
}

#[test]
fn an_engine_may_be_dropped_in_its_own_callback() {
    let engine = Engine::new().unwrap();
    let desk = Desk::default();
    let h = open(&engine, desk.node(Intercepts::NONE));
    let (reply, rx) = results();
    let (copy, r) = (h.clone(), reply());
    let last = Mutex::new(Some(engine));
    h.read(room(9)).deadline(SHORT).then(move |_| {
        drop(copy);
        drop(last.lock().unwrap().take());
        r.send(());
    });
    drop(h);
    get(&rx);
}

#[test]
fn a_dropped_read_gives_its_bytes_to_the_next() {
    let engine = Engine::new().unwrap();
    let (a, b) =
        loop_::pair_of(&engine, loop_::Options::default(), |n| LevelNode::new(null::driver()).over(n)).unwrap();
    // Nothing had come.
    let mut f = b.read(room(9)).into_future();
    assert!(poll(&mut f).is_pending());
    drop(f);
    a.write("abcdef").wait().unwrap();
    assert_eq!(b.read(room(3)).wait().unwrap().buf, "abc");
    // All of it had come.
    let mut f = b.read(room(4)).wait_for(4).into_future();
    assert!(poll(&mut f).is_pending());
    a.write("ghij").wait().unwrap();
    drop(f);
    assert_eq!(b.read(room(2)).wait().unwrap().buf, "de");
    // Part of what it waits for had come.
    let mut f = b.read(room(100)).wait_for(100).into_future();
    assert!(poll(&mut f).is_pending());
    a.write("kl").wait().unwrap();
    drop(f);
    assert_eq!(b.read(room(100)).wait_for(7).deadline(LONG).wait().unwrap().buf, "fghijkl");
    // A buffer that held something before.
    let mut buf = room(100);
    buf.extend_from_slice(b"old");
    let mut f = b.read(buf).wait_for(5).into_future();
    assert!(poll(&mut f).is_pending());
    a.write("mn").wait().unwrap();
    drop(f);
    assert_eq!(b.take(100).deadline(LONG).wait().unwrap().into_bytes(), "mn");
    // The end of the stream is not lost either.
    let mut f = b.read(room(100)).into_future();
    assert!(poll(&mut f).is_pending());
    a.close().wait().unwrap();
    drop(f);
    assert_eq!(b.read(room(9)).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Eof);
}

#[test]
fn a_dropped_read_of_messages_gives_its_message_to_the_next() {
    let engine = Engine::new().unwrap();
    let (a, b) = framed(&engine);
    for i in 0..5u8 {
        let mut f = b.read(room(9)).into_future();
        assert!(poll(&mut f).is_pending());
        a.write(vec![i; usize::from(i)]).wait().unwrap();
        drop(f);
        a.write("after").wait().unwrap();
        assert_eq!(b.read(room(9)).wait().unwrap().buf, vec![i; usize::from(i)]);
        assert_eq!(b.read(room(9)).wait().unwrap().buf, "after");
    }
}

#[test]
fn statistics_add_up() {
    let engine = Engine::new().unwrap();
    let driver = loop_::driver();
    let leaf = LevelNode::new(driver).with_id("end");
    let top = LevelNode::new(null::driver()).with_id("top").over(LevelNode::new(frame::driver()).over(leaf.clone()));
    let stack = Stack::new(top).unwrap();
    let server = engine.listen(&stack, Contact::new("s")).wait().unwrap();
    let a = engine.open(&stack, Contact::new("s")).with_stats().wait().unwrap();
    let b = server.accept().wait().unwrap().open().with_stats().wait().unwrap();
    let (count, size) = (200u64, 100u64);
    for _ in 0..count {
        a.write(vec![0; size as usize]).wait().unwrap();
        b.read(room(1000)).wait().unwrap();
    }
    let stats = |h: &Handle| h.stats().into_iter().collect::<HashMap<_, _>>();
    let (near, far) = (stats(&a), stats(&b));
    assert_eq!(a.stats().iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["top", "frame", "end"]);
    let write = OpKind::Write as usize;
    let read = OpKind::Read as usize;
    for (id, bytes) in [("top", count * size), ("frame", count * size), ("end", count * (size + 4))] {
        let c = near[id];
        assert_eq!((c.ops[write], c.written, c.ops[read], c.read), (count, bytes, 0, 0), "{id}");
    }
    assert_eq!((far["top"].ops[read], far["top"].read, far["top"].ops[write]), (count, count * size, 0));
    // What a level gave up: `frame` its messages, the stream what was written into it.
    assert_eq!((far["frame"].ops[read], far["frame"].read), (count, count * size));
    assert_eq!(far["end"].read, near["end"].written);
    assert!(near["top"].sampled > 0);
    // A handle that did not ask counts nothing.
    let plain = engine.open(&stack, Contact::new("s")).wait().unwrap();
    assert!(plain.stats().is_empty());
}
