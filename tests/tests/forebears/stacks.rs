//! Stacks of every shipped driver: opened, listened on, idle, and left by those who made them.

use std::net::TcpListener;

use xio_core::{Contact, Engine, ErrorKind, LevelNode, Stack};
use xio_drivers::all;
use xio_stacks::Registry;

use crate::fixture::LONG;

/// A stack of one driver, over `frame/tcp` or `tcp` where it needs something below.
fn alone(name: &str) -> Option<Stack> {
    let registry = Registry::with_defaults();
    [name.to_owned(), format!("{name}/tcp"), format!("{name}/frame/tcp"), format!("{name}{{a: tcp}}")]
        .iter()
        .find_map(|spec| registry.stack(spec).ok())
}

/// EVPath's multicast crashes on an open, and on a listen.
#[test]
fn every_driver_opens_and_listens_or_says_why_not() {
    let home = std::env::temp_dir().join(format!("xio-forebears-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let path = home.join("nothing-here");
    let texts =
        ["", "127.0.0.1:0", "127.0.0.1:1", "[::1]:0", "no such place", "-", "{a: 127.0.0.1:0}", "{", ":", "/", "\u{0}"];
    let engine = Engine::new().unwrap();
    for driver in all() {
        let name = driver.info().name;
        let stack = alone(name).unwrap_or_else(|| panic!("`{name}` fits nowhere"));
        let mut ends = 0;
        for text in texts.iter().copied().chain(path.to_str()) {
            // Standard input and output are those of the tests.
            if name == "file" && text == "-" {
                continue;
            }
            let Ok(contact) = text.parse::<Contact>() else {
                continue;
            };
            let told = |e: &xio_core::Error| {
                let kind = e.kind();
                let bad = [ErrorKind::Panicked, ErrorKind::Dropped, ErrorKind::Contract, ErrorKind::NoProgress];
                assert!(!bad.contains(&kind) && !e.to_string().is_empty(), "{name} at {text:?}: {e}");
                assert_ne!(kind, ErrorKind::TimedOut, "{name} at {text:?}: {e}");
            };
            match engine.listen(&stack, contact.clone()).deadline(LONG).wait() {
                Ok(server) => {
                    assert!(stack.caps().accepts, "{name} listens, and says it cannot");
                    server.close().unwrap();
                }
                Err(e) if !stack.caps().accepts => assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e}"),
                Err(e) => told(&e),
            }
            match engine.open(&stack, contact).deadline(LONG).wait() {
                Ok(h) => drop(h.close().mode(xio_core::CloseMode::Abort).wait()),
                Err(e) => told(&e),
            }
            ends += 1;
        }
        assert!(ends > 5, "{name}: no contact could be read");
    }
    drop(engine);
    std::fs::remove_dir_all(&home).unwrap();
}

/// EVPath's zplenet wakes 10,000 times a second while nothing happens.
#[test]
fn an_idle_server_has_nothing_to_wake_for() {
    let home = std::env::temp_dir().join(format!("xio-idle-{}", std::process::id()));
    let registry = Registry::with_defaults();
    for (spec, contact) in [
        ("tcp", "127.0.0.1:0"),
        ("queue/frame/tcp", "127.0.0.1:0"),
        ("udp", "127.0.0.1:0"),
        ("loop", ""),
        ("shm", home.to_str().unwrap()),
        ("pick{a: tcp, b: tcp}", "{a: 127.0.0.1:0, b: 127.0.0.1:0}"),
    ] {
        // Nobody but this test turns it, so what it would wake for stays there to be seen.
        let engine = Engine::builder().owner_driven().build().unwrap();
        let contact = if contact.is_empty() { Contact::None } else { contact.parse().unwrap() };
        let server = engine.listen(&registry.stack(spec).unwrap(), contact).wait().unwrap();
        server.accept().then(|_| ());
        // Once for what the start left to do.
        engine.turn(Some(std::time::Duration::ZERO));
        assert_eq!(engine.next_deadline(), None, "{spec}");
        server.close().unwrap();
    }
}

/// Globus XIO must not unload a driver while a handle is open, and has four tests of what happens then.
#[test]
fn handles_outlive_the_registry_and_the_stack_they_come_from() {
    let engine = Engine::new().unwrap();
    let (near, far) = {
        let registry = Registry::with_defaults();
        let stack = registry.stack("queue/frame/loop").unwrap();
        let server = engine.listen(&stack, ()).wait().unwrap();
        let near = engine.open(&stack, server.contact().clone()).wait().unwrap();
        let far = server.accept().wait().unwrap().open().wait().unwrap();
        server.close().unwrap();
        (near, far)
    };
    near.write("still here").wait().unwrap();
    assert_eq!(far.take(99).wait().unwrap().into_bytes(), "still here");
    near.close().wait().unwrap();
    assert_eq!(far.take(99).wait().unwrap_err().kind(), ErrorKind::Eof);
}

/// Globus XIO divides by the width of the range.
#[test]
fn a_port_range_of_one_port_is_that_port() {
    use xio_drivers::tcp;
    let engine = Engine::new().unwrap();
    // Somebody else may take the port between the two.
    let listening = (0..50).find_map(|_| {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = tcp::Options::default().with_port_range(Some(format!("{port}-{port}")));
        let stack = Stack::new(LevelNode::new(tcp::driver()).with_attr(Box::new(options))).unwrap();
        let server = engine.listen(&stack, Contact::new("127.0.0.1:0")).wait().ok()?;
        Some((server, port, stack))
    });
    let (server, port, stack) = listening.expect("one of 50 free ports can be listened on");
    assert_eq!(server.contact().text(), Some(format!("127.0.0.1:{port}").as_str()));
    // It is taken now, and that is said.
    let e = engine.listen(&stack, Contact::new("127.0.0.1:0")).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrInUse);
}
