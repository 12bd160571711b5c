//! Host and port, as `tcp` reads them in contacts and options.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use xio_core::attr::Attr;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Contact, Engine, ErrorKind, LevelNode, Stack};
use xio_drivers::tcp::{self, Options};

use crate::Target;
use crate::input::Input;

pub(crate) const TARGET: Target =
    Target { name: "address", body: run, covers: &["drivers/src/net.rs"], fault: "a port may have zeros in front" };

/// What the standard library reads as an address, an open or a listen reads as the same one, and as no other;
/// a refused text says at which byte. A server's contact can be connected to.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let listens = input.rarely(4);
    let opens = input.rarely(4);
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let contact = Contact::new(text);
    let checked = Options::default().check_contact(&contact);
    if let Err(e) = &checked {
        assert_eq!(e.kind(), ErrorKind::InvalidContact, "{e}");
    }
    match text.parse::<SocketAddr>() {
        // The library reads zeros in front, too, of a port and of a scope.
        Ok(a) if !text.contains("%0") && text.ends_with(&format!(":{}", a.port())) => {
            assert!(checked.is_ok(), "{a}: {checked:?}")
        }
        Ok(_) if !text.contains('%') => assert!(checked.is_err(), "{text}"),
        Ok(_) => {}
        // Its own form may only differ where the system's has more: names, scopes, a port alone.
        Err(_) if checked.is_ok() => {
            let (_, port) = text.rsplit_once(':').unwrap_or(("", "0"));
            let plain = port.parse::<u16>().is_ok_and(|n| n.to_string() == port);
            assert!(plain || text.parse::<IpAddr>().is_ok() || text.ends_with(']') || !text.contains(':'), "{text}");
        }
        Err(_) => {}
    }
    let bound = Options::default().with_bind(Some(text.to_owned()));
    let ranged = Options::default().with_port_range(Some(text.to_owned()));
    if ranged.check().is_ok() {
        let (first, last) = text.split_once('-').expect("a range");
        assert!(first.parse::<u16>().unwrap() <= last.parse::<u16>().unwrap(), "{text}");
    }
    // Of other addresses the system would have to be asked.
    if checked.is_ok() && ["127.0.0.1:", "[::1]:", "[::]:", "localhost:"].iter().any(|own| text.starts_with(own)) {
        let stack = Stack::new(LevelNode::new(tcp::driver())).unwrap();
        assert_ne!(stack.is_self(&contact), Some(true), "nobody listens");
    }
    if listens {
        for options in [Options::default(), bound.clone(), ranged.clone()] {
            listen(options, if text.contains('-') { Contact::None } else { contact.clone() });
        }
    }
    if opens {
        for options in [Options::default(), bound, ranged] {
            open(&options, &contact);
            open(&options, &Contact::new("10.0.0.9:7"));
        }
    }
}

fn listen(options: Options, at: Contact) {
    let Some((_sim, engine, stack)) = bed(&options) else { return };
    let Ok(server) = engine.listen(&stack, at).deadline(Duration::from_secs(1)).wait() else { return };
    let there = server.contact().clone();
    Options::default().check_contact(&there).unwrap_or_else(|e| panic!("{there}: {e}"));
    let plain = Stack::new(LevelNode::new(tcp::driver())).unwrap();
    let to = there.text().expect("a server is somewhere");
    let address: SocketAddr = to.parse().unwrap_or_else(|_| panic!("`{to}` is no address"));
    if !address.ip().is_unspecified() {
        let client = engine.open(&plain, there.clone()).deadline(Duration::from_secs(300)).wait();
        if let Ok(client) = client {
            let link = server.accept().wait().expect("who connects is accepted");
            assert_eq!(*link.local(), there);
            assert_eq!(client.same_peer(&there), Some(true));
            client.close().abort().wait().unwrap();
        }
    }
    server.close().unwrap();
}

fn open(options: &Options, to: &Contact) {
    let Some((_sim, engine, stack)) = bed(options) else { return };
    let e = engine.open(&stack, to.clone()).deadline(Duration::from_secs(1)).wait().map(drop);
    let e = e.expect_err("nobody listens");
    assert!(!matches!(e.kind(), ErrorKind::Contract | ErrorKind::Panicked | ErrorKind::Stopped), "{e}");
}

fn bed(options: &Options) -> Option<(std::sync::Arc<Sim>, Engine, Stack)> {
    let stack = Stack::new(LevelNode::new(tcp::driver()).with_attr(Box::new(options.clone()))).ok()?;
    let sim = Sim::with_config(1, SimConfig::calm());
    let engine = Engine::builder().reactor(sim.clone()).build().expect("an engine");
    Some((sim, engine, stack))
}
