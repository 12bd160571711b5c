//! `tcp` over real sockets: every ending of every op, errors that say where, options that reach the
//! system, and a foreign peer (socat).
#![cfg(feature = "tcp")]

use std::future::{Future, IntoFuture};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use xio_core::attr::{Attr, Size};
use xio_core::buffer::{Piece, Pieces};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{GetOption, LocalContact, PathInfo, RemoteContact, SetOption};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::io::{Direction, Io, IoDone};
use xio_core::op::Open;
use xio_core::schema::Value;
use xio_core::{Contact, Cx, Engine, Error, ErrorKind, Flow, Handle, Level, LevelNode, Op, Server, Stack};
use xio_drivers::tcp::{self, Fd, Options};

const SOON: Duration = Duration::from_secs(10);

fn stack_with(options: Options) -> Stack {
    Stack::new(LevelNode::new(tcp::driver()).with_attr(Box::new(options))).unwrap()
}

fn stack() -> Stack {
    stack_with(Options::default().with_nodelay(true))
}

fn listen(engine: &Engine, at: &str) -> Server {
    engine.listen(&stack(), Contact::new(at)).wait().unwrap()
}

/// A client, and the handle its server accepted.
fn pair_at(engine: &Engine, at: &str) -> (Handle, Handle) {
    let server = listen(engine, at);
    let client = engine.open(&stack(), server.contact()).deadline(SOON).wait().unwrap();
    let accepted = server.accept().deadline(SOON).wait().unwrap().open().wait().unwrap();
    (client, accepted)
}

fn pair() -> (Engine, Handle, Handle) {
    let engine = Engine::new().unwrap();
    let (a, b) = pair_at(&engine, "127.0.0.1:0");
    (engine, a, b)
}

fn read_all(h: &Handle) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        match h.read(BytesMut::with_capacity(64 * 1024)).deadline(SOON).wait() {
            Ok(d) => out.extend_from_slice(&d.buf),
            Err(e) if e.kind() == ErrorKind::Eof => return out,
            Err(e) => panic!("{e}"),
        }
    }
}

fn read_exact(h: &Handle, n: usize) -> Vec<u8> {
    h.read(BytesMut::with_capacity(n)).wait_for(n).deadline(SOON).wait().unwrap().buf.to_vec()
}

struct Thread(std::thread::Thread);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: IntoFuture>(f: F) -> F::Output {
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let mut f = std::pin::pin!(f.into_future());
    let end = Instant::now() + SOON;
    loop {
        if let Poll::Ready(out) = f.as_mut().poll(&mut Context::from_waker(&waker)) {
            return out;
        }
        assert!(Instant::now() < end, "the future does not end");
        std::thread::park_timeout(SOON);
    }
}

fn noise(n: usize) -> Vec<u8> {
    let mut x = 1u32;
    let step = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..n).map(step).collect()
}

