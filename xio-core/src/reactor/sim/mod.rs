//! The simulated reactor: a network in memory and a clock that only turns move, for tests that must
//! run again exactly as they ran. Invariant: with one thread, equal seed, config and program give the
//! same run, down to the size of every transfer. It holds no driver and no engine logic: the real
//! levels and the real loop run above it.

mod address;
mod adopted;
mod config;
mod datagram;
mod fault;
mod net;
mod rng;
mod socket;
#[cfg(test)]
mod tests;
mod transfer;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

pub use config::SimConfig;
pub use fault::AcceptFault;

use self::net::{Mark, World};
use self::socket::Port;
use super::{Epoll, Reactor, Waiter};
use crate::datagram::DatagramOptions;
use crate::engine::Engine;
use crate::io::{Connected, Sock, SocketOptions};
use crate::sync::{Arc, Mutex, thread};
use crate::time::Time;

/// Real time that an idle turn sleeps when the simulation seems stuck, for threads outside.
const IDLE_SLEEP: Duration = Duration::from_micros(50);
/// Turns in a row with a timeout of zero and without any event, after which the simulation is stuck:
/// virtual time cannot pass in such turns.
const MOST_POLLS: u64 = 1_000_000;

/// A simulated network with its clock, to build an engine on. One engine a simulation, one thread.
///
/// Virtual time passes only while the engine has nothing to do: a turn then jumps to the next
/// arrival or timer. So a deadline of an hour takes no time, and fires at exactly its moment. Both
/// ends of a connection live in one thread, as in this pattern:
///
/// ```no_run
/// # use xio_core::{Engine, Stack, Contact, reactor::Sim};
/// # fn tcp() -> Stack { unimplemented!() }
/// let sim = Sim::new(7);
/// let engine = Engine::builder().reactor(sim.clone()).build()?;
/// let server = engine.listen(&tcp(), Contact::new("127.0.0.1:0")).wait()?;
/// server.accept().then(|link| link.unwrap().open().then(|handle| { /* serve it */ }));
/// let client = engine.open(&tcp(), server.contact()).wait()?; // turns the engine until connected
/// sim.run(&engine); // until nothing more can happen
/// # Ok::<(), xio_core::Error>(())
/// ```
///
/// # When nothing can happen
/// A blocking call that waits for what never comes turns the engine for ever. The simulation notices
/// (nothing on its way, no timer, [`SimConfig::idle_turns`] turns), or that its
/// [horizon](SimConfig::horizon) has passed; it then stops the engine, so that every op fails with
/// [`Stopped`](crate::ErrorKind::Stopped) and a text that names the sockets that wait. A loop that
/// turns on all the same ends in a panic with that text.
///
/// # Model
/// Latency is drawn anew for each send, but no send overtakes another of its end. A connection takes
/// two latencies, is refused where nobody listens, and times out after 127 s where no way leads. Each
/// direction holds [`SimConfig::buffer`] bytes, those on the way and those unread. A close ends the
/// stream after all data, but resets it where unread bytes are thrown away, and a send to a closed
/// end is answered by a reset, as with TCP. There is no loss: TCP hides it as latency.
///
/// Datagrams are lost, doubled, overtaken and cut off as [`SimConfig`] says, and lost where nothing leads or
/// where [`SimConfig::buffer`] bytes lie unread. One that finds nobody comes back to a connected sender.
/// Ports are shared with TCP: the two do not bind the same one.
///
/// Unix sockets that a level made itself are taken in and are the system's own, but word that one is ready comes
/// after a latency, and can be cut as that of a connection of `127.0.0.1` with itself. Nothing but such a socket
/// is taken in.
pub struct Sim {
    world: Arc<Mutex<World>>,
    pace: Mutex<Pace>,
    /// Does the system calls of sockets that were taken in, if there are any.
    system: Mutex<Option<Epoll>>,
}

/// What tells a simulation that goes on from one that is stuck.
#[derive(Default)]
struct Pace {
    woken: bool,
    idle: u32,
    polls: u64,
    /// Events when the last wait ended.
    events: u64,
    /// Times it was stuck.
    stuck: u32,
}

impl Sim {
    /// A network with the default behaviour: some latency, many short transfers.
    pub fn new(seed: u64) -> Arc<Self> {
        Self::with_config(seed, SimConfig::default())
    }

