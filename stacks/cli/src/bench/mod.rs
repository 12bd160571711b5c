//! `xio bench`: a stack beside the plain thing it stands for, round by round in one run.
//!
//! Invariant: subject and baseline have the same placement, sizes and `nodelay`, and a ratio is taken
//! within a round. Whatever the machine cannot say honestly is null, not a guess.

mod baseline;
mod blocking;
mod callback;
mod future;
mod pair;
mod plan;
mod report;
mod syscalls;

use std::io;

use clap::ValueEnum;
use xio_peers::placement::{Placement, usable_cpus};
use xio_peers::rounds::{Better, Contender, Outcome as Rounds, Ratio, interleave, median};
use xio_stacks::core::caps::Unit;
use xio_stacks::core::schema::{Value, size_words};
use xio_stacks::{Contact, Endpoint, Registry};

use crate::cat::size;
use crate::exit::{Failure, Outcome, failed, warn};
use crate::interrupt;
use crate::render::Ui;
use crate::target::{Target, endpoint, two_contacts};
use crate::words::bottoms;
use baseline::Baseline;
use plan::{Plan, Shot};
use report::{Report, Row};

/// Ops of the first, unmeasured sample that says how many fit into the time.
const PROBE: [(Mode, usize); 3] = [(Mode::Op, 20_000), (Mode::Pingpong, 300), (Mode::Stream, 2_000)];
/// Fewest and most ops of a sample.
const MIN_OPS: f64 = 100.0;
const MAX_OPS: f64 = 50e6;
/// Most bytes of a message, so that buffers of both ends fit into memory.
const MAX_SIZE: u64 = 1 << 30;
/// Most writes under way.
const MAX_OUTSTANDING: u32 = 1 << 20;
/// Bytes of one read of a stream, unless the messages are larger.
const RECV: u64 = 64 * 1024;
/// Measure a stack beside the plain thing it stands for.
///
/// Both ends run in this process, each on a thread of its own. Over tcp the baseline is blocking
/// sockets with nodelay in the same two places; over void a mutex that is locked and unlocked around
/// a copy. Rounds of both alternate, and the ratio is taken within each round: of time for op and
/// pingpong (less is better), of throughput for stream (more is better). A bar should be held against
/// best_third: the median of the best third of the rounds.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Bench {
    /// The stack
    spec: String,
    /// What is measured
    #[arg(long, short, value_enum)]
    mode: Mode,
    /// Bytes of a message; a list measures one after the other
    #[arg(long, short, value_name = "SIZES", value_delimiter = ',', default_value = "64", value_parser = size)]
    size: Vec<u64>,
    /// How ops end
    #[arg(long, value_enum, default_value_t = Api::Blocking)]
    api: Api,
    /// Writes under way at once, with callbacks or futures
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_OUTSTANDING)))]
    outstanding: u32,
    /// Time that all rounds of one size take together
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// Rounds that are kept; one more comes first
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where the two ends run: both on one CPU, each on its own, or anywhere
    #[arg(long, value_name = "1cpu|2cpu|free")]
    placement: Option<Placement>,
    /// Ops of a round, instead of --seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ops: Option<u64>,
    /// Bytes of one read of a stream, of the baseline too; 64KiB, or the message if that is larger
    #[arg(long, value_name = "SIZE", value_parser = size)]
    recv: Option<u64>,
    /// Where the two ends meet; a free port of 127.0.0.1 over tcp
    #[arg(long)]
    contact: Option<String>,
    /// In op mode: what the op is
    #[arg(long, value_enum, default_value_t = Which::Read)]
    op: Which,
    /// Leave the baseline out
    #[arg(long)]
    no_baseline: bool,
    /// Count system calls in a separate short run under strace
    #[arg(long)]
    count_syscalls: bool,
    /// A JSON object a size on stdout
    #[arg(long)]
    json: bool,
    /// Rounds that are forgotten; for the run under strace.
    #[arg(long, hide = true, default_value_t = 1)]
    warm: u16,
}

const HELP: &str = "\
Modes:
  op        whole operations of one handle, over void
  pingpong  a message there, a message back, one at a time
  stream    one message after the other, in one direction

Examples:
  xio bench null/void --mode op
  xio bench 'frame/tcp(nodelay)' --mode pingpong --size 64,4KiB
  xio bench 'queue(early)/frame/tcp(nodelay)' --mode stream --size 64,4KiB,64KiB
  xio bench 'queue/frame/tcp(nodelay)' --mode stream --api callback --outstanding 256
  xio bench 'tcp(nodelay, spin=50us)' --mode pingpong --placement 2cpu --rounds 15 --json

