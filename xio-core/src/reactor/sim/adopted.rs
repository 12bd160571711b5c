//! Unix sockets that somebody else made, in a simulation. Invariant: bytes go through the system, which for these moves
//! them at once, but word of them takes simulated time; so where both ends are in this simulation, equal runs stay equal.
//! It knows nothing of the network, which such sockets have no part in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::fault_error;
use super::fault::AcceptFault;
use super::net::{Event, Id, Mark, What, World};
use crate::buffer::{Piece, Room};
use crate::io::{Connected, Direction, RuntimeOption, Sock, Socket, SocketOptions};
use crate::reactor::{Bell, Epoll, Reactor, Waiter, Waiters};
use crate::sync::{Arc, Mutex};

/// The host that word of them comes from and goes to.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

/// What the network knows of one.
pub(super) struct Adopted {
    sock: Sock,
    waiters: [Waiters; 2],
    /// By direction: word that it is ready is on its way.
    told: [bool; 2],
    /// Where it is bound, and where its peer is.
    paths: [Option<PathBuf>; 2],
}

/// One as the engine holds it. It closes with its last owner.
struct Local {
    id: Id,
    world: Arc<Mutex<World>>,
    sock: Sock,
}

/// Takes one in. `maker` does the system calls, and never waits.
pub(super) fn adopt(
    world: &Arc<Mutex<World>>,
    maker: &Epoll,
    fd: OwnedFd,
    options: &SocketOptions,
) -> io::Result<Connected> {
    if socket2::SockRef::from(&fd).domain()? != socket2::Domain::UNIX {
        let text = "a simulated engine takes unix sockets in, no others: what they carry takes real time";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let mut made = maker.adopt(fd, options)?;
    made.sock = Local::sock(world, made.sock);
    Ok(made)
}

impl Local {
    fn sock(world: &Arc<Mutex<World>>, sock: Sock) -> Sock {
        let paths = sock.0.descriptor().map_or([None, None], paths);
        let mut w = world.lock();
        let id = w.number();
        w.note(Mark::Adopt, id, 0);
        let adopted = Adopted { sock: sock.clone(), waiters: Default::default(), told: [false; 2], paths };
        w.adopted.insert(id, adopted);
        Sock(Arc::new(Self { id, world: world.clone(), sock }))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let mut world = self.world.lock();
        world.note(Mark::Close, self.id, 0);
        world.adopted.remove(&self.id);
    }
}

impl World {
    /// Sends word of those that are ready to who waits for them.
    pub(super) fn look(&mut self) {
        let mut found = Vec::new();
        for (id, a) in &mut self.adopted {
            for d in BOTH {
                let waits = a.waiters[d as usize].len() > 0 && !a.told[d as usize];
                if waits && a.sock.0.is_ready(d) {
                    a.told[d as usize] = true;
                    found.push((*id, d));
                }
            }
        }
        for (to, direction) in found {
            let at = self.now + self.latency();
            let number = self.number();
            let what = What::Ready { to, direction };
            self.events.insert((at, number), Event { route: (HERE, HERE), due: at, what });
        }
    }

    /// Ends every connection one end of which is bound to `path`, as if its peer had died. How many that were.
    pub(super) fn kill(&mut self, path: &Path) -> usize {
        let is_it = |a: &&Adopted| a.paths.iter().flatten().any(|p| p == path);
        // One that listens has no write side.
        let ended = self.adopted.values().filter(is_it).filter(|a| a.sock.0.shutdown_write().is_ok()).count();
        self.note(Mark::Reset, 0, ended as u64);
        ended.div_ceil(2)
    }

    /// Word has come.
    pub(super) fn is_told(&mut self, id: Id, direction: Direction) {
        let Some(a) = self.adopted.get_mut(&id) else { return };
        a.told[direction as usize] = false;
        a.waiters[direction as usize].move_to(&mut self.ready);
        self.note(Mark::Ready, id, direction as u64);
    }
}

fn paths(fd: BorrowedFd<'_>) -> [Option<PathBuf>; 2] {
    let socket = socket2::SockRef::from(&fd);
    [socket.local_addr(), socket.peer_addr()].map(|a| a.ok()?.as_pathname().map(Path::to_owned))
}

impl Adopted {
    /// Who waits, in words.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &'static str> {
        let words = ["; a unix socket waits to read", "; a unix socket waits to write"];
        words.into_iter().zip(&self.waiters).filter(|(_, w)| w.len() > 0).map(|(text, _)| text)
    }
}

impl Socket for Local {
    fn recv(&self, room: &mut Room<'_>) -> io::Result<usize> {
        if self.world.lock().balks(self.id) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = self.sock.0.recv(room)?;
        self.world.lock().note(Mark::Recv, self.id, n as u64);
        Ok(n)
    }

    fn send(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        let n = self.sock.0.send(pieces, skip)?;
        self.world.lock().note(Mark::Send, self.id, n as u64);
        Ok(n)
    }

    fn accept(&self) -> io::Result<Connected> {
        if !self.sock.0.is_ready(Direction::Read) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let fault = self.world.lock().accept_faults.pop_front();
        if let Some(AcceptFault::TooManyFiles) = fault {
            return Err(fault_error(AcceptFault::TooManyFiles));
        }
        let mut made = self.sock.0.accept()?;
        if let Some(fault) = fault {
            return Err(fault_error(fault));
        }
        made.sock = Self::sock(&self.world, made.sock);
        Ok(made)
    }

    fn finish_connect(&self) -> io::Result<Option<SocketAddr>> {
        self.sock.0.finish_connect()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.sock.0.descriptor()
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.world.lock().note(Mark::Shut, self.id, 0);
        self.sock.0.shutdown_write()
    }

    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.sock.0.set_linger(linger)
    }

    fn is_ready(&self, direction: Direction) -> bool {
        self.sock.0.is_ready(direction)
    }

    fn arm(&self, direction: Direction, waiter: Waiter) -> bool {
        if let Some(a) = self.world.lock().adopted.get_mut(&self.id) {
            a.waiters[direction as usize].push(waiter);
        }
        true
    }

    fn disarm(&self, direction: Direction, waiter: &Waiter) {
        if let Some(a) = self.world.lock().adopted.get_mut(&self.id) {
            a.waiters[direction as usize].remove(waiter);
        }
    }

    fn wait_here(&self, _: Direction, _: &Bell, _: Option<Duration>) -> Option<()> {
        // Virtual time passes in turns only.
        None
    }

    fn prepare(&self, options: &SocketOptions) -> io::Result<()> {
        self.sock.0.prepare(options)
    }

    fn set_option(&self, option: RuntimeOption) -> io::Result<()> {
        self.sock.0.set_option(option)
    }
}