    /// A network that behaves as `config` says.
    pub fn with_config(seed: u64, config: SimConfig) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::new(Mutex::new(World::new(seed, config))),
            pace: Mutex::new(Pace::default()),
            system: Mutex::new(None),
        })
    }

    /// Turns the engine until nothing is left to happen: nothing on its way, no timer set. Repeating
    /// timers never let that be so; see [`run_for`](Self::run_for).
    pub fn run(&self, engine: &Engine) {
        while self.step(engine) {}
    }

    /// Turns the engine until this much virtual time has passed.
    pub fn run_for(&self, engine: &Engine, d: Duration) {
        let until = self.time() + d;
        while self.time() < until {
            engine.turn(Some(until.since(self.time())));
        }
        // What is due at that very moment.
        while engine.turn(Some(Duration::ZERO)) > 0 {}
    }

    /// Turns the engine until `done` says so. `false`: nothing was left to happen before that.
    pub fn run_until(&self, engine: &Engine, mut done: impl FnMut() -> bool) -> bool {
        while !done() {
            if !self.step(engine) {
                return done();
            }
        }
        true
    }

    /// One turn. `false`: there was nothing to do and nothing to wait for.
    fn step(&self, engine: &Engine) -> bool {
        if engine.turn(Some(Duration::ZERO)) > 0 {
            return true;
        }
        let rests = self.is_quiet() && engine.next_deadline().is_none();
        if !rests {
            engine.turn(None);
        }
        !rests
    }

    /// Whether nothing is on its way and nobody was woken.
    fn is_quiet(&self) -> bool {
        let mut w = self.world.lock();
        w.look();
        w.ready.is_empty() && w.next_event().is_none() && !self.pace.lock().woken
    }
}

impl Reactor for Sim {
    fn now(&self) -> Time {
        self.time()
    }

    fn random(&self) -> u64 {
        self.world.lock().dice.next()
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(list) = self.world.lock().hosts.get(host) {
            return Ok(list.iter().map(|ip| SocketAddr::new(*ip, port)).collect());
        }
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(_) => Err(io::Error::new(io::ErrorKind::NotFound, format!("the simulation has no host `{host}`"))),
        }
    }

    fn connect(&self, to: SocketAddr, options: &SocketOptions) -> io::Result<(Sock, bool)> {
        let id = self.world.lock().connect(to, options)?;
        Ok((Port::sock(&self.world, id), false))
    }

    fn listen(&self, at: SocketAddr, options: &SocketOptions) -> io::Result<Connected> {
        let (id, local) = self.world.lock().listen(at, options)?;
        Ok(Connected::new(Port::sock(&self.world, id), Some(local), None))
    }

    fn datagram(&self, options: &DatagramOptions) -> io::Result<Connected> {
        let (id, local) = self.world.lock().bind_datagram(options)?;
        Ok(Connected::new(Port::sock(&self.world, id), Some(local), options.to))
    }

    fn adopt(&self, fd: OwnedFd, options: &SocketOptions) -> io::Result<Connected> {
        let mut system = self.system.lock();
        let maker = match &mut *system {
            Some(maker) => maker,
            none => none.insert(Epoll::new()?),
        };
        adopted::adopt(&self.world, maker, fd, options)
    }

    fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Waiter>) -> io::Result<()> {
        let mut w = self.world.lock();
        let began = w.now;
        let limit = timeout.map_or(Time::NEVER, |t| w.now + t);
        let woken = std::mem::take(&mut self.pace.lock().woken);
        w.look();
        w.run_due();
        while w.ready.is_empty() && !woken && w.now < limit {
            match w.next_event().filter(|at| *at <= limit) {
                Some(at) => {
                    w.now = w.now.max(at);
                    w.run_due();
                }
                None if limit == Time::NEVER => break,
                None => w.now = limit,
            }
        }
        if w.now > began {
            w.note(Mark::Turn, 0, 0);
        }
        let some = woken || !w.ready.is_empty();
        w.take_ready(ready);
        let sleeps_on = self.pace.lock().turned(&w, some, limit == Time::NEVER)?;
        drop(w);
        if sleeps_on {
            thread::sleep(IDLE_SLEEP);
        }
        Ok(())
    }

    fn wake(&self) {
        self.pace.lock().woken = true;
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Pace {
    /// Looks at a turn. Whether to give threads outside some real time.
    fn turned(&mut self, w: &World, some: bool, endless: bool) -> io::Result<bool> {
        let horizon = Time::ZERO + w.config.horizon;
        if w.now > horizon {
            return Err(self.is_stuck(&format!("ran past its horizon of {:?}", w.config.horizon)));
        }
        let events = w.trace.events();
        if std::mem::replace(&mut self.events, events) != events || some {
            (self.idle, self.polls) = (0, 0);
            return Ok(false);
        }
        if endless {
            self.idle += 1;
        } else {
            self.polls += 1;
        }
        if self.idle > w.config.idle_turns {
            let who = w.waiting();
            return Err(self.is_stuck(&format!("is stuck: nothing is on its way and no timer is set{who}")));
        }
        if self.polls > MOST_POLLS {
            return Err(self.is_stuck("is stuck: it was only turned with a timeout of zero, in which no time passes"));
        }
        Ok(self.idle > w.config.idle_turns / 2)
    }

    /// The first time the engine stops; whoever turns it on and on must not do so for ever.
    fn is_stuck(&mut self, why: &str) -> io::Error {
        self.stuck += 1;
        assert!(self.stuck < 1000, "the simulation {why}");
        io::Error::other(format!("the simulation {why}"))
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sim({}, {} sockets, hash {:016x})", self.time(), self.sockets(), self.hash())
    }
}
