//! The driver: what `shm` is, what it gives, and how its two kinds of level are made. Invariant: the one thing
//! shared between levels is the list of paths listened on.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, LocalContact, RemoteContact};
use xio_core::driver::{Info, Intercepts, LinkPart, Role, Shape, options};
use xio_core::{Contact, Error, Level};

use super::Options;
use super::level::Shm;
use super::meet::{Ends, Guest, path};
use super::ring::HEADER;
use super::server::Listener;

/// The `shm` driver.
#[derive(Debug, Default)]
pub struct Driver {
    listening: Arc<Listening>,
}

/// The paths that servers of one driver listen at, for [`xio_core::Driver::is_self`].
pub(super) type Listening = Mutex<Vec<PathBuf>>;

const INFO: Info = Info::new(Options::DRIVER, Shape::Transport, "shared memory between two processes of one user")
    .with_options(Options::SPECS)
    .with_contact("path of a unix socket: `/run/app/socket`");

/// The driver, to register or to build stacks with.
pub fn driver() -> Arc<dyn xio_core::Driver> {
    Arc::new(Driver::default())
}

impl xio_core::Driver for Driver {
    fn info(&self) -> &Info {
        &INFO
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::NOTHING
    }

    fn caps(&self, attr: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        let o = options::<Options>(attr);
        let mut caps = if o.message { Caps::message() } else { Caps::stream() };
        caps.max_message = o.message.then(|| o.size() - HEADER);
        caps.shared_memory = true;
        Ok(caps)
    }

    fn intercepts(&self, attr: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::LISTEN | Intercepts::ACCEPT | Intercepts::CLOSE,
            Role::Handle => {
                let message = options::<Options>(attr).message;
                Intercepts::OPEN
                    | Intercepts::CLOSE
                    | Intercepts::READ
                    | Intercepts::WRITE
                    | Intercepts::SHUTDOWN
                    | Intercepts::READY
                    | if message { Intercepts::BATCHES } else { Intercepts::NONE }
            }
        }
    }

    fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        let options = options::<Options>(attr).clone();
        Ok(match role {
            Role::Handle => Box::new(Shm::new(options)),
            Role::Server => Box::new(Listener::new(options, self.listening.clone())),
        })
    }

    fn link_cntl(&self, part: &mut LinkPart, c: &mut Cntl<'_>) -> Result<(), Error> {
        match part.downcast_ref::<Guest>() {
            Some(guest) => guest.ends.answer(c),
            None => Err(c.unsupported()),
        }
    }

    fn is_self(&self, _: &dyn Attr, contact: &Contact) -> Option<bool> {
        let path = path(contact).ok()?;
        // The same socket may have other paths.
        self.listening.lock().iter().any(|p| p == path).then_some(true)
    }
}

impl Ends {
    /// Answers for the contacts.
    pub(super) fn answer(&self, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() {
            return c.reply::<LocalContact>(self.local.clone());
        }
        if c.command::<RemoteContact>().is_some() {
            return c.reply::<RemoteContact>(self.peer.clone());
        }
        Err(c.unsupported())
    }
}