#[test]
fn blocking_echo_over_both_families() {
    let engine = Engine::new().unwrap();
    for at in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
        let (a, b) = pair_at(&engine, at);
        assert_eq!(a.write_from(b"hello").wait().unwrap(), 5);
        assert_eq!(read_exact(&b, 5), b"hello");
        b.write("good day").wait().unwrap();
        assert_eq!(read_exact(&a, 8), b"good day");
        assert_eq!(a.query(RemoteContact).unwrap(), b.query(LocalContact).unwrap());
        assert_eq!(a.query(LocalContact).unwrap(), b.query(RemoteContact).unwrap());
        let mut buf = [0; 4];
        b.write("1234").wait().unwrap();
        assert_eq!(a.read_into(&mut buf).wait_for(4).wait().unwrap(), 4);
        b.write("take").wait().unwrap();
        assert_eq!(a.take(100).wait_for(4).wait().unwrap().into_bytes(), "take");
        a.close().wait().unwrap();
        assert_eq!(read_all(&b), b"");
        // The end stays the end.
        assert_eq!(b.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
        b.close().wait().unwrap();
        assert_eq!(b.query(LocalContact).unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn callbacks_all_the_way() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, "127.0.0.1:0");
    let (tx, rx) = mpsc::channel();
    server.accept().then(|link| {
        link.unwrap().open().then(|h| {
            let h = h.unwrap();
            let back = h.clone();
            h.read(BytesMut::with_capacity(16)).wait_for(4).then(move |r| {
                back.write(r.unwrap().buf.freeze()).then(move |r| assert_eq!(r.unwrap().n, 4));
            });
        });
    });
    engine.open(&stack(), server.contact()).then(move |h| {
        let h = h.unwrap();
        h.write("ping").then(|r| assert_eq!(r.unwrap().n, 4));
        let end = h.clone();
        h.take(16).wait_for(4).then(move |r| {
            tx.send(r.unwrap().into_bytes()).unwrap();
            end.close().then(|r| r.unwrap());
        });
    });
    assert_eq!(rx.recv_timeout(SOON).unwrap(), "ping");
}

#[test]
fn futures_all_the_way() {
    let engine = Engine::new().unwrap();
    block_on(async {
        let server = engine.listen(&stack(), Contact::new("127.0.0.1:0")).await.unwrap();
        let client = engine.open(&stack(), server.contact()).await.unwrap();
        let peer = server.accept().await.unwrap().open().await.unwrap();
        client.write("ping").await.unwrap();
        assert_eq!(peer.take(16).wait_for(4).await.unwrap().into_bytes(), "ping");
        let late = peer.read(BytesMut::with_capacity(1)).deadline(Duration::from_millis(20)).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        client.shutdown().await.unwrap();
        assert_eq!(peer.take(16).await.unwrap_err().kind(), ErrorKind::Eof);
        peer.close().await.unwrap();
        client.close().await.unwrap();
        server.close().unwrap();
    });
}

#[test]
fn errors_name_the_level_the_op_and_the_address() {
    let engine = Engine::new().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let open = |to: &str| engine.open(&stack(), Contact::new(to)).deadline(SOON).wait().unwrap_err();
    let e = open(&free.to_string());
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert_eq!((e.level(), e.driver()), (Some("tcp"), Some("tcp")));
    let text = e.to_string();
    assert_eq!(text, format!("tcp: open: connection refused (os error 111): `{free}`: nobody listens there"));
    assert_eq!(e.raw_os_error(), Some(111));

    // Over a name every address is listed.
    let e = open(&format!("localhost:{}", free.port()));
    assert_eq!(e.kind(), ErrorKind::Refused);
    let text = e.to_string();
    assert!(text.starts_with("tcp: open: connection refused (os error 111): "), "{text}");
    assert!(text.contains(&format!("`localhost:{}` (", free.port())), "{text}");
    assert!(text.contains(&free.to_string()) && text.ends_with("): nobody listens there"), "{text}");
    assert_eq!(text.matches("refused").count(), 1, "{text}");

    // No contact is told apart from a wrong one.
    let e = open("");
    assert_eq!(
        (e.kind(), e.to_string().as_str()),
        (ErrorKind::InvalidContact, "tcp: open: invalid contact: none is given; write `host:port`")
    );

    let e = open("no-such-host.invalid:80");
    assert_eq!(e.kind(), ErrorKind::Resolve, "{e}");
    assert!(e.to_string().contains("tcp: open: the name could not be resolved: `no-such-host.invalid:80`"), "{e}");

    let e = open("localhost");
    assert_eq!(e.kind(), ErrorKind::InvalidContact);
    assert!(e.to_string().contains("the port is missing (at byte 9); write `host:port`"), "{e}");

    let busy = listen(&engine, "127.0.0.1:0");
    let e = engine.listen(&stack(), busy.contact()).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrInUse);
    assert!(e.to_string().starts_with("tcp: listen: address in use (os error 98): `127.0.0.1:"), "{e}");
    assert!(e.to_string().contains("somebody listens there; take another port"), "{e}");

    let e = engine.listen(&stack(), Contact::new("203.0.113.9:0")).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrNotAvailable);
    assert!(e.to_string().contains("an address of this host"), "{e}");

    let e = engine.listen(&stack(), Contact::new("no-such-host.invalid:80")).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Resolve, "{e}");
}

