//! Host and port as text, for the transports that have them (`tcp`, `udp`). Invariant: reading never
//! panics, and `parse(print(a)) == a`. It looks nothing up: a name stays a name.

mod listening;
mod live;
mod local;
mod places;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};

use xio_core::{Contact, Error, ErrorKind, planted};

pub(crate) use listening::{Listed, Listening};
pub(crate) use live::{Live, LiveOptions, not_open, option};
pub(crate) use local::usable;
pub(crate) use places::{MAX_ADDRESSES, Places};

/// Longest host name in bytes (RFC 1035 §2.3.4).
pub(crate) const MAX_NAME: usize = 253;
/// Longest part of a contact that an error repeats, in characters.
const MAX_QUOTE: usize = 60;

/// The host of a contact.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// Every address of this host: `*`, or nothing.
    Any,
    /// A numeric address. The number is the scope (interface) of an IPv6 link-local address, else 0.
    Ip(IpAddr, u32),
    /// A name to look up.
    Name(String),
}

/// `host:port`, either of which may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

impl HostPort {
    /// Reads `host:port`, `[v6]:port`, `*:port`, `:port`, `port`, `host` or a bare IPv6 address.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidContact`]: what is wrong, at which byte, and how to write it.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(bad(text, 0, "the contact is empty", "write `host:port`"));
        }
        if let Some(rest) = text.strip_prefix('[') {
            return bracketed(text, rest);
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self { host: Host::Any, port: Some(port(text, 0, text)?) });
        }
        match text.bytes().filter(|b| *b == b':').count() {
            0 => Ok(Self { host: host(text, text)?, port: None }),
            1 => {
                let (before, after) = text.split_once(':').unwrap_or((text, ""));
                Ok(Self { host: host(text, before)?, port: Some(port(text, before.len() + 1, after)?) })
            }
            _ => match v6(text) {
                Some((ip, scope)) => Ok(Self { host: Host::Ip(ip.into(), scope), port: None }),
                None => {
                    Err(bad(text, 0, "more than one `:`", "write `host:port`, and an IPv6 address as `[address]:port`"))
                }
            },
        }
    }

    /// The address and port, where the host is numeric and the port known.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match (&self.host, self.port) {
            (Host::Ip(ip, scope), Some(port)) => Some(address(*ip, *scope, port)),
            _ => None,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Any, None) => f.write_str("*"),
            (Host::Any, Some(_)) => Ok(()),
            (Host::Ip(IpAddr::V6(ip), 0), _) => write!(f, "[{ip}]"),
            (Host::Ip(IpAddr::V6(ip), scope), _) => write!(f, "[{ip}%{scope}]"),
            (Host::Ip(ip, _), _) => write!(f, "{ip}"),
            // Only a scoped address has these: `fe80::1%eth0`.
            (Host::Name(name), _) if name.contains(':') => write!(f, "[{name}]"),
            (Host::Name(name), _) => f.write_str(name),
        }?;
        self.port.map_or(Ok(()), |p| write!(f, ":{p}"))
    }
}

/// A range of ports, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl PortRange {
    /// Reads `26000-26100`.
    ///
    /// # Errors
    /// How to write it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let number = |t: &str| plain_number(t).filter(|n| *n > 0);
        match text.split_once('-').map(|(a, b)| (number(a), number(b))) {
            Some((Some(first), Some(last))) if first <= last => Ok(Self { first, last }),
            Some((Some(_), Some(_))) => Err(format!("`{}` ends before it begins", clip(text))),
            _ => Err(format!("`{}` is no range of ports: write it like `26000-26100`", clip(text))),
        }
    }

    /// The ports, lowest first.
    pub(crate) fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// An address with its scope.
pub(crate) fn address(ip: IpAddr, scope: u32, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
        IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
    }
}

