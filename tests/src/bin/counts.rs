//! What ops cost where the clock has no say: instructions and locked instructions of the writing and of
//! the reading end, system calls and allocations of both together, of our stacks and of plain sockets.
//! One JSON object a case. Figures are those of the optimised build only.
//!
//! `cargo run --release -p xio-tests --bin counts` (builds what it counts with `--bins`)

use std::fmt::Write as _;

use xio_peers::beside::{BUILD, Beside};
use xio_tests::outside::{Program, skip};
use xio_tests::report;

/// A case, its ops, and which ends are worth their instructions.
const CASES: [(&str, usize, &[&str]); 33] = [
    ("void none 0", 300, &["read"]),
    ("void none 16", 300, &["read"]),
    ("void both 1", 300, &["read"]),
    ("void both 16", 300, &["read"]),
    ("fill raw 64 1", 500, &["write", "read"]),
    ("fill raw 64 256", 2560, &["write", "read"]),
    ("fill raw 4096 15", 600, &["write", "read"]),
    ("fill tcp(nodelay) 64 1", 500, &["write", "read"]),
    ("take tcp(nodelay) 64 1", 500, &["read"]),
    ("fill frame/tcp(nodelay) 64 256", 2560, &["write", "read"]),
    ("take frame/tcp(nodelay) 64 256", 2560, &["read"]),
    ("fill frame/tcp(nodelay) 4096 15", 600, &["write", "read"]),
    ("take frame/tcp(nodelay) 4096 15", 600, &["read"]),
    ("fill frame/tcp(nodelay) 65536 1", 100, &["write", "read"]),
    ("pingpong tcp(nodelay) 64", 1000, &[]),
    ("pingpong queue/frame/tcp(nodelay) 64", 1000, &[]),
    ("stream queue(early)/frame/tcp(nodelay) 64", 20_000, &[]),
    ("window queue/frame/tcp(nodelay) 64 256", 20_000, &[]),
    ("window queue/frame/tcp(nodelay) 4096 256", 5000, &[]),
    ("flood one 64", 640, &["send", "take"]),
    ("flood many 64", 6400, &["send", "take"]),
    ("flood segments 64", 6400, &["send", "take"]),
    ("flood udp 64", 640, &["send", "take"]),
    ("flood udp(batch)+Segment 64", 6400, &["send", "take"]),
    ("flood queue/udp(batch) 64", 6400, &["send", "take"]),
    ("flood segments 1400", 1840, &["send", "take"]),
    ("flood udp(batch)+Segment 1400", 1840, &["send", "take"]),
    ("fill shm(buffer=256KiB) 64 1", 500, &["write", "read"]),
    ("fill shm(buffer=256KiB,message) 64 1", 500, &["write", "read"]),
    ("stream shm(buffer=256KiB,message) 64", 100_000, &[]),
    ("stream queue(early)/shm(buffer=256KiB,message) 64", 100_000, &[]),
    ("pingpong ring 64", 2200, &[]),
    ("pingpong shm(buffer=256KiB) 64", 2000, &[]),
];

/// The same of what is heavy to build.
const BESIDE: [(&str, usize); 2] = [("count tokio 64", 640), ("count iceoryx2 64", 640)];

fn main() -> std::io::Result<()> {
    let (program, commit) = (Program::beside()?, report::commit());
    for (case, ops, ends) in CASES {
        let mut line = format!("{{\"case\": \"{case}\"");
        // Writing to a String cannot fail.
        for end in ends {
            let side = format!("{end}_side");
            match program.instructions(case, &side, ops)? {
                Some(i) => {
                    let _ = write!(line, ", \"{end}_instructions\": {:.0}", i.all);
                    if let Some(locked) = i.locked {
                        let _ = write!(line, ", \"{end}_locked\": {locked:.2}");
                    }
                }
                None => skip(case, "valgrind"),
            }
        }
        rest(&program, case, ops, line, &commit)?;
    }
    match Beside::found() {
        Some(beside) => {
            let program = Program::new(beside.path());
            for (case, ops) in BESIDE {
                rest(&program, case, ops, format!("{{\"case\": \"{case}\""), &commit)?;
            }
        }
        None => println!("SKIP: tokio and iceoryx2, which {BUILD} builds"),
    }
    Ok(())
}

/// Ends a case's line with its system calls and allocations.
fn rest(program: &Program, case: &str, ops: usize, mut line: String, commit: &str) -> std::io::Result<()> {
    match program.calls(case, ops)? {
        Some(c) => {
            // Writing to a String cannot fail.
            let _ = write!(line, ", \"syscalls\": {:.3}", c.all());
            for (name, n) in &c.0 {
                let _ = write!(line, ", \"{name}\": {n:.3}");
            }
        }
        None => skip(case, "strace"),
    }
    println!("{line}, \"allocs\": {:.3}, \"commit\": \"{commit}\"}}", program.allocations(case, ops)?);
    Ok(())
}
