//! The engine over the simulated reactor, with a transport of forty lines: what the loop promises,
//! under many seeds. Invariant: nothing here reads a real clock or opens a socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, LocalContact, PathInfo, RemoteContact};
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::io::{Connected, Direction, Io, IoDone, Sock, SocketOptions};
use xio_core::op::{Accept, Close, Listen, Open, Read, Ready, Shutdown, Write};
use xio_core::reactor::{AcceptFault, Sim, SimConfig};
use xio_core::time::Time;
use xio_core::{CloseMode, Contact, Cx, Engine, Error, ErrorKind, Flow, Handle, Level, LevelNode, Op, Server, Stack};

// ---- a transport ---------------------------------------------------------------------------------

xio_core::options! {
    /// Options of the transport.
    pub struct Options for "wire" {
        live {
            /// What its sockets are set up with.
            socket, with_socket: SocketOptions = SocketOptions::default();
        }
    }
}

struct Wire;

const INFO: Info = Info::new("wire", Shape::Transport, "a stream over the reactor's sockets").with_contact("HOST:PORT");

impl xio_core::Driver for Wire {
    fn info(&self) -> &Info {
        &INFO
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
            | Intercepts::CLOSE
            | Intercepts::READ
            | Intercepts::WRITE
            | Intercepts::SHUTDOWN
            | Intercepts::READY
            | Intercepts::ACCEPT
            | Intercepts::LISTEN
    }

    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(WireLevel { options: options::<Options>(attr).socket.clone(), at: None, closing: false }))
    }
}

fn contact(a: Option<SocketAddr>) -> Contact {
    a.map(Contact::from).unwrap_or_default()
}

struct WireLevel {
    options: SocketOptions,
    at: Option<Connected>,
    closing: bool,
}

impl WireLevel {
    fn sock(&self) -> Result<Sock, Error> {
        self.at.as_ref().map(|c| c.sock.clone()).ok_or_else(|| ErrorKind::Closed.into())
    }

    /// Turns a contact into an address, or into the request that gives one.
    fn address(&self, contact: &Contact) -> Result<Result<SocketAddr, Io>, Error> {
        let text = contact.text().ok_or(ErrorKind::InvalidContact)?;
        if let Ok(a) = text.parse() {
            return Ok(Ok(a));
        }
        let (host, port) = text.rsplit_once(':').ok_or(ErrorKind::InvalidContact)?;
        let port = port.parse().map_err(|_| ErrorKind::InvalidContact)?;
        Ok(Err(Io::Resolve { host: host.into(), port }))
    }
}

