//! Pipes and terminals: what waits, waits for as long as it takes, costs nobody a thread, and can be
//! stopped without a loss.

use std::fs::File;
use std::future::IntoFuture;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use xio_core::attr::Offset;
use xio_core::cntl;
use xio_core::io::Direction;
use xio_core::{Contact, Engine, ErrorKind, Handle};
use xio_drivers::file::Fd;

use crate::fixture::{Dir, LONG, SHORT, get, mode, noise, open, open_as, poll, rest, results, stack, until};

fn given(engine: &Engine, with: &str, fd: Fd) -> Handle {
    engine.open(&stack(mode(with).with_fd(Some(fd))), Contact::None).wait().unwrap()
}

fn flags(fd: impl AsFd) -> OFlags {
    fcntl_getfl(fd).unwrap()
}

#[test]
fn many_idle_pipes_leave_the_pool_to_others() {
    let (dir, engine) = (Dir::new(), Engine::builder().pool_threads(1).build().unwrap());
    let stack = stack(mode("read"));
    let (tx, rx) = results();
    let idle: Vec<_> = (0..8)
        .map(|i| {
            let path = dir.pipe(&format!("p{i}"));
            let h = engine.open(&stack, Contact::new(&*path)).wait().unwrap();
            let tx = tx.clone();
            h.take(100).then(move |r| tx.send((i, r.unwrap().into_bytes())).unwrap());
            (path, h)
        })
        .collect();
    let file = dir.file("a", "x");
    assert_eq!(rest(&open(&engine, "read", &file)), b"x");
    for (i, (path, _)) in idle.iter().enumerate().rev() {
        // Opening it is what the reader waits for, too.
        File::options().write(true).open(path).unwrap().write_all(b"hello").unwrap();
        assert_eq!(get(&rx), (i, "hello".into()));
    }
    for (_, h) in &idle {
        assert_eq!(h.take(1).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Eof);
    }
    // An end is not final.
    File::options().write(true).open(&idle[0].0).unwrap().write_all(b"again").unwrap();
    assert_eq!(idle[0].1.take(9).deadline(LONG).wait().unwrap().into_bytes(), "again");
}

#[test]
fn bytes_of_a_pipe_are_never_lost_to_a_reader_who_went() {
    let engine = Engine::new().unwrap();
    let (r, mut w) = std::io::pipe().unwrap();
    let h = given(&engine, "read", Fd::new(r));
    let began = Instant::now();
    assert_eq!(h.take(5).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(began.elapsed() >= SHORT);
    // A future that is dropped, a callback that is cancelled, both while others wait behind them.
    let (tx, rx) = results();
    let mut f = IntoFuture::into_future(h.take(5).wait_for(5));
    assert!(poll(&mut f).is_pending());
    let tx2 = tx.clone();
    let ticket = h.take(5).then(move |r| tx2.send(r.map(|d| d.into_bytes()).map_err(|f| f.kind())).unwrap());
    h.take(7).wait_for(7).then(move |r| tx.send(r.map(|d| d.into_bytes()).map_err(|f| f.kind())).unwrap());
    w.write_all(b"abc").unwrap();
    ticket.cancel();
    assert_eq!(get(&rx), Err(ErrorKind::Cancelled));
    drop(f);
    w.write_all(b"defghijk").unwrap();
    assert_eq!(get(&rx), Ok("abcdefg".into()));
    assert_eq!(h.take(9).deadline(LONG).wait().unwrap().into_bytes(), "hijk");
    drop(w);
    assert_eq!(h.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
}

#[test]
fn wait_for_is_kept_over_many_short_writes() {
    let engine = Engine::new().unwrap();
    let (r, mut w) = std::io::pipe().unwrap();
    let h = given(&engine, "read", Fd::new(r));
    let data = noise(300_000);
    let sent = data.clone();
    let writer = std::thread::spawn(move || {
        for part in sent.chunks(777) {
            w.write_all(part).unwrap();
        }
    });
    let mut all = Vec::new();
    for n in [1, 100_000, 4096, 150_000] {
        let done = h.read(BytesMut::with_capacity(n + 50)).wait_for(n).deadline(LONG).wait().unwrap();
        assert!((n..=n + 50).contains(&done.n));
        all.extend_from_slice(&done.buf);
    }
    all.extend_from_slice(&rest(&h));
    writer.join().unwrap();
    assert!(all == data);
    // What is there now, be it nothing.
    let (r, mut w) = std::io::pipe().unwrap();
    let h = given(&engine, "read", Fd::new(r));
    assert_eq!(h.take(9).wait_for(0).deadline(LONG).wait().unwrap().n, 0);
    w.write_all(b"xy").unwrap();
    assert_eq!(h.take(9).wait_for(0).deadline(LONG).wait().unwrap().n, 2);
}

#[test]
fn a_full_pipe_makes_writers_wait_and_can_be_left() {
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    for blocking in [true, false] {
        let (mut r, w) = std::io::pipe().unwrap();
        if !blocking {
            rustix::fs::fcntl_setfl(&w, OFlags::NONBLOCK).unwrap();
        }
        let fd: Arc<OwnedFd> = Arc::new(w.into());
        let before = flags(&fd);
        let h = given(&engine, "write", Fd::shared(fd.clone()));
        let data = noise(500_000);
        let (tx, rx) = results();
        let tx2 = tx.clone();
        h.write(data.clone()).then(move |r| tx.send(r.map(|d| d.n).map_err(|f| (f.kind(), f.back.n))).unwrap());
        let ticket =
            h.write("never").then(move |r| tx2.send(r.map(|d| d.n).map_err(|f| (f.kind(), f.back.n))).unwrap());
        assert!(rx.recv_timeout(SHORT).is_err());
        ticket.cancel();
        assert_eq!(get(&rx), Err((ErrorKind::Cancelled, 0)));
        let mut got = vec![0; data.len()];
        r.read_exact(&mut got).unwrap();
        assert!(got == data);
        assert_eq!(get(&rx), Ok(data.len()));
        // Fill it, and give up: what had gone is told and can be read.
        let e = h.write(data.clone()).deadline(SHORT).wait().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TimedOut);
        assert!(e.back.n >= 4096 && e.back.n < data.len(), "{}", e.back.n);
        let mut got = vec![0; e.back.n];
        r.read_exact(&mut got).unwrap();
        assert!(got == data[..e.back.n]);
        h.ready(Direction::Write).deadline(LONG).wait().unwrap();
        assert_eq!(flags(&fd), before);
        drop(r);
        // A child that another test starts has it until it runs its program.
        let mut end = None;
        until(|| {
            end = h.write("x").deadline(LONG).wait().err().map(|f| f.kind());
            end.is_some()
        });
        assert_eq!(end, Some(ErrorKind::BrokenPipe));
        // A file that is written only closes with its write side; what was lent does not.
        h.shutdown().wait().unwrap();
        assert_eq!(flags(&fd), before);
    }
}

#[test]
fn a_pipe_is_opened_for_writing_when_it_has_a_reader() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let path = dir.pipe("p");
    let call = || engine.open(&stack(mode("write")), Contact::new(&*path));
    assert_eq!(call().deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    let mut f = IntoFuture::into_future(call());
    assert!(poll(&mut f.as_mut()).is_pending());
    drop(f);
    let (tx, rx) = results();
    call().deadline(LONG).then(move |r| tx.send(r.unwrap()).unwrap());
    let reader = open(&engine, "read", &path);
    let writer = get(&rx);
    writer.write("hello").wait().unwrap();
    writer.shutdown().wait().unwrap();
    // The reader sees the end though the writer's handle is still open.
    assert_eq!(rest(&reader), b"hello");
    writer.close().wait().unwrap();
    drop(writer);
    until(|| engine.handles() == 1);
}

#[test]
fn a_pipe_has_no_offsets() {
    let engine = Engine::new().unwrap();
    let (r, w) = std::io::pipe().unwrap();
    let (r, w) = (given(&engine, "read", Fd::new(r)), given(&engine, "write", Fd::new(w)));
    for e in [
        r.take(1).attr(Offset(0)).wait().unwrap_err().error,
        w.write("x").attr(Offset(0)).wait().unwrap_err().error,
        r.query(cntl::Offset(None)).unwrap_err(),
        w.query(cntl::Offset(Some(0))).unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("is no regular file, so it has no offsets"), "{e}");
    }
}

