//! Prints the baselines of this machine, one JSON object a line.
//!
//! `cargo run --release -p xio-peers --features tokio --example peers [ROUNDS]`
//!
//! With Globus XIO installed and built (`globus-xio/run.sh build`), its figures are interleaved.

use std::io;

use xio_peers::globus::Globus;
use xio_peers::layers;
use xio_peers::placement::{Placement, Side};
use xio_peers::raw;
use xio_peers::rounds::{Better, Contender, Ratio, interleave, median, slope};
use xio_peers::sample::Sample;

fn main() -> io::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(3);
    let globus = Globus::build()?;
    for placement in Placement::possible()? {
        for (size, trips, messages) in
            [(64, 2000, 20_000), (4096, 2000, 20_000), (65536, 500, 2000), (1 << 20, 50, 200)]
        {
            tcp(rounds, placement, size, "pingpong", trips, globus.as_ref())?;
            tcp(rounds, placement, size, "stream", messages, globus.as_ref())?;
        }
    }
    levels(rounds)
}

fn tcp(
    rounds: usize,
    placement: Placement,
    size: usize,
    mode: &str,
    ops: usize,
    globus: Option<&Globus>,
) -> io::Result<()> {
    let pingpong = mode == "pingpong";
    let mut contenders = vec![Contender::new("raw", move || {
        if pingpong { raw::pingpong(placement, size, ops) } else { raw::stream(placement, size, ops, size) }
    })];
    if pingpong && placement == Placement::TwoCpus {
        contenders.push(Contender::new("raw-spin", move || raw::spin_pingpong(placement, size, ops)));
    }
    for (name, program) in [("raw-c", "raw"), ("xioblock", "xioblock"), ("xioasync", "xioasync")] {
        if let Some(g) = globus {
            contenders.push(Contender::new(name, move || g.tcp(program, mode, size, ops, placement)));
        }
    }
    let outcomes = interleave(rounds, 1, &mut contenders)?;
    let time = |s: &Sample| s.ns_per_op;
    for o in &outcomes {
        let ratio = Ratio::of(&o.figures(time), &outcomes[0].figures(time), Better::Lower)?;
        for s in &o.samples {
            println!("{}", s.to_json(&o.name, &format!("{mode}-{placement}"), size));
        }
        eprintln!("{mode} {size} {placement} {}: time {ratio}", o.name);
    }
    Ok(())
}

fn levels(rounds: usize) -> io::Result<()> {
    Placement::SameCpu.pin(Side::Client)?;
    type Make = fn(usize) -> Box<dyn layers::Op>;
    let kinds: &[(&str, Make)] = &[
        ("virtual-floor", |n| Box::new(layers::virtual_floor(n))),
        #[cfg(feature = "tokio")]
        ("tokio", |n| Box::new(layers::tokio_levels(n))),
    ];
    let mut contenders: Vec<Contender<'_, f64>> = Vec::new();
    for (name, make) in kinds {
        let mut stacks: Vec<_> = [0, 1, 2, 4, 8, 16].map(|n| (n, make(n))).into();
        contenders.push(Contender::new(*name, move || {
            let points: Vec<(f64, f64)> =
                stacks.iter_mut().map(|(n, op)| (*n as f64, layers::ns_per_op(200_000, &mut **op))).collect();
            slope(&points).ok_or_else(|| io::Error::other("no slope"))
        }));
    }
    for o in interleave(rounds, 1, &mut contenders)? {
        println!(
            "{{\"contender\":\"{}\",\"mode\":\"level\",\"size\":{},\"ns_per_level\":{:.2}}}",
            o.name,
            layers::SIZE,
            median(&o.samples).unwrap_or(f64::NAN)
        );
    }
    Ok(())
}
