//! Datagram sockets of the simulated network: binding, sending, what becomes of a datagram on its way.
//! Invariant: a datagram arrives whole or is cut off with its real length told, and what lies unread is
//! bounded by [`SimConfig::buffer`](super::SimConfig::buffer).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use super::address::{any_of, clash, own_ip};
use super::net::{Event, Id, Mark, Slot, What, World};
use crate::datagram::{Arrived, DatagramOptions, MAX_DATAGRAM, Outgoing};
use crate::reactor::Waiters;
use crate::time::Time;

/// What a datagram counts at least, as in the system's buffers.
const LEAST: usize = 64;

/// A datagram socket.
pub(super) struct Packets {
    pub(super) local: SocketAddr,
    pub(super) options: DatagramOptions,
    unread: VecDeque<Arrived>,
    bytes: usize,
    /// A datagram of ours came back.
    refused: bool,
    /// When the last thing sent arrives.
    last: Time,
    pub(super) waiters: Waiters,
}

impl Packets {
    pub(super) fn is_readable(&self) -> bool {
        self.refused || !self.unread.is_empty()
    }

    /// How well a datagram from `from` to `to` fits: a connected socket before others, one bound to the
    /// address before one for all.
    fn fits(&self, from: SocketAddr, to: SocketAddr) -> Option<u8> {
        let here = self.local == to;
        let all = self.local == SocketAddr::new(any_of(to.ip()), to.port());
        let peer = self.options.to.map(|p| p == from);
        ((here || all) && peer != Some(false)).then_some(u8::from(here) + 2 * u8::from(peer.is_some()))
    }

    fn hears(&self, to: SocketAddr) -> bool {
        let port = self.local.port() == to.port() && self.local.is_ipv4() == to.is_ipv4();
        let joined = self.options.groups.contains(&to.ip());
        port && (joined || (is_broadcast(to.ip()) && self.local.ip().is_unspecified()))
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    ip == Ipv4Addr::BROADCAST
}

impl World {
    fn packets(&mut self, id: Id) -> Option<&mut Packets> {
        match self.slots.get_mut(&id) {
            Some(Slot::Packets(p)) => Some(p),
            _ => None,
        }
    }

    pub(super) fn bind_datagram(&mut self, o: &DatagramOptions) -> io::Result<(Id, SocketAddr)> {
        let like = o.like();
        let local = if o.socket.bind.is_empty() {
            let ip = match o.to {
                Some(to) => own_ip(to.ip()),
                None => any_of(like.ip()),
            };
            self.free_port(ip)?
        } else {
            self.bind(&o.socket.bind, like, |w, a| {
                let joins = |s: &Slot| {
                    matches!(s, Slot::Packets(p) if (p.options.socket.reuse && o.socket.reuse)
                        || (p.options.shared && o.shared && o.to.is_some() && p.options.to != o.to))
                };
                w.slots.values().filter(|s| clash(s.local(), a)).all(joins)
            })?
        };
        // As the system: who connects gets the address it sends from.
        let local = match o.to {
            Some(to) if local.ip().is_unspecified() => SocketAddr::new(own_ip(to.ip()), local.port()),
            _ => local,
        };
        let packets = Packets {
            local,
            options: o.clone(),
            unread: VecDeque::new(),
            bytes: 0,
            refused: false,
            last: Time::ZERO,
            waiters: Waiters::new(),
        };
        let id = self.add(Slot::Packets(packets));
        self.note(Mark::Bind, id, u64::from(local.port()));
        Ok((id, local))
    }

