//! The figures of a bench: a JSON object a line for programs, a table for people.

use std::io::{self, Write};

use serde_json::{Value, json};
use xio_peers::placement::Placement;
use xio_peers::rounds::{Outcome as Rounds, Ratio};

use super::plan::{Plan, Shot};
use super::{Bench, Mode, middle};
use crate::exit::Outcome;
use crate::render::{Out, Table, Ui, bytes, count, nanos, rate};
use crate::target::Target;

/// The figures of one size.
pub(super) struct Row {
    size: usize,
    ops: usize,
    recv: usize,
    rounds: usize,
    ours: Figures,
    allocs: f64,
    outstanding: u32,
    seen: Option<f64>,
    baseline: Option<(&'static str, Figures)>,
    ratio: Option<Ratio>,
    syscalls: Option<f64>,
}

/// Medians of one contender.
struct Figures {
    ns: f64,
    bytes_per_s: f64,
    cpu_ns: f64,
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Figures {
    fn of(r: &Rounds<Shot>) -> Self {
        let trips = r.samples.first().is_some_and(|s| s.sample.p50_us.is_some());
        let us = |f: fn(&Shot) -> Option<f64>| trips.then(|| middle(r, |s| f(s).unwrap_or(f64::NAN)));
        Self {
            ns: middle(r, |s| s.sample.ns_per_op),
            bytes_per_s: middle(r, |s| s.sample.bytes_per_s),
            cpu_ns: middle(r, |s| s.sample.cpu_ns_per_op),
            p50: us(|s| s.sample.p50_us),
            p99: us(|s| s.sample.p99_us),
        }
    }
}

impl Row {
    pub(super) fn new(
        bench: &Bench,
        plan: &Plan,
        ops: usize,
        shots: &[Rounds<Shot>],
        baseline: Option<&'static str>,
        syscalls: Option<f64>,
    ) -> io::Result<Self> {
        let ours = shots.first().ok_or_else(|| io::Error::other("nothing was measured"))?;
        let seen = ours.samples.iter().all(|s| s.outstanding.is_some());
        Ok(Self {
            size: plan.size,
            ops,
            recv: plan.recv,
            rounds: ours.samples.len(),
            allocs: middle(ours, |s| s.allocs),
            outstanding: plan.outstanding,
            seen: seen.then(|| middle(ours, |s| s.outstanding.unwrap_or(f64::NAN))),
            baseline: baseline.zip(shots.get(1).map(Figures::of)),
            ratio: bench.ratio(shots)?,
            ours: Figures::of(ours),
            syscalls,
        })
    }
}

/// Prints rows as they come.
pub(super) struct Report<'a> {
    bench: &'a Bench,
    spec: String,
    placement: Placement,
    ui: &'a Ui,
    out: Out,
    rows: Vec<Row>,
}

impl<'a> Report<'a> {
    pub(super) fn new(bench: &'a Bench, target: &Target, placement: Placement, ui: &'a Ui) -> Outcome<Self> {
        let mut me = Self { bench, spec: target.spec.to_string(), placement, ui, out: Out::new(), rows: Vec::new() };
        if !bench.json {
            me.head()?;
        }
        me.waiting(0);
        Ok(me)
    }

    pub(super) fn row(&mut self, row: Row) -> Outcome {
        self.clear();
        if self.bench.json {
            writeln!(self.out, "{}", self.object(&row))?;
            self.out.done()?;
        }
        self.rows.push(row);
        self.waiting(self.rows.len());
        Ok(())
    }

    pub(super) fn end(mut self) -> Outcome {
        self.clear();
        if !self.bench.json {
            let table = self.table();
            write!(self.out, "{table}")?;
        }
        self.out.done()
    }

    /// Says on a terminal what is being measured.
    fn waiting(&self, n: usize) {
        if let (true, Some(size)) = (self.ui.live, self.bench.size.get(n)) {
            let of = format!("{} of {}", n + 1, self.bench.size.len());
            let _ = write!(io::stderr(), "\rmeasuring {} ({of}) …\x1b[K", bytes(*size as f64));
        }
    }

    fn clear(&self) {
        if self.ui.live {
            clear();
        }
    }

    fn names(&self) -> [String; 3] {
        let b = self.bench;
        [word(&b.mode), word(&b.api), self.placement.to_string()]
    }

    fn head(&mut self) -> Outcome {
        let p = self.ui.out;
        let [mode, api, placement] = self.names();
        let text = format!("{mode}, {api}, {placement}, {}", count(self.bench.rounds.into(), "round"));
        writeln!(self.out, "{}  {}", p.cyan(&self.spec), p.dim(&text))?;
        self.out.done()
    }

