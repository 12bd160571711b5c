//! What is done with a stack, with a fault somewhere. Invariant: a step is noted when it begins and told
//! when it is over. Ops have no deadlines: what waits for something that a fault has eaten ends with its
//! handle, and with nothing else.

use std::cell::Cell;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::cntl::{LocalContact, PathInfo};
use xio_core::driver::Shape;
use xio_core::io::Direction;
use xio_core::{CloseMode, Contact, Error, ErrorKind, Handle, Server, Ticket};
use xio_drivers::pick::Reopen;
use xio_testkit::World;
use xio_testkit::bench::{LONG, Tell};
use xio_testkit::dice::pattern;

/// What is done, by name.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "listen", run: |p| drop(p.listen()), wants: &[] },
    Scenario { name: "nobody there", run: nobody, wants: &[K::Refused, K::NotFound, K::InvalidContact] },
    Scenario { name: "open", run: |p| drop(p.meet()), wants: &[] },
    Scenario { name: "an open is given up", run: given_up, wants: &[K::TimedOut] },
    Scenario { name: "read", run: read, wants: &[] },
    Scenario { name: "write", run: write, wants: &[] },
    Scenario { name: "write much", run: much, wants: &[] },
    Scenario { name: "both ways", run: both_ways, wants: &[] },
    Scenario { name: "readiness", run: readiness, wants: &[] },
    Scenario { name: "cancel", run: cancel, wants: &[] },
    Scenario { name: "deadline", run: deadline, wants: &[K::TimedOut] },
    Scenario { name: "half close", run: half_close, wants: &[K::Unsupported] },
    Scenario { name: "close in the middle", run: |p| middle(p, CloseMode::Graceful), wants: &[K::TimedOut] },
    Scenario { name: "abort in the middle", run: |p| middle(p, CloseMode::Abort), wants: &[] },
    Scenario { name: "dropped in the middle", run: dropped, wants: &[] },
    Scenario { name: "commands", run: commands, wants: &[] },
    Scenario { name: "reopen", run: reopen, wants: &[] },
];

/// What takes memory of its size: many system calls and few allocations.
pub(crate) const LARGE: &[Scenario] =
    &[Scenario { name: "long messages", run: long, wants: &[K::Truncated { len: 0 }] }];

use ErrorKind as K;

/// One of them.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Play<'_>),
    /// Errors it may end with by itself.
    pub(crate) wants: &'static [ErrorKind],
}

impl Scenario {
    pub(crate) fn wants(&self, kind: ErrorKind) -> bool {
        // However long the message was.
        self.wants.iter().any(|w| std::mem::discriminant(w) == std::mem::discriminant(&kind))
    }
}

/// How a step was over.
pub(crate) type Outcome = (&'static str, Option<Error>);

/// A scenario that is played.
pub(crate) struct Play<'w> {
    pub(crate) w: &'w World,
    pub(crate) at: Contact,
    pub(crate) begun: Cell<usize>,
    pub(crate) told: Tell<Outcome>,
    /// Ends whose peers cannot tell them that there is no more.
    pub(crate) alone: Tell<Handle>,
}

/// Both ends.
struct Met {
    near: Handle,
    far: Vec<Handle>,
    _server: Option<Listening>,
}

/// A server that closes: whoever waits for a connection keeps it open.
struct Listening(Server);

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.0.close();
    }
}

