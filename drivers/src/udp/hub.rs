//! What a server and its links share: who the peers are, and what came from them before their links were
//! open. Invariant: nothing here grows with what strangers send: `links` peers at most, of which `backlog`
//! wait to be accepted, each with `early` bytes; what does not fit is dropped and counted.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use xio_core::cx::LevelWaker;
use xio_core::datagram::Arrived;
use xio_core::io::Sock;
use xio_core::planted;

use super::options::size;
use super::{Options, Tally};
use crate::net::canonical;

/// What a datagram counts at least while it waits.
const LEAST: usize = 64;
/// Looks at a link that waits before it is given up: each comes after half the idle time.
const LOOKS: u8 = 2;

/// A server's peers.
pub(super) struct Hub {
    at: SocketAddr,
    options: Options,
    /// How often something was put by: a link that has seen all of it need not look, nor lock what all links share.
    puts: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The server's socket and level, until it closes.
    server: Option<(Sock, LevelWaker)>,
    peers: HashMap<SocketAddr, Peer>,
    /// Links to be accepted, the oldest first.
    waiting: VecDeque<(SocketAddr, u8)>,
    tally: Tally,
}

/// What came of a peer that its link has not taken.
#[derive(Default)]
struct Peer {
    queue: VecDeque<Arrived>,
    bytes: usize,
}

/// A peer's place with its server. Dropped, the peer is forgotten.
pub(super) struct Link {
    hub: Arc<Hub>,
    /// As the system writes it.
    peer: SocketAddr,
    /// `puts` when it last looked.
    seen: u64,
}

impl Hub {
    pub(super) fn new(at: SocketAddr, options: Options) -> Arc<Self> {
        Arc::new(Self { at, options, puts: AtomicU64::new(0), state: Mutex::default() })
    }

    /// The server begins: its socket, and how to reach its level.
    pub(super) fn begin(&self, sock: Sock, waker: LevelWaker) {
        self.state.lock().server = Some((sock, waker));
    }

    /// The server ends: links that nobody accepted go.
    pub(super) fn end(&self) {
        let mut s = self.state.lock();
        let s = &mut *s;
        let server = s.server.take();
        for (peer, _) in s.waiting.drain(..) {
            s.peers.remove(&canonical(peer));
        }
        drop(server);
    }

    /// Where the server is bound.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// The server's socket, while it is open.
    pub(super) fn sock(&self) -> Option<Sock> {
        self.state.lock().server.as_ref().map(|(s, _)| s.clone())
    }

    pub(super) fn tally(&self) -> Tally {
        let s = self.state.lock();
        let mut tally = s.tally;
        tally.live = s.peers.len() as u64;
        tally.bytes = s.peers.values().map(|p| p.bytes as u64).sum();
        tally
    }

    /// Puts by what came to the server's socket, or to a link's before that had its peer.
    pub(super) fn put(&self, came: Arrived) {
        let Some(from) = came.peer else { return };
        let mut guard = self.state.lock();
        let s = &mut *guard;
        let (count, len) = (came.count() as u64, came.bytes.len().max(LEAST));
        if let Some(peer) = s.peers.get_mut(&canonical(from)) {
            let fits = peer.bytes.saturating_add(len) <= size(self.options.early);
            if !fits && !planted("a peer may have any number of bytes wait") {
                s.tally.overflowed += count;
            } else {
                peer.bytes += len;
                peer.queue.push_back(came);
                self.puts.fetch_add(1, Ordering::Release);
            }
            return;
        }
        let full = s.waiting.len() >= self.options.backlog as usize || s.peers.len() >= self.options.links as usize;
        let Some((_, waker)) = s.server.as_ref().filter(|_| !full) else {
            s.tally.refused += count;
            return;
        };
        let mut peer = Peer::default();
        if !(self.options.greet && came.len == 0) {
            // The first fits, however little waits.
            peer.bytes = len;
            peer.queue.push_back(came);
        }
        s.peers.insert(canonical(from), peer);
        s.waiting.push_back((from, 0));
        s.tally.links += 1;
        let waker = waker.clone();
        drop(guard);
        waker.wake();
    }

    /// The link that waits longest, for an accept.
    pub(super) fn accept(self: &Arc<Self>) -> Option<Link> {
        let (peer, _) = self.state.lock().waiting.pop_front()?;
        // It has seen nothing: what made it may lie there.
        Some(Link { hub: self.clone(), peer, seen: u64::MAX })
    }

    /// How many links wait to be accepted.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Half the idle time has passed: gives up the links that waited too long.
    pub(super) fn look(&self) {
        let mut s = self.state.lock();
        let s = &mut *s;
        s.waiting.iter_mut().for_each(|(_, looks)| *looks += 1);
        // They stand in the order they came.
        while let Some((peer, _)) = s.waiting.front().copied().filter(|(_, looks)| *looks >= LOOKS) {
            s.waiting.pop_front();
            s.peers.remove(&canonical(peer));
            s.tally.expired += 1;
        }
    }

    /// An open link is given up.
    pub(super) fn expire(&self) {
        self.state.lock().tally.expired += 1;
    }
}

impl Link {
    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Takes what came for it elsewhere.
    pub(super) fn take(&mut self) -> VecDeque<Arrived> {
        let puts = self.hub.puts.load(Ordering::Acquire);
        if std::mem::replace(&mut self.seen, puts) == puts {
            return VecDeque::new();
        }
        let mut s = self.hub.state.lock();
        let Some(peer) = s.peers.get_mut(&canonical(self.peer)) else { return VecDeque::new() };
        peer.bytes = 0;
        std::mem::take(&mut peer.queue)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let gone = self.hub.state.lock().peers.remove(&canonical(self.peer));
        drop(gone);
    }
}
