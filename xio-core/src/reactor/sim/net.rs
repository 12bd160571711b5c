//! The simulated network: ends of connections, listeners, what is on its way between them.
//! Invariant: what one end sends arrives in the order sent; nothing here reads a clock, a
//! descriptor or an unordered map. It knows no engine: it hands out the waiters that became ready.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::SimConfig;
use super::fault::AcceptFault;
use super::rng::{Rng, Trace};
use crate::io::{Direction, SocketOptions};
use crate::reactor::Waiter;
use crate::time::Time;

/// Number of a socket, never used twice.
pub(super) type Id = u64;

/// Attempts to connect before it times out, one, two, four … seconds apart (Linux `tcp_syn_retries`
/// 6 and its 127 s).
const CONNECT_TRIES: u32 = 7;
/// First port given out where nobody asked for one (RFC 6335).
const FIRST_PORT: u16 = 49_152;

/// What the trace tells apart.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Mark {
    Listen,
    Connect,
    Arrived,
    Refused,
    TimedOut,
    Connected,
    Accept,
    Send,
    Recv,
    Blocked,
    Delivered,
    Acked,
    Shut,
    Ended,
    Reset,
    Close,
    Turn,
}

/// One end of a connection.
pub(super) struct End {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    other: Id,
    pub(super) state: State,
    /// Nobody holds the socket any more; the peer still does.
    closed: bool,
    unread: VecDeque<u8>,
    /// The peer ended its side, and everything before that is in `unread`.
    eof: bool,
    /// Told to whoever asks first.
    error: Option<ErrorKind>,
    /// The connection is gone.
    reset: bool,
    /// This side was ended.
    shut: bool,
    /// Bytes sent that the peer has not read, as far as this end knows.
    pub(super) used: usize,
    /// Bytes the peer has read in all, and when word of that last came.
    pub(super) acked: (u64, Time),
    pub(super) since: Time,
    /// When the last thing sent arrives.
    last: Time,
    pub(super) linger: Option<Duration>,
    waiters: [Option<Waiter>; 2],
    pub(super) options: SocketOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Failed(ErrorKind),
    Up,
}

pub(super) struct Listener {
    pub(super) local: SocketAddr,
    backlog: VecDeque<Id>,
    waiter: Option<Waiter>,
    pub(super) options: SocketOptions,
}

pub(super) enum Slot {
    End(End),
    Listener(Listener),
}

/// Something on its way.
struct Event {
    /// From which host to which, for partitions.
    route: (IpAddr, IpAddr),
    what: What,
}

enum What {
    Syn {
        client: Id,
        to: SocketAddr,
        tries: u32,
    },
    Refuse {
        client: Id,
    },
    Up {
        client: Id,
        server: Id,
    },
    Data {
        to: Id,
        bytes: Vec<u8>,
    },
    Fin {
        to: Id,
    },
    Rst {
        to: Id,
    },
    /// The peer has read so many bytes.
    Ack {
        to: Id,
        bytes: usize,
    },
}

pub(super) struct World {
    pub(super) config: SimConfig,
    pub(super) now: Time,
    rng: Rng,
    /// What drivers draw, apart, so that a driver's dice do not move the network's.
    pub(super) dice: Rng,
    pub(super) trace: Trace,
    pub(super) slots: BTreeMap<Id, Slot>,
    /// How many sockets have a local address.
    locals: BTreeMap<SocketAddr, u32>,
    events: BTreeMap<(Time, u64), Event>,
    next: u64,
    port: u16,
    pub(super) ready: Vec<Waiter>,
    pub(super) hosts: BTreeMap<String, Vec<IpAddr>>,
    pub(super) unroutable: BTreeSet<IpAddr>,
    /// Pairs of hosts without a way between them, and until when.
    pub(super) cuts: Vec<(IpAddr, IpAddr, Time)>,
    /// Bytes a second that a host takes.
    pub(super) slow: BTreeMap<IpAddr, u64>,
    pub(super) accept_faults: VecDeque<AcceptFault>,
}

