//! Where a server listens: contact and options together, address by address until one is free.
//! Invariant: a host or port that the contact names is never replaced by another.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xio_core::{Contact, Error, ErrorKind};

use super::{Host, HostPort, PortRange, address, bad, canonical};

/// Most addresses of a name that are tried.
pub(crate) const MAX_ADDRESSES: usize = 32;

/// Where to listen: each host with each port, until one is free.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) text: String,
    /// IPv4 stands in where the system has no IPv6.
    any: bool,
    pub(crate) v6_first: bool,
    pub(crate) hosts: VecDeque<(IpAddr, u32)>,
    pub(crate) ports: Option<PortRange>,
    pub(crate) port: u16,
    left: VecDeque<SocketAddr>,
}

impl Places {
    /// From the contact of `driver` and what its options `bind` and `port_range` say; with the name that has
    /// to be looked up first.
    pub(crate) fn new(
        driver: &str,
        contact: &Contact,
        bind: HostPort,
        range: Option<PortRange>,
    ) -> Result<(Self, Option<String>), Error> {
        let text = match contact {
            Contact::Text(t) => t,
            Contact::None => "*",
            Contact::Branches(_) => {
                let text =
                    format!("`{contact}`: a map of branches, but `{driver}` has none; write `host:port` or `:port`");
                return Err(Error::new(ErrorKind::InvalidContact).detail(text));
            }
        };
        let at = HostPort::parse(text)?;
        if at.host != Host::Any && bind.host != Host::Any && at.host != bind.host {
            let help = format!("`bind={bind}` names one too; write `:port`, or leave `bind` out");
            return Err(bad(text, 0, "the contact names a local address", &help));
        }
        let given = at.port.filter(|p| *p > 0);
        if let (Some(a), Some(b)) = (given, bind.port.filter(|p| *p > 0 && Some(*p) != given)) {
            let what = format!("the contact names port {a}, and `bind` port {b}");
            return Err(bad(text, text.len(), &what, "leave one of them out"));
        }
        if at.port.is_none() && !matches!((&at.host, contact), (Host::Any, _)) {
            return Err(bad(text, text.len(), "the port is missing", "write `host:port`; port 0 takes a free one"));
        }
        let port = given.or(bind.port).unwrap_or(0);
        let ports = range.filter(|_| port == 0);
        let shown = if contact.is_none() { bind.to_string() } else { text.to_owned() };
        let mut out = Self { text: shown, ports, port, ..Self::default() };
        let host = if at.host == Host::Any { bind.host } else { at.host };
        match host {
            Host::Any => {
                out.any = true;
                out.hosts.push_back((Ipv6Addr::UNSPECIFIED.into(), 0));
            }
            Host::Ip(ip, scope) => {
                out.v6_first = ip.is_ipv6();
                out.hosts.push_back((ip, scope));
            }
            Host::Name(name) => return Ok((out, Some(name))),
        }
        out.fill();
        Ok((out, None))
    }

    /// The addresses of the name are known. IPv4 first: clients of both kinds reach it.
    pub(crate) fn named(&mut self, mut list: Vec<SocketAddr>) {
        list.sort_by_key(SocketAddr::is_ipv6);
        list.truncate(MAX_ADDRESSES);
        let scope = |a: &SocketAddr| if let SocketAddr::V6(a) = a { a.scope_id() } else { 0 };
        self.hosts = list.iter().map(|a| (canonical(*a).ip(), scope(a))).collect();
        self.fill();
    }

    fn fill(&mut self) {
        let Some(&(ip, scope)) = self.hosts.front() else { return };
        self.left = match self.ports {
            Some(range) => range.ports().map(|p| address(ip, scope, p)).collect(),
            None => VecDeque::from([address(ip, scope, self.port)]),
        };
    }

    pub(crate) fn next(&mut self) -> Option<SocketAddr> {
        self.left.pop_front()
    }