    fn table(&self) -> String {
        let p = self.ui.out;
        let pingpong = self.bench.mode == Mode::Pingpong;
        let or = |x: Option<f64>, f: fn(f64) -> String| x.map_or_else(|| "-".into(), f);
        let mut out = String::new();
        let head = ["size", "an op", if pingpong { "p50" } else { "rate" }, if pingpong { "p99" } else { "under way" }];
        let more = ["cpu", "allocs", "syscalls", "baseline", "ratio", "min..max", "best third"];
        let [a, b, c, d] = head;
        let [e, f, g, h, i, j, k] = more;
        let mut table = Table::new(b"<>>>>>>>>>>", [a, b, c, d, e, f, g, h, i, j, k]);
        for r in &self.rows {
            let us = |x: f64| nanos(x * 1e3);
            let (third, fourth) = match pingpong {
                true => (or(r.ours.p50, us), or(r.ours.p99, us)),
                false => (rate(r.ours.bytes_per_s), or(r.seen, |n| format!("{n:.0}"))),
            };
            let theirs = r.baseline.as_ref().map(|(_, f)| f);
            let baseline = match self.bench.mode {
                Mode::Stream => or(theirs.map(|f| f.bytes_per_s), rate),
                _ => or(theirs.map(|f| f.ns), nanos),
            };
            table.row([
                bytes(r.size as f64),
                nanos(r.ours.ns),
                third,
                fourth,
                nanos(r.ours.cpu_ns),
                format!("{:.2}", r.allocs),
                or(r.syscalls, |n| format!("{n:.2}")),
                baseline,
                or(r.ratio.map(|x| x.median), |x| format!("{x:.2}")),
                r.ratio.map_or_else(|| "-".into(), |x| format!("{:.2}..{:.2}", x.min, x.max)),
                or(r.ratio.map(|x| x.best_third), |x| format!("{x:.2}")),
            ]);
        }
        out.push_str(&table.render("", p));
        if let Some((name, _)) = self.rows.iter().find_map(|r| r.baseline.as_ref()) {
            let what =
                if self.bench.mode == Mode::Stream { "throughput, more is better" } else { "time, less is better" };
            out.push_str(&p.dim(&format!("baseline: {name}; ratio of {what}")));
            out.push('\n');
        }
        out
    }

    fn object(&self, r: &Row) -> Value {
        let [mode, api, placement] = self.names();
        let theirs = r.baseline.as_ref().map(|(_, f)| f);
        let recv = (self.bench.mode == Mode::Stream).then_some(r.recv);
        json!({
            "spec": self.spec,
            "mode": mode,
            "size": r.size,
            "api": api,
            "outstanding": r.outstanding,
            "outstanding_seen": r.seen.map(tidy),
            "placement": placement,
            "rounds": r.rounds,
            "ops": r.ops,
            "recv": recv,
            "ns_per_op": tidy(r.ours.ns),
            "bytes_per_s": r.ours.bytes_per_s.round(),
            "cpu_ns_per_op": tidy(r.ours.cpu_ns),
            "allocs_per_op": tidy(r.allocs),
            "syscalls_per_op": r.syscalls.map(tidy),
            "p50_us": r.ours.p50.map(tidy),
            "p99_us": r.ours.p99.map(tidy),
            "baseline": r.baseline.as_ref().map(|(name, _)| *name),
            "baseline_ns_per_op": theirs.map(|f| tidy(f.ns)),
            "baseline_bytes_per_s": theirs.map(|f| f.bytes_per_s.round()),
            "baseline_cpu_ns_per_op": theirs.map(|f| tidy(f.cpu_ns)),
            "baseline_p50_us": theirs.and_then(|f| f.p50).map(tidy),
            "baseline_p99_us": theirs.and_then(|f| f.p99).map(tidy),
            "ratio": r.ratio.map(|x| tidy(x.median)),
            "ratio_min": r.ratio.map(|x| tidy(x.min)),
            "ratio_max": r.ratio.map(|x| tidy(x.max)),
            "best_third": r.ratio.map(|x| tidy(x.best_third)),
        })
    }
}

/// Takes the line away that says what is being measured.
pub(super) fn clear() {
    let _ = write!(io::stderr(), "\r\x1b[K");
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The word of a choice on the command line.
pub(super) fn word(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

/// Three digits behind the point are more than a machine repeats.
fn tidy(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}
