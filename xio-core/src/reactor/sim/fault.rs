//! What a test does to a simulated network while it runs, and what it can look at. Invariant: a
//! fault acts at the virtual time it is called at, so it is part of what a seed repeats.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::Sim;
use super::net::{Id, Slot, World};
use super::socket::address;
use crate::contact::Contact;
use crate::io::SocketOptions;
use crate::time::Time;

/// How an accept fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptFault {
    /// The process has no descriptor left (`EMFILE`); the connection stays in the backlog.
    TooManyFiles,
    /// The connection was reset before it was accepted (`ECONNABORTED`); it is gone.
    Aborted,
}

impl Sim {
    /// Gives a host name its addresses, in the order of preference. Beside these, numeric addresses
    /// resolve, and `localhost`; every other name does not.
    pub fn host(&self, name: impl Into<String>, addresses: impl IntoIterator<Item = IpAddr>) {
        self.world.lock().hosts.insert(name.into(), addresses.into_iter().collect());
    }

    /// Takes the way to an address away: connects to it time out after 127 s. What is connected
    /// already goes on.
    pub fn unroutable(&self, ip: IpAddr) {
        self.world.lock().unroutable.insert(ip);
    }

    /// Lets nothing pass between two hosts for a while; then all that was sent arrives. It takes the place
    /// of an earlier cut; one of no length ends it.
    pub fn partition(&self, a: IpAddr, b: IpAddr, length: Duration) {
        let mut w = self.world.lock();
        let until = w.now + length;
        w.cut(a, b, until);
    }

    /// Has a host take no more than so many bytes a second; 0 lifts that.
    pub fn slow(&self, ip: IpAddr, bytes_per_second: u64) {
        let mut w = self.world.lock();
        match bytes_per_second {
            0 => w.slow.remove(&ip),
            n => w.slow.insert(ip, n),
        };
    }

    /// Has the next `n` accepts that would succeed fail.
    pub fn fail_accepts(&self, n: usize, fault: AcceptFault) {
        self.world.lock().accept_faults.extend(std::iter::repeat_n(fault, n));
    }

    /// Resets every connection one end of which has this address; both ends see it at once. A path stands for the
    /// unix sockets bound there that were taken in: both ends find that the peer is gone. Says how many connections
    /// that were.
    pub fn reset(&self, contact: impl Into<Contact>) -> usize {
        let contact = contact.into();
        let Some(a) = address(&contact) else {
            return contact.text().map_or(0, |path| self.world.lock().kill(Path::new(path)));
        };
        let mut w = self.world.lock();
        let hit: Vec<Id> = w
            .slots
            .iter()
            .filter(|(_, s)| matches!(s, Slot::End(e) if e.is_up() && (e.local == a || e.peer == a)))
            .map(|(id, _)| *id)
            .collect();
        for id in &hit {
            w.rst(*id);
        }
        hit.len().div_ceil(2)
    }

    /// The options of the socket that has this local address: the listener, else the end of a
    /// connection. `None`: there is no such socket.
    pub fn options_of(&self, local: impl Into<Contact>) -> Option<SocketOptions> {
        let a = address(&local.into())?;
        let w = self.world.lock();
        let listener = w.slots.values().find_map(|s| match s {
            Slot::Listener(l) if l.local == a => Some(l.options.clone()),
            _ => None,
        });
        listener.or_else(|| find(&w, |local, _| local == a))
    }

    /// The options of the end of a connection that was accepted from this peer.
    pub fn options_towards(&self, peer: impl Into<Contact>) -> Option<SocketOptions> {
        let a = address(&peer.into())?;
        find(&self.world.lock(), |_, peer| peer == a)
    }

    /// Has a datagram arrive at `to` that seems to come from `from`, whoever that is. It does not get lost.
    pub fn forge(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.world.lock().datagram_arrives(None, from, to, bytes);
    }

    /// How many sockets are open, listeners included. An end that was closed counts until its peer
    /// is closed too.
    pub fn sockets(&self) -> usize {
        let w = self.world.lock();
        w.slots.len() + w.adopted.len()
    }

    /// Fingerprint of everything that happened so far: each connect, accept, transfer with its size,
    /// arrival, close, and when. Equal seeds and equal programs give equal hashes.
    pub fn hash(&self) -> u64 {
        self.world.lock().trace.hash()
    }

    /// How many events the hash is over.
    pub fn events(&self) -> u64 {
        self.world.lock().trace.events()
    }

    /// The virtual time.
    pub fn time(&self) -> Time {
        self.world.lock().now
    }
}

fn find(w: &World, is_it: impl Fn(SocketAddr, SocketAddr) -> bool) -> Option<SocketOptions> {
    w.slots.values().find_map(|s| match s {
        Slot::End(e) if is_it(e.local, e.peer) => Some(e.options.clone()),
        _ => None,
    })
}
