//! Traces: as text, recorded, and played again. Invariant: what is played in virtual time was recorded over real
//! sockets, once; `XIO_BLESS=1` records it anew.

use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::caps::Unit;
use xio_core::driver::OpKind;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::{frame, loop_, queue, tcp};
use xio_testkit::Stop;
use xio_testkit::dice::Dice;
use xio_testkit::script::{Played, Script};
use xio_testkit::trace::{MAX_DATA, MAX_OPS, Recorder, TooLong, Trace};

const LONG: Duration = Duration::from_secs(20);

/// `queue` over `frame` over this.
fn levels(bottom: LevelNode) -> Stack {
    Stack::new(LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(bottom))).unwrap()
}

/// What is asked and answered: short, empty, without print, and longer than a read of the transport.
fn dialogue() -> Vec<(Bytes, Bytes)> {
    let long: Bytes = (0..3000u32).map(|i| (i % 251) as u8).collect();
    vec![
        ("who is there?".into(), "only\r\n\"me\" \\ you".into()),
        (Bytes::new(), Bytes::from_static(b"\0\x01\xfe\xff")),
        (long.clone(), long.slice(500..)),
        ("bye".into(), Bytes::new()),
    ]
}

/// The near end's part: says what came, one answer for each question, and how it ended.
fn talks(near: &Handle, questions: impl IntoIterator<Item = Bytes>) -> (Vec<Bytes>, ErrorKind) {
    let mut came = Vec::new();
    for q in questions {
        near.write(q).deadline(LONG).wait().unwrap();
        came.push(near.read(BytesMut::with_capacity(4096)).deadline(LONG).wait().unwrap().into_bytes());
    }
    near.flush().wait().unwrap();
    near.shutdown().wait().unwrap();
    let end = near.take(9).deadline(LONG).wait().unwrap_err().kind();
    near.close().wait().unwrap();
    (came, end)
}

/// A real run: two ends, each on its own thread, over loopback.
fn run() -> (Trace, (Vec<Bytes>, ErrorKind)) {
    let engine = Engine::new().unwrap();
    let server = engine.listen(&levels(LevelNode::new(tcp::driver())), Contact::new("127.0.0.1:0")).wait().unwrap();
    let recorder = Recorder::new();
    let stack = levels(recorder.over(LevelNode::new(tcp::driver())));
    let came = std::thread::scope(|s| {
        s.spawn(|| {
            let far = server.accept().wait().unwrap().open().wait().unwrap();
            for (q, a) in dialogue() {
                let asked = far.read(BytesMut::with_capacity(4096)).deadline(LONG).wait().unwrap().into_bytes();
                assert_eq!(asked, q);
                far.write(a).deadline(LONG).wait().unwrap();
            }
            assert_eq!(far.take(9).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Eof);
            far.close().wait().unwrap();
        });
        let near = engine.open(&stack, server.contact().clone()).wait().unwrap();
        talks(&near, dialogue().into_iter().map(|(q, _)| q))
    });
    (recorder.traces().unwrap().remove(0), came)
}

fn answers() -> (Vec<Bytes>, ErrorKind) {
    (dialogue().into_iter().map(|(_, a)| a).collect(), ErrorKind::Eof)
}

/// The trace that is kept.
fn kept() -> Trace {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/traces/dialogue.trace");
    static BLESSED: Once = Once::new();
    BLESSED.call_once(|| {
        if std::env::var_os("XIO_BLESS").is_some() {
            let text = format!("# The near end of a dialogue over queue/frame/tcp, on loopback.\n{}", run().0);
            std::fs::write(&path, text).unwrap();
        }
    });
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Trace::parse(&text).unwrap()
}

fn replay(trace: &Trace, top: impl FnOnce(LevelNode) -> Stack) -> (Handle, Played) {
    let (node, played) = Script::replay(trace).build();
    let sim: Arc<Sim> = Sim::with_config(1, SimConfig::calm());
    let engine = Engine::builder().reactor(sim).build().unwrap();
    (engine.open(&top(node), ()).wait().unwrap(), played)
}

fn written(trace: &Trace) -> Vec<u8> {
    trace.records().iter().filter(|r| r.kind == OpKind::Write).flat_map(|r| r.data.to_vec()).collect()
}

