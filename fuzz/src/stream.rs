//! Bytes through queues, buckets and a simulated network that cuts them up, both ways at once.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use xio_core::cntl::SetOption;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::schema::Value;
use xio_core::{Contact, Engine, ErrorKind, Failed, Handle, ReadDone, Ticket};
use xio_drivers::queue;

use crate::input::{Input, noise};
use crate::{DRIVERS, Target};

pub(crate) const TARGET: Target = Target {
    name: "stream",
    body: run,
    covers: &["drivers/src/queue/line.rs"],
    fault: "a write that is cancelled is waited for",
};

const LEVELS: [&str; 10] = [
    "queue",
    "queue(early)",
    "null(gate)",
    "queue(batch=100B)",
    "queue(early, batch=64B, linger=1ms)",
    "queue(depth=2, high=300B, low=100B)",
    "queue(early, depth=2, high=300B, low=100B, batch=128B)",
    "rate(limit=1MB/s, burst=200B)",
    "rate(read_limit=20kB/s)",
    "rate(write_limit=5kB/s, burst=16B)",
];
const BOTTOMS: [&str; 5] = ["tcp", "tcp(sndbuf=4KiB, rcvbuf=4KiB)", "frame/tcp", "loop", "loop(message)"];
/// Most levels over the bottom.
const DEPTH: usize = 4;
/// Most steps of a run.
const STEPS: usize = 80;
/// Most bytes of a run in each direction: a slow bucket lets them through one by one.
const BYTES: usize = 9000;

/// One direction.
#[derive(Default)]
struct Line {
    /// What each write came to; nothing while it is under way.
    sent: Vec<Option<Bytes>>,
    /// The writes that did not begin.
    refused: Vec<usize>,
    bytes: usize,
    got: Vec<Bytes>,
    part: Vec<u8>,
    end: Option<ErrorKind>,
}

/// What was written at one end is read at the other, once, in order, with its borders where there are any,
/// and then the end. Of a write that was cancelled, what it says that it wrote.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut levels: Vec<&str> = (0..input.below(DEPTH + 1)).map(|_| input.one_of(&LEVELS)).collect();
    levels.push(input.one_of(&BOTTOMS));
    let spec = levels.join("/");
    let config = match input.below(4) {
        0 => SimConfig::calm(),
        1 => SimConfig::default(),
        2 => SimConfig::default().with_buffer(100),
        _ => SimConfig::default().with_buffer(1000).with_one_byte(),
    };
    let sim = Sim::with_config(u64::from(input.byte()), config);
    let engine = Engine::builder().owner_driven().reactor(sim.clone()).build().expect("an engine");
    let stack = DRIVERS.stack(&spec).unwrap_or_else(|e| panic!("{e}"));
    let server = engine.listen(&stack, Contact::new("10.0.0.1:7000")).wait().unwrap();
    let client = engine.open(&stack, server.contact().clone()).max_ops(1000).max_bytes(1 << 30).wait().unwrap();
    let served = server.accept().wait().unwrap().open().max_ops(1000).max_bytes(1 << 30).wait().unwrap();
    let borders = stack.caps().unit.has_borders();
    let mut bed = Bed { sim, engine, ends: [client, served], lines: Default::default(), ticket: None, borders };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        bed.step(&mut input);
    }
    bed.finish(input.len(5000) + 1);
}

struct Bed {
    sim: Arc<Sim>,
    engine: Engine,
    ends: [Handle; 2],
    /// What each end writes.
    lines: [Arc<Mutex<Line>>; 2],
    /// The last write, if it may be cancelled.
    ticket: Option<Ticket>,
    borders: bool,
}

impl Bed {
    fn step(&mut self, input: &mut Input<'_>) {
        let end = usize::from(input.flag());
        match input.below(9) {
            0..=2 => self.write(end, input),
            3 | 4 => {
                let room = input.len(4000) + 1;
                let wait_for = input.one_of(&[1, 7, room]).min(room);
                self.read(end, room, wait_for, input.flag());
            }
            5 => {
                self.ends[end].flush().then(|r| assert!(r.is_ok(), "{r:?}"));
            }
            6 => {
                if let Some(t) = self.ticket.take() {
                    t.cancel();
                }
            }
            7 => self.sim.run_for(&self.engine, input.micros()),
            _ => self.cntl(end, input),
        }
    }