Fields of the JSON:
  ns_per_op, bytes_per_s, cpu_ns_per_op (both ends), allocs_per_op: medians over the rounds
  p50_us, p99_us          round trips of a pingpong
  outstanding_seen        writes under way, sampled; for queue(early) an estimate
  baseline, baseline_*    what it is measured beside, and its medians
  ratio, ratio_min, ratio_max, best_third
  syscalls_per_op         both ends; null without --count-syscalls";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Op,
    Pingpong,
    Stream,
}

/// How ops end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    /// The caller waits
    Blocking,
    /// A function is called, on the engine's thread where the op had to wait
    Callback,
    /// A future, polled by a small executor on the caller's thread
    Async,
}

/// The op of op mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    Read,
    Write,
}

impl Bench {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        let target = endpoint(&self.spec, ui)?;
        let placement = self.place()?;
        self.fits(&target)?;
        let contact = self.contact(&target)?;
        let plan = |size: &u64| self.plan(&target, &contact, placement, *size);
        let plans = self.size.iter().map(plan).collect::<Outcome<Vec<_>>>()?;
        self.warn(&target, ui);
        interrupt::watch()?;
        let live = ui.live;
        interrupt::on_signal(move || {
            if live {
                report::clear();
            }
            // Rounds cannot be ended from outside, and what is known has been printed.
            interrupt::exit()
        });
        let mut report = Report::new(self, &target, placement, ui)?;
        for plan in &plans {
            let row = self.measure(plan)?;
            report.row(row)?;
        }
        report.end()
    }

    fn place(&self) -> Outcome<Placement> {
        let cpus = usable_cpus().map_err(failed("cannot tell how many CPUs there are"))?;
        match self.placement {
            Some(Placement::TwoCpus) if cpus < 2 => {
                Err(Failure::Usage("--placement 2cpu needs two CPUs, this process may use one".into()))
            }
            Some(p) => Ok(p),
            None => Ok(if cpus < 2 { Placement::SameCpu } else { Placement::TwoCpus }),
        }
    }

    /// Whether this mode can measure this stack in this way.
    fn fits(&self, target: &Target) -> Outcome {
        let usage = |text: &str| Err(Failure::Usage(text.into()));
        let caps = target.stack.caps();
        let over_void = bottoms(&target.stack).iter().all(|b| *b == "void");
        if !(self.seconds.is_finite() && (0.01..=3600.0).contains(&self.seconds)) {
            return usage("--seconds lies between 0.01 and 3600");
        }
        match self.mode {
            Mode::Op if !over_void => {
                return usage("op mode needs `void` at the bottom; for others there is --mode pingpong or stream");
            }
            Mode::Pingpong | Mode::Stream if over_void => {
                return usage("nothing comes back from `void`; it is measured with --mode op");
            }
            Mode::Pingpong | Mode::Stream if !(caps.accepts && caps.connects && caps.duplex) => {
                return usage("both ends are measured, so the stack has to listen, connect, read and write");
            }
            // Datagrams are measured over loopback, and no more of them under way than fit there.
            Mode::Pingpong | Mode::Stream if caps.unit != Unit::Datagram && !(caps.reliable && caps.ordered) => {
                return usage("this stack may lose or reorder what it sends; only reliable ones can be measured");
            }
            _ => {}
        }
        if self.outstanding > 1 && self.api == Api::Blocking {
            return usage("a blocking caller has one op under way; --outstanding needs --api callback or async");
        }
        if self.outstanding > 1 && self.mode == Mode::Pingpong {
            return usage("a ping-pong has one message under way; --outstanding is for --mode stream and op");
        }
        if self.recv == Some(0) {
            return usage("--recv must be at least 1");
        }
        Ok(())
    }

    /// What makes a comparison unfair.
    fn warn(&self, target: &Target, ui: &Ui) {
        let slow = |l: &xio_stacks::core::stack::LevelView<'_>| {
            l.driver().info().name == "tcp" && l.attr().value("nodelay") == Some(Value::Bool(false))
        };
        if !self.no_baseline && target.stack.levels().any(|l| slow(&l)) {
            warn(ui, "the baseline has nodelay and this stack has not; write `tcp(nodelay)` for a fair comparison");
        }
        if cfg!(debug_assertions) {
            warn(ui, "this is a debug build; its figures mean nothing");
        }
    }

    /// Where the two ends meet.
    fn contact(&self, target: &Target) -> Outcome<Contact> {
        match &self.contact {
            Some(text) if !target.contact.is_none() => Err(two_contacts(&target.contact, text)),
            Some(text) => {
                let endpoint = Endpoint::new(target.spec.clone(), text.parse::<Contact>()?);
                let (_, contact) = endpoint.bind(&Registry::with_defaults())?;
                Ok(contact)
            }
            None if !target.contact.is_none() => Ok(target.contact.clone()),
            None if bottoms(&target.stack).iter().any(|b| matches!(*b, "tcp" | "udp")) => {
                Ok(Contact::new("127.0.0.1:0"))
            }
            None => Ok(Contact::None),
        }
    }

    fn plan(&self, target: &Target, contact: &Contact, placement: Placement, size: u64) -> Outcome<Plan> {
        let caps = target.stack.caps();
        let most = caps.max_message.map_or(MAX_SIZE, |m| (m as u64).min(MAX_SIZE));
        if size == 0 || size > most {
            let most = size_words(most);
            return Err(Failure::Usage(format!("--size lies between 1 B and {most} here, not {}", size_words(size))));
        }
        let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Plan {
            stack: target.stack.clone(),
            contact: contact.clone(),
            mode: self.mode,
            api: self.api,
            which: self.op,
            outstanding: self.outstanding,
            placement,
            size: bytes(size),
            recv: bytes(self.recv.unwrap_or_else(|| RECV.max(size))),
            borders: caps.unit.has_borders(),
        })
    }

    /// All rounds of one size.
    fn measure(&self, plan: &Plan) -> Outcome<Row> {
        // The rounds put the contender's name in front.
        let wrong = |e: io::Error| Failure::Failed(e.to_string().trim_start_matches("the stack: ").to_owned());
        let baseline = if self.no_baseline { None } else { Baseline::of(plan) };
        let both = if baseline.is_some() { 2.0 } else { 1.0 };
        let share = self.seconds / (f64::from(self.rounds) + f64::from(self.warm)) / both;
        let ops = self.ops_for(share, |ops| plan.shoot(ops)).map_err(wrong)?;
        let mut contenders = vec![Contender::new("the stack", move || plan.shoot(ops))];
        if let Some(b) = baseline {
            let ops = self.ops_for(share, |ops| b.shoot(plan, ops)).map_err(wrong)?;
            contenders.push(Contender::new("the baseline", move || b.shoot(plan, ops)));
        }
        let shots = interleave(usize::from(self.rounds), usize::from(self.warm), &mut contenders).map_err(wrong)?;
        let syscalls = if self.count_syscalls { Some(syscalls::per_op(self, plan)?) } else { None };
        Row::new(self, plan, ops, &shots, baseline.map(Baseline::name), syscalls).map_err(wrong)
    }

    /// How many ops take about `seconds`.
    fn ops_for(&self, seconds: f64, mut shoot: impl FnMut(usize) -> io::Result<Shot>) -> io::Result<usize> {
        if let Some(ops) = self.ops {
            return Ok(usize::try_from(ops).unwrap_or(usize::MAX));
        }
        let probe = PROBE.iter().find(|(m, _)| *m == self.mode).map_or(1000, |(_, n)| *n);
        let ns = shoot(probe)?.sample.ns_per_op;
        Ok((seconds * 1e9 / ns).clamp(MIN_OPS, MAX_OPS) as usize)
    }

    /// What the ratio compares, and which way it is good.
    fn figure(&self) -> (fn(&Shot) -> f64, Better) {
        match self.mode {
            Mode::Op | Mode::Pingpong => (|s| s.sample.ns_per_op, Better::Lower),
            Mode::Stream => (|s| s.sample.bytes_per_s, Better::Higher),
        }
    }

    /// The ratio of the rounds, if there was a baseline.
    fn ratio(&self, shots: &[Rounds<Shot>]) -> io::Result<Option<Ratio>> {
        let (figure, better) = self.figure();
        let [subject, baseline] = shots else { return Ok(None) };
        Ratio::of(&subject.figures(figure), &baseline.figures(figure), better).map(Some)
    }
}

/// Median of a figure over the rounds.
fn middle(rounds: &Rounds<Shot>, figure: impl Fn(&Shot) -> f64) -> f64 {
    median(&rounds.figures(figure)).unwrap_or(f64::NAN)
}
