//! In which order the levels of a tree are closed.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::{Close, Open};
use xio_core::{Cx, Engine, Error, ErrorKind, Flow, Handle, Held, Level, LevelNode, Op, Stack};
use xio_drivers::pick;

use super::bed::LONG;

xio_core::options! {
    /// None.
    pub struct Options for "noted" {}
}

/// What closes, in order, and the closes that are held.
#[derive(Clone)]
struct Notes(Arc<Mutex<Vec<String>>>, Sender<Held<Close>>);

/// A level that notes when it is closed; at the bottom it holds the close, or fails it.
#[derive(Clone)]
struct Noted {
    name: &'static str,
    notes: Notes,
    bottom: Option<Bottom>,
}

#[derive(Clone, Copy, PartialEq)]
enum Bottom {
    Quick,
    Slow,
    Fails,
}

impl Driver for Noted {
    fn info(&self) -> &Info {
        const TRANSPORT: Info = Info::new("noted", Shape::Transport, "for tests");
        const TRANSFORM: Info = Info::new("noted", Shape::Transform, "for tests");
        if self.bottom.is_some() { &TRANSPORT } else { &TRANSFORM }
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        if self.bottom.is_some() { Needs::NOTHING } else { Needs::ANY }
    }
    fn caps(&self, _: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(Caps::stream())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::OPEN | Intercepts::CLOSE
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Level for Noted {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        if self.bottom.is_some() { op.finished() } else { op.pass() }
    }
    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.notes.0.lock().unwrap().push(self.name.into());
        match self.bottom {
            None => op.pass(),
            Some(Bottom::Quick) => op.finished(),
            Some(Bottom::Fails) => op.failed(Error::new(ErrorKind::Protocol).detail("it has more to say")),
            Some(Bottom::Slow) => {
                self.bottom = Some(Bottom::Quick);
                let (held, flow) = op.hold(cx);
                self.notes.1.send(held).unwrap();
                flow
            }
        }
    }
}

/// `pick{a: a1/pick{x: x, y: y}, b: b1/b2, c: c}`, open.
fn tree(engine: &Engine, y: Bottom, b2: Bottom) -> (Handle, Notes, Receiver<Held<Close>>) {
    let (tx, rx) = mpsc::channel();
    let notes = Notes(Arc::default(), tx);
    let node = |name, bottom| LevelNode::new(Arc::new(Noted { name, notes: notes.clone(), bottom })).with_id(name);
    let leaf = |name| node(name, Some(Bottom::Quick));
    let xy = LevelNode::new(pick::driver()).branch("x", leaf("x")).branch("y", node("y", Some(y)));
    let top = LevelNode::new(pick::driver())
        .branch("a", node("a1", None).over(xy))
        .branch("b", node("b1", None).over(node("b2", Some(b2))))
        .branch("c", leaf("c"));
    let h = engine.open(&Stack::new(top).unwrap(), ()).deadline(LONG).wait().unwrap();
    (h, notes, rx)
}

fn noted(notes: &Notes) -> Vec<String> {
    std::mem::take(&mut notes.0.lock().unwrap())
}

#[test]
fn branches_close_in_reverse_and_each_from_its_top() {
    let engine = Engine::new().unwrap();
    let (h, notes, _rx) = tree(&engine, Bottom::Quick, Bottom::Quick);
    h.close().wait().unwrap();
    assert_eq!(noted(&notes), ["c", "b1", "b2", "a1", "y", "x"]);
}

#[test]
fn a_branch_that_takes_its_time_keeps_the_handle_and_not_the_others() {
    let engine = Engine::new().unwrap();
    let (h, notes, rx) = tree(&engine, Bottom::Slow, Bottom::Slow);
    let (tx, closed) = mpsc::channel();
    h.close().then(move |r| tx.send(r.map_err(|e| e.kind())).unwrap());
    let held = [(); 2].map(|()| rx.recv_timeout(LONG).unwrap());
    assert_eq!(noted(&notes), ["c", "b1", "b2", "a1", "y", "x"]);
    for held in held {
        assert!(closed.try_recv().is_err());
        held.retry();
    }
    assert_eq!(closed.recv_timeout(LONG).unwrap(), Ok(()));
    assert_eq!(noted(&notes).len(), 2);
    drop(h);
    assert_eq!(engine.handles(), 0);
}

#[test]
fn a_branch_that_fails_to_close_is_named_and_the_others_are_closed() {
    let engine = Engine::new().unwrap();
    let (h, notes, _rx) = tree(&engine, Bottom::Fails, Bottom::Quick);
    let e = h.close().wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Protocol);
    for part in ["branch `a`", "branch `y`", "it has more to say"] {
        assert!(e.to_string().contains(part), "{e}");
    }
    assert_eq!(noted(&notes), ["c", "b1", "b2", "a1", "y", "x"]);
    drop(h);
    assert_eq!(engine.handles(), 0);
}
