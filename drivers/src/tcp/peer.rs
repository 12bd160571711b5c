//! Who is at the other end, in 24 bytes: the system forgets it with the connection, and it may be asked
//! for after that. Invariant: an address goes in and comes out canonical.

use std::net::{Ipv6Addr, SocketAddr};

use crate::net::{address, canonical};

/// A peer, or nobody.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    /// IPv4 is mapped into it.
    ip: Ipv6Addr,
    scope: u32,
    /// Nobody has port 0.
    port: u16,
    /// Its port is a passing one: it connected to us, or the socket was given.
    pub(super) passing: bool,
}

impl Peer {
    pub(super) const NONE: Self = Self { ip: Ipv6Addr::UNSPECIFIED, scope: 0, port: 0, passing: true };

    pub(super) fn new(peer: Option<SocketAddr>, passing: bool) -> Self {
        let (ip, scope, port) = match peer {
            Some(SocketAddr::V4(a)) => (a.ip().to_ipv6_mapped(), 0, a.port()),
            Some(SocketAddr::V6(a)) => (*a.ip(), a.scope_id(), a.port()),
            None => return Self { passing, ..Self::NONE },
        };
        Self { ip, scope, port, passing }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        (self.port != 0).then(|| canonical(address(self.ip.into(), self.scope, self.port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_comes_out_as_it_went_in_but_for_disguise() {
        for (text, out) in [
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("[::ffff:10.0.0.1]:7", "10.0.0.1:7"),
            ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
            ("[fe80::1%3]:7", "[fe80::1%3]:7"),
        ] {
            let peer = Peer::new(Some(text.parse().unwrap()), false);
            assert_eq!(peer.address().unwrap().to_string(), out);
        }
        assert_eq!(Peer::new(None, true).address(), None);
        assert!(size_of::<Peer>() <= 24);
    }
}
