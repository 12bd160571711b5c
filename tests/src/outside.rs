//! What an op costs, counted from outside and without a clock: system calls by strace, instructions and
//! locked instructions by callgrind, allocations as the program under count prints them.
//!
//! Invariant: every figure is the difference of two runs of different lengths, so that set-up, warm-up and
//! tear-down are not in it. A tool that is missing is `None`, and says so where no test runner hides it.
//!
//! Does not: know the cases; the binary `counted` does.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The longer run is so many times the shorter one.
const TIMES: usize = 4;

/// The program `counted`.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

/// What one end does for an op, in instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instructions {
    /// All of them, in user space.
    pub all: f64,
    /// Those that lock the bus: taking and giving back a free lock are two, cloning a counted pointer is
    /// one. `None` without `objdump`.
    pub locked: Option<f64>,
}

/// System calls an op by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calls(pub BTreeMap<String, f64>);

impl Calls {
    /// All of them.
    pub fn all(&self) -> f64 {
        // An empty sum is -0.
        self.0.values().sum::<f64>() + 0.0
    }

    /// Those with one of these names.
    pub fn of(&self, names: &[&str]) -> f64 {
        names.iter().filter_map(|n| self.0.get(*n)).sum()
    }

    /// What sends.
    pub fn sends(&self) -> f64 {
        self.of(&["sendto", "sendmsg", "sendmmsg", "write", "writev"])
    }

    /// What receives.
    pub fn receives(&self) -> f64 {
        self.of(&["recvfrom", "recvmsg", "recvmmsg", "read", "readv"])
    }
}

impl Program {
    /// The program at `path`, as cargo names it for integration tests.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The program beside the running one.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn beside() -> io::Result<Self> {
        let path = std::env::current_exe()?.with_file_name("counted");
        path.is_file().then_some(Self(path)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "`counted` is not built: cargo build --release -p xio-tests --bins")
        })
    }

    /// Allocations an op, of all threads.
    ///
    /// # Errors
    /// Where the program fails.
    pub fn allocations(&self, case: &str, ops: usize) -> io::Result<f64> {
        self.twice(ops, |ops| {
            let out = succeeded(self.on(Command::new(&self.0), case, ops))?;
            String::from_utf8_lossy(&out.stdout).trim().parse().map_err(|_| bad("the program prints no count"))
        })
    }

    /// System calls an op, of all threads; names that make less than a thousandth of a call are left out.
    ///
    /// # Errors
    /// Where the program fails.
    pub fn calls(&self, case: &str, ops: usize) -> io::Result<Option<Calls>> {
        if !works("strace", &["-f", "-c", "-o", "/dev/null", "true"]) {
            return Ok(None);
        }
        let mut runs = Vec::new();
        for ops in [ops, TIMES * ops] {
            let log = Scratch::new("strace");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-c", "-o"]).arg(&log.0).arg("--").arg(&self.0);
            succeeded(self.on(strace, case, ops))?;
            runs.push(called(&std::fs::read_to_string(&log.0)?));
        }
        let extra = |(name, n): (&String, &f64)| {
            let an_op = (n - runs[0].get(name).unwrap_or(&0.0)) / ((TIMES - 1) * ops) as f64;
            (an_op.abs() >= 0.001).then(|| (name.clone(), an_op))
        };
        Ok(Some(Calls(runs[1].iter().filter_map(extra).collect())))
    }

    /// Instructions an op inside the functions whose name contains `side`.
    ///
    /// # Errors
    /// Where the program fails, or what callgrind writes cannot be read.
    pub fn instructions(&self, case: &str, side: &str, ops: usize) -> io::Result<Option<Instructions>> {
        if !works("valgrind", &["--tool=callgrind", "--callgrind-out-file=/dev/null", "true"]) {
            return Ok(None);
        }
        let locks = locked_instructions(&self.0);
        let count = |ops| {
            let profile = Scratch::new("callgrind");
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]);
            valgrind.arg(format!("--callgrind-out-file={}", profile.0.display()));
            valgrind.arg(format!("--toggle-collect=*{side}*")).arg(&self.0);
            succeeded(self.on(valgrind, case, ops))?;
            let text = std::fs::read_to_string(&profile.0)?;
            executed(&text, &self.0, locks.as_deref()).ok_or_else(|| bad("callgrind's output is not what it was"))
        };
        let (a, b) = (count(ops)?, count(TIMES * ops)?);
        let an_op = |a: u64, b: u64| (b as f64 - a as f64) / ((TIMES - 1) * ops) as f64;
        Ok(Some(Instructions { all: an_op(a.0, b.0), locked: locks.is_some().then(|| an_op(a.1, b.1)) }))
    }

    fn on(&self, mut command: Command, case: &str, ops: usize) -> Command {
        command.args(case.split(' ')).arg(ops.to_string());
        command
    }

    fn twice(&self, ops: usize, count: impl Fn(usize) -> io::Result<f64>) -> io::Result<f64> {
        Ok((count(TIMES * ops)? - count(ops)?) / ((TIMES - 1) * ops) as f64)
    }
}

