//! Messages found in a stream that comes in any pieces, and written to one that takes any.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::Size;
use xio_core::caps::Caps;
use xio_core::io::Direction;
use xio_core::reactor::Sim;
use xio_core::{Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::{frame, queue};
use xio_testkit::script::{Played, Script};

use crate::Target;
use crate::input::{Input, noise};

pub(crate) const TARGET: Target = Target {
    name: "frame",
    body: run,
    covers: &["drivers/src/frame/driver.rs"],
    fault: "a header in two pieces loses a byte",
};

/// Most messages of a run.
const MESSAGES: usize = 40;

/// The messages that come out are those that a plain reader of the whole text finds, and so is the end;
/// what is written is what a plain writer writes.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let header = input.one_of(&[4u8, 1, 2, 8]);
    let max = input.one_of(&[1 << 20, 1, 16, 200, 9000]);
    let options = frame::Options::default().with_header(header);
    let max = if header == 1 {
        max.min(255)
    } else if header == 2 {
        max.min(65_535)
    } else {
        max
    };
    let options = options.with_max(Size(max as u64));
    if input.flag() { writes(input, options, max) } else { reads(input, options, max) }
}

fn open(level: LevelNode, script: Script) -> (Arc<Sim>, Engine, Handle, Played) {
    let (bottom, played) = script.build();
    let stack = Stack::new(level.over(bottom)).expect("frame over a stream");
    let sim = Sim::new(1);
    let engine = Engine::builder().reactor(sim.clone()).build().expect("an engine");
    let handle = engine.open(&stack, ()).max_ops(1000).wait().expect("nothing to fail");
    (sim, engine, handle, played)
}

/// What a plain reader finds: whole messages, then how it ends.
fn plain(wire: &[u8], header: usize, max: usize, end: ErrorKind) -> (Vec<&[u8]>, ErrorKind) {
    let mut rest = wire;
    let mut all = Vec::new();
    loop {
        if rest.len() < header {
            let inside = !rest.is_empty() && end == ErrorKind::Eof;
            return (all, if inside { ErrorKind::UnexpectedEof } else { end });
        }
        let (head, body) = rest.split_at(header);
        let len = head.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        if len > max as u64 {
            return (all, ErrorKind::Protocol);
        }
        if (body.len() as u64) < len {
            return (all, if end == ErrorKind::Eof { ErrorKind::UnexpectedEof } else { end });
        }
        let (message, after) = body.split_at(len as usize);
        all.push(message);
        rest = after;
    }
}

fn reads(mut input: Input<'_>, options: frame::Options, max: usize) {
    let header = usize::from(options.header);
    let late = input.rarely(4);
    let end = input.one_of(&[ErrorKind::Eof, ErrorKind::Reset]);
    let rooms = [input.len(70_000) + 1, input.len(300) + 1, 1 << 21];
    let style = input.byte();
    // Pieces of the stream: bytes of the input as they are, or headers and bodies that fit.
    let mut wire = Vec::new();
    let mut script = Script::new(Caps::stream());
    let mut cuts = Vec::new();
    while !input.is_empty() && wire.len() < 1 << 16 {
        match input.below(4) {
            0 => {
                let n = input.len(64);
                wire.extend_from_slice(input.bytes(n));
            }
            1 | 2 => {
                let n = input.len(max.min(12_000));
                wire.extend_from_slice(&(n as u64).to_be_bytes()[8 - header..]);
                wire.extend(noise(wire.len(), n));
            }
            _ => cuts.push(wire.len().saturating_sub(input.below(24))),
        }
    }
    cuts.retain(|c| *c <= wire.len());
    cuts.sort_unstable();
    cuts.push(wire.len());
    let mut at = 0;
    for cut in cuts {
        if cut > at {
            script = script.read(wire[at..cut].to_vec());
            script = if late { script.after(Duration::from_micros(700)) } else { script };
            at = cut;
        }
    }
    script = if style & 2 == 0 { script.read_then("", end) } else { script.fails(xio_core::driver::OpKind::Read, end) };
    let (_sim, _engine, handle, _) = open(LevelNode::new(frame::driver()).with_attr(Box::new(options)), script);
    let (want, last) = plain(&wire, header, max, end);
    let mut part = Vec::new();
    let mut got = 0;
    for n in 0.. {
        assert!(n < 2_000_000, "it never ends");
        let room = rooms[n % rooms.len()];
        if style & 4 != 0 && n % 3 == 0 {
            handle.ready(Direction::Read).wait().unwrap_or_default();
        }
        let mut call = if style & 8 == 0 { handle.take(room) } else { handle.read(BytesMut::with_capacity(room)) };
        if late && n % 2 == 0 {
            call = call.deadline(Duration::from_micros(300));
        }
        let (done, error) = match call.wait() {
            Ok(done) => (done, None),
            Err(f) => (f.back, Some(f.error.kind())),
        };
        part.extend_from_slice(&done.into_bytes());
        match error {
            None => {
                let whole = want.get(got).unwrap_or_else(|| panic!("message {got} of {}", want.len()));
                assert!(part == *whole, "message {got} is another one: {} of {} bytes", part.len(), whole.len());
                part.clear();
                got += 1;
            }
            Some(ErrorKind::Truncated { .. }) => assert!(!part.is_empty()),
            Some(ErrorKind::TimedOut) if late => {}
            Some(kind) => {
                assert_eq!((got, kind), (want.len(), last));
                assert!(part.is_empty(), "an end brought a part of a message");
                break;
            }
        }
    }
    handle.close().abort().wait().unwrap();
}

