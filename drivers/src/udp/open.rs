//! How a handle opens: towards a peer, at a place where whoever sends is heard, or over an accepted link.
//! Invariant: what a contact names is never replaced by something else.

use std::net::SocketAddr;

use xio_core::driver::options;
use xio_core::io::{Connected, Io, IoDone};
use xio_core::op::Open;
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Op};

use super::Options;
use super::guest::Guest;
use super::hub::Link;
use super::level::{Datagrams, Step};
use crate::net::{Host, HostPort, MAX_ADDRESSES, bad, canonical, unresolved};

/// Most receives of a server's socket that one open makes in search of its own peer's datagrams.
const MAX_DRAIN: u32 = 256;

/// What an open is to do.
enum Way {
    /// One peer.
    Peer(SocketAddr),
    /// One peer, whose name has to be looked up.
    Name(Box<str>, u16),
    /// Whoever sends.
    Anybody,
}

impl Way {
    /// From the contact.
    fn of(contact: &Contact) -> Result<Self, Error> {
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
            // Nobody's address, so a place of this host.
            (Host::Ip(ip, _), Some(port)) if port == 0 || ip.is_unspecified() => Ok(Self::Anybody),
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

impl Datagrams {
    /// An open begins, or a request of it is done.
    pub(super) fn go_on<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        let done = op.io_done();
        let step = self.more.as_mut().map(|m| std::mem::take(&mut m.step)).unwrap_or_default();
        match (done, step) {
            (IoDone::None, _) => self.begin(cx, op),
            (IoDone::Connected(c), _) => self.bound(cx, op, *c),
            (IoDone::Addresses(list), _) => {
                let o = self.options(cx);
                match choose(list, &o) {
                    Some(to) => self.connect(op, &o, to),
                    None => {
                        let text = format!("`{}`: the name has no address", op.contact());
                        op.failed(Error::new(ErrorKind::Resolve).detail(text))
                    }
                }
            }
            (IoDone::Failed(e), Step::Lookup) => {
                let e = unresolved(e).detail(format!("`{}`", op.contact()));
                op.failed(e)
            }
            (IoDone::Datagrams(came), Step::Drain(n)) => {
                if let Some(guest) = self.guest() {
                    guest.link.hub().put(*came);
                }
                self.drain(cx, op, n)
            }
            (IoDone::Failed(_), Step::Drain(_)) => self.settle(cx, op),
            // A greeting that does not go is as one that is lost.
            (IoDone::Done | IoDone::Failed(_), Step::Greeting) => op.finished(),
            (IoDone::Failed(e), _) => {
                let e = Error::from(e);
                let goes_on =
                    self.peer.is_none() && self.more.as_mut().is_some_and(|m| m.places.goes_on_after(e.kind()));
                if goes_on {
                    let o = self.options(cx);
                    return self.try_next(op, &o);
                }
                let text = op.contact().to_string();
                op.failed(refused(e, &text))
            }
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn begin<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        self.clear();
        let o = self.options(cx);
        if op.is_passive() {
            let Some(Ok(link)) = op.link(cx).map(|part| part.downcast::<Link>()) else {
                let text = "the accepted link has no peer of this level";
                return op.failed(Error::new(ErrorKind::InvalidInput).detail(text));
            };
            return self.begin_link(op, *link);
        }
        match Way::of(op.contact()) {
            Ok(Way::Peer(to)) => self.connect(op, &o, to),
            Ok(Way::Name(host, port)) => {
                self.more.get_or_insert_default().step = Step::Lookup;
                op.io(Io::Resolve { host, port })
            }
            Ok(Way::Anybody) => match o.places(op.contact()) {
                Ok((places, _)) => {
                    self.more.get_or_insert_default().places = places;
                    self.try_next(op, &o)
                }
                Err(e) => op.failed(e),
            },
            Err(e) => op.failed(e),
        }
    }

    fn connect<'o>(&mut self, op: Op<'o, Open>, o: &Options, to: SocketAddr) -> Flow<'o> {
        self.peer = Some(to);
        match o.towards(to) {
            Ok(o) => op.io(Io::Datagram(Box::new(o))),
            Err(e) => op.failed(e),
        }
    }

    fn try_next<'o>(&mut self, op: Op<'o, Open>, o: &Options) -> Flow<'o> {
        let next = self.more.as_mut().and_then(|m| m.places.next());
        match next.map(|at| o.at(at)) {
            Some(Ok(o)) => op.io(Io::Datagram(Box::new(o))),
            Some(Err(e)) => op.failed(e),
            None => op.failed(ErrorKind::AddrNotAvailable),
        }
    }

    /// A socket of its own for the link's peer, beside the server's.
    fn begin_link<'o>(&mut self, op: Op<'o, Open>, link: Link) -> Flow<'o> {
        let hub = link.hub();
        let mut o = hub.options().socket();
        o.socket.bind = vec![hub.at()];
        o.to = Some(link.peer());
        o.shared = true;
        self.peer = Some(canonical(link.peer()));
        self.more.get_or_insert_default().guest = Some(Guest::new(link));
        op.io(Io::Datagram(Box::new(o)))
    }

    /// The socket is there.
    fn bound<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>, c: Connected) -> Flow<'o> {
        self.sock = Some(c.sock.clone());
        if self.guest().is_some() {
            return self.drain(cx, op, 0);
        }
        if self.peer.is_some() && options::<Options>(cx.attr()).greet {
            self.more.get_or_insert_default().step = Step::Greeting;
            return op.io(Io::SendDatagrams(c.sock, None));
        }
        op.finished()
    }

    /// What the peer sent to the server's socket before it had one of its own is still there.
    fn drain<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>, done: u32) -> Flow<'o> {
        let server = self.guest().and_then(|g| g.link.hub().sock());
        match server.filter(|_| done < MAX_DRAIN) {
            Some(sock) => {
                self.more.get_or_insert_default().step = Step::Drain(done + 1);
                op.io(Io::PollDatagrams(sock))
            }
            None => self.settle(cx, op),
        }
    }

    /// The link is open.
    fn settle<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.take_late();
        if let Some(guest) = self.guest() {
            guest.look_later(cx);
        }
        op.finished()
    }
}

/// The address of a name that an open takes: the first that `bind` can reach, IPv4 first.
fn choose(mut list: Vec<SocketAddr>, options: &Options) -> Option<SocketAddr> {
    list.sort_by_key(SocketAddr::is_ipv6);
    list.truncate(MAX_ADDRESSES);
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
        for text in ["", "*", ":7000", "7000", "*:0", "127.0.0.1:0", "0.0.0.0:7000", "[::]:0"] {
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
