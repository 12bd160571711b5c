//! The kit on itself: every rule has a negative proof, and a saboteur breaks what it says it breaks.

use std::collections::BTreeSet;

use xio_core::contract::RULES;
use xio_testkit::budget::Budget;
use xio_testkit::rules::TABLE;
use xio_testkit::saboteur::{Proof, proofs};
use xio_testkit::{Options, Verdict, run};

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

#[test]
fn every_rule_has_a_proof() {
    assert!(TABLE.iter().map(|e| e.id).eq(RULES.iter().map(|r| r.id)), "not every rule of the contract is written");
    let proved: Vec<&str> = proofs().map(|(id, _)| *id).collect();
    let lacking: Vec<_> = RULES.iter().map(|r| r.id).filter(|id| !proved.contains(id)).collect();
    println!("{} of {} rules have a negative proof", RULES.len() - lacking.len(), RULES.len());
    assert!(lacking.is_empty(), "rules whose test nothing is known to fail: {lacking:?}");
    let set: BTreeSet<_> = proved.iter().collect();
    assert_eq!(set.len(), proved.len(), "a rule has two proofs");
    let stray: Vec<_> = proved.iter().filter(|id| !TABLE.iter().any(|e| e.id == **id)).collect();
    assert!(stray.is_empty(), "proofs of rules that are not written: {stray:?}");
}

/// Runs each saboteur through its own rule, which must catch it; with the feature `deep` through all rules,
/// of which no others than those it names may.
fn saboteurs_of(group: char) {
    let deep = cfg!(feature = "deep");
    let mut wrong = Vec::new();
    for (id, proof) in proofs().filter(|(id, _)| id.starts_with(group)) {
        let Proof::Driver { make, also } = proof else { continue };
        let want: BTreeSet<_> = also.iter().copied().chain([*id]).collect();
        let options = Options::default().with_seeds([1]);
        let options = if deep { options } else { options.with_rules([*id]) };
        let report = run(&make(), &options);
        let broken: BTreeSet<_> = report
            .rows
            .iter()
            .filter_map(|r| match &r.verdict {
                Verdict::Fail { rule, .. } => Some(*rule),
                _ => None,
            })
            .collect();
        let own = report.rows.iter().find(|r| r.rule.id == *id).expect("it is written");
        let caught = matches!(own.verdict, Verdict::Fail { rule, .. } if rule == *id);
        if !caught || (deep && broken != want) {
            wrong.push(format!("the saboteur of {id} broke {broken:?}, not {want:?}\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn saboteurs_of_group_a_break_what_they_say() {
    saboteurs_of('A');
}

#[test]
fn saboteurs_of_group_b_break_what_they_say() {
    saboteurs_of('B');
}

#[test]
fn saboteurs_of_group_c_break_what_they_say() {
    saboteurs_of('C');
}

#[test]
fn saboteurs_of_group_d_break_what_they_say() {
    saboteurs_of('D');
}

#[test]
fn saboteurs_of_group_e_break_what_they_say() {
    saboteurs_of('E');
}

#[test]
fn saboteurs_of_the_other_groups_break_what_they_say() {
    "FGH".chars().for_each(saboteurs_of);
}

#[test]
fn a_dropped_op_names_its_driver() {
    let proof = proofs().find(|(id, _)| *id == "A6").map(|(_, p)| *p);
    let Some(Proof::Driver { make, .. }) = proof else { panic!("A6 has a saboteur") };
    let report = run(&make(), &Options::default().with_rules(["A6"]));
    assert!(report.to_string().contains("dropped by Some(\"saboteur\")"), "{report}");
}
