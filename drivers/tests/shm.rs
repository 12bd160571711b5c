//! Shared memory, both ends in this process: what goes through, ends, refusals. Two processes meet in the
//! workspace's own tests.
#![cfg(all(feature = "shm", feature = "frame", feature = "loop", feature = "null", feature = "queue"))]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::attr::Size;
use xio_core::buffer::Chunk;
use xio_core::cntl::{GetOption, LocalContact, PathInfo, RemoteContact, SetOption};
use xio_core::io::Direction;
use xio_core::schema::Value;
use xio_core::{CloseMode, Contact, Driver, Engine, ErrorKind, Handle, LevelNode, Server, Stack};
use xio_drivers::shm::{self, Options};
use xio_drivers::{frame, loop_, null, queue};

/// Long enough for anything that comes at all.
const LONG: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
const SHORT: Duration = Duration::from_millis(30);

/// Both ends, and what they need to live.
struct Pair {
    near: Handle,
    far: Handle,
    server: Server,
    engine: Engine,
}

fn small() -> Options {
    Options::default().with_buffer(Size(4096))
}

fn trusting() -> Options {
    small().with_trust("peer".to_owned())
}

fn stack(driver: &Arc<dyn Driver>, options: Options) -> Stack {
    Stack::new(LevelNode::new(driver.clone()).with_attr(Box::new(options))).unwrap()
}

fn pair(options: Options) -> Pair {
    pair_over(&stack(&shm::driver(), options))
}

fn pair_over(stack: &Stack) -> Pair {
    let engine = Engine::new().unwrap();
    let server = engine.listen(stack, ()).wait().unwrap();
    let near = engine.open(stack, server.contact()).wait().unwrap();
    let far = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    Pair { near, far, server, engine }
}

fn bytes(n: usize) -> Bytes {
    (0..n).map(|i| (i % 251) as u8).collect()
}

fn read(h: &Handle, room: usize) -> Result<Bytes, ErrorKind> {
    h.read(BytesMut::with_capacity(room)).deadline(LONG).wait().map(|d| d.into_bytes()).map_err(|f| f.kind())
}

/// A directory that goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xio-shm-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn contact(&self, name: &str) -> Contact {
        Contact::new(self.0.join(name).to_str().unwrap())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn bytes_go_both_ways() {
    let p = pair(Options::default());
    p.near.write("hello").wait().unwrap();
    p.far.write("world!").wait().unwrap();
    assert_eq!(read(&p.far, 100).unwrap(), "hello");
    assert_eq!(read(&p.near, 3).unwrap(), "wor");
    assert_eq!(read(&p.near, 100).unwrap(), "ld!");
    p.engine.shutdown();
}

#[test]
fn far_more_than_the_ring_goes_through() {
    for options in [small(), small().with_spin(Duration::from_micros(50)), Options::default()] {
        let p = pair(options);
        let all = bytes(3_000_001);
        let sent = all.clone();
        std::thread::scope(|s| {
            s.spawn(|| {
                p.near.write(vec![sent.slice(..1), sent.slice(1..1_000_000), sent.slice(1_000_000..)]).wait().unwrap()
            });
            let mut got = Vec::new();
            for n in [1, 7, 300, 5000, 100_000].into_iter().cycle() {
                let part = match n {
                    300 => p.far.take(n).deadline(LONG).wait().unwrap().into_bytes(),
                    _ => read(&p.far, n).unwrap(),
                };
                got.extend_from_slice(&part);
                if got.len() == all.len() {
                    break;
                }
            }
            assert!(got == all);
        });
    }
}

/// What a take brings of `n` bytes that are there.
fn take(h: &Handle, n: usize) -> Vec<Chunk> {
    h.take(n).wait_for(n).deadline(LONG).wait().unwrap().chunks.into_vec()
}

fn copied(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|c| c.clone().into_bytes()).collect()
}

