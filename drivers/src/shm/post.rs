//! What an open connection does outside of its handle's lock: waits for the peer, wakes it, hears of its end.
//! Invariant: system calls of a connection are made here and nowhere else; every wait ends by itself after a
//! moment, or with the socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::Timespec;
use rustix::thread::futex;
use xio_core::buffer::{Piece, Room};
use xio_core::io::{Connected, Direction, Io, RuntimeOption, Sock, Socket, SocketOptions};
use xio_core::reactor::{Bell, Waiter};

use super::map::Map;
use super::meet::{LOOK, REFUSED, Rings};
use super::memory::Memory;
use super::ring::{BELL, FUTEX, Side, is_idle, may_sleep};

/// How long a blocking caller sleeps where nobody but the peer can wake it. Longer than the system's tick: a timer
/// that is not the next one to go off costs nothing (a fifth of a round trip on one CPU, measured).
const PATIENCE: Duration = Duration::from_millis(8);
/// Looks at the ring between two looks at the clock.
const LOOKS: u32 = 64;
/// Bytes taken off the socket in one go.
const BYTES: usize = 64;
/// How often in one turn.
const GULPS: u32 = 16;

/// What the level and its requests share.
pub(super) struct Shared {
    pub(super) rx: Arc<Map>,
    pub(super) tx: Arc<Map>,
    socket: Sock,
    /// The peer's end of the socket is closed.
    dead: AtomicBool,
    refused: AtomicBool,
    /// By direction: the peer's position when the level last found nothing to do.
    seen: [AtomicU64; 2],
    /// By direction: how the peer's sleepers are to be woken.
    owed: [AtomicU32; 2],
    /// Nanoseconds.
    spin: AtomicU64,
}

/// What a request has done outside of the lock.
trait Job: Send + Sync {
    /// What it waits for.
    fn socket(&self) -> &dyn Socket;
    /// Whether it is done; if not, it is asked again when there is something on the socket.
    fn run(&self) -> bool;
    /// The same for a caller that has nothing better to do for a moment.
    fn run_patiently(&self, _: Direction) -> bool {
        self.run()
    }
}

/// Something came on the socket.
struct Door(Arc<Shared>);

impl Job for Door {
    fn socket(&self) -> &dyn Socket {
        self.0.socket.socket()
    }
    fn run(&self) -> bool {
        self.0.answer()
    }
}

/// The peer sleeps, and there is something for it.
struct Nudge(Arc<Shared>);

impl Job for Nudge {
    fn socket(&self) -> &dyn Socket {
        self.0.socket.socket()
    }
    fn run(&self) -> bool {
        self.0.nudge();
        true
    }
}

/// This end has nothing to do.
struct Wait(Arc<Shared>);

impl Job for Wait {
    fn socket(&self) -> &dyn Socket {
        self.0.socket.socket()
    }
    /// Whoever cannot wait here is held by its level.
    fn run(&self) -> bool {
        true
    }
    fn run_patiently(&self, direction: Direction) -> bool {
        self.0.wait(direction);
        true
    }
}

/// The requests of a connection.
pub(super) struct Posts {
    pub(super) door: Sock,
    pub(super) nudge: Sock,
    pub(super) wait: Sock,
}

impl Posts {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            door: Sock::new(Arc::new(Post(Door(shared.clone())))),
            nudge: Sock::new(Arc::new(Post(Nudge(shared.clone())))),
            wait: Sock::new(Arc::new(Post(Wait(shared.clone())))),
        }
    }
}

/// A call that is made again, whenever there is something to read, until it no longer would block.
pub(super) struct Call<T> {
    socket: Sock,
    f: Box<dyn Fn() -> io::Result<T> + Send + Sync>,
    came: Mutex<Option<io::Result<T>>>,
}

impl<T: Send + 'static> Call<T> {
    /// The call, and the request that makes it.
    pub(super) fn new(socket: Sock, f: impl Fn() -> io::Result<T> + Send + Sync + 'static) -> (Arc<Self>, Io) {
        let call = Arc::new(Self { socket, f: Box::new(f), came: Mutex::new(None) });
        let io = Io::Ready(Sock::new(Arc::new(Post(call.clone()))), Direction::Read);
        (call, io)
    }

    /// What it came to; nothing where it was for nothing.
    pub(super) fn take(&self) -> Option<io::Result<T>> {
        self.came.lock().take()
    }
}

impl<T: Send + 'static> Job for Arc<Call<T>> {
    fn socket(&self) -> &dyn Socket {
        self.socket.socket()
    }
    fn run(&self) -> bool {
        match (self.f)() {
            // What came since then is not to be waited for.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.socket.socket().is_ready(Direction::Read),
            came => {
                *self.came.lock() = Some(came);
                true
            }
        }
    }
}

impl Shared {
    pub(super) fn new(rings: &Rings, socket: Sock, spin: Duration) -> Self {
        let shared = Self {
            rx: rings.rx.clone(),
            tx: rings.tx.clone(),
            socket,
            dead: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            seen: Default::default(),
            owed: Default::default(),
            spin: AtomicU64::new(0),
        };
        shared.set_spin(spin);
        shared
    }

