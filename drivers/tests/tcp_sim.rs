//! All of `tcp` in a simulated network: races of addresses, cancel and deadline while connecting,
//! failing accepts, options as the sockets got them. Virtual time makes every wait exact.
#![cfg(feature = "tcp")]

use std::future::{Future, IntoFuture};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::{Attr, Size};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{GetOption, LocalContact, PathInfo, RemoteContact, SetOption};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::io::{Direction, Keepalive};
use xio_core::op::{Flow, Listen, Open};
use xio_core::reactor::{AcceptFault, Sim, SimConfig};
use xio_core::schema::Value;
use xio_core::{Contact, Cx, Engine, Error, ErrorKind, Handle, Level, LevelNode, Op, Server, Stack};
use xio_drivers::tcp::{self, Fd, Options};

/// The server that most tests talk to.
const AT: &str = "10.0.0.1:7000";
/// One way in a calm network; a connection takes two.
const WAY: Duration = Duration::from_millis(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn stack_with(options: Options) -> Stack {
    Stack::new(LevelNode::new(tcp::driver()).with_attr(Box::new(options))).unwrap()
}

fn stack() -> Stack {
    stack_with(Options::default())
}

fn world(seed: u64) -> (Arc<Sim>, Engine) {
    let sim = Sim::with_config(seed, SimConfig::calm());
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    (sim, engine)
}

fn listen(engine: &Engine, at: &str) -> Server {
    engine.listen(&stack(), Contact::new(at)).wait().unwrap()
}

fn pair(engine: &Engine) -> (Server, Handle, Handle) {
    let server = listen(engine, AT);
    let a = engine.open(&stack(), Contact::new(AT)).wait().unwrap();
    let b = server.accept().wait().unwrap().open().wait().unwrap();
    (server, a, b)
}

/// Virtual time that `f` takes.
fn took<T>(sim: &Sim, f: impl FnOnce() -> T) -> (T, Duration) {
    let began = sim.time();
    let out = f();
    (out, sim.time().since(began))
}

fn open(engine: &Engine, to: &str) -> Result<Handle, Error> {
    engine.open(&stack(), Contact::new(to)).wait()
}

fn peer(h: &Handle) -> String {
    h.query(RemoteContact).unwrap().to_string()
}

#[test]
fn bytes_arrive_in_order_whatever_the_network_does() {
    for seed in 0..20 {
        let config =
            if seed % 5 == 4 { SimConfig::calm().with_one_byte() } else { SimConfig::default().with_buffer(4096) };
        let sim = Sim::with_config(seed, config);
        let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
        let (_server, a, b) = pair(&engine);
        let data: Vec<u8> = (0..20_000u32).map(|i| ((i * i) >> 3) as u8).collect();
        let (tx, rx) = mpsc::channel();
        let done = tx.clone();
        a.write(data.clone()).then(move |r| done.send(r.unwrap().n).unwrap());
        let end = a.clone();
        b.read(BytesMut::with_capacity(20_000)).wait_for(20_000).then(move |r| {
            assert!(r.unwrap().buf == data);
            tx.send(0).unwrap();
            end.shutdown().then(|r| r.unwrap());
        });
        sim.run(&engine);
        let mut got: Vec<_> = rx.try_iter().collect();
        got.sort_unstable();
        assert_eq!(got, [0, 20_000]);
        assert_eq!(b.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
        assert!(a.query(PathInfo).unwrap().min_rtt.is_some());
    }
}

#[test]
fn a_numeric_address_takes_one_round_trip() {
    let (sim, engine) = world(1);
    let server = listen(&engine, AT);
    let (h, t) = took(&sim, || open(&engine, AT).unwrap());
    assert_eq!((t, peer(&h)), (2 * WAY, AT.into()));
    let mut link = server.accept().wait().unwrap();
    assert_eq!(link.cntl(None, LocalContact).unwrap(), Contact::new(AT));
    assert_eq!(link.cntl(None, RemoteContact).unwrap(), h.query(LocalContact).unwrap());
    assert!(link.cntl(None, PathInfo).is_ok());
    assert!(link.cntl(None, GetOption("bind".into())).is_err());
    assert_eq!(open(&engine, "10.0.0.1:7001").unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn a_silent_first_address_costs_a_quarter_of_a_second() {
    let (sim, engine) = world(2);
    let _server = listen(&engine, AT);
    sim.host("svc", [ip("fd00::1"), ip("10.0.0.1")]);
    sim.unroutable(ip("fd00::1"));
    let (h, t) = took(&sim, || open(&engine, "svc:7000").unwrap());
    assert_eq!((t, peer(&h)), (ms(250) + 2 * WAY, AT.into()));
    // Server, client, accepted: the attempt that lost is gone.
    assert_eq!(sim.sockets(), 3);
    assert_eq!(h.same_peer(&Contact::new("svc:7000")), Some(true));
    assert_eq!(h.same_peer(&Contact::new(AT)), Some(true));
    assert_eq!(h.same_peer(&Contact::new("other:7000")), None);
    assert_eq!(h.same_peer(&Contact::new("10.0.0.2:7000")), Some(false));
}

#[test]
fn a_refusal_starts_the_next_attempt_at_once() {
    let (sim, engine) = world(3);
    let _server = listen(&engine, AT);
    sim.host("svc", [ip("10.0.0.9"), ip("10.0.0.8"), ip("10.0.0.1")]);
    let (h, t) = took(&sim, || open(&engine, "svc:7000").unwrap());
    // Two refusals and a connection, a round trip each.
    assert_eq!((t, peer(&h)), (6 * WAY, AT.into()));
}

#[test]
fn families_take_turns_and_attempts_overlap() {
    let (sim, engine) = world(4);
    sim.host("svc", ["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"].map(ip));
    for a in ["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"] {
        sim.unroutable(ip(a));
    }
    let (tx, rx) = mpsc::channel();
    engine.open(&stack(), Contact::new("svc:7000")).deadline(ms(900)).then(move |r| tx.send(r.unwrap_err()).unwrap());
    for (t, sockets) in [(1, 1), (248, 1), (1, 2), (250, 3), (250, 4)] {
        sim.run_for(&engine, ms(t));
        assert_eq!(sim.sockets(), sockets, "at {}", sim.time());
    }
    sim.run_for(&engine, ms(149));
    assert!(rx.try_recv().is_err());
    sim.run_for(&engine, ms(1));
    let e = rx.try_recv().unwrap();
    assert_eq!((e.kind(), sim.sockets()), (ErrorKind::TimedOut, 0));
    let tried = "no answer from [fd00::1]:7000, 10.0.0.1:7000, [fd00::2]:7000, 10.0.0.2:7000";
    assert!(e.to_string().contains(&format!("tcp: open: timed out: `svc:7000`: {tried}")), "{e}");
}

#[test]
fn when_all_fail_the_last_error_lists_them() {
    let (sim, engine) = world(5);
    sim.host("svc", [ip("fd00::1"), ip("10.0.0.1")]);
    sim.unroutable(ip("fd00::1"));
    let (e, t) = took(&sim, || open(&engine, "svc:7000").unwrap_err());
    // The refused one fails in a moment, the silent one after the system gives up.
    assert_eq!((e.kind(), t), (ErrorKind::TimedOut, Duration::from_secs(127) + WAY));
    let list = "`svc:7000`: 10.0.0.1:7000 (connection refused), [fd00::1]:7000 (timed out)";
    assert!(e.to_string().contains(list), "{e}");
    assert_eq!(sim.sockets(), 0);

    sim.host("void", []);
    let e = open(&engine, "void:1").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Resolve);
    assert!(e.to_string().contains("`void:1`: the name has no address"), "{e}");
    let e = open(&engine, "nowhere:1").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Resolve);
    assert!(e.to_string().contains("`nowhere:1`") && e.to_string().contains("no host `nowhere`"), "{e}");

    // Addresses that no local address fits are no attempts.
    let bound = stack_with(Options::default().with_bind(Some("10.0.0.5".into())));
    let e = engine.open(&bound, Contact::new("svc:7000")).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("[fd00::1]:7000 (address not available"), "{e}");
    sim.host("six", [ip("fd00::1")]);
    let e = engine.open(&bound, Contact::new("six:7000")).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_deadline_or_a_dropped_future_ends_every_attempt() {
    let (sim, engine) = world(6);
    sim.unroutable(ip("10.0.0.1"));
    sim.host("svc", [ip("10.0.0.1"), ip("fd00::1")]);
    // One address, no race.
    let (e, t) = took(&sim, || engine.open(&stack(), Contact::new(AT)).deadline(ms(100)).wait().unwrap_err());
    assert_eq!((e.kind(), t, sim.sockets()), (ErrorKind::TimedOut, ms(100), 0));
    // A race in which one has failed and one is silent.
    let call = engine.open(&stack(), Contact::new("svc:7000")).deadline(ms(300));
    let (e, t) = took(&sim, || call.wait().unwrap_err());
    assert_eq!((e.kind(), t), (ErrorKind::TimedOut, ms(300)));
    let text = "no answer from 10.0.0.1:7000; failed: [fd00::1]:7000 (connection refused)";
    assert!(e.to_string().contains(text), "{e}");
    assert_eq!(sim.sockets(), 0);
    // A future that is dropped.
    for to in ["svc:7000", AT] {
        let mut f = engine.open(&stack(), Contact::new(to)).into_future();
        assert!(poll(f.as_mut()).is_pending());
        sim.run_for(&engine, ms(10));
        assert_eq!(sim.sockets(), 1, "{to}");
        drop(f);
        sim.run_for(&engine, ms(1));
        assert_eq!((sim.sockets(), engine.handles()), (0, 0), "{to}");
    }
}

fn poll<F: Future + ?Sized>(f: Pin<&mut F>) -> Poll<F::Output> {
    f.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn out_of_descriptors_accepts_wait_longer_and_longer_and_go_on() {
    let (sim, engine) = world(7);
    let server = listen(&engine, AT);
    let (tx, rx) = mpsc::channel();
    server.accept().then(move |l| tx.send(l.unwrap().peer().clone()).unwrap());
    sim.fail_accepts(8, AcceptFault::TooManyFiles);
    let began = sim.time();
    let client = open(&engine, AT).unwrap();
    // Eight failures: 50, 100, 200, 400, 800 ms, then every second.
    let end = WAY + ms(50 + 100 + 200 + 400 + 800 + 3 * 1000);
    sim.run_for(&engine, end - sim.time().since(began) - ms(1));
    assert!(rx.try_recv().is_err());
    sim.run_for(&engine, ms(1));
    assert_eq!(rx.try_recv().unwrap(), client.query(LocalContact).unwrap());
    // It has recovered: the next waits for nothing, and the next trouble starts from the bottom.
    sim.fail_accepts(1, AcceptFault::TooManyFiles);
    let _client = open(&engine, AT).unwrap();
    let (_, t) = took(&sim, || server.accept().wait().unwrap());
    assert_eq!(t, ms(50));
    // Accepts that wait can be stopped meanwhile, and closed.
    sim.fail_accepts(3, AcceptFault::TooManyFiles);
    let _client = open(&engine, AT).unwrap();
    let (e, t) = took(&sim, || server.accept().deadline(ms(70)).wait().unwrap_err());
    assert_eq!((e.kind(), t), (ErrorKind::TimedOut, ms(70)));
    let (link, t) = took(&sim, || server.accept().wait());
    assert!(link.is_ok() && t > Duration::ZERO && t < ms(500), "{t:?}");
    sim.fail_accepts(1, AcceptFault::TooManyFiles);
    let (tx, rx) = mpsc::channel();
    let _client = open(&engine, AT).unwrap();
    server.accept().then(move |l| tx.send(l.unwrap_err().kind()).unwrap());
    server.close().unwrap();
    sim.run(&engine);
    assert_eq!(rx.try_recv().unwrap(), ErrorKind::Cancelled);
}

#[test]
fn connections_that_fail_never_end_an_accept() {
    let (sim, engine) = world(8);
    let server = listen(&engine, AT);
    sim.fail_accepts(40, AcceptFault::Aborted);
    let clients: Vec<_> = (0..41).map(|_| open(&engine, AT).unwrap()).collect();
    let (link, t) = took(&sim, || server.accept().wait().unwrap());
    assert_eq!(*link.peer(), clients[40].query(LocalContact).unwrap());
    // Sixteen at once; from then on it does not hurry.
    assert!(t >= ms(50) && t < Duration::from_secs(40), "{t:?}");
    sim.fail_accepts(3, AcceptFault::Aborted);
    let _more: Vec<_> = (0..4).map(|_| open(&engine, AT).unwrap()).collect();
    let (_, t) = took(&sim, || server.accept().wait().unwrap());
    assert_eq!(t, Duration::ZERO);
}

#[test]
fn waiting_accepts_are_served_in_order_and_survive_each_others_end() {
    let (sim, engine) = world(9);
    let server = listen(&engine, AT);
    let got = Arc::new(Mutex::new(Vec::new()));
    let accept = |i: u32| {
        let got = got.clone();
        server.accept().then(move |l| got.lock().unwrap().push((i, l.map_err(|e| e.kind()).map(|l| l.peer().clone()))))
    };
    let tickets: Vec<_> = (0..4).map(accept).collect();
    tickets[0].cancel();
    tickets[2].cancel();
    let a = open(&engine, AT).unwrap().query(LocalContact).unwrap();
    let b = open(&engine, AT).unwrap().query(LocalContact).unwrap();
    sim.run(&engine);
    let want = [(0, Err(ErrorKind::Cancelled)), (2, Err(ErrorKind::Cancelled)), (1, Ok(a)), (3, Ok(b))];
    assert_eq!(*got.lock().unwrap(), want);
    // All gone: the next one asks anew.
    accept(4).cancel();
    let c = open(&engine, AT).unwrap();
    assert_eq!(*server.accept().wait().unwrap().peer(), c.query(LocalContact).unwrap());
    drop(server);
    sim.run(&engine);
    assert_eq!(open(&engine, AT).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn sockets_get_the_options_of_their_stack() {
    let (sim, engine) = world(10);
    let s = Duration::from_secs;
    let o = Options::default()
        .with_nodelay(true)
        .with_keepalive(Some(s(60)))
        .with_keepalive_count(Some(3))
        .with_sndbuf(Some(Size(4096)))
        .with_dscp(Some(46))
        .with_reuse(false)
        .with_backlog(7)
        .with_port_range(Some("5000-5001".into()));
    let server = engine.listen(&stack_with(o.clone()), Contact::new("10.0.0.1:0")).wait().unwrap();
    assert_eq!(server.contact().to_string(), "10.0.0.1:5000");
    let listening = sim.options_of(server.contact()).unwrap();
    assert_eq!((listening.backlog, listening.reuse, listening.dscp), (7, false, Some(46)));
    let second = engine.listen(&stack_with(o.clone()), Contact::new("10.0.0.1:0")).wait().unwrap();
    assert_eq!(second.contact().to_string(), "10.0.0.1:5001");
    let e = engine.listen(&stack_with(o.clone()), Contact::new("10.0.0.1:0")).wait().unwrap_err();
    assert!(e.to_string().contains("no port of 5000-5001 is free"), "{e}");
    let e = engine.listen(&stack(), Contact::new("10.0.0.1:5001")).wait().unwrap_err();
    assert!(e.to_string().contains("somebody listens there"), "{e}");

    let client = stack_with(o.with_bind(Some("10.0.0.2".into())));
    let h = engine.open(&client, server.contact()).wait().unwrap();
    let local = h.query(LocalContact).unwrap();
    assert_eq!(local.to_string(), "10.0.0.2:5000");
    for got in [sim.options_of(&local).unwrap(), sim.options_towards(server.contact()).unwrap()] {
        assert!(got.nodelay);
        assert_eq!(got.keepalive, Some(Keepalive { idle: s(60), interval: None, count: Some(3) }));
        assert_eq!(got.send_buffer, Some(4096));
    }
    let accepted = server.accept().wait().unwrap().open().wait().unwrap();
    assert!(sim.options_towards(&local).unwrap().nodelay);
    let set = |h: &Handle, name: &str, value| h.cntl("tcp", SetOption(name.into(), value));
    set(&h, "nodelay", Value::Bool(false)).unwrap();
    set(&h, "rcvbuf", Value::Size(8192)).unwrap();
    set(&h, "notsent_lowat", Value::Size(1024)).unwrap();
    set(&h, "spin", Value::Duration(s(1))).unwrap();
    let got = sim.options_of(&local).unwrap();
    assert_eq!((got.nodelay, got.recv_buffer, got.notsent_lowat, got.spin), (false, Some(8192), Some(1024), s(1)));
    assert_eq!(h.cntl("tcp", GetOption("nodelay".into())).unwrap(), Some(Value::Bool(false)));
    assert_eq!(set(&h, "backlog", Value::Int(5)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(set(&h, "backlog", Value::Int(0)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(set(&h, "none", Value::Int(0)).unwrap_err().kind(), ErrorKind::UnsupportedCommand);
    set(&accepted, "nodelay", Value::Bool(false)).unwrap();
    // On a server, for what it accepts from then on.
    server.cntl("tcp", SetOption("nodelay".into(), Value::Bool(false))).unwrap();
    let third = open(&engine, "10.0.0.1:5000").unwrap();
    let _link = server.accept().wait().unwrap();
    assert!(!sim.options_towards(third.query(LocalContact).unwrap()).unwrap().nodelay);
    // No port is left for another client.
    let free = engine.open(&client, second.contact()).wait().unwrap();
    assert_eq!(free.query(LocalContact).unwrap().to_string(), "10.0.0.2:5001");
    let e = engine.open(&client, second.contact()).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrInUse);
    assert!(e.to_string().contains("from `bind=10.0.0.2`, a port of `port_range=5000-5001`"), "{e}");
}

#[test]
fn servers_by_name_and_on_all_addresses() {
    let (sim, engine) = world(11);
    sim.host("me", [ip("fd00::1"), ip("10.0.0.1")]);
    let server = engine.listen(&stack(), Contact::new("me:7000")).wait().unwrap();
    assert_eq!(server.contact().to_string(), AT);
    sim.host("void", []);
    for (at, text) in [("void:1", "`void:1`: the name has no address"), ("nowhere:1", "no host `nowhere`")] {
        let e = engine.listen(&stack(), Contact::new(at)).wait().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Resolve);
        assert!(e.to_string().contains(text), "{e}");
    }
    let any = engine.listen(&stack(), Contact::new(":8000")).wait().unwrap();
    assert!(any.contact().text().is_some_and(|t| t.ends_with(":8000") && !t.starts_with("[::]")), "{any:?}");
    assert_eq!(any.query(LocalContact).unwrap(), *any.contact());
    open(&engine, "[::1]:8000").unwrap();
    let e = engine.listen(&stack(), Contact::new("10.0.0.1:x")).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidContact);

    // A simulated engine takes unix sockets in, no others.
    let [a, b] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let with = |fd| stack_with(Options::default().with_fd(Some(fd)));
    let (given, taken) = (with(Fd::new(a)), with(Fd::new(b)));
    for (e, kind) in [
        (engine.open(&given, Contact::new(AT)).wait().unwrap_err(), ErrorKind::InvalidContact),
        (engine.open(&given, ()).wait().unwrap_err(), ErrorKind::Io),
        (engine.open(&given, ()).wait().unwrap_err(), ErrorKind::InvalidInput),
        (engine.listen(&taken, Contact::new(AT)).wait().unwrap_err(), ErrorKind::InvalidContact),
        (engine.listen(&taken, ()).wait().unwrap_err(), ErrorKind::Io),
        (engine.listen(&taken, ()).wait().unwrap_err(), ErrorKind::InvalidInput),
    ] {
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains("(`fd`)"), "{e}");
    }
}

#[test]
fn ends_of_a_connection() {
    let (sim, engine) = world(12);
    let (_server, a, b) = pair(&engine);
    a.ready(Direction::Write).wait().unwrap();
    let e = a.ready(Direction::Read).deadline(ms(5)).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
    b.write("last words").wait().unwrap();
    b.shutdown().wait().unwrap();
    a.ready(Direction::Read).wait().unwrap();
    assert_eq!(a.take(100).wait_for(10).wait().unwrap().into_bytes(), "last words");
    assert_eq!(a.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
    a.write("still").wait().unwrap();
    assert_eq!(b.take(100).wait_for(5).wait().unwrap().into_bytes(), "still");
    a.close().wait().unwrap();
    assert_eq!(b.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
    b.close().wait().unwrap();
    assert_eq!(b.query(RemoteContact).unwrap_err().kind(), ErrorKind::Closed);

    let c = open(&engine, AT).unwrap();
    let d = _server.accept().wait().unwrap().open().wait().unwrap();
    let ends = [d.query(LocalContact).unwrap(), d.query(RemoteContact).unwrap()];
    c.close().abort().wait().unwrap();
    assert_eq!(d.take(1).wait().unwrap_err().kind(), ErrorKind::Reset);
    assert_eq!([d.query(LocalContact).unwrap(), d.query(RemoteContact).unwrap()], ends);
    // Nothing can be ended on a connection that is gone.
    assert_eq!(d.shutdown().wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(d.query(PathInfo).map(|_| ()).map_err(|e| e.kind()), Ok(()));
    drop(d);
    sim.run(&engine);
    assert_eq!(sim.sockets(), 1);
}

/// A level that opens and listens without asking the level below.
#[derive(Debug)]
struct Skip;

const SKIP: Info = Info::new(Options::DRIVER, Shape::Transform, "skips the opening of what is below");

impl Driver for Skip {
    fn info(&self) -> &Info {
        &SKIP
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(below[0].caps.clone())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::OPEN | Intercepts::LISTEN
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Self))
    }
}

impl Level for Skip {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        op.finished()
    }
    fn listen<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Listen>) -> Flow<'o> {
        op.finished()
    }
}

#[test]
fn a_level_without_a_socket_answers_every_op_with_an_error() {
    let (_sim, engine) = world(13);
    let skip = LevelNode::new(Arc::new(Skip)).with_id("skip").over(LevelNode::new(tcp::driver()).with_id("low"));
    let stack = Stack::new(skip).unwrap();
    let h = engine.open(&stack, Contact::new(AT)).wait().unwrap();
    let server = engine.listen(&stack, Contact::new(AT)).wait().unwrap();
    let errors = [
        h.take(1).wait().map(|_| ()).map_err(Error::from),
        h.write("x").wait().map(|_| ()).map_err(Error::from),
        h.ready(Direction::Read).wait(),
        h.query(LocalContact).map(|_| ()),
        h.query(RemoteContact).map(|_| ()),
        h.query(PathInfo).map(|_| ()),
        h.cntl("low", SetOption("nodelay".into(), Value::Bool(true))),
        h.shutdown().wait(),
        server.accept().wait().map(|_| ()),
        server.query(LocalContact).map(|_| ()),
    ];
    for e in errors {
        let e = e.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Closed);
        assert!(e.to_string().starts_with("low (tcp) in `tcp/tcp`"), "{e}");
        assert!(e.to_string().contains("the level has no socket"), "{e}");
    }
    assert_eq!(h.same_peer(&Contact::new(AT)), None);
    h.close().wait().unwrap();
    server.close().unwrap();
}

#[test]
fn what_cannot_work_is_refused_before_anything_happens() {
    let (sim, engine) = world(14);
    let bind = stack_with(Options::default().with_bind(Some("10.0.0.5:9".into())));
    let map = Contact::None.with_branch("a", Contact::new(AT));
    let opened = [
        (stack(), Contact::None, "none is given; write `host:port`"),
        (stack(), map.clone(), "a map of branches, but `tcp` has none"),
        (stack(), Contact::new(":7000"), "the host is missing"),
        (stack(), Contact::new("svc"), "the port is missing"),
        (stack(), Contact::new("::1"), "write `[::1]:port`"),
        (stack(), Contact::new("10.0.0.1:0"), "nobody listens on port 0"),
        (bind.clone(), Contact::new("[::1]:1"), "one is IPv4, the other IPv6"),
    ];
    for (stack, contact, text) in opened {
        let e = engine.open(&stack, contact).wait().unwrap_err();
        assert!(e.to_string().starts_with("tcp: open: ") && e.to_string().contains(text), "{e}");
    }
    let listened = [
        (stack(), map, "a map of branches, but `tcp` has none"),
        (stack(), Contact::new("10.0.0.1"), "the port is missing"),
        (bind.clone(), Contact::new("10.0.0.1:0"), "`bind=10.0.0.5:9` names one too"),
        (bind, Contact::new(":8"), "the contact names port 8, and `bind` port 9"),
    ];
    for (stack, contact, text) in listened {
        let e = engine.listen(&stack, contact).wait().unwrap_err();
        assert!(e.to_string().starts_with("tcp: listen: ") && e.to_string().contains(text), "{e}");
    }
    let o = Options::default;
    let refused = [
        (o().with_bind(Some("svc".into())), "names are not looked up"),
        (o().with_bind(Some("[::1".into())), "`bind`: `[::1`: this bracket is never closed"),
        (o().with_bind(Some(":1".into())).with_port_range(Some("1-2".into())), "leave one of them out"),
        (o().with_port_range(Some("2-1".into())), "ends before it begins"),
        (o().with_linger(Some(ms(1))), "whole seconds"),
        (o().with_user_timeout(Some(Duration::ZERO)), "whole milliseconds"),
        (o().with_keepalive_count(Some(1)), "add `keepalive=60s`"),
        (o().with_device(Some("a b".into())), "without spaces"),
    ];
    for (options, text) in refused {
        let e = Stack::new(LevelNode::new(tcp::driver()).with_attr(Box::new(options))).unwrap_err();
        assert!(e.len() == 1 && e[0].to_string().contains(text), "{e:?}");
    }
    assert_eq!(sim.sockets(), 0);
}

#[test]
fn a_driver_knows_its_own_servers() {
    let (_sim, engine) = world(15);
    let stack = stack();
    let level = stack.level("tcp").unwrap();
    let is_self = |text: &str| level.driver().is_self(level.attr(), &Contact::new(text));
    let one = engine.listen(&stack, Contact::new("127.0.0.1:7000")).wait().unwrap();
    let all = engine.listen(&stack, Contact::new(":8000")).wait().unwrap();
    assert_eq!(is_self("127.0.0.1:7000"), Some(true));
    assert_eq!(is_self("localhost:7000"), Some(true));
    assert_eq!(is_self("0.0.0.0:7000"), Some(true));
    assert_eq!(is_self("127.0.0.1:8000"), Some(true));
    // Another address of this host, another port, a name, nothing at all: it cannot tell.
    for text in ["127.0.0.2:7000", "127.0.0.1:7001", "svc:7000", ":7000", "127.0.0.1:0", "?"] {
        assert_eq!(is_self(text), None, "{text}");
    }
    assert_eq!(is_self("203.0.113.9:7000"), Some(false));
    drop(all);
    one.close().unwrap();
    assert_eq!((is_self("127.0.0.1:7000"), is_self("127.0.0.1:8000")), (None, None));
}

#[test]
fn equal_seeds_run_alike() {
    let run = |seed| {
        let sim = Sim::new(seed);
        let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
        sim.host("svc", ["fd00::1", "10.0.0.1", "10.0.0.2"].map(ip));
        sim.unroutable(ip("fd00::1"));
        let server = listen(&engine, "10.0.0.2:7000");
        let a = open(&engine, "svc:7000").unwrap();
        let b = server.accept().wait().unwrap().open().wait().unwrap();
        a.write(vec![7; 100_000]).then(|r| assert!(r.is_ok()));
        assert_eq!(b.read(BytesMut::with_capacity(100_000)).wait_for(100_000).wait().unwrap().n, 100_000);
        drop((a, b, server));
        sim.run(&engine);
        (sim.hash(), sim.time())
    };
    assert_eq!(run(42), run(42));
    assert_ne!(run(42), run(43));
}

#[test]
fn writes_that_wait_behind_one_that_broke_half_way_all_end() {
    let sim = Sim::with_config(1, SimConfig::calm().with_buffer(4000));
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    let stack = Stack::new(LevelNode::new(xio_drivers::frame::driver()).over(LevelNode::new(tcp::driver()))).unwrap();
    let server = engine.listen(&stack, Contact::new(AT)).wait().unwrap();
    let a = engine.open(&stack, Contact::new(AT)).wait().unwrap();
    let _b = server.accept().wait().unwrap().open().wait().unwrap();
    let ends: Arc<Mutex<Vec<_>>> = Arc::default();
    for _ in 0..4 {
        let ends = ends.clone();
        a.write(vec![7; 20_000]).then(move |r| ends.lock().unwrap().push(r.map(drop).map_err(|f| f.kind())));
    }
    assert_eq!(sim.reset(Contact::new(AT)), 1);
    let read = a.read(BytesMut::with_capacity(9)).deadline(ms(1000)).wait().unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Reset);
    sim.run_for(&engine, ms(1000));
    assert_eq!(*ends.lock().unwrap(), [Err(ErrorKind::Reset); 4]);
    assert_eq!(a.write("more").wait().unwrap_err().kind(), ErrorKind::Reset);
}
