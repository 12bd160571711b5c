//! What a header before each message costs before any framework: one-way streams over plain sockets without
//! and with one, and `frame/tcp`, interleaved in the same rounds, both ends on one CPU and on two. All
//! writes block, one a message. JSON on stdout, the same as a table on stderr; a ratio is of time.
//!
//! `cargo run --release -p xio-tests --bin frames [ROUNDS]`

use xio_core::Engine;
use xio_peers::framed::{self, Lead};
use xio_peers::placement::Placement;
use xio_peers::raw;
use xio_peers::rounds::{Contender, interleave};
use xio_tests::{report, stack, stream};

/// What plain sockets are read with, and `frame` reads ahead.
const AHEAD: usize = 64 * 1024;

fn main() -> std::io::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(9);
    let engine = Engine::new()?;
    let frame = stack("frame/tcp(nodelay)");
    for place in Placement::possible()?.into_iter().filter(|p| *p != Placement::Unpinned) {
        for (size, ops) in [(64, 60_000), (4096, 40_000), (16 << 10, 20_000), (64 << 10, 6000)] {
            let mut all = vec![Contender::new("raw", || Ok(raw::stream(place, size, ops, AHEAD)?.into()))];
            for lead in Lead::ALL {
                let run = move || Ok(framed::stream(place, size, ops, AHEAD, lead)?.into());
                all.push(Contender::new(format!("raw: {}", lead.name()), run));
            }
            all.push(Contender::new("frame/tcp(nodelay)", || stream(&engine, &frame, place, size, ops)));
            let outcomes = interleave(rounds, 1, &mut all)?;
            report::rows(&format!("\"mode\": \"stream\", \"placement\": \"{place}\", \"size\": {size},"), &outcomes)?;
        }
    }
    Ok(())
}