impl Play<'_> {
    /// The scenario is over.
    pub(crate) fn end(&self) {
        for h in self.alone.take() {
            h.close().mode(CloseMode::Abort).then(drop);
        }
    }

    /// A step begins; what tells that it is over.
    fn begin<T, E>(&self, op: &'static str) -> impl FnOnce(Result<T, E>) + Send + use<T, E>
    where
        Error: From<E>,
    {
        self.begun.set(self.begun.get() + 1);
        let told = self.told.clone();
        move |r| told.note((op, r.err().map(Error::from)))
    }

    fn listen(&self) -> Option<Listening> {
        if !self.w.caps().accepts {
            return None;
        }
        let tell = self.begin("listen");
        let r = self.w.engine.listen(&self.w.far, &self.at).deadline(LONG).wait();
        let server = r.as_ref().ok().cloned();
        tell(r);
        server.map(Listening)
    }

    fn open(&self, to: &Contact, limit: Duration) -> Option<Handle> {
        let opened = Tell::new();
        let (note, tell) = (opened.clone(), self.begin("open"));
        self.w.open(to.clone()).deadline(limit).then(move |r| {
            r.iter().for_each(|h| note.note(h.clone()));
            tell(r);
        });
        self.w.run();
        opened.take().pop()
    }

    /// Opens; where there is a server, with whoever it accepts.
    fn meet(&self) -> Option<Met> {
        if !self.w.caps().accepts {
            let near = self.open(&self.at, LONG)?;
            return Some(Met { near, far: Vec::new(), _server: None });
        }
        let server = self.listen()?;
        let came = Tell::new();
        // One more than can come: it ends with the server.
        for _ in 0..=self.w.near_paths().len() {
            let (tell, opened, came) = (self.begin("accept"), self.begin::<_, Error>("open a link"), came.clone());
            server.0.accept().then(move |r| match r {
                Ok(link) => {
                    tell(Ok::<_, Error>(()));
                    link.open().max_bytes(1 << 40).deadline(LONG).then(move |r| {
                        r.iter().for_each(|h| came.note(h.clone()));
                        opened(r.map(drop));
                    });
                }
                Err(e) => {
                    tell(Err(e));
                    opened(Ok(()));
                }
            });
        }
        let near = self.open(server.0.contact(), LONG)?;
        let far = came.take();
        if !self.w.caps().connected {
            far.iter().for_each(|h| self.alone.note(h.clone()));
        }
        Some(Met { near, far, _server: Some(server) })
    }

    fn read(&self, h: &Handle, take: bool) -> Ticket {
        let call = if take { h.take(300) } else { h.read(BytesMut::with_capacity(300)) };
        call.then(self.begin("read"))
    }

    fn write(&self, h: &Handle, n: usize) -> Ticket {
        h.write(pattern(1, 0, n)).then(self.begin("write"))
    }

    fn close(&self, h: &Handle, mode: CloseMode) {
        h.close().mode(mode).deadline(LONG).then(self.begin("close"));
        self.w.run();
    }

    /// Lets the far ends read until there is nothing more.
    fn drain(&self, m: &Met) {
        for h in &m.far {
            drain(h.clone());
        }
        self.w.run();
    }
}

fn drain(h: Handle) {
    let again = h.clone();
    h.take(1000).then(move |r| {
        if r.is_ok() {
            drain(again);
        }
    });
}

fn nobody(p: &Play<'_>) {
    // Where somebody was.
    let Some(server) = p.listen() else { return };
    let contact = server.0.contact().clone();
    drop(server);
    p.w.run();
    p.open(&contact, LONG);
}

fn given_up(p: &Play<'_>) {
    for limit in [0, 30, 300, 3000] {
        let Some(server) = p.listen() else { return };
        p.open(server.0.contact(), Duration::from_micros(limit));
    }
}

fn read(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    // One waits before there is something.
    p.read(&m.near, false);
    m.far.iter().for_each(|h| drop(p.write(h, 50)));
    p.w.run();
    m.far.iter().for_each(|h| drop(p.write(h, 70)));
    p.read(&m.near, true);
    p.w.run();
    p.close(&m.near, CloseMode::Abort);
}

fn write(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    for n in [1, 100, 1000] {
        p.write(&m.near, n);
    }
    m.near.flush().then(p.begin("flush"));
    p.drain(&m);
    p.close(&m.near, CloseMode::Graceful);
}

fn much(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    for _ in 0..3 {
        p.write(&m.near, 700);
    }
    p.w.run();
    p.drain(&m);
    p.write(&m.near, 700);
    p.w.run();
}

fn both_ways(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    for take in [true, false] {
        m.far.iter().chain([&m.near]).for_each(|h| drop(p.write(h, 120)));
        m.far.first().into_iter().chain([&m.near]).for_each(|h| drop(p.read(h, take)));
    }
    p.w.run();
    p.close(&m.near, CloseMode::Abort);
    m.far.iter().for_each(|h| p.close(h, CloseMode::Abort));
}