#[test]
fn half_close_lets_the_answer_through() {
    let (_engine, a, b) = pair();
    a.write("question").wait().unwrap();
    a.shutdown().wait().unwrap();
    assert_eq!(a.write("more").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(read_all(&b), b"question");
    b.write("answer").wait().unwrap();
    b.shutdown().wait().unwrap();
    assert_eq!(read_all(&a), b"answer");
}

#[test]
fn a_write_of_many_pieces_arrives_whole() {
    let (_engine, a, b) = pair();
    let data = noise(3000 * 97);
    let whole = Bytes::from(data.clone());
    let pieces: Pieces = (0..3000).map(|i| Piece::from(whole.slice(i * 97..(i + 1) * 97))).collect();
    let reader = std::thread::spawn(move || read_all(&b));
    let done = a.write(pieces).deadline(SOON).wait().unwrap();
    assert_eq!((done.n, done.pieces.len()), (data.len(), 3000));
    a.shutdown().wait().unwrap();
    assert!(reader.join().unwrap() == data);
}

#[test]
fn large_transfers_both_ways_at_once() {
    let (_engine, a, b) = pair();
    let data = noise(8 << 20);
    let ends = [a, b].map(|h| {
        let (out, data) = (h.clone(), data.clone());
        let writer = std::thread::spawn(move || {
            for part in data.chunks(100_000) {
                out.write_from(part).deadline(SOON).wait().unwrap();
            }
            out.shutdown().wait().unwrap();
        });
        (writer, std::thread::spawn(move || read_all(&h)))
    });
    for (writer, reader) in ends {
        writer.join().unwrap();
        assert!(reader.join().unwrap() == data);
    }
}

#[test]
fn an_abort_and_a_linger_of_zero_reset_the_peer() {
    let (engine, a, b) = pair();
    b.close().abort().wait().unwrap();
    let e = a.take(1).deadline(SOON).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Reset, "{e}");
    assert!(e.to_string().starts_with("tcp: read: connection reset by the peer"), "{e}");

    let server = listen(&engine, "127.0.0.1:0");
    let hard = stack_with(Options::default().with_linger(Some(Duration::ZERO)));
    let a = engine.open(&hard, server.contact()).wait().unwrap();
    let b = server.accept().wait().unwrap().open().wait().unwrap();
    a.close().wait().unwrap();
    assert_eq!(b.take(1).deadline(SOON).wait().unwrap_err().kind(), ErrorKind::Reset);
}

#[test]
fn both_addresses_are_known_after_a_reset() {
    let engine = Engine::new().unwrap();
    for at in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
        let (a, b) = pair_at(&engine, at);
        let ends = [a.query(LocalContact).unwrap(), a.query(RemoteContact).unwrap()];
        b.close().abort().wait().unwrap();
        assert_eq!(a.take(1).deadline(SOON).wait().unwrap_err().kind(), ErrorKind::Reset);
        assert_eq!(a.write("x").wait().unwrap_err().kind(), ErrorKind::Reset);
        assert_eq!([a.query(LocalContact).unwrap(), a.query(RemoteContact).unwrap()], ends);
        assert_eq!(a.same_peer(&ends[1]), Some(true));
    }
}

#[test]
fn a_lingering_close_holds_nobody_else_up() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, "127.0.0.1:0");
    let slow = stack_with(Options::default().with_linger(Some(Duration::from_secs(4))));
    let a = engine.open(&slow, server.contact()).wait().unwrap();
    let b = server.accept().wait().unwrap().open().wait().unwrap();
    // More than the peer's buffers hold, so that the close has something to wait for.
    let mut sent = 0;
    while let Ok(n) = a.write_from(&[0; 65536]).deadline(Duration::from_millis(200)).wait() {
        sent += n;
    }
    let (tx, rx) = mpsc::channel();
    let began = Instant::now();
    // On the engine's own thread, which must not wait for it.
    let (c, d) = pair_at(&engine, "127.0.0.1:0");
    c.take(1).then(move |_| {
        a.close().then(move |r| tx.send((r, began.elapsed())).unwrap());
    });
    d.write("x").wait().unwrap();
    let (done, answered) = mpsc::channel();
    d.take(1).then(move |r| done.send(r.unwrap().n).unwrap());
    c.write("y").wait().unwrap();
    assert_eq!(answered.recv_timeout(SOON).unwrap(), 1);
    assert!(rx.try_recv().is_err(), "the engine waited for a lingering close");
    let (r, took) = rx.recv_timeout(SOON).unwrap();
    r.unwrap();
    assert!(took >= Duration::from_millis(3500), "{took:?} for {sent} bytes");
    drop(b);
}

