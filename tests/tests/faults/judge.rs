//! Whether a run with a fault came to what it must. Invariant: a run that is not counted was not made.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use xio_core::reactor::SimConfig;
use xio_core::{Error, ErrorKind};
use xio_testkit::bench::{Bench, Tell};
use xio_testkit::budget::{self, Fails};
use xio_testkit::canary::Nest;
use xio_testkit::nth_fault::{Fault, Faults, TEXT, every};
use xio_testkit::verdict::{Checked, Stop};
use xio_testkit::{Options, Subject, World, ensure, ensure_eq, layout, watchdog};

use crate::play::{Outcome, Play, Scenario};
use crate::scene;

/// Where faults fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seam {
    /// Methods of levels, at both ends.
    Call,
    /// System calls, of the simulated network.
    System,
    /// Allocations of more bytes than any that is not tried.
    Memory,
}

/// Bytes that need not be tried for: a block of a read, with what belongs to it.
const TRIED: usize = 256 << 10;

/// Real time for all faults of one scenario.
const LIMIT: Duration = Duration::from_secs(100);
/// Virtual time that the clean-up of a connection may take.
const TIDY: Duration = Duration::from_secs(60);
/// Memory that all runs of a scenario may keep in use: what threads and drivers hold for the next op.
const KEPT: i64 = 64 << 10;

/// What may come of any fault, at other ops than the one it hit.
const FOLLOWS: [ErrorKind; 8] = [
    ErrorKind::Eof,
    ErrorKind::UnexpectedEof,
    ErrorKind::Reset,
    ErrorKind::BrokenPipe,
    ErrorKind::Closed,
    ErrorKind::Cancelled,
    ErrorKind::Refused,
    ErrorKind::Panicked,
];

/// A scenario over a stack, and what goes wrong there.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) spec: &'static str,
    pub(crate) scenario: &'static Scenario,
    pub(crate) seam: Seam,
    pub(crate) fault: Fault,
    /// Of the network.
    pub(crate) seed: u64,
}

/// Runs and what they came to.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    runs: u64,
    told: u64,
    clean: u64,
    /// Where a fault was that nobody was told of, and how often.
    silent: BTreeMap<String, u64>,
    broken: Vec<String>,
}

impl Sum {
    /// Plays a scenario with each fault once, and without.
    pub(crate) fn add(&mut self, case: Case) {
        let Case { spec, scenario, seam, fault, seed } = case;
        let name = format!("`{spec}`, {}, {fault:?}, seed {seed}", scenario.name);
        let all = move || {
            let mut sum = Self::default();
            let mut base = None;
            let mut n = 0;
            let r = every(fault, |faults| {
                n += 1;
                let fails = (seam == Seam::Memory).then(|| budget::fail_nth_over(n, TRIED));
                faults.arm(seam != Seam::Memory);
                let r = sum.play(case, faults, fails.as_ref());
                base.get_or_insert_with(|| budget::thread().live);
                r
            });
            let left = budget::thread().live - base.unwrap_or_default();
            let r = r.and_then(|_| {
                ensure!(left <= KEPT, "{left} bytes are left of {} runs", sum.runs);
                Ok(())
            });
            (r, sum)
        };
        match watchdog::watch(&name, LIMIT, all) {
            Ok((r, sum)) => {
                self.runs += sum.runs;
                self.told += sum.told;
                self.clean += sum.clean;
                sum.silent.into_iter().for_each(|(k, n)| *self.silent.entry(k).or_default() += n);
                self.broken.extend(r.err().map(|e| format!("{name}: {}", text(&e))));
            }
            Err(lost) => self.broken.push(format!("{name}: {lost:?}")),
        }
    }

    fn play(&mut self, case: Case, faults: &Faults, memory: Option<&Fails>) -> Checked {
        let Case { spec, scenario: s, seam, fault, seed } = case;
        let levels = Nest::default();
        let (stack, at) = scene::stack(spec);
        let root =
            layout::with_replaced(&stack, &|_, d| levels.around(if seam == Seam::Call { faults.around(d) } else { d }));
        let subject = Subject::stack(root).at(at.clone());
        let bench = Bench::new("A1", subject, Options::default())?;
        // A small network, on which writes wait; what else it does to them is the seed's.
        let network = SimConfig::default().with_buffer(if seam == Seam::Memory { 64 << 10 } else { 500 });
        let stage = bench.stage(seed).network(network);
        let stage = if seam == Seam::System { stage.reactor(|sim| faults.reactor(sim)) } else { stage };
        let world = stage.build()?;
        let told = Tell::new();
        let sim = world.sim()?.clone();
        world.run_rule(&mut |w| {
            w.probes.may_kill();
            let play = Play { w, at: at.clone(), begun: Cell::new(0), told: told.clone(), alone: Tell::new() };
            (s.run)(&play);
            play.end();
            w.release();
            w.run_for(TIDY);
            ensure_eq!(play.told.len(), play.begun.get(), "steps that are over, of those that began");
            nothing_is_left(w, &levels)
        })?;
        if memory.is_some_and(|m| m.hit() > 0) {
            faults.mark("an allocation");
        }
        drop(world);
        ensure_eq!(std::sync::Arc::strong_count(&sim), 1, "owners of the reactor when the engine is gone");
        self.look(s, seam, fault, faults.hit(), told.take())
    }

