//! What EVPath's udp transport does wrong, as promises: it cuts silently, ends the process on an error of the
//! system, and hangs when three connections are closed.

use xio_core::{Contact, Engine, ErrorKind, Handle};
use xio_drivers::udp::Options;

use crate::fixture::*;

/// There, whatever is longer than 25,600 bytes arrives short and nobody is told.
#[test]
fn nothing_is_cut_silently() {
    let engine = Engine::new().unwrap();
    let (peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    write(&h, noise(40_000));
    let (data, from) = came(&peer);
    assert!(data == noise(40_000));
    peer.send_to(&data, from).unwrap();
    assert_eq!(try_read(&h, 25_600).unwrap_err().kind(), ErrorKind::Truncated { len: 40_000 });
}

/// There, an error of `sendmsg` or `recvfrom` is `exit(1)`, and a contact cut short is one too.
#[test]
fn an_error_of_the_system_ends_one_op_and_no_process() {
    let engine = Engine::new().unwrap();
    for (to, kind) in [
        // Broadcasts are not allowed unasked, and nothing leads to class E.
        ("255.255.255.255:9", ErrorKind::PermissionDenied),
        ("127.0.0.1", ErrorKind::InvalidContact),
        ("127.0.0.1:", ErrorKind::InvalidContact),
    ] {
        match engine.open(&stack(), Contact::new(to)).deadline(SOON).wait() {
            Err(e) => assert_eq!(e.kind(), kind, "{to}: {e}"),
            Ok(h) => assert_eq!(h.write("x").deadline(SOON).wait().unwrap_err().kind(), kind, "{to}"),
        }
    }
    let (peer, addr) = plain("127.0.0.1:0");
    let h = open(&engine, &stack(), addr);
    write(&h, "still here");
    assert_eq!(came(&peer).0, b"still here");
}

/// There, closing a manager with three connections never ends.
#[test]
fn three_links_close_in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let engine = Engine::new().unwrap();
        let server = listen(&engine, &stack(), "127.0.0.1:0");
        let near: Vec<Handle> = (0..3).map(|_| open(&engine, &stack(), server.contact())).collect();
        near.iter().for_each(|h| assert_eq!(write(h, "hello"), 5));
        let far: Vec<Handle> = (0..3).map(|_| accept(&server)).collect();
        for i in order {
            far[i].close().deadline(SOON).wait().unwrap();
            near[i].close().deadline(SOON).wait().unwrap();
        }
        server.close().unwrap();
        engine.shutdown();
    }
    // All at once, with reads under way.
    let engine = Engine::new().unwrap();
    let server = listen(&engine, &stack_with(Options::default().with_greet(true)), "127.0.0.1:0");
    let near: Vec<Handle> =
        (0..3).map(|_| open(&engine, &stack_with(Options::default().with_greet(true)), server.contact())).collect();
    let far: Vec<Handle> = (0..3).map(|_| accept(&server)).collect();
    near.iter().chain(&far).for_each(|h| drop(h.take(9).then(|_| ())));
    engine.shutdown();
    assert!(near.iter().all(|h| h.write("x").wait().is_err()));
}