#[test]
fn a_port_range_is_used_up_port_by_port() {
    let engine = Engine::new().unwrap();
    let base = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().min(60_000);
    let range = format!("{base}-{}", base + 20);
    let o = Options::default().with_port_range(Some(range.clone()));
    let mut servers = Vec::new();
    let e = loop {
        match engine.listen(&stack_with(o.clone()), Contact::new("127.0.0.1:0")).wait() {
            Ok(s) => servers.push(s),
            Err(e) => break e,
        }
    };
    assert_eq!(e.kind(), ErrorKind::AddrInUse);
    assert!(e.to_string().contains(&format!("no port of {range} is free")), "{e}");
    assert!((2..=21).contains(&servers.len()), "{}", servers.len());
    let port = |c: &Contact| c.text().unwrap().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let mut ports: Vec<_> = servers.iter().map(|s| port(s.contact())).collect();
    assert!(ports.iter().all(|p| (base..=base + 20).contains(p)) && ports.is_sorted());
    ports.dedup();
    assert_eq!(ports.len(), servers.len());

    // A client takes its own port from the range, too.
    let server = listen(&engine, "127.0.0.1:0");
    drop(servers.pop());
    let e = loop {
        match engine.open(&stack_with(o.clone()), server.contact()).wait() {
            Ok(h) => {
                let local = h.query(LocalContact).unwrap();
                assert!((base..=base + 20).contains(&port(&local)), "{local}");
                h.close().abort().wait().unwrap();
                break None;
            }
            Err(e) if e.kind() == ErrorKind::AddrInUse => std::thread::sleep(Duration::from_millis(10)),
            Err(e) => break Some(e),
        }
    };
    assert!(e.is_none(), "{e:?}");
}

#[test]
fn a_local_address_is_used_and_has_the_family_of_the_peer() {
    let engine = Engine::new().unwrap();
    let from = |a: &str| stack_with(Options::default().with_bind(Some(a.into())));
    let server = listen(&engine, "127.0.0.1:0");
    let h = engine.open(&from("127.0.0.2"), server.contact()).wait().unwrap();
    assert!(h.query(LocalContact).unwrap().text().unwrap().starts_with("127.0.0.2:"));
    let e = engine.open(&from("::1"), server.contact()).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrNotAvailable);
    assert!(e.to_string().contains("one is IPv4, the other IPv6"), "{e}");
    let e = engine.open(&from("203.0.113.9"), server.contact()).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrNotAvailable);
    assert!(e.to_string().contains("from `bind=203.0.113.9`"), "{e}");
    // Of a name, only the addresses of the same family are tried.
    let port = server.contact().text().unwrap().rsplit(':').next().unwrap().to_owned();
    let h = engine.open(&from("127.0.0.3"), Contact::new(format!("localhost:{port}"))).wait().unwrap();
    assert!(h.query(LocalContact).unwrap().text().unwrap().starts_with("127.0.0.3:"));
    // A server listens on it.
    let server = engine.listen(&from("127.0.0.4"), ()).wait().unwrap();
    assert!(server.contact().text().unwrap().starts_with("127.0.0.4:"));
}

#[test]
fn a_server_on_all_addresses_says_where_it_is() {
    let engine = Engine::new().unwrap();
    for at in [":0", "*:0", "0", "0.0.0.0:0", "[::]:0", ""] {
        let contact = if at.is_empty() { Contact::None } else { Contact::new(at) };
        let server = engine.listen(&stack(), contact).wait().unwrap();
        let text = server.contact().text().unwrap().to_owned();
        assert!(!text.starts_with("0.0.0.0:") && !text.starts_with("[::]:"), "{at}: {text}");
        assert_eq!(server.query(LocalContact).unwrap(), *server.contact());
        let port = text.rsplit(':').next().unwrap();
        let other = if at.starts_with('[') { format!("[::1]:{port}") } else { format!("127.0.0.1:{port}") };
        for to in [text.clone(), other] {
            let h = engine.open(&stack(), Contact::new(&to)).deadline(SOON).wait().unwrap();
            let link = server.accept().deadline(SOON).wait().unwrap();
            // No IPv4 peer in an IPv6 disguise.
            assert_eq!(*link.peer(), h.query(LocalContact).unwrap());
            assert_eq!(link.local().text(), Some(to.as_str()));
        }
    }
}

