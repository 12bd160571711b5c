//! What one level costs: whole blocking reads of 64 B over `void` through N `null` levels, beside
//! nested tokio `AsyncRead` levels and bare virtual calls, interleaved in one run.
//!
//! Prints one JSON object a contender and round count: ns per op by N, ns per level by least
//! squares over the medians, allocations per op.

use std::time::Instant;

use xio_core::{Engine, Handle, LevelNode, Stack};
use xio_drivers::{null, void};
use xio_peers::{counting, layers, rounds};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();

const DEPTHS: [usize; 6] = [0, 1, 2, 4, 8, 16];
const OPS: u32 = 100_000;

fn open(engine: &Engine, intercept: &str, gate: bool, nulls: usize) -> Handle {
    let mut node = LevelNode::new(void::driver());
    for _ in 0..nulls {
        let attr = null::Options::default().with_intercept(intercept.into()).with_gate(gate);
        node = LevelNode::new(null::driver()).with_attr(Box::new(attr)).over(node);
    }
    let stack = Stack::new(node).expect("null over void binds");
    engine.open(&stack, ()).wait().expect("void opens")
}

fn time(ops: u32, mut f: impl FnMut()) -> f64 {
    let t = Instant::now();
    for _ in 0..ops {
        f();
    }
    t.elapsed().as_nanos() as f64 / f64::from(ops)
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(15usize);
    let _ = xio_peers::placement::Placement::SameCpu.pin(xio_peers::placement::Side::Client);
    let engine = Engine::builder().owner_driven().build().expect("an engine");
    let kinds = [("both", false), ("gated", true), ("down", false), ("up", false), ("none", false)];
    type Contender<'a> = (String, usize, Box<dyn FnMut(u32) -> f64 + 'a>);
    let mut all: Vec<Contender<'_>> = Vec::new();
    for (name, gate) in kinds {
        let intercept = if gate { "both" } else { name };
        for n in DEPTHS {
            let h = open(&engine, intercept, gate, n);
            let mut buf = [0u8; 64];
            all.push((
                format!("xio {name}"),
                n,
                Box::new(move |ops| time(ops, || assert_eq!(h.read_into(&mut buf).wait().ok(), Some(64)))),
            ));
        }
    }
    for n in DEPTHS {
        let mut t = layers::tokio_levels(n);
        all.push(("tokio".into(), n, Box::new(move |ops| layers::ns_per_op(ops, &mut t))));
        let mut v = layers::virtual_floor(n);
        all.push(("virtual".into(), n, Box::new(move |ops| layers::ns_per_op(ops, &mut v))));
    }
    let mut samples: Vec<Vec<f64>> = all.iter().map(|_| Vec::new()).collect();
    let mut allocs = vec![0.0; all.len()];
    for round in 0..=rounds {
        for (i, (_, _, f)) in all.iter_mut().enumerate() {
            let before = counting::thread();
            let ns = f(if round == 0 { OPS / 10 } else { OPS });
            if round > 0 {
                samples[i].push(ns);
                allocs[i] = counting::thread().since(before).allocations as f64 / f64::from(OPS);
            }
        }
    }
    let mut names: Vec<String> = all.iter().map(|c| c.0.clone()).collect();
    names.dedup();
    names.sort();
    names.dedup();
    for name in names {
        let rows: Vec<usize> = (0..all.len()).filter(|i| all[*i].0 == name).collect();
        let median: Vec<(f64, f64)> =
            rows.iter().map(|i| (all[*i].1 as f64, rounds::median(&samples[*i]).unwrap_or(f64::NAN))).collect();
        let least: Vec<(f64, f64)> = rows
            .iter()
            .map(|i| (all[*i].1 as f64, samples[*i].iter().copied().fold(f64::INFINITY, f64::min)))
            .collect();
        let ns: Vec<String> = median.iter().map(|(n, x)| format!("\"{n}\": {x:.1}")).collect();
        let worst = rows.iter().map(|i| allocs[*i]).fold(0.0, f64::max);
        println!(
            "{{\"contender\": \"{name}\", \"rounds\": {rounds}, \"ns_per_op\": {{{}}}, \"ns_per_level\": {:.2}, \"ns_per_level_min\": {:.2}, \"allocs_per_op\": {worst:.3}}}",
            ns.join(", "),
            rounds::slope(&median).unwrap_or(f64::NAN),
            rounds::slope(&least).unwrap_or(f64::NAN),
        );
    }
}
