//! What `trace` says of what passes it, and that it changes nothing.
#![cfg(all(
    feature = "trace",
    feature = "loop",
    feature = "frame",
    feature = "queue",
    feature = "rate",
    feature = "void"
))]

use std::fmt::Debug;
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use xio_core::attr::{Rate, Size};
use xio_core::cntl::{LocalContact, SetOption};
use xio_core::cx::EventKind;
use xio_core::io::Direction;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::schema::Value;
use xio_core::{CloseMode, Contact, Engine, ErrorKind, Handle, LevelNode, Server, Stack};
use xio_drivers::trace::{self, Options, TARGET};
use xio_drivers::{frame, loop_, queue, rate, void};

const LONG: Duration = Duration::from_secs(20);

/// Lines of all tests of this process; each looks for those of its own name.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes each event down as `LEVEL field=value …`. Listens up to `debug`.
struct Collect;

impl Subscriber for Collect {
    fn enabled(&self, m: &Metadata<'_>) -> bool {
        m.target() == TARGET && *m.level() <= LevelFilter::DEBUG
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0 += &format!(" {}={value:?}", field.name());
            }
            fn record_str(&mut self, field: &Field, value: &str) {
                self.0 += &format!(" {}={value}", field.name());
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A `trace` level of this name; from now on its lines are collected.
fn named(name: &str, options: Options) -> LevelNode {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Collect).unwrap());
    LevelNode::new(trace::driver()).with_attr(Box::new(options.with_name(Some(name.into()))))
}

/// The lines of that level so far, without its name.
fn lines(name: &str) -> Vec<String> {
    let all = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let own = format!(" at={name} ");
    all.iter().filter(|l| l.contains(&own)).map(|l| l.replace(&own, " ")).collect()
}

/// The same but for severity and handle.
fn of_one(name: &str) -> Vec<String> {
    lines(name).iter().map(|l| l.strip_prefix("DEBUG handle=1 ").unwrap_or(l).to_owned()).collect()
}

fn on(words: &[&str]) -> Options {
    Options::default().with_on(words.iter().map(|w| (*w).to_owned()).collect())
}

fn bottom(message: bool) -> LevelNode {
    LevelNode::new(loop_::driver()).with_attr(Box::new(loop_::Options::default().with_message(message)))
}

/// A pair, of which the end that opens has these levels above.
fn pair(engine: &Engine, message: bool, above: impl FnOnce(LevelNode) -> LevelNode) -> (Server, Handle, Handle) {
    let leaf = bottom(message);
    let server = engine.listen(&Stack::new(leaf.clone()).unwrap(), ()).wait().unwrap();
    let near = engine.open(&Stack::new(above(leaf)).unwrap(), server.contact()).wait().unwrap();
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    (server, near, far)
}

#[test]
fn a_dialogue_has_a_line_down_and_one_up_for_each_op_and_none_of_its_bytes() {
    let engine = Engine::new().unwrap();
    let (server, near, far) = pair(&engine, false, |leaf| named("dialogue", Options::default()).over(leaf));
    near.write(vec![Bytes::from("geh"), Bytes::from("eim")]).wait().unwrap();
    near.flush().wait().unwrap();
    far.write("verborgen").wait().unwrap();
    near.ready(Direction::Read).wait().unwrap();
    assert_eq!(near.read(BytesMut::with_capacity(100)).wait_for(9).wait().unwrap().n, 9);
    near.shutdown().wait().unwrap();
    assert_eq!(far.take(6).wait_for(6).wait().unwrap().n, 6);
    far.close().wait().unwrap();
    assert_eq!(near.take(usize::MAX).wait().unwrap_err().kind(), ErrorKind::Eof);
    near.close().wait().unwrap();
    let said = of_one("dialogue");
    assert_eq!(
        said,
        [
            &format!("way=down kind=open op=1 contact={}", server.contact()),
            "way=up kind=open op=1",
            "way=down kind=write op=2 asked=6",
            "way=up kind=write op=2 asked=6 moved=6",
            "way=down kind=flush op=3",
            "way=up kind=flush op=3",
            "way=down kind=ready op=4 direction=Read",
            "way=up kind=ready op=4",
            "way=down kind=read op=5 asked=100 least=9",
            "way=up kind=read op=5 asked=100 moved=9",
            "way=down kind=shutdown op=6",
            "way=up kind=shutdown op=6",
            "way=down kind=read op=7 least=1",
            "way=up kind=read op=7 moved=0 error=Eof by=loop",
            "way=down kind=close op=8 mode=Graceful",
            "way=up kind=close op=8",
        ]
    );
    assert!(!said.iter().any(|l| l.contains("geh") || l.contains("verborgen")), "{said:?}");
}