#[test]
fn options_change_at_run_time_or_say_why_not() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, "127.0.0.1:0");
    let h = engine.open(&stack_with(Options::default()), server.contact()).wait().unwrap();
    let set = |name: &str, value| h.cntl("tcp", SetOption(name.into(), value));
    let get = |name: &str| h.cntl("tcp", GetOption(name.into())).unwrap();
    assert_eq!(get("nodelay"), Some(Value::Bool(false)));
    set("nodelay", Value::Bool(true)).unwrap();
    assert_eq!(get("nodelay"), Some(Value::Bool(true)));
    for name in ["sndbuf", "rcvbuf", "notsent_lowat"] {
        assert_eq!(get(name), None);
        set(name, Value::Size(65_536)).unwrap();
        assert_eq!(get(name), Some(Value::Size(65_536)));
    }
    set("spin", Value::Duration(Duration::from_micros(50))).unwrap();
    let e = set("bind", Value::Text("127.0.0.1".into())).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert!(e.to_string().contains("`bind` cannot change while the level is open"), "{e}");
    assert_eq!(set("nodelay", Value::Int(1)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(set("no-such", Value::Bool(true)).unwrap_err().kind(), ErrorKind::UnsupportedCommand);
    let path = h.query(PathInfo).unwrap();
    assert!(path.min_rtt.is_some_and(|d| d < SOON) && path.unsent == Some(0), "{path:?}");

    // On a server for what is accepted from then on.
    server.cntl("tcp", SetOption("nodelay".into(), Value::Bool(false))).unwrap();
    assert_eq!(server.cntl("tcp", GetOption("nodelay".into())).unwrap(), Some(Value::Bool(false)));
    assert_eq!(server.query(RemoteContact).unwrap_err().kind(), ErrorKind::UnsupportedCommand);
}

#[test]
fn options_reach_the_system() {
    let engine = Engine::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let look = stream.try_clone().unwrap();
    let look = socket2::SockRef::from(&look);
    let s = Duration::from_secs;
    let o = Options::default()
        .with_nodelay(true)
        .with_keepalive(Some(s(60)))
        .with_keepalive_interval(Some(s(5)))
        .with_keepalive_count(Some(3))
        .with_sndbuf(Some(Size(32 * 1024)))
        .with_congestion(Some("reno".into()))
        .with_dscp(Some(46))
        .with_user_timeout(Some(s(9)))
        .with_notsent_lowat(Some(Size(16_384)))
        .with_fd(Some(Fd::new(stream)));
    let h = engine.open(&stack_with(o), ()).wait().unwrap();
    assert!(look.tcp_nodelay().unwrap() && look.keepalive().unwrap());
    assert_eq!(look.tcp_keepalive_time().unwrap(), s(60));
    assert_eq!(look.tcp_keepalive_interval().unwrap(), s(5));
    assert_eq!(look.tcp_keepalive_retries().unwrap(), 3);
    assert_eq!(look.send_buffer_size().unwrap(), 2 * 32 * 1024);
    assert!(look.tcp_congestion().unwrap().starts_with(b"reno"));
    assert_eq!(look.tos_v4().unwrap(), 46 << 2);
    assert_eq!(look.tcp_user_timeout().unwrap(), Some(s(9)));
    assert_eq!(look.tcp_notsent_lowat().unwrap(), 16_384);
    h.cntl("tcp", SetOption("nodelay".into(), Value::Bool(false))).unwrap();
    h.cntl("tcp", SetOption("sndbuf".into(), Value::Size(65_536))).unwrap();
    assert!(!look.tcp_nodelay().unwrap());
    assert_eq!(look.send_buffer_size().unwrap(), 2 * 65_536);

    let lo = stack_with(Options::default().with_device(Some("lo".into())));
    engine.open(&lo, Contact::from(listener.local_addr().unwrap())).deadline(SOON).wait().unwrap();
    let none = stack_with(Options::default().with_device(Some("no-such-dev".into())));
    let e = engine.open(&none, Contact::from(listener.local_addr().unwrap())).wait().unwrap_err();
    assert!(e.to_string().starts_with("tcp: open: ") && e.to_string().contains("No such device"), "{e}");
}

#[test]
fn a_ready_made_socket_serves_once_and_in_its_role() {
    let engine = Engine::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let with = |fd: Fd| stack_with(Options::default().with_fd(Some(fd)));
    let served = with(Fd::new(listener));
    let server = engine.listen(&served, ()).wait().unwrap();
    assert_eq!(*server.contact(), Contact::from(at));
    let stream = TcpStream::connect(at).unwrap();
    let theirs = server.accept().deadline(SOON).wait().unwrap().open().wait().unwrap();
    let e = engine.listen(&served, ()).wait().unwrap_err();
    assert!(e.to_string().contains("taken by an earlier open"), "{e}");

    let mine = with(Fd::new(stream.try_clone().unwrap()));
    let e = engine.open(&mine, Contact::from(at)).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidContact);
    let h = engine.open(&mine, ()).wait().unwrap();
    assert_eq!(h.query(RemoteContact).unwrap(), Contact::from(at));
    h.write("x").wait().unwrap();
    assert_eq!(read_exact(&theirs, 1), b"x");
    assert!(engine.open(&mine, ()).wait().unwrap_err().to_string().contains("give each open its own"));

    let e = engine.listen(&with(Fd::new(stream)), ()).wait().unwrap_err();
    assert!(e.to_string().contains("is connected; a server needs a listening one"), "{e}");
    let idle = TcpListener::bind("127.0.0.1:0").unwrap();
    let e = engine.open(&with(Fd::new(idle)), ()).wait().unwrap_err();
    assert!(e.to_string().contains("is not connected"), "{e}");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let e = engine.open(&with(Fd::new(udp)), ()).wait().unwrap_err();
    assert!(e.to_string().contains("is of no use") && e.to_string().contains("not a stream socket"), "{e}");

    let (unix, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
    let h = engine.open(&with(Fd::new(unix)), ()).wait().unwrap();
    h.write("unix").wait().unwrap();
    let mut buf = [0; 4];
    other.read_exact(&mut buf).unwrap();
    assert_eq!((&buf, h.query(LocalContact).unwrap()), (b"unix", Contact::None));
}

#[test]
fn several_accepts_wait_at_once_in_order() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, "127.0.0.1:0");
    let (tx, rx) = mpsc::channel();
    for i in 0..4 {
        let tx = tx.clone();
        server.accept().then(move |l| tx.send((i, l.map(|l| l.peer().clone()))).unwrap());
    }
    let blocked = std::thread::spawn({
        let server = server.clone();
        move || server.accept().deadline(Duration::from_millis(30)).wait().unwrap_err().kind()
    });
    assert_eq!(blocked.join().unwrap(), ErrorKind::TimedOut);
    let clients: Vec<_> = (0..3).map(|_| engine.open(&stack(), server.contact()).wait().unwrap()).collect();
    for (i, c) in clients.iter().enumerate() {
        let (n, peer) = rx.recv_timeout(SOON).unwrap();
        assert_eq!((n, peer.unwrap()), (i, c.query(LocalContact).unwrap()));
    }
    server.close().unwrap();
    let (n, last) = rx.recv_timeout(SOON).unwrap();
    assert_eq!((n, last.unwrap_err().kind()), (3, ErrorKind::Cancelled));
    assert_eq!(server.accept().wait().unwrap_err().kind(), ErrorKind::Closed);
    let e = engine.open(&stack(), server.contact()).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
}