#[test]
fn a_take_leaves_bytes_where_they_are_and_whoever_keeps_them_stops_nobody() {
    let all = bytes(100_000);
    for message in [false, true] {
        let p = pair(small().with_message(message));
        // Messages almost as long as the ring, between short ones: what is kept would be in the way of those.
        let lengths = [1500, 2000, 4000, 20, 1700];
        let kept = std::thread::scope(|s| {
            s.spawn(|| {
                for n in lengths.iter().cycle().take(50) {
                    p.near.write(all.slice(..*n)).deadline(LONG).wait().unwrap();
                }
            });
            lengths.iter().cycle().take(50).map(|n| (*n, take(&p.far, *n))).collect::<Vec<_>>()
        });
        // They outlive their connection.
        p.far.close().abort().wait().unwrap();
        drop(p);
        assert!(kept.iter().all(|(n, chunks)| copied(chunks) == all[..*n]));
    }
}

#[test]
fn only_a_peer_that_is_trusted_lets_its_bytes_be_looked_at() {
    let all = bytes(2000);
    for trust in ["none", "peer"] {
        let p = pair(small().with_trust(trust.into()));
        p.near.write(all.clone()).wait().unwrap();
        let chunks = take(&p.far, 2000);
        assert_eq!(chunks.len(), 1, "one run of the ring");
        assert_eq!(chunks[0].as_slice(), (trust == "peer").then_some(&all[..]));
        // The room comes back, though the reader waits for nothing and nobody else does anything.
        let rest = bytes(4096);
        std::thread::scope(|s| {
            let writer = s.spawn(|| p.near.write(rest.clone()).deadline(LONG).wait().map(drop));
            drop(chunks);
            assert_eq!(copied(&take(&p.far, 4096)), rest);
            writer.join().unwrap().unwrap();
        });
        let none = pair(small().with_trust(trust.into()).with_held(Size(0)));
        none.near.write(all.clone()).wait().unwrap();
        assert_eq!(copied(&take(&none.far, 2000)), all);
    }
}

#[test]
fn dropping_what_was_kept_wakes_a_writer_that_is_held() {
    let p = pair(small().with_trust("peer".into()));
    p.near.write(bytes(2000)).wait().unwrap();
    let chunks = take(&p.far, 2000);
    p.near.write(bytes(2096)).wait().unwrap();
    let (sender, ended) = std::sync::mpsc::channel();
    p.near.write(bytes(4000)).then(move |r| sender.send(r.is_ok()).unwrap());
    assert_eq!(read(&p.far, 2096).unwrap(), bytes(2096));
    assert!(ended.recv_timeout(SHORT).is_err(), "there is no room before what is kept is dropped");
    drop(chunks);
    assert_eq!(copied(&take(&p.far, 4000)), bytes(4000));
    assert!(ended.recv_timeout(LONG).unwrap());
}

