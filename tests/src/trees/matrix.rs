//! Every pair of levels, and triples in which every two of their places have met: what fits keeps all
//! rules of the contract, what does not is refused when it is bound, where it does not fit, and no level
//! of it is made. Invariant: a combination counts once, as what `fit` says it is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use xio_core::{Contact, Stack};
use xio_drivers::all;
use xio_stacks::Registry;
use xio_testkit::canary::Nest;
use xio_testkit::{Options, Subject, Verdict, listener};

use super::fit::{Raw, Text};
use super::tree::draft;

/// Every shipped driver that stands over others, with the options that change what it lets pass.
const OVER: [&str; 13] = [
    "null",
    "null(gate)",
    "queue",
    "queue(early)",
    "frame",
    "pick",
    "rate",
    "rate(limit=10MB/s)",
    "trace(level=error)",
    "trace(on=[close, write], ways=up, time)",
    "fault",
    "fault(short_read=0.3, short_write=0.3)",
    "fault(loss=0.1, reorder=0.1)",
];
/// Every shipped transport, as a stream and as messages; `udp` as one whose open makes a link at once.
const BOTTOMS: [&str; 9] = [
    "tcp",
    "udp(greet, amplify=0, idle=0s)",
    "shm",
    "shm(message)",
    "loop",
    "loop(message)",
    "void",
    "void(message)",
    "file(mode=read-write, create)",
];
/// What a combination of levels without a transport stands over.
const BEDS: [&str; 2] = ["tcp", "frame/tcp"];

/// Rules that stacks are known to break which have such a level, so often at least. Why stands with the
/// drivers alone, in the tests of the kit.
const KNOWN: &[(&str, &str, usize)] = &[
    // Nobody holds what it throws away.
    ("C11", "loss=", 1),
];

/// In a build that is not made for speed, of so many that fit one is tested.
const SHARE: usize = if cfg!(debug_assertions) { 12 } else { 1 };
/// Combinations are tried for so many seconds, or as many as `XIO_SECONDS` says; what is left out then is
/// counted and printed.
const SECONDS: u64 = 300;
/// Bytes that a level of the first name holds each way.
const HOLDS: (&str, usize) = ("queue(early)", 1 << 20);

/// Combinations and rules, as they are counted.
#[derive(Debug, Default)]
pub struct Tally {
    fit: usize,
    refused: usize,
    passed: usize,
    not_applicable: usize,
    left_out: usize,
    known: BTreeMap<&'static str, usize>,
    broken: Vec<String>,
}

/// When the seconds of a matrix are over.
struct Budget(Instant);

impl Budget {
    fn begin() -> Self {
        let asked = std::env::var("XIO_SECONDS").ok().and_then(|n| n.parse().ok());
        Self(Instant::now() + Duration::from_secs(asked.unwrap_or(SECONDS)))
    }

    fn is_spent(&self) -> bool {
        Instant::now() >= self.0
    }
}

/// Each level over each other.
pub fn pairs() -> Tally {
    let mut all = Vec::new();
    for a in OVER {
        all.extend(BOTTOMS.map(|b| Raw::path(&[a, b])));
        for b in OVER {
            all.extend(BEDS.map(|bed| Raw::path(&[a, b, bed])));
        }
    }
    Tally::of(all)
}

/// Three over each other: all of them, or so few that any two levels meet in any two places.
pub fn triples(every: bool) -> Tally {
    let mut all = Vec::new();
    let n = OVER.len();
    for (i, a) in OVER.iter().enumerate() {
        for (j, b) in OVER.iter().enumerate() {
            // A Latin square: a row and a column give each level once.
            let third = if every { 0..n } else { (i + j) % n..(i + j) % n + 1 };
            for c in &OVER[third] {
                all.extend(BEDS.map(|bed| Raw::path(&[a, b, c, bed])));
            }
        }
    }
    Tally::of(all)
}

/// Trees as they are drawn, most of which do not fit. Only bound.
pub fn drawn(count: u32) -> Tally {
    let tally = RefCell::new(Tally::default());
    let mut runner = TestRunner::new(Config { cases: count, failure_persistence: None, ..Config::default() });
    let all = runner.run(&draft(), |d| {
        let found = bound(&Raw::drawn(&d).text()).map_err(TestCaseError::fail)?;
        let mut tally = tally.borrow_mut();
        *(if found.is_some() { &mut tally.fit } else { &mut tally.refused }) += 1;
        Ok(())
    });
    let mut tally = tally.into_inner();
    tally.broken.extend(all.err().map(|e| e.to_string()));
    tally
}

impl Tally {
    fn of(all: Vec<Raw>) -> Self {
        let (mut tally, budget) = (Self::default(), Budget::begin());
        all.iter().for_each(|raw| tally.judge(raw, &budget));
        tally
    }