#[test]
fn a_cancelled_accept_leaves_the_connection_to_the_next() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, "127.0.0.1:0");
    for _ in 0..50 {
        let ticket = server.accept().then(|_| {});
        let client = engine.open(&stack(), server.contact()).wait().unwrap();
        ticket.cancel();
        drop(client);
    }
    // Whatever the cancelled ones did not take is there; no connection was lost or doubled.
    let client = engine.open(&stack(), server.contact()).wait().unwrap();
    let local = client.query(LocalContact).unwrap();
    for _ in 0..51 {
        let link = server.accept().deadline(SOON).wait().unwrap();
        if *link.peer() == local {
            return;
        }
    }
    panic!("the last connection never came");
}

#[test]
fn a_link_can_be_asked_before_it_is_opened() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, "127.0.0.1:0");
    let client = engine.open(&stack(), server.contact()).wait().unwrap();
    let mut link = server.accept().wait().unwrap();
    assert_eq!(link.cntl(None, LocalContact).unwrap(), *server.contact());
    assert_eq!(link.cntl(Some("tcp"), RemoteContact).unwrap(), client.query(LocalContact).unwrap());
    assert!(link.cntl(None, PathInfo).unwrap().min_rtt.is_some());
    assert_eq!(link.cntl(None, GetOption("nodelay".into())).unwrap_err().kind(), ErrorKind::UnsupportedCommand);
    drop(link);
    assert!(matches!(client.take(1).deadline(SOON).wait().unwrap_err().kind(), ErrorKind::Eof | ErrorKind::Reset));
}