#[test]
fn a_server_says_where_it_listens_and_whom_it_accepts_and_each_handle_has_a_number() {
    let engine = Engine::new().unwrap();
    let leaf = bottom(false);
    let stack = Stack::new(named("server", Options::default()).over(leaf.clone())).unwrap();
    let server = engine.listen(&stack, Contact::new("trace-server")).wait().unwrap();
    let plain = Stack::new(leaf).unwrap();
    let (tx, rx) = mpsc::channel();
    drop(server.accept().then(move |link| tx.send(link.is_ok()).unwrap()));
    let _first = engine.open(&plain, server.contact()).wait().unwrap();
    assert!(rx.recv_timeout(LONG).unwrap());
    let _second = engine.open(&plain, server.contact()).wait().unwrap();
    let link = server.accept().wait().unwrap();
    let open = format!("way=down kind=open op=1 contact={} passive=true", link.peer());
    let far = link.open().wait().unwrap();
    far.close().mode(CloseMode::Abort).wait().unwrap();
    server.close().unwrap();
    let said = lines("server");
    let of = |handle: usize| -> Vec<_> {
        let start = format!("DEBUG handle={handle} ");
        said.iter().filter_map(|l| l.strip_prefix(start.as_str())).collect()
    };
    assert_eq!(
        of(1),
        [
            "way=down kind=listen op=1 contact=trace-server",
            "way=up kind=listen op=1 contact=loop:trace-server",
            "way=down kind=accept op=2",
            "way=up kind=accept op=2",
            "way=down kind=accept op=3",
            "way=up kind=accept op=3",
            "way=down kind=close op=4 mode=Graceful",
            "way=up kind=close op=4",
        ]
    );
    assert_eq!(
        of(2),
        [open.as_str(), "way=up kind=open op=1", "way=down kind=close op=2 mode=Abort", "way=up kind=close op=2",]
    );
}

#[test]
fn only_what_is_chosen_is_logged() {
    let engine = Engine::new().unwrap();
    let talk = |name: &str, options: Options| {
        let (_s, near, far) = pair(&engine, false, |leaf| named(name, options).over(leaf));
        near.write("abc").wait().unwrap();
        assert_eq!(far.take(9).wait().unwrap().n, 3);
        near.query(LocalContact).unwrap();
        near.close().wait().unwrap();
        of_one(name)
    };
    assert_eq!(talk("one kind", on(&["flush"])), [""; 0]);
    assert_eq!(talk("down", on(&["write"]).with_ways("down".into())), ["way=down kind=write op=1 asked=3"]);
    // A line up says what was asked, too.
    assert_eq!(talk("up", on(&["write"]).with_ways("up".into())), ["way=up kind=write op=1 asked=3 moved=3"]);
    assert_eq!(talk("cntl", on(&["cntl"])), ["way=ask kind=LocalContact"]);
    let loud = on(&["write"]).with_ways("down".into()).with_level("error".into());
    assert_eq!(talk("loud", loud), ["ERROR handle=1 way=down kind=write op=1 asked=3"]);
    // The subscriber of these tests does not listen to that.
    assert_eq!(talk("quiet", Options::default().with_level("trace".into())), [""; 0]);
}

#[test]
fn lines_have_the_id_of_the_level_where_it_has_no_name() {
    let engine = Engine::new().unwrap();
    drop(named("unused", Options::default()));
    let node = LevelNode::new(trace::driver()).with_attr(Box::new(on(&["write"]).with_ways("down".into())));
    let (_s, near, _far) = pair(&engine, false, |leaf| node.with_id("tap-of-the-test").over(leaf));
    near.write("x").wait().unwrap();
    assert_eq!(of_one("tap-of-the-test"), ["way=down kind=write op=1 asked=1"]);
}

