//! How a stack is opened and a server started. Invariant: whatever had been opened when an open fails is
//! closed again before the caller hears of it.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use super::{Handle, Owner, Setup};
use crate::contact::{Contact, Unread};
use crate::driver::{LinkPart, Role};
use crate::engine::Engine;
use crate::engine::block::block;
use crate::engine::future::OpFuture;
use crate::engine::submit::call;
use crate::error::Error;
use crate::op::{Cell, Kind, Listen, Open};
use crate::server::Server;
use crate::stack::Stack;
use crate::sync::Arc;
use crate::time::Time;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The opening of a stack, to be ended in one of three ways.
#[must_use = "a call does nothing until it is ended with wait, await or then"]
pub struct OpenCall {
    engine: Engine,
    stack: Stack,
    contact: Unread,
    links: Vec<(u8, LinkPart)>,
    setup: Setup,
    deadline: Option<Duration>,
}

macro_rules! setup_methods {
    () => {
        /// Fails with `TimedOut` after `d`, and closes whatever was open by then.
        pub fn deadline(mut self, d: Duration) -> Self {
            self.deadline = Some(d);
            self
        }
        /// Most ops outstanding in one direction; 64 unless said otherwise.
        pub fn max_ops(mut self, ops: u32) -> Self {
            self.setup.max_ops = ops.max(1);
            self
        }
        /// Most bytes outstanding in one direction; 1 MiB unless said otherwise. One op may be larger.
        pub fn max_bytes(mut self, bytes: usize) -> Self {
            self.setup.max_bytes = bytes;
            self
        }
        /// Counts what every level sees; see [`Handle::stats`].
        pub fn with_stats(mut self) -> Self {
            self.setup.stats = true;
            self
        }
    };
}

impl OpenCall {
    pub(crate) fn new(engine: Engine, stack: Stack, contact: Unread) -> Self {
        Self { engine, stack, contact, links: Vec::new(), setup: Setup::default(), deadline: None }
    }

    pub(crate) fn over_link(mut self, links: Vec<(u8, LinkPart)>) -> Self {
        self.links = links;
        self
    }

    setup_methods!();

    /// Fails reads with `TimedOut` when no byte has come for `d`.
    pub fn read_idle(mut self, d: Duration) -> Self {
        self.setup.idle[0] = Some(d);
        self
    }

    /// Fails writes with `TimedOut` when no byte has gone for `d`.
    pub fn write_idle(mut self, d: Duration) -> Self {
        self.setup.idle[1] = Some(d);
        self
    }

    fn begin(self) -> Result<(Handle, Box<Cell<Open>>, Time), Error> {
        let core = self.engine.core(&self.stack, Role::Handle, &self.setup)?;
        let until = self.deadline.map_or(Time::NEVER, |d| core.shared.now() + d);
        let mut cell = Cell::<Open>::boxed();
        cell.body.contact = self.contact;
        cell.body.links = self.links;
        Ok((Handle(Arc::new(Owner { core, engine: self.engine })), cell, until))
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed; every level that was open by then is closed again.
    pub fn wait(self) -> Result<Handle, Error> {
        let (handle, mut cell, until) = self.begin()?;
        // For what is closed again after it failed.
        cell.head.deadline = until;
        let mut cell = block::<Open>(&handle.0.core, until, false, |_| cell)?;
        Open::outcome(&mut cell).map(|()| handle)
    }

    /// Has `f` called with the handle.
    pub fn then(self, f: impl FnOnce(Result<Handle, Error>) + Send + 'static) {
        match self.begin() {
            Err(e) => f(Err(e)),
            Ok((handle, mut cell, until)) => {
                cell.head.deadline = until;
                let core = handle.0.core.clone();
                call::<Open>(&core, move |_| cell, move |r| f(r.map(|()| handle)));
            }
        }
    }
}

impl IntoFuture for OpenCall {
    type Output = Result<Handle, Error>;
    type IntoFuture = Boxed<Result<Handle, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (handle, mut cell, until) = self.begin()?;
            cell.head.deadline = until;
            OpFuture::<Open>::new(handle.0.core.clone(), false, Box::new(move |_| cell)).await.map(|()| handle)
        })
    }
}

/// The start of a server, to be ended in one of two ways.
#[must_use = "a call does nothing until it is ended with wait or await"]
pub struct ListenCall {
    engine: Engine,
    stack: Stack,
    contact: Contact,
    setup: Setup,
    deadline: Option<Duration>,
}

impl ListenCall {
    pub(crate) fn new(engine: Engine, stack: Stack, contact: Contact) -> Self {
        Self { engine, stack, contact, setup: Setup::default(), deadline: None }
    }

    setup_methods!();

    fn begin(self) -> Result<(Server, Box<Cell<Listen>>, Time), Error> {
        let core = self.engine.core(&self.stack, Role::Server, &self.setup)?;
        let until = self.deadline.map_or(Time::NEVER, |d| core.shared.now() + d);
        let mut cell = Cell::<Listen>::boxed();
        cell.body.contact = self.contact;
        let server = Server::new(Arc::new(Owner { core, engine: self.engine }), self.stack);
        Ok((server, cell, until))
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it failed; every level that was started by then is stopped again.
    pub fn wait(self) -> Result<Server, Error> {
        let (server, mut cell, until) = self.begin()?;
        cell.head.deadline = until;
        let mut cell = block::<Listen>(server.core(), until, false, |_| cell)?;
        Listen::outcome(&mut cell).map(|c| server.at(c))
    }
}

impl IntoFuture for ListenCall {
    type Output = Result<Server, Error>;
    type IntoFuture = Boxed<Result<Server, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (server, mut cell, until) = self.begin()?;
            cell.head.deadline = until;
            let core = server.core().clone();
            OpFuture::<Listen>::new(core, false, Box::new(move |_| cell)).await.map(|c| server.at(c))
        })
    }
}