#[test]
fn peers_and_own_servers_are_known_by_contact() {
    let engine = Engine::new().unwrap();
    let stack = stack();
    let server = engine.listen(&stack, Contact::new("127.0.0.1:0")).wait().unwrap();
    let port = server.contact().text().unwrap().rsplit(':').next().unwrap().to_owned();
    let a = engine.open(&stack, server.contact()).wait().unwrap();
    let b = server.accept().wait().unwrap().open().wait().unwrap();
    assert_eq!(a.same_peer(server.contact()), Some(true));
    assert_eq!(a.same_peer(&Contact::new("127.0.0.1:1")), Some(false));
    assert_eq!(a.same_peer(&Contact::new("localhost:1")), None);
    assert_eq!(b.same_peer(&Contact::new("127.0.0.1:1")), None);
    assert_eq!(b.same_peer(&Contact::new("10.0.0.1:1")), Some(false));
    let named = Contact::new(format!("localhost:{port}"));
    let c = engine.open(&stack, &named).wait().unwrap();
    assert_eq!((c.same_peer(&named), c.same_peer(server.contact())), (Some(true), Some(true)));

    let level = stack.level("tcp").unwrap();
    let is_self = |text: String| level.driver().is_self(level.attr(), &Contact::new(text));
    assert_eq!(is_self(format!("127.0.0.1:{port}")), Some(true));
    assert_eq!(is_self(format!("localhost:{port}")), Some(true));
    assert_eq!(is_self(format!("203.0.113.9:{port}")), Some(false));
    assert_eq!(is_self("127.0.0.1:1".into()), None);
    assert_eq!(is_self(format!("example.org:{port}")), None);
    assert_eq!(is_self(format!(":{port}")), None);
    server.close().unwrap();
    assert_eq!(is_self(format!("127.0.0.1:{port}")), None);
}

#[test]
fn readiness_is_told() {
    let (_engine, a, b) = pair();
    a.ready(Direction::Write).deadline(SOON).wait().unwrap();
    let e = a.ready(Direction::Read).deadline(Duration::from_millis(20)).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
    b.write("x").wait().unwrap();
    a.ready(Direction::Read).deadline(SOON).wait().unwrap();
    assert_eq!(read_exact(&a, 1), b"x");
    let (tx, rx) = mpsc::channel();
    a.ready(Direction::Read).then(move |r| tx.send(r).unwrap());
    b.close().wait().unwrap();
    rx.recv_timeout(SOON).unwrap().unwrap();
}

#[test]
fn closed_and_dropped_handles_leave_nothing() {
    let engine = Engine::new().unwrap();
    let fds = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let (a, b) = pair_at(&engine, "127.0.0.1:0");
    a.write("x").wait().unwrap();
    drop((a, b));
    let settle = |limit: usize| {
        let end = Instant::now() + SOON;
        while (fds() > limit || engine.handles() > 0) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    settle(usize::MAX);
    assert_eq!(engine.handles(), 0);
    // Other tests run at the same time: only a leak of a descriptor a round would show.
    let before = fds();
    for _ in 0..200 {
        let (a, b) = pair_at(&engine, "127.0.0.1:0");
        a.close().abort().wait().unwrap();
        drop(b);
    }
    settle(before + 100);
    assert!(fds() < before + 150, "{} descriptors before, {} now", before, fds());
    assert_eq!(engine.handles(), 0);
}

#[test]
fn a_blocking_caller_may_spin() {
    let engine = Engine::new().unwrap();
    let spin = stack_with(Options::default().with_nodelay(true).with_spin(Duration::from_micros(50)));
    let server = engine.listen(&spin, Contact::new("127.0.0.1:0")).wait().unwrap();
    let a = engine.open(&spin, server.contact()).wait().unwrap();
    let b = server.accept().wait().unwrap().open().wait().unwrap();
    let echo = std::thread::spawn(move || {
        for _ in 0..100 {
            let x = read_exact(&b, 8);
            b.write_from(&x).wait().unwrap();
        }
    });
    for i in 0..100u64 {
        a.write_from(&i.to_le_bytes()).wait().unwrap();
        assert_eq!(read_exact(&a, 8), i.to_le_bytes());
    }
    echo.join().unwrap();
}

/// A transport whose open keeps a thread of the pool busy for a second.
#[derive(Debug)]
struct Busy;

const BUSY: Info = Info::new(Options::DRIVER, Shape::Transport, "keeps the pool busy");

impl Driver for Busy {
    fn info(&self) -> &Info {
        &BUSY
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::NOTHING
    }
    fn caps(&self, _: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(Caps::stream())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::OPEN
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Self))
    }
}