    pub(super) fn set_spin(&self, spin: Duration) {
        let nanos = if several_cpus() { u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX) } else { 0 };
        self.spin.store(nanos, Ordering::Relaxed);
    }

    /// Whether the peer's end of the socket is closed. What it had written before is in the ring.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// Notes the peer's position with which there was nothing to do.
    pub(super) fn note_seen(&self, direction: Direction, position: u64) {
        self.seen[direction as usize].store(position, Ordering::Relaxed);
    }

    /// The peer's sleepers are to be woken. Whether a request is to be made for that.
    pub(super) fn owe(&self, direction: Direction, flags: u32) -> bool {
        flags != 0 && self.owed[direction as usize].fetch_or(flags, Ordering::AcqRel) == 0
    }

    fn end(&self, direction: Direction) -> (&Map, Side) {
        match direction {
            Direction::Read => (&self.rx, Side::Reader),
            Direction::Write => (&self.tx, Side::Writer),
        }
    }

    /// Spins, then sleeps for a moment.
    fn wait(&self, direction: Direction) {
        let (ring, side) = self.end(direction);
        let seen = self.seen[direction as usize].load(Ordering::Relaxed);
        let idle = || is_idle(ring, side, seen) && !self.is_dead();
        let spin = self.spin.load(Ordering::Relaxed);
        if spin > 0 {
            let until = Instant::now() + Duration::from_nanos(spin);
            loop {
                for _ in 0..LOOKS {
                    if !idle() {
                        return;
                    }
                    std::hint::spin_loop();
                }
                if Instant::now() >= until {
                    break;
                }
            }
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !may_sleep(ring, side, seen, FUTEX) {
                break;
            }
            // Only what it is now: a waker that came meanwhile has taken the bit off.
            let now = ring.note(side.sleeps());
            if now & FUTEX != 0 {
                let left = Timespec::try_from(left).ok();
                let _ = futex::wait(ring.bed(side), futex::Flags::empty(), now, left.as_ref());
            }
            if !idle() {
                break;
            }
        }
        ring.lower(side.sleeps(), FUTEX);
    }

    /// Wakes whoever sleeps at the other end.
    fn nudge(&self) {
        let ends = [(Direction::Read, &self.rx, Side::Writer), (Direction::Write, &self.tx, Side::Reader)];
        for (direction, ring, peer) in ends {
            let flags = self.owed[direction as usize].swap(0, Ordering::AcqRel);
            if flags & FUTEX != 0 {
                let _ = futex::wake(ring.bed(peer), futex::Flags::empty(), i32::MAX as u32);
            }
            if flags & BELL != 0 {
                // Where it does not fit the peer has bytes to take off, and looks at the ring after that.
                let _ = self.socket.socket().send(&[Piece::inline(&[LOOK])], 0);
            }
        }
    }

    /// Takes off what is on the socket. Whether there was anything.
    fn answer(&self) -> bool {
        for gulp in 0..GULPS {
            let mut bytes = [0; BYTES];
            let mut room = Room::over(&mut bytes);
            let received = self.socket.socket().recv(&mut room);
            let got = room.got();
            match received {
                Ok(_) if got > 0 => {
                    if bytes[..got].contains(&REFUSED) {
                        self.refused.store(true, Ordering::Release);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return gulp > 0,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    self.dead.store(true, Ordering::Release);
                    return true;
                }
            }
        }
        true
    }
}

/// Whether it makes sense to spin.
fn several_cpus() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| std::thread::available_parallelism().is_ok_and(|n| n.get() > 1))
}

/// What such a socket is never asked.
fn never<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A job as the engine sees it: a socket that is ready when the job is done.
struct Post<J>(J);

impl<J: Job> Socket for Post<J> {
    fn is_ready(&self, _: Direction) -> bool {
        self.0.run()
    }

    fn is_ready_patiently(&self, direction: Direction) -> bool {
        self.0.run_patiently(direction)
    }

    fn arm(&self, _: Direction, waiter: Waiter) -> bool {
        self.0.socket().arm(Direction::Read, waiter)
    }

    fn disarm(&self, _: Direction, waiter: &Waiter) {
        self.0.socket().disarm(Direction::Read, waiter);
    }

    fn wait_here(&self, _: Direction, bell: &Bell, timeout: Option<Duration>) -> Option<()> {
        self.0.socket().wait_here(Direction::Read, bell, timeout)
    }

    fn recv(&self, _: &mut Room<'_>) -> io::Result<usize> {
        never()
    }
    fn send(&self, _: &[Piece], _: usize) -> io::Result<usize> {
        never()
    }
    fn accept(&self) -> io::Result<Connected> {
        never()
    }
    fn finish_connect(&self) -> io::Result<Option<SocketAddr>> {
        never()
    }
    fn shutdown_write(&self) -> io::Result<()> {
        never()
    }
    fn set_linger(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
    fn prepare(&self, _: &SocketOptions) -> io::Result<()> {
        Ok(())
    }
    fn set_option(&self, _: RuntimeOption) -> io::Result<()> {
        never()
    }
}
