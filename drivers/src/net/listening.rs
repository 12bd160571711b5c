//! What the servers of one driver listen on, for [`Driver::is_self`](xio_core::Driver::is_self).
//! Invariant: an address is listed exactly while its [`Listed`] lives.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::Contact;

use super::{Host, HostPort, canonical, is_local};

/// The addresses that servers listen on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listening(Arc<Mutex<Vec<SocketAddr>>>);

/// One of them.
pub(crate) struct Listed {
    all: Listening,
    at: SocketAddr,
}

impl Listening {
    /// Lists an address.
    pub(crate) fn list(&self, at: SocketAddr) -> Listed {
        self.0.lock().push(at);
        Listed { all: self.clone(), at }
    }

    /// Whether a contact names one of them. Only numeric addresses and `localhost`: a name would have to be
    /// looked up. `None`: cannot tell, for the port of this host may be another driver's.
    pub(crate) fn is_self(&self, contact: &Contact) -> Option<bool> {
        let to = HostPort::parse(contact.text()?).ok()?;
        let port = to.port.filter(|p| *p > 0)?;
        let ip = match to.host {
            Host::Ip(ip, scope) if is_local(ip, scope)? => ip.to_canonical(),
            Host::Ip(..) => return Some(false),
            Host::Name(name) if name == "localhost" => return self.has(port, |ip| ip.is_loopback()),
            Host::Name(_) | Host::Any => return None,
        };
        self.has(port, |at| at == ip || ip.is_unspecified())
    }

    /// `Some(true)` if a server listens on `port` and on all addresses or on one that `fits`.
    fn has(&self, port: u16, fits: impl Fn(IpAddr) -> bool) -> Option<bool> {
        let all = self.0.lock();
        let mut at = all.iter().filter(|a| a.port() == port).map(|a| canonical(*a).ip());
        at.any(|at| at.is_unspecified() || fits(at)).then_some(true)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(i) = all.iter().position(|a| *a == self.at) {
            all.swap_remove(i);
        }
    }
}
