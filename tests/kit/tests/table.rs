//! The table of rules and shipped drivers in CONTRACT.md is what running them gives. `XIO_BLESS=1` writes it anew.

mod subjects;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use xio_core::contract::RULES;
use xio_testkit::budget::Budget;
use xio_testkit::{Options, Report, Subject, Verdict, run};

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

/// Where the table is.
fn place() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("CONTRACT.md")
}

/// Each subject with its report.
fn reports() -> Vec<(Subject, Report)> {
    let threads: Vec<_> = subjects::ALL
        .iter()
        .map(|make| {
            std::thread::spawn(|| {
                let subject = make();
                let report = run(&subject, &Options::default().with_seeds([1]));
                (subject, report)
            })
        })
        .collect();
    threads.into_iter().map(|t| t.join().expect("a report")).collect()
}

fn table(reports: &[(Subject, Report)]) -> String {
    let mut out = String::from(HEAD);
    let names: Vec<_> = reports.iter().map(|(s, _)| format!("`{}`", s.name())).collect();
    let _ = writeln!(out, "| | rule | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(names.len()));
    let mut caps: BTreeMap<String, usize> = BTreeMap::new();
    for (n, rule) in RULES.iter().enumerate() {
        let _ = write!(out, "| {} | {} |", rule.id, rule.title);
        for (subject, report) in reports {
            let cell = match &report.rows[n].verdict {
                Verdict::Pass => "yes".to_owned(),
                Verdict::NotApplicable { cap } => {
                    *caps.entry(cap.clone()).or_default() += 1;
                    format!("`{cap}`")
                }
                Verdict::Fail { .. } if subject.is_known(rule.id) => "**no**".to_owned(),
                Verdict::Fail { message, .. } => panic!("{} breaks {rule}: {message}", subject.name()),
                other => panic!("{other}"),
            };
            let _ = write!(out, " {cell} |");
        }
        out.push('\n');
    }
    let count = |word: &str| reports.iter().flat_map(|(_, r)| &r.rows).filter(|r| r.verdict.word() == word).count();
    let (yes, no, apart) = (count("pass"), count("FAIL"), count("n/a"));
    let _ = writeln!(out, "\n{yes} hold, {no} are known to be broken, {apart} do not apply:\n");
    for (cap, times) in caps {
        let _ = writeln!(out, "* `{cap}`: {times}");
    }
    out
}

const HEAD: &str = "# The contract and the shipped drivers

What `cargo test -p xio-testkit --test table` finds; it fails where this file says something else, and writes
it anew with `XIO_BLESS=1`. *yes*: the rule holds. **no**: it is known to be broken, `tests/subjects` says why.
Anything else is the property of the stack that makes the rule say nothing about it; that what it speaks of is
refused there `tests/refused.rs` shows. What a transform stands on is the kit's: `tcp` over the simulated
network, with `frame` between for messages.

";

#[test]
fn the_table_is_what_running_the_rules_gives() {
    let reports = reports();
    let now = table(&reports);
    for (n, rule) in RULES.iter().enumerate() {
        let runs = reports.iter().any(|(_, r)| r.rows[n].verdict == Verdict::Pass);
        assert!(runs, "no shipped driver runs {rule}");
    }
    if std::env::var_os("XIO_BLESS").is_some() {
        std::fs::write(place(), &now).expect("to write the table");
    }
    let written = std::fs::read_to_string(place()).unwrap_or_default();
    let differs = now.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert!(now == written, "CONTRACT.md is not current: {differs:?}; XIO_BLESS=1 writes it anew");
}
