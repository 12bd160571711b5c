//! Random stacks against a model: what one end writes the other end reads, in order, with the same
//! borders, then the end of the stream. The same programs run over real sockets, over pipes in the
//! process, and over the simulated network with its short transfers.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use xio_core::reactor::Sim;
use xio_core::{Contact, Engine, ErrorKind, Handle};
use xio_tests::stack;

/// A stack over `bottom`, top first, and what is written on it.
#[derive(Clone, Debug)]
struct Program {
    spec: String,
    writes: Vec<Write>,
    reads: Vec<usize>,
    take: bool,
}

#[derive(Clone, Debug)]
struct Write {
    len: usize,
    pieces: usize,
    flush: bool,
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("null"),
        Just("null(intercept=none)"),
        Just("null(gate)"),
        Just("queue"),
        Just("queue(batch=100B)"),
        Just("queue(early)"),
        Just("queue(early, batch=64B, linger=1ms)"),
        Just("frame"),
        Just("frame(header=8)"),
    ]
}

fn program(bottom: &'static [&'static str]) -> impl Strategy<Value = Program> {
    let write = (prop_oneof![0usize..300, 1000usize..20_000], 1usize..5, prop::bool::weighted(0.2))
        .prop_map(|(len, pieces, flush)| Write { len, pieces, flush });
    (
        prop::collection::vec(level(), 0..5),
        prop::sample::select(bottom),
        prop::collection::vec(write, 1..12),
        prop::collection::vec(1usize..5000, 1..6),
        any::<bool>(),
    )
        .prop_map(|(mut levels, bottom, writes, reads, take)| {
            // One `frame` at most: it makes messages of a stream.
            let mut framed = bottom.contains("message");
            levels.retain(|l| !l.starts_with("frame") || !std::mem::replace(&mut framed, true));
            levels.push(bottom);
            Program { spec: levels.join("/"), writes, reads, take }
        })
}

/// The bytes of a write: none equal to its neighbours.
fn bytes(i: usize, len: usize) -> Vec<u8> {
    (0..len).map(|k| (i * 31 + k * 7 + k / 251) as u8).collect()
}

fn write_all(h: &Handle, p: &Program) {
    for (i, w) in p.writes.iter().enumerate() {
        let all = Bytes::from(bytes(i, w.len));
        let step = w.len.div_ceil(w.pieces).max(1);
        let mut pieces: Vec<Bytes> = (0..w.len).step_by(step).map(|at| all.slice(at..w.len.min(at + step))).collect();
        if pieces.is_empty() {
            pieces.push(Bytes::new());
        }
        assert_eq!(h.write(pieces).wait().unwrap().n, w.len);
        if w.flush {
            h.flush().wait().unwrap();
        }
    }
    h.shutdown().wait().unwrap();
}

/// Reads to the end of the stream; each message or run of bytes by itself.
fn read_all(h: &Handle, p: &Program) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut message = Vec::new();
    for i in 0.. {
        let room = p.reads[i % p.reads.len()];
        let (done, error) = if p.take {
            match h.take(room).wait() {
                Ok(d) => (d, None),
                Err(f) => (f.back, Some(f.error)),
            }
        } else {
            match h.read(BytesMut::with_capacity(room)).wait() {
                Ok(d) => (d, None),
                Err(f) => (f.back, Some(f.error)),
            }
        };
        message.extend_from_slice(&done.into_bytes());
        match error.map(|e| e.kind()) {
            None => out.push(std::mem::take(&mut message)),
            Some(ErrorKind::Truncated { .. }) => {}
            Some(ErrorKind::Eof) => break,
            Some(other) => panic!("{other:?} on {}", p.spec),
        }
    }
    out
}

fn check(p: &Program, got: Vec<Vec<u8>>, borders: bool) {
    let sent: Vec<Vec<u8>> = p.writes.iter().enumerate().map(|(i, w)| bytes(i, w.len)).collect();
    if borders {
        assert_eq!(got.len(), sent.len(), "messages of {}", p.spec);
        assert!(got == sent, "the messages of {} came changed", p.spec);
    } else {
        assert!(got.concat() == sent.concat(), "the bytes of {} came changed", p.spec);
    }
}

/// Both ends with threads of their own.
fn run_real(p: &Program, contact: &str) {
    let engine = Engine::new().unwrap();
    let stack = stack(&p.spec);
    let server = engine.listen(&stack, Contact::new(contact)).wait().unwrap();
    let client = engine.open(&stack, server.contact().clone()).wait().unwrap();
    let served = server.accept().wait().unwrap().open().wait().unwrap();
    let sender = {
        let p = p.clone();
        std::thread::spawn(move || {
            write_all(&client, &p);
            client
        })
    };
    let got = read_all(&served, p);
    let client = sender.join().unwrap();
    check(p, got, stack.caps().unit.has_borders());
    // The other way still works after the half close.
    served.write("answer").wait().unwrap();
    served.flush().wait().unwrap();
    assert_eq!(client.take(100).wait_for(6).wait().unwrap().into_bytes(), "answer");
    client.close().wait().unwrap();
    served.close().wait().unwrap();
}

/// Both ends on one thread, in virtual time: the writer by callbacks, the reader blocking.
fn run_simulated(p: &Program, seed: u64) -> u64 {
    let sim: Arc<Sim> = Sim::new(seed);
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    let stack = stack(&p.spec);
    let server = engine.listen(&stack, Contact::new("10.0.0.1:7000")).wait().unwrap();
    let client = engine.open(&stack, server.contact().clone()).max_ops(10_000).max_bytes(1 << 30).wait().unwrap();
    let served = server.accept().wait().unwrap().open().wait().unwrap();
    for (i, w) in p.writes.iter().enumerate() {
        client.write(bytes(i, w.len)).then(|r| assert!(r.is_ok(), "{r:?}"));
        if w.flush {
            client.flush().then(|r| r.unwrap());
        }
    }
    client.shutdown().then(|r| r.unwrap());
    let got = read_all(&served, p);
    check(p, got, stack.caps().unit.has_borders());
    sim.hash()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn over_pipes(p in program(&["loop", "loop(buffer=64B)", "loop(message)", "loop(message, buffer=1KiB)"])) {
        run_real(&p, "a pipe");
    }

    #[test]
    fn over_sockets(p in program(&["tcp", "tcp(nodelay)", "tcp(sndbuf=4KiB, rcvbuf=4KiB)"])) {
        run_real(&p, "127.0.0.1:0");
    }

    #[test]
    fn in_simulation(p in program(&["tcp"]), seed in any::<u64>()) {
        let hash = run_simulated(&p, seed);
        prop_assert_eq!(hash, run_simulated(&p, seed), "the same seed runs the same way");
    }
}

/// Random cases of each test; more with `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
}