#[test]
fn what_ends_early_says_why_and_where() {
    let engine = Engine::new().unwrap();
    let ways = |words| on(words).with_ways("up".into());
    let (server, near, _far) = pair(&engine, false, |leaf| named("ends", ways(&["read"])).over(leaf));
    let (tx, rx) = mpsc::channel();
    let ticket =
        near.read(BytesMut::with_capacity(8)).then(move |r| tx.send(r.map(drop).map_err(|f| f.kind())).unwrap());
    ticket.cancel();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Err(ErrorKind::Cancelled));
    let late = near.read(BytesMut::with_capacity(7)).deadline(Duration::from_millis(5)).wait();
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    let said = of_one("ends");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("way=up kind=read op=1 asked=8 moved=0 error=Cancelled"), "{said:?}");
    assert!(said[1].starts_with("way=up kind=read op=2 asked=7 moved=0 error=TimedOut"), "{said:?}");
    server.close().unwrap();
    let stack = Stack::new(named("refused", ways(&["open"])).over(bottom(false))).unwrap();
    assert!(engine.open(&stack, server.contact()).wait().is_err());
    assert_eq!(of_one("refused"), ["way=up kind=open op=1 error=Refused by=loop"]);
}

#[test]
fn outstanding_ops_keep_their_numbers() {
    let engine = Engine::new().unwrap();
    let (_s, near, far) = pair(&engine, true, |leaf| named("many", on(&["read"])).over(leaf));
    let (tx, rx) = mpsc::channel();
    for room in 1..=40 {
        let tx = tx.clone();
        drop(near.read(BytesMut::with_capacity(room)).then(move |r| tx.send(r.unwrap().n).unwrap()));
    }
    for n in 1..=40 {
        far.write(vec![7; n]).wait().unwrap();
        assert_eq!(rx.recv_timeout(LONG).unwrap(), n);
    }
    let said = of_one("many");
    let up: Vec<_> = said.iter().filter(|l| l.starts_with("way=up")).collect();
    let want: Vec<_> = (1..=40).map(|n| format!("way=up kind=read op={n} asked={n} moved={n}")).collect();
    assert_eq!(up, want.iter().collect::<Vec<_>>());
}

#[test]
fn time_below_is_told_where_it_is_asked_for() {
    let sim = Sim::with_config(1, SimConfig::calm().with_horizon(Duration::from_secs(1_000_000)));
    let engine = Engine::builder().reactor(sim).build().unwrap();
    let slow = rate::Options::default().with_limit(Some(Rate(1000))).with_burst(Some(Size(100)));
    let node = named("time", on(&["write"]).with_ways("up".into()).with_time(true));
    let below = LevelNode::new(rate::driver()).with_attr(Box::new(slow)).over(LevelNode::new(void::driver()));
    let h = engine.open(&Stack::new(node.over(below)).unwrap(), ()).wait().unwrap();
    h.write(vec![0; 100]).wait().unwrap();
    h.write(vec![0; 50]).wait().unwrap();
    assert_eq!(
        of_one("time"),
        [
            "way=up kind=write op=1 asked=100 moved=100 took_ns=0",
            "way=up kind=write op=2 asked=50 moved=50 took_ns=50000000",
        ]
    );
}

