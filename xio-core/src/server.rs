//! A listening stack and what it accepts. Invariant: each connection gives one [`Link`], which is
//! opened once or dropped; dropped, it releases whatever the levels had put into it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use crate::cntl::{Cntl, Command};
use crate::contact::{Contact, Unread};
use crate::driver::LinkPart;
use crate::engine::block::block;
use crate::engine::core::Core;
use crate::engine::end::Accepted;
use crate::engine::future::OpFuture;
use crate::engine::submit::{Ticket, call};
use crate::error::{Error, ErrorKind};
use crate::handle::{CLOSE_TIME, CloseMode, OpenCall, Owner, cntl};
use crate::op::{Accept, Cell, Close, Kind};
use crate::stack::Stack;
use crate::sync::Arc;
use crate::time::Time;

/// A listening stack. Cheap to clone; with the last clone it stops listening. Handles that came
/// from it live on.
#[derive(Clone)]
pub struct Server {
    owner: Arc<Owner>,
    stack: Stack,
    contact: Contact,
}

impl Server {
    pub(crate) fn new(owner: Arc<Owner>, stack: Stack) -> Self {
        Self { owner, stack, contact: Contact::None }
    }

    pub(crate) fn at(mut self, contact: Contact) -> Self {
        self.contact = contact;
        self
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.owner.core
    }

    /// Where a client connects to.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// The stack it listens with.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Waits for a connection. Several accepts may wait at once.
    pub fn accept(&self) -> AcceptCall<'_> {
        AcceptCall { server: self, deadline: None }
    }

    /// Stops listening. Accepts that wait end with `Cancelled`.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if it had stopped before.
    pub fn close(&self) -> Result<(), Error> {
        let core = self.core();
        let until = core.shared.now() + CLOSE_TIME;
        let mut cell = block::<Close>(core, Time::NEVER, false, |_| {
            let mut cell = Cell::<Close>::boxed();
            cell.body.mode = CloseMode::Graceful;
            cell.head.deadline = until;
            cell
        })?;
        Close::outcome(&mut cell)
    }

    /// Calls `f` for every event that rises to the top, such as a transport that ran out of
    /// descriptors. One listener; the last one set stays.
    pub fn on_event(&self, f: impl FnMut(&crate::cx::Event) + Send + 'static) {
        let mut lane = crate::engine::post::Lane::enter(self.core());
        lane.inner.rare().on_event = Some(Box::new(f));
        lane.leave_quiet();
    }

    /// Gives one level a command.
    ///
    /// # Errors
    /// As [`crate::Handle::cntl`].
    pub fn cntl<C: Command>(&self, level: &str, command: C) -> Result<C::Reply, Error> {
        cntl(self.core(), Some(level), &command)
    }

    /// Asks level by level from the top, until one knows the command.
    ///
    /// # Errors
    /// As [`crate::Handle::cntl`].
    pub fn query<C: Command>(&self, command: C) -> Result<C::Reply, Error> {
        cntl(self.core(), None, &command)
    }

    fn link(&self, a: Accepted) -> Link {
        Link {
            owner: self.owner.engine.clone(),
            stack: self.stack.clone(),
            parts: a.links,
            local: a.local,
            peer: a.peer,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({} @ {})", self.stack, self.contact)
    }
}

/// An accept to be ended in one of three ways.
#[must_use = "a call does nothing until it is ended with wait, await or then"]
pub struct AcceptCall<'a> {
    server: &'a Server,
    deadline: Option<Duration>,
}

impl AcceptCall<'_> {
    /// Fails with `TimedOut` after `d`.
    pub fn deadline(mut self, d: Duration) -> Self {
        self.deadline = Some(d);
        self
    }

    fn until(&self) -> Time {
        self.deadline.map_or(Time::NEVER, |d| self.server.core().shared.now() + d)
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed. What concerns one connection only never ends an accept.
    pub fn wait(self) -> Result<Link, Error> {
        let mut cell = block::<Accept>(self.server.core(), self.until(), false, |_| Cell::<Accept>::boxed())?;
        Accept::outcome(&mut cell).map(|a| self.server.link(a))
    }

    /// Has `f` called with the link.
    pub fn then(self, f: impl FnOnce(Result<Link, Error>) + Send + 'static) -> Ticket {
        let (server, until) = (self.server.clone(), self.until());
        let setup = move |_: &mut crate::engine::core::Tree| {
            let mut cell = Cell::<Accept>::boxed();
            cell.head.deadline = until;
            cell
        };
        call::<Accept>(self.server.core(), setup, move |r| f(r.map(|a| server.link(a))))
    }
}

impl IntoFuture for AcceptCall<'_> {
    type Output = Result<Link, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Link, Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let (server, until) = (self.server.clone(), self.until());
        Box::pin(async move {
            let setup = move |_: &mut crate::engine::core::Tree| {
                let mut cell = Cell::<Accept>::boxed();
                cell.head.deadline = until;
                cell
            };
            let core = server.core().clone();
            let r = OpFuture::<Accept>::new(core, false, Box::new(setup)).await;
            r.map(|a| server.link(a))
        })
    }
}

/// An accepted connection that is not open yet: look at it, then open it or drop it.
pub struct Link {
    owner: crate::engine::Engine,
    stack: Stack,
    parts: Vec<(u8, LinkPart)>,
    local: Unread,
    peer: Unread,
}

impl Link {
    /// The address of this end.
    pub fn local(&self) -> &Contact {
        self.local.read()
    }

    /// The address of the peer.
    pub fn peer(&self) -> &Contact {
        self.peer.read()
    }

    /// What the stack will give once it is open.
    pub fn caps(&self) -> &crate::caps::Caps {
        self.stack.caps()
    }

    /// Gives a command to what one level knows of the link, or asks each from the top.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedCommand`] where nobody knows it.
    pub fn cntl<C: Command>(&mut self, level: Option<&str>, command: C) -> Result<C::Reply, Error> {
        let mut c = Cntl::new(&command);
        for (i, node) in self.stack.nodes().iter().enumerate() {
            if level.is_some_and(|l| *l != *node.place.level) {
                continue;
            }
            let Some((_, part)) = self.parts.iter_mut().find(|(n, _)| usize::from(*n) == i + 1) else { continue };
            match node.driver.link_cntl(part, &mut c) {
                Ok(()) => return c.into_reply::<C>(),
                Err(e) if e.kind() == ErrorKind::UnsupportedCommand => {}
                Err(e) => return Err(e),
            }
        }
        Err(c.unsupported())
    }

    /// Opens it.
    pub fn open(self) -> OpenCall {
        OpenCall::new(self.owner, self.stack, self.peer).over_link(self.parts)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} from {})", self.stack, self.peer())
    }
}
