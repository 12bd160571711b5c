//! Shared memory beside a bare ring of the same size, interleaved in the same rounds: both ends spinning on two
//! CPUs, and asleep between messages. JSON on stdout, the same as a table on stderr.
//!
//! `cargo run --release -p xio-tests --bin rings [ROUNDS]`

use std::io;

use xio_core::Engine;
use xio_peers::placement::Placement;
use xio_peers::rings::{self, Wait};
use xio_peers::rounds::{Contender, interleave};
use xio_tests::{pingpong, report, stack, stream};

/// Bytes of a ring.
const RING: usize = 256 << 10;
/// Bytes of a stream in one round.
const STREAM: usize = 256 << 20;

fn main() -> io::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(9);
    let engine = Engine::new()?;
    let spec = |options: &str| stack(&format!("shm(buffer=256KiB{options})"));
    for place in Placement::possible()?.into_iter().filter(|p| *p != Placement::Unpinned) {
        for wait in [Wait::Spin, Wait::Sleep] {
            if wait == Wait::Spin && place == Placement::SameCpu {
                continue;
            }
            let (name, options) = match wait {
                Wait::Spin => ("spin", ", spin=1ms"),
                Wait::Sleep => ("sleep", ""),
            };
            let (bytes, messages) = (spec(options), spec(&format!("{options}, message")));
            for size in [64, 4096, 64 << 10] {
                let trips = if wait == Wait::Spin && size < 65536 { 100_000 } else { 4000 };
                let mut all = vec![
                    Contender::new("bare ring", || Ok(rings::pingpong(place, size, trips, RING, wait)?.into())),
                    Contender::new("shm", || pingpong(&engine, &bytes, place, size, trips)),
                    Contender::new("shm(message)", || pingpong(&engine, &messages, place, size, trips)),
                ];
                let keys = format!(
                    "\"mode\": \"pingpong\", \"wait\": \"{name}\", \"placement\": \"{place}\", \"size\": {size},"
                );
                report::rows(&keys, &interleave(rounds, 1, &mut all)?)?;
                let ops = (STREAM / size).min(1_000_000);
                let mut all = vec![
                    Contender::new("bare ring", || Ok(rings::stream(place, size, ops, size, RING, wait)?.into())),
                    Contender::new("shm", || stream(&engine, &bytes, place, size, ops)),
                    Contender::new("shm(message)", || stream(&engine, &messages, place, size, ops)),
                ];
                let keys = keys.replace("pingpong", "stream");
                report::rows(&keys, &interleave(rounds, 1, &mut all)?)?;
            }
        }
    }
    Ok(())
}
