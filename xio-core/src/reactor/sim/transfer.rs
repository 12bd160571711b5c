//! What a socket does once it is there: move bytes, end, close, and tell who waits. Invariant: a
//! socket that is ready has no waiter; whoever makes it ready hands the waiter out.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use super::adopted::Adopted;
use super::net::{Id, Mark, Slot, State, What, World};
use crate::io::Direction;
use crate::reactor::{Waiter, Waiters};

impl World {
    /// Whether a transfer that could move bytes says that it would block.
    pub(super) fn balks(&mut self, id: Id) -> bool {
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

    pub(super) fn connected(&mut self, id: Id) -> io::Result<SocketAddr> {
        let Some(e) = self.end(id) else { return Err(ErrorKind::NotConnected.into()) };
        match e.state {
            State::Connecting => Err(ErrorKind::WouldBlock.into()),
            State::Failed(why) => Err(why.into()),
            State::Up => Ok(e.peer),
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
                e.waiters = Default::default();
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
            Some(Slot::End(_) | Slot::Packets(_)) => {
                self.remove(id);
            }
            None => {}
        }
    }

    /// Gives up an end that no socket was made for.
    pub(super) fn abandon(&mut self, id: Id) {
        if let Some(e) = self.end(id) {
            e.linger = Some(Duration::ZERO);
            self.close(id);
        }
    }

    /// Forgets a connection both of whose ends are closed.
    pub(super) fn tidy(&mut self, id: Id) {
        let Some(other) = self.end(id).filter(|e| e.closed).map(|e| e.other) else { return };
        if self.end(other).is_none_or(|e| e.closed) {
            self.remove(other);
            self.remove(id);
        }
    }

    pub(super) fn is_ready(&self, id: Id, direction: Direction) -> bool {
        match self.slots.get(&id) {
            None => true,
            Some(Slot::Listener(l)) => direction == Direction::Read && !l.backlog.is_empty(),
            Some(Slot::Packets(p)) => direction == Direction::Write || p.is_readable(),
            Some(Slot::End(e)) => match (e.state, direction) {
                (State::Connecting, _) => false,
                (State::Failed(_), _) => true,
                (State::Up, Direction::Read) => !e.unread.is_empty() || e.eof || e.error.is_some() || e.reset,
                (State::Up, Direction::Write) => e.error.is_some() || e.reset || e.shut || e.used < self.config.buffer,
            },
        }
    }

    /// Those who wait for a direction of a socket.
    pub(super) fn waiters(&mut self, id: Id, direction: Direction) -> Option<&mut Waiters> {
        match (self.slots.get_mut(&id)?, direction) {
            (Slot::Listener(l), Direction::Read) => Some(&mut l.waiters),
            (Slot::Listener(_), Direction::Write) => None,
            (Slot::Packets(p), Direction::Read) => Some(&mut p.waiters),
            // A datagram goes at once, or nowhere.
            (Slot::Packets(_), Direction::Write) => None,
            (Slot::End(e), d) => e.waiters.get_mut(d as usize),
        }
    }

    /// Hands out those who wait for a socket that is ready now.
    pub(super) fn wake(&mut self, id: Id) {
        for d in [Direction::Read, Direction::Write] {
            if self.is_ready(id, d) {
                let mut waiters = self.waiters(id, d).map(std::mem::take).unwrap_or_default();
                waiters.move_to(&mut self.ready);
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
        let mut out: String = self.adopted.values().flat_map(Adopted::waiting).collect();
        for slot in self.slots.values() {
            let (peer, waits) = match slot {
                Slot::Listener(l) => (None, [l.waiters.len(), 0]),
                Slot::Packets(p) => (Some(p.local), [p.waiters.len(), 0]),
                Slot::End(e) => (Some(e.peer), [e.waiters[0].len(), e.waiters[1].len()]),
            };
            for what in [("read", waits[0]), ("write", waits[1])].iter().filter(|(_, w)| *w > 0).map(|(t, _)| *t) {
                let what = if peer.is_none() { "accept" } else { what };
                let peer = peer.map(|p| format!(" from {p}")).unwrap_or_default();
                out.push_str(&format!("; {} waits to {what}{peer}", slot.local()));
            }
        }
        out
    }
}
