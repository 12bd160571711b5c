//! A level whose accepting end waits for a word of its peer before it is open: what the rule about
//! connections that are not open yet runs on until a shipped driver greets. Invariant: it waits for one byte
//! and for so long at most; after that users' ops pass it untouched.

use std::sync::Arc;
use std::time::Duration;

use xio_core::attr::Attr;
use xio_core::buffer::Piece;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cx::Timer;
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{OpId, Open, Read, Write};
use xio_core::{Cx, Driver, Error, ErrorKind, Flow, Held, Level, Op};

/// How long it waits for a peer that says nothing.
const PATIENCE: Duration = Duration::from_secs(5);
const WORD: u8 = b'!';

xio_core::options! {
    /// It has none.
    pub struct GreeterOptions for "greeter" {}
}

const INFO: Info = Info::new("greeter", Shape::Transform, "waits for a word before it is open");

/// The driver.
pub fn greeter() -> Arc<dyn Driver> {
    Arc::new(Greeter)
}

struct Greeter;

impl Driver for Greeter {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(GreeterOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::STREAM
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::NONE,
            Role::Handle => Intercepts::OPEN | Intercepts::OPEN_DONE,
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Door::default()))
    }
}

#[derive(Default)]
struct Door {
    passive: bool,
    /// The open, while its word is on its way.
    held: Option<Held<Open>>,
    patience: Option<Timer>,
}

impl Door {
    fn answer(&mut self, cx: &mut Cx<'_>, result: Result<(), Error>) {
        self.patience = None;
        if let Some(held) = self.held.take() {
            cx.finish(held, result);
        }
    }
}

impl Level for Door {
    fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.passive = op.is_passive();
        op.pass()
    }

    fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        if op.error().is_some() {
            return op.finished();
        }
        if !self.passive {
            cx.write(0, std::iter::once(Piece::inline(&[WORD])).collect(), 0);
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.held = Some(held);
        self.patience = Some(cx.after(PATIENCE, 0));
        cx.take(0, 1, 1, 0);
        flow
    }

    fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let error = op.clear_error();
        let word: Vec<u8> = op.brought().chunks.into_iter().flat_map(|c| c.into_bytes().to_vec()).collect();
        let result = match error {
            Some(e) => Err(e),
            None if word == [WORD] => Ok(()),
            None => Err(Error::new(ErrorKind::Protocol).detail("the peer did not greet")),
        };
        self.answer(cx, result);
        op.finished()
    }

    fn own_write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        // What is wrong below the user's own ops will tell.
        op.clear_error();
        op.finished()
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        let late = Error::new(ErrorKind::TimedOut).detail("the peer did not greet");
        self.answer(cx, Err(late));
    }

    fn cancel(&mut self, _: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
        self.held = None;
        self.patience = None;
        Cancel::Take
    }
}
