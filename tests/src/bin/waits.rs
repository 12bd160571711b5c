//! What a read that can be ended costs before any framework: blocking ping-pongs over plain sockets with
//! the wait as it is, with waits that an eventfd can end, and ours, interleaved in the same rounds, both
//! ends on one CPU and on two. JSON on stdout, the same as a table on stderr.
//!
//! `cargo run --release -p xio-tests --bin waits [ROUNDS [SIZE]]`

use xio_core::Engine;
use xio_peers::cancellable::{self, Wait};
use xio_peers::placement::Placement;
use xio_peers::raw;
use xio_peers::rounds::{Contender, interleave};
use xio_tests::{pingpong, report, stack};

fn main() -> std::io::Result<()> {
    let number = |i: usize, or: usize| std::env::args().nth(i).and_then(|a| a.parse().ok()).unwrap_or(or);
    let (rounds, size) = (number(1, 9), number(2, 64));
    let engine = Engine::new()?;
    let tcp = stack("tcp(nodelay)");
    for place in Placement::possible()?.into_iter().filter(|p| *p != Placement::Unpinned) {
        let trips = if place == Placement::SameCpu { 10_000 } else { 4000 };
        let mut all = vec![Contender::new("raw", || Ok(raw::pingpong(place, size, trips)?.into()))];
        for wait in Wait::ALL {
            let run = move || Ok(cancellable::pingpong(place, size, trips, wait)?.into());
            all.push(Contender::new(format!("raw: {}", wait.name()), run));
        }
        all.push(Contender::new("tcp(nodelay)", || pingpong(&engine, &tcp, place, size, trips)));
        let outcomes = interleave(rounds, 1, &mut all)?;
        report::rows(&format!("\"mode\": \"pingpong\", \"placement\": \"{place}\", \"size\": {size},"), &outcomes)?;
    }
    Ok(())
}