/// Says that something is not counted here, past the runner that swallows what passing tests print.
pub fn skip(what: &str, tool: &str) {
    // A closed stderr is nobody who would miss it.
    let _ = writeln!(io::stderr(), "SKIP: {what}: no `{tool}` that works here");
}

/// A file that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(what: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("xio-{what}-{}-{n}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a tool is there and can do its work: containers often forbid tracing.
fn works(tool: &str, args: &[&str]) -> bool {
    let quiet = Command::new(tool).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|s| s.success())
}

fn succeeded(mut command: Command) -> io::Result<Output> {
    let out = command.stdin(Stdio::null()).output()?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        return Err(io::Error::other(format!("{command:?}: {}: {}", out.status, why.trim())));
    }
    Ok(out)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The columns `calls` and `syscall` of `% time, seconds, usecs/call, calls, errors, syscall`.
fn called(table: &str) -> BTreeMap<String, f64> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let name = *cells.last()?;
        cells.first()?.parse::<f64>().ok()?;
        (name != "total").then_some((name.to_owned(), cells.get(3)?.parse().ok()?))
    };
    table.lines().filter_map(row).collect()
}

/// Instructions in a profile of callgrind: all, and those of `program` at the addresses `locks`.
fn executed(profile: &str, program: &Path, locks: Option<&[u64]>) -> Option<(u64, u64)> {
    let (mut all, mut locked) = (0, 0);
    let (mut ours, mut inside_call) = (false, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = Path::new(object) == program;
        } else if line.starts_with("calls=") {
            // The next line is what the called function cost; its own lines have that too.
            inside_call = true;
        } else if line.starts_with("0x") && !std::mem::take(&mut inside_call) {
            let mut cells = line.split(' ');
            let address = u64::from_str_radix(cells.next()?.strip_prefix("0x")?, 16).ok()?;
            let count: u64 = cells.nth(1)?.parse().ok()?;
            all += count;
            if ours && locks.is_some_and(|l| l.binary_search(&address).is_ok()) {
                locked += count;
            }
        }
    }
    (all > 0).then_some((all, locked))
}

/// The addresses of a program's instructions that lock the bus, in ascending order.
fn locked_instructions(program: &Path) -> Option<Vec<u64>> {
    let out = succeeded({
        let mut objdump = Command::new("objdump");
        objdump.args(["-d", "--no-show-raw-insn"]).arg(program);
        objdump
    });
    let text = String::from_utf8(out.ok()?.stdout).ok()?;
    let mut found: Vec<u64> = text.lines().filter_map(locked_instruction).collect();
    found.sort_unstable();
    (!found.is_empty()).then_some(found)
}

/// The address of a line of a disassembly, if that instruction locks; an exchange with memory does so by
/// itself.
fn locked_instruction(line: &str) -> Option<u64> {
    let (address, rest) = line.split_once(":\t")?;
    let locks = rest.starts_with("lock ") || (rest.starts_with("xchg ") && rest.contains('('));
    locks.then(|| u64::from_str_radix(address.trim(), 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_strace_is_read_by_name() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.11    0.000110          10        11           sendto
 38.89    0.000070           7        10         2 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.000180           8        21         2 total
";
        let calls = Calls(called(table));
        assert_eq!((calls.all(), calls.sends(), calls.receives()), (21.0, 11.0, 10.0));
    }

    #[test]
    fn a_profile_is_summed_without_what_calls_cost() {
        let profile = "\
positions: instr line
events: Ir
summary: 99

ob=/p
fn=a
0x10 1 5
0x14 2 5
calls=5 0x20
0x18 3 30

fn=b
0x20 4 6
ob=/lib
fn=c
0x14 9 7
";
        assert_eq!(executed(profile, Path::new("/p"), Some(&[0x14])), Some((23, 5)));
        assert_eq!(executed("", Path::new("/p"), None), None);
    }

    #[test]
    fn locked_instructions_are_told_from_others() {
        assert_eq!(locked_instruction("   72d6e:\tlock add %rax,0x1a6e3a(%rip)        # 219bb0"), Some(0x72d6e));
        assert_eq!(locked_instruction("   72d70:\txchg   %al,(%rdi)"), Some(0x72d70));
        assert_eq!(locked_instruction("   72d71:\txchg   %ax,%ax"), None);
        assert_eq!(locked_instruction("0000000000072d6e <lock add>:"), None);
    }
}
