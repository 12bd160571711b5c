//! What only a broken engine breaks: each fault that can be planted in it is found by the rule that it
//! breaks. Runs in a build with `--cfg planted` (`.ci/mutations`); each fault has a process of its own.
#![cfg(planted)]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use xio_drivers::null;
use xio_testkit::budget::Budget;
use xio_testkit::saboteur::{Proof, proofs};
use xio_testkit::{Options, Subject, Verdict, run};

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

/// Real time for one rule. A broken engine may wait for ever, and all rules need far less.
const LIMIT: Duration = Duration::from_secs(12);

/// What the lines begin with that tell which rules are broken.
const SIGN: &str = "broken: ";

/// All rules on the engine as it is, whatever is planted in it: the faults run this test.
#[test]
fn rules_that_are_broken() {
    let options = Options::default().with_seeds([1]).with_limit(LIMIT);
    let report = run(&Subject::transform(null::driver()), &options);
    println!("{report}");
    for row in &report.rows {
        if let Verdict::Fail { rule, .. } = row.verdict {
            println!("{SIGN}{} by {}", rule, row.rule.id);
        }
    }
}

/// The rules that are broken, by that under test, with this fault planted; and all that was said.
fn broken_by(fault: &str) -> (BTreeSet<String>, String) {
    let me = std::env::current_exe().expect("the path of this program");
    let run = Command::new(me)
        .args(["--exact", "rules_that_are_broken", "--nocapture"])
        .env("XIO_PLANTED", fault)
        .output()
        .expect("to run this program again");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "with `{fault}` the run itself failed:\n{said}");
    let broken = said.lines().filter_map(|l| l.strip_prefix(SIGN)).map(str::to_owned).collect();
    (broken, said)
}

#[test]
fn each_fault_of_the_engine_is_found_by_its_rule() {
    assert_eq!(broken_by("nothing").0, BTreeSet::new());
    let mut wrong = Vec::new();
    let mut found = 0;
    for (id, proof) in proofs() {
        let Proof::Engine { fault, also } = proof else { continue };
        let (broken, said) = broken_by(fault);
        let broken: BTreeSet<_> = broken.iter().filter_map(|l| l.split_once(" by ")).collect();
        let own = broken.contains(&(*id, *id));
        let rules: BTreeSet<_> = broken.iter().map(|(_, by)| *by).collect();
        let want: BTreeSet<_> = also.iter().copied().chain([*id]).collect();
        println!("{id}: `{fault}` breaks {rules:?}");
        found += 1;
        if !own || rules != want {
            wrong.push(format!("{id}: `{fault}` broke {broken:?}, not {want:?}\n{said}"));
        }
    }
    assert!(found >= 15, "{found} faults");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