/// More than fits a block of a read. What is written was there before.
fn long(p: &Play<'_>) {
    static DATA: [u8; 700_000] = [7; 700_000];
    let Some(m) = p.meet() else { return };
    let most = p.w.caps().max_message.unwrap_or(usize::MAX);
    for h in m.far.iter().chain([&m.near]) {
        for n in [300_000, 700_000].map(|n| most.min(n)) {
            h.write(Bytes::from_static(&DATA[..n])).then(p.begin("write"));
        }
    }
    for h in m.far.iter().chain([&m.near]) {
        for most in [10, 1 << 20, 1000, 1 << 20] {
            h.take(most).then(p.begin("read"));
        }
    }
    p.w.run();
    p.close(&m.near, CloseMode::Abort);
}

fn readiness(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    for d in [Direction::Read, Direction::Write] {
        m.near.ready(d).then(p.begin("ready"));
    }
    m.far.iter().for_each(|h| drop(p.write(h, 10)));
    p.w.run();
    p.close(&m.near, CloseMode::Abort);
}

fn cancel(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    let read = p.read(&m.near, false);
    let writes = [p.write(&m.near, 900), p.write(&m.near, 900)];
    p.w.run();
    read.cancel();
    writes.iter().rev().for_each(Ticket::cancel);
    p.w.run();
    p.drain(&m);
    p.close(&m.near, CloseMode::Graceful);
}

fn deadline(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    let soon = Duration::from_millis(3);
    m.near.read(BytesMut::with_capacity(10)).deadline(soon).then(p.begin("read"));
    m.near.write(pattern(1, 0, 900)).deadline(soon).then(p.begin("write"));
    m.near.ready(Direction::Read).deadline(soon).then(p.begin("ready"));
    p.w.run_for(soon * 2);
    p.drain(&m);
    p.close(&m.near, CloseMode::Graceful);
}

fn half_close(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    p.write(&m.near, 200);
    m.near.shutdown().then(p.begin("shutdown"));
    p.drain(&m);
    for h in &m.far {
        p.write(h, 20);
        h.shutdown().then(p.begin("shutdown"));
    }
    p.w.run();
    for _ in 0..3 {
        p.read(&m.near, true);
        p.w.run();
    }
    p.close(&m.near, CloseMode::Graceful);
}

fn middle(p: &Play<'_>, mode: CloseMode) {
    let Some(m) = p.meet() else { return };
    p.read(&m.near, false);
    p.write(&m.near, 900);
    m.near.flush().then(p.begin("flush"));
    m.near.close().mode(mode).deadline(Duration::from_secs(1)).then(p.begin("close"));
    p.w.run_for(Duration::from_millis(1));
    p.drain(&m);
}

fn dropped(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    p.read(&m.near, false);
    p.write(&m.near, 900);
    m.near.ready(Direction::Read).then(p.begin("ready"));
    let Met { near, far, _server } = m;
    drop((near, _server));
    p.w.run_for(Duration::from_millis(1));
    drop(far);
}

fn commands(p: &Play<'_>) {
    let Some(m) = p.meet() else { return };
    // What a level does not know is an error of the command, not of the handle.
    let _ = (m.near.query(LocalContact), m.near.query(PathInfo));
    p.write(&m.near, 10);
    p.drain(&m);
    p.close(&m.near, CloseMode::Graceful);
}

/// Branches are lost, and come back.
fn reopen(p: &Play<'_>) {
    let stack = &p.w.near;
    let Some(top) = stack.levels().position(|l| l.driver().info().shape == Shape::Branching) else { return };
    let below = stack.levels().filter(|l| l.above() == Some(top));
    let labels: Vec<_> = below.filter_map(|l| l.label().map(str::to_owned)).collect();
    let id = stack.levels().nth(top).map(|l| l.id().to_owned()).unwrap_or_default();
    let Some(m) = p.meet() else { return };
    m.far.iter().for_each(|h| p.close(h, CloseMode::Graceful));
    p.read(&m.near, true);
    p.w.run();
    for label in labels {
        if m.near.cntl(&id, Reopen::new(label)).is_ok() {
            p.w.run();
        }
    }
    p.write(&m.near, 10);
    p.w.run();
    p.close(&m.near, CloseMode::Graceful);
}
