//! The loops of callbacks: each that is called begins the next op, and a thread waits for the last.
//! Invariant: nothing is allocated an op but what the engine and the closure need.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use xio_peers::raw::warm_up;
use xio_stacks::{Error, ErrorKind, Handle};

use super::Which;
use super::blocking::expect;
use super::future::{body, room};
use super::plan::{Moment, Plan, Shot};

/// One write in so many looks how many are under way.
const LOOK: usize = 256;

/// Whole ops of one handle, as many chains as ops may be under way.
pub(super) fn ops(plan: &Plan, handle: &Handle, ops: usize) -> io::Result<Shot> {
    let run = |ops| match plan.which {
        Which::Read => read_all(plan, handle, ops, plan.size, plan.outstanding),
        Which::Write => pour(plan, handle, ops).map(drop),
    };
    run(warm_up(ops))?;
    let start = Moment::now();
    run(ops)?;
    start.row(Moment::now(), plan.size, ops, None)
}

/// Round trips.
pub(super) fn ping(plan: &Plan, handle: &Handle, trips: usize, took: &mut Vec<u32>) -> Result<(), Error> {
    let log = Mutex::new((std::mem::take(took), Instant::now()));
    let game = Arc::new(Game::new(plan, handle, trips, Some(log)));
    game.clone().serve(room(plan.size));
    game.end.wait()?;
    if let Some(log) = &game.log {
        *took = std::mem::take(&mut lock(log).0);
    }
    Ok(())
}

/// Answers.
pub(super) fn pong(plan: &Plan, handle: &Handle, trips: usize) -> Result<(), Error> {
    let game = Arc::new(Game::new(plan, handle, trips, None));
    game.clone().receive(room(plan.size));
    game.end.wait()?;
    handle.flush().wait()
}

/// One side of a ping-pong.
struct Game {
    handle: Handle,
    body: Bytes,
    size: usize,
    borders: bool,
    left: AtomicUsize,
    /// Round trips and the end of the last one; the side that serves keeps it.
    log: Option<Mutex<(Vec<u32>, Instant)>>,
    end: End,
}

impl Game {
    fn new(plan: &Plan, handle: &Handle, trips: usize, log: Option<Mutex<(Vec<u32>, Instant)>>) -> Self {
        let left = AtomicUsize::new(trips);
        let (handle, body) = (handle.clone(), body(plan.size));
        Self { handle, body, size: plan.size, borders: plan.borders, left, log, end: End::default() }
    }

    /// Writes, then reads what comes back.
    fn serve(self: Arc<Self>, buf: BytesMut) {
        self.write();
        self.receive(buf);
    }

    fn write(self: &Arc<Self>) {
        let me = self.clone();
        self.handle.write(self.body.clone()).then(move |r| {
            if let Err(f) = r {
                me.end.fail(f.error);
            }
        });
    }

    fn receive(self: Arc<Self>, buf: BytesMut) {
        let me = self.clone();
        let call = self.handle.read(buf);
        let call = if self.borders { call } else { call.wait_for(self.size) };
        call.then(move |r| match r {
            Ok(done) if done.n == me.size => me.received(done.buf),
            Ok(done) => me.end.fail(short(done.n, me.size)),
            Err(f) => me.end.fail(f.error),
        });
    }

    fn received(self: Arc<Self>, mut buf: BytesMut) {
        buf.clear();
        if let Some(log) = &self.log {
            let mut log = lock(log);
            let now = Instant::now();
            let took = u32::try_from((now - log.1).as_nanos()).unwrap_or(u32::MAX);
            log.0.push(took);
            log.1 = now;
        } else {
            self.write();
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.end.set(Ok(()));
        } else if self.log.is_some() {
            self.serve(buf);
        } else {
            self.receive(buf);
        }
    }
}

/// Writes messages, `outstanding` of them at once.
pub(super) fn pour(plan: &Plan, handle: &Handle, messages: usize) -> Result<Option<f64>, Error> {
    let writes = Arc::new(Writes {
        handle: handle.clone(),
        body: body(plan.size),
        to_begin: AtomicUsize::new(messages),
        left: AtomicUsize::new(messages),
        seen: AtomicU64::new(0),
        looks: AtomicU64::new(0),
        end: End::default(),
    });
    for _ in 0..plan.outstanding {
        writes.begin();
    }
    writes.end.wait()?;
    let looks = writes.looks.load(Ordering::Relaxed);
    Ok((looks > 0).then(|| writes.seen.load(Ordering::Relaxed) as f64 / looks as f64))
}