#[test]
fn between_levels_it_says_what_passes_there() {
    let engine = Engine::new().unwrap();
    let framed = |leaf| LevelNode::new(frame::driver()).over(leaf);
    let leaf = bottom(false);
    let server = engine.listen(&Stack::new(framed(leaf.clone())).unwrap(), ()).wait().unwrap();
    let stack = Stack::new(framed(named("wire", on(&["write", "read"]).with_ways("up".into())).over(leaf))).unwrap();
    let near = engine.open(&stack, server.contact()).wait().unwrap();
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    near.write("12345").wait().unwrap();
    assert_eq!(of_one("wire"), ["way=up kind=write op=1 asked=9 moved=9"]);
    far.write("1234567").wait().unwrap();
    assert_eq!(near.take(100).wait().unwrap().n, 7);
    // However many reads it took: header and body came.
    let moved = |l: &String| -> usize { l.split("moved=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap() };
    assert_eq!(of_one("wire").iter().filter(|l| l.contains("kind=read")).map(moved).sum::<usize>(), 11);
}

#[test]
fn messages_that_go_in_one_write_are_counted() {
    let sim = Sim::new(1);
    let engine = Engine::builder().reactor(sim).build().unwrap();
    let slow = rate::Options::default().with_limit(Some(Rate(1000))).with_burst(Some(Size(10)));
    let below = LevelNode::new(rate::driver()).with_attr(Box::new(slow)).over(LevelNode::new(void::driver()));
    let framed = LevelNode::new(frame::driver()).over(below);
    let node =
        LevelNode::new(queue::driver()).over(named("batch", on(&["write"]).with_ways("down".into())).over(framed));
    let h = engine.open(&Stack::new(node).unwrap(), ()).wait().unwrap();
    let (tx, rx) = mpsc::channel();
    for _ in 0..5 {
        let tx = tx.clone();
        drop(h.write("0123456789").then(move |r| tx.send(r.map(drop).map_err(|f| f.kind())).unwrap()));
    }
    h.flush().wait().unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [Ok(()); 5]);
    assert_eq!(of_one("batch"), ["way=down kind=write op=1 asked=10", "way=down kind=write op=2 asked=40 messages=4"]);
}

#[test]
fn events_and_commands_pass() {
    let engine = Engine::new().unwrap();
    let queued = queue::Options::default().with_high(Size(10)).with_low(Size(5));
    let node = |leaf| {
        let leaf = LevelNode::new(queue::driver()).with_attr(Box::new(queued)).over(leaf);
        named("events", on(&["event", "cntl"])).with_id("log").over(leaf)
    };
    let leaf = LevelNode::new(loop_::driver()).with_attr(Box::new(loop_::Options::default().with_buffer(Size(64))));
    let server = engine.listen(&Stack::new(leaf.clone()).unwrap(), ()).wait().unwrap();
    let near = engine.open(&Stack::new(node(leaf)).unwrap(), server.contact()).wait().unwrap();
    let far = server.accept().wait().unwrap().open().wait().unwrap();
    let (tx, rx) = mpsc::channel();
    near.on_event(move |e| tx.send(e.kind.clone()).unwrap());
    std::thread::scope(|s| {
        for _ in 0..5 {
            s.spawn(|| near.write(vec![1; 60]).wait().unwrap());
        }
        // Nothing is read yet, so that at least two of them wait.
        assert_eq!(rx.recv_timeout(LONG).unwrap(), EventKind::Filled);
        assert_eq!(far.take(300).wait_for(300).wait().unwrap().n, 300);
        assert_eq!(rx.recv_timeout(LONG).unwrap(), EventKind::Drained);
    });
    assert_eq!(near.query(queue::Queued).unwrap().bytes, 0);
    // It has nothing that can be set while it is open, and says so.
    let e = near.cntl("log", SetOption("level".into(), Value::Text("info".into()))).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::UnsupportedCommand);
    let said = of_one("events");
    let (events, asked): (Vec<_>, Vec<_>) = said.iter().partition(|l| l.starts_with("way=event"));
    // A writer that was late has filled it once more.
    assert!(events.len() >= 2 && events.len().is_multiple_of(2), "{said:?}");
    assert!(events.chunks(2).all(|pair| pair == ["way=event kind=Filled", "way=event kind=Drained"]), "{said:?}");
    assert_eq!(asked, ["way=ask kind=Queued", "way=ask kind=SetOption"]);
}

#[test]
fn it_gives_what_is_below() {
    for message in [false, true] {
        let plain = Stack::new(bottom(message)).unwrap();
        let traced = Stack::new(named("caps", Options::default()).over(bottom(message))).unwrap();
        assert_eq!(traced.caps(), plain.caps());
    }
}

#[test]
fn who_listens_may_be_slow_and_gets_lines_from_many_threads() {
    let engine = Arc::new(Engine::new().unwrap());
    std::thread::scope(|s| {
        for t in 0..4 {
            let engine = engine.clone();
            s.spawn(move || {
                let name = format!("thread {t}");
                let (_s, near, far) = pair(&engine, false, |leaf| named(&name, on(&["write", "read"])).over(leaf));
                for _ in 0..100 {
                    near.write("ab").wait().unwrap();
                    far.write("cd").wait().unwrap();
                    assert_eq!(near.take(2).wait_for(2).wait().unwrap().n, 2);
                    assert_eq!(far.take(2).wait_for(2).wait().unwrap().n, 2);
                }
                assert_eq!(lines(&name).len(), 400);
            });
        }
    });
}