impl Level for WireLevel {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => {}
            IoDone::Addresses(list) => {
                let Some(first) = list.first() else { return op.failed(ErrorKind::Resolve) };
                return op.io(Io::Connect(Box::new((*first, self.options.clone()))));
            }
            IoDone::Connected(c) => {
                self.at = Some(*c);
                return op.finished();
            }
            IoDone::Failed(e) => return op.failed(e),
            _ => return op.failed(ErrorKind::Contract),
        }
        if let Some(c) = op.link(cx).and_then(|part| part.downcast::<Connected>().ok()) {
            self.at = Some(*c);
            return op.finished();
        }
        match self.address(op.contact()) {
            Ok(Ok(a)) => op.io(Io::Connect(Box::new((a, self.options.clone())))),
            Ok(Err(resolve)) => op.io(resolve),
            Err(e) => op.failed(e),
        }
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        match self.at.take() {
            Some(c) => {
                self.closing = true;
                let linger = (op.mode() == CloseMode::Abort).then_some(Duration::ZERO);
                op.io(Io::Close(Box::new((c.sock, linger))))
            }
            None => op.finished(),
        }
    }

    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        match self.sock() {
            Ok(s) => op.io(Io::Recv(s)),
            Err(e) => op.failed(e),
        }
    }

    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        match self.sock() {
            Ok(s) => op.io(Io::Send(s)),
            Err(e) => op.failed(e),
        }
    }

    fn shutdown<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Shutdown>) -> Flow<'o> {
        match (op.io_done(), self.sock()) {
            (IoDone::None, Ok(s)) => op.io(Io::ShutdownWrite(s)),
            (IoDone::Failed(e), _) => op.failed(e),
            (_, Ok(_)) => op.finished(),
            (_, Err(e)) => op.failed(e),
        }
    }

    fn ready<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Ready>) -> Flow<'o> {
        let direction = op.direction();
        match (op.io_done(), self.sock()) {
            (IoDone::None, Ok(s)) => op.io(Io::Ready(s, direction)),
            (IoDone::Failed(e), _) => op.failed(e),
            (_, Ok(_)) => op.finished(),
            (_, Err(e)) => op.failed(e),
        }
    }

    fn listen<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => match self.address(op.contact()) {
                Ok(Ok(a)) => op.io(Io::Listen(Box::new((a, self.options.clone())))),
                Ok(Err(_)) => op.failed(ErrorKind::InvalidContact),
                Err(e) => op.failed(e),
            },
            IoDone::Connected(c) => {
                op.set_contact(contact(c.local));
                self.at = Some(*c);
                op.finished()
            }
            IoDone::Failed(e) => op.failed(e),
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn accept<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => match self.sock() {
                Ok(s) => op.io(Io::Accept(s, Box::new(self.options.clone()))),
                Err(e) => op.failed(e),
            },
            IoDone::Connected(c) => {
                op.set_contacts(contact(c.local), contact(c.peer));
                op.set_link(cx, c);
                op.finished()
            }
            IoDone::Failed(e) => op.failed(e),
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        let Some(at) = &self.at else { return Err(c.unsupported()) };
        if c.command::<LocalContact>().is_some() {
            return c.reply::<LocalContact>(contact(at.local));
        }
        if c.command::<RemoteContact>().is_some() {
            return c.reply::<RemoteContact>(contact(at.peer));
        }
        if c.command::<PathInfo>().is_some() {
            let sock = at.sock.clone();
            return c.reply_later::<PathInfo>(move || Ok(sock.socket().path()?));
        }
        Err(c.unsupported())
    }
}

/// A transform that moves three bytes a pass, so that the engine has to come again for the rest.
struct Nibble;

xio_core::options! {
    /// It has none.
    pub struct NibbleOptions for "nibble" {}
}

const NIBBLE: Info = Info::new("nibble", Shape::Transform, "moves three bytes a pass");

impl xio_core::Driver for Nibble {
    fn info(&self) -> &Info {
        &NIBBLE
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(NibbleOptions::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::STREAM
    }

    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(below[0].caps.clone())
    }

    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::READ | Intercepts::READ_DONE
    }

    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(NibbleLevel))
    }
}

struct NibbleLevel;

impl Level for NibbleLevel {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.pass_part(3, 1)
    }

    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        op.below();
        op.finished()
    }
}

fn nibble() -> Stack {
    Stack::new(LevelNode::new(Arc::new(Nibble)).over(LevelNode::new(Arc::new(Wire)))).unwrap()
}

fn wire() -> Stack {
    wire_with(SocketOptions::default())
}

fn wire_with(socket: SocketOptions) -> Stack {
    let attr = Options::default().with_socket(socket);
    Stack::new(LevelNode::new(Arc::new(Wire)).with_attr(Box::new(attr))).unwrap()
}

// ---- a world -------------------------------------------------------------------------------------

struct World {
    sim: Arc<Sim>,
    engine: Engine,
    server: Server,
}

fn world(seed: u64, config: SimConfig) -> World {
    let sim = Sim::with_config(seed, config);
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    let mut options = SocketOptions::default();
    options.backlog = 16;
    let server = engine.listen(&wire_with(options), Contact::new("127.0.0.1:0")).wait().unwrap();
    World { sim, engine, server }
}

fn calm() -> World {
    world(1, SimConfig::calm())
}

/// What a callback leaves behind for the test.
type Slot<T> = Arc<Mutex<Option<T>>>;

fn slot<T>() -> (Slot<T>, Slot<T>) {
    let s = Arc::new(Mutex::new(None));
    (s.clone(), s)
}

fn taken<T>(s: &Slot<T>) -> T {
    s.lock().unwrap().take().expect("it is finished")
}

impl World {
    /// A connection: the client's end and the server's.
    fn pair(&self) -> (Handle, Handle) {
        self.pair_over(&wire())
    }

