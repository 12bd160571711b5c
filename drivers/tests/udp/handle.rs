//! Handles: one peer or whoever sends, both families, lengths, stops.

use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::{Attr, Peer, Size};
use xio_core::caps::Unit;
use xio_core::cntl::{GetOption, SetOption};
use xio_core::io::Direction;
use xio_core::schema::Value;
use xio_core::{Contact, Engine, ErrorKind};
use xio_drivers::udp::Options;

use crate::fixture::*;

#[test]
fn one_peer_over_both_families() {
    let engine = Engine::new().unwrap();
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let (peer, addr) = plain(at);
        let h = open(&engine, &stack(), addr);
        assert_eq!(write(&h, "ping"), 4);
        let (data, from) = came(&peer);
        assert_eq!((&data[..], local(&h)), (&b"ping"[..], Contact::from(from)));
        peer.send_to(b"pong", from).unwrap();
        assert_eq!(read(&h), b"pong");
        assert_eq!((remote(&h), h.same_peer(&addr.into())), (addr.into(), Some(true)));
        assert_eq!(h.same_peer(&Contact::new("127.0.0.1:9")), Some(false));
    }
    let h = open(&engine, &stack(), Contact::new(format!("localhost:{}", plain("127.0.0.1:0").1.port())));
    assert!(remote(&h).text().unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn nobody_elses_datagrams_are_read_on_a_handle_with_one_peer() {
    let engine = Engine::new().unwrap();
    let (peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    let here: std::net::SocketAddr = local(&h).text().unwrap().parse().unwrap();
    let (stranger, _) = plain("127.0.0.1:0");
    stranger.send_to(b"mine", here).unwrap();
    peer.send_to(b"yours", here).unwrap();
    assert_eq!(read(&h), b"yours");
}

#[test]
fn whoever_sends_is_told_and_answered() {
    let engine = Engine::new().unwrap();
    // IPv4 peers write to a socket for both families, too.
    for (at, from) in [("127.0.0.1:0", "127.0.0.1:0"), ("*", "127.0.0.1:0"), ("*", "[::1]:0"), ("", "127.0.0.1:0")] {
        let h = open(&engine, &stack(), Contact::new(at));
        let port: u16 = local(&h).text().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let (peer, addr) = plain(from);
        peer.send_to(b"hello", (addr.ip(), port)).unwrap();
        let (data, sender) = read_from(&h);
        assert_eq!((&data[..], &sender), (&b"hello"[..], &Contact::from(addr)));
        h.write("back").attr(Peer(sender)).deadline(SOON).wait().unwrap();
        assert_eq!(came(&peer).0, b"back");
        let e = h.write("whereto?").deadline(SOON).wait().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        let e = h.write("x").attr(Peer(Contact::new("localhost:7"))).deadline(SOON).wait().unwrap_err();
        assert!(e.to_string().contains("names are not looked up"), "{e}");
    }
}

#[test]
fn a_handle_with_one_peer_sends_to_no_other() {
    let engine = Engine::new().unwrap();
    let (peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    h.write("same").attr(Peer(addr.into())).deadline(SOON).wait().unwrap();
    assert_eq!(came(&peer).0, b"same");
    let e = h.write("other").attr(Peer(Contact::new("127.0.0.1:9"))).deadline(SOON).wait().unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidInput && e.to_string().contains("the one peer"), "{e}");
}

#[test]
fn empty_datagrams_are_messages_and_no_end() {
    let engine = Engine::new().unwrap();
    let (peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    assert_eq!(write(&h, ""), 0);
    let (data, from) = came(&peer);
    assert!(data.is_empty());
    for text in ["", "a", "", ""] {
        peer.send_to(text.as_bytes(), from).unwrap();
    }
    let got: Vec<_> = (0..4).map(|_| read(&h)).collect();
    assert_eq!(got, [&b""[..], b"a", b"", b""]);
    peer.send_to(b"", from).unwrap();
    let taken = h.take(100).deadline(SOON).wait().unwrap();
    assert_eq!(taken.n, 0);
}

#[test]
fn every_length_goes_whole_both_ways() {
    let engine = Engine::new().unwrap();
    let (peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    let data = noise(65_507);
    for n in (0..64).chain([511, 1023, 1024, 1472, 1473, 4096, 9000, 65_506, 65_507]) {
        write(&h, &data[..n]);
        let (got, from) = came(&peer);
        assert!(got == data[..n], "{n}");
        peer.send_to(&got, from).unwrap();
        assert!(read(&h) == data[..n], "{n}");
    }
    // Pieces are gathered into one.
    let pieces: Vec<bytes::Bytes> = data[..900].chunks(100).map(bytes::Bytes::copy_from_slice).collect();
    h.write(pieces).deadline(SOON).wait().unwrap();
    assert!(came(&peer).0 == data[..900]);
}

#[test]
fn what_is_too_long_is_refused_before_it_is_sent() {
    let engine = Engine::new().unwrap();
    let (peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    let e = h.write(noise(65_508)).deadline(SOON).wait().unwrap_err();
    assert!(e.kind() == ErrorKind::TooLong && e.to_string().contains("the limit is 65507 B"), "{e}");
    let short = open(&engine, &stack_with(Options::default().with_max(Size(100))), addr);
    assert_eq!((short.caps().max_message, short.caps().unit), (Some(100), Unit::Datagram));
    assert!(!short.caps().reliable && !short.caps().ordered && !short.caps().connected);
    assert_eq!(short.write(noise(101)).deadline(SOON).wait().unwrap_err().kind(), ErrorKind::TooLong);
    write(&short, noise(100));
    assert_eq!(came(&peer).0.len(), 100);
}

#[test]
fn a_cut_datagram_tells_its_real_length_and_the_rest_is_gone() {
    let engine = Engine::new().unwrap();
    let (peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    write(&h, "x");
    let (_, from) = came(&peer);
    for room in [0, 1, 10, 99] {
        peer.send_to(&noise(100), from).unwrap();
        peer.send_to(b"next", from).unwrap();
        let f = h.read(BytesMut::with_capacity(room)).deadline(SOON).wait().unwrap_err();
        assert_eq!(f.kind(), ErrorKind::Truncated { len: 100 });
        assert_eq!(&f.back.buf[..], &noise(100)[..room]);
        assert_eq!(read(&h), b"next");
    }
    let mut lent = [0; 7];
    peer.send_to(&noise(100), from).unwrap();
    let e = h.read_into(&mut lent).deadline(SOON).wait().unwrap_err();
    assert_eq!((e.kind(), &lent[..]), (ErrorKind::Truncated { len: 100 }, &noise(7)[..]));
}

#[test]
fn a_datagram_that_comes_back_is_told_once_and_the_handle_works_on() {
    let engine = Engine::new().unwrap();
    let (gone, addr) = plain("127.0.0.1:0");
    drop(gone);
    let h = open(&engine, &stack(), addr);
    write(&h, "nobody");
    let e = try_read(&h, 10).unwrap_err();
    assert!(e.kind() == ErrorKind::Refused && e.to_string().contains("nobody listens at"), "{e}");
    // Writes do not fail for what became of earlier ones.
    for _ in 0..5 {
        write(&h, "nobody");
    }
    let peer = std::net::UdpSocket::bind(addr).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    write(&h, "somebody");
    let (data, from) = came(&peer);
    assert_eq!(data, b"somebody");
    peer.send_to(b"here", from).unwrap();
    let got = loop {
        match try_read(&h, 10) {
            Ok(got) => break got,
            Err(e) => assert_eq!(e.kind(), ErrorKind::Refused),
        }
    };
    assert_eq!(got, b"here");
}

#[test]
fn waits_end_with_deadlines_cancels_and_closes() {
    let engine = Engine::new().unwrap();
    let (_peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    let short = Duration::from_millis(30);
    let f = h.read(BytesMut::with_capacity(9)).deadline(short).wait().unwrap_err();
    assert_eq!((f.kind(), f.back.buf.capacity()), (ErrorKind::TimedOut, 9));
    assert_eq!(h.ready(Direction::Read).deadline(short).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    h.ready(Direction::Write).deadline(SOON).wait().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let ticket = h.take(9).then(move |r| tell.send(r.map(|d| d.n).map_err(|f| f.kind())).unwrap());
    ticket.cancel();
    assert_eq!(told.recv_timeout(SOON).unwrap(), Err(ErrorKind::Cancelled));
    let blocked = h.clone();
    let reader = std::thread::spawn(move || blocked.take(9).wait().map(|d| d.n).map_err(|f| f.kind()));
    std::thread::sleep(short);
    h.close().deadline(SOON).wait().unwrap();
    assert_eq!(reader.join().unwrap(), Err(ErrorKind::Cancelled));
    let server = listen(&engine, &stack(), "127.0.0.1:0");
    assert_eq!(server.accept().deadline(short).wait().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn options_reach_the_system_and_may_change() {
    let engine = Engine::new().unwrap();
    let (peer, addr) = plain("127.0.0.1:0");
    let o = Options::default()
        .with_bind(Some("127.0.0.1".into()))
        .with_device(Some("lo".into()))
        .with_dscp(Some(46))
        .with_ttl(Some(7))
        .with_rcvbuf(Some(Size(64 << 10)));
    o.check().unwrap();
    let h = open(&engine, &stack_with(o), addr);
    write(&h, "over lo");
    assert_eq!(came(&peer).0, b"over lo");
    h.query(SetOption("rcvbuf".into(), Value::Size(32 << 10))).unwrap();
    assert_eq!(h.query(GetOption("rcvbuf".into())).unwrap(), Some(Value::Size(32 << 10)));
    let e = h.query(SetOption("greet".into(), Value::Bool(true))).unwrap_err();
    assert!(e.to_string().contains("cannot change while the level is open"), "{e}");
    let e = engine.open(&stack_with(Options::default().with_device(Some("no-such-dev".into()))), addr).wait();
    assert!(e.is_err());
    let taken = engine.open(&stack(), Contact::new(format!("*:{}", addr.port()))).wait().map(drop);
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse);
    let e = h.shutdown().deadline(SOON).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}