fn writes(mut input: Input<'_>, options: frame::Options, max: usize) {
    let header = usize::from(options.header);
    let queued = input.flag();
    let mut script = Script::new(Caps::stream());
    for _ in 0..input.below(20) {
        script = script.writes(input.len(2000) + 1);
    }
    for _ in 0..MESSAGES * 4 {
        script = script.writes_all();
    }
    let level = LevelNode::new(frame::driver()).with_attr(Box::new(options));
    let (sim, engine, handle, played) = if queued {
        let batch = queue::Options::default().with_batch(Size(input.len(60_000) as u64 + 1));
        let batch = batch.with_early(input.flag());
        let (bottom, played) = script.build();
        let level = LevelNode::new(queue::driver()).with_attr(Box::new(batch)).over(level.over(bottom));
        let sim = Sim::new(1);
        let engine = Engine::builder().reactor(sim.clone()).build().expect("an engine");
        let stack = Stack::new(level).expect("queue over frame over a stream");
        let handle = engine.open(&stack, ()).max_ops(1000).max_bytes(1 << 30).wait().expect("nothing to fail");
        (sim, engine, handle, played)
    } else {
        open(level, script)
    };
    let mut want = Vec::new();
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let mut long = 0;
    for n in 0..MESSAGES {
        if input.is_empty() {
            break;
        }
        // Behind a queue that has told its writers, a message too long would be told to another.
        let most = if queued { max } else { max + 2 };
        let len = input.len(most.min(12_000));
        let pieces = 1 + input.below(4);
        let bytes = noise(n, len);
        if len <= max {
            want.extend_from_slice(&(len as u64).to_be_bytes()[8 - header..]);
            want.extend_from_slice(&bytes);
        } else {
            long += 1;
        }
        let bytes = bytes::Bytes::from(bytes);
        let step = len.div_ceil(pieces).max(1);
        let mut all: Vec<_> = (0..len).step_by(step).map(|at| bytes.slice(at..len.min(at + step))).collect();
        if all.is_empty() {
            all.push(bytes::Bytes::new());
        }
        let wrong = wrong.clone();
        handle.write(all).then(move |r| {
            let kind = r.as_ref().err().map(|f| f.error.kind());
            if let Some(kind) = kind {
                wrong.lock().unwrap().push((len, kind));
            }
        });
        if input.rarely(8) {
            sim.run(&engine);
        }
    }
    handle.flush().wait().unwrap();
    sim.run(&engine);
    let wrong = wrong.lock().unwrap();
    assert!(wrong.len() == long && wrong.iter().all(|(n, k)| *n > max && *k == ErrorKind::TooLong), "{wrong:?}");
    assert!(played.written() == want, "{} bytes written, {} wanted", played.written().len(), want.len());
    handle.close().wait().unwrap();
}
