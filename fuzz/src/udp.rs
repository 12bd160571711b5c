//! Datagrams from anybody to a server, its links and plain handles, over a network that loses, doubles,
//! reorders and cuts off.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::attr::{Peer, Segment};
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Contact, Engine, ErrorKind, Failed, Handle, ReadDone, Server, Stack};
use xio_drivers::udp::{Counts, Validated};

use crate::input::{Input, noise};
use crate::{DRIVERS, Target};

pub(crate) const TARGET: Target = Target {
    name: "udp",
    body: run,
    covers: &["drivers/src/udp/hub.rs"],
    fault: "a peer may have any number of bytes wait",
};

const SPECS: [&str; 5] = [
    "udp(links=4, backlog=2, early=300B, idle=1s)",
    "udp(greet, amplify=0, links=3)",
    "queue/udp(early=0B, idle=100ms, max=500B)",
    "queue(early, batch=256B)/udp(greet)",
    "udp(batch, amplify=1, early=10kB)",
];
const AT: &str = "10.0.0.1:7000";
/// Peers that are forged.
const PEERS: usize = 9;
/// Most steps of a run, and handles in it.
const STEPS: usize = 120;
const HANDLES: usize = 12;
/// Longest forged datagram, and most bytes that `early` allows in any of the specs.
const FORGED: u64 = 1400;
const EARLY: u64 = 64 * 1024;

/// Whatever is read was sent, whole or with its real length told; a forged peer gets no more than its share;
/// a server's peers stay within its limits; every op ends.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let spec = input.one_of(&SPECS);
    let config = match input.below(3) {
        0 => SimConfig::calm(),
        1 => SimConfig::default().with_datagrams(0.1, 0.2, 0.3),
        _ => SimConfig::default().with_buffer(2000).with_cut(0.2),
    };
    let sim = Sim::with_config(u64::from(input.byte()), config);
    let engine = Engine::builder().owner_driven().reactor(sim.clone()).build().expect("an engine");
    let stack = DRIVERS.stack(spec).unwrap_or_else(|e| panic!("{e}"));
    let server = engine.listen(&stack, Contact::new(AT)).wait().unwrap();
    let mut bed =
        Bed { sim, engine, stack, server, handles: Vec::new(), shared: Arc::default(), under_way: Arc::default() };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        bed.step(&mut input);
        let counts = bed.server.query(Counts).expect("a server has counts");
        let (links, early) = if spec.contains("links=4") { (4, FORGED) } else { (1024, EARLY) };
        assert!(counts.live <= links && counts.bytes <= counts.live * early, "{counts:?}");
    }
    bed.finish();
}

struct Bed {
    sim: Arc<Sim>,
    engine: Engine,
    stack: Stack,
    server: Server,
    handles: Vec<Handle>,
    shared: Arc<Mutex<Shared>>,
    under_way: Arc<Mutex<usize>>,
}

/// What was sent and may be read, by its bytes; and links that came.
#[derive(Default)]
struct Shared {
    sent: HashSet<Bytes>,
    came: Vec<Handle>,
}

impl Shared {
    /// A read is over.
    fn check(&self, r: Result<ReadDone, Failed<ReadDone>>) {
        let (done, cut) = match r {
            Ok(done) => (done, None),
            Err(f) => match f.error.kind() {
                ErrorKind::Truncated { len } => (f.back, Some(len)),
                ErrorKind::TimedOut | ErrorKind::Cancelled | ErrorKind::Refused | ErrorKind::Closed => return,
                // A handle has a limit of ops under way, and a call with a callback does not wait for it.
                ErrorKind::Busy => return,
                kind => panic!("a read failed: {kind:?}: {}", f.error),
            },
        };
        let each = done.attrs.find::<Segment>().map_or(usize::MAX, |s| s.0);
        let bytes = done.into_bytes();
        match cut {
            // Its beginning, and its length.
            Some(len) => {
                assert!(bytes.len() < len);
                assert!(self.sent.iter().any(|s| s.len() == len && s.starts_with(&bytes)), "cut from nothing");
            }
            None if bytes.is_empty() => {}
            None => bytes.chunks(each).for_each(|d| assert!(self.sent.contains(d), "nobody sent {} B", d.len())),
        }
    }
}