impl Level for Busy {
    fn open<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => op.io(Io::Blocking(Box::new(|| {
                std::thread::sleep(Duration::from_secs(3));
                Ok(Box::new(()))
            }))),
            _ => op.finished(),
        }
    }
}

#[test]
fn a_deadline_does_not_wait_for_a_lookup() {
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let (tx, rx) = mpsc::channel();
    let busy = Stack::new(LevelNode::new(Arc::new(Busy))).unwrap();
    engine.open(&busy, ()).then(move |h| tx.send(h.is_ok()).unwrap());
    let e = engine.open(&stack(), Contact::new("localhost:1")).deadline(Duration::from_millis(50)).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
    assert!(e.to_string().contains("`localhost:1`: the name was being looked up"), "{e}");
    assert!(rx.try_recv().is_err(), "it waited for its turn at the pool");
    assert!(rx.recv_timeout(SOON).unwrap());
}

/// Set in the child that may have few descriptors.
const FEW: &str = "XIO_TEST_FEW_DESCRIPTORS";

/// Runs the next test in a process that may have few descriptors.
#[test]
fn a_server_survives_the_lack_of_descriptors() {
    let me = std::env::current_exe().unwrap();
    let child = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 48 && exec \"$0\" --exact child_without_descriptors --nocapture"])
        .env(FEW, "1")
        .arg(me)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
}

#[test]
fn child_without_descriptors() {
    if std::env::var_os(FEW).is_none() {
        // The limit holds for a whole process: the test above runs this one in a child.
        return;
    }
    let engine = Engine::new().unwrap();
    let server = listen(&engine, "127.0.0.1:0");
    let at: std::net::SocketAddr = server.contact().text().unwrap().parse().unwrap();
    let mut stat = std::fs::File::open("/proc/self/stat").unwrap();
    // User and system time so far, in hundredths of a second (proc(5)).
    let mut cpu = || {
        let mut text = String::new();
        std::io::Seek::rewind(&mut stat).unwrap();
        stat.read_to_string(&mut text).unwrap();
        let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let mut files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!((10..48).contains(&files.len()), "{} descriptors", files.len());
    files.pop();
    let client = TcpStream::connect(at).unwrap();
    let (tx, rx) = mpsc::channel();
    server.accept().then(move |l| tx.send(l.map(|l| l.peer().clone())).unwrap());
    let before = cpu();
    assert!(rx.recv_timeout(Duration::from_millis(1200)).is_err(), "there was no descriptor for it");
    assert!(cpu() - before <= 5, "{} ms of CPU while waiting", 10 * (cpu() - before));
    drop(files);
    let peer = rx.recv_timeout(Duration::from_millis(1500)).expect("it goes on by itself").unwrap();
    assert_eq!(peer, Contact::from(client.local_addr().unwrap()));
}

#[test]
fn socat_is_a_peer() {
    let has = std::process::Command::new("socat").arg("-V").output().is_ok();
    if !has {
        eprintln!("SKIPPED: socat is not installed, so `tcp` was not tried against a foreign peer");
        return;
    }
    let engine = Engine::new().unwrap();
    let data = noise(300_000);

    // socat connects to us and echoes through cat.
    let server = listen(&engine, "127.0.0.1:0");
    let mut child =
        std::process::Command::new("socat").args([&format!("TCP:{}", server.contact()), "EXEC:cat"]).spawn().unwrap();
    let h = server.accept().deadline(SOON).wait().unwrap().open().wait().unwrap();
    let (out, sent) = (h.clone(), data.clone());
    let writer = std::thread::spawn(move || {
        out.write(sent).deadline(SOON).wait().unwrap();
        out.shutdown().wait().unwrap();
    });
    assert!(read_all(&h) == data);
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());

    // We connect to socat, which hands its standard input on.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = std::process::Command::new("socat")
        .args(["-u", "STDIN", &format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr")])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + SOON;
    let h = loop {
        match engine.open(&stack(), Contact::new(format!("localhost:{port}"))).wait() {
            Ok(h) => break h,
            Err(e) => assert!(Instant::now() < end, "{e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut stdin = child.stdin.take().unwrap();
    let sent = data.clone();
    let feeder = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    assert!(read_all(&h) == data);
    feeder.join().unwrap();
    assert!(child.wait().unwrap().success());
}
