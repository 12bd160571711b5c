//! Which branch a write goes to, and where a read says that it comes from.

use bytes::Bytes;
use xio_core::attr::Group;
use xio_core::caps::Caps;
use xio_core::reactor::Sim;
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::pick::{self, Options};
use xio_testkit::script::{Played, Script};

use crate::Target;
use crate::input::Input;

pub(crate) const TARGET: Target = Target {
    name: "pick",
    body: run,
    covers: &["drivers/src/pick/route.rs", "drivers/src/pick/driver.rs"],
    fault: "the first part of a group decides",
};

const LABELS: [&str; 8] = ["a", "b", "ab", "a.b", "b.a", "*", "+", "a.b.a"];
/// Most branches of a level.
const BRANCHES: usize = 4;
/// Most ops of a run.
const OPS: usize = 30;

/// A tree with its bottoms counted in preorder.
enum Node {
    Leaf(usize),
    Pick { labels: Vec<&'static str>, default: Option<String>, below: Vec<Self> },
}

/// A write goes to the branch that its group names, the longest label first, else to `*`, else nowhere;
/// without a group to the default. A read says which branch it is of, so that the answer goes there.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut bottoms = Vec::new();
    let (root, level) = tree(&mut input, 2, &mut bottoms);
    let Ok(stack) = Stack::new(level) else { return };
    let sim = Sim::new(1);
    let engine = Engine::builder().reactor(sim.clone()).build().expect("an engine");
    let opened = engine.open(&stack, Contact::None).wait();
    if !defaults_are_there(&root) {
        assert_eq!(opened.err().map(|e| e.kind()), Some(ErrorKind::InvalidInput));
        return;
    }
    let handle = opened.unwrap();
    for n in 0..OPS {
        if input.is_empty() {
            break;
        }
        let group = group(&mut input);
        write(&handle, &root, &bottoms, group, n);
    }
    // Each bottom has one message to read; its group leads back.
    for _ in 0..bottoms.len() {
        let done = handle.take(100).wait().unwrap();
        let from = done.attrs.find::<Group>().expect("a read has a group").0.clone();
        let said = done.into_bytes();
        let leaf = usize::from(said[0]);
        let to = route(&root, Some(&from));
        // Labels with dots may stand for several ways.
        if !from.contains(['*', '.']) {
            assert_eq!(to, Some(leaf), "`{from}`");
        }
        write(&handle, &root, &bottoms, Some(from), OPS + leaf);
    }
    handle.flush().wait().unwrap();
    handle.shutdown().wait().unwrap();
    handle.close().wait().unwrap();
}

fn write(handle: &Handle, root: &Node, bottoms: &[Played], group: Option<String>, n: usize) {
    let before: Vec<_> = bottoms.iter().map(|b| b.written().len()).collect();
    let want = route(root, group.as_deref());
    let mut call = handle.write(Bytes::from(vec![n as u8; n + 1]));
    if let Some(g) = &group {
        call = call.attr(Group(g.clone()));
    }
    let (kind, done) = match call.wait() {
        Ok(done) => (None, done),
        Err(f) => (Some(f.error.kind()), f.back),
    };
    assert_eq!(done.attrs.find::<Group>().map(|g| g.0.clone()), group, "attrs come back as they were given");
    assert_eq!(kind, want.is_none().then_some(ErrorKind::InvalidInput), "{group:?}");
    for (i, b) in bottoms.iter().enumerate() {
        let more = b.written().len() - before[i];
        assert_eq!(more, if want == Some(i) { n + 1 } else { 0 }, "{group:?} at bottom {i}");
    }
}

fn tree(input: &mut Input<'_>, depth: usize, bottoms: &mut Vec<Played>) -> (Node, LevelNode) {
    let mut labels = Vec::new();
    for _ in 0..1 + input.below(BRANCHES) {
        let label = input.one_of(&LABELS);
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let default = input.rarely(3).then(|| input.one_of(&LABELS).to_owned());
    let mut level =
        LevelNode::new(pick::driver()).with_attr(Box::new(Options::default().with_default(default.clone())));
    let mut below = Vec::new();
    for label in &labels {
        let (node, inner) = if depth > 0 && input.rarely(4) {
            tree(input, depth - 1, bottoms)
        } else {
            let mut script = Script::new(Caps::message()).read(vec![bottoms.len() as u8; 3]);
            for _ in 0..OPS + bottoms.len() + 40 {
                script = script.writes_all();
            }
            let (node, played) = script.build();
            bottoms.push(played);
            (Node::Leaf(bottoms.len() - 1), node.with_id(format!("bottom-{}", bottoms.len())))
        };
        below.push(node);
        level = level.branch(*label, inner);
    }
    (Node::Pick { labels, default, below }, level.with_id(format!("pick-{depth}-{}", bottoms.len())))
}

/// A group of a few labels, or any text.
fn group(input: &mut Input<'_>) -> Option<String> {
    match input.below(5) {
        0 => None,
        4 => Some(input.text().to_owned()),
        n => Some((0..n).map(|_| input.one_of(&LABELS)).collect::<Vec<_>>().join(".")),
    }
}

fn defaults_are_there(node: &Node) -> bool {
    match node {
        Node::Leaf(_) => true,
        Node::Pick { labels, default, below } => {
            default.as_ref().is_none_or(|d| choice(labels, d).is_some()) && below.iter().all(defaults_are_there)
        }
    }
}

/// The bottom that a group leads to.
fn route(node: &Node, group: Option<&str>) -> Option<usize> {
    match node {
        Node::Leaf(n) => Some(*n),
        Node::Pick { labels, default, below } => {
            let (branch, rest) = match group {
                Some(g) => choice(labels, g)?,
                None => (default.as_ref().map_or(Some(0), |d| Some(choice(labels, d)?.0))?, None),
            };
            route(&below[branch], rest)
        }
    }
}

/// The branch whose label is the longest beginning of the group, up to a dot or the end.
fn choice<'g>(labels: &[&str], group: &'g str) -> Option<(usize, Option<&'g str>)> {
    let fits = |l: &&str| group.strip_prefix(*l).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let best = labels.iter().enumerate().filter(|(_, l)| fits(l)).max_by_key(|(_, l)| l.len());
    match best {
        Some((i, l)) => Some((i, group.get(l.len() + 1..))),
        None => Some((labels.iter().position(|l| *l == "*")?, Some(group))),
    }
}
