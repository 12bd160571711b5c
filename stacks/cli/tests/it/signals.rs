//! Ctrl-C, SIGTERM, and a stdout whose reader has gone.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::xio::{Kept, Listener, feed, noise, run, xio};

#[test]
fn ctrl_c_ends_a_listener_with_its_totals() {
    let mut l = Listener::start(&["listen", "frame/tcp", "127.0.0.1:0", "--sink"], Stdio::null());
    let mut lines = BufReader::new(l.child.0.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert_eq!(feed(&mut xio(&["cat", "frame/tcp", &l.contact]), &[7; 5000]).status.code(), Some(0));
        assert!(lines.next().unwrap().unwrap().contains(": 5000 bytes (4.88 KiB) in 1 read"));
    }
    l.child.signal("INT");
    assert_eq!(lines.next().unwrap().unwrap(), "total: 10000 bytes (9.77 KiB) from 2 connections");
    let (status, _, err) = l.end();
    assert_eq!((status.code(), err.as_str()), (Some(130), ""));
}

#[test]
fn signals_end_a_cat_that_waits() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = silent.local_addr().unwrap().to_string();
        let mut cat = Kept(xio(&["cat", "tcp", &addr]).stdin(Stdio::piped()).spawn().unwrap());
        let (mut peer, _) = silent.accept().unwrap();
        // Connected is not yet watching for signals.
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        cat.signal(name);
        assert_eq!(cat.end().code(), Some(code));
        assert!(start.elapsed() < Duration::from_secs(4));
        // An abort is a reset or an end, whichever the transport does.
        let _ = peer.read(&mut [0]);
        let mut err = String::new();
        cat.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(err, "");
    }
}

#[test]
fn a_closed_stdout_ends_everything_quietly() {
    for args in [&["drivers"][..], &["explain", "queue/frame/tcp"], &["demo"], &["check", "tcp"], &["--help"]] {
        let mut child = Kept(xio(args).spawn().unwrap());
        drop(child.0.stdout.take());
        assert_eq!(child.end().code(), Some(0), "{args:?}");
        let mut err = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(err, "", "{args:?}");
    }
}

#[test]
fn a_cat_whose_reader_has_gone_ends() {
    let l = Listener::start(&["listen", "tcp", "127.0.0.1:0", "--echo"], Stdio::null());
    let mut cat = Kept(xio(&["cat", "tcp", &l.contact]).stdin(Stdio::piped()).spawn().unwrap());
    drop(cat.0.stdout.take());
    let mut stdin = cat.0.stdin.take().unwrap();
    let writer = std::thread::spawn(move || while std::io::Write::write_all(&mut stdin, &noise(65536)).is_ok() {});
    assert_eq!(cat.end().code(), Some(0));
    writer.join().unwrap();
}

#[test]
fn colours_go_to_those_who_ask() {
    let painted = run(&["--color", "always", "explain", "tcp"]).out;
    assert!(painted.contains("\x1b["));
    let plain = xio(&["explain", "tcp"]).env("NO_COLOR", "1").output().unwrap();
    assert!(!plain.stdout.contains(&0x1b));
    assert!(run(&["check", "tcp/queue", "--color", "always"]).err.contains("\x1b["));
}
