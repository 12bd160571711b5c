//! System calls an op, counted by strace in a separate run of this program.
//! Invariant: set-up and tear-down cancel out: two runs of different lengths are subtracted.

use std::process::{Command, Stdio};

use xio_peers::raw::warm_up;

use super::Bench;
use super::plan::Plan;
use super::report::word;
use crate::exit::{Failure, Outcome, failed};

/// Ops of the two runs.
const OPS: [usize; 2] = [1_000, 4_000];

/// System calls of both ends and the engines' threads, an op.
pub(super) fn per_op(bench: &Bench, plan: &Plan) -> Outcome<f64> {
    let mut calls = [0.0; 2];
    for (calls, ops) in calls.iter_mut().zip(OPS) {
        *calls = count(bench, plan, ops)?;
    }
    let ran = |ops: usize| (ops + warm_up(ops)) as f64;
    Ok((calls[1] - calls[0]) / (ran(OPS[1]) - ran(OPS[0])))
}

/// All system calls of a run with one round of so many ops.
fn count(bench: &Bench, plan: &Plan, ops: usize) -> Outcome<f64> {
    let program = std::env::current_exe().map_err(failed("cannot start this program a second time"))?;
    let log = std::env::temp_dir().join(format!("xio-strace-{}-{ops}", std::process::id()));
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&log).arg("--").arg(program).args(["bench", &bench.spec]);
    let words = [
        ("--mode", Some(word(&bench.mode))),
        ("--api", Some(word(&bench.api))),
        ("--op", Some(word(&bench.op))),
        ("--size", Some(plan.size.to_string())),
        ("--recv", Some(plan.recv.to_string())),
        ("--outstanding", Some(plan.outstanding.to_string())),
        ("--placement", Some(plan.placement.to_string())),
        ("--contact", bench.contact.clone()),
        ("--rounds", Some("1".into())),
        ("--warm", Some("0".into())),
        ("--ops", Some(ops.to_string())),
    ];
    for (flag, value) in words {
        if let Some(value) = value {
            command.args([flag, &value]);
        }
    }
    command.args(["--no-baseline", "--json"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let out = command.output().map_err(failed("--count-syscalls needs `strace`"))?;
    let text = std::fs::read_to_string(&log);
    let _ = std::fs::remove_file(&log);
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        let why = why.lines().last().unwrap_or("no reason given");
        return Err(Failure::Failed(format!("the run under strace failed: {why}")));
    }
    let text = text.map_err(failed("cannot read what strace counted"))?;
    total(&text).ok_or_else(|| Failure::Failed("cannot read what strace counted".into()))
}

/// The sum of the column `calls`: the fourth of `% time, seconds, usecs/call, calls, errors, name`.
fn total(table: &str) -> Option<f64> {
    let calls = |line: &str| -> Option<f64> {
        let cells: Vec<_> = line.split_whitespace().collect();
        if cells.last() == Some(&"total") || !(5..=6).contains(&cells.len()) {
            return None;
        }
        cells[0].parse::<f64>().ok()?;
        cells[3].parse().ok()
    };
    let counts: Vec<f64> = table.lines().filter_map(calls).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_column_of_calls_is_summed() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.11    0.000110          10        11           sendto
 38.89    0.000070           7        10         2 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.000180           8        21         2 total
";
        assert_eq!(total(table), Some(21.0));
        assert_eq!(total("nothing"), None);
    }
}
