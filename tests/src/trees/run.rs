//! Runs a program: opens the tree towards a peer a leaf, begins what the script says, reads everything
//! to its end, closes. Invariant: one thread; every outcome is a callback that tells the model.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use xio_core::attr::Group;
use xio_core::io::Direction;
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Contact, Engine, Error, Failed, Handle, ReadDone, Server, Ticket};
use xio_drivers::all;
use xio_stacks::Registry;

use super::model::{Brought, Model};
use super::script::{Program, Read, Step, Who};
use super::tree::Tree;

/// Real time that one wait may take: far above that of a close whose peer reads nothing (`CLOSE_TIME`).
const LONG: Duration = Duration::from_secs(60);
/// Ops that [`Step::Cancel`] can reach.
const LAST: usize = 4;

/// An open tree, its peers, and what they have done.
pub(crate) struct Bed {
    pub(crate) engine: Engine,
    pub(crate) sim: Option<Arc<Sim>>,
    pub(crate) near: Handle,
    pub(crate) far: Vec<Handle>,
    model: Arc<Mutex<Model>>,
    tickets: VecDeque<Ticket>,
    borders: bool,
    _servers: Vec<Server>,
}

/// Over real sockets and pipes.
///
/// # Panics
/// Where the model finds something else.
pub fn real(p: &Program) {
    run(p, Bed::open(&p.tree, p.one_server, None));
}

/// Over a simulated network; gives the fingerprint of everything that happened.
///
/// # Panics
/// Where the model finds something else.
pub fn simulated(p: &Program, seed: u64) -> u64 {
    // Some networks hold little: writes wait in the middle of anything.
    let buffer = [64 << 10, 1 << 10, 100][(seed % 3) as usize];
    let sim = Sim::with_config(seed, SimConfig::default().with_buffer(buffer));
    run(p, Bed::open(&p.tree, p.one_server, Some(sim.clone())));
    sim.hash()
}

fn run(p: &Program, mut bed: Bed) {
    for step in &p.steps {
        bed.step(&p.tree, step);
    }
    bed.finish(p.rest);
}