    /// Whether there is another place to try after this failure.
    pub(crate) fn goes_on_after(&mut self, kind: ErrorKind) -> bool {
        if kind == ErrorKind::AddrInUse && !self.left.is_empty() {
            return true;
        }
        let lasting = !matches!(kind, ErrorKind::AddrInUse | ErrorKind::PermissionDenied | ErrorKind::Exhausted);
        if std::mem::take(&mut self.any) && lasting {
            self.hosts = VecDeque::from([(Ipv4Addr::UNSPECIFIED.into(), 0)]);
        } else if self.hosts.len() > 1 && kind == ErrorKind::AddrNotAvailable {
            self.hosts.pop_front();
        } else {
            return false;
        }
        self.fill();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `bind` and a `port_range`.
    type Given = (&'static str, &'static str);

    fn new(contact: &Contact, (bind, range): Given) -> Result<(Places, Option<String>), Error> {
        let bind = HostPort::parse(if bind.is_empty() { "*" } else { bind })?;
        Places::new("test", contact, bind, PortRange::parse(range).ok())
    }

    fn places(contact: &str, given: Given) -> Result<Vec<String>, Error> {
        let contact = if contact.is_empty() { Contact::None } else { Contact::new(contact) };
        let (mut p, name) = new(&contact, given)?;
        Ok(name.into_iter().chain(std::iter::from_fn(|| p.next().map(|a| a.to_string()))).collect())
    }

    #[test]
    fn contact_and_bind_make_one_place() {
        let (o, bind, port, range) = (("", ""), ("127.0.0.1", ""), (":5", ""), ("", "5-6"));
        for (contact, given, want) in [
            ("", o, &["[::]:0"][..]),
            ("*", o, &["[::]:0"]),
            ("7000", o, &["[::]:7000"]),
            ("127.0.0.1:7", o, &["127.0.0.1:7"]),
            ("name:7", o, &["name"]),
            ("", bind, &["127.0.0.1:0"]),
            (":7", bind, &["127.0.0.1:7"]),
            ("127.0.0.1:7", bind, &["127.0.0.1:7"]),
            (":0", port, &["[::]:5"]),
            (":0", range, &["[::]:5", "[::]:6"]),
            (":9", range, &["[::]:9"]),
            ("[::1]:0", range, &["[::1]:5", "[::1]:6"]),
        ] {
            assert_eq!(places(contact, given).unwrap(), want, "{contact}");
        }
        for (contact, given, text) in [
            ("10.0.0.1:7", bind, "`bind=127.0.0.1` names one too"),
            (":7", port, "the contact names port 7, and `bind` port 5"),
            ("127.0.0.1", o, "the port is missing (at byte 9); write `host:port`; port 0 takes a free one"),
            ("x y", o, "cannot stand in a host name"),
        ] {
            let e = places(contact, given).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidContact);
            assert!(e.to_string().contains(text), "{contact}: {e}");
        }
        let map = Contact::None.with_branch("a", Contact::new("x:1"));
        assert!(new(&map, o).is_err_and(|e| e.to_string().contains("a map of branches")));
    }

    #[test]
    fn the_next_place_depends_on_why_the_last_failed() {
        let (o, range) = (("", ""), ("", "5-6"));
        let (mut p, _) = new(&Contact::None, range).unwrap();
        assert_eq!(p.next().unwrap().port(), 5);
        assert!(p.goes_on_after(ErrorKind::AddrInUse));
        assert_eq!(p.next().unwrap().to_string(), "[::]:6");
        assert!(!p.goes_on_after(ErrorKind::AddrInUse));
        let (mut p, _) = new(&Contact::new(":7"), o).unwrap();
        p.next();
        assert!(p.goes_on_after(ErrorKind::Io));
        assert_eq!(p.next().unwrap().to_string(), "0.0.0.0:7");
        assert!(!p.goes_on_after(ErrorKind::Io));
        let (mut p, _) = new(&Contact::new("name:7"), o).unwrap();
        p.named(["[::1]:7", "10.0.0.1:7"].map(|a| a.parse().unwrap()).into());
        assert_eq!(p.next().unwrap().to_string(), "10.0.0.1:7");
        assert!(p.goes_on_after(ErrorKind::AddrNotAvailable));
        assert_eq!(p.next().unwrap().to_string(), "[::1]:7");
        assert!(!p.goes_on_after(ErrorKind::AddrNotAvailable));
    }
}