fn complaint(played: &Played) -> String {
    match played.finish() {
        Err(Stop::Fail(_, text)) => text,
        other => panic!("{other:?}"),
    }
}

fn plain(node: LevelNode) -> Stack {
    Stack::new(node).unwrap()
}

fn parsed(lines: &str) -> Trace {
    Trace::parse(&format!("xio-trace 1 stream\n{lines}")).unwrap()
}

#[test]
fn a_run_over_real_sockets_is_recorded_as_it_was() {
    let (trace, came) = run();
    assert_eq!(came, answers());
    let wire: Vec<u8> = dialogue()
        .into_iter()
        .flat_map(|(q, _)| [&u32::try_from(q.len()).unwrap().to_be_bytes()[..], &q].concat())
        .collect();
    assert_eq!(written(&trace), wire);
    assert_eq!(Trace::parse(&trace.to_string()), Ok(trace.clone()));
    // What one run recorded another plays, today's as well as that which is kept.
    let (near, played) = replay(&trace, levels);
    assert_eq!(talks(&near, dialogue().into_iter().map(|(q, _)| q)), came);
    played.finish().unwrap();
}

#[test]
fn what_was_recorded_once_over_real_sockets_is_the_same_in_virtual_time() {
    let trace = kept();
    let (near, played) = replay(&trace, levels);
    assert_eq!(talks(&near, dialogue().into_iter().map(|(q, _)| q)), answers());
    assert_eq!(played.written(), written(&trace));
    played.finish().unwrap();
}

#[test]
fn levels_that_write_something_else_are_told() {
    let trace = kept();
    let changed = dialogue().into_iter().map(|(q, _)| if q == "bye" { "bYe".into() } else { q });
    let (near, played) = replay(&trace, levels);
    assert_eq!(talks(&near, changed), answers());
    let at = written(&trace).len() - 2;
    let want = format!("byte {at} of what is written, counted from 0, is 0x59, and was 0x79");
    assert_eq!(complaint(&played), want);
    // Another header is seen in its first byte.
    let header = frame::Options::default().with_header(8);
    let wide = |node| Stack::new(LevelNode::new(frame::driver()).with_attr(Box::new(header)).over(node)).unwrap();
    let (near, played) = replay(&trace, wide);
    near.write("who is there?").wait().unwrap();
    assert!(complaint(&played).starts_with("byte 3 of what is written, counted from 0, is 0x00, and was 0x0d"));
}

#[test]
fn less_and_more_than_was_recorded_is_told() {
    let (near, played) = replay(&parsed("write \"abc\"\nwrite \"def\"\n"), plain);
    near.write("abcd").wait().unwrap();
    assert!(complaint(&played).starts_with("no write came for Brings(b\"ef\""), "{}", complaint(&played));
    near.write("ef").wait().unwrap();
    played.finish().unwrap();
    assert_eq!(near.write("g").wait().unwrap_err().kind(), ErrorKind::Contract);
    assert_eq!(complaint(&played), "the script says nothing of a write of 1 bytes");
    let (near, played) = replay(&parsed("read \"abc\"\nflush Reset\n"), plain);
    assert_eq!(near.take(2).wait().unwrap().into_bytes(), "ab");
    assert_eq!(complaint(&played), "no read came for Data(b\"c\", None)");
    assert_eq!(near.take(2).wait().unwrap().into_bytes(), "c");
    assert_eq!(complaint(&played), "no flush came for Fails(Reset)");
    assert_eq!(near.flush().wait().unwrap_err().kind(), ErrorKind::Reset);
    played.finish().unwrap();
}

#[test]
fn a_read_finds_its_bytes_when_what_was_written_before_is_written_again() {
    let (near, played) = replay(&parsed("write \"ab\"\nwrite \"cd\"\nread \"answer\"\n"), plain);
    let (tx, rx) = std::sync::mpsc::channel();
    drop(near.read(BytesMut::with_capacity(9)).then(move |r| tx.send(r.unwrap().into_bytes()).unwrap()));
    near.write("abc").wait().unwrap();
    assert!(rx.try_recv().is_err(), "before the question was asked");
    near.write("d").wait().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), "answer");
    played.finish().unwrap();
}

