//! Where a server listens: contact and options together, address by address until one is free.
//! Invariant: a host or port that the contact names is never replaced by another.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xio_core::{Contact, Error, ErrorKind};

use super::Options;
use super::race::MAX_ADDRESSES;
use crate::net::{Host, HostPort, PortRange, address, bad, canonical};

/// Where to listen: each host with each port, until one is free.
#[derive(Default)]
pub(super) struct Places {
    pub(super) text: String,
    /// IPv4 stands in where the system has no IPv6.
    any: bool,
    pub(super) v6_first: bool,
    pub(super) hosts: VecDeque<(IpAddr, u32)>,
    pub(super) ports: Option<PortRange>,
    pub(super) port: u16,
    left: VecDeque<SocketAddr>,
}

impl Places {
    /// From the contact and the options; with the name that has to be looked up first.
    pub(super) fn new(contact: &Contact, options: &Options) -> Result<(Self, Option<String>), Error> {
        let text = match contact {
            Contact::Text(t) => t,
            Contact::None => "*",
            Contact::Branches(_) => {
                let text = format!("`{contact}`: a map of branches, but `tcp` has none; write `host:port` or `:port`");
                return Err(Error::new(ErrorKind::InvalidContact).detail(text));
            }
        };
        let (at, bind) = (HostPort::parse(text)?, options.bind()?);
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
        let ports = if port == 0 { options.ports()? } else { None };
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
    pub(super) fn named(&mut self, mut list: Vec<SocketAddr>) {
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

    pub(super) fn next(&mut self) -> Option<SocketAddr> {
        self.left.pop_front()
    }

    /// Whether there is another place to try after this failure.
    pub(super) fn goes_on_after(&mut self, kind: ErrorKind) -> bool {
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

    fn places(contact: &str, options: &Options) -> Result<Vec<String>, Error> {
        let contact = if contact.is_empty() { Contact::None } else { Contact::new(contact) };
        let (mut p, name) = Places::new(&contact, options)?;
        Ok(name.into_iter().chain(std::iter::from_fn(|| p.next().map(|a| a.to_string()))).collect())
    }

    #[test]
    fn contact_and_bind_make_one_place() {
        let o = Options::default();
        let bind = o.clone().with_bind(Some("127.0.0.1".into()));
        let port = o.clone().with_bind(Some(":5".into()));
        let range = o.clone().with_port_range(Some("5-6".into()));
        for (contact, options, want) in [
            ("", &o, &["[::]:0"][..]),
            ("*", &o, &["[::]:0"]),
            ("7000", &o, &["[::]:7000"]),
            ("127.0.0.1:7", &o, &["127.0.0.1:7"]),
            ("name:7", &o, &["name"]),
            ("", &bind, &["127.0.0.1:0"]),
            (":7", &bind, &["127.0.0.1:7"]),
            ("127.0.0.1:7", &bind, &["127.0.0.1:7"]),
            (":0", &port, &["[::]:5"]),
            (":0", &range, &["[::]:5", "[::]:6"]),
            (":9", &range, &["[::]:9"]),
            ("[::1]:0", &range, &["[::1]:5", "[::1]:6"]),
        ] {
            assert_eq!(places(contact, options).unwrap(), want, "{contact}");
        }
        for (contact, options, text) in [
            ("10.0.0.1:7", &bind, "`bind=127.0.0.1` names one too"),
            (":7", &port, "the contact names port 7, and `bind` port 5"),
            ("127.0.0.1", &o, "the port is missing (at byte 9); write `host:port`; port 0 takes a free one"),
            ("x y", &o, "cannot stand in a host name"),
        ] {
            let e = places(contact, options).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidContact);
            assert!(e.to_string().contains(text), "{contact}: {e}");
        }
        let map = Contact::None.with_branch("a", Contact::new("x:1"));
        assert!(Places::new(&map, &o).is_err_and(|e| e.to_string().contains("a map of branches")));
    }

    #[test]
    fn the_next_place_depends_on_why_the_last_failed() {
        let o = Options::default();
        let range = o.clone().with_port_range(Some("5-6".into()));
        let (mut p, _) = Places::new(&Contact::None, &range).unwrap();
        assert_eq!(p.next().unwrap().port(), 5);
        assert!(p.goes_on_after(ErrorKind::AddrInUse));
        assert_eq!(p.next().unwrap().to_string(), "[::]:6");
        assert!(!p.goes_on_after(ErrorKind::AddrInUse));
        let (mut p, _) = Places::new(&Contact::new(":7"), &o).unwrap();
        p.next();
        assert!(p.goes_on_after(ErrorKind::Io));
        assert_eq!(p.next().unwrap().to_string(), "0.0.0.0:7");
        assert!(!p.goes_on_after(ErrorKind::Io));
        let (mut p, _) = Places::new(&Contact::new("name:7"), &o).unwrap();
        p.named(["[::1]:7", "10.0.0.1:7"].map(|a| a.parse().unwrap()).into());
        assert_eq!(p.next().unwrap().to_string(), "10.0.0.1:7");
        assert!(p.goes_on_after(ErrorKind::AddrNotAvailable));
        assert_eq!(p.next().unwrap().to_string(), "[::1]:7");
        assert!(!p.goes_on_after(ErrorKind::AddrNotAvailable));
    }
}