impl World {
    pub(super) fn new(seed: u64, config: SimConfig) -> Self {
        let mut rng = Rng::new(seed);
        let dice = Rng::new(rng.next());
        Self {
            config,
            now: Time::ZERO,
            rng,
            dice,
            trace: Trace::new(),
            slots: BTreeMap::new(),
            locals: BTreeMap::new(),
            events: BTreeMap::new(),
            next: 0,
            port: FIRST_PORT,
            ready: Vec::new(),
            hosts: BTreeMap::from([("localhost".to_owned(), vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])]),
            unroutable: BTreeSet::new(),
            cuts: Vec::new(),
            slow: BTreeMap::new(),
            accept_faults: VecDeque::new(),
        }
    }

    pub(super) fn note(&mut self, mark: Mark, id: Id, n: u64) {
        tracing::trace!(target: "xio::sim", at = %self.now, ?mark, id, n);
        self.trace.note([mark as u64, self.now.as_nanos(), id, n]);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn end(&mut self, id: Id) -> Option<&mut End> {
        match self.slots.get_mut(&id) {
            Some(Slot::End(e)) => Some(e),
            _ => None,
        }
    }

    // ---- time ----------------------------------------------------------------------------------

    /// When something arrives next.
    pub(super) fn next_event(&self) -> Option<Time> {
        self.events.keys().next().map(|(at, _)| *at).filter(|at| *at != Time::NEVER)
    }

    /// Lets everything arrive that is due.
    pub(super) fn run_due(&mut self) {
        while let Some(entry) = self.events.first_entry() {
            let &(at, number) = entry.key();
            if at > self.now || at == Time::NEVER {
                return;
            }
            let event = entry.remove();
            let syn = matches!(event.what, What::Syn { .. });
            match self.cut_until(event.route) {
                // Under its old number, so that it stays in front of what was sent after it.
                Some(until) if !syn => {
                    self.events.insert((until, number), event);
                }
                cut => self.arrive(event, cut.is_some()),
            }
        }
    }

    fn cut_until(&mut self, (from, to): (IpAddr, IpAddr)) -> Option<Time> {
        let now = self.now;
        self.cuts.retain(|(_, _, until)| *until > now);
        let hit = |(a, b, _): &&(IpAddr, IpAddr, Time)| (*a, *b) == (from, to) || (*a, *b) == (to, from);
        self.cuts.iter().filter(hit).map(|(_, _, until)| *until).max()
    }

    /// Puts something on its way from an end, behind all that the end sent before.
    fn post(&mut self, from: Id, bytes: usize, what: What) {
        let Some((local, peer, last)) = self.end(from).map(|e| (e.local.ip(), e.peer.ip(), e.last)) else { return };
        let mut at = (self.now + self.latency()).max(last);
        if let Some(rate) = self.slow.get(&peer) {
            let ns = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(*rate));
            at = at + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
        }
        if let Some(e) = self.end(from) {
            e.last = at;
        }
        let number = self.number();
        self.events.insert((at, number), Event { route: (local, peer), what });
    }

    fn latency(&mut self) -> Duration {
        let (least, most) = self.config.latency;
        self.rng.between(least, most)
    }

    fn arrive(&mut self, event: Event, cut: bool) {
        match event.what {
            What::Syn { client, to, tries } => self.syn(client, to, tries, cut, event.route),
            What::Refuse { client } => self.fail(client, ErrorKind::ConnectionRefused, Mark::Refused),
            What::Up { client, server } => {
                let now = self.now;
                match self.end(client) {
                    Some(e) if e.state == State::Connecting => {
                        e.state = State::Up;
                        e.other = server;
                        e.since = now;
                        self.note(Mark::Connected, client, server);
                        self.wake(client);
                    }
                    // The client has gone meanwhile; nobody answers for it but the host.
                    _ => {
                        self.rst(server);
                        self.tidy(server);
                    }
                }
            }
            What::Data { to, bytes } => {
                let n = bytes.len() as u64;
                let Some(e) = self.end(to) else { return };
                if e.reset {
                    return;
                }
                if e.closed {
                    e.reset = true;
                    let other = e.other;
                    self.post(to, 0, What::Rst { to: other });
                    return;
                }
                e.unread.extend(bytes);
                self.note(Mark::Delivered, to, n);
                self.wake(to);
            }
            What::Fin { to } => {
                if let Some(e) = self.end(to) {
                    e.eof = true;
                    self.note(Mark::Ended, to, 0);
                    self.wake(to);
                }
            }
            What::Rst { to } => self.rst(to),
            What::Ack { to, bytes } => {
                let now = self.now;
                if let Some(e) = self.end(to) {
                    e.used = e.used.saturating_sub(bytes);
                    e.acked = (e.acked.0 + bytes as u64, now);
                    self.note(Mark::Acked, to, bytes as u64);
                    self.wake(to);
                }
            }
        }
    }

    fn syn(&mut self, client: Id, to: SocketAddr, tries: u32, cut: bool, route: (IpAddr, IpAddr)) {
        let Some(peer) = self.end(client).filter(|e| e.state == State::Connecting).map(|e| e.local) else { return };
        if tries >= CONNECT_TRIES {
            return self.fail(client, ErrorKind::TimedOut, Mark::TimedOut);
        }
        let listener = self.listener_at(to);
        // A full backlog drops the attempt, as Linux does; so does a way that is not there.
        let full =
            listener.and_then(|id| self.listener(id)).is_some_and(|l| l.backlog.len() > l.options.backlog as usize);
        if cut || full || self.unroutable.contains(&to.ip()) {
            let at = self.now + Duration::from_secs(1 << tries);
            let number = self.number();
            self.events.insert((at, number), Event { route, what: What::Syn { client, to, tries: tries + 1 } });
            return;
        }
        let Some(listener) = listener else {
            let at = self.now + self.latency();
            let number = self.number();
            self.events.insert((at, number), Event { route: (route.1, route.0), what: What::Refuse { client } });
            return;
        };
        let mut end = End::new(to, peer, SocketOptions::default());
        end.state = State::Up;
        end.other = client;
        end.since = self.now;
        let server = self.add(Slot::End(end));
        self.note(Mark::Arrived, server, client);
        self.post(server, 0, What::Up { client, server });
        if let Some(l) = self.listener(listener) {
            l.backlog.push_back(server);
        }
        self.wake(listener);
    }

    fn fail(&mut self, client: Id, why: ErrorKind, mark: Mark) {
        if let Some(e) = self.end(client).filter(|e| e.state == State::Connecting) {
            e.state = State::Failed(why);
            self.note(mark, client, 0);
            self.wake(client);
        }
    }

    /// The connection is gone at this end. What has arrived can still be read (Linux).
    pub(super) fn rst(&mut self, id: Id) {
        let Some(e) = self.end(id) else { return };
        if std::mem::replace(&mut e.reset, true) || e.state != State::Up {
            return;
        }
        // After an end of stream the peer's reset only says that it does not read (Linux).
        e.error = Some(if e.eof { ErrorKind::BrokenPipe } else { ErrorKind::ConnectionReset });
        self.note(Mark::Reset, id, 0);
        self.wake(id);
    }

    // ---- addresses -----------------------------------------------------------------------------

    fn add(&mut self, slot: Slot) -> Id {
        let id = self.number();
        *self.locals.entry(slot.local()).or_default() += 1;
        self.slots.insert(id, slot);
        id
    }

    fn remove(&mut self, id: Id) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        let local = slot.local();
        if let Some(n) = self.locals.get_mut(&local) {
            *n -= 1;
            if *n == 0 {
                self.locals.remove(&local);
            }
        }
        Some(slot)
    }

    fn listener(&mut self, id: Id) -> Option<&mut Listener> {
        match self.slots.get_mut(&id) {
            Some(Slot::Listener(l)) => Some(l),
            _ => None,
        }
    }

    /// Who listens for connections to an address: at it, or at every address of its family.
    fn listener_at(&self, at: SocketAddr) -> Option<Id> {
        let any = SocketAddr::new(any_of(at.ip()), at.port());
        let find = |a: SocketAddr| {
            self.slots.iter().find_map(|(id, s)| matches!(s, Slot::Listener(l) if l.local == a).then_some(*id))
        };
        find(at).or_else(|| find(any))
    }

    fn is_taken(&self, a: SocketAddr) -> bool {
        let any = any_of(a.ip());
        let clash = |b: &SocketAddr| {
            b.port() == a.port() && b.is_ipv4() == a.is_ipv4() && (b.ip() == a.ip() || b.ip() == any || a.ip() == any)
        };
        self.locals.keys().any(clash)
    }

    fn free_port(&mut self, ip: IpAddr) -> io::Result<SocketAddr> {
        for _ in FIRST_PORT..=u16::MAX {
            let a = SocketAddr::new(ip, self.port);
            self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.is_taken(a) {
                return Ok(a);
            }
        }
        Err(ErrorKind::AddrInUse.into())
    }

    /// The first local address that is free.
    fn bind(
        &mut self,
        candidates: &[SocketAddr],
        like: SocketAddr,
        free: impl Fn(&Self, SocketAddr) -> bool,
    ) -> io::Result<SocketAddr> {
        let mut why = ErrorKind::AddrNotAvailable;
        for a in candidates.iter().filter(|a| a.is_ipv4() == like.is_ipv4()) {
            if a.port() == 0 {
                return self.free_port(a.ip());
            }
            if free(self, *a) {
                return Ok(*a);
            }
            why = ErrorKind::AddrInUse;
        }
        Err(why.into())
    }

    pub(super) fn listen(&mut self, at: SocketAddr, options: &SocketOptions) -> io::Result<(Id, SocketAddr)> {
        let one = [at];
        let candidates = if options.bind.is_empty() { &one[..] } else { &options.bind[..] };
        let reuse = options.reuse;
        // With `reuse` the connections of an earlier listener do not stand in the way.
        let free = |w: &Self, a| if reuse { w.listener_at(a).is_none() } else { !w.is_taken(a) };
        let local = self.bind(candidates, at, free)?;
        let listener = Listener { local, backlog: VecDeque::new(), waiter: None, options: options.clone() };
        let id = self.add(Slot::Listener(listener));
        self.note(Mark::Listen, id, u64::from(local.port()));
        Ok((id, local))
    }

    pub(super) fn connect(&mut self, to: SocketAddr, options: &SocketOptions) -> io::Result<Id> {
        let local = if options.bind.is_empty() {
            self.free_port(own_ip(to.ip()))?
        } else {
            self.bind(&options.bind, to, |w, a| !w.is_taken(a))?
        };
        let id = self.add(Slot::End(End::new(local, to, options.clone())));
        self.note(Mark::Connect, id, u64::from(to.port()));
        self.post(id, 0, What::Syn { client: id, to, tries: 0 });
        Ok(id)
    }

    pub(super) fn accept(&mut self, id: Id) -> io::Result<(Id, SocketAddr, SocketAddr)> {
        let Some(l) = self.listener(id) else { return Err(ErrorKind::InvalidInput.into()) };
        let Some(&first) = l.backlog.front() else { return Err(ErrorKind::WouldBlock.into()) };
        let fault = self.accept_faults.pop_front();
        if fault == Some(AcceptFault::TooManyFiles) {
            return Err(fault_error(AcceptFault::TooManyFiles));
        }
        if let Some(l) = self.listener(id) {
            l.backlog.pop_front();
        }
        if let Some(fault) = fault {
            self.abandon(first);
            return Err(fault_error(fault));
        }
        self.note(Mark::Accept, first, id);
        let (local, peer) = self.end(first).map(|e| (e.local, e.peer)).ok_or(ErrorKind::ConnectionAborted)?;
        Ok((first, local, peer))
    }

    // ---- ends ----------------------------------------------------------------------------------

    /// Whether a transfer that could move bytes says that it would block.
    fn balks(&mut self, id: Id) -> bool {
        let balks = self.config.spurious > 0.0 && self.rng.chance(self.config.spurious);
        if balks {
            self.note(Mark::Blocked, id, 0);
        }
        balks
    }

    /// How much of `most` a transfer moves.
    fn some_of(&mut self, most: usize) -> usize {
        if self.config.one_byte {
            most.min(1)
        } else if most > 1 && self.config.short > 0.0 && self.rng.chance(self.config.short) {
            self.rng.part(most)
        } else {
            most
        }
    }

    /// Gives `put` a run of what is there.
    pub(super) fn recv(&mut self, id: Id, room: usize, put: impl FnOnce(&[u8]) -> usize) -> io::Result<usize> {
        let Some(e) = self.end(id) else { return Err(ErrorKind::NotConnected.into()) };
        if e.state != State::Up {
            return Err(ErrorKind::NotConnected.into());
        }
        if e.unread.is_empty() {
            return match e.error {
                _ if e.eof => Ok(0),
                Some(why) => {
                    e.error = None;
                    Err(why.into())
                }
                None if e.reset => Ok(0),
                None => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let most = e.unread.len().min(room);
        if self.balks(id) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = self.some_of(most);
        let Some(e) = self.end(id) else { return Err(ErrorKind::NotConnected.into()) };
        let n = put(e.unread.make_contiguous().get(..n).unwrap_or_default());
        e.unread.drain(..n);
        let other = e.other;
        self.note(Mark::Recv, id, n as u64);
        if n > 0 {
            self.post(id, 0, What::Ack { to: other, bytes: n });
        }
        Ok(n)
    }

    /// Sends from the front of `len` bytes, which `gather` copies out.
    pub(super) fn send(&mut self, id: Id, len: usize, gather: impl FnOnce(usize) -> Vec<u8>) -> io::Result<usize> {
        let buffer = self.config.buffer;
        let Some(e) = self.end(id) else { return Err(ErrorKind::NotConnected.into()) };
        match e.state {
            State::Connecting => return Err(ErrorKind::WouldBlock.into()),
            State::Failed(why) => return Err(why.into()),
            State::Up => {}
        }
        if let Some(why) = e.error.take() {
            return Err(why.into());
        }
        if e.shut || e.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let most = buffer.saturating_sub(e.used).min(len);
        if most == 0 {
            return if len == 0 { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        if self.balks(id) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes = gather(self.some_of(most));
        let n = bytes.len();
        let Some(e) = self.end(id) else { return Err(ErrorKind::NotConnected.into()) };
        e.used += n;
        let to = e.other;
        self.note(Mark::Send, id, n as u64);
        self.post(id, n, What::Data { to, bytes });
        Ok(n)
    }

    pub(super) fn connected(&mut self, id: Id) -> io::Result<(SocketAddr, SocketAddr)> {
        let Some(e) = self.end(id) else { return Err(ErrorKind::NotConnected.into()) };
        match e.state {
            State::Connecting => Err(ErrorKind::WouldBlock.into()),
            State::Failed(why) => Err(why.into()),
            State::Up => Ok((e.local, e.peer)),
        }
    }

    pub(super) fn shut(&mut self, id: Id) -> io::Result<()> {
        let Some(e) = self.end(id).filter(|e| e.state == State::Up && !e.reset) else {
            return Err(ErrorKind::NotConnected.into());
        };
        if std::mem::replace(&mut e.shut, true) {
            return Ok(());
        }
        let to = e.other;
        self.note(Mark::Shut, id, 0);
        self.post(id, 0, What::Fin { to });
        self.wake(id);
        Ok(())
    }

    /// Nobody holds the socket any more.
    pub(super) fn close(&mut self, id: Id) {
        self.note(Mark::Close, id, 0);
        match self.slots.get_mut(&id) {
            Some(Slot::Listener(_)) => {
                if let Some(Slot::Listener(l)) = self.remove(id) {
                    for waiting in l.backlog {
                        self.abandon(waiting);
                    }
                }
            }
            Some(Slot::End(e)) if e.state == State::Up => {
                e.closed = true;
                e.waiters = [None, None];
                let (reset, shut, to) = (e.reset, e.shut, e.other);
                // Unread bytes are lost, and the peer learns of it (RFC 1122 4.2.2.13).
                let hard = e.linger == Some(Duration::ZERO) || !e.unread.is_empty();
                e.unread.clear();
                if hard && !reset {
                    e.reset = true;
                    self.post(id, 0, What::Rst { to });
                } else if !shut && !reset {
                    self.post(id, 0, What::Fin { to });
                }
                self.tidy(id);
            }
            Some(Slot::End(_)) => {
                self.remove(id);
            }
            None => {}
        }
    }

    /// Gives up an end that no socket was made for.
    fn abandon(&mut self, id: Id) {
        if let Some(e) = self.end(id) {
            e.linger = Some(Duration::ZERO);
            self.close(id);
        }
    }

    /// Forgets a connection both of whose ends are closed.
    fn tidy(&mut self, id: Id) {
        let Some(other) = self.end(id).filter(|e| e.closed).map(|e| e.other) else { return };
        if self.end(other).is_none_or(|e| e.closed) {
            self.remove(other);
            self.remove(id);
        }
    }

    // ---- readiness -----------------------------------------------------------------------------

    pub(super) fn is_ready(&self, id: Id, direction: Direction) -> bool {
        match self.slots.get(&id) {
            None => true,
            Some(Slot::Listener(l)) => direction == Direction::Read && !l.backlog.is_empty(),
            Some(Slot::End(e)) => match (e.state, direction) {
                (State::Connecting, _) => false,
                (State::Failed(_), _) => true,
                (State::Up, Direction::Read) => !e.unread.is_empty() || e.eof || e.error.is_some() || e.reset,
                (State::Up, Direction::Write) => e.error.is_some() || e.reset || e.shut || e.used < self.config.buffer,
            },
        }
    }

    fn waiter(&mut self, id: Id, direction: Direction) -> Option<&mut Option<Waiter>> {
        match (self.slots.get_mut(&id)?, direction) {
            (Slot::Listener(l), Direction::Read) => Some(&mut l.waiter),
            (Slot::Listener(_), Direction::Write) => None,
            (Slot::End(e), d) => e.waiters.get_mut(d as usize),
        }
    }

    pub(super) fn set_waiter(&mut self, id: Id, direction: Direction, waiter: Option<Waiter>) {
        if let Some(slot) = self.waiter(id, direction) {
            *slot = waiter;
        }
    }

    /// Hands out those who wait for a socket that is ready now.
    pub(super) fn wake(&mut self, id: Id) {
        for d in [Direction::Read, Direction::Write] {
            if self.is_ready(id, d) {
                if let Some(w) = self.waiter(id, d).and_then(Option::take) {
                    self.ready.push(w);
                }
            }
        }
    }

    /// Moves the ready waiters out, in an order that the seed decides.
    pub(super) fn take_ready(&mut self, into: &mut Vec<Waiter>) {
        self.rng.shuffle(&mut self.ready);
        into.append(&mut self.ready);
    }

    /// Who waits, in words.
    pub(super) fn waiting(&self) -> String {
        let mut out = String::new();
        for slot in self.slots.values() {
            let (peer, waits) = match slot {
                Slot::Listener(l) => (None, [l.waiter.is_some(), false]),
                Slot::End(e) => (Some(e.peer), [e.waiters[0].is_some(), e.waiters[1].is_some()]),
            };
            for what in [("read", waits[0]), ("write", waits[1])].iter().filter(|(_, w)| *w).map(|(t, _)| *t) {
                let what = if peer.is_none() { "accept" } else { what };
                let peer = peer.map(|p| format!(" from {p}")).unwrap_or_default();
                out.push_str(&format!("; {} waits to {what}{peer}", slot.local()));
            }
        }
        out
    }
}

impl End {
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up && !self.reset
    }

    fn new(local: SocketAddr, peer: SocketAddr, options: SocketOptions) -> Self {
        Self {
            local,
            peer,
            other: 0,
            state: State::Connecting,
            closed: false,
            unread: VecDeque::new(),
            eof: false,
            error: None,
            reset: false,
            shut: false,
            used: 0,
            acked: (0, Time::ZERO),
            since: Time::ZERO,
            last: Time::ZERO,
            linger: None,
            waiters: [None, None],
            options,
        }
    }
}

impl Slot {
    pub(super) fn local(&self) -> SocketAddr {
        match self {
            Self::End(e) => e.local,
            Self::Listener(l) => l.local,
        }
    }
}

fn any_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The address a socket gets that is not bound to one.
fn own_ip(to: IpAddr) -> IpAddr {
    match to {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::new(10, 255, 255, 254).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

fn fault_error(fault: AcceptFault) -> io::Error {
    match fault {
        AcceptFault::TooManyFiles => rustix::io::Errno::MFILE.into(),
        AcceptFault::Aborted => ErrorKind::ConnectionAborted.into(),
    }
}