#[test]
fn a_read_of_more_than_the_ring_waits_for_nothing_that_it_has_itself() {
    for trust in ["none", "peer"] {
        let p = pair(small().with_trust(trust.into()));
        let all = bytes(20_000);
        std::thread::scope(|s| {
            let writer = s.spawn(|| p.near.write(all.clone()).deadline(LONG).wait().map(drop));
            assert_eq!(copied(&take(&p.far, 20_000)), all);
            writer.join().unwrap().unwrap();
        });
    }
    // Nor does a level above that has a message in parts.
    let driver = shm::driver();
    let node = LevelNode::new(driver).with_attr(Box::new(small().with_trust("peer".into())));
    let stack = Stack::new(LevelNode::new(frame::driver()).over(node)).unwrap();
    let (engine, d) = (Engine::new().unwrap(), Directory::new("parts"));
    let server = engine.listen(&stack, d.contact("s")).wait().unwrap();
    let near = engine.open(&stack, d.contact("s")).wait().unwrap();
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    let all = bytes(20_000);
    std::thread::scope(|s| {
        let writer = s.spawn(|| near.write(all.clone()).deadline(LONG).wait().map(drop));
        assert_eq!(copied(&far.take(30_000).deadline(LONG).wait().unwrap().chunks), all);
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn room_that_comes_back_is_used_though_most_of_the_ring_is_kept() {
    let p = pair(small().with_trust("peer".into()));
    p.near.write(bytes(4096)).wait().unwrap();
    let [a, b, c] = [1100; 3].map(|n| take(&p.far, n));
    assert_eq!(read(&p.far, 796).unwrap().len(), 796);
    let (sender, ended) = std::sync::mpsc::channel();
    p.near.write(bytes(1000)).then(move |r| sender.send(r.is_ok()).unwrap());
    assert!(ended.recv_timeout(SHORT).is_err(), "all of it is kept");
    drop(a);
    assert!(ended.recv_timeout(LONG).unwrap());
    assert_eq!(copied(&take(&p.far, 1000)), bytes(1000));
    drop((b, c));
}

#[test]
fn messages_keep_their_borders() {
    let p = pair(small().with_message(true));
    for m in ["one", "", "three"] {
        p.near.write(m).wait().unwrap();
    }
    p.near.write(bytes(4088)).deadline(SHORT).wait().unwrap_err();
    assert_eq!(read(&p.far, 9).unwrap(), "one");
    assert_eq!(read(&p.far, 9).unwrap(), "");
    let f = p.far.read(BytesMut::with_capacity(2)).wait().unwrap_err();
    assert_eq!((f.kind(), &f.back.into_bytes()[..]), (ErrorKind::Truncated { len: 5 }, &b"th"[..]));
    assert_eq!(read(&p.far, 9).unwrap(), "ree");
    // One that fills the ring, wherever it begins.
    p.near.write(bytes(4088)).deadline(LONG).wait().unwrap();
    assert_eq!(read(&p.far, 5000).unwrap(), bytes(4088));
    let f = p.near.write(bytes(4089)).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::TooLong);
    p.near.shutdown().wait().unwrap();
    assert_eq!(read(&p.far, 9), Err(ErrorKind::Eof));
}

#[test]
fn a_close_is_an_end_and_an_abort_a_reset() {
    let p = pair(Options::default());
    p.near.write("last").wait().unwrap();
    p.near.shutdown().wait().unwrap();
    assert_eq!(p.near.write("x").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!((read(&p.far, 9).unwrap(), read(&p.far, 9)), (Bytes::from("last"), Err(ErrorKind::Eof)));
    p.far.write("back").wait().unwrap();
    p.far.close().wait().unwrap();
    assert_eq!((read(&p.near, 9).unwrap(), read(&p.near, 9)), (Bytes::from("back"), Err(ErrorKind::Eof)));

    let p = pair(Options::default());
    p.far.close().wait().unwrap();
    assert_eq!(p.near.write("x").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);

    let p = pair(small());
    p.near.write("gone").wait().unwrap();
    std::thread::scope(|s| {
        let writer = s.spawn(|| p.far.write(bytes(10_000)).deadline(LONG).wait().unwrap_err().kind());
        std::thread::sleep(SHORT);
        p.near.close().mode(CloseMode::Abort).wait().unwrap();
        assert_eq!(writer.join().unwrap(), ErrorKind::Reset);
    });
    assert_eq!(read(&p.far, 9), Err(ErrorKind::Reset));

    // A link that nobody opens.
    let p = pair(Options::default());
    let near = p.engine.open(&stack(&shm::driver(), Options::default()), p.server.contact()).wait().unwrap();
    drop(p.server.accept().deadline(LONG).wait().unwrap());
    assert_eq!(read(&near, 9), Err(ErrorKind::Reset));
}

#[test]
fn waiting_ops_end_when_they_are_asked_to() {
    let p = pair(small());
    let f = p.near.read(BytesMut::with_capacity(9)).deadline(SHORT).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::TimedOut);
    let f = p.near.write(bytes(10_000)).deadline(SHORT).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::TimedOut, 4096));
    assert_eq!(read(&p.far, 5000).unwrap(), bytes(4096));
    // Nothing was lost.
    p.near.write("next").wait().unwrap();
    assert_eq!(read(&p.far, 9).unwrap(), "next");
    p.near.ready(Direction::Write).deadline(LONG).wait().unwrap();
    assert_eq!(p.far.ready(Direction::Read).deadline(SHORT).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    std::thread::scope(|s| {
        let waits = s.spawn(|| p.far.ready(Direction::Read).deadline(LONG).wait());
        let reads = s.spawn(|| read(&p.far, 9));
        std::thread::sleep(SHORT);
        p.near.write("both").wait().unwrap();
        assert_eq!(reads.join().unwrap().unwrap(), "both");
        p.near.write("more").wait().unwrap();
        waits.join().unwrap().unwrap();
    });
}

#[test]
fn both_ends_must_be_of_one_kind() {
    let engine = Engine::new().unwrap();
    let driver = shm::driver();
    let server = engine.listen(&stack(&driver, Options::default()), ()).wait().unwrap();
    let near = engine.open(&stack(&driver, Options::default().with_message(true)), server.contact()).wait().unwrap();
    let e = server.accept().deadline(LONG).wait().unwrap().open().deadline(LONG).wait().map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("this end has a stream, the peer messages"), "{e}");
    let e = near.read(BytesMut::with_capacity(9)).deadline(LONG).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("the server has a stream: set `message`"), "{e}");
}

