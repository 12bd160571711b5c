//! What models of whole handles stand on: a reactor whose clock the model moves, sockets in memory over the
//! real edges, and a transport that does as it is told. Invariant: like epoll, the reactor tells of a socket
//! once for all that came since it told last; like an eventfd, a wake that finds nobody asleep is kept.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::buffer::{Piece, Room};
use crate::io::{Connected, Direction, RuntimeOption, Sock, Socket, SocketOptions};
use crate::reactor::{Bell, Edges, Mark, Reactor, Waiter};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, planted, thread_local};
use crate::time::Time;

thread_local! {
    /// What this thread saw when it last looked at the clock.
    static SEEN: Cell<u64> = Cell::new(0);
}

/// The reactor.
pub(super) struct Bench {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    now: u64,
    woken: bool,
    /// Sockets that have something to tell.
    news: Vec<(Arc<Wire>, Direction)>,
    /// Blocking callers that sleep with a limit.
    sleepers: Vec<Mark>,
}

impl Bench {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), changed: Condvar::new() })
    }

    /// Time passes, to this many nanoseconds.
    pub(super) fn pass_to(&self, now: u64) {
        let mut s = self.state.lock();
        s.now = now;
        s.sleepers.drain(..).for_each(|m| m.make_ready());
        self.changed.notify_all();
    }

    fn tell(&self, wire: Arc<Wire>, direction: Direction) {
        let mut s = self.state.lock();
        if !s.news.iter().any(|(w, d)| Arc::ptr_eq(w, &wire) && *d == direction) {
            s.news.push((wire, direction));
        }
        self.changed.notify_all();
    }
}

impl Reactor for Bench {
    fn now(&self) -> Time {
        let now = self.state.lock().now;
        SEEN.set(now);
        Time::from_nanos(now)
    }

    fn random(&self) -> u64 {
        4
    }

    fn is_virtual(&self) -> bool {
        false
    }

    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&self, _: SocketAddr, _: &SocketOptions) -> io::Result<(Sock, bool)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn listen(&self, _: SocketAddr, _: &SocketOptions) -> io::Result<Connected> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn adopt(&self, _: OwnedFd, _: &SocketOptions) -> io::Result<Connected> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Waiter>) -> io::Result<()> {
        let mut s = self.state.lock();
        // A sleep begins when its thread last looked at the clock.
        let until = timeout.map(|t| SEEN.get().saturating_add(u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)));
        if planted("a wake is for sleepers only") {
            s.woken = false;
        }
        while !s.woken && s.news.is_empty() && until.is_none_or(|u| s.now < u) {
            self.changed.wait(&mut s);
        }
        s.woken = false;
        let news = std::mem::take(&mut s.news);
        drop(s);
        for (wire, direction) in news {
            wire.edges.edge(direction, ready);
        }
        Ok(())
    }

    fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_all();
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// One end of a connection: what it receives, and how much it may send.
pub(super) struct Wire {
    bench: Arc<Bench>,
    edges: Edges,
    system: Mutex<System>,
    changed: Condvar,
}

#[derive(Default)]
struct System {
    there: Vec<u8>,
    ended: bool,
    room: usize,
    sent: Vec<u8>,
    sleepers: Vec<(Mark, Direction)>,
    /// Who makes an attempt stays in the system for the time being.
    held_back: bool,
    /// Somebody is there.
    visited: bool,
}

impl System {
    fn is_ready(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => !self.there.is_empty() || self.ended,
            Direction::Write => self.room > 0,
        }
    }
}

impl Wire {
    pub(super) fn new(bench: &Arc<Bench>) -> Arc<Self> {
        let (edges, system) = (Edges::new(), Mutex::new(System::default()));
        Arc::new(Self { bench: bench.clone(), edges, system, changed: Condvar::new() })
    }

    /// Bytes come in.
    pub(super) fn arrive(self: &Arc<Self>, bytes: &[u8]) {
        self.change(Direction::Read, |s| s.there.extend_from_slice(bytes));
    }