/// The address without the disguise that a listener for both families gives to IPv4 peers
/// (`[::ffff:10.0.0.1]:7000` is `10.0.0.1:7000`).
pub(crate) fn canonical(a: SocketAddr) -> SocketAddr {
    match a.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, a.port())),
        IpAddr::V6(_) => a,
    }
}

/// The numeric address in a contact, canonical; `None` for anything else.
pub(crate) fn numeric(contact: &Contact) -> Option<SocketAddr> {
    HostPort::parse(contact.text()?).ok()?.address().map(canonical)
}

/// The option `bind`: `*` where it is not set.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn bind(text: Option<&str>) -> Result<HostPort, String> {
    let Some(text) = text else { return Ok(HostPort { host: Host::Any, port: None }) };
    match HostPort::parse(text) {
        Ok(HostPort { host: Host::Name(_), .. }) => {
            Err(format!("`bind={text}` is no numeric address; names are not looked up here"))
        }
        Ok(b) => Ok(b),
        Err(e) => Err(format!("`bind`: {}", e.what())),
    }
}

/// The error of a lookup.
pub(crate) fn unresolved(e: std::io::Error) -> Error {
    let e = Error::from(e);
    match e.kind() {
        // A stop is a stop, and a limit a limit.
        ErrorKind::Cancelled | ErrorKind::TimedOut | ErrorKind::Exhausted => e,
        _ => Error::new(ErrorKind::Resolve).source_error(e),
    }
}

/// A socket's address as a contact, canonical; none where there is no such address.
pub(crate) fn contact(a: Option<SocketAddr>) -> Contact {
    a.map(canonical).map(Contact::from).unwrap_or_default()
}

/// Whether an address belongs to this host. `None`: the system would not say.
pub(crate) fn is_local(ip: IpAddr, scope: u32) -> Option<bool> {
    if ip.is_unspecified() || ip.is_loopback() {
        return Some(true);
    }
    match UdpSocket::bind(address(ip, scope, 0)) {
        Ok(_) => Some(true),
        Err(e) if e.kind() == std::io::ErrorKind::AddrNotAvailable => Some(false),
        Err(_) => None,
    }
}

/// An error about a contact: the text, what is wrong with it, where, and how to write it.
#[cold]
pub(crate) fn bad(text: &str, at: usize, what: &str, help: &str) -> Error {
    let detail = format!("`{}`: {what} (at byte {at}); {help}", clip(text));
    Error::new(ErrorKind::InvalidContact).detail(detail)
}

/// The beginning of a text, fit to be shown.
fn clip(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_QUOTE).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_QUOTE).is_some() {
        out.push('…');
    }
    out
}

fn bracketed(text: &str, rest: &str) -> Result<HostPort, Error> {
    let Some((inside, after)) = rest.split_once(']') else {
        return Err(bad(text, 0, "this bracket is never closed", "write `[address]:port`"));
    };
    let host = match v6(inside) {
        Some((ip, scope)) => Host::Ip(ip.into(), scope),
        None if is_scoped(inside) => Host::Name(inside.to_owned()),
        None => return Err(bad(text, 1, "no IPv6 address in the brackets", "write it like `[::1]:7000`")),
    };
    let at = inside.len() + 2;
    match after.strip_prefix(':') {
        Some(p) => Ok(HostPort { host, port: Some(port(text, at + 1, p)?) }),
        None if after.is_empty() => Ok(HostPort { host, port: None }),
        None => Err(bad(text, at, "expected `:` and a port", "write `[address]:port`")),
    }
}

/// An IPv6 address, with a numeric scope if there is one.
fn v6(text: &str) -> Option<(Ipv6Addr, u32)> {
    match text.split_once('%') {
        Some((ip, scope)) => Some((ip.parse().ok()?, plain_number(scope).filter(|n: &u32| *n > 0)?)),
        None => Some((text.parse().ok()?, 0)),
    }
}

