//! A socket of the simulated network, as the engine holds it. Invariant: it closes with its last
//! owner, and that is the only way it closes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::net::{Id, Slot, State, World};
use crate::buffer::{Piece, Room};
use crate::cntl::Path;
use crate::contact::Contact;
use crate::datagram::{Arrived, Outgoing};
use crate::io::{Connected, Direction, RuntimeOption, Sock, Socket, SocketOptions};
use crate::reactor::{Bell, Waiter};
use crate::sync::{Arc, Mutex};

pub(super) struct Port {
    id: Id,
    world: Arc<Mutex<World>>,
}

impl Port {
    pub(super) fn sock(world: &Arc<Mutex<World>>, id: Id) -> Sock {
        Sock(Arc::new(Self { id, world: world.clone() }))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.world.lock().close(self.id);
    }
}

impl Socket for Port {
    fn recv(&self, room: &mut Room<'_>) -> io::Result<usize> {
        let left = room.left();
        self.world.lock().recv(self.id, left, |bytes| room.put(bytes))
    }

    fn send(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        let len: usize = pieces.iter().map(|p| p.len()).sum();
        self.world.lock().send(self.id, len.saturating_sub(skip), |n| run(pieces, skip, n))
    }

    fn recv_datagrams(&self, _: bool) -> io::Result<Arrived> {
        self.world.lock().recv_datagram(self.id)
    }

    fn send_datagrams(&self, what: &Outgoing<'_>, _: bool) -> io::Result<usize> {
        self.world.lock().send_datagram(self.id, what)
    }

    fn accept(&self) -> io::Result<Connected> {
        let (id, local, peer) = self.world.lock().accept(self.id)?;
        Ok(Connected::new(Self::sock(&self.world, id), Some(local), Some(peer)))
    }

    fn finish_connect(&self) -> io::Result<Option<SocketAddr>> {
        self.world.lock().connected(self.id).map(Some)
    }

    fn local(&self) -> Option<SocketAddr> {
        self.world.lock().slots.get(&self.id).map(Slot::local)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.world.lock().shut(self.id)
    }

    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        if let Some(Slot::End(e)) = self.world.lock().slots.get_mut(&self.id) {
            e.linger = linger;
        }
        Ok(())
    }

    fn is_ready(&self, direction: Direction) -> bool {
        self.world.lock().is_ready(self.id, direction)
    }

    fn arm(&self, direction: Direction, waiter: Waiter) -> bool {
        let mut world = self.world.lock();
        if world.is_ready(self.id, direction) {
            return false;
        }
        if let Some(list) = world.waiters(self.id, direction) {
            list.push(waiter);
        }
        true
    }

    fn disarm(&self, direction: Direction, waiter: &Waiter) {
        if let Some(list) = self.world.lock().waiters(self.id, direction) {
            list.remove(waiter);
        }
    }

    fn wait_here(&self, _: Direction, _: &Bell, _: Option<Duration>) -> Option<()> {
        // Virtual time passes in turns only.
        None
    }

    fn path(&self) -> io::Result<Path> {
        let world = self.world.lock();
        let Some(Slot::End(e)) = world.slots.get(&self.id) else { return Ok(Path::default()) };
        if e.state != State::Up {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let (acked, at) = e.acked;
        let ns = u64::try_from(at.since(e.since).as_nanos()).unwrap_or(u64::MAX);
        let rate = (u128::from(acked) * 1_000_000_000).checked_div(u128::from(ns));
        Ok(Path {
            min_rtt: Some(world.config.latency.0 * 2),
            delivery_rate: rate.and_then(|r| u64::try_from(r).ok()).filter(|r| *r > 0),
            in_flight: Some(e.used as u64),
            unsent: Some(0),
            last_ack: Some(world.now.since(at.max(e.since))),
        })
    }

    fn prepare(&self, options: &SocketOptions) -> io::Result<()> {
        if let Some(o) = self.world.lock().slots.get_mut(&self.id).map(Slot::options) {
            *o = options.clone();
        }
        Ok(())
    }

    fn set_option(&self, option: RuntimeOption) -> io::Result<()> {
        let mut world = self.world.lock();
        let Some(o) = world.slots.get_mut(&self.id).map(Slot::options) else { return Ok(()) };
        match option {
            RuntimeOption::Nodelay(on) => o.nodelay = on,
            RuntimeOption::SendBuffer(n) => o.send_buffer = Some(n),
            RuntimeOption::RecvBuffer(n) => o.recv_buffer = Some(n),
            RuntimeOption::NotsentLowat(n) => o.notsent_lowat = Some(n),
            RuntimeOption::Spin(d) => o.spin = d,
        }
        Ok(())
    }
}

impl Slot {
    fn options(&mut self) -> &mut SocketOptions {
        match self {
            Self::End(e) => &mut e.options,
            Self::Listener(l) => &mut l.options,
            Self::Packets(p) => &mut p.options.socket,
        }
    }
}

/// The address a contact stands for.
pub(super) fn address(contact: &Contact) -> Option<SocketAddr> {
    contact.text()?.parse().ok()
}

/// `n` bytes of the pieces, past the first `skip`.
fn run(pieces: &[Piece], mut skip: usize, n: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(n);
    for p in pieces {
        let rest = p.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(p.len());
        out.extend_from_slice(rest.get(..n - out.len()).unwrap_or(rest));
    }
    out
}