impl Bed {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(10) {
            0 | 1 => self.forge(input),
            2 => self.accept(),
            3 => self.open(input),
            4 | 5 => self.write(input),
            6 => self.read(input),
            7 => {
                let far = input.below(4000) as u64;
                self.sim.run_for(&self.engine, Duration::from_millis(far / 8));
            }
            8 => drop(self.pick(input).map(|h| h.query(Validated))),
            _ => {
                if !self.handles.is_empty() {
                    let i = input.below(self.handles.len());
                    drop(self.handles.swap_remove(i));
                }
            }
        }
        self.handles.append(&mut self.came());
        self.handles.truncate(HANDLES);
    }

    /// The links that were opened. What drops them runs callbacks, so not under the lock.
    fn came(&self) -> Vec<Handle> {
        std::mem::take(&mut self.shared.lock().unwrap().came)
    }

    fn forge(&mut self, input: &mut Input<'_>) {
        let from = SocketAddr::from(([11, 0, 0, input.below(PEERS) as u8], 9));
        let to: SocketAddr = AT.parse().expect("an address");
        for _ in 0..=input.below(20) {
            let n = input.len(FORGED as usize);
            let mut data = noise(n, n);
            // What a stranger puts into it is anybody's guess.
            let head = input.bytes(4).to_vec();
            data.iter_mut().zip(head).for_each(|(d, h)| *d = h);
            self.shared.lock().unwrap().sent.insert(data.clone().into());
            self.sim.forge(from, to, &data);
        }
    }

    fn accept(&mut self) {
        let shared = self.shared.clone();
        let call = self.server.accept().deadline(Duration::from_secs(1));
        call.then(move |link| {
            if let Ok(link) = link {
                link.open().then(move |h| shared.lock().unwrap().came.extend(h));
            }
        });
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let to = if input.flag() { self.server.contact().clone() } else { Contact::None };
        self.handles.extend(self.engine.open(&self.stack, to).wait());
    }

    fn pick(&mut self, input: &mut Input<'_>) -> Option<Handle> {
        if self.handles.is_empty() { None } else { Some(self.handles[input.below(self.handles.len())].clone()) }
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let Some(h) = self.pick(input) else { return };
        let n = input.len(3000);
        let data = Bytes::from(noise(n + 7, n));
        let segment = input.one_of(&[0, 1, 100, 700]);
        {
            let mut shared = self.shared.lock().unwrap();
            let parts = if segment == 0 { n.max(1) } else { segment };
            shared.sent.extend((0..n).step_by(parts).map(|at| data.slice(at..n.min(at + parts))));
        }
        let mut call = h.write(data).deadline(Duration::from_secs(1));
        if segment > 0 {
            call = call.attr(Segment(segment));
        }
        if input.rarely(3) {
            call = call.attr(Peer(self.server.contact().clone()));
        }
        let under_way = self.begin();
        call.then(move |r| {
            *under_way.lock().unwrap() -= 1;
            if let Err(f) = r {
                let kind = f.error.kind();
                let known = matches!(
                    kind,
                    ErrorKind::InvalidInput
                        | ErrorKind::Busy
                        | ErrorKind::TooLong
                        | ErrorKind::Cancelled
                        | ErrorKind::TimedOut
                        | ErrorKind::Closed
                );
                assert!(known, "{}", f.error);
            }
        });
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let Some(h) = self.pick(input) else { return };
        let room = input.len(3000);
        let call = if input.flag() { h.take(room) } else { h.read(BytesMut::with_capacity(room)) };
        let mut call = call.deadline(Duration::from_secs(2));
        if input.flag() {
            call = call.attr(Segment(1));
        }
        let (under_way, shared) = (self.begin(), self.shared.clone());
        call.then(move |r| {
            *under_way.lock().unwrap() -= 1;
            shared.lock().unwrap().check(r);
        });
    }

    fn begin(&self) -> Arc<Mutex<usize>> {
        *self.under_way.lock().unwrap() += 1;
        self.under_way.clone()
    }

    fn finish(mut self) {
        self.sim.run_for(&self.engine, Duration::from_secs(5));
        assert_eq!(*self.under_way.lock().unwrap(), 0, "ops that never ended");
        self.handles.clear();
        drop(self.came());
        self.server.close().unwrap();
        self.sim.run_for(&self.engine, Duration::from_secs(5));
    }
}
