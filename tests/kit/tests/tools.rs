//! The tools of the kit, each for itself.

use std::time::Duration;

use bytes::BytesMut;
use xio_core::caps::Caps;
use xio_core::driver::OpKind;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::{frame, null};
use xio_testkit::bench::Bench;
use xio_testkit::jitter::{Cut, Jitter};
use xio_testkit::nth_fault::{Fault, Faults, every_of};
use xio_testkit::probe::{Probes, Side};
use xio_testkit::script::Script;
use xio_testkit::{Options, Stop, Subject};

fn open(top: LevelNode) -> (std::sync::Arc<Sim>, Handle) {
    let sim = Sim::with_config(1, SimConfig::calm());
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    let h = engine.open(&Stack::new(top).unwrap(), ()).wait().unwrap();
    (sim, h)
}

fn room(n: usize) -> BytesMut {
    BytesMut::with_capacity(n)
}

fn framed(below: LevelNode) -> LevelNode {
    LevelNode::new(frame::driver()).over(below)
}

#[test]
fn a_script_is_played_in_order_and_in_its_time() {
    let script = Script::new(Caps::stream())
        .read(&b"\0\0\0\x03ab"[..])
        .read_then(&b"c\0\0\0\x01z"[..], ErrorKind::Eof)
        .after(Duration::from_secs(5))
        .writes(2)
        .writes_all();
    let (node, played) = script.build();
    let (sim, h) = open(framed(node));
    assert_eq!(h.read(room(9)).wait().unwrap().buf, "abc");
    assert_eq!(sim.time().as_nanos(), 5_000_000_000);
    // What came with the end is delivered before it.
    assert_eq!(h.read(room(9)).wait().unwrap().buf, "z");
    h.write("yes").wait().unwrap();
    assert_eq!(played.written(), b"\0\0\0\x03yes");
    played.finish().unwrap();
}

#[test]
fn each_op_of_a_script_has_its_own_time() {
    let script = Script::new(Caps::stream()).read("x").after(Duration::from_secs(2)).writes_all();
    let (node, played) = script.after(Duration::from_secs(1)).build();
    let sim = Sim::new(1);
    let engine = Engine::builder().owner_driven().reactor(sim.clone()).build().unwrap();
    let h = engine.open(&Stack::new(node).unwrap(), ()).wait().unwrap();
    let (tx, rx) = std::sync::mpsc::channel();
    let (r, w) = (tx.clone(), tx);
    let (at_read, at_write) = (sim.clone(), sim.clone());
    h.take(1).then(move |d| r.send(("read", d.is_ok(), at_read.time().as_nanos())).unwrap());
    h.write("y").then(move |d| w.send(("write", d.is_ok(), at_write.time().as_nanos())).unwrap());
    sim.run_for(&engine, Duration::from_secs(5));
    assert_eq!(rx.try_recv(), Ok(("write", true, 1_000_000_000)));
    assert_eq!(rx.try_recv(), Ok(("read", true, 2_000_000_000)));
    played.finish().unwrap();
}

#[test]
fn a_script_complains_of_what_it_does_not_know_and_of_what_nobody_used() {
    let (node, played) = Script::new(Caps::stream()).read("never read").build();
    let (_sim, h) = open(node);
    let fails = |what: &str| match played.finish() {
        Err(Stop::Fail(_, text)) => assert!(text.contains(what), "{text}"),
        other => panic!("{other:?}"),
    };
    fails("no read came for");
    assert_eq!(h.write("what?").wait().unwrap_err().kind(), ErrorKind::Contract);
    fails("says nothing of a write of 5 bytes");
}

#[test]
fn a_script_fails_what_it_is_to_fail() {
    let script = Script::new(Caps::stream())
        .writes_then(3, ErrorKind::Reset)
        .fails(OpKind::Flush, ErrorKind::BrokenPipe)
        .fails(OpKind::Read, ErrorKind::Reset);
    let (node, played) = script.build();
    let (_sim, h) = open(node);
    let f = h.write("hello").wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::Reset, 3));
    assert_eq!(h.flush().wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(h.read(room(9)).wait().unwrap_err().kind(), ErrorKind::Reset);
    played.finish().unwrap();
}

