//! The driver contract as tests. One line in a driver's crate runs every rule of
//! [`xio_core::contract`] on it, each as a test of its own:
//!
//! ```
//! # mod mine { pub fn driver() -> std::sync::Arc<dyn xio_core::Driver> { xio_drivers::frame::driver() } }
//! xio_testkit::driver_contract!(contract_of_mine, xio_testkit::Subject::transform(mine::driver()));
//! # fn main() {}
//! ```
//!
//! A subject is a driver that stands over others ([`Subject::transform`]: the kit puts a bottom below
//! it), one at the bottom ([`Subject::transport`]), or a whole stack ([`Subject::stack`]). Rules run in
//! virtual time over a seeded network, with a [`probe`] at every boundary between levels. A rule that
//! does not apply says which property of the stack makes it so; [`run`] gives the table.
//!
//! # Tools
//! For a driver's own tests, all usable alone: [`probe`] checks how ops pass between two levels;
//! [`script`] is a bottom that answers as it is told, or as another did in a run that a [`trace`] recorded; [`jitter`]
//! finishes late and cuts bytes up; [`hole`] answers nothing; [`nth_fault`] fails the n-th call of
//! everything, for every n; [`canary`] finds what was not let go; [`budget`] counts memory and lets it
//! run out; [`watchdog`] ends what would never end; [`child`] runs what may end its process; [`layout`] puts levels between levels; [`listener`] wants every line of the log; [`mod@bench`]
//! holds the pair, the network and the clock.
//!
//! # Trust
//! The kit is tested as well: for each rule there is a driver that breaks it ([`saboteur`]), code that
//! does not compile, or a fault planted in the engine, and a test that finds rules without such a proof.

#[macro_use]
pub mod verdict;

pub mod beds;
pub mod bench;
pub mod budget;
pub mod canary;
pub mod chatty;
pub mod child;
pub mod dice;
pub mod greeter;
pub mod hole;
pub mod jitter;
pub mod layout;
pub mod ledger;
pub mod listener;
pub mod nop;
pub mod nth_fault;
pub mod probe;
pub mod report;
pub mod rules;
pub mod saboteur;
pub mod script;
pub mod subject;
pub mod trace;
pub mod voyage;
pub mod watchdog;

use std::time::Instant;

use xio_core::contract;

pub use bench::{Bench, World};
pub use report::{Options, Report, Row};
pub use subject::Subject;
pub use verdict::{Checked, Stop, Verdict};

/// Runs rules on a subject: all that are written, or those that the options name.
pub fn run(subject: &Subject, options: &Options) -> Report {
    let mut report = Report::new(subject.name());
    for entry in rules::TABLE {
        if !options.rules.is_empty() && !options.rules.iter().any(|r| r.eq_ignore_ascii_case(entry.id)) {
            continue;
        }
        let Some(rule) = contract::rule(entry.id) else { continue };
        let began = Instant::now();
        let verdict = judge(entry, subject, options);
        report.rows.push(Row { rule, verdict, took: began.elapsed() });
    }
    report
}

/// Runs one rule as a test.
///
/// # Panics
/// If the rule does not hold, or holds though it is listed as known to be broken.
pub fn check(id: &str, subject: Subject) {
    let entry = rules::entry(id).unwrap_or_else(|| panic!("there is no rule `{id}`"));
    let rule = contract::rule(id).map_or_else(|| id.to_owned(), ToString::to_string);
    let known = subject.is_known(entry.id);
    let name = subject.name().to_owned();
    match judge(entry, &subject, &Options::default()) {
        Verdict::Fail { .. } if known => println!("{name}: {rule}: known to be broken"),
        Verdict::Fail { rule: broken, message } => {
            let text = contract::rule(broken).map_or("", |r| r.text);
            panic!(
                "`{name}` breaks the contract\n  testing  {rule}\n  broken   {broken}: {message}\n  the rule {text}"
            );
        }
        good if known => panic!("`{name}` is listed as breaking {rule}, and does not: {good}"),
        good => println!("{name}: {rule}: {good}"),
    }
}

fn judge(entry: &'static rules::Entry, subject: &Subject, options: &Options) -> Verdict {
    let (s, o) = (subject.clone(), options.clone());
    let name = format!("{} {}", entry.id, subject.name());
    let fail = |message| Verdict::Fail { rule: entry.id, message };
    match watchdog::watch(&name, options.limit, move || {
        child::apart(|| Bench::new(entry.id, s, o).and_then(|mut b| (entry.body)(&mut b)))
    }) {
        Ok(Ok(())) => Verdict::Pass,
        Ok(Err(Stop::NotApplicable(cap))) => Verdict::NotApplicable { cap },
        Ok(Err(Stop::Fail(rule, message))) => Verdict::Fail { rule: rule.unwrap_or(entry.id), message },
        Err(watchdog::Lost::Panicked(text)) => fail(format!("the test panicked: {text}")),
        Err(watchdog::Lost::Stuck(limit)) => fail(format!("nothing came of it in {limit:?} of real time")),
    }
}

/// Makes one `#[test]` a rule, in a module of this name.
///
/// ```
/// xio_testkit::driver_contract! {
///     mod frame;
///     subject = xio_testkit::Subject::transform(xio_drivers::frame::driver())
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! driver_contract {
    (mod $name:ident; subject = $subject:expr $(;)?) => {
        $crate::driver_contract!($name, $subject);
    };
    ($name:ident, $subject:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports, reason = "the subject may name what stands outside")]
            use super::*;
            fn subject() -> $crate::Subject {
                $subject
            }
            $crate::__each_rule!(__tests);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($($id:literal $name:ident $body:path;)+) => {$(
        #[test]
        fn $name() {
            $crate::check($id, subject());
        }
    )+};
}