    fn pair_over(&self, stack: &Stack) -> (Handle, Handle) {
        let (get, put) = slot();
        self.server.accept().then(move |link| {
            link.unwrap().open().then(move |h| *put.lock().unwrap() = Some(h.unwrap()));
        });
        let client = self.engine.open(stack, self.server.contact()).wait().unwrap();
        assert!(self.sim.run_until(&self.engine, || get.lock().unwrap().is_some()));
        (client, taken(&get))
    }

    fn now(&self) -> Time {
        self.engine.now()
    }
}

/// Writes back what comes until the stream ends, then ends its own side.
fn echo(h: Handle) {
    let again = h.clone();
    h.take(700).then(move |r| match r {
        Ok(done) => {
            let bytes = done.into_bytes();
            let h = again.clone();
            again.write(bytes).then(move |w| {
                w.unwrap();
                echo(h);
            });
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Eof);
            again.shutdown().then(|r| r.unwrap());
        }
    });
}

/// Reads and forgets until the stream ends.
fn drain(h: Handle) {
    let again = h.clone();
    h.take(700).then(move |r| {
        if r.is_ok() {
            drain(again);
        }
    });
}

fn pattern(seed: u64, n: usize) -> Bytes {
    (0..n).map(|i| (i as u64 ^ seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
}

fn read_all(h: &Handle) -> BytesMut {
    let mut got = BytesMut::new();
    loop {
        got.reserve(512);
        match h.read(got).wait() {
            Ok(done) => got = done.buf,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Eof);
                return e.back.buf;
            }
        }
    }
}

/// An echo of a few kilobytes through short transfers; the fingerprint of all that happened.
fn echo_run(seed: u64) -> (u64, u64) {
    let config = match seed % 4 {
        0 => SimConfig::default().with_one_byte(),
        1 => SimConfig::default().with_buffer(97),
        2 => SimConfig::default().with_latency(Duration::ZERO, Duration::ZERO),
        _ => SimConfig::default(),
    };
    let w = world(seed, config.clone());
    let (client, server) = w.pair();
    echo(server);
    let sent = pattern(seed, if config.one_byte { 300 } else { 3000 + (seed as usize * 37) % 1000 });
    let n = sent.len();
    let (wrote, put) = slot();
    let writer = client.clone();
    client.write(sent.clone()).then(move |r| {
        assert_eq!(r.unwrap().n, n);
        writer.shutdown().then(move |r| *put.lock().unwrap() = Some(r));
    });
    assert_eq!(read_all(&client), sent, "seed {seed}");
    taken(&wrote).unwrap();
    client.close().wait().unwrap();
    w.sim.run(&w.engine);
    (w.sim.hash(), w.sim.events())
}

// ---- tests ---------------------------------------------------------------------------------------

#[test]
fn an_echo_comes_back_whole_under_many_seeds() {
    let mut hashes: Vec<u64> = (0..200).map(|seed| echo_run(seed).0).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 200, "each seed runs its own way");
}

#[test]
fn the_same_seed_runs_the_same_way() {
    for seed in 0..20 {
        assert_eq!(echo_run(seed), echo_run(seed));
    }
}

