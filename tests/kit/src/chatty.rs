//! A level that reads and writes on its own account: what A9 puts over a subject. Invariant: users'
//! ops pass it untouched.

use std::sync::Arc;

use smallvec::SmallVec;
use xio_core::attr::Attr;
use xio_core::buffer::Piece;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::op::{Close, Open, Read, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, LevelNode, Op};

use crate::bench::Tell;

xio_core::options! {
    /// It has none.
    pub struct ChattyOptions for "chatty" {}
}

const INFO: Info = Info::new("chatty", Shape::Transform, "greets, reads once and says farewell");
const WORDS: [&str; 2] = ["greeting", "farewell"];

/// One over `below`. It greets when it is open, reads once, and says farewell in its close.
#[must_use]
pub fn over(log: &Tell<String>, below: LevelNode) -> LevelNode {
    LevelNode::new(Arc::new(Chatty(log.clone()))).over(below)
}

struct Chatty(Tell<String>);

impl xio_core::Driver for Chatty {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(ChattyOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Handle => Intercepts::OPEN_DONE | Intercepts::CLOSE,
            Role::Server => Intercepts::NONE,
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Talks(self.0.clone())))
    }
}

struct Talks(Tell<String>);

impl Talks {
    fn say(cx: &mut Cx<'_>, word: u32) {
        let text = WORDS.get(word as usize).copied().unwrap_or_default();
        cx.write(0, SmallVec::from_iter([Piece::inline(text.as_bytes())]), word);
    }
}

impl Level for Talks {
    fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        if op.error().is_none() {
            Self::say(cx, 0);
            cx.take(0, 1, 100, 0);
        }
        op.finished()
    }
    fn own_write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let word = WORDS.get(op.tag() as usize).copied().unwrap_or_default();
        self.0.note(format!("wrote {word}: {:?}", op.error().map(Error::kind)));
        op.finished()
    }
    fn own_read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        self.0.note(format!("read {}: {:?}", op.brought().got, op.error().map(Error::kind)));
        op.finished()
    }
    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.0.note("closing: asked".into());
        Self::say(cx, 1);
        op.pass()
    }
}