    /// That what was told is right.
    fn look(
        &mut self,
        s: &Scenario,
        seam: Seam,
        fault: Fault,
        place: Option<String>,
        outcomes: Vec<Outcome>,
    ) -> Checked {
        let Some(place) = place else {
            self.clean += 1;
            for (op, e) in &outcomes {
                let odd = e.as_ref().filter(|e| !s.wants(e.kind()) && !is_end(e.kind()));
                ensure!(
                    odd.is_none(),
                    "nothing was wrong, and the {op} failed: {}",
                    odd.map(ToString::to_string).unwrap_or_default()
                );
            }
            return Ok(());
        };
        self.runs += 1;
        let kind = match fault {
            Fault::Error(kind) => kind,
            _ => ErrorKind::Panicked,
        };
        let mut told = false;
        for (op, e) in outcomes.iter().filter_map(|(op, e)| Some((op, e.as_ref()?))) {
            // An error of the system has no text of ours.
            let says = |e: &dyn std::error::Error| e.to_string().contains(TEXT);
            // A write behind one that left half a message has that one's error as its cause.
            let is_named = says(e) || std::error::Error::source(e).is_some_and(says);
            let is_ours = seam != Seam::Call || kind == ErrorKind::Panicked || is_named;
            let is_it = e.kind() == kind && is_ours;
            told |= is_it;
            // Where a peer reads no more, a close has its time and then aborts.
            let is_late = *op == "close" && e.kind() == ErrorKind::TimedOut;
            // Bytes that a level was not shown are missing from what it reads next.
            let is_skipped = place.starts_with("in `read_done`") && e.kind() == ErrorKind::Protocol;
            let fits = is_it || is_late || is_skipped || FOLLOWS.contains(&e.kind()) || s.wants(e.kind());
            ensure!(fits, "after {kind:?} the {op} failed: {e}");
            if is_it && kind != ErrorKind::Panicked {
                let wanted = place.split('`').nth(3);
                let named = chain(e).filter_map(Error::level).any(|l| wanted.is_none_or(|w| w == l));
                ensure!(named, "the error does not name {}: {e}", wanted.unwrap_or("a level"));
            }
        }
        match told {
            true => self.told += 1,
            false => *self.silent.entry(format!("{kind:?} {}", without_level(&place))).or_default() += 1,
        }
        Ok(())
    }

    /// That nothing was broken.
    pub(crate) fn check(&self, least: u64) {
        assert!(self.broken.is_empty(), "{} are broken:\n{}", self.broken.len(), self.broken.join("\n"));
        assert!(self.runs >= least, "only {} runs", self.runs);
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, told, clean, silent, .. } = self;
        write!(
            f,
            "{runs} faults, {told} told to a user, the others made no difference or came where nobody asks any more ({silent:?}); {clean} runs without"
        )
    }
}

fn nothing_is_left(w: &World, levels: &Nest) -> Checked {
    ensure_eq!(w.engine.handles(), 0, "handles that are left");
    ensure_eq!(w.sim()?.sockets(), 0, "sockets that are left");
    ensure_eq!(w.engine.next_deadline(), None, "the next timer");
    ensure_eq!(levels.alive().0, 0, "levels that are left");
    Ok(())
}

/// How ops of a connection end when that does.
fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Cancelled | ErrorKind::Closed | ErrorKind::Eof | ErrorKind::Reset | ErrorKind::BrokenPipe)
}

/// An error and those that caused it.
fn chain(e: &Error) -> impl Iterator<Item = &Error> {
    std::iter::successors(Some(e), |e| std::error::Error::source(*e)?.downcast_ref())
}

fn without_level(place: &str) -> String {
    place.split(" of `").next().unwrap_or_default().to_owned()
}

fn text(stop: &Stop) -> String {
    match stop {
        Stop::Fail(rule, text) => format!("{}{text}", rule.map(|r| format!("{r}: ")).unwrap_or_default()),
        other => format!("{other:?}"),
    }
}
