//! Groups and broadcasts, over the loopback device.

use xio_core::attr::Peer;
use xio_core::{Contact, Engine, ErrorKind};
use xio_drivers::udp::Options;

use crate::fixture::*;

fn port(h: &xio_core::Handle) -> u16 {
    local(h).text().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

/// A device that groups reach; the loopback one hears itself whatever it is told.
fn device() -> Option<String> {
    let flags = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/class/net/{name}/flags")).ok()?;
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    // Up, no loopback, multicast (`IFF_UP`, `IFF_LOOPBACK`, `IFF_MULTICAST`).
    let fits = |name: &String| flags(name).is_some_and(|f| f & 0x1009 == 0x1001);
    let all = std::fs::read_dir("/sys/class/net").ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    all.into_iter().find(fits)
}

#[test]
fn a_group_is_joined_and_everyone_in_it_hears() {
    let engine = Engine::new().unwrap();
    let real = device();
    let mut groups = vec![("239.77.1.2", "0.0.0.0", "lo")];
    match &real {
        // No route for groups of IPv6 leads to the loopback device.
        Some(dev) => groups.push(("ff11::7712", "[::]", dev)),
        None => eprintln!("SKIPPED: no device for groups, so IPv6 groups were not tried"),
    }
    for (group, all, dev) in groups {
        let o = Options::default().with_interface(Some(dev.into())).with_reuse(true);
        let member = stack_with(o.clone().with_join(vec![group.into()]));
        let a = open(&engine, &member, Contact::new(format!("{all}:0")));
        let to = std::net::SocketAddr::new(group.parse().unwrap(), port(&a));
        let b = open(&engine, &member, Contact::new(format!("{all}:{}", to.port())));
        let sender = open(&engine, &stack_with(o.with_group_ttl(Some(0)).with_group_loop(Some(true))), to);
        write(&sender, "all of you");
        for h in [&a, &b] {
            let (data, from) = read_from(h);
            assert_eq!(data, b"all of you");
            assert!(from.text().unwrap().ends_with(&format!(":{}", port(&sender))), "{from}");
        }
    }
}

#[test]
fn without_loop_nobody_here_hears() {
    let Some(dev) = device() else {
        eprintln!("SKIPPED: no device for groups, so `group_loop=false` was not tried");
        return;
    };
    let engine = Engine::new().unwrap();
    let o = Options::default().with_interface(Some(dev)).with_group_ttl(Some(0));
    let member = open(&engine, &stack_with(o.clone().with_join(vec!["239.77.1.3".into()])), Contact::new("0.0.0.0:0"));
    let to = std::net::SocketAddr::from(([239, 77, 1, 3], port(&member)));
    let silent = open(&engine, &stack_with(o.clone().with_group_loop(Some(false))), to);
    let loud = open(&engine, &stack_with(o), to);
    write(&silent, "unheard");
    write(&loud, "heard");
    assert_eq!(read_from(&member).0, b"heard");
}

#[test]
fn broadcasts_have_to_be_allowed() {
    let engine = Engine::new().unwrap();
    let hears = open(&engine, &stack(), Contact::new("0.0.0.0:0"));
    let to = Peer(Contact::new(format!("127.255.255.255:{}", port(&hears))));
    let h = open(&engine, &stack(), Contact::new("0.0.0.0:0"));
    let e = h.write("x").attr(to.clone()).deadline(SOON).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied);
    let h = open(&engine, &stack_with(Options::default().with_broadcast(true)), Contact::new("0.0.0.0:0"));
    h.write("everyone").attr(to).deadline(SOON).wait().unwrap();
    assert_eq!(read_from(&hears).0, b"everyone");
}
