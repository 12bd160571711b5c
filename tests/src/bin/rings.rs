//! Shared memory beside a bare ring of the same size and iceoryx2, interleaved in the same rounds: both ends
//! spinning on two CPUs, and asleep between messages. Ratios are of times, to the bare ring and to iceoryx2. JSON
//! on stdout, the same as a table on stderr; SKIP where the program with iceoryx2 is not built.
//!
//! `cargo run --release -p xio-tests --bin rings [ROUNDS]`

use std::io;

use xio_core::Engine;
use xio_peers::beside::{BUILD, Beside};
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
    let beside = Beside::found();
    if beside.is_none() {
        println!("SKIP: iceoryx2, which {BUILD} builds");
    }
    let engine = Engine::new()?;
    let spec = |options: &str| stack(&format!("shm(buffer=256KiB{options})"));
    for place in Placement::possible()?.into_iter().filter(|p| *p != Placement::Unpinned) {
        for wait in [Wait::Spin, Wait::Sleep] {
            if wait == Wait::Spin && place == Placement::SameCpu {
                continue;
            }
            let name = wait.name();
            let options = if wait == Wait::Spin { ", spin=1ms" } else { "" };
            let (bytes, messages) = (spec(options), spec(&format!("{options}, message")));
            let queued = stack(&format!("queue(early)/shm(buffer=256KiB{options}, message)"));
            for size in [64, 4096, 64 << 10] {
                let trips = if wait == Wait::Spin && size < 65536 { 100_000 } else { 4000 };
                let mut all = vec![
                    Contender::new("bare ring", || Ok(rings::pingpong(place, size, trips, RING, wait)?.into())),
                    Contender::new("shm", || pingpong(&engine, &bytes, place, size, trips)),
                    Contender::new("shm(message)", || pingpong(&engine, &messages, place, size, trips)),
                ];
                let iceoryx2 =
                    |b| Contender::new("iceoryx2", move || Ok(Beside::pingpong(b, place, size, trips, wait)?.into()));
                all.extend(beside.as_ref().map(iceoryx2));
                let keys = format!(
                    "\"mode\": \"pingpong\", \"wait\": \"{name}\", \"placement\": \"{place}\", \"size\": {size},"
                );
                report::rows_beside(&keys, &interleave(rounds, 1, &mut all)?, &["iceoryx2"])?;
                let ops = (STREAM / size).min(1_000_000);
                let mut all = vec![
                    Contender::new("bare ring", || Ok(rings::stream(place, size, ops, size, RING, wait)?.into())),
                    Contender::new("shm", || stream(&engine, &bytes, place, size, ops)),
                    Contender::new("shm(message)", || stream(&engine, &messages, place, size, ops)),
                    Contender::new("queue(early)/shm(message)", || stream(&engine, &queued, place, size, ops)),
                ];
                let keys = keys.replace("pingpong", "stream");
                report::rows(&keys, &interleave(rounds, 1, &mut all)?)?;
            }
        }
    }
    Ok(())
}
