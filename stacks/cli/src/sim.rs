//! `xio sim`: a stack on the simulated network, under seeded faults, in virtual time.

use std::io::Write;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::json;
use xio_stacks::core::Contact;
use xio_testkit::voyage::{Faults, Log, Settings, voyage};

use crate::exit::{Failure, Outcome};
use crate::render::{Out, Ui};
use crate::target;

/// Run a stack on a simulated network, under faults, with every byte checked.
///
/// Connections come and go in virtual time; both ends write and read at random while the network
/// cuts, delays, resets and starves them. A run is a function of the stack, the seed and the options,
/// down to its hash: the line that says what broke says how to make the same run again.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Sim {
    /// The stack; its transport must be one that a simulation carries (tcp, shm)
    spec: String,
    /// What all chance comes from
    #[arg(long, default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Runs of these seeds, one after the other, up to the first that breaks something
    #[arg(long, value_name = "FROM..TO", value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Virtual time in which connections are made, in minutes
    #[arg(long, value_name = "M", conflicts_with = "milliseconds")]
    minutes: Option<f64>,
    /// The same in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100)]
    milliseconds: u64,
    /// What goes wrong: names with commas, all or none
    #[arg(long, value_name = "LIST", default_value = "all", help = faults_help())]
    fault: Faults,
    /// Connections under way together
    #[arg(long, default_value_t = 3, value_name = "N")]
    connections: usize,
    /// Most bytes an end writes
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    bytes: usize,
    /// One JSON object a run on stdout; for --seeds one for all, or for the one that broke something
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  xio sim queue/frame/tcp --seed 7
  xio sim frame/tcp --seeds 0..10000 --milliseconds 30 --bytes 1500
  xio sim tcp --seed 7 --minutes 5 --fault partition,slow --json
  xio sim 'frame/shm' --seeds 0..1000       over shm: delay, spurious, reset, partition, emfile, aborted, cancel, close

Exit codes: 0 all as it must be, 1 something broke, 2 bad usage or spec.";

fn faults_help() -> String {
    format!("What goes wrong: all, none, or with commas: {}", Faults::names().collect::<Vec<_>>().join(", "))
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write it as FROM..TO, like 0..1000")?;
    let number = |t: &str| t.parse::<u64>().map_err(|_| format!("`{t}` is not a number"));
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err(format!("{text} is empty")) } else { Ok(range) }
}