/// Whether this is an IPv6 address with the name of an interface, which only the system can read.
fn is_scoped(text: &str) -> bool {
    text.split_once('%').is_some_and(|(ip, dev)| {
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let number = dev.bytes().all(|b| b.is_ascii_digit());
        ip.parse::<Ipv6Addr>().is_ok() && (1..16).contains(&dev.len()) && !number && dev.bytes().all(name)
    })
}

/// Digits only, and no zeros in front.
fn plain_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0') || planted("a port may have zeros in front");
    if digits && plain { text.parse().ok() } else { None }
}

fn port(text: &str, at: usize, port: &str) -> Result<u16, Error> {
    plain_number(port).ok_or_else(|| {
        let what = if port.is_empty() { "the port is missing" } else { "this is no port" };
        bad(text, at, what, "a port is a number 0..=65535")
    })
}

fn host(text: &str, host: &str) -> Result<Host, Error> {
    if host.is_empty() || host == "*" {
        return Ok(Host::Any);
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into(), 0));
    }
    if host.len() > MAX_NAME {
        return Err(bad(text, MAX_NAME, "the host name is longer than 253 bytes", "write a name or an address"));
    }
    let odd = |c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if let Some((at, c)) = host.char_indices().find(|(_, c)| odd(*c)) {
        let what = format!("`{}` cannot stand in a host name", c.escape_debug());
        return Err(bad(text, at, &what, "write a name or an address"));
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    if let Some(label) = labels.split('.').find(|l| l.is_empty() || l.len() > 63) {
        let what = if label.is_empty() { "an empty part between dots" } else { "a part longer than 63 bytes" };
        return Err(bad(text, 0, what, "write a name or an address"));
    }
    // A name that ends in a number would be read as an odd notation of an IPv4 address.
    if labels.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit())) {
        return Err(bad(text, 0, "this is no IPv4 address", "write four numbers 0..=255, like `192.0.2.1`"));
    }
    Ok(Host::Name(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> HostPort {
        HostPort::parse(text).unwrap()
    }

    fn contacts() -> impl Strategy<Value = HostPort> {
        let label = "[a-z][a-z0-9_-]{0,8}";
        let host = prop_oneof![
            Just(Host::Any),
            any::<[u8; 4]>().prop_map(|b| Host::Ip(IpAddr::from(b), 0)),
            (any::<[u8; 16]>(), 0u32..9).prop_map(|(b, scope)| Host::Ip(IpAddr::from(b), scope)),
            proptest::collection::vec(label, 1..4).prop_map(|l| Host::Name(l.join("."))),
            label.prop_map(|l| Host::Name(format!("fe80::1%{l}"))),
        ];
        (host, any::<Option<u16>>()).prop_map(|(host, port)| HostPort { host, port })
    }

    proptest! {
        #[test]
        fn printed_contacts_read_back(c in contacts()) {
            prop_assert_eq!(HostPort::parse(&c.to_string()).unwrap(), c);
        }

        #[test]
        fn addresses_read_back(v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(), port in any::<u16>()) {
            for ip in [IpAddr::from(v4), IpAddr::from(v6)] {
                let a = SocketAddr::from((ip, port));
                prop_assert_eq!(parse(&a.to_string()).address(), Some(a));
                prop_assert_eq!(numeric(&Contact::from(a)), Some(canonical(a)));
            }
        }

        #[test]
        fn garbage_never_panics_and_says_what_to_do(s in any::<String>(), t in "[\\[\\]:%.*0-9a-fé \\-]{0,40}") {
            for text in [&s, &t] {
                if let Err(e) = HostPort::parse(text) {
                    prop_assert_eq!(e.kind(), ErrorKind::InvalidContact);
                    prop_assert!(e.to_string().contains("at byte") && e.to_string().contains("; "), "{}", e);
                }
                let _ = PortRange::parse(text);
            }
        }

        #[test]
        fn ranges_read_back(a in 1u16.., b in 1u16..) {
            let (first, last) = (a.min(b), a.max(b));
            let range = PortRange { first, last };
            prop_assert_eq!(PortRange::parse(&range.to_string()), Ok(range));
            prop_assert_eq!(range.ports().count(), usize::from(last - first) + 1);
            let reversed = PortRange { first: last, last: first }.to_string();
            prop_assert!(a == b || PortRange::parse(&reversed).is_err());
        }
    }

    #[test]
    fn every_form_is_read() {
        let any = |port| HostPort { host: Host::Any, port };
        assert_eq!(parse(":7000"), any(Some(7000)));
        assert_eq!(parse("*:7000"), any(Some(7000)));
        assert_eq!(parse("7000"), any(Some(7000)));
        assert_eq!(parse("*"), any(None));
        assert_eq!(parse("localhost:0"), HostPort { host: Host::Name("localhost".into()), port: Some(0) });
        assert_eq!(parse("[::1]:7000").address(), Some("[::1]:7000".parse().unwrap()));
        assert_eq!(parse("::1").host, Host::Ip(Ipv6Addr::LOCALHOST.into(), 0));
        assert_eq!(parse("[fe80::1%2]:7").address(), Some("[fe80::1%2]:7".parse().unwrap()));
        assert_eq!(parse("[fe80::1%eth0]:7").host, Host::Name("fe80::1%eth0".into()));
        assert_eq!(parse("10.0.0.1").host, Host::Ip([10, 0, 0, 1].into(), 0));
        assert_eq!(parse("example.org.:80").host, Host::Name("example.org.".into()));
    }

    #[test]
    fn bad_contacts_say_what_where_and_what_to_do() {
        for (text, what) in [
            ("", "the contact is empty (at byte 0); write `host:port`"),
            ("host:", "the port is missing (at byte 5); a port is a number 0..=65535"),
            ("host:http", "this is no port (at byte 5)"),
            ("host:65536", "this is no port (at byte 5)"),
            ("host:080", "this is no port (at byte 5)"),
            ("host:+80", "this is no port (at byte 5)"),
            ("::1:x", "more than one `:`"),
            ("a:b:1", "an IPv6 address as `[address]:port`"),
            ("[::1:80", "this bracket is never closed (at byte 0)"),
            ("[::1]80", "expected `:` and a port (at byte 5)"),
            ("[host]:80", "no IPv6 address in the brackets (at byte 1)"),
            ("[fe80::1%]:80", "no IPv6 address in the brackets (at byte 1)"),
            ("ho st:80", "` ` cannot stand in a host name (at byte 2)"),
            ("a..b:80", "an empty part between dots"),
            ("127.1:80", "this is no IPv4 address (at byte 0); write four numbers"),
            ("256.0.0.1:80", "this is no IPv4 address"),
        ] {
            let e = HostPort::parse(text).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidContact);
            assert!(e.to_string().contains(what), "{text}: {e}");
        }
        let long = format!("{}:1", "x".repeat(300));
        assert!(HostPort::parse(&long).unwrap_err().to_string().len() < 200);
        assert!(HostPort::parse(&format!("{}.b:1", "x".repeat(64))).is_err());
        for range in ["", "1", "a-b", "0-5", "5-", "9-8", "1-70000", "1-2-3"] {
            assert!(PortRange::parse(range).is_err(), "{range}");
        }
    }

    #[test]
    fn disguised_addresses_come_out_plain() {
        let contact = |text: &str| contact(text.parse().ok());
        assert_eq!(contact("[::ffff:10.0.0.1]:7"), Contact::new("10.0.0.1:7"));
        assert_eq!(contact("[::1]:7"), Contact::new("[::1]:7"));
        assert_eq!(contact(""), Contact::None);
    }

    #[test]
    fn local_addresses_are_known() {
        assert_eq!(is_local(Ipv4Addr::LOCALHOST.into(), 0), Some(true));
        assert_eq!(is_local(Ipv4Addr::UNSPECIFIED.into(), 0), Some(true));
        // RFC 5737: an address of no host.
        assert_eq!(is_local([203, 0, 113, 9].into(), 0), Some(false));
    }
}
