//! The driver: what `tcp` is, what it gives, and how its two kinds of level are made.
//! Invariant: the one thing shared between levels is the list of addresses listened on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, LocalContact, PathInfo, RemoteContact};
use xio_core::driver::{Info, Intercepts, LinkPart, Role, Shape, options};
use xio_core::io::Connected;
use xio_core::{Contact, Error, Level};

use super::Options;
use super::open::Stream;
use super::server::Listener;
use crate::net::{Host, HostPort, canonical, contact, is_local};

/// The `tcp` driver.
#[derive(Debug, Default)]
pub struct Driver {
    listening: Arc<Listening>,
}

/// The addresses that servers of one driver listen on, for [`xio_core::Driver::is_self`].
pub(super) type Listening = Mutex<Vec<SocketAddr>>;

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

    /// Only numeric addresses and `localhost`: a name would have to be looked up.
    fn is_self(&self, _: &dyn Attr, contact: &Contact) -> Option<bool> {
        let to = HostPort::parse(contact.text()?).ok()?;
        let port = to.port.filter(|p| *p > 0)?;
        let ip = match to.host {
            Host::Ip(ip, scope) if is_local(ip, scope)? => ip.to_canonical(),
            Host::Ip(..) => return Some(false),
            Host::Name(name) if name == "localhost" => return self.listens(port, |ip| ip.is_loopback()),
            Host::Name(_) | Host::Any => return None,
        };
        self.listens(port, |at| at == ip || ip.is_unspecified())
    }
}

impl Driver {
    /// `Some(true)` if a server listens on `port` and on all addresses or on one that `fits`. `None`
    /// otherwise: the port of this host may be another driver's.
    fn listens(&self, port: u16, fits: impl Fn(IpAddr) -> bool) -> Option<bool> {
        let listening = self.listening.lock();
        let hit = listening.iter().filter(|a| a.port() == port).map(|a| canonical(*a).ip());
        let mut hit = hit.filter(|at| at.is_unspecified() || fits(*at));
        hit.next().map(|_| true)
    }
}