#[test]
fn a_half_close_is_an_end_of_stream_after_all_data() {
    for seed in 0..50 {
        let w = world(seed, SimConfig::default().with_buffer(50));
        let (client, server) = w.pair();
        let sent = pattern(seed, 500);
        let c = client.clone();
        client.write(sent.clone()).then(move |r| {
            r.unwrap();
            c.shutdown().then(|r| r.unwrap());
        });
        assert_eq!(read_all(&server), sent);
        assert_eq!(server.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
        assert_eq!(client.write("x").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
        // The other direction is open still.
        server.write("back").wait().unwrap();
        assert_eq!(client.take(100).wait_for(4).wait().unwrap().into_bytes(), "back");
    }
}

#[test]
fn a_reset_is_seen_at_both_ends() {
    let w = calm();
    let (client, server) = w.pair();
    let (got, put) = slot();
    server.take(1).then(move |r| *put.lock().unwrap() = Some(r.unwrap_err().kind()));
    w.sim.run_for(&w.engine, Duration::from_secs(1));
    assert_eq!(w.sim.reset(client.query(LocalContact).unwrap()), 1);
    assert_eq!(client.take(1).wait().unwrap_err().kind(), ErrorKind::Reset);
    w.sim.run(&w.engine);
    assert_eq!(taken(&got), ErrorKind::Reset);
}

#[test]
fn an_aborted_close_resets_and_an_orderly_one_does_not() {
    for (abort, kind) in [(true, ErrorKind::Reset), (false, ErrorKind::Eof)] {
        let w = calm();
        let (client, server) = w.pair();
        let mode = if abort { CloseMode::Abort } else { CloseMode::Graceful };
        client.close().mode(mode).wait().unwrap();
        assert_eq!(server.take(1).wait().unwrap_err().kind(), kind);
    }
}

#[test]
fn what_nobody_reads_any_more_is_answered_by_a_reset() {
    let w = calm();
    let (client, server) = w.pair();
    client.close().wait().unwrap();
    server.write("too late").wait().unwrap();
    w.sim.run(&w.engine);
    assert_eq!(server.write("x").wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_deadline_fires_at_exactly_its_time_in_every_ending() {
    let w = calm();
    let (client, server) = w.pair();
    let d = Duration::from_nanos(3_600_000_000_123);
    let began = w.now();
    let e = client.take(1).deadline(d).wait().unwrap_err();
    assert_eq!((e.kind(), w.now().since(began)), (ErrorKind::TimedOut, d));
    let (got, put) = slot();
    let (began, engine) = (w.now(), w.engine.clone());
    server.take(1).deadline(d).then(move |r| *put.lock().unwrap() = Some((r.unwrap_err().kind(), engine.now())));
    w.sim.run(&w.engine);
    assert_eq!(taken(&got), (ErrorKind::TimedOut, began + d));
}

#[test]
fn a_waiting_read_can_be_cancelled_and_the_data_is_still_there() {
    let w = calm();
    let (client, server) = w.pair();
    let (got, put) = slot();
    let ticket = client.take(10).then(move |r| *put.lock().unwrap() = Some(r.unwrap_err().kind()));
    w.sim.run(&w.engine);
    assert!(got.lock().unwrap().is_none());
    ticket.cancel();
    w.sim.run(&w.engine);
    assert_eq!(taken(&got), ErrorKind::Cancelled);
    ticket.cancel();
    server.write("after").wait().unwrap();
    assert_eq!(client.take(10).wait_for(5).wait().unwrap().into_bytes(), "after");
}

#[test]
fn a_cancel_that_races_with_the_data_loses_nothing() {
    for seed in 0..100 {
        let w = world(seed, SimConfig::default());
        let (client, server) = w.pair();
        let (got, put) = slot();
        let ticket = client.take(100).wait_for(100).then(move |r| *put.lock().unwrap() = Some(r));
        server.write(pattern(seed, 150)).wait().unwrap();
        w.sim.run_for(&w.engine, Duration::from_micros(seed * 15));
        ticket.cancel();
        w.sim.run(&w.engine);
        let mut all = match taken(&got) {
            Ok(done) => done.into_bytes().to_vec(),
            Err(f) => {
                assert_eq!(f.kind(), ErrorKind::Cancelled);
                assert_eq!(f.error.moved(), f.back.n as u64);
                f.back.into_bytes().to_vec()
            }
        };
        while all.len() < 150 {
            all.extend_from_slice(&client.take(64).wait().unwrap().into_bytes());
        }
        assert_eq!(all, pattern(seed, 150), "seed {seed}");
    }
}

#[test]
fn two_handles_do_not_disturb_each_other() {
    for seed in 0..20 {
        let w = world(seed, SimConfig::default().with_buffer(300));
        let (a, sa) = w.pair();
        let (b, sb) = w.pair();
        echo(sa);
        echo(sb.clone());
        let (x, y) = (pattern(seed, 2000), pattern(seed + 7, 2000));
        let (ca, cb) = (a.clone(), b.clone());
        a.write(x.clone()).then(move |_| drop(ca.shutdown().then(|_| {})));
        b.write(y).then(move |_| drop(cb));
        w.sim.run_for(&w.engine, Duration::from_millis(1));
        sb.close().abort().wait().unwrap();
        assert_eq!(read_all(&a), x);
        while b.take(1000).wait().is_ok() {}
    }
}

#[test]
fn several_reads_of_one_handle_finish_in_order() {
    for seed in 0..60 {
        let w = world(seed, SimConfig::default());
        let (client, server) = w.pair_over(&if seed % 2 == 0 { wire() } else { nibble() });
        let all = Arc::new(Mutex::new(Vec::new()));
        for i in 0..5 {
            let all = all.clone();
            client.take(10).wait_for(10).then(move |r| all.lock().unwrap().push((i, r.unwrap().into_bytes())));
        }
        server.write(pattern(seed, 50)).wait().unwrap();
        w.sim.run(&w.engine);
        let all = all.lock().unwrap();
        assert_eq!(all.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(all.iter().flat_map(|(_, b)| b.to_vec()).collect::<Vec<_>>(), pattern(seed, 50));
    }
}

#[test]
fn several_accepts_each_get_a_link() {
    let w = calm();
    let links = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..3 {
        let links = links.clone();
        w.server.accept().then(move |l| links.lock().unwrap().push(l.unwrap().peer().clone()));
    }
    let clients: Vec<_> = (0..3).map(|_| w.engine.open(&wire(), w.server.contact()).wait().unwrap()).collect();
    w.sim.run(&w.engine);
    let mut peers = links.lock().unwrap().clone();
    peers.sort();
    let mut locals: Vec<_> = clients.iter().map(|c| c.query(LocalContact).unwrap()).collect();
    locals.sort();
    assert_eq!(peers, locals);
}

#[test]
fn a_wait_for_readiness_and_a_read_both_end() {
    let w = calm();
    let (client, server) = w.pair();
    let (ready, put) = slot();
    client.ready(Direction::Read).then(move |r| *put.lock().unwrap() = Some(r));
    let (read, put) = slot();
    client.take(1).then(move |r| *put.lock().unwrap() = Some(r));
    server.write("x").wait().unwrap();
    w.sim.run(&w.engine);
    taken(&read).unwrap();
    // The read took the byte, so the wait may go on until the next one.
    server.write("y").wait().unwrap();
    w.sim.run(&w.engine);
    taken(&ready).unwrap();
}

#[test]
fn connects_are_refused_and_time_out() {
    let w = calm();
    let e = w.engine.open(&wire(), Contact::new("127.0.0.1:1")).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    let far = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 1));
    w.sim.unroutable(far);
    let to = Contact::from(SocketAddr::new(far, 7));
    let began = w.now();
    let e = w.engine.open(&wire(), to.clone()).wait().unwrap_err();
    assert_eq!((e.kind(), w.now().since(began).as_secs()), (ErrorKind::TimedOut, 127));
    let began = w.now();
    let e = w.engine.open(&wire(), to).deadline(Duration::from_secs(3)).wait().unwrap_err();
    assert_eq!((e.kind(), w.now().since(began)), (ErrorKind::TimedOut, Duration::from_secs(3)));
    assert_eq!(w.sim.sockets(), 1, "what failed is closed");
}

#[test]
fn names_resolve_where_the_simulation_knows_them() {
    let w = calm();
    w.sim.host("server.test", [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let (_, port) = w.server.contact().text().unwrap().rsplit_once(':').unwrap();
    w.engine.open(&wire(), Contact::new(format!("server.test:{port}"))).wait().unwrap();
    let e = w.engine.open(&wire(), Contact::new(format!("other.test:{port}"))).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn a_partition_holds_everything_back_and_then_lets_it_go() {
    let w = calm();
    let (client, server) = w.pair();
    let lo = IpAddr::V4(Ipv4Addr::LOCALHOST);
    w.sim.partition(lo, lo, Duration::from_secs(9));
    let began = w.now();
    client.write("hello").wait().unwrap();
    assert_eq!(server.take(9).wait().unwrap().into_bytes(), "hello");
    assert_eq!(w.now().since(began), Duration::from_secs(9));
}

#[test]
fn a_write_waits_for_a_slow_reader() {
    let w = world(3, SimConfig::calm().with_buffer(1000));
    let (client, server) = w.pair();
    w.sim.slow(IpAddr::V4(Ipv4Addr::LOCALHOST), 1000);
    let e = client.write(pattern(1, 5000)).deadline(Duration::from_secs(3)).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::TimedOut, 1000), "only what fits goes");
    drain(server);
    let began = w.now();
    client.write(pattern(1, 3000)).wait().unwrap();
    assert!(w.now().since(began) >= Duration::from_secs(2));
    assert!(client.query(PathInfo).unwrap().in_flight.unwrap() > 0);
}

#[test]
fn an_accept_out_of_descriptors_leaves_the_link_for_the_next() {
    let w = calm();
    w.sim.fail_accepts(2, AcceptFault::TooManyFiles);
    let client = w.engine.open(&wire(), w.server.contact()).wait().unwrap();
    for _ in 0..2 {
        assert_eq!(w.server.accept().wait().unwrap_err().kind(), ErrorKind::Exhausted);
    }
    assert_eq!(*w.server.accept().wait().unwrap().peer(), client.query(LocalContact).unwrap());
}

#[test]
fn sockets_keep_their_options_and_addresses() {
    let w = calm();
    let mut options = SocketOptions::default();
    options.nodelay = true;
    options.bind = vec!["127.0.0.1:4000".parse().unwrap(), "127.0.0.1:4001".parse().unwrap()];
    let stack = wire_with(options);
    let a = w.engine.open(&stack, w.server.contact()).wait().unwrap();
    let b = w.engine.open(&stack, w.server.contact()).wait().unwrap();
    assert_eq!(w.engine.open(&stack, w.server.contact()).wait().unwrap_err().kind(), ErrorKind::AddrInUse);
    let local = |h: &Handle| h.query(LocalContact).unwrap().to_string();
    assert_eq!((local(&a), local(&b)), ("127.0.0.1:4000".into(), "127.0.0.1:4001".into()));
    assert!(w.sim.options_of(Contact::new("127.0.0.1:4000")).unwrap().nodelay);
    assert_eq!(w.sim.options_of(w.server.contact()).unwrap().backlog, 16);
    assert_eq!(w.engine.listen(&wire(), w.server.contact()).wait().unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn what_can_never_finish_says_so() {
    let w = calm();
    let (client, _server) = w.pair();
    let e = client.take(1).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Stopped);
    let text = e.error.to_string();
    assert!(text.contains("stuck") && text.contains("waits to read from"), "{text}");
}

#[test]
fn handles_close_with_their_last_owner() {
    for seed in 0..20 {
        let w = world(seed, SimConfig::default());
        let (client, server) = w.pair();
        drop(client);
        assert_eq!(server.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
        drop(server);
        w.sim.run(&w.engine);
        assert_eq!((w.sim.sockets(), w.engine.handles()), (1, 1), "the listener is left");
    }
}

#[test]
fn a_close_cancels_reads_and_lets_writes_out() {
    for seed in 0..50 {
        let w = world(seed, SimConfig::default().with_buffer(64));
        let (client, server) = w.pair();
        let (read, put) = slot();
        client.take(1).then(move |r| *put.lock().unwrap() = Some(r.unwrap_err().kind()));
        let (wrote, put) = slot();
        client.write(pattern(seed, 500)).then(move |r| *put.lock().unwrap() = Some(r));
        let (closed, put) = slot();
        client.close().then(move |r| *put.lock().unwrap() = Some(r));
        assert_eq!(read_all(&server), pattern(seed, 500), "seed {seed}");
        w.sim.run(&w.engine);
        assert_eq!((taken(&read), taken(&wrote).unwrap().n), (ErrorKind::Cancelled, 500));
        taken(&closed).unwrap();
        assert_eq!(client.take(1).wait().unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_close_that_nobody_lets_out_is_forced_when_its_time_is_up() {
    let w = world(1, SimConfig::calm().with_buffer(10));
    let (client, _server) = w.pair();
    let (wrote, put) = slot();
    client.write(pattern(1, 50)).then(move |r| *put.lock().unwrap() = Some(r));
    let began = w.now();
    let late = client.close().deadline(Duration::from_secs(2)).wait().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    assert_eq!(w.now().since(began), Duration::from_secs(2));
    let e = taken(&wrote).unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::Cancelled, 10));
}

#[test]
fn a_server_that_closes_cancels_its_accepts() {
    let w = calm();
    let (got, put) = slot();
    w.server.accept().then(move |r| *put.lock().unwrap() = Some(r.map(|_| ()).unwrap_err().kind()));
    w.server.close().unwrap();
    w.sim.run(&w.engine);
    assert_eq!(taken(&got), ErrorKind::Cancelled);
    assert_eq!(w.sim.sockets(), 0);
}

#[test]
fn a_silent_peer_is_noticed_when_the_idle_time_is_up() {
    let w = calm();
    let (_client, server) = w.pair();
    let idle = Duration::from_secs(7);
    let (get, put) = slot();
    w.server.accept().then(move |l| *put.lock().unwrap() = Some(l.unwrap()));
    let client = w.engine.open(&wire(), w.server.contact()).read_idle(idle).wait().unwrap();
    w.sim.run(&w.engine);
    let peer = taken(&get).open().wait().unwrap();
    peer.write("x").wait().unwrap();
    w.sim.run_for(&w.engine, Duration::from_secs(60));
    client.take(1).wait().unwrap();
    let began = w.now();
    assert_eq!(client.take(1).wait().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(w.now().since(began), idle);
    drop(server);
}

#[test]
fn bytes_of_a_dropped_read_go_to_the_next_reader() {
    use std::future::{Future, IntoFuture};
    use std::task::{Context, Waker};
    for seed in 0..30 {
        let w = world(seed, SimConfig::default());
        let (client, server) = w.pair();
        let mut read = Box::pin(client.take(100).wait_for(100).into_future());
        assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        server.write(pattern(seed, 60)).wait().unwrap();
        w.sim.run_for(&w.engine, Duration::from_micros(seed * 40));
        drop(read);
        assert_eq!(client.take(60).wait_for(60).wait().unwrap().into_bytes(), pattern(seed, 60), "seed {seed}");
    }
}

#[test]
fn stopping_an_engine_is_part_of_the_run() {
    let run = || {
        let w = world(5, SimConfig::default());
        let pairs: Vec<_> = (0..6).map(|_| w.pair()).collect();
        w.engine.shutdown();
        assert_eq!(pairs[0].0.take(1).wait().unwrap_err().kind(), ErrorKind::Stopped);
        w.sim.hash()
    };
    let first = run();
    assert!((0..5).all(|_| run() == first));
}

#[test]
fn a_write_over_the_limit_waits_or_is_busy() {
    let w = world(1, SimConfig::calm().with_buffer(10));
    let (_c, _s) = w.pair();
    let (get, put) = slot();
    w.server.accept().then(move |l| l.unwrap().open().then(move |h| *put.lock().unwrap() = Some(h.unwrap())));
    let client = w.engine.open(&wire(), w.server.contact()).max_ops(1).wait().unwrap();
    let (first, put) = slot();
    client.write(pattern(1, 50)).then(move |r| *put.lock().unwrap() = Some(r));
    let e = client.write("x").no_wait().wait().unwrap_err();
    assert_eq!((e.kind(), e.back.pieces.len()), (ErrorKind::Busy, 1));
    let e = client.write("x").deadline(Duration::from_secs(1)).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n), (ErrorKind::TimedOut, 0));
    drain(taken(&get));
    assert_eq!(client.write("x").wait().unwrap().n, 1);
    assert_eq!(taken(&first).unwrap().n, 50);
}

/// A number under `n`.
fn dice(state: &mut u64, n: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % n
}

/// One direction of a random program: what was written, by write and in order, and what came.
#[derive(Default)]
struct Flowing {
    offered: Vec<Bytes>,
    went: Vec<Option<usize>>,
    came: Vec<u8>,
    reads: (usize, usize),
}

#[test]
fn random_programs_lose_nothing_and_finish_everything_once() {
    for seed in 0..400u64 {
        let mut rng = seed;
        let config = SimConfig::default().with_buffer(1 + dice(&mut rng, 300) as usize).with_spurious(0.2);
        let w = world(seed, config);
        let (client, server) = w.pair_over(&if seed % 2 == 0 { wire() } else { nibble() });
        let ends = [client, server];
        let flows: [Arc<Mutex<Flowing>>; 2] = Default::default();
        let mut tickets = Vec::new();
        for step in 0..60 {
            let d = dice(&mut rng, 2) as usize;
            let flow = flows[d].clone();
            let wait = (dice(&mut rng, 3) == 0).then(|| Duration::from_micros(dice(&mut rng, 5000)));
            let wait = wait.unwrap_or(Duration::from_secs(9999));
            match dice(&mut rng, 8) {
                0..=2 => {
                    let bytes = pattern(seed + step, 1 + dice(&mut rng, 200) as usize);
                    let i = {
                        let mut f = flow.lock().unwrap();
                        f.offered.push(bytes.clone());
                        f.went.push(None);
                        f.went.len() - 1
                    };
                    tickets.push(ends[d].write(bytes).deadline(wait).then(move |r| {
                        let n = r.map_or_else(|e| e.back.n, |d| d.n);
                        assert!(flow.lock().unwrap().went[i].replace(n).is_none(), "finished once");
                    }));
                }
                3..=5 => {
                    let most = 1 + dice(&mut rng, 150) as usize;
                    let least = dice(&mut rng, most as u64 + 1) as usize;
                    flow.lock().unwrap().reads.0 += 1;
                    tickets.push(ends[1 - d].take(most).wait_for(least).deadline(wait).then(move |r| {
                        let done = r.unwrap_or_else(|e| e.back);
                        let mut f = flow.lock().unwrap();
                        f.reads.1 += 1;
                        assert!(done.n <= most);
                        f.came.extend_from_slice(&done.into_bytes());
                    }));
                }
                6 if !tickets.is_empty() => {
                    let n = dice(&mut rng, tickets.len() as u64) as usize;
                    tickets.swap_remove(n).cancel();
                }
                _ => w.sim.run_for(&w.engine, Duration::from_micros(dice(&mut rng, 3000))),
            }
        }
        for (d, flow) in flows.iter().enumerate() {
            let end = ends[d].clone();
            end.shutdown().then(|r| r.unwrap());
            let rest = read_all(&ends[1 - d]);
            w.sim.run(&w.engine);
            let f = flow.lock().unwrap();
            let sent: Vec<u8> =
                f.offered.iter().zip(&f.went).flat_map(|(b, n)| b[..n.expect("every write ends")].to_vec()).collect();
            assert_eq!(f.reads.0, f.reads.1, "every read ends once, seed {seed}");
            assert_eq!([&f.came[..], &rest].concat(), sent, "seed {seed}");
        }
        assert_eq!(ends[0].outstanding(), (0, 0));
    }
}

#[test]
fn a_shutdown_and_a_flush_stay_behind_the_writes_before_them() {
    for seed in 0..20 {
        let w = world(seed, SimConfig::default().with_buffer(50));
        let (client, server) = w.pair_over(&if seed % 2 == 0 { wire() } else { nibble() });
        let order = Arc::new(Mutex::new(Vec::new()));
        for i in 0..3 {
            let order = order.clone();
            client.write(pattern(seed, 200)).then(move |r| order.lock().unwrap().push((i, r.map(|d| d.n))));
        }
        let o = order.clone();
        client.flush().then(move |r| o.lock().unwrap().push((3, r.map(|()| 0).map_err(|e| panic!("{e}")))));
        let o = order.clone();
        client.shutdown().then(move |r| o.lock().unwrap().push((4, r.map(|()| 0).map_err(|e| panic!("{e}")))));
        assert_eq!(read_all(&server).len(), 600, "seed {seed}");
        w.sim.run(&w.engine);
        assert_eq!(order.lock().unwrap().iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_callback_may_turn_the_engine_it_runs_on() {
    let w = calm();
    let (client, server) = w.pair();
    let (engine, (got, put)) = (w.engine.clone(), slot());
    client.take(1).then(move |_| *put.lock().unwrap() = Some(engine.turn(Some(Duration::ZERO))));
    server.write("x").wait().unwrap();
    w.sim.run(&w.engine);
    assert_eq!(taken(&got), 0);
}

#[test]
fn a_flush_behind_a_stuck_write_has_its_own_deadline_and_cancel() {
    let w = world(1, SimConfig::calm().with_buffer(10));
    let (client, _server) = w.pair();
    let (wrote, put) = slot();
    client.write(pattern(1, 50)).then(move |r| *put.lock().unwrap() = Some(r.map(|_| ())));
    let began = w.now();
    let e = client.flush().deadline(Duration::from_secs(2)).wait().unwrap_err();
    assert_eq!((e.kind(), w.now().since(began)), (ErrorKind::TimedOut, Duration::from_secs(2)));
    let (flushed, put) = slot();
    let ticket = client.flush().then(move |r| *put.lock().unwrap() = Some(r.unwrap_err().kind()));
    ticket.cancel();
    assert_eq!(taken(&flushed), ErrorKind::Cancelled);
    assert!(wrote.lock().unwrap().is_none(), "the write goes on");
}
