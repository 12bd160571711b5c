//! The simulated network: ends of connections, listeners, what is on its way between them.
//! Invariant: what one end sends arrives in the order sent; nothing here reads a clock, a
//! descriptor or an unordered map. It knows no engine: it hands out the waiters that became ready.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::SimConfig;
use super::address::FIRST_PORT;
use super::adopted::Adopted;
use super::datagram::Packets;
use super::fault::AcceptFault;
use super::rng::{Rng, Trace};
use crate::io::{Direction, SocketOptions};
use crate::reactor::{Waiter, Waiters};
use crate::time::Time;

/// Number of a socket, never used twice.
pub(super) type Id = u64;

/// Attempts to connect before it times out, one, two, four … seconds apart (Linux `tcp_syn_retries`
/// 6 and its 127 s).
const CONNECT_TRIES: u32 = 7;

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
    Bind,
    Lost,
    Cut,
    Adopt,
    Ready,
}

/// One end of a connection.
pub(super) struct End {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) other: Id,
    pub(super) state: State,
    /// Nobody holds the socket any more; the peer still does.
    pub(super) closed: bool,
    pub(super) unread: VecDeque<u8>,
    /// The peer ended its side, and everything before that is in `unread`.
    pub(super) eof: bool,
    /// Told to whoever asks first.
    pub(super) error: Option<ErrorKind>,
    /// The connection is gone.
    pub(super) reset: bool,
    /// This side was ended.
    pub(super) shut: bool,
    /// Bytes sent that the peer has not read, as far as this end knows.
    pub(super) used: usize,
    /// Bytes the peer has read in all, and when word of that last came.
    pub(super) acked: (u64, Time),
    pub(super) since: Time,
    /// When the last thing sent arrives.
    pub(super) last: Time,
    pub(super) linger: Option<Duration>,
    pub(super) waiters: [Waiters; 2],
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
    pub(super) backlog: VecDeque<Id>,
    pub(super) waiters: Waiters,
    pub(super) options: SocketOptions,
}

pub(super) enum Slot {
    End(End),
    Listener(Listener),
    Packets(Packets),
}

/// Something on its way.
pub(super) struct Event {
    /// From which host to which, for partitions.
    pub(super) route: (IpAddr, IpAddr),
    /// When it would have arrived, had nothing kept it.
    pub(super) due: Time,
    pub(super) what: What,
}

pub(super) enum What {
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
    /// A datagram, with the socket that hears of it if nobody is there.
    Datagram {
        sender: Option<Id>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A datagram came back.
    Unreachable {
        sender: Id,
        to: SocketAddr,
    },
    /// A socket that was taken in is ready.
    Ready {
        to: Id,
        direction: Direction,
    },
}

pub(super) struct World {
    pub(super) config: SimConfig,
    pub(super) now: Time,
    pub(super) rng: Rng,
    /// What drivers draw, apart, so that a driver's dice do not move the network's.
    pub(super) dice: Rng,
    pub(super) trace: Trace,
    pub(super) slots: BTreeMap<Id, Slot>,
    /// Sockets of the system's.
    pub(super) adopted: BTreeMap<Id, Adopted>,
    /// How many sockets have a local address.
    pub(super) locals: BTreeMap<SocketAddr, u32>,
    pub(super) events: BTreeMap<(Time, u64), Event>,
    pub(super) next: u64,
    pub(super) port: u16,
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
            adopted: BTreeMap::new(),
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

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn end(&mut self, id: Id) -> Option<&mut End> {
        match self.slots.get_mut(&id) {
            Some(Slot::End(e)) => Some(e),
            _ => None,
        }
    }

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
            let now = matches!(event.what, What::Syn { .. } | What::Datagram { .. } | What::Unreachable { .. });
            match self.cut_until(event.route) {
                // Under its old number, so that it stays in front of what was sent after it.
                Some(until) if !now => {
                    self.events.insert((until, number), event);
                }
                cut => self.arrive(event, cut.is_some()),
            }
        }
    }

    /// The way between two hosts is cut until then, whatever it was before. What an earlier cut keeps
    /// goes by this one, so that nothing overtakes it.
    pub(super) fn cut(&mut self, a: IpAddr, b: IpAddr, until: Time) {
        let between = |x: IpAddr, y: IpAddr| (x, y) == (a, b) || (x, y) == (b, a);
        self.cuts.retain(|(x, y, _)| !between(*x, *y));
        self.cuts.push((a, b, until));
        let kept: Vec<_> = self
            .events
            .iter()
            .filter(|((at, _), e)| *at > e.due && between(e.route.0, e.route.1))
            .map(|(key, _)| *key)
            .collect();
        for key in kept {
            if let Some(e) = self.events.remove(&key) {
                self.events.insert((e.due.max(self.now), key.1), e);
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
    pub(super) fn post(&mut self, from: Id, bytes: usize, what: What) {
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
        self.events.insert((at, number), Event { route: (local, peer), due: at, what });
    }

    pub(super) fn latency(&mut self) -> Duration {
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
            What::Datagram { .. } | What::Unreachable { .. } if cut => self.note(Mark::Lost, 0, 0),
            What::Datagram { sender, from, to, bytes } => self.datagram_arrives(sender, from, to, &bytes),
            What::Unreachable { sender, to } => self.comes_back(sender, to),
            What::Ready { to, direction } => self.is_told(to, direction),
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
            self.events
                .insert((at, number), Event { route, due: at, what: What::Syn { client, to, tries: tries + 1 } });
            return;
        }
        let Some(listener) = listener else {
            let at = self.now + self.latency();
            let number = self.number();
            self.events
                .insert((at, number), Event { route: (route.1, route.0), due: at, what: What::Refuse { client } });
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
}

impl End {
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up && !self.reset
    }

    pub(super) fn new(local: SocketAddr, peer: SocketAddr, options: SocketOptions) -> Self {
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
            waiters: [Waiters::new(), Waiters::new()],
            options,
        }
    }
}

impl Slot {
    pub(super) fn local(&self) -> SocketAddr {
        match self {
            Self::End(e) => e.local,
            Self::Listener(l) => l.local,
            Self::Packets(p) => p.local,
        }
    }
}
