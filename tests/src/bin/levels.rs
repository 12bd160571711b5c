//! What one level costs: whole blocking reads of 64 B over `void` through N `null` levels, beside nested
//! tokio `AsyncRead` levels and bare virtual calls, interleaved round by round on one CPU.
//!
//! Prints one JSON object a contender: wall and CPU ns an op by N (medians); then of CPU time, which for a
//! thread that never waits is wall time without what other programs took, the bare op and the level by
//! least squares (median, range, best third of the rounds) and the level's ratio to tokio's of the same
//! round; allocations. About 0 ns a level are levels that cost nothing.
//!
//! `cargo run --release -p xio-tests --bin levels [ROUNDS]`

use std::io;
use std::time::Instant;

use xio_core::{Engine, Handle, LevelNode, Stack};
use xio_drivers::{null, void};
use xio_peers::placement::{Placement, Side};
use xio_peers::rounds::{Better, Contender, Outcome, Ratio, interleave, median, slope};
use xio_peers::sample::thread_cpu;
use xio_peers::{counting, layers};
use xio_tests::report;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();

const DEPTHS: [usize; 6] = [0, 1, 2, 4, 8, 16];
const OPS: u32 = 100_000;

/// A stack of some depth; runs so many ops.
type Stacked = Box<dyn FnMut(u32)>;

/// A buffer that no contender has across two cache lines.
#[repr(align(64))]
struct Line([u8; layers::SIZE]);

/// One round of one contender.
struct Round {
    /// Nanoseconds an op by depth.
    ns: [f64; DEPTHS.len()],
    /// The same of CPU time.
    cpu_ns: [f64; DEPTHS.len()],
    /// Allocations an op, at most.
    allocs: f64,
}

impl Round {
    fn of(stacks: &mut [Stacked]) -> Self {
        let mut round = Self { ns: [0.0; DEPTHS.len()], cpu_ns: [0.0; DEPTHS.len()], allocs: 0.0 };
        for (i, stack) in stacks.iter_mut().enumerate() {
            stack(OPS / 10);
            let (at, cpu, allocs) = (Instant::now(), thread_cpu(), counting::thread());
            stack(OPS);
            round.ns[i] = at.elapsed().as_nanos() as f64 / f64::from(OPS);
            round.cpu_ns[i] = (thread_cpu() - cpu).as_nanos() as f64 / f64::from(OPS);
            let allocs = counting::thread().since(allocs).allocations as f64 / f64::from(OPS);
            round.allocs = round.allocs.max(allocs);
        }
        round
    }

    fn level(&self) -> f64 {
        let points: Vec<(f64, f64)> = DEPTHS.iter().zip(self.cpu_ns).map(|(n, ns)| (*n as f64, ns)).collect();
        slope(&points).unwrap_or(f64::NAN)
    }
}

fn open(engine: &Engine, intercept: &str, gate: bool, nulls: usize) -> Handle {
    let mut node = LevelNode::new(void::driver());
    for _ in 0..nulls {
        let attr = null::Options::default().with_intercept(intercept.into()).with_gate(gate);
        node = LevelNode::new(null::driver()).with_attr(Box::new(attr)).over(node);
    }
    let stack = Stack::new(node).expect("null over void binds");
    engine.open(&stack, ()).wait().expect("void opens")
}

/// Reads through every depth of one kind of level.
fn ours(engine: &Engine, intercept: &str, gate: bool) -> Vec<Stacked> {
    let stack = |n| {
        let handle = open(engine, intercept, gate, n);
        let mut line = Line([0; layers::SIZE]);
        let read = move |ops: u32| {
            let Line(buf) = &mut line;
            for _ in 0..ops {
                assert_eq!(handle.read_into(buf).wait().ok(), Some(layers::SIZE));
            }
        };
        Box::new(read) as Stacked
    };
    DEPTHS.map(stack).into()
}

fn theirs<O: layers::Op + 'static>(make: fn(usize) -> O) -> Vec<Stacked> {
    let stack = |n| {
        let (mut op, mut line) = (make(n), Line([0; layers::SIZE]));
        Box::new(move |ops: u32| {
            let Line(buf) = &mut line;
            op.run(ops, buf);
        }) as Stacked
    };
    DEPTHS.map(stack).into()
}

fn main() -> io::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(15);
    Placement::SameCpu.pin(Side::Client)?;
    let engine = Engine::builder().owner_driven().build()?;
    let mut kinds = vec![("tokio", theirs(layers::tokio_levels)), ("virtual", theirs(layers::virtual_floor))];
    for (name, intercept, gate) in
        [("xio both", "both", false), ("xio gated", "both", true), ("xio down", "down", false)]
            .into_iter()
            .chain([("xio up", "up", false), ("xio none", "none", false)])
    {
        kinds.push((name, ours(&engine, intercept, gate)));
    }
    let mut contenders: Vec<_> =
        kinds.iter_mut().map(|(name, stacks)| Contender::new(*name, || Ok(Round::of(stacks)))).collect();
    let outcomes = interleave(rounds, 1, &mut contenders)?;
    let Some(tokio) = outcomes.first() else { return Ok(()) };
    let commit = report::commit();
    for o in &outcomes {
        print(o, tokio, &commit)?;
    }
    Ok(())
}

fn print(o: &Outcome<Round>, tokio: &Outcome<Round>, commit: &str) -> io::Result<()> {
    let levels = o.figures(Round::level);
    let one = vec![1.0; levels.len()];
    let level = Ratio::of(&levels, &one, Better::Lower)?;
    let beside = Ratio::of(&levels, &tokio.figures(Round::level), Better::Lower)?;
    let bare = Ratio::of(&o.figures(|r| r.cpu_ns[0]), &one, Better::Lower)?;
    let middle = |f: &dyn Fn(&Round) -> f64| median(&o.figures(f)).unwrap_or(f64::NAN);
    let by_depth = |of: fn(&Round) -> &[f64; DEPTHS.len()]| {
        let cells: Vec<String> =
            DEPTHS.iter().enumerate().map(|(i, n)| format!("\"{n}\": {:.1}", middle(&|r| of(r)[i]))).collect();
        cells.join(", ")
    };
    let spread = |name: &str, r: &Ratio| {
        format!(
            "\"{name}\": {:.2}, \"{name}_min\": {:.2}, \"{name}_max\": {:.2}, \"{name}_best_third\": {:.2}",
            r.median, r.min, r.max, r.best_third
        )
    };
    println!(
        "{{\"contender\": \"{}\", \"rounds\": {}, \"ns_per_op\": {{{}}}, \"cpu_ns_per_op\": {{{}}}, {}, {}, {}, \
         \"allocs_per_op\": {:.3}, \"commit\": \"{commit}\"}}",
        o.name,
        level.rounds,
        by_depth(|r| &r.ns),
        by_depth(|r| &r.cpu_ns),
        spread("bare", &bare),
        spread("level", &level),
        spread("over_tokio", &beside),
        o.figures(|r| r.allocs).into_iter().fold(0.0, f64::max),
    );
    Ok(())
}