#[test]
fn readiness_comes_with_bytes_or_the_end() {
    let engine = Engine::new().unwrap();
    let (r, mut w) = std::io::pipe().unwrap();
    let h = given(&engine, "read", Fd::new(r));
    assert_eq!(h.ready(Direction::Read).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    let (tx, rx) = results();
    h.ready(Direction::Read).then(move |r| tx.send(r).unwrap());
    w.write_all(b"x").unwrap();
    get(&rx).unwrap();
    h.ready(Direction::Read).deadline(LONG).wait().unwrap();
    assert_eq!(h.take(9).wait().unwrap().n, 1);
    drop(w);
    h.ready(Direction::Read).deadline(LONG).wait().unwrap();
    let e = h.write("x").wait().unwrap_err().error;
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("reading only"), "{e}");
}

#[test]
fn a_terminal_gives_lines_and_ends_as_often_as_it_is_told_to() {
    let engine = Engine::new().unwrap();
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&control).unwrap();
    unlockpt(&control).unwrap();
    let name = ptsname(&control, Vec::new()).unwrap().into_string().unwrap();
    let mut control = File::from(control);
    // Opened by name, and given: the flags of what was given stay.
    let tty = File::options().read(true).write(true).open(&name).unwrap();
    let before = flags(&tty);
    for h in [
        open_as(&engine, mode("read-write"), &name).unwrap(),
        given(&engine, "read-write", Fd::new(tty.try_clone().unwrap())),
    ] {
        assert_eq!(h.take(9).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
        control.write_all(b"line\n").unwrap();
        assert_eq!(h.take(100).deadline(LONG).wait().unwrap().into_bytes(), "line\n");
        // Ctrl-D ends the stream once.
        control.write_all(&[4]).unwrap();
        assert_eq!(h.take(100).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Eof);
        control.write_all(b"more\n").unwrap();
        assert_eq!(h.take(100).deadline(LONG).wait().unwrap().into_bytes(), "more\n");
        h.write("out").deadline(LONG).wait().unwrap();
        let mut shown = Vec::new();
        let mut buf = [0; 100];
        until(|| {
            let n = control.read(&mut buf).unwrap();
            shown.extend_from_slice(&buf[..n]);
            shown.ends_with(b"out")
        });
        h.close().wait().unwrap();
    }
    assert_eq!(flags(&tty), before);
}

#[test]
fn an_engine_ends_though_somebody_waits_for_a_pipe() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let h = open(&engine, "read", &dir.pipe("p"));
    let (tx, rx) = results();
    let tx2 = tx.clone();
    h.take(1).then(move |r| tx.send(r.unwrap_err().kind()).unwrap());
    h.ready(Direction::Read).then(move |r| tx2.send(r.unwrap_err().kind()).unwrap());
    engine.shutdown();
    assert_eq!((get(&rx), get(&rx)), (ErrorKind::Stopped, ErrorKind::Stopped));
}
