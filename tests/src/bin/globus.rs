//! The framework beside Globus XIO over loopback TCP: blocking and callback API of Globus, the blocking one
//! of ours, both ends on one CPU and on two, interleaved round by round. Ours runs as Globus XIO does, over
//! plain `tcp`, and with the level or option that it has for the case and Globus XIO has not: a write queue
//! for streams, a moment of spinning for ping-pong on two CPUs. Prints one JSON object a row; `SKIP` where
//! Globus XIO is not installed.
//!
//! `cargo run --release -p xio-tests --bin globus [ROUNDS]`

use xio_core::Engine;
use xio_peers::globus::Globus;
use xio_peers::placement::Placement;
use xio_peers::rounds::{Better, Ratio};
use xio_tests::{Cost, pingpong, stack, stream};

const PLAIN: &str = "tcp(nodelay)";
const SPINS: &str = "tcp(nodelay, spin=50us)";
const QUEUED: &str = "queue(early)/tcp(nodelay)";

const APIS: [&str; 2] = ["xioblock", "xioasync"];

fn main() -> std::io::Result<()> {
    let rounds: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(9);
    let Some(globus) = Globus::build()? else {
        println!("SKIP: libglobus-xio-dev and libglobus-common-dev are not installed");
        return Ok(());
    };
    let engine = Engine::new()?;
    for place in [Placement::SameCpu, Placement::TwoCpus] {
        for (size, trips, writes) in
            [(64, 4000, 40_000), (4096, 4000, 40_000), (65536, 1500, 6000), (1 << 20, 150, 500)]
        {
            for (mode, ops) in [("pingpong", trips), ("stream", writes)] {
                let specs = match (mode, place) {
                    ("stream", _) => vec![PLAIN, QUEUED],
                    (_, Placement::TwoCpus) => vec![PLAIN, SPINS],
                    _ => vec![PLAIN],
                };
                let mut ours: Vec<Vec<Cost>> = vec![Vec::new(); specs.len()];
                let mut theirs: [Vec<Cost>; 2] = [Vec::new(), Vec::new()];
                for _ in 0..rounds {
                    for (spec, ours) in specs.iter().zip(&mut ours) {
                        ours.push(match mode {
                            "pingpong" => pingpong(&engine, &stack(spec), place, size, ops)?,
                            _ => stream(&engine, &stack(spec), place, size, ops)?,
                        });
                    }
                    for (api, theirs) in APIS.into_iter().zip(&mut theirs) {
                        let s = globus.tcp(api, mode, size, ops, place)?;
                        theirs.push(Cost { ns: s.ns_per_op, cpu_ns: s.cpu_ns_per_op });
                    }
                }
                for (spec, ours) in specs.iter().zip(&ours) {
                    for (api, theirs) in APIS.into_iter().zip(&theirs) {
                        let wall = ratio(theirs, ours, |c| c.ns)?;
                        let cpu = ratio(theirs, ours, |c| c.cpu_ns)?;
                        println!(
                            "{{\"beside\": \"{api}\", \"spec\": \"{spec}\", \"placement\": \"{place}\", \"mode\": \"{mode}\", \"size\": {size}, \"rounds\": {rounds}, \
                             \"times_faster\": {:.2}, \"min\": {:.2}, \"max\": {:.2}, \"best_third\": {:.2}, \"cpu_ratio\": {:.2}, \"cpu_min\": {:.2}}}",
                            wall.median, wall.min, wall.max, wall.best_third, cpu.median, cpu.min
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

/// How many times their figure is of ours.
fn ratio(theirs: &[Cost], ours: &[Cost], figure: fn(&Cost) -> f64) -> std::io::Result<Ratio> {
    let all = |v: &[Cost]| v.iter().map(figure).collect::<Vec<_>>();
    Ratio::of(&all(theirs), &all(ours), Better::Higher)
}
