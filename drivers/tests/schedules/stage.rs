//! What a schedule stands on: an engine whose reactor has no sockets and whose clock the test moves, a pair of
//! handles, and a record of what went in and came out. Invariant: a record asserts; whoever reads it has nothing
//! left to compare.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shuttle::rand::Rng;
use shuttle::thread;
use xio_core::attr::Size;
use xio_core::io::{Connected, Sock, SocketOptions};
use xio_core::reactor::{Reactor, Waiter};
use xio_core::time::Time;
use xio_core::{Engine, ErrorKind, Failed, Handle, LevelNode, ReadDone, WriteDone};
use xio_drivers::loop_;

/// A reactor without sockets: it sleeps until it is woken, or until the test moves the clock.
#[derive(Default)]
pub(super) struct Rest {
    state: shuttle::sync::Mutex<(Duration, bool)>,
    changed: shuttle::sync::Condvar,
}

impl Rest {
    pub(super) fn pass(&self, d: Duration) {
        self.state.lock().unwrap().0 += d;
        self.changed.notify_all();
    }
}

fn nothing<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Reactor for Rest {
    fn now(&self) -> Time {
        Time::ZERO + self.state.lock().unwrap().0
    }
    fn random(&self) -> u64 {
        4
    }
    fn is_virtual(&self) -> bool {
        false
    }
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        nothing()
    }
    fn connect(&self, _: SocketAddr, _: &SocketOptions) -> io::Result<(Sock, bool)> {
        nothing()
    }
    fn listen(&self, _: SocketAddr, _: &SocketOptions) -> io::Result<Connected> {
        nothing()
    }
    fn adopt(&self, _: OwnedFd, _: &SocketOptions) -> io::Result<Connected> {
        nothing()
    }
    fn wait(&self, timeout: Option<Duration>, _: &mut Vec<Waiter>) -> io::Result<()> {
        let mut s = self.state.lock().unwrap();
        let until = timeout.map(|t| s.0 + t);
        while !s.1 && until.is_none_or(|u| s.0 < u) {
            s = self.changed.wait(s).unwrap();
        }
        s.1 = false;
        Ok(())
    }
    fn wake(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What happened in one schedule.
#[derive(Default)]
pub(super) struct Record {
    /// Ops that were begun and have not ended.
    open: AtomicU32,
    /// What went in, by writer, and what came out, in runs.
    sent: Mutex<Vec<u8>>,
    got: Mutex<Vec<Vec<u8>>>,
}

type Read = Result<ReadDone, Failed<ReadDone>>;
type Write = Result<WriteDone, Failed<WriteDone>>;

impl Record {
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, r: Read) -> Option<ErrorKind> {
        assert!(self.open.fetch_sub(1, Ordering::Relaxed) > 0, "an op ended twice");
        let (kind, done) = match r {
            Ok(done) => (None, done),
            Err(e) => (Some(e.kind()), e.back),
        };
        assert!(kind.is_some() || done.n > 0, "a read of nothing");
        let bytes = done.into_bytes();
        if !bytes.is_empty() {
            self.got.lock().unwrap().push(bytes.to_vec());
        }
        kind
    }

    pub(super) fn write(&self, text: &[u8], r: Write) {
        assert!(self.open.fetch_sub(1, Ordering::Relaxed) > 0, "an op ended twice");
        let n = match r {
            Ok(done) => done.n,
            Err(e) => e.back.n,
        };
        self.sent.lock().unwrap().extend_from_slice(&text[..n]);
    }

    /// What came out is what went in, each writer's bytes in its order within every run.
    pub(super) fn balances(&self) {
        let (mut sent, got) = (self.sent.lock().unwrap().clone(), self.got.lock().unwrap());
        for run in got.iter() {
            for writer in 0..4 {
                let mine: Vec<_> = run.iter().filter(|b| *b >> 6 == writer).collect();
                assert!(mine.is_sorted(), "out of order: {run:?}");
            }
        }
        let mut all = got.concat();
        sent.sort_unstable();
        all.sort_unstable();
        assert_eq!(all, sent, "lost or doubled");
    }

    /// Every op ends; its callback may still have to run on another thread.
    pub(super) fn is_over(&self) {
        assert!(soon(|| self.open.load(Ordering::Relaxed) == 0), "an op never ended");
    }
}

/// One schedule's stage.
pub(super) struct Stage {
    pub(super) rest: Arc<Rest>,
    pub(super) engine: Engine,
    pub(super) near: Handle,
    pub(super) far: Handle,
    pub(super) record: Arc<Record>,
}

pub(super) fn dice(n: u32) -> u32 {
    shuttle::rand::thread_rng().gen_range(0..n)
}

pub(super) fn stage(over: impl FnOnce(LevelNode) -> LevelNode) -> Stage {
    let rest = Arc::new(Rest::default());
    let builder = Engine::builder().reactor(rest.clone()).pool_threads(1);
    let engine = if dice(2) == 0 { builder } else { builder.owner_driven() }.build().unwrap();
    let options = loop_::Options::default().with_buffer(Size(u64::from(1 + dice(4))));
    let (near, far) = loop_::pair_of(&engine, options, over).unwrap();
    Stage { rest, engine, near, far, record: Arc::default() }
}

/// Whether something comes to be that others are about to do.
fn soon(f: impl Fn() -> bool) -> bool {
    (0..1000).any(|_| {
        thread::yield_now();
        f()
    })
}

pub(super) fn lets_go(engine: &Engine) {
    assert!(soon(|| engine.handles() == 0), "a handle is left");
}
