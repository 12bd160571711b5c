//! A voyage: a stack on a simulated network for as long as one likes, under seeded faults, with every
//! byte checked. Connections come and go; both ends of each write and read at random, cancel, wait, end
//! their side, close. Invariant: a voyage is a function of stack, seed and settings, down to its hash.
//!
//! What is looked at: reads give what was written, in order and once; an end of stream comes after all
//! of it; nothing fails without a reason that the voyage itself gave; every op ends once; when all is
//! over no handle and no socket is left.

mod book;
mod end;
mod faults;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use xio_core::reactor::{Sim, SimConfig};
use xio_core::time::Time;
use xio_core::{Contact, Engine, Error, Stack};

use crate::dice::Dice;
pub use faults::{Fault, Faults};

use self::book::Book;

/// How a voyage goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// What all chance comes from.
    pub seed: u64,
    /// Virtual time in which connections are made.
    pub length: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// Connections under way together.
    pub connections: usize,
    /// Most bytes an end writes.
    pub bytes: usize,
    /// Where its server listens.
    pub at: Contact,
}

impl Settings {
    /// Some faults of every kind, for a tenth of a virtual second.
    pub fn new(seed: u64) -> Self {
        let (length, at) = (Duration::from_millis(100), Contact::new("127.0.0.1:0"));
        Self { seed, length, faults: Faults::all(), connections: 3, bytes: 20_000, at }
    }

    /// Sets the virtual time in which connections are made.
    #[must_use]
    pub fn with_length(mut self, length: Duration) -> Self {
        self.length = length;
        self
    }

    /// Sets what goes wrong.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sets how many connections are under way together.
    #[must_use]
    pub fn with_connections(mut self, n: usize) -> Self {
        self.connections = n.max(1);
        self
    }

    /// Sets the most bytes an end writes.
    #[must_use]
    pub fn with_bytes(mut self, n: usize) -> Self {
        self.bytes = n;
        self
    }

    /// Sets where its server listens; a free port of the simulated network if nothing is said.
    #[must_use]
    pub fn with_contact(mut self, at: impl Into<Contact>) -> Self {
        self.at = at.into();
        self
    }
}

/// What a voyage came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// Fingerprint of all that happened on the network and of what each read got; equal voyages have equal ones.
    pub hash: u64,
    /// Ops that ended.
    pub ops: u64,
    /// Bytes that arrived and were checked.
    pub bytes: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Faults that were injected while it ran.
    pub faults: u64,
    /// Virtual time it took in all.
    pub took: Duration,
    /// What was not as it must be; nothing in a good voyage.
    pub broken: Vec<String>,
}

/// The host of all ends.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Virtual time that the last ends have to come to an end after everything was let go.
const REST: Duration = Duration::from_secs(3600);

/// Makes a voyage with a stack that has one transport, on the simulated network.
///
/// # Errors
/// Where the stack cannot listen on the simulated network.
pub fn voyage(stack: &Stack, settings: &Settings) -> Result<Log, Error> {
    let mut dice = Dice::new(settings.seed);
    let sim = Sim::with_config(settings.seed, settings.faults.network(&mut dice));
    let engine = Engine::builder().reactor(sim.clone()).build()?;
    let book = Arc::new(Book::new(stack, settings));
    let mut faults = 0;
    {
        let server = engine.listen(stack, settings.at.clone()).deadline(REST).wait()?;
        end::serve(&server, &book);
        let until = sim.time() + settings.length;
        while sim.time() < until && !book.is_broken() {
            while book.under_way() < settings.connections as u64 {
                end::connect(&engine, stack, server.contact(), &book);
            }
            let step = Duration::from_micros(dice.between(50, 5000) as u64);
            sim.run_for(&engine, step.min(until.since(sim.time())));
            if let Some(fault) = settings.faults.pick(&mut dice) {
                faults += u64::from(fault.strike(&sim, &mut dice, &book));
            }
        }
        book.finish();
        // A slow or cut network is whole again, or the rest would take for ever.
        sim.slow(HOST, 0);
        sim.partition(HOST, HOST, Duration::ZERO);
        sim.run_until(&engine, || book.under_way() == 0);
        if book.under_way() > 0 {
            book.broke(format!("{} ends never came to an end", book.under_way()));
        }
        server.close()?;
    }
    sim.run(&engine);
    book.look_back(&engine, &sim);
    Ok(Log {
        hash: sim.hash() ^ book.digest(),
        ops: book.ops(),
        bytes: book.bytes(),
        connections: book.connections(),
        faults,
        took: sim.time().since(Time::ZERO),
        broken: book.broken(),
    })
}

impl Faults {
    /// The network they make from the start.
    fn network(&self, dice: &mut Dice) -> SimConfig {
        let mut c = SimConfig::calm().with_idle_turns(40).with_horizon(Duration::from_secs(3600 * 24 * 365));
        if self.has(Fault::Delay) {
            let most = Duration::from_micros(dice.between(10, 20_000) as u64);
            c = c.with_latency(Duration::from_micros(1), most);
        }
        if self.has(Fault::Short) {
            c = c.with_short(0.1 * dice.between(0, 10) as f64);
            if dice.chance(10) {
                c = c.with_one_byte();
            }
        }
        if self.has(Fault::Spurious) {
            c = c.with_spurious(0.05 * dice.between(0, 10) as f64);
        }
        if self.has(Fault::Full) {
            c = c.with_buffer(1 << dice.between(0, 17));
        }
        c
    }
}