    fn judge(&mut self, raw: &Raw, budget: &Budget) {
        let text = raw.text();
        match bound(&text) {
            Err(wrong) => self.broken.push(wrong),
            Ok(None) => self.refused += 1,
            Ok(Some(stack)) => {
                self.fit += 1;
                if budget.is_spent() {
                    self.left_out += 1;
                } else if self.fit.is_multiple_of(SHARE) {
                    self.keeps_the_contract(&text.spec, &stack);
                }
            }
        }
    }

    fn keeps_the_contract(&mut self, spec: &str, stack: &Stack) {
        listener::listen();
        let home = Home::new();
        let known: Vec<_> = KNOWN
            .iter()
            .filter(|(_, level, least)| spec.matches(level).count() >= *least)
            .map(|(rule, ..)| *rule)
            .collect();
        let holds = (1 << 18) + spec.matches(HOLDS.0).count() * HOLDS.1;
        let subject = Subject::of(stack).named(spec).at(home.contact(spec)).known(&known).holds(holds);
        for row in xio_testkit::run(&subject, &Options::default().with_seeds([1])).rows {
            match row.verdict {
                Verdict::Pass => self.passed += 1,
                Verdict::NotApplicable { .. } => self.not_applicable += 1,
                Verdict::Fail { .. } if known.contains(&row.rule.id) => {
                    *self.known.entry(row.rule.id).or_default() += 1;
                }
                other => self.broken.push(format!("`{spec}` {}: {other}", row.rule)),
            }
        }
    }

    /// That nothing was broken. Prints the counts.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn report(&self, what: &str, least: usize) {
        println!(
            "{what}: {} fit, {} are refused; {} rules ran, {} did not apply, {} fitting ones were left out when the time was over, known to be broken: {:?}",
            self.fit,
            self.refused,
            self.passed + self.known.values().sum::<usize>(),
            self.not_applicable,
            self.left_out,
            self.known
        );
        assert!(self.broken.is_empty(), "{} are broken:\n{}", self.broken.len(), self.broken.join("\n"));
        assert!(self.fit >= least, "only {} fit", self.fit);
    }
}

/// Binds a tree: a stack, or nothing if it was refused as it should be.
fn bound(text: &Text) -> Result<Option<Stack>, String> {
    thread_local!(static DRIVERS: (Registry, Nest) = {
        let (mut registry, levels) = (Registry::new(), Nest::default());
        all().into_iter().for_each(|d| registry.register(levels.around(d)).expect("drivers have names of their own"));
        (registry, levels)
    });
    let (found, made) = DRIVERS.with(|(registry, levels)| {
        let before = levels.alive().1;
        (registry.stack(&text.spec), levels.alive().1 > before)
    });
    let found = match (found, text.misfits.is_empty()) {
        (Ok(_), true) => return Ok(Some(plain(&text.spec))),
        (Ok(_), false) => return Err(format!("`{}` was bound, with misfits at {:?}", text.spec, text.misfits)),
        (Err(e), true) => return Err(format!("`{}` fits, and was refused: {e}", text.spec)),
        (Err(found), false) => found,
    };
    let refused: Vec<_> = found.iter().filter_map(|d| d.spans.first()).map(|(span, _)| span.start).collect();
    for (at, _) in &text.misfits {
        if !refused.contains(at) {
            return Err(format!("`{}` has a misfit at {at} that is not named: {found}", text.spec));
        }
    }
    let follows = |at: &usize| text.misfits.iter().any(|(m, above)| m == at || above.contains(at));
    match refused.iter().find(|at| !follows(at)) {
        Some(at) => Err(format!("`{}` is refused for what fits, at {at}: {found}", text.spec)),
        None if made => Err(format!("`{}` was refused, and levels of it were made", text.spec)),
        None => Ok(None),
    }
}

/// The same with the drivers as they are.
fn plain(spec: &str) -> Stack {
    let mut registry = Registry::new();
    all().into_iter().for_each(|d| registry.register(d).expect("drivers have names of their own"));
    registry.stack(spec).unwrap_or_else(|e| panic!("{e}"))
}

/// A directory for the files of a stack; gone when it is.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("xio-matrix-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    /// Where a stack is opened to, or listens.
    fn contact(&self, spec: &str) -> Contact {
        if spec.contains("tcp") || spec.contains("udp") {
            return Contact::new("127.0.0.1:0");
        }
        if !spec.contains("file") {
            return Contact::None;
        }
        std::fs::create_dir_all(&self.0).expect("a directory of this test");
        Contact::new(self.0.join("bytes").to_str().expect("a path that is a text"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