#[test]
fn a_probe_sees_what_passes_and_complains_of_nothing_in_a_sound_stack() {
    let probes = Probes::new(true);
    let (node, _) = Script::new(Caps::stream()).read("abc").writes_all().build();
    let (_sim, h) = open(probes.over(Side::Near, 0, "null", LevelNode::new(null::driver()).over(node)));
    assert_eq!(h.read(room(9)).wait().unwrap().buf, "abc");
    h.write("xy").wait().unwrap();
    h.close().wait().unwrap();
    let seen: Vec<_> = probes.events().iter().map(|e| (e.kind, e.up, e.bytes)).collect();
    let want = [
        (OpKind::Open, false, 0),
        (OpKind::Open, true, 0),
        (OpKind::Read, false, 9),
        (OpKind::Read, true, 3),
        (OpKind::Write, false, 2),
        (OpKind::Write, true, 2),
        (OpKind::Close, false, 0),
        (OpKind::Close, true, 0),
    ];
    assert_eq!(seen, want);
    assert_eq!(probes.complaints(), []);
    assert_eq!(probes.counts(OpKind::Read), (1, 1));
}

#[test]
fn every_call_fails_once() {
    let mut places = Vec::new();
    let plan = |n| Faults::new(n, Fault::Error(ErrorKind::Protocol)).only(&[OpKind::Open, OpKind::Read]);
    let n = every_of(plan, |faults| {
        let (node, _) = Script::new(Caps::stream()).read("abc").build();
        let sim = Sim::with_config(1, SimConfig::calm());
        let engine = Engine::builder().reactor(sim).build()?;
        let stack = Stack::new(faults.level(node)).unwrap();
        let read = engine.open(&stack, ()).wait().and_then(|h| Ok(h.read(room(3)).wait()?.n));
        assert_eq!(read.is_err(), faults.hit().is_some(), "{read:?}");
        places.extend(faults.hit());
        Ok(())
    });
    assert_eq!(n.unwrap(), 4);
    let want =
        ["open down to `faulty`", "open up through `faulty`", "read down to `faulty`", "read up through `faulty`"];
    assert_eq!(places, want);
}

#[test]
fn system_calls_fail_where_they_are_to() {
    let bench = Bench::new("C1", Subject::transform(null::driver()), Options::default()).unwrap();
    let mut places = Vec::new();
    for n in 1.. {
        let faults = Faults::new(n, Fault::Error(ErrorKind::Exhausted));
        let w = bench.stage(1).network(SimConfig::calm()).reactor(|sim| faults.reactor(sim)).build().unwrap();
        let moved = w.pair().and_then(|p| {
            p.near.write("abc").deadline(Duration::from_secs(1)).wait()?;
            p.far.read(room(3)).deadline(Duration::from_secs(1)).wait()?;
            Ok(())
        });
        let Some(place) = faults.hit() else {
            moved.unwrap();
            break;
        };
        places.push(place);
    }
    for call in ["listen", "connect", "getsockopt", "accept", "send", "recv"] {
        assert!(places.iter().any(|p| p.ends_with(call)), "{call} never failed: {places:?}");
    }
}

#[test]
fn jitter_changes_time_and_parts_and_nothing_else() {
    for (cut, parts) in [(Cut::OneByte, 6), (Cut::Half, 1), (Cut::Whole, 1)] {
        let (node, _) = Script::new(Caps::stream()).read("abcdef").build();
        let probes = Probes::new(true);
        let below = probes.over(Side::Near, 1, "script", node);
        let (_sim, h) = open(Jitter::cutting(1, cut).over(below));
        assert_eq!(h.read(room(12)).wait_for(6).wait().unwrap().buf, "abcdef");
        let reads = probes.events().iter().filter(|e| e.kind == OpKind::Read && e.up).count();
        assert_eq!(reads, parts, "{cut:?}");
    }
    let (node, played) = Script::new(Caps::stream()).writes_all().writes_all().writes_all().build();
    let (sim, h) = open(Jitter::late(3).over(node));
    for text in ["a", "b", "c"] {
        h.write(text).then(|r| assert!(r.is_ok(), "{r:?}"));
    }
    h.flush().wait().unwrap();
    assert_eq!(played.written(), b"abc");
    assert!(sim.time().as_nanos() > 0);
}
