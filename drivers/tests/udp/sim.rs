//! A network that loses, doubles, reorders and cuts off; floods of forged senders; time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Contact, Engine, ErrorKind, Handle, Server};
use xio_drivers::udp::{Counts, Options};

use crate::fixture::stack_with;

const AT: &str = "10.0.0.1:7000";

fn world(seed: u64, config: SimConfig) -> (Arc<Sim>, Engine) {
    let sim = Sim::with_config(seed, config);
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    (sim, engine)
}

/// Both ends of a link, the far one free to speak.
fn pair(sim: &Sim, engine: &Engine, options: Options) -> (Handle, Handle, Server) {
    let stack = stack_with(options.with_greet(true).with_amplify(0));
    let server = engine.listen(&stack, Contact::new(AT)).wait().unwrap();
    let far = Arc::new(Mutex::new(None));
    let tell = far.clone();
    server.accept().then(move |link| {
        link.unwrap().open().then(move |h| *tell.lock().unwrap() = Some(h.unwrap()));
    });
    let near = engine.open(&stack, server.contact()).wait().unwrap();
    // A greeting may be lost.
    while !sim.run_until(engine, || far.lock().unwrap().is_some()) {
        near.write("").wait().unwrap();
    }
    let far = far.lock().unwrap().take().unwrap();
    (near, far, server)
}

/// What reads came to.
type Heard = Arc<Mutex<Vec<Result<Vec<u8>, ErrorKind>>>>;

/// Has everything read that comes.
fn hear(h: &Handle, got: &Heard) {
    let (next, told) = (h.clone(), got.clone());
    h.take(65_536).then(move |r| {
        let r = r.map(|d| d.into_bytes().to_vec()).map_err(|f| f.kind());
        let over = matches!(r, Err(e) if !matches!(e, ErrorKind::Truncated { .. } | ErrorKind::Refused));
        told.lock().unwrap().push(r);
        if !over {
            hear(&next, &told);
        }
    });
}

/// What came of `count` numbered datagrams, the longest first, and the fingerprint of the run.
fn numbered(seed: u64, config: SimConfig, count: u32) -> (Vec<u32>, usize, u64) {
    let (sim, engine) = world(seed, config);
    let (near, far, _server) = pair(&sim, &engine, Options::default());
    let got = Heard::default();
    hear(&far, &got);
    for i in 0..count {
        near.write(Bytes::copy_from_slice(&i.to_be_bytes())).wait().unwrap();
    }
    sim.run_for(&engine, Duration::from_secs(10));
    let got = got.lock().unwrap();
    let whole = got.iter().flatten().filter_map(|b| Some(u32::from_be_bytes(b.as_slice().try_into().ok()?)));
    let cut = got.iter().filter(|r| matches!(r, Err(ErrorKind::Truncated { len: 4 }))).count();
    (whole.collect(), cut, sim.hash())
}

#[test]
fn a_calm_network_keeps_all_in_order() {
    let (got, cut, _) = numbered(1, SimConfig::default(), 500);
    assert!(got == (0..500).collect::<Vec<_>>() && cut == 0);
}

#[test]
fn a_bad_network_loses_doubles_and_reorders_the_same_way_each_time() {
    for seed in 0..5 {
        let config = SimConfig::default().with_datagrams(0.1, 0.1, 0.3);
        let (got, cut, hash) = numbered(seed, config.clone(), 500);
        let once: BTreeSet<u32> = got.iter().copied().collect();
        assert!(once.len() < 490 && once.len() > 350, "{} came", once.len());
        assert!(got.len() > once.len() && !got.is_sorted() && cut == 0);
        assert!(once.iter().all(|i| *i < 500), "something came that nobody sent");
        assert_eq!(numbered(seed, config, 500).2, hash);
    }
}

#[test]
fn what_the_system_cuts_off_is_told_with_its_real_length() {
    let (got, cut, _) = numbered(3, SimConfig::calm().with_cut(0.5), 200);
    assert!(cut > 50 && got.len() > 50 && got.len() + cut == 200, "{} whole, {cut} cut", got.len());
}

/// Memory: what the server holds is `links` peers and their `early` bytes, whoever sends.
#[test]
fn a_million_forged_senders_leave_a_server_as_it_was() {
    let (sim, engine) = world(1, SimConfig::calm());
    let options = Options::default().with_links(100).with_backlog(50).with_idle(Duration::ZERO);
    let server = engine.listen(&stack_with(options), Contact::new(AT)).wait().unwrap();
    let to: SocketAddr = AT.parse().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let kept = Arc::new(Mutex::new(Vec::new()));
    accept_all(&server, &accepted, &kept);
    for round in 0..2000u32 {
        for i in 0..500 {
            let n = round * 500 + i;
            let from = SocketAddr::from((std::net::Ipv4Addr::from(0x0b00_0000 + n), 1000 + (n % 60_000) as u16));
            sim.forge(from, to, b"let me in");
        }
        sim.run(&engine);
        let counts = server.query(Counts).unwrap();
        assert!(counts.live <= 100 && counts.bytes <= 100 * 64 * 1024, "{counts:?}");
    }
    let counts = server.query(Counts).unwrap();
    assert_eq!((counts.links, counts.live, accepted.load(Ordering::Relaxed)), (100, 100, 100));
    assert_eq!(counts.refused, 1_000_000 - 100);
    // A link that ends makes room for a new one.
    kept.lock().unwrap().pop();
    sim.forge("12.0.0.1:1".parse().unwrap(), to, b"and me");
    sim.run(&engine);
    assert_eq!(server.query(Counts).unwrap().links, 101);
}

