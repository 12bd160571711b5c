//! What makes a rule say nothing about a stack: whoever asks for it there is refused. For every "not
//! applicable" of the table in CONTRACT.md, which is current by a test of its own.

mod subjects;

use std::collections::BTreeSet;
use std::time::Duration;

use xio_core::caps::Unit;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Engine, ErrorKind, LevelNode, Stack};
use xio_drivers::{frame, tcp};
use xio_testkit::{Subject, beds};

const LONG: Duration = Duration::from_secs(60);

/// Properties that no op asks for, so that there is nothing to refuse: whether two ends know of each other, there are sockets that could
/// be cut or several of them, whether a peer has to speak first, whether a child process could reach anything.
const NO_OP: &[&str] = &[
    "connected=false",
    "greets=false",
    "greets=true",
    "no socket below",
    "no stream below the messages",
    "several transports",
    "shared_memory=false",
    "sockets=0",
];

fn stack(subject: &Subject) -> Stack {
    Stack::new(subject.root()).expect("a subject that fits")
}

/// Whether this is bound over the subject.
fn carries(subject: &Subject, above: LevelNode) -> bool {
    Stack::new(above.over(subject.root())).is_ok()
}

fn is_unsupported<T>(r: Result<T, xio_core::Error>) -> bool {
    r.is_err_and(|e| e.kind() == ErrorKind::Unsupported)
}

/// Whether what this property rules out is refused.
fn is_refused(subject: &Subject, cap: &str) -> bool {
    let stack = stack(subject);
    let engine = Engine::builder().reactor(Sim::with_config(1, SimConfig::calm())).build().expect("an engine");
    let listens = |s: &Stack| engine.listen(s, subject.contact().clone()).deadline(LONG).wait();
    match cap {
        "accepts=false" => is_unsupported(listens(&stack)),
        "half_close=false" => {
            let server = listens(&stack).expect("a server");
            let near = engine.open(&stack, server.contact().clone()).deadline(LONG).wait().expect("an open");
            is_unsupported(near.shutdown().deadline(LONG).wait())
        }
        // A level that works on the other unit alone, or cannot stand what this one gives, does not fit over it.
        "unit=stream" => stack.caps().unit == Unit::Stream && !carries(subject, LevelNode::new(beds::dgram())),
        "unit=message" | "unit=datagram" | "reliable=false" | "ordered=false" => {
            !carries(subject, LevelNode::new(frame::driver()))
        }
        "a transport of its own" => {
            let bottom = stack.levels().last().expect("a level").driver().clone();
            Stack::new(LevelNode::new(bottom).over(LevelNode::new(tcp::driver()))).is_err()
        }
        other => panic!("nothing shows that `{other}` is refused"),
    }
}

/// Each subject of the table by its column, with each property that stands there.
fn not_applicable() -> BTreeSet<(usize, String)> {
    let rows = include_str!("../CONTRACT.md").lines().filter(|l| l.starts_with("| "));
    let cells = rows.flat_map(|l| l.trim_matches(['|', ' ']).split(" | ").skip(2).enumerate());
    // The head has names in the places of properties.
    let caps = cells.filter(|(_, cell)| cell.starts_with('`')).map(|(n, cell)| (n, cell.trim_matches('`').to_owned()));
    let names: BTreeSet<_> = subjects::ALL.iter().map(|s| s().name().to_owned()).collect();
    caps.filter(|(_, cap)| !names.contains(cap)).collect()
}

#[test]
fn what_does_not_apply_is_refused() {
    let all = not_applicable();
    let mut shown = 0;
    for (n, cap) in all.iter().filter(|(_, cap)| !NO_OP.contains(&cap.as_str())) {
        let subject = subjects::ALL[*n]();
        assert!(is_refused(&subject, cap), "{} does not refuse what `{cap}` rules out", subject.name());
        shown += 1;
    }
    let stray: Vec<_> = NO_OP.iter().filter(|cap| !all.iter().any(|(_, c)| c == *cap)).collect();
    assert!(stray.is_empty() && shown > 20, "{shown} shown, and nothing says {stray:?}");
    println!("{shown} of {} are refused, the others name no op", all.len());
}
