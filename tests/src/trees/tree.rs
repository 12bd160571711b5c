//! Random trees that bind, and what the model has to know of them. Invariant: no path has more than
//! [`DEPTH`] levels, no tree more than [`LEAVES`] leaves.

use proptest::prelude::*;

/// Most levels on a path.
const DEPTH: usize = 8;
/// Most leaves of a tree.
const LEAVES: usize = 8;
pub(crate) const LABELS: [&str; 4] = ["a", "b", "c", "d"];

/// A tree as it is drawn; what cannot be bound of it is left out when it is [built](Tree::new).
#[derive(Clone, Debug)]
pub(crate) enum Draft {
    Leaf(Vec<&'static str>, &'static str),
    Pick(Vec<&'static str>, Choice, Vec<Self>),
}

/// The options of a `pick` and whether its last branch takes every name.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) ahead: &'static str,
    /// A number for one of the branches, however many there are.
    pub(crate) default: Option<usize>,
    pub(crate) any: bool,
}

/// A tree that binds.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) spec: String,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) borders: bool,
    root: Node,
}

/// A transport at the bottom, and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) labels: Vec<String>,
    /// The levels on the way but for the picks: what its peer has.
    pub(crate) peer: String,
    pub(crate) is_tcp: bool,
    /// A write that stops may stop inside a message. Those behind it do not all hear of that yet, so
    /// here no write stops.
    pub(crate) tears: bool,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(usize),
    Pick(usize, Vec<(String, Self)>),
}

/// What may stand over a leaf or a pick.
pub(crate) const LEVELS: [&str; 13] = [
    "null",
    "null(intercept=none)",
    "null(gate)",
    "queue",
    "queue(batch=100B)",
    "queue(early)",
    "queue(early, batch=64B, linger=1ms)",
    "frame",
    "frame(header=8)",
    "trace(time)",
    "rate(limit=10MB/s)",
    "fault(delay=[1us, 90us])",
    "fault(short_read=0.5, short_write=0.5)",
];

/// What a leaf may be; `tcp` is more likely than the others.
pub(crate) const BOTTOMS: [&str; 8] = [
    "tcp",
    "tcp",
    "tcp",
    "tcp(sndbuf=4KiB, rcvbuf=4KiB)",
    "loop",
    "loop(buffer=64B)",
    "loop(message)",
    "loop(message, buffer=1KiB)",
];

fn choice() -> impl Strategy<Value = Choice> {
    let ahead = prop_oneof![Just("64KiB"), Just("7B"), Just("100B"), Just("2KiB")];
    let default = prop::option::of(any::<usize>());
    (ahead, default, any::<bool>()).prop_map(|(ahead, default, any)| Choice { ahead, default, any })
}

/// A tree with a `pick` near its top.
pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    (draft(), any::<bool>()).prop_map(|(draft, borders)| Tree::new(&draft, borders))
}

/// Such a tree as it comes.
pub(crate) fn draft() -> impl Strategy<Value = Draft> {
    let leaf = (prop::collection::vec(prop::sample::select(&LEVELS), 0..4), prop::sample::select(&BOTTOMS))
        .prop_map(|(l, b)| Draft::Leaf(l, b));
    let pick = |inner| {
        (prop::collection::vec(prop::sample::select(&LEVELS), 0..3), choice(), prop::collection::vec(inner, 1..4))
            .prop_map(|(l, c, b)| Draft::Pick(l, c, b))
    };
    let below = leaf.prop_recursive(5, 12, 3, pick);
    pick(below.boxed())
}

impl Tree {
    pub(crate) fn new(draft: &Draft, borders: bool) -> Self {
        let mut b = Builder { leaves: Vec::new(), labels: Vec::new() };
        let (spec, root) = b.node(draft, borders, DEPTH, &[]);
        Self { spec, leaves: b.leaves, borders, root }
    }

    /// The leaf that a write with the first `n` labels of another leaf goes to.
    pub(crate) fn towards(&self, leaf: usize, n: usize) -> usize {
        let mut labels = self.leaves[leaf].labels.iter().take(n);
        let mut at = &self.root;
        loop {
            match at {
                Node::Leaf(i) => return *i,
                Node::Pick(default, branches) => {
                    let label = labels.next();
                    let named = branches.iter().find(|(l, _)| Some(l) == label);
                    at = &named.unwrap_or(&branches[*default]).1;
                }
            }
        }
    }