impl Sim {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        let stack = target::endpoint(&self.spec, ui)?.stack;
        if stack.levels().any(|l| l.label().is_some()) {
            let text = "xio sim runs stacks with one transport; this one has branches";
            return Err(Failure::Usage(text.into()));
        }
        let bottom = stack.levels().last().map_or("its transport", |l| l.driver().info().name);
        // Others need no network, or no connection before a link is there.
        let at = match bottom {
            "tcp" => Contact::new("127.0.0.1:0"),
            "shm" => Contact::None,
            other => return Err(not_simulated(other, "")),
        };
        let range = self.seeds.clone().unwrap_or_else(|| self.seed..self.seed.saturating_add(1));
        let count = range.end - range.start;
        let began = Instant::now();
        let mut all = Sum::default();
        for seed in range {
            let log = voyage(&stack, &self.settings(seed)?.with_contact(at.clone()))
                .map_err(|e| not_simulated(bottom, &format!(" ({e})")))?;
            let done = seed - self.seeds.as_ref().map_or(seed, |r| r.start) + 1;
            if ui.live && count > 1 && done.is_multiple_of(64) {
                let _ = write!(std::io::stderr(), "\r{done} of {count} seeds");
            }
            all.add(&log);
            if !log.broken.is_empty() {
                clear(ui, count);
                self.show(seed, &log, began.elapsed(), ui)?;
                return Err(Failure::Failed(format!(
                    "seed {seed} broke something; {} makes it again",
                    self.again(seed)
                )));
            }
            if count == 1 {
                return self.show(seed, &log, began.elapsed(), ui);
            }
        }
        clear(ui, count);
        all.show(&self.spec, count, began.elapsed(), self.json)
    }

    fn settings(&self, seed: u64) -> Outcome<Settings> {
        let length = match self.minutes {
            Some(m) => Duration::try_from_secs_f64(m * 60.0)
                .map_err(|_| Failure::Usage(format!("{m} minutes is no length of time")))?,
            None => Duration::from_millis(self.milliseconds),
        };
        let settings = Settings::new(seed).with_length(length).with_faults(self.fault.clone());
        Ok(settings.with_connections(self.connections).with_bytes(self.bytes))
    }

    /// The command that makes one run again.
    fn again(&self, seed: u64) -> String {
        let length = match self.minutes {
            Some(m) => format!("--minutes {m}"),
            None => format!("--milliseconds {}", self.milliseconds),
        };
        let (spec, fault) = (&self.spec, &self.fault);
        let (connections, bytes) = (self.connections, self.bytes);
        format!("`xio sim '{spec}' --seed {seed} {length} --fault {fault} --connections {connections} --bytes {bytes}`")
    }

    fn show(&self, seed: u64, log: &Log, took: Duration, ui: &Ui) -> Outcome {
        let mut out = Out::new();
        let hash = format!("{:016x}", log.hash);
        if self.json {
            let line = json!({
                "spec": self.spec, "seed": seed, "hash": hash, "ops": log.ops, "bytes": log.bytes,
                "connections": log.connections, "faults": log.faults, "virtual_s": log.took.as_secs_f64(),
                "real_s": took.as_secs_f64(), "ops_per_s": rate(log.ops, took), "broken": log.broken,
            });
            writeln!(out, "{line}")?;
            return out.done();
        }
        let word = if log.broken.is_empty() { ui.out.green("ok:") } else { ui.out.red("broken:") };
        writeln!(out, "{word} {} seed {seed} hash {hash}", self.spec)?;
        for b in &log.broken {
            writeln!(out, "  {b}")?;
        }
        writeln!(out, "  connections  {}, {} faults", log.connections, log.faults)?;
        writeln!(out, "  ops          {}, {} bytes checked", log.ops, log.bytes)?;
        let (virtual_s, real) = (log.took.as_secs_f64(), took.as_secs_f64());
        writeln!(out, "  time         {virtual_s:.3} s in {real:.3} s, {:.0} ops a second", rate(log.ops, took))?;
        out.done()
    }
}

/// What many runs came to.
#[derive(Default)]
struct Sum {
    ops: u64,
    bytes: u64,
    connections: u64,
    faults: u64,
    took: Duration,
    /// Over the hashes of all, in order.
    hash: u64,
}

impl Sum {
    fn add(&mut self, log: &Log) {
        self.ops += log.ops;
        self.bytes += log.bytes;
        self.connections += log.connections;
        self.faults += log.faults;
        self.took += log.took;
        self.hash = (self.hash.rotate_left(5) ^ log.hash).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn show(&self, spec: &str, seeds: u64, took: Duration, json: bool) -> Outcome {
        let mut out = Out::new();
        let hash = format!("{:016x}", self.hash);
        let (virtual_s, real_s, per_s) = (self.took.as_secs_f64(), took.as_secs_f64(), rate(self.ops, took));
        if json {
            let line = json!({
                "spec": spec, "seeds": seeds, "hash": hash, "ops": self.ops, "bytes": self.bytes,
                "connections": self.connections, "faults": self.faults, "virtual_s": virtual_s,
                "real_s": real_s, "ops_per_s": per_s, "broken": [],
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(
                out,
                "ok: {spec} {seeds} seeds hash {hash}: {} connections, {} faults, {} ops, {} bytes checked; \
                 {virtual_s:.0} s in {real_s:.1} s, {per_s:.0} ops a second",
                self.connections, self.faults, self.ops, self.bytes
            )?;
        }
        out.done()
    }
}

fn rate(ops: u64, took: Duration) -> f64 {
    (ops as f64 / took.as_secs_f64().max(1e-9)).round()
}

fn clear(ui: &Ui, count: u64) {
    if ui.live && count > 1 {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

fn not_simulated(name: &str, why: &str) -> Failure {
    Failure::Usage(format!("no simulation carries `{name}`; stacks over `tcp` and `shm` run there{why}"))
}