impl Bed {
    pub(crate) fn open(tree: &Tree, one_server: bool, sim: Option<Arc<Sim>>) -> Self {
        let builder = Engine::builder().owner_driven();
        let engine = match &sim {
            Some(sim) => builder.reactor(sim.clone()).build(),
            None => builder.build(),
        }
        .unwrap();
        let mut registry = Registry::new();
        all().into_iter().for_each(|d| registry.register(d).unwrap());
        let stack = |spec: &str| registry.stack(spec).unwrap_or_else(|e| panic!("{e}"));
        let whole = stack(&tree.spec);
        assert_eq!(whole.caps().unit.has_borders(), tree.borders, "{}", tree.spec);
        let at = |leaf: usize| {
            Contact::new(match (tree.leaves[leaf].is_tcp, sim.is_some()) {
                (true, true) => format!("10.0.0.1:{}", 7000 + leaf),
                (true, false) => "127.0.0.1:0".into(),
                (false, _) => format!("leaf-{leaf}"),
            })
        };
        let count = tree.leaves.len();
        let servers: Vec<Server> = if one_server {
            let all = (0..count).fold(Contact::None, |c, i| with_leaf(c, &tree.leaves[i].labels, at(i)));
            vec![engine.listen(&whole, all).wait().unwrap()]
        } else {
            let one = |i: usize| engine.listen(&stack(&tree.leaves[i].peer), at(i)).wait().unwrap();
            (0..count).map(one).collect()
        };
        let to = if one_server {
            servers[0].contact().clone()
        } else {
            let all = tree.leaves.iter().zip(&servers);
            all.fold(Contact::None, |c, (leaf, s)| with_leaf(c, &leaf.labels, s.contact().clone()))
        };
        let near = engine.open(&whole, to.clone()).max_ops(10_000).max_bytes(1 << 30).wait().unwrap();
        let mut far: Vec<Option<Handle>> = vec![None; count];
        for i in 0..count {
            let link = servers[if one_server { 0 } else { i }].accept().wait().unwrap();
            // One server takes them in any order.
            let is_it = |i: &usize| link.local() == leaf_of(&to, &tree.leaves[*i].labels);
            let leaf = if one_server { (0..count).find(is_it).expect("a link of some leaf") } else { i };
            let far = far[leaf].insert(link.open().max_ops(10_000).max_bytes(1 << 30).wait().unwrap());
            assert_eq!(far.caps().unit.has_borders(), tree.borders);
        }
        Self {
            engine,
            sim,
            near,
            far: far.into_iter().map(|f| f.expect("a link for each leaf")).collect(),
            model: Arc::new(Mutex::new(Model::new(tree))),
            tickets: VecDeque::new(),
            borders: tree.borders,
            _servers: servers,
        }
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    fn handle(&self, who: Who) -> &Handle {
        match who {
            Who::Near => &self.near,
            Who::Far(leaf) => &self.far[leaf],
        }
    }

    pub(crate) fn step(&mut self, tree: &Tree, step: &Step) {
        match *step {
            Step::Write { to, labels, near: true, len, pieces, limit } => {
                let leaf = tree.towards(to, labels);
                let group = tree.leaves[to].labels.iter().take(labels).cloned().collect::<Vec<_>>().join(".");
                self.write(leaf, Some(group).filter(|g| !g.is_empty()), true, len, pieces, limit);
            }
            Step::Write { to, len, pieces, limit, .. } => self.write(to, None, false, len, pieces, limit),
            Step::Read(who, read, limit) => self.read(who, read, limit),
            Step::Flush(who) => self.flush(who),
            Step::Ready(who, direction) => self.ready(who, direction),
            Step::Shutdown(who) => self.shutdown(who),
            Step::Cancel(back) => {
                if let Some(t) = self.tickets.iter().rev().nth(back) {
                    t.cancel();
                }
            }
            Step::Turn(turns) => {
                for _ in 0..turns {
                    self.engine.turn(Some(Duration::from_millis(1)));
                }
            }
            Step::Leave { leaf, abort } => self.go(Who::Far(leaf), abort),
            Step::Close { abort } => self.go(Who::Near, abort),
        }
    }

    fn keep(&mut self, ticket: Ticket) {
        self.tickets.push_back(ticket);
        if self.tickets.len() > LAST {
            self.tickets.pop_front();
        }
    }

    pub(crate) fn write(
        &mut self,
        leaf: usize,
        group: Option<String>,
        near: bool,
        len: usize,
        pieces: usize,
        limit: Option<Duration>,
    ) {
        // Of bytes, none are no write: `queue(early)` would give its attrs to the next one.
        let len = if self.borders { len } else { len.max(1) };
        let (bytes, number) = self.model().writes(leaf, near, len);
        let all = Bytes::from(bytes);
        let step = len.div_ceil(pieces).max(1);
        let mut pieces: Vec<Bytes> = (0..len).step_by(step).map(|at| all.slice(at..len.min(at + step))).collect();
        if pieces.is_empty() {
            pieces.push(Bytes::new());
        }
        let who = if near { Who::Near } else { Who::Far(leaf) };
        let tears = self.model().tears(leaf);
        let mut call = self.handle(who).write(pieces);
        if let Some(d) = limit.filter(|_| !tears) {
            call = call.deadline(d);
        }
        let group = group.map(Group);
        if let Some(g) = &group {
            call = call.attr(g.clone());
        }
        let model = self.model.clone();
        let ticket = call.then(move |r| {
            let (done, error) = match r {
                Ok(done) => (done, None),
                Err(f) => (f.back, Some(f.error.kind())),
            };
            assert_eq!(done.attrs.find(), group.as_ref(), "the attrs come back as they were given");
            model.lock().unwrap().wrote(leaf, near, number, done.n, error);
        });
        if !tears {
            self.keep(ticket);
        }
    }

    pub(crate) fn read(&mut self, who: Who, read: Read, limit: Option<Duration>) {
        self.model().outstanding += 1;
        let h = self.handle(who);
        let mut call = if read.take { h.take(read.room) } else { h.read(BytesMut::with_capacity(read.room)) };
        if !self.borders {
            call = call.wait_for(read.wait_for);
        }
        if let Some(d) = limit {
            call = call.deadline(d);
        }
        let model = self.model.clone();
        let ticket = call.then(move |r| told(&mut model.lock().unwrap(), who, r));
        self.keep(ticket);
    }

    fn flush(&mut self, who: Who) {
        self.model().outstanding += 1;
        let ticket = self.handle(who).flush().then(self.did(who, "flush"));
        self.keep(ticket);
    }

    fn ready(&mut self, who: Who, direction: Direction) {
        self.model().outstanding += 1;
        let ticket = self.handle(who).ready(direction).then(self.did(who, "ready"));
        self.keep(ticket);
    }

    /// Ends the writing of a handle, once: a shutdown cannot be had again.
    fn shutdown(&mut self, who: Who) {
        if self.model().shuts(who) {
            self.handle(who).shutdown().then(self.did(who, "shutdown"));
        }
    }

    /// Tells the model of an op that brings nothing.
    fn did(&self, who: Who, what: &'static str) -> impl FnOnce(Result<(), Error>) + Send + 'static {
        let model = self.model.clone();
        let begun = self.model().begun(who);
        move |r| {
            let mut model = model.lock().unwrap();
            if r.is_ok() && what != "ready" {
                model.flushed(who, &begun);
            }
            model.did(who, what, r.err().map(|e| e.kind()));
        }
    }

    /// Closes with something still to come, perhaps.
    fn go(&mut self, who: Who, abort: bool) {
        match who {
            Who::Near => self.model().closes(abort),
            Who::Far(leaf) => self.model().leaves(leaf, abort),
        }
        self.close(who, abort);
    }

    fn close(&mut self, who: Who, abort: bool) {
        self.model().outstanding += 1;
        let call = self.handle(who).close();
        let call = if abort { call.abort() } else { call };
        call.then(self.did(who, "close"));
    }

    /// Turns the engine until `done`, or for so long that it never will.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Model) -> bool) {
        let start = Instant::now();
        while !done(&self.model()) {
            match &self.sim {
                Some(sim) => {
                    let before = self.model().outcomes;
                    let moved = sim.run_until(&self.engine, || self.model().outcomes > before);
                    assert!(moved || done(&self.model()), "{what}: nothing can happen any more: {:?}", self.model());
                }
                None => {
                    self.engine.turn(Some(Duration::from_millis(20)));
                    assert!(start.elapsed() < LONG, "{what} takes too long: {:?}", self.model());
                }
            }
        }
    }

    /// Turns a simulated engine until nothing can happen by itself.
    pub(crate) fn rest(&self) {
        if let Some(sim) = &self.sim {
            sim.run(&self.engine);
        }
    }

    /// Ends all writing, reads all there is, closes.
    pub(crate) fn finish(mut self, rest: Read) {
        let all: Vec<_> = std::iter::once(Who::Near).chain((0..self.far.len()).map(Who::Far)).collect();
        all.iter().for_each(|w| self.shutdown(*w));
        loop {
            let before = self.model().outcomes;
            // What could not end its writing goes, so that its peers come to an end.
            let stuck = self.model().stuck();
            for who in stuck {
                self.go(who, false);
            }
            let reading: Vec<_> = all.iter().copied().filter(|w| !self.model().has_ended(*w)).collect();
            if reading.is_empty() {
                break;
            }
            for who in &reading {
                if self.handle(*who).outstanding().0 == 0 {
                    self.read(*who, rest, None);
                }
            }
            self.until("reading to the end", |m| m.outcomes > before);
        }
        self.until("the last outcomes", |m| m.outstanding == 0);
        all.iter().for_each(|w| self.close(*w, false));
        self.until("closing", |m| m.outstanding == 0);
        self.model().check();
    }
}

fn told(model: &mut Model, who: Who, r: Result<ReadDone, Failed<ReadDone>>) {
    let (done, error) = match r {
        Ok(done) => (done, None),
        Err(f) => (f.back, Some(f.error.kind())),
    };
    let group = done.attrs.find::<Group>().map(|g| g.0.clone());
    let n = done.n;
    let bytes = done.into_bytes();
    assert_eq!(n, bytes.len());
    model.read(who, &Brought { group: group.as_deref(), bytes: &bytes, error });
}

/// Puts the contact of a leaf where its labels say.
fn with_leaf(all: Contact, labels: &[String], leaf: Contact) -> Contact {
    let Some((first, rest)) = labels.split_first() else { return leaf };
    let inner = match &all {
        Contact::Branches(map) => map.get(first).cloned().unwrap_or_default(),
        _ => Contact::None,
    };
    all.with_branch(first.clone(), with_leaf(inner, rest, leaf))
}

fn leaf_of<'c>(all: &'c Contact, labels: &[String]) -> &'c Contact {
    labels.iter().fold(all, |c, l| c.branch(l).expect("a contact for each branch"))
}
