//! The framework beside Globus XIO over loopback TCP: blocking and callback API of Globus, the
//! blocking one of ours, one CPU for both ends, interleaved round by round. Prints one JSON object a
//! row; `SKIP` where Globus XIO is not installed.
//!
//! `cargo run --release -p xio-tests --bin globus [ROUNDS]`

use xio_core::Engine;
use xio_peers::globus::Globus;
use xio_peers::placement::Placement;
use xio_peers::rounds::{Better, Ratio};
use xio_tests::{Cost, pingpong, stack, stream};

fn main() -> std::io::Result<()> {
    let rounds: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(9);
    let Some(globus) = Globus::build()? else {
        println!("SKIP: libglobus-xio-dev and libglobus-common-dev are not installed");
        return Ok(());
    };
    let engine = Engine::new()?;
    let tcp = stack("tcp(nodelay)");
    for place in [Placement::SameCpu, Placement::TwoCpus] {
        for (size, trips, writes) in
            [(64, 4000, 40_000), (4096, 4000, 40_000), (65536, 1500, 6000), (1 << 20, 150, 500)]
        {
            for (mode, ops) in [("pingpong", trips), ("stream", writes)] {
                let mut ours: Vec<Cost> = Vec::new();
                let mut theirs: [Vec<Cost>; 2] = [Vec::new(), Vec::new()];
                for _ in 0..rounds {
                    ours.push(match mode {
                        "pingpong" => pingpong(&engine, &tcp, place, size, ops)?,
                        _ => stream(&engine, &tcp, place, size, ops)?,
                    });
                    for (i, api) in ["xioblock", "xioasync"].into_iter().enumerate() {
                        let s = globus.tcp(api, mode, size, ops, place)?;
                        theirs[i].push(Cost { ns: s.ns_per_op, cpu_ns: s.cpu_ns_per_op });
                    }
                }
                let figure = |v: &[Cost], f: fn(&Cost) -> f64| v.iter().map(f).collect::<Vec<_>>();
                for (i, api) in ["xioblock", "xioasync"].into_iter().enumerate() {
                    let wall = Ratio::of(&figure(&theirs[i], |c| c.ns), &figure(&ours, |c| c.ns), Better::Higher)?;
                    let cpu =
                        Ratio::of(&figure(&theirs[i], |c| c.cpu_ns), &figure(&ours, |c| c.cpu_ns), Better::Higher)?;
                    println!(
                        "{{\"beside\": \"{api}\", \"placement\": \"{place}\", \"mode\": \"{mode}\", \"size\": {size}, \"rounds\": {rounds}, \
                         \"times_faster\": {:.2}, \"min\": {:.2}, \"max\": {:.2}, \"best_third\": {:.2}, \"cpu_ratio\": {:.2}, \"cpu_min\": {:.2}}}",
                        wall.median, wall.min, wall.max, wall.best_third, cpu.median, cpu.min
                    );
                }
            }
        }
    }
    Ok(())
}