    fn write(&mut self, end: usize, input: &mut Input<'_>) {
        let line = self.lines[end].clone();
        let (number, len) = {
            let mut l = line.lock().unwrap();
            let len = input.len(20_000).min(BYTES - l.bytes);
            // Of bytes, none are no write.
            let len = if self.borders { len } else { len.max(1) };
            l.bytes = (l.bytes + len).min(BYTES - 1);
            l.sent.push(None);
            (l.sent.len() - 1, len)
        };
        let all = Bytes::from(noise(number * 2 + end, len));
        let step = len.div_ceil(1 + input.below(4)).max(1);
        let mut pieces: Vec<_> = (0..len).step_by(step).map(|at| all.slice(at..len.min(at + step))).collect();
        if pieces.is_empty() {
            pieces.push(Bytes::new());
        }
        let mut call = self.ends[end].write(pieces);
        if input.rarely(6) {
            call = call.no_wait();
        }
        let borders = self.borders;
        let ticket = call.then(move |r| {
            let mut l = line.lock().unwrap();
            let n = match r {
                Ok(done) => {
                    assert_eq!(done.n, len);
                    len
                }
                Err(f) if f.error.kind() == ErrorKind::Busy => {
                    assert_eq!(f.back.n, 0);
                    l.refused.push(number);
                    0
                }
                Err(f) => {
                    assert!(!borders && f.error.kind() == ErrorKind::Cancelled, "{}", f.error);
                    f.back.n
                }
            };
            l.sent[number] = Some(all.slice(..n));
        });
        // Half a message would be the end of the line.
        self.ticket = (!self.borders).then_some(ticket);
    }

    fn read(&mut self, end: usize, room: usize, wait_for: usize, take: bool) {
        let line = self.lines[1 - end].clone();
        let h = &self.ends[end];
        let mut call = if take { h.take(room) } else { h.read(BytesMut::with_capacity(room)) };
        if !self.borders {
            call = call.wait_for(wait_for);
        }
        let borders = self.borders;
        call.then(move |r| line.lock().unwrap().came(r, borders));
    }

    /// Limits that change on the way.
    fn cntl(&mut self, end: usize, input: &mut Input<'_>) {
        let (name, value) = match input.below(4) {
            0 => ("depth", Value::Int(1 + input.below(100) as i64)),
            1 => ("high", Value::Size(100 + input.below(1000) as u64)),
            2 => ("low", Value::Size(input.below(1200) as u64)),
            _ => ("limit", Value::Rate(10_000 + input.below(60_000) as u64)),
        };
        let _ = self.ends[end].query(SetOption(name.into(), value));
        let queued = self.ends[end].query(queue::Queued).unwrap_or_default();
        assert!(queued.behind <= queued.bytes, "{queued:?}");
    }

    fn finish(&mut self, room: usize) {
        for h in &self.ends {
            h.shutdown().then(|r| assert!(r.is_ok(), "{r:?}"));
        }
        for end in 0..2 {
            while self.lines[1 - end].lock().unwrap().end.is_none() {
                self.read(end, room, 1, room.is_multiple_of(2));
                let h = &self.ends[end];
                let is_read = self.sim.run_until(&self.engine, || h.outstanding().0 == 0);
                assert!(is_read, "a read waits for ever: {:?}", self.ends[end].outstanding());
            }
        }
        self.sim.run(&self.engine);
        for (h, line) in self.ends.iter().zip(&self.lines) {
            assert_eq!(h.outstanding(), (0, 0));
            line.lock().unwrap().check(self.borders);
        }
        for h in &self.ends {
            h.close().then(|r| assert!(r.is_ok(), "{r:?}"));
        }
        self.sim.run(&self.engine);
    }
}

impl Line {
    fn came(&mut self, r: Result<ReadDone, Failed<ReadDone>>, borders: bool) {
        let (done, error) = match r {
            Ok(done) => (done, None),
            Err(f) => (f.back, Some(f.error.kind())),
        };
        assert!(self.end.is_none() || done.n == 0, "data behind the end");
        self.part.extend_from_slice(&done.into_bytes());
        match error {
            Some(ErrorKind::Truncated { .. }) if borders => return,
            Some(kind @ ErrorKind::Eof) => self.end = Some(kind),
            Some(kind) => panic!("a read failed: {kind:?}"),
            None => {}
        }
        if error.is_none() || !self.part.is_empty() {
            assert!(!borders || error.is_none(), "half a message, then the end");
            self.got.push(std::mem::take(&mut self.part).into());
        }
    }

    fn check(&self, borders: bool) {
        let began = self.sent.iter().enumerate().filter(|(i, _)| !self.refused.contains(i));
        let sent: Vec<_> = began.map(|(_, s)| s.clone().expect("every write is over")).collect();
        if borders {
            assert_eq!(sent.len(), self.got.len());
            assert!(sent == self.got, "messages came changed");
        } else {
            assert!(sent.concat() == self.got.concat(), "bytes came changed");
        }
    }
}