    pub(super) fn send_datagram(&mut self, id: Id, what: &Outgoing<'_>) -> io::Result<usize> {
        let Some(p) = self.packets(id) else { return Err(ErrorKind::NotConnected.into()) };
        let Some(to) = what.to().or(p.options.to) else { return Err(ErrorKind::NotConnected.into()) };
        let connected = p.options.to.is_some();
        if is_broadcast(to.ip()) && !p.options.broadcast {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let (range, ..) = what.run(1);
        if range.len() > MAX_DATAGRAM {
            return Err(rustix::io::Errno::MSGSIZE.into());
        }
        if self.balks(id) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = what.slices(range).flatten().copied().collect();
        self.note(Mark::Send, id, bytes.len() as u64);
        let copies = 1 + usize::from(self.rng_hits(self.config.duplicates));
        for _ in 0..copies {
            if self.rng_hits(self.config.loss) || self.unroutable.contains(&to.ip()) {
                self.note(Mark::Lost, id, 0);
                continue;
            }
            self.put_on_its_way(id, connected, to, bytes.clone());
        }
        Ok(1)
    }

    fn rng_hits(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.chance(probability)
    }

    fn put_on_its_way(&mut self, id: Id, connected: bool, to: SocketAddr, bytes: Vec<u8>) {
        let overtakes = self.rng_hits(self.config.reorder);
        let latency = self.latency();
        let Some((local, last)) = self.packets(id).map(|p| (p.local, p.last)) else { return };
        let mut at = self.now + latency;
        if !overtakes {
            at = at.max(last);
        }
        if let Some(rate) = self.slow.get(&to.ip()) {
            let ns = (bytes.len() as u128 * 1_000_000_000).div_ceil(u128::from(*rate));
            at = at + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
        }
        if let Some(p) = self.packets(id) {
            p.last = p.last.max(at);
        }
        // Who is bound to all addresses sends from the one that leads there.
        let from = if local.ip().is_unspecified() { SocketAddr::new(own_ip(to.ip()), local.port()) } else { local };
        let what = What::Datagram { sender: connected.then_some(id), from, to, bytes };
        let number = self.number();
        self.events.insert((at, number), Event { route: (from.ip(), to.ip()), due: at, what });
    }

    pub(super) fn datagram_arrives(&mut self, sender: Option<Id>, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let slots = self.slots.iter().filter_map(|(id, s)| match s {
            Slot::Packets(p) => Some((*id, p)),
            _ => None,
        });
        let takers: Vec<Id> = if to.ip().is_multicast() || is_broadcast(to.ip()) {
            slots.filter(|(_, p)| p.hears(to)).map(|(id, _)| id).collect()
        } else {
            slots.filter_map(|(id, p)| Some((p.fits(from, to)?, id))).max().map(|(_, id)| id).into_iter().collect()
        };
        if takers.is_empty() && !to.ip().is_multicast() && !is_broadcast(to.ip()) {
            self.note(Mark::Refused, 0, u64::from(to.port()));
            if let Some(sender) = sender {
                let at = self.now + self.latency();
                let number = self.number();
                let what = What::Unreachable { sender, to };
                self.events.insert((at, number), Event { route: (to.ip(), from.ip()), due: at, what });
            }
        }
        for id in takers {
            self.take_in(id, from, bytes);
        }
    }

    fn take_in(&mut self, id: Id, from: SocketAddr, bytes: &[u8]) {
        let limit = self.config.buffer;
        let kept = if bytes.len() > 1 && self.rng_hits(self.config.cut) {
            self.note(Mark::Cut, id, bytes.len() as u64);
            self.rng.part(bytes.len())
        } else {
            bytes.len()
        };
        let Some(p) = self.packets(id) else { return };
        // One is always taken, however small the buffer.
        if !p.unread.is_empty() && p.bytes + bytes.len().max(LEAST) > limit {
            self.note(Mark::Lost, id, bytes.len() as u64);
            return;
        }
        let kept = Bytes::copy_from_slice(bytes.get(..kept).unwrap_or(bytes));
        p.bytes += bytes.len().max(LEAST);
        p.unread.push_back(Arrived::one(kept, Some(from)).with_len(bytes.len()));
        self.note(Mark::Delivered, id, bytes.len() as u64);
        self.wake(id);
    }

    pub(super) fn comes_back(&mut self, sender: Id, to: SocketAddr) {
        if let Some(p) = self.packets(sender).filter(|p| p.options.to == Some(to)) {
            p.refused = true;
            self.note(Mark::Refused, sender, 0);
            self.wake(sender);
        }
    }

    pub(super) fn recv_datagram(&mut self, id: Id) -> io::Result<Arrived> {
        let Some(p) = self.packets(id) else { return Err(ErrorKind::NotConnected.into()) };
        if std::mem::take(&mut p.refused) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        if p.unread.is_empty() || self.balks(id) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let Some(came) = self.packets(id).and_then(|p| {
            let came = p.unread.pop_front()?;
            p.bytes = p.bytes.saturating_sub(came.len.max(LEAST));
            Some(came)
        }) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        self.note(Mark::Recv, id, came.len as u64);
        Ok(came)
    }
}