#[test]
fn paths_are_checked_before_anything_is_trusted() {
    let engine = Engine::new().unwrap();
    let driver = shm::driver();
    let stack = stack(&driver, Options::default());
    let d = Directory::new("paths");
    let refused = |contact: &Contact, listens: bool, kind: ErrorKind, text: &str| {
        let e = match listens {
            true => engine.listen(&stack, contact.clone()).wait().map(drop).unwrap_err(),
            false => engine.open(&stack, contact.clone()).deadline(LONG).wait().map(drop).unwrap_err(),
        };
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "{e}");
    };
    refused(&d.contact("none"), false, ErrorKind::Refused, "nobody listens there");
    refused(&Contact::new("x".repeat(108)), false, ErrorKind::InvalidContact, "107 bytes at most");
    refused(&Contact::None, false, ErrorKind::InvalidContact, "write the path of a socket");
    std::fs::write(d.0.join("file"), "precious").unwrap();
    refused(&d.contact("file"), true, ErrorKind::AddrInUse, "something else than a socket");
    assert_eq!(std::fs::read(d.0.join("file")).unwrap(), b"precious");

    let server = engine.listen(&stack, d.contact("s")).wait().unwrap();
    assert_eq!(server.contact(), &d.contact("s"));
    assert_eq!(std::fs::metadata(d.0.join("s")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(driver.is_self(&*driver.attr(), &d.contact("s")), Some(true));
    assert_eq!(driver.is_self(&*driver.attr(), &d.contact("t")), None);
    refused(&d.contact("s"), true, ErrorKind::AddrInUse, "somebody listens there");
    server.close().unwrap();
    assert!(!d.0.join("s").exists());
    assert_eq!(driver.is_self(&*driver.attr(), &d.contact("s")), None);

    // What a process leaves behind that was killed.
    drop(std::os::unix::net::UnixListener::bind(d.0.join("dead")).unwrap());
    refused(&d.contact("dead"), false, ErrorKind::Refused, "nobody listens there any more");
    let server = engine.listen(&stack, d.contact("dead")).wait().unwrap();
    engine.open(&stack, server.contact()).wait().unwrap();

    // Several that find it at once: one listens there, and stays.
    server.close().unwrap();
    drop(std::os::unix::net::UnixListener::bind(d.0.join("dead")).unwrap());
    let servers: Vec<_> = std::thread::scope(|s| {
        let listen = || engine.listen(&stack, d.contact("dead")).wait().ok();
        let all: Vec<_> = (0..4).map(|_| s.spawn(listen)).collect();
        all.into_iter().filter_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(servers.len(), 1);
    let server = &servers[0];
    engine.open(&stack, server.contact()).wait().unwrap();

    // Others could put their own socket there.
    std::fs::set_permissions(&d.0, PermissionsExt::from_mode(0o777)).unwrap();
    refused(&d.contact("s"), true, ErrorKind::PermissionDenied, "take one that only you can write");
    refused(&d.contact("dead"), false, ErrorKind::PermissionDenied, "take one that only you can write");
    std::fs::set_permissions(&d.0, PermissionsExt::from_mode(0o1777)).unwrap();
    engine.open(&stack, server.contact()).wait().unwrap();
}

#[test]
fn a_peer_that_sends_no_rings_is_refused_and_keeps_nobody_waiting() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let engine = Engine::new().unwrap();
    let stack = stack(&shm::driver(), Options::default());
    let server = engine.listen(&stack, ()).wait().unwrap();
    let path = server.contact().text().unwrap().to_owned();
    let link = || server.accept().deadline(LONG).wait().unwrap();
    let mute = UnixStream::connect(&path).unwrap();
    let f = link().open().deadline(SHORT).wait().map(drop).unwrap_err();
    assert_eq!(f.kind(), ErrorKind::TimedOut);
    drop(mute);
    for (words, kind, text) in [
        (&b""[..], ErrorKind::Reset, ""),
        (b"GET / HTTP/1.1\r\n\r\n", ErrorKind::Protocol, "no greeting"),
        (b"xio-shm\x02\0\0\0\0\0\0\0\0", ErrorKind::Protocol, "no greeting of this version"),
        (b"xio-shm\x01\0\0\0\0\0\0\0\x01", ErrorKind::Protocol, "no greeting"),
        (b"xio-shm\x01\0\0\0\0\0\0\0\0", ErrorKind::Protocol, "no two rings"),
    ] {
        let mut peer = UnixStream::connect(&path).unwrap();
        peer.write_all(words).unwrap();
        if words.is_empty() {
            drop(peer);
        }
        let e = link().open().deadline(LONG).wait().map(drop).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "{e}");
    }
    // The server goes on.
    let near = engine.open(&stack, server.contact()).wait().unwrap();
    let far = link().open().wait().unwrap();
    near.write("x").wait().unwrap();
    assert_eq!(read(&far, 9).unwrap(), "x");
}

#[test]
fn spin_changes_on_an_open_handle() {
    let p = pair(Options::default());
    let spin = Value::Duration(Duration::from_micros(30));
    p.near.query(SetOption("spin".into(), spin.clone())).unwrap();
    assert_eq!(p.near.query(GetOption("spin".into())).unwrap(), Some(spin));
    let long = Value::Duration(Duration::from_secs(1));
    assert_eq!(p.near.query(SetOption("spin".into(), long)).unwrap_err().kind(), ErrorKind::InvalidInput);
    let more = Value::Size(1 << 20);
    p.near.query(SetOption("buffer".into(), more)).unwrap_err();
    p.near.write("x").wait().unwrap();
    assert_eq!(read(&p.far, 9).unwrap(), "x");
}

#[test]
fn ends_have_names() {
    let p = pair(Options::default());
    let me = Contact::new(format!("pid:{}", std::process::id()));
    assert_eq!(&p.near.query(RemoteContact).unwrap(), p.server.contact());
    assert_eq!(p.near.query(LocalContact).unwrap(), me);
    assert_eq!(p.far.query(RemoteContact).unwrap(), me);
    assert_eq!(&p.far.query(LocalContact).unwrap(), p.server.contact());
    assert_eq!(p.near.same_peer(p.server.contact()), Some(true));
    p.near.write("12345").wait().unwrap();
    assert_eq!(p.near.query(PathInfo).unwrap().in_flight, Some(5));
    read(&p.far, 2).unwrap();
    assert_eq!(p.near.query(PathInfo).unwrap().in_flight, Some(3));
}

#[test]
fn a_loan_lies_in_the_ring_and_is_sent_from_there() {
    use std::io::Write;
    for message in [false, true] {
        let Pair { near, far, .. } = &pair(trusting().with_message(message));
        let mut to = [0; 4096];
        let mut lent = 0;
        for round in 0..50 {
            let mut loan = near.loan(1000).unwrap();
            lent += u32::from(loan.is_lent());
            assert!(!loan.is_lent() || !near.loan(10).unwrap().is_lent(), "one at a time");
            let mut all = Vec::new();
            for i in 0..1 + round % 200 {
                write!(loan, "{i},").unwrap();
                write!(all, "{i},").unwrap();
            }
            assert_eq!(loan.len(), all.len());
            let before = near.query(PathInfo).unwrap().in_flight;
            if round % 3 == 0 {
                // It makes way.
                near.write("first").wait().unwrap();
                assert_eq!(far.read_into(&mut to).wait().unwrap(), 5);
            }
            assert!(round % 3 == 0 || near.query(PathInfo).unwrap().in_flight == before, "nothing of it shows");
            let done = near.write(loan).wait().unwrap();
            assert_eq!(done.n, all.len());
            assert_eq!(far.read_into(&mut to).wait_for(if message { 1 } else { all.len() }).wait().unwrap(), all.len());
            assert_eq!(to[..all.len()], all);
        }
        assert!((20..50).contains(&lent), "{lent}: not where the ring ends");
        // More than the ring has room for.
        assert!(!near.loan(5000).unwrap().is_lent());
        let mut large = near.loan(3000).unwrap();
        assert_eq!(large.put(&[7; 4000]), 3000);
        assert!(!near.loan(1).unwrap().is_lent() || !large.is_lent());
        drop(large);
        assert!((0..2).any(|_| near.loan(30).unwrap().is_lent()), "what is dropped is nobody's");
        near.close().wait().unwrap();
        assert_eq!(near.loan(10).unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn what_changes_the_bytes_lends_no_memory_and_takes_loans_all_the_same() {
    let messages = || LevelNode::new(shm::driver()).with_attr(Box::new(trusting().with_message(true)));
    let stream = || LevelNode::new(shm::driver()).with_attr(Box::new(trusting()));
    for (level, is_lent) in [
        (LevelNode::new(null::driver()).over(stream()), true),
        (LevelNode::new(queue::driver()).over(messages()), true),
        (LevelNode::new(frame::driver()).over(stream()), false),
        (LevelNode::new(shm::driver()), false),
        (LevelNode::new(loop_::driver()), false),
    ] {
        let stack = Stack::new(level).unwrap();
        let Pair { near, far, .. } = &pair_over(&stack);
        let mut loan = near.loan(100).unwrap();
        assert_eq!((loan.put(b"hello"), loan.is_lent()), (5, is_lent), "{stack}");
        near.write(loan).wait().unwrap();
        let mut to = [0; 10];
        assert_eq!((far.read_into(&mut to).wait().unwrap(), &to[..5]), (5, &b"hello"[..]), "{stack}");
    }
}

#[test]
fn a_write_waits_while_a_loan_is_filled_and_no_longer() {
    let Pair { near, far, .. } = &pair(trusting());
    let mut loan = near.loan(100).unwrap();
    assert!(loan.is_lent());
    let (tell, told) = std::sync::mpsc::channel();
    let quick = near.clone();
    loan.fill(|room| {
        let note = tell.clone();
        quick.write("from another").then(move |r| note.send(r.map(|d| d.n).map_err(|f| f.kind())).unwrap());
        assert!(told.recv_timeout(SHORT).is_err(), "its place is being filled");
        room[..4].copy_from_slice(b"loan");
        4
    });
    assert_eq!(told.recv_timeout(LONG).unwrap(), Ok(12));
    // Likewise for one that has a thread of its own, which nobody but the loan may wake.
    let mut loan = near.loan(100).unwrap();
    std::thread::scope(|s| {
        let mut writer = None;
        loan.fill(|room| {
            writer = Some(s.spawn(|| near.write_from(b", and another").wait()));
            std::thread::sleep(SHORT);
            room[..5].copy_from_slice(b"again");
            5
        });
        assert_eq!(writer.unwrap().join().unwrap().unwrap(), 13);
    });
    near.write(loan).wait().unwrap();
    let mut to = [0; 30];
    assert_eq!(far.read_into(&mut to).wait_for(30).deadline(LONG).wait().unwrap(), 30);
    assert_eq!(&to, b"from another, and anotheragain");
}

#[test]
fn of_writes_that_went_together_each_is_told_what_became_of_it() {
    // The ring is as large as the end that opens says; the other thinks that it is larger.
    let over =
        |options| LevelNode::new(queue::driver()).over(LevelNode::new(shm::driver()).with_attr(Box::new(options)));
    let messages = Options::default().with_message(true);
    let (theirs, ours) = (over(messages.clone().with_buffer(Size(4096))), over(messages));
    let engine = Engine::new().unwrap();
    let server = engine.listen(&Stack::new(ours).unwrap(), ()).wait().unwrap();
    let far = engine.open(&Stack::new(theirs).unwrap(), server.contact()).wait().unwrap();
    let near = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    // The first fills the ring, the second waits for room, the others for the second.
    for (i, len) in [3000, 3000, 10, 0, 20, 5000, 0, 30].into_iter().enumerate() {
        let tell = tell.clone();
        near.write(bytes(len)).then(move |r| tell.send((i, r.map(|d| d.n).map_err(|f| f.kind()))).unwrap());
    }
    let mut came = Vec::new();
    for len in [3000, 3000, 10, 0, 20] {
        assert_eq!(read(&far, 4096).unwrap().len(), len);
    }
    while came.len() < 8 {
        came.push(told.recv_timeout(LONG).unwrap());
    }
    came.sort_by_key(|(i, _)| *i);
    let results: Vec<_> = came.into_iter().map(|(_, r)| r).collect();
    let went = [3000, 3000, 10, 0, 20].map(Ok);
    assert_eq!((&results[..5], &results[5..]), (&went[..], &[Err(ErrorKind::TooLong); 3][..]));
    near.write("on").wait().unwrap();
    assert_eq!(read(&far, 4096).unwrap(), "on");
}

#[test]
fn a_write_that_waits_for_a_loan_keeps_nothing_else_waiting() {
    for message in [false, true] {
        let Pair { near, far, .. } = &pair(trusting().with_message(message));
        // The reader has got on since the writer looked.
        near.write("before").wait().unwrap();
        assert_eq!(read(far, 6).unwrap(), "before");
        let mut loan = near.loan(100).unwrap();
        assert!(loan.is_lent());
        let (tell, told) = std::sync::mpsc::channel();
        let other = near.clone();
        loan.fill(|_| {
            other.write("behind").then(move |r| tell.send(r.map(|d| d.n).map_err(|f| f.kind())).unwrap());
            // Commands, reads and deadlines go on.
            assert!(other.query(PathInfo).is_ok());
            far.write("to be read").wait().unwrap();
            assert_eq!(read(&other, 10).unwrap(), "to be read");
            let late = other.write("late").deadline(SHORT).wait().map_err(|f| f.kind());
            assert_eq!(late.map(|d| d.n), Err(ErrorKind::TimedOut));
            assert!(told.try_recv().is_err());
            0
        });
        assert_eq!(told.recv_timeout(LONG).unwrap(), Ok(6));
        assert_eq!(read(far, 100).unwrap(), "behind");
        // One that has gone is not given back.
        let mut loan = near.loan(100).unwrap();
        loan.put(b"gone");
        let done = near.write(loan).wait().unwrap();
        assert_eq!((done.n, done.pieces.len()), (4, 0));
        assert_eq!(read(far, 100).unwrap(), "gone");
    }
}

#[test]
fn an_open_waits_for_a_place_in_the_backlog_and_can_be_given_up() {
    let engine = Engine::new().unwrap();
    let stack = stack(&shm::driver(), small().with_backlog(1));
    let server = engine.listen(&stack, ()).wait().unwrap();
    // As many as wait there without an accept, and one more.
    let (tell, told) = std::sync::mpsc::channel();
    for _ in 0..4 {
        let tell = tell.clone();
        engine.open(&stack, server.contact()).then(move |r| tell.send(r.map_err(|e| e.kind())).unwrap());
    }
    let e = engine.open(&stack, server.contact()).deadline(SHORT).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
    for _ in 0..4 {
        drop(server.accept().deadline(LONG).wait().unwrap());
    }
    assert!((0..4).all(|_| told.recv_timeout(LONG).unwrap().is_ok()));
    let refused = engine.open(&stack, server.contact()).wait();
    let full = engine
        .open(&stack, server.contact())
        .wait()
        .and_then(|h| Ok((h, engine.open(&stack, server.contact()).wait()?)));
    assert!(refused.is_ok() && full.is_err_and(|e| e.kind() == ErrorKind::Refused), "nobody accepts for a second");
}

#[test]
fn a_greeting_may_come_at_any_moment() {
    use std::io::Write;
    let engine = Engine::new().unwrap();
    let server = engine.listen(&stack(&shm::driver(), small()), ()).wait().unwrap();
    for round in 0..2000u32 {
        let mut peer = std::os::unix::net::UnixStream::connect(server.contact().text().unwrap()).unwrap();
        let link = server.accept().deadline(LONG).wait().unwrap();
        let speaker = std::thread::spawn(move || {
            (0..round % 200 * 20).for_each(|_| std::hint::spin_loop());
            peer.write_all(&[7; 16]).unwrap();
            peer
        });
        let e = link.open().deadline(LONG).wait().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Protocol, "{e}");
        drop(speaker.join().unwrap());
    }
}
