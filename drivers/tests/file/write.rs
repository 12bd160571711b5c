//! Writes that wait, fail, are stopped, or are the last thing before a close.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use xio_core::attr::Offset;
use xio_core::io::Direction;
use xio_core::{Engine, ErrorKind};

use crate::fixture::{Dir, LONG, SHORT, get, mode, open, open_as, results, until};

#[test]
fn writes_land_in_the_order_they_were_made_and_before_a_close() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    for (with, sync) in [("write", "never"), ("append", "close"), ("read-write", "flush"), ("write", "write")] {
        let path = dir.file("a", "");
        let h = open_as(&engine, mode(with).with_sync(sync.into()), &path).unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let mut all = Vec::new();
        for i in 0..60u32 {
            let line = format!("{i} {}\n", "x".repeat(i as usize * 50));
            all.extend_from_slice(line.as_bytes());
            let count = count.clone();
            h.write(line).then(move |r| {
                r.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            });
        }
        let (tx, rx) = results();
        h.flush().then(move |r| tx.send(r.map(|()| count.load(Ordering::SeqCst))).unwrap());
        h.close().wait().unwrap();
        assert_eq!(get(&rx).unwrap(), 60, "{with}: a flush waits for the writes before it");
        assert!(std::fs::read(&path).unwrap() == all, "{with}");
    }
}

#[test]
fn a_full_device_says_so_with_what_had_gone() {
    let engine = Engine::new().unwrap();
    let h = open_as(&engine, mode("write").with_truncate(Some(false)), "/dev/full").unwrap();
    let e = h.write("x").wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::Io, 0));
    assert!(e.to_string().contains("No space left on device (os error 28): `/dev/full`"), "{e}");
    // The next op has its turn.
    assert_eq!(h.write("x").deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Io);
    h.flush().deadline(LONG).wait().unwrap();
    h.close().wait().unwrap();
}

#[test]
fn reads_of_what_is_only_written_wait_for_the_end_of_the_write_side() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let h = open(&engine, "write", &dir.path("a"));
    assert_eq!(h.take(1).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(h.ready(Direction::Read).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    h.ready(Direction::Write).deadline(LONG).wait().unwrap();
    let (tx, rx) = results();
    let tx2 = tx.clone();
    h.take(1).then(move |r| tx.send(r.map(|d| d.n).map_err(|f| f.kind())).unwrap());
    h.ready(Direction::Read).then(move |r| tx2.send(r.map(|()| 0).map_err(|e| e.kind())).unwrap());
    h.write("x").wait().unwrap();
    assert!(rx.recv_timeout(SHORT).is_err());
    h.shutdown().wait().unwrap();
    let mut two = [get(&rx), get(&rx)];
    two.sort_unstable_by_key(Result::is_err);
    assert_eq!(two, [Ok(0), Err(ErrorKind::Eof)]);
    assert_eq!(h.take(1).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Eof);
    assert_eq!(h.write("y").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    h.close().wait().unwrap();
    assert_eq!(std::fs::read(dir.path("a")).unwrap(), b"x");
    // A close ends them too.
    let h = open(&engine, "write", &dir.path("a"));
    let (tx, rx) = results();
    h.take(1).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    h.close().wait().unwrap();
    assert_eq!(get(&rx), ErrorKind::Cancelled);
}

#[test]
fn a_write_that_is_stopped_gives_its_turn_on() {
    let (dir, engine) = (Dir::new(), Engine::builder().pool_threads(1).build().unwrap());
    let path = dir.path("a");
    let h = open(&engine, "write", &path);
    let mut whole = 0;
    for round in 0..200u32 {
        let (tx, rx) = results();
        let ticket = h.write(vec![1; 10]).then(move |r| tx.send(r.map(|d| d.n).map_err(|f| f.kind())).unwrap());
        if round % 3 == 0 {
            std::thread::yield_now();
        }
        ticket.cancel();
        match get(&rx) {
            Ok(10) => whole += 1,
            other => assert_eq!(other, Err(ErrorKind::Cancelled)),
        }
    }
    h.write(vec![2; 10]).deadline(LONG).wait().unwrap();
    let size = h.query(xio_core::cntl::Offset(None)).unwrap();
    h.close().wait().unwrap();
    // Every write is there as a whole or not at all, and the position knows of each.
    let data = std::fs::read(&path).unwrap();
    assert_eq!(data.len() as u64, size);
    assert!(data.len() >= 10 * (whole + 1) && data.len() % 10 == 0);
    assert_eq!(data.iter().filter(|b| **b == 2).count(), 10);
    assert_eq!(data.iter().filter(|b| **b == 0).count(), 0);
}

#[test]
fn an_abort_ends_what_is_under_way() {
    let (dir, engine) = (Dir::new(), Engine::builder().pool_threads(1).build().unwrap());
    let h = open(&engine, "read-write", &dir.file("a", vec![0; 100_000]));
    let (tx, rx) = results();
    for i in 0..20u64 {
        let (tx, tx2) = (tx.clone(), tx.clone());
        h.take(1000).attr(Offset(i * 1000)).then(move |r| tx.send(r.err().map(|f| f.kind())).unwrap());
        h.write(vec![1; 1000]).then(move |r| tx2.send(r.err().map(|f| f.kind())).unwrap());
    }
    h.close().abort().wait().unwrap();
    for _ in 0..40 {
        assert!(matches!(get(&rx), None | Some(ErrorKind::Cancelled)));
    }
    drop(h);
    until(|| engine.handles() == 0);
}
