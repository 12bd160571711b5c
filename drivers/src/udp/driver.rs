//! The driver: what `udp` is, what it gives, and how its two kinds of level are made.
//! Invariant: the one thing shared between levels of different stacks is the list of addresses listened on.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, LocalContact, RemoteContact};
use xio_core::driver::{Info, Intercepts, LinkPart, Role, Shape, options};
use xio_core::{Contact, Error, Level};

use super::hub::Link;
use super::level::Datagrams;
use super::server::Listener;
use super::{Counts, Options};
use crate::net::{Listening, contact};

/// The `udp` driver.
#[derive(Debug, Default)]
pub struct Driver {
    listening: Listening,
}

const INFO: Info = Info::new(Options::DRIVER, Shape::Transport, "datagrams over UDP, client and server")
    .with_options(Options::SPECS)
    .with_contact("host:port, [v6]:port; for whoever sends, and to listen, also :port, *:port");

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
        let mut caps = Caps::datagram(options::<Options>(attr).most());
        caps.connected = false;
        Ok(caps)
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
                    | Intercepts::BATCHES
            }
            Role::Server => Intercepts::LISTEN | Intercepts::ACCEPT | Intercepts::CLOSE,
        }
    }

    fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        let o = options::<Options>(attr);
        Ok(match role {
            Role::Handle => Box::new(Datagrams::new(o.most())),
            Role::Server => Box::new(Listener::new(o.clone(), self.listening.clone())),
        })
    }

    fn link_cntl(&self, part: &mut LinkPart, c: &mut Cntl<'_>) -> Result<(), Error> {
        let Some(link) = part.downcast_ref::<Link>() else { return Err(c.unsupported()) };
        if c.command::<LocalContact>().is_some() {
            return c.reply::<LocalContact>(contact(Some(link.hub().at())));
        }
        if c.command::<RemoteContact>().is_some() {
            return c.reply::<RemoteContact>(contact(Some(link.peer())));
        }
        if c.command::<Counts>().is_some() {
            return c.reply::<Counts>(link.hub().tally());
        }
        Err(c.unsupported())
    }

    fn is_self(&self, _: &dyn Attr, contact: &Contact) -> Option<bool> {
        self.listening.is_self(contact)
    }
}