#[test]
fn failures_come_where_they_came() {
    let trace = parsed("write \"abc\" Reset\nread \"xy\" Eof\nread \"\" Cancelled\nshutdown BrokenPipe\n");
    let (near, played) = replay(&trace, plain);
    let f = near.write("abcde").wait().unwrap_err();
    assert_eq!((f.kind(), f.back.n), (ErrorKind::Reset, 3));
    assert_eq!(near.take(9).wait_for(9).wait().unwrap_err().back.n, 2);
    assert_eq!(near.shutdown().wait().unwrap_err().kind(), ErrorKind::BrokenPipe);
    played.finish().unwrap();
    // The same in other pieces: the error meets who comes after the bytes that went.
    let (near, _) = replay(&trace, plain);
    near.write("abc").wait().unwrap();
    assert_eq!(near.write("de").wait().unwrap_err().kind(), ErrorKind::Reset);
}

#[test]
fn messages_keep_their_borders() {
    let engine = Engine::new().unwrap();
    let bottom = LevelNode::new(loop_::driver()).with_attr(Box::new(loop_::Options::default().with_message(true)));
    let server = engine.listen(&plain(bottom.clone()), ()).wait().unwrap();
    let recorder = Recorder::new();
    let near = engine.open(&plain(recorder.over(bottom)), server.contact()).wait().unwrap();
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    near.write("one").wait().unwrap();
    near.write("").wait().unwrap();
    far.write("a long answer").wait().unwrap();
    assert_eq!(near.take(6).wait().unwrap_err().kind(), ErrorKind::Truncated { len: 13 });
    assert_eq!(near.take(9).wait().unwrap().into_bytes(), " answer");
    let trace = recorder.traces().unwrap().remove(0);
    assert_eq!(trace.unit(), Unit::Message);
    let text =
        "xio-trace 1 message\nopen\nwrite \"one\"\nwrite \"\"\nread \"a long\" Truncated(13)\nread \" answer\"\n";
    assert_eq!(trace.to_string(), text);
    let (near, played) = replay(&trace, plain);
    near.write("one").wait().unwrap();
    near.write("").wait().unwrap();
    assert_eq!(near.take(6).wait().unwrap_err().kind(), ErrorKind::Truncated { len: 13 });
    assert_eq!(near.take(9).wait().unwrap().into_bytes(), " answer");
    played.finish().unwrap();
    // On a stream these would be the same bytes.
    let (near, played) = replay(&trace, plain);
    near.write("on").wait().unwrap();
    near.write("e").wait().unwrap();
    assert_eq!(complaint(&played), "message 0 of those written has 2 bytes, and had 3");
}

#[test]
fn every_trace_reads_back_as_it_was_printed() {
    let kinds =
        [OpKind::Open, OpKind::Close, OpKind::Read, OpKind::Write, OpKind::Flush, OpKind::Shutdown, OpKind::Ready];
    let errors = [
        None,
        None,
        None,
        Some(ErrorKind::Eof),
        Some(ErrorKind::Truncated { len: 0 }),
        Some(ErrorKind::Truncated { len: usize::MAX }),
        Some(ErrorKind::TooLong),
        Some(ErrorKind::Io),
    ];
    for seed in 0..2000 {
        let mut dice = Dice::new(seed);
        let mut pick = |n: usize| dice.between(0, n - 1);
        let mut trace = Trace::new([Unit::Stream, Unit::Message, Unit::Datagram][pick(3)]);
        for _ in 0..pick(8) {
            let data: Vec<u8> = (0..pick(300)).map(|_| pick(256) as u8).collect();
            trace.push(kinds[pick(kinds.len())], data, errors[pick(errors.len())]).unwrap();
        }
        let text = trace.to_string();
        assert_eq!(Trace::parse(&text), Ok(trace.clone()), "seed {seed}:\n{text}");
        // As others may have stored it.
        let loose = format!("\n# a note\n{}", text.replace('\n', "  \r\n\n"));
        assert_eq!(Trace::parse(&loose), Ok(trace), "seed {seed}:\n{loose}");
        // Whatever is done to it, it is a trace or an error in one of its lines.
        let mut bytes = text.into_bytes();
        for _ in 0..=pick(3) {
            let at = pick(bytes.len());
            bytes[at] = b" \"\\x0(#\n"[pick(8)];
        }
        let broken = String::from_utf8_lossy(&bytes);
        if let Err(e) = Trace::parse(&broken) {
            assert!((1..=broken.lines().count()).contains(&e.line), "seed {seed}: {e}:\n{broken}");
        }
    }
}