fn accept_all(server: &Server, count: &Arc<AtomicUsize>, kept: &Arc<Mutex<Vec<Handle>>>) {
    let (again, n, keep) = (server.clone(), count.clone(), kept.clone());
    server.accept().then(move |link| {
        let Ok(link) = link else { return };
        n.fetch_add(1, Ordering::Relaxed);
        accept_all(&again, &n, &keep);
        link.open().then(move |h| keep.lock().unwrap().extend(h));
    });
}

#[test]
fn silent_links_end_and_others_do_not() {
    let (sim, engine) = world(1, SimConfig::calm());
    let (near, far, server) = pair(&sim, &engine, Options::default().with_idle(Duration::from_secs(10)));
    let got = Heard::default();
    hear(&far, &got);
    for _ in 0..10 {
        sim.run_for(&engine, Duration::from_secs(4));
        near.write("still here").wait().unwrap();
    }
    sim.run_for(&engine, Duration::from_secs(1));
    assert_eq!(got.lock().unwrap().len(), 10);
    sim.run_for(&engine, Duration::from_secs(20));
    assert_eq!(got.lock().unwrap().last(), Some(&Err(ErrorKind::TimedOut)));
    assert_eq!(server.query(Counts).unwrap().expired, 1);
    drop(far);
    sim.run_for(&engine, Duration::from_secs(1));
    assert_eq!(server.query(Counts).unwrap().live, 0);
}

#[test]
fn what_lies_unread_keeps_a_link_open() {
    let (sim, engine) = world(1, SimConfig::calm());
    let (near, far, _server) = pair(&sim, &engine, Options::default().with_idle(Duration::from_secs(10)));
    for _ in 0..10 {
        sim.run_for(&engine, Duration::from_secs(4));
        near.write("unread").wait().unwrap();
    }
    let first = far.take(100).deadline(Duration::from_secs(1)).wait().unwrap();
    assert_eq!(&first.into_bytes()[..], b"unread");
}

#[test]
fn links_that_nobody_accepts_in_time_are_given_up() {
    let (sim, engine) = world(1, SimConfig::calm());
    let options = Options::default().with_idle(Duration::from_secs(10));
    let server = engine.listen(&stack_with(options), Contact::new(AT)).wait().unwrap();
    for i in 1..=3u8 {
        sim.forge(SocketAddr::from(([11, 0, 0, i], 9)), AT.parse().unwrap(), b"hello");
    }
    let link = server.accept().deadline(Duration::from_secs(1)).wait().unwrap();
    // It fetches what its peer sent early, and with it what the others sent.
    let opened = link.open().deadline(Duration::from_secs(1)).wait().unwrap();
    let counts = server.query(Counts).unwrap();
    assert_eq!((counts.links, counts.live, counts.bytes), (3, 3, 128));
    sim.run_for(&engine, Duration::from_secs(30));
    let counts = server.query(Counts).unwrap();
    assert_eq!((counts.expired, counts.live, counts.bytes), (3, 1, 0));
    assert_eq!(
        server.accept().deadline(Duration::from_secs(1)).wait().map(drop).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    drop(opened);
}

#[test]
fn a_datagram_that_finds_nobody_comes_back() {
    let (sim, engine) = world(1, SimConfig::calm());
    let h = engine.open(&stack_with(Options::default()), Contact::new("10.0.0.9:9")).wait().unwrap();
    h.write("anybody?").wait().unwrap();
    let f = h.take(10).deadline(Duration::from_secs(1)).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::Refused);
    let f = h.take(10).deadline(Duration::from_secs(1)).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::TimedOut);
    h.write("anybody?").wait().unwrap();
    sim.unroutable("10.0.0.9".parse().unwrap());
    h.write("lost").wait().unwrap();
}

#[test]
fn a_link_that_opens_while_its_server_closes_leaves_no_socket() {
    for steps in 0..12 {
        let (sim, engine) = world(7, SimConfig::calm());
        let server = engine.listen(&stack_with(Options::default()), Contact::new(AT)).wait().unwrap();
        sim.forge("11.0.0.1:1".parse().unwrap(), AT.parse().unwrap(), b"x");
        let link = server.accept().deadline(Duration::from_secs(1)).wait().unwrap();
        link.open().then(drop);
        for _ in 0..steps {
            engine.turn(Some(Duration::ZERO));
        }
        server.close().unwrap();
        drop(server);
        sim.run(&engine);
        assert_eq!(sim.sockets(), 0, "after {steps} turns");
    }
}
