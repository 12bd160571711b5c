//! `cat` and `listen` between two processes, and with socat as the other end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::xio::{Kept, Listener, Ran, feed, noise, sha256, xio};

#[test]
fn both_ways_through_stacks() {
    let here = std::env::temp_dir().join(format!("xio-relay-{}", std::process::id()));
    let (port, path) = ("127.0.0.1:0", here.to_str().unwrap());
    for (stack, at) in [
        ("tcp", port),
        ("frame/tcp", port),
        ("queue/frame/tcp", port),
        ("queue/tcp", port),
        ("null(intercept=none)/frame(header=8)/tcp(nodelay)", port),
        ("shm", path),
        ("shm(message)", path),
        ("queue/frame/shm(buffer=4KiB, spin=20us)", path),
    ] {
        let (there, back) = (noise(3_000_001), noise(1_000_003));
        let mut l = Listener::start(&["listen", stack, at, "--once"], Stdio::piped());
        let mut stdin = l.child.0.stdin.take().unwrap();
        let (cat, (status, out, err)) = std::thread::scope(|s| {
            s.spawn(|| {
                stdin.write_all(&back).unwrap();
                drop(stdin);
            });
            let contact = l.contact.clone();
            let listener = s.spawn(|| l.end());
            let cat = feed(&mut xio(&["cat", stack, &contact]), &there);
            (cat, listener.join().unwrap())
        });
        assert_eq!((cat.status.code(), status.code()), (Some(0), Some(0)), "{stack}: {err}");
        assert_eq!(sha256(&cat.stdout), sha256(&back), "{stack}: to the client");
        assert_eq!(sha256(&out), sha256(&there), "{stack}: to the listener");
        assert_eq!((cat.stderr.as_slice(), err.as_str()), (&b""[..], ""), "{stack}");
    }
    assert!(!here.exists(), "a socket is left");
}

#[test]
fn a_queue_that_writes_behind_makes_writers_wait() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap().to_string();
    let peer = std::thread::spawn(move || {
        let (mut peer, _) = server.accept().unwrap();
        // More than the system's buffers and the queue take comes meanwhile.
        std::thread::sleep(Duration::from_millis(300));
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let data = noise(20_000_000);
    let cat: Ran = feed(&mut xio(&["cat", "queue(early)/tcp", &addr]), &data).into();
    assert_eq!((cat.code, cat.err.as_str()), (Some(0), ""));
    assert_eq!(sha256(&peer.join().unwrap()), sha256(&data));
}

/// Nobody sees the end of a datagram peer: what ends is stdin, and then the silence after it.
#[test]
fn datagrams_go_both_ways_and_end_after_a_while() {
    let mut l = Listener::start(&["listen", "udp", "127.0.0.1:0", "--once"], Stdio::piped());
    let mut stdin = l.child.0.stdin.take().unwrap();
    stdin.write_all(b"back").unwrap();
    drop(stdin);
    let cat = feed(&mut xio(&["cat", "udp", &l.contact]), b"there");
    let (status, out, err) = l.end();
    assert_eq!((cat.status.code(), status.code()), (Some(0), Some(0)), "{err}");
    assert_eq!((cat.stdout.as_slice(), out.as_slice()), (&b"back"[..], &b"there"[..]));
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let cat: Ran = feed(&mut xio(&["cat", "udp", &nobody]), b"there").into();
    assert!(cat.code == Some(1) && cat.err.contains("an earlier datagram came back"), "{}", cat.err);
}

#[test]
fn an_endpoint_is_stack_and_contact_in_one() {
    let l = Listener::start(&["listen", "frame/tcp @ 127.0.0.1:0", "--echo", "--once"], Stdio::null());
    let cat = feed(&mut xio(&["cat", &format!("frame/tcp @ {}", l.contact)]), b"hello");
    assert_eq!((cat.status.code(), cat.stdout.as_slice()), (Some(0), &b"hello"[..]));
    assert_eq!(l.end().0.code(), Some(0));
}

#[test]
fn an_echo_serves_several_at_once() {
    let l = Listener::start(&["listen", "frame/tcp", "127.0.0.1:0", "--echo"], Stdio::null());
    let data = noise(500_000);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let cat = feed(&mut xio(&["cat", "frame/tcp", &l.contact]), &data);
                assert_eq!((cat.status.code(), sha256(&cat.stdout)), (Some(0), sha256(&data)));
            });
        }
    });
}

