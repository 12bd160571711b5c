//! The driver: what `tcp` is, what it gives, and how its two kinds of level are made.
//! Invariant: the one thing shared between levels is the list of addresses listened on.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, LocalContact, PathInfo, RemoteContact};
use xio_core::driver::{Info, Intercepts, LinkPart, Role, Shape, options};
use xio_core::io::Connected;
use xio_core::{Contact, Error, Level};

use super::Options;
use super::open::Stream;
use super::server::Listener;
use crate::net::{Listening, contact};

/// The `tcp` driver.
#[derive(Debug, Default)]
pub struct Driver {
    listening: Listening,
}

const INFO: Info = Info::new(Options::DRIVER, Shape::Transport, "byte streams over TCP, client and server")
    .with_options(Options::SPECS)
    .with_contact("host:port, [v6]:port; to listen also :port, *:port");

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

    fn caps(&self, _: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(Caps::stream())
    }

    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Handle => {
                Intercepts::OPEN
                    | Intercepts::CLOSE
                    | Intercepts::READ
                    | Intercepts::WRITE
                    | Intercepts::SHUTDOWN
                    | Intercepts::READY
            }
            Role::Server => Intercepts::LISTEN | Intercepts::ACCEPT | Intercepts::CLOSE,
        }
    }

    fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        Ok(match role {
            Role::Handle => Box::new(Stream::new()),
            Role::Server => Box::new(Listener::new(options::<Options>(attr).clone(), self.listening.clone())),
        })
    }

    fn link_cntl(&self, part: &mut LinkPart, c: &mut Cntl<'_>) -> Result<(), Error> {
        let Some(link) = part.downcast_ref::<Connected>() else { return Err(c.unsupported()) };
        if c.command::<LocalContact>().is_some() {
            return c.reply::<LocalContact>(contact(link.local));
        }
        if c.command::<RemoteContact>().is_some() {
            return c.reply::<RemoteContact>(contact(link.peer));
        }
        if c.command::<PathInfo>().is_some() {
            let sock = link.sock.clone();
            return c.reply_later::<PathInfo>(move || sock.socket().path().map_err(Error::from));
        }
        Err(c.unsupported())
    }

    fn is_self(&self, _: &dyn Attr, contact: &Contact) -> Option<bool> {
        self.listening.is_self(contact)
    }
}
