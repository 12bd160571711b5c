//! A server: a link for each new peer, bounds, counts, and handles that outlive it.

use std::time::Duration;

use xio_core::attr::Size;
use xio_core::cntl::{LocalContact, RemoteContact};
use xio_core::{Contact, Engine, ErrorKind};
use xio_drivers::udp::{Counts, Options, Validated};

use crate::fixture::*;

#[test]
fn each_new_peer_gives_a_link_with_all_it_sent() {
    let engine = Engine::new().unwrap();
    for at in ["127.0.0.1:0", "[::1]:0", "*:0"] {
        let server = listen(&engine, &stack(), at);
        let near: Vec<_> = (0..4).map(|_| open(&engine, &stack(), server.contact())).collect();
        // Much before anybody accepts.
        for round in 0..20 {
            for (i, h) in near.iter().enumerate() {
                write(h, format!("{i}.{round}"));
            }
        }
        for _ in 0..4 {
            let mut link = server.accept().deadline(SOON).wait().unwrap();
            assert_eq!(&link.cntl(None, RemoteContact).unwrap(), link.peer());
            assert!(link.cntl(None, LocalContact).is_ok());
            let peer = link.peer().clone();
            let port = |c: &Contact| c.text().unwrap().rsplit(':').next().unwrap().to_owned();
            let i = near.iter().position(|h| port(&local(h)) == port(&peer)).unwrap();
            let far = link.open().deadline(SOON).wait().unwrap();
            assert_eq!(remote(&far), peer);
            for round in 0..20 {
                assert_eq!(read(&far), format!("{i}.{round}").as_bytes());
            }
            write(&far, format!("you are {i}"));
            assert_eq!(read(&near[i]), format!("you are {i}").as_bytes());
        }
        let counts = server.query(Counts).unwrap();
        assert_eq!((counts.links, counts.refused, counts.overflowed), (4, 0, 0));
    }
}

#[test]
fn handles_and_links_outlive_their_server() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, &stack(), "127.0.0.1:0");
    let (a, b) = (open(&engine, &stack(), server.contact()), open(&engine, &stack(), server.contact()));
    write(&a, "first");
    let far_a = accept(&server);
    write(&b, "second");
    let link = server.accept().deadline(SOON).wait().unwrap();
    server.close().unwrap();
    let far_b = link.open().deadline(SOON).wait().unwrap();
    assert_eq!((read(&far_a), read(&far_b)), (b"first".to_vec(), b"second".to_vec()));
    for (near, far) in [(&a, &far_a), (&b, &far_b)] {
        write(near, "on");
        assert_eq!(read(far), b"on");
        write(far, "and on");
        assert_eq!(read(near), b"and on");
    }
}

#[test]
fn a_peer_whose_handle_closed_comes_as_a_new_one() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, &stack(), "127.0.0.1:0");
    let near = open(&engine, &stack(), server.contact());
    for text in ["one", "two", "three"] {
        write(&near, text);
        let far = accept(&server);
        assert_eq!(read(&far), text.as_bytes());
        far.close().deadline(SOON).wait().unwrap();
    }
    assert_eq!(server.query(Counts).unwrap().links, 3);
}

#[test]
fn two_servers_do_not_share_a_port_and_know_themselves() {
    let engine = Engine::new().unwrap();
    let stack = stack();
    let server = listen(&engine, &stack, "127.0.0.1:0");
    let e = engine.listen(&stack, server.contact()).wait().map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrInUse);
    assert_eq!(stack.is_self(server.contact()), Some(true));
    let contact = server.contact().clone();
    server.close().unwrap();
    drop(server);
    assert_eq!(stack.is_self(&contact), None);
}

#[test]
fn what_no_link_is_for_is_dropped_and_counted() {
    let engine = Engine::new().unwrap();
    let o = Options::default().with_links(2).with_early(Size(100));
    let server = listen(&engine, &stack_with(o), "127.0.0.1:0");
    let to: std::net::SocketAddr = server.contact().text().unwrap().parse().unwrap();
    let peers: Vec<_> = (0..5).map(|_| plain("127.0.0.1:0").0).collect();
    for _ in 0..2 {
        peers.iter().for_each(|p| assert_eq!(p.send_to(&[1; 60], to).unwrap(), 60));
    }
    let links: Vec<_> = (0..2).map(|_| server.accept().deadline(SOON).wait().unwrap()).collect();
    let third = server.accept().deadline(Duration::from_millis(50)).wait().map(drop);
    assert_eq!(third.unwrap_err().kind(), ErrorKind::TimedOut);
    let counts = server.query(Counts).unwrap();
    assert_eq!((counts.links, counts.live, counts.bytes), (2, 2, 128));
    assert_eq!((counts.refused, counts.overflowed, counts.expired), (6, 2, 0));
    drop(links);
    assert_eq!(server.query(Counts).unwrap().live, 0);
}

#[test]
fn a_peer_that_may_be_forged_gets_three_times_what_it_sent() {
    let engine = Engine::new().unwrap();
    let server = listen(&engine, &stack(), "127.0.0.1:0");
    let near = open(&engine, &stack(), server.contact());
    write(&near, noise(100));
    let far = accept(&server);
    read(&far);
    write(&far, noise(200));
    let e = far.write(noise(101)).deadline(SOON).wait().unwrap_err();
    assert!(e.kind() == ErrorKind::Busy && e.to_string().contains("may be forged"), "{e}");
    write(&far, noise(100));
    assert_eq!(far.write("x").deadline(SOON).wait().unwrap_err().kind(), ErrorKind::Busy);
    write(&near, "y");
    read(&far);
    write(&far, noise(3));
    assert_eq!(far.write("x").deadline(SOON).wait().unwrap_err().kind(), ErrorKind::Busy);
    far.query(Validated).unwrap();
    write(&far, noise(60_000));
    assert!(near.query(Validated).is_err());
}