#[test]
fn a_listener_takes_one_after_the_other() {
    let l = Listener::start(&["listen", "tcp", "127.0.0.1:0"], Stdio::null());
    for _ in 0..3 {
        let cat = feed(&mut xio(&["cat", "tcp", &l.contact]), b"one line\n");
        assert_eq!(cat.status.code(), Some(0));
    }
    l.child.signal("TERM");
    let (status, out, err) = l.end();
    assert_eq!((status.code(), out.as_slice(), err.as_str()), (Some(143), &b"one line\n".repeat(3)[..], ""));
}

#[test]
fn the_end_of_stdin_is_a_half_close() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap().to_string();
    let answer = std::thread::spawn(move || {
        let (mut peer, _) = server.accept().unwrap();
        let mut all = Vec::new();
        // Ends only because the client has ended its side, and can still hear the answer.
        peer.read_to_end(&mut all).unwrap();
        peer.write_all(b"answer").unwrap();
        all
    });
    let cat: Ran = feed(&mut xio(&["cat", "tcp", &addr]), b"question").into();
    assert_eq!((cat.code, cat.out.as_str(), cat.err.as_str()), (Some(0), "answer", ""));
    assert_eq!(answer.join().unwrap(), b"question");
}

#[test]
fn cat_ends_when_the_peer_does_though_stdin_stays_open() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap().to_string();
    let mut cat = Kept(xio(&["cat", "tcp", &addr]).stdin(Stdio::piped()).spawn().unwrap());
    let _stdin = cat.0.stdin.take();
    server.accept().unwrap().0.write_all(b"bye").unwrap();
    let start = Instant::now();
    assert_eq!(cat.end().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
    let mut out = String::new();
    cat.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "bye");
}