    /// No more come.
    pub(super) fn end(self: &Arc<Self>) {
        self.change(Direction::Read, |s| s.ended = true);
    }

    /// So many more bytes may be sent.
    pub(super) fn drain(self: &Arc<Self>, room: usize) {
        self.change(Direction::Write, |s| s.room += room);
    }

    /// From now on an attempt takes its time, until [`let_go`](Self::let_go).
    pub(super) fn hold_back(&self) {
        self.system.lock().held_back = true;
    }

    pub(super) fn let_go(&self) {
        self.system.lock().held_back = false;
        self.changed.notify_all();
    }

    /// Waits until an attempt takes its time.
    pub(super) fn wait_for_visit(&self) {
        let mut s = self.system.lock();
        while !s.visited {
            self.changed.wait(&mut s);
        }
    }

    /// An attempt has been made, and stays here for as long as it is to.
    fn linger(&self, mut s: MutexGuard<'_, System>) {
        if s.held_back {
            s.visited = true;
            self.changed.notify_all();
        }
        while s.held_back {
            self.changed.wait(&mut s);
        }
    }

    /// Bytes that nobody has received.
    pub(super) fn unread(&self) -> usize {
        self.system.lock().there.len()
    }

    /// What was sent.
    pub(super) fn sent(&self) -> Vec<u8> {
        self.system.lock().sent.clone()
    }

    fn change(self: &Arc<Self>, direction: Direction, f: impl FnOnce(&mut System)) {
        let mut s = self.system.lock();
        f(&mut s);
        s.sleepers.retain(|(mark, d)| {
            if *d == direction {
                mark.make_ready();
            }
            *d != direction
        });
        drop(s);
        self.bench.tell(self.clone(), direction);
    }
}

impl Socket for Wire {
    fn recv(&self, room: &mut Room<'_>) -> io::Result<usize> {
        self.edges.attempt(Direction::Read, || {
            let mut s = self.system.lock();
            if !s.is_ready(Direction::Read) {
                self.linger(s);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = room.put(&s.there);
            s.there.drain(..n);
            self.linger(s);
            Ok(n)
        })
    }

    fn send(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        self.edges.attempt(Direction::Write, || {
            let mut s = self.system.lock();
            if s.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let bytes: Vec<u8> = pieces.iter().flat_map(|p| p.iter().copied()).skip(skip).take(s.room).collect();
            s.room -= bytes.len();
            s.sent.extend_from_slice(&bytes);
            self.linger(s);
            Ok(bytes.len())
        })
    }

    fn accept(&self) -> io::Result<Connected> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn finish_connect(&self) -> io::Result<Option<SocketAddr>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_linger(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn is_ready(&self, direction: Direction) -> bool {
        self.system.lock().is_ready(direction)
    }

    fn arm(&self, direction: Direction, waiter: Waiter) -> bool {
        self.edges.arm(direction, waiter)
    }

    fn disarm(&self, direction: Direction, waiter: &Waiter) {
        self.edges.disarm(direction, waiter);
    }

    fn wait_here(&self, direction: Direction, bell: &Bell, timeout: Option<Duration>) -> Option<()> {
        let mut s = self.system.lock();
        if s.is_ready(direction) {
            return Some(());
        }
        s.sleepers.push((bell.mark().clone(), direction));
        drop(s);
        if timeout.is_some() {
            self.bench.state.lock().sleepers.push(bell.mark().clone());
        }
        bell.wait(timeout);
        Some(())
    }

    fn prepare(&self, _: &SocketOptions) -> io::Result<()> {
        Ok(())
    }

    fn set_option(&self, _: RuntimeOption) -> io::Result<()> {
        Ok(())
    }
}

/// A connection to give to a level.
pub(super) fn connected(wire: &Arc<Wire>) -> Connected {
    Connected::new(Sock::new(wire.clone()), None, None)
}
