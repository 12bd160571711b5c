//! Where an open goes: a peer, or a place where whoever sends is heard. Invariant: what a contact names is
//! never replaced by something else.

use std::net::SocketAddr;

use xio_core::{Contact, Error, ErrorKind};

use super::Options;
use crate::net::{Host, HostPort, bad, canonical};

/// What an open is to do.
pub(super) enum Way {
    /// One peer.
    Peer(SocketAddr),
    /// One peer, whose name has to be looked up.
    Name(Box<str>, u16),
    /// Whoever sends.
    Anybody,
}

impl Way {
    /// From the contact.
    pub(super) fn of(contact: &Contact) -> Result<Self, Error> {
        let text = match contact {
            Contact::Text(t) => t,
            Contact::None => return Ok(Self::Anybody),
            Contact::Branches(_) => {
                let text = format!("`{contact}`: a map of branches, but `udp` has none; write `host:port`");
                return Err(Error::new(ErrorKind::InvalidContact).detail(text));
            }
        };
        let to = HostPort::parse(text)?;
        match (&to.host, to.port) {
            (Host::Any, _) => Ok(Self::Anybody),
            (_, None) => Err(bad(text, text.len(), "the port is missing", "write `host:port`, or `[address]:port`")),
            (_, Some(0)) => {
                let help = "write the port of the peer; `:0` is heard by a free port of this host";
                Err(bad(text, text.len() - 1, "nobody listens on port 0", help))
            }
            (Host::Name(name), Some(port)) => Ok(Self::Name(name.as_str().into(), port)),
            (Host::Ip(..), Some(_)) => {
                to.address().map(|a| Self::Peer(canonical(a))).ok_or_else(|| Error::from(ErrorKind::InvalidContact))
            }
        }
    }
}

/// The address of a name that an open takes: the first that `bind` can reach, IPv4 first.
pub(super) fn choose(mut list: Vec<SocketAddr>, options: &Options) -> Option<SocketAddr> {
    list.sort_by_key(SocketAddr::is_ipv6);
    let list: Vec<_> = list.into_iter().map(canonical).collect();
    list.iter().copied().find(|a| options.towards(*a).is_ok()).or_else(|| list.first().copied())
}

/// Whether an open or a listen can take this contact.
pub(super) fn check_contact(o: &Options, contact: &Contact) -> Result<(), Error> {
    match Way::of(contact) {
        Ok(Way::Peer(a)) => o.towards(a).map(drop),
        Ok(Way::Name(..)) => Ok(()),
        Ok(Way::Anybody) => o.places(contact).map(drop),
        // What only a server can take is right too.
        Err(e) => o.places(contact).map(drop).map_err(|_| e),
    }
}

/// The error of a socket that could not be made, with the place it was to have.
#[cold]
pub(super) fn refused(e: Error, text: &str) -> Error {
    let help = match e.kind() {
        ErrorKind::AddrInUse => "somebody is bound there; take another port, or 0 for a free one",
        ErrorKind::AddrNotAvailable => "take an address of this host, or `:port` for all",
        ErrorKind::PermissionDenied => "ports below 1024, devices and broadcasts need privileges",
        _ => return e.detail(format!("`{text}`")),
    };
    e.detail(format!("`{text}`: {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_peer_and_none_is_anybody() {
        for text in ["", "*", ":7000", "7000", "*:0"] {
            assert!(matches!(Way::of(&Contact::new(text)), Ok(Way::Anybody)), "{text}");
        }
        let peer = |text: &str| match Way::of(&Contact::new(text)) {
            Ok(Way::Peer(a)) => a.to_string(),
            _ => String::new(),
        };
        assert_eq!(peer("[::ffff:10.0.0.1]:7"), "10.0.0.1:7");
        assert_eq!(peer("[::1]:7"), "[::1]:7");
        assert!(matches!(Way::of(&Contact::new("svc:7")), Ok(Way::Name(n, 7)) if &*n == "svc"));
        let map = Contact::None.with_branch("a", Contact::new("x:1"));
        for (contact, text) in [
            (Contact::new("10.0.0.1"), "the port is missing (at byte 8)"),
            (Contact::new("svc:0"), "nobody listens on port 0 (at byte 4)"),
            (Contact::new("a b:1"), "cannot stand in a host name (at byte 1)"),
            (map, "a map of branches, but `udp` has none"),
        ] {
            let e = Way::of(&contact).err().unwrap();
            assert_eq!(e.kind(), ErrorKind::InvalidContact, "{contact}");
            assert!(e.to_string().contains(text), "{contact}: {e}");
        }
    }

    #[test]
    fn a_contact_is_right_that_an_open_or_a_server_takes() {
        let o = Options::default();
        let v4 = o.clone().with_bind(Some("10.0.0.5".into()));
        for text in ["10.0.0.1:7", "svc:7", "[::1]:7", ":7000", "*", "127.0.0.1:0"] {
            check_contact(&o, &Contact::new(text)).unwrap();
        }
        for (o, text) in [(&o, "]["), (&o, "svc"), (&v4, "[::1]:7"), (&o, "svc:99999")] {
            assert!(check_contact(o, &Contact::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_address_of_a_name_fits_the_local_one() {
        let list = || ["[::1]:7", "10.0.0.1:7"].map(|a| a.parse().unwrap()).to_vec();
        let o = Options::default();
        assert_eq!(choose(list(), &o).unwrap().to_string(), "10.0.0.1:7");
        let six = o.with_bind(Some("::1".into()));
        assert_eq!(choose(list(), &six).unwrap().to_string(), "[::1]:7");
        assert_eq!(choose(Vec::new(), &six), None);
    }
}