#[test]
fn nothing_is_lost_to_a_peer_that_ends_its_side_first() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap().to_string();
    let peer = std::thread::spawn(move || {
        let (mut peer, _) = server.accept().unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let data = noise(5_000_000);
    assert_eq!(feed(&mut xio(&["cat", "tcp", &addr]), &data).status.code(), Some(0));
    assert_eq!(sha256(&peer.join().unwrap()), sha256(&data));
}

#[test]
fn a_reset_is_an_error() {
    let l = Listener::start(&["listen", "frame/tcp", "127.0.0.1:0", "--sink", "--once"], Stdio::null());
    // Half a length.
    TcpStream::connect(&l.contact).unwrap().write_all(&[0, 0]).unwrap();
    let (status, out, err) = l.end();
    assert_eq!(status.code(), Some(1));
    assert!(String::from_utf8(out).unwrap().contains(": 0 bytes in 0 reads"));
    assert!(err.starts_with("error: frame in `frame/tcp`: read: the stream ended inside a message"), "{err}");
}

#[test]
fn events_and_stats_are_json() {
    let mut l =
        Kept(xio(&["listen", "frame/tcp", "127.0.0.1:0", "--sink", "--once", "--json", "--stats"]).spawn().unwrap());
    let out = BufReader::new(l.0.stdout.take().unwrap());
    let mut lines = BufRead::lines(out).map(|l| serde_json::from_str::<serde_json::Value>(&l.unwrap()).unwrap());
    let listening = lines.next().unwrap();
    assert_eq!(listening["event"], "listening");
    let contact = listening["contact"].as_str().unwrap();
    let cat = feed(&mut xio(&["cat", "frame/tcp", contact, "--stats", "--json"]), &noise(100_000));
    let stats: serde_json::Value = serde_json::from_slice(&cat.stderr).unwrap();
    assert_eq!((&stats["sent"], &stats["received"]), (&100_000.into(), &0.into()));
    assert_eq!(stats["levels"][0]["level"], "frame");
    assert_eq!(lines.next().unwrap()["event"], "accepted");
    let ended = lines.next().unwrap();
    assert_eq!((&ended["event"], &ended["received"]), (&"ended".into(), &100_000.into()));
    assert_eq!(ended["levels"][1]["level"], "tcp");
    assert_eq!((lines.next(), l.end().code()), (None, Some(0)));
}

fn socat() -> bool {
    let there = Command::new("socat").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !there {
        eprintln!("SKIP: socat is not installed");
    }
    there
}

#[test]
fn socat_connects_to_a_listener() {
    if !socat() {
        return;
    }
    let l = Listener::start(&["listen", "tcp", "127.0.0.1:0", "--echo", "--once"], Stdio::null());
    let data = noise(2_000_000);
    let mut socat = Command::new("socat");
    socat.args(["-t", "10", "-", &format!("TCP:{}", l.contact)]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = feed(&mut socat, &data);
    assert_eq!((out.status.code(), sha256(&out.stdout)), (Some(0), sha256(&data)));
    assert_eq!(l.end().0.code(), Some(0));
}

#[test]
fn cat_connects_to_socat() {
    if !socat() {
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr");
    let _socat = Kept(Command::new("socat").args([&listen, "EXEC:cat"]).spawn().unwrap());
    let data = noise(2_000_000);
    let start = Instant::now();
    loop {
        let cat = feed(&mut xio(&["cat", "tcp", &format!("127.0.0.1:{port}")]), &data);
        // It takes a moment until socat listens.
        if cat.status.code() == Some(1) && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        assert_eq!((cat.status.code(), sha256(&cat.stdout)), (Some(0), sha256(&data)));
        return;
    }
}

#[test]
fn what_passes_is_logged_on_stderr_where_it_is_asked_for() {
    // Without a `trace` in the stack one is put on top; a stack that has one says what it sees.
    for (stack, top, first) in
        [("frame/tcp", "trace 1", "asked=5"), ("frame/trace(id=wire, on=[write])/tcp", "wire 1", "asked=9")]
    {
        let l = Listener::start(&["listen", "frame/tcp", "127.0.0.1:0", "--once"], Stdio::null());
        let cat: Ran = feed(&mut xio(&["cat", stack, &l.contact, "--trace"]), b"12345").into();
        let (status, out, _) = l.end();
        assert_eq!((cat.code, status.code(), out.as_slice()), (Some(0), Some(0), &b"12345"[..]), "{}", cat.err);
        // A time, and then the line.
        let lines: Vec<_> = cat.err.lines().map(|l| l.split_once("s ").expect(l).1).collect();
        let has = |text: &str| lines.iter().any(|l| l.starts_with(&format!("{top} {text}")) && l.ends_with(first));
        assert!(has("down write op=") && lines.iter().all(|l| l.starts_with(top)), "{}", cat.err);
        assert_eq!(lines.iter().any(|l| l.starts_with("trace 1 down open op=1 contact=")), stack == "frame/tcp");
        assert!(!cat.err.contains("12345"), "{}", cat.err);
    }
    let mut l = Kept(xio(&["listen", "tcp", "127.0.0.1:0", "--once", "--echo", "--trace"]).spawn().unwrap());
    let (mut stderr, mut err) = (BufReader::new(l.0.stderr.take().unwrap()), String::new());
    let contact = loop {
        let begin = err.len();
        assert!(stderr.read_line(&mut err).unwrap() > 0, "{err}");
        if let Some(contact) = err[begin..].trim().strip_prefix("listening on ") {
            break contact.to_owned();
        }
    };
    let cat: Ran = feed(&mut xio(&["cat", "tcp", &contact]), b"12345").into();
    assert_eq!((cat.code, cat.out.as_str(), cat.err.as_str()), (Some(0), "12345", ""));
    stderr.read_to_string(&mut err).unwrap();
    assert_eq!(l.end().code(), Some(0), "{err}");
    for text in
        ["trace 1 up accept op=", "trace 2 down open op=1 contact=", " passive=true\n", "trace 2 down write op="]
    {
        assert!(err.contains(text), "{text}: {err}");
    }
}
