//! Every rule on every shipped driver with many seeds. `XIO_SEEDS=N` says how many; the gate takes enough for a
//! hundred thousand runs in a build for speed.

mod subjects;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use xio_testkit::budget::Budget;
use xio_testkit::{Options, Verdict, run};

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

/// Subjects at the same time.
const THREADS: usize = 2;

#[test]
fn every_rule_with_many_seeds() {
    let seeds: usize = std::env::var("XIO_SEEDS").map_or(1, |n| n.parse().expect("XIO_SEEDS is a number"));
    let (next, runs, apart) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (wrong, times) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::<_, Duration>::new()));
    let began = Instant::now();
    let work = || {
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let (seed, subject) = (job / subjects::ALL.len(), subjects::ALL[job % subjects::ALL.len()]());
            if seed >= seeds {
                return;
            }
            // Seeds of their own: the tests of each rule take the first three.
            let report = run(&subject, &Options::default().with_seeds([100 + seed as u64]));
            for row in report.rows {
                *times.lock().unwrap_or_else(PoisonError::into_inner).entry(row.rule.id).or_default() += row.took;
                match row.verdict {
                    Verdict::NotApplicable { .. } => apart.fetch_add(1, Ordering::Relaxed),
                    Verdict::Fail { .. } if !subject.is_known(row.rule.id) => {
                        let text = format!("{} {}: {}", subject.name(), row.rule, row.verdict);
                        wrong.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                        0
                    }
                    _ => runs.fetch_add(1, Ordering::Relaxed),
                };
            }
        }
    };
    std::thread::scope(|s| (0..THREADS).for_each(|_| drop(s.spawn(work))));
    let runs = runs.into_inner();
    println!(
        "{runs} runs of rules on {} subjects with {seeds} seeds in {:.1?}, beside {} that do not apply",
        subjects::ALL.len(),
        began.elapsed(),
        apart.into_inner()
    );
    let mut times: Vec<_> = times.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect();
    times.sort_by_key(|(_, t)| std::cmp::Reverse(*t));
    println!("longest: {:.1?}", &times[..8]);
    let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let most: usize = std::env::var("XIO_RUNS").map_or(0, |n| n.parse().expect("XIO_RUNS is a number"));
    assert!(runs >= most, "{runs} runs, not {most}");
}
