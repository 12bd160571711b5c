//! A driver whose levels a test makes itself, and what else the tests share.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::{Engine, Error, ErrorKind, Handle, Level, LevelNode, Stack};
use xio_drivers::loop_;

/// Long enough for anything that comes at all.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
pub(crate) const SHORT: Duration = Duration::from_millis(30);

xio_core::options! {
    /// A fixture has none.
    pub struct Options for "fixture" {}
}

type Make = Box<dyn Fn() -> Box<dyn Level> + Send + Sync>;

struct Fixture {
    info: Info,
    caps: Option<Caps>,
    sees: Intercepts,
    make: Make,
}

impl Driver for Fixture {
    fn info(&self) -> &Info {
        &self.info
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        if self.caps.is_some() { Needs::NOTHING } else { Needs::ANY }
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        self.caps.clone().or_else(|| below.first().map(|b| b.caps.clone())).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        self.sees
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok((self.make)())
    }
}

/// A level over one other.
pub(crate) fn transform<L: Level + 'static>(
    sees: Intercepts,
    make: impl Fn() -> L + Send + Sync + 'static,
) -> LevelNode {
    let info = Info::new("fixture", Shape::Transform, "for tests");
    LevelNode::new(Arc::new(Fixture { info, caps: None, sees, make: Box::new(move || Box::new(make())) }))
}

/// A level over branches.
pub(crate) fn branching<L: Level + 'static>(
    sees: Intercepts,
    make: impl Fn() -> L + Send + Sync + 'static,
) -> LevelNode {
    let info = Info::new("fixture", Shape::Branching, "for tests");
    LevelNode::new(Arc::new(Fixture { info, caps: None, sees, make: Box::new(move || Box::new(make())) }))
}

/// A level at the bottom.
pub(crate) fn transport<L: Level + 'static>(
    caps: Caps,
    sees: Intercepts,
    make: impl Fn() -> L + Send + Sync + 'static,
) -> LevelNode {
    let info = Info::new("fixture", Shape::Transport, "for tests");
    LevelNode::new(Arc::new(Fixture { info, caps: Some(caps), sees, make: Box::new(move || Box::new(make())) }))
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Opens a stack that needs no contact.
pub(crate) fn open(engine: &Engine, top: LevelNode) -> Handle {
    engine.open(&Stack::new(top).unwrap(), ()).deadline(LONG).wait().unwrap()
}

/// A pair over `loop` whose near end alone has the levels of `over`; both on `engine`.
pub(crate) fn over_loop(
    engine: &Engine,
    options: loop_::Options,
    over: impl FnOnce(LevelNode) -> LevelNode,
) -> (Handle, Handle) {
    let leaf = LevelNode::new(loop_::driver()).with_attr(Box::new(options));
    let server = engine.listen(&Stack::new(leaf.clone()).unwrap(), ()).wait().unwrap();
    let near = engine.open(&Stack::new(over(leaf)).unwrap(), server.contact()).deadline(LONG).wait().unwrap();
    let far = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    (near, far)
}

/// A callback that sends its outcome, and where it arrives.
pub(crate) fn results<T: Send + 'static>() -> (impl Fn() -> Reply<T>, Receiver<T>) {
    let (tx, rx) = mpsc::channel();
    (move || Reply(tx.clone()), rx)
}

pub(crate) struct Reply<T>(Sender<T>);

impl<T> Reply<T> {
    pub(crate) fn send(self, value: T) {
        // The test may be over.
        let _ = self.0.send(value);
    }
}

/// The outcome of a callback, which must come.
pub(crate) fn get<T>(rx: &Receiver<T>) -> T {
    rx.recv_timeout(LONG).expect("no outcome came")
}

/// That no further outcome comes.
pub(crate) fn none<T: std::fmt::Debug>(rx: &Receiver<T>) {
    if let Ok(v) = rx.recv_timeout(SHORT) {
        panic!("{v:?} came");
    }
}

pub(crate) fn room(n: usize) -> BytesMut {
    BytesMut::with_capacity(n)
}

/// Waits until `f` holds.
pub(crate) fn until(mut f: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !f() {
        assert!(start.elapsed() < LONG, "it never came to be");
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls once.
pub(crate) fn poll<F: Future + Unpin>(f: &mut F) -> Poll<F::Output> {
    pin!(f).poll(&mut Context::from_waker(&Waker::from(Arc::new(Unpark(std::thread::current())))))
}

/// Runs a future on this thread.
pub(crate) fn run<F: Future>(f: F) -> F::Output {
    let mut f = pin!(f);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let start = std::time::Instant::now();
    loop {
        if let Poll::Ready(v) = f.as_mut().poll(&mut Context::from_waker(&waker)) {
            return v;
        }
        assert!(start.elapsed() < LONG, "the future is never ready");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}