    /// The leaf that a read with this group is of. A level that reads ahead knows the labels of its
    /// first bytes only, and stands over one leaf only.
    pub(crate) fn origin(&self, group: Option<&str>) -> Option<usize> {
        match self.within(group)[..] {
            [leaf] => Some(leaf),
            _ => None,
        }
    }

    /// The leaves on whose way these labels are.
    pub(crate) fn within(&self, group: Option<&str>) -> Vec<usize> {
        let given: Vec<_> = group.map(|g| g.split('.').collect()).unwrap_or_default();
        let fits = |i: &usize| {
            let labels = &self.leaves[*i].labels;
            labels.len() >= given.len() && labels.iter().zip(&given).all(|(a, b)| a == b)
        };
        (0..self.leaves.len()).filter(fits).collect()
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.spec)
    }
}

struct Builder {
    leaves: Vec<Leaf>,
    labels: Vec<String>,
}

impl Builder {
    /// Builds a level with what is below it. `room` is how many levels a path may still have.
    fn node(&mut self, draft: &Draft, borders: bool, room: usize, above: &[&str]) -> (String, Node) {
        let (levels, below) = match draft {
            Draft::Leaf(levels, _) => (levels, 2),
            Draft::Pick(levels, ..) => (levels, 3),
        };
        let (mut chain, mut borders, mut room) = (Vec::new(), borders, room);
        for l in levels {
            // `frame` makes messages of a stream, and needs one that has an order.
            let fits = match *l {
                "frame" | "frame(header=8)" => borders && draft.is_single(),
                l => !borders || !l.contains("short"),
            };
            if fits && room > below {
                borders &= !l.starts_with("frame");
                chain.push(*l);
                room -= 1;
            }
        }
        let (text, node) = match draft {
            Draft::Leaf(_, bottom) => self.leaf(bottom, borders, room, &[above, &chain].concat()),
            Draft::Pick(_, _, below) if room < 3 => self.node(&below[0], borders, room, &[above, &chain].concat()),
            Draft::Pick(_, choice, below) => self.pick(choice, below, borders, room - 1, &[above, &chain].concat()),
        };
        chain.push(&text);
        (chain.join("/"), node)
    }

    fn leaf(&mut self, bottom: &str, borders: bool, room: usize, above: &[&str]) -> (String, Node) {
        let text = match (borders, bottom.contains("message")) {
            (true, true) => bottom.to_owned(),
            (true, false) if room > 1 => format!("frame/{bottom}"),
            (true, false) => "loop(message)".into(),
            (false, true) => "loop".into(),
            (false, false) => bottom.to_owned(),
        };
        let peer = [above, &[&text]].concat().join("/");
        let (is_tcp, tears) = (text.contains("tcp"), peer.contains("frame"));
        self.leaves.push(Leaf { labels: self.labels.clone(), peer, is_tcp, tears });
        (text, Node::Leaf(self.leaves.len() - 1))
    }

    fn pick(&mut self, c: &Choice, below: &[Draft], borders: bool, room: usize, above: &[&str]) -> (String, Node) {
        let mut branches = Vec::new();
        let mut texts = Vec::new();
        for (i, draft) in below.iter().enumerate() {
            if i > 0 && self.leaves.len() >= LEAVES {
                break;
            }
            let label = if c.any && i + 1 == below.len() { "*" } else { LABELS[i] };
            self.labels.push(label.into());
            let (text, node) = self.node(draft, borders, room, above);
            self.labels.pop();
            texts.push(format!("{label}: {text}"));
            branches.push((label.to_owned(), node));
        }
        let default = c.default.map(|d| d % branches.len());
        let option = default.map(|d| format!(", default={}", branches[d].0)).unwrap_or_default().replace('*', "\"*\"");
        let text = format!("pick(ahead={}{option}){{{}}}", c.ahead, texts.join(", "));
        (text, Node::Pick(default.unwrap_or(0), branches))
    }
}

impl Draft {
    /// Whether all of it is one path.
    fn is_single(&self) -> bool {
        match self {
            Self::Leaf(..) => true,
            Self::Pick(_, _, below) => below.len() == 1 && below[0].is_single(),
        }
    }
}