struct Writes {
    handle: Handle,
    body: Bytes,
    to_begin: AtomicUsize,
    left: AtomicUsize,
    seen: AtomicU64,
    looks: AtomicU64,
    end: End,
}

impl Writes {
    /// Begins the next write, if there is one.
    fn begin(self: &Arc<Self>) {
        let Ok(n) = self.to_begin.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) else {
            return;
        };
        if n % LOOK == 0 {
            self.seen.fetch_add(u64::from(self.handle.outstanding().1), Ordering::Relaxed);
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
        let me = self.clone();
        self.handle.write(self.body.clone()).then(move |r| match r {
            Err(f) => me.end.fail(f.error),
            Ok(_) => {
                if me.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    me.end.set(Ok(()));
                }
                me.begin();
            }
        });
    }
}

/// Reads as many messages.
pub(super) fn drain(plan: &Plan, handle: &Handle, messages: usize) -> Result<(), Error> {
    if plan.borders {
        return read_all(plan, handle, messages, plan.size, 1);
    }
    let left = plan.size as u64 * messages as u64;
    read(handle, left, plan.recv, 1, |n| Ok(n as u64))
}

/// Reads so many whole messages, `chains` at once.
fn read_all(plan: &Plan, handle: &Handle, messages: usize, room: usize, chains: u32) -> Result<(), Error> {
    let size = plan.size;
    expect(plan, room)?;
    read(handle, messages as u64, room, chains, move |n| if n == size { Ok(1) } else { Err(short(n, size)) })
}

/// Reads until `left` is used up; `worth` says how much of it one read is.
fn read(
    handle: &Handle,
    left: u64,
    size: usize,
    chains: u32,
    worth: impl Fn(usize) -> Result<u64, Error> + Send + Sync + 'static,
) -> Result<(), Error> {
    let reads = Arc::new(Reads { handle: handle.clone(), left: AtomicU64::new(left), worth, end: End::default() });
    for _ in 0..u64::from(chains).min(left) {
        reads.clone().begin(room(size));
    }
    reads.end.wait()
}

struct Reads<F> {
    handle: Handle,
    left: AtomicU64,
    worth: F,
    end: End,
}

impl<F: Fn(usize) -> Result<u64, Error> + Send + Sync + 'static> Reads<F> {
    fn begin(self: Arc<Self>, buf: BytesMut) {
        let me = self.clone();
        self.handle.read(buf).then(move |r| {
            let worth = match &r {
                Ok(done) => (me.worth)(done.n),
                Err(f) => Err(f.error.clone()),
            };
            match (worth, r) {
                (Ok(worth), Ok(done)) => {
                    let was = me.left.fetch_sub(worth.min(me.left.load(Ordering::Relaxed)), Ordering::Relaxed);
                    if was <= worth {
                        return me.end.set(Ok(()));
                    }
                    let mut buf = done.buf;
                    buf.clear();
                    me.begin(buf);
                }
                (Err(e), _) => me.end.fail(e),
                (Ok(_), Err(f)) => me.end.fail(f.error),
            }
        });
    }
}

fn short(n: usize, size: usize) -> Error {
    Error::new(ErrorKind::Protocol).detail(format!("{n} bytes instead of {size}"))
}

/// What the thread that began it all waits for.
#[derive(Default)]
struct End {
    state: Mutex<Option<Result<(), Error>>>,
    changed: Condvar,
}

impl End {
    /// The first result stays.
    fn set(&self, result: Result<(), Error>) {
        lock(&self.state).get_or_insert(result);
        self.changed.notify_all();
    }

    fn fail(&self, error: Error) {
        self.set(Err(error));
    }

    fn wait(&self) -> Result<(), Error> {
        let mut state = lock(&self.state);
        loop {
            if let Some(result) = state.take() {
                return result;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}
