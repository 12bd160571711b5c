//! What measurements print: one JSON object a line on stdout, with the commit it was taken at and the
//! ratios to the baseline of the same rounds; the same as a table on stderr. Invariant: every wall figure
//! stands beside its spread and the CPU time an op.

use std::fmt::Write as _;
use std::io;
use std::process::Command;

use xio_peers::rounds::{Better, Outcome, Ratio, median};

/// What both kinds of sample say.
pub trait Timed {
    /// Wall nanoseconds an op.
    fn ns(&self) -> f64;
    /// CPU nanoseconds an op, both ends.
    fn cpu_ns(&self) -> f64;
}

impl Timed for crate::Cost {
    fn ns(&self) -> f64 {
        self.ns
    }

    fn cpu_ns(&self) -> f64 {
        self.cpu_ns
    }
}

impl Timed for xio_peers::sample::Sample {
    fn ns(&self) -> f64 {
        self.ns_per_op
    }

    fn cpu_ns(&self) -> f64 {
        self.cpu_ns_per_op
    }
}

/// The short name of the commit that is checked out, with a `+` where files differ from it, those apart
/// that figures are written to.
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        String::from_utf8(out.stdout).ok().map(|s| s.trim().to_owned())
    };
    let Some(name) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let clean =
        git(&["status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/tests/figures.jsonl", ":!/README.md"])
            .is_some_and(|s| s.is_empty());
    if clean { name } else { name + "+" }
}

/// Prints a row a contender; the first is the baseline. `keys` are JSON members that all rows share,
/// each with a comma behind it.
///
/// # Errors
/// Where there are no rounds.
pub fn rows<S: Timed>(keys: &str, outcomes: &[Outcome<S>]) -> io::Result<()> {
    rows_beside(keys, outcomes, &[])
}

/// [`rows`] with the ratios to some of the contenders by name as well, where they took part.
///
/// # Errors
/// As [`rows`].
pub fn rows_beside<S: Timed>(keys: &str, outcomes: &[Outcome<S>], others: &[&str]) -> io::Result<()> {
    let Some(base) = outcomes.first() else { return Ok(()) };
    let commit = commit();
    let mut table =
        format!("{keys}\n  {:<24}{:>12}{:>12}  {:<34}cpu\n", "", "ns an op", "cpu ns", "ratio min..max best third");
    for o in outcomes {
        let of = |f: fn(&S) -> f64| Ratio::of(&o.figures(f), &base.figures(f), Better::Lower);
        let (wall, cpu) = (of(S::ns)?, of(S::cpu_ns)?);
        let middle = |f: fn(&S) -> f64| median(&o.figures(f)).unwrap_or(f64::NAN);
        let (mut to_others, mut said) = (String::new(), String::new());
        for other in outcomes.iter().filter(|other| others.contains(&other.name.as_str())) {
            let r = Ratio::of(&o.figures(S::ns), &other.figures(S::ns), Better::Lower)?;
            // Writing to a String cannot fail.
            let _ = write!(
                to_others,
                " \"to_{0}\": {1:.3}, \"to_{0}_min\": {2:.3}, \"to_{0}_max\": {3:.3}, \"to_{0}_best_third\": {4:.3},",
                other.name, r.median, r.min, r.max, r.best_third
            );
            let _ = write!(said, "  {:.3} {}", r.median, other.name);
        }
        let (ns, cpu_ns) = (middle(S::ns), middle(S::cpu_ns));
        println!(
            "{{\"contender\": \"{}\", {keys} \"rounds\": {}, \"ns_per_op\": {ns:.0}, \"cpu_ns_per_op\": {cpu_ns:.0}, \
             \"ratio\": {:.3}, \"ratio_min\": {:.3}, \"ratio_max\": {:.3}, \"best_third\": {:.3}, \"cpu_ratio\": {:.3}, \
             \"cpu_ratio_min\": {:.3}, \"cpu_ratio_max\": {:.3},{to_others} \"commit\": \"{commit}\"}}",
            o.name, wall.rounds, wall.median, wall.min, wall.max, wall.best_third, cpu.median, cpu.min, cpu.max
        );
        let spread = format!("{:.2}  {:.2}..{:.2}  {:.2}", wall.median, wall.min, wall.max, wall.best_third);
        let _ = writeln!(table, "  {:<24}{ns:>12.0}{cpu_ns:>12.0}  {spread:<34}{:.2}{said}", o.name, cpu.median);
    }
    eprint!("{table}");
    Ok(())
}