#[test]
fn what_is_no_trace_is_refused_in_its_line() {
    for (text, want) in [
        ("", "line 1: a trace begins with a line like `xio-trace 1 stream`"),
        ("# only notes\n", "line 1: a trace begins"),
        ("\nopen\n", "line 2: a trace begins"),
        ("xio-trace 2 stream", "line 1: this is version `2` of traces; version 1 is read"),
        ("xio-trace 1 pigeon", "line 1: `pigeon` is nothing a transport carries; there are stream, datagram, message"),
        ("xio-trace 1 stream more", "line 1: a trace begins"),
        ("xio-trace 1 stream\naccept", "line 2: there is no op `accept`; there are open, close, read, write"),
        ("xio-trace 1 stream\n\nread", "line 3: `` stands where the bytes of the read belong, in quotes"),
        ("xio-trace 1 stream\nwrite 'a'", "line 2: `'a'` stands where the bytes of the write belong, in quotes"),
        ("xio-trace 1 stream\nread \"ab", "line 2: the closing quote is missing"),
        ("xio-trace 1 stream\nread \"ab\\", "line 2: `\\` stands for no byte"),
        ("xio-trace 1 stream\nread \"\\é\"", "line 2: `\\é"),
        ("xio-trace 1 stream\nread \"\\x+1\"", "line 2: `\\x+1` stands for no byte"),
        ("xio-trace 1 stream\nread \"\\x1\"", "line 2: `\\x1\"` stands for no byte"),
        ("xio-trace 1 stream\nopen Bad", "line 2: `Bad` is no kind of error"),
        ("xio-trace 1 stream\nopen \"a\"", "line 2: `\"a\"` is no kind of error"),
        ("xio-trace 1 stream\nread \"a\" Eof Eof", "line 2: `Eof Eof` is no kind of error"),
        ("xio-trace 1 stream\nread \"a\" Truncated(-1)", "line 2: `-1` is no length"),
    ] {
        let e = Trace::parse(text).unwrap_err().to_string();
        assert!(e.starts_with(want), "{text:?}: {e}");
    }
}

#[test]
fn a_trace_stays_within_its_limits() {
    let lines = format!("xio-trace 1 stream\n{}", "flush\n".repeat(MAX_OPS));
    assert_eq!(Trace::parse(&lines).unwrap().records().len(), MAX_OPS);
    let e = Trace::parse(&format!("{lines}flush\n")).unwrap_err();
    assert_eq!((e.line, e.to_string().contains("at most 100000 ops")), (MAX_OPS + 2, true));
    let mut trace = Trace::new(Unit::Stream);
    trace.push(OpKind::Read, vec![0; MAX_DATA - 1], None).unwrap();
    assert_eq!(trace.push(OpKind::Write, vec![0; 2], None), Err(TooLong));
    trace.push(OpKind::Write, vec![0; 1], None).unwrap();
    assert_eq!(trace.push(OpKind::Read, vec![0; 1], None), Err(TooLong));
    // Other kinds have no data to keep.
    trace.push(OpKind::Flush, vec![0; 1], None).unwrap();
    assert_eq!(trace.records().len(), 3);
    // A run that is longer is not silently cut.
    let recorder = Recorder::new();
    let engine = Engine::new().unwrap();
    let (node, _) = Script::new(xio_core::caps::Caps::stream()).writes_all().writes_all().build();
    let h = engine.open(&plain(recorder.over(node)), ()).max_bytes(MAX_DATA + 1).wait().unwrap();
    h.write(vec![0; MAX_DATA]).wait().unwrap();
    assert_eq!(recorder.traces().map(|t| t.len()), Ok(1));
    h.write("x").wait().unwrap();
    assert_eq!(recorder.traces(), Err(TooLong));
}
