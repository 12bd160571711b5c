//! What can be set on a `udp` level, and what of it goes together. Invariant: options that passed
//! [`Attr::check`](xio_core::attr::Attr::check) make [`DatagramOptions`] without an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use xio_core::attr::Size;
use xio_core::datagram::{DatagramOptions, MAX_DATAGRAM};
use xio_core::io::SocketOptions;
use xio_core::schema::ValueKind;
use xio_core::{Contact, Error, ErrorKind};

use crate::net::{self, Host, HostPort, Places, PortRange, address};

/// Largest socket buffer; the kernel doubles it and counts in an `int`.
const MAX_BUFFER: u64 = 1 << 30;
const BUFFER: ValueKind = ValueKind::Size { min: 1, max: MAX_BUFFER };
const TTL: ValueKind = ValueKind::Int { min: 0, max: 255 };
/// Longest name of a device (`IFNAMSIZ`), less one.
const MAX_WORD: usize = 15;
/// Most groups that one socket joins (`net.ipv4.igmp_max_memberships` is 20 by default).
const MAX_GROUPS: usize = 20;

xio_core::options! {
    /// Options of the `udp` driver.
    pub struct Options for "udp" {
        /// Longest datagram that is sent, in bytes.
        max, with_max: Size = Size(MAX_DATAGRAM as u64), ValueKind::Size { min: 1, max: MAX_DATAGRAM as u64 };
        /// Datagrams of equal length go and come many in one system call (GSO, GRO). They are not fragmented then.
        batch, with_batch: bool = false, ValueKind::Bool;
        /// Tell the peer of an open by an empty datagram, and take such a first datagram as no message.
        greet, with_greet: bool = false, ValueKind::Bool;
        /// Local address to use, numeric, with or without a port: `192.0.2.1`, `[::1]:5000`, `:5000`.
        bind, with_bind: Option<String> = None, ValueKind::Text;
        /// Network device to send and receive through, like `wlan0`.
        device, with_device: Option<String> = None, ValueKind::Text;
        /// Local ports to choose from, like `26000-26100`; the first that is free is taken.
        port_range, with_port_range: Option<String> = None, ValueKind::Text;
        /// Let several sockets have the same address, each of which gets what is sent to its groups.
        reuse, with_reuse: bool = false, ValueKind::Bool;
        /// Size of the system's send buffer.
        sndbuf, with_sndbuf: Option<Size> = None, BUFFER, runtime;
        /// Size of the system's receive buffer.
        rcvbuf, with_rcvbuf: Option<Size> = None, BUFFER, runtime;
        /// Differentiated services code point (RFC 2474).
        dscp, with_dscp: Option<u8> = None, ValueKind::Int { min: 0, max: 63 };
        /// Time to live (hop limit) of what is sent to one host.
        ttl, with_ttl: Option<u8> = None, ValueKind::Int { min: 1, max: 255 };
        /// May send to broadcast addresses.
        broadcast, with_broadcast: bool = false, ValueKind::Bool;
        /// Multicast groups to join.
        join, with_join: Vec<String> = Vec::new(), ValueKind::List(&ValueKind::Text);
        /// Network device of the groups: joined there, sent from there.
        interface, with_interface: Option<String> = None, ValueKind::Text;
        /// Time to live (hop limit) of what is sent to groups; the system's is 1.
        group_ttl, with_group_ttl: Option<u8> = None, TTL;
        /// Whether what is sent to groups comes to this host, too; the system's is yes.
        group_loop, with_group_loop: Option<bool> = None, ValueKind::Bool;
        /// Links of a server that may wait to be accepted.
        backlog, with_backlog: u32 = 128, ValueKind::Int { min: 1, max: 65_535 };
        /// Peers that a server has links with at one time, those that wait included.
        links, with_links: u32 = 1024, ValueKind::Int { min: 1, max: 1_000_000 };
        /// Bytes of datagrams that wait in a link that nobody has opened yet.
        early, with_early: Size = Size(64 * 1024), ValueKind::Size { min: 0, max: 1 << 24 };
        /// A link whose peer is silent for so long ends; `0s`: never (RFC 4787 REQ-5: not under two minutes).
        idle, with_idle: Duration = Duration::from_secs(300), ValueKind::Duration { max: Duration::from_secs(86_400) };
        /// How many times the bytes that came from it a link sends to a peer that may be forged; 0: no limit.
        amplify, with_amplify: u32 = 3, ValueKind::Int { min: 0, max: 1000 };
        /// How long a blocking caller spins before it sleeps.
        spin, with_spin: Duration = Duration::ZERO, ValueKind::Duration { max: Duration::from_secs(1) }, runtime;
        check check;
        contact super::open::check_contact;
    }
}

impl Options {
    /// Longest datagram that is sent.
    pub(super) fn most(&self) -> usize {
        size(self.max)
    }

    /// The socket, but for who is at its ends.
    pub(super) fn socket(&self) -> DatagramOptions {
        let mut socket = SocketOptions::default();
        socket.send_buffer = self.sndbuf.map(size);
        socket.recv_buffer = self.rcvbuf.map(size);
        socket.reuse = self.reuse;
        socket.device = self.device.clone();
        socket.dscp = self.dscp;
        socket.spin = self.spin;
        let mut o = DatagramOptions::default();
        o.socket = socket;
        o.batches = self.batch;
        o.broadcast = self.broadcast;
        o.interface = self.interface.clone();
        o.group_ttl = self.group_ttl;
        o.group_loop = self.group_loop;
        o.ttl = self.ttl;
        o
    }

    /// A socket for a peer.
    pub(super) fn towards(&self, to: SocketAddr) -> Result<DatagramOptions, Error> {
        let mut o = self.socket();
        let bind = self.bind()?;
        let (ip, scope) = match bind.host {
            Host::Ip(ip, scope) => (ip, scope),
            _ if to.is_ipv4() => (Ipv4Addr::UNSPECIFIED.into(), 0),
            _ => (Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        if ip.is_ipv4() != to.is_ipv4() {
            let text = format!("{to} cannot be reached from `bind={ip}`: one is IPv4, the other IPv6");
            return Err(Error::new(ErrorKind::AddrNotAvailable).detail(text));
        }
        o.socket.bind = match (bind.port, self.ports()?) {
            (Some(port), _) => vec![address(ip, scope, port)],
            (None, Some(range)) => range.ports().map(|p| address(ip, scope, p)).collect(),
            (None, None) if ip.is_unspecified() => Vec::new(),
            (None, None) => vec![address(ip, scope, 0)],
        };
        o.groups = self.groups()?;
        o.to = Some(to);
        Ok(o)
    }

    /// A socket for whoever sends to `at`.
    pub(super) fn at(&self, at: SocketAddr) -> Result<DatagramOptions, Error> {
        let mut o = self.socket();
        o.socket.bind = vec![at];
        o.groups = self.groups()?;
        Ok(o)
    }

    /// The local address, `*` where none is set.
    pub(super) fn bind(&self) -> Result<HostPort, Error> {
        net::bind(self.bind.as_deref()).map_err(wrong)
    }

    /// Where a socket for whoever sends is bound, and the name to look up first.
    pub(super) fn places(&self, contact: &Contact) -> Result<(Places, Option<String>), Error> {
        Places::new(Self::DRIVER, contact, self.bind()?, self.ports()?)
    }

    /// The local ports to choose from.
    fn ports(&self) -> Result<Option<PortRange>, Error> {
        let range = self.port_range.as_deref().map(PortRange::parse).transpose();
        range.map_err(|e| wrong(format!("`port_range`: {e}")))
    }

    fn groups(&self) -> Result<Vec<IpAddr>, Error> {
        let group = |t: &String| match t.parse::<IpAddr>() {
            Ok(ip) if ip.is_multicast() => Ok(ip),
            _ => Err(wrong(format!("`join` takes the address of a group, like `239.1.2.3` or `ff15::1`, not `{t}`"))),
        };
        self.join.iter().map(group).collect()
    }
}

/// Bytes of a size option.
pub(super) fn size(s: Size) -> usize {
    usize::try_from(s.0).unwrap_or(usize::MAX)
}

/// What no single option can tell.
fn check(o: &Options) -> Result<(), Error> {
    for (name, value) in [("device", &o.device), ("interface", &o.interface)] {
        let fits = |s: &str| (1..=MAX_WORD).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if value.as_deref().is_some_and(|v| !fits(v)) {
            return Err(wrong(format!("`{name}` is a name of 1 to {MAX_WORD} characters, without spaces and `/`")));
        }
    }
    if o.groups()?.len() > MAX_GROUPS {
        return Err(wrong(format!("`join` takes at most {MAX_GROUPS} groups")));
    }
    if o.batch && o.dscp.is_some() {
        return Err(wrong("`batch` and `dscp` do not go together; leave one of them out".into()));
    }
    if o.ports()?.is_some() && o.bind()?.port.is_some() {
        return Err(wrong("`bind` names a port and `port_range` others; leave one of them out".into()));
    }
    o.bind().map(drop)
}

#[cold]
fn wrong(text: String) -> Error {
    Error::new(ErrorKind::InvalidInput).detail(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xio_core::attr::Attr;

    fn refused(o: &Options, text: &str) {
        let e = o.check().unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidInput && e.to_string().contains(text), "{e}");
    }

    #[test]
    fn contradictions_are_refused() {
        let o = Options::default;
        o().check().unwrap();
        refused(&o().with_device(Some("a/b".into())), "`device` is a name");
        refused(&o().with_interface(Some(String::new())), "`interface` is a name");
        refused(&o().with_join(vec!["10.0.0.1".into()]), "`join` takes the address of a group");
        refused(&o().with_join(vec!["239.0.0.1".into(); 21]), "at most 20 groups");
        refused(&o().with_batch(true).with_dscp(Some(1)), "do not go together");
        refused(&o().with_bind(Some("localhost".into())), "names are not looked up");
        refused(&o().with_port_range(Some("9-8".into())), "ends before it begins");
        let both = o().with_bind(Some(":5".into())).with_port_range(Some("5-6".into()));
        refused(&both, "leave one of them out");
    }

    #[test]
    fn everything_reaches_the_socket() {
        let o = Options::default()
            .with_batch(true)
            .with_reuse(true)
            .with_broadcast(true)
            .with_join(vec!["239.1.2.3".into(), "ff15::1".into()])
            .with_interface(Some("lo".into()))
            .with_device(Some("lo".into()))
            .with_group_ttl(Some(0))
            .with_group_loop(Some(false))
            .with_ttl(Some(9))
            .with_sndbuf(Some(Size(1)))
            .with_rcvbuf(Some(Size(2)))
            .with_spin(Duration::from_micros(5))
            .with_bind(Some("127.0.0.1:9".into()));
        let got = o.towards("127.0.0.1:7".parse().unwrap()).unwrap();
        assert_eq!(got.socket.bind, ["127.0.0.1:9".parse().unwrap()]);
        assert_eq!((got.socket.send_buffer, got.socket.recv_buffer, got.socket.reuse), (Some(1), Some(2), true));
        assert_eq!((got.batches, got.broadcast, got.ttl), (true, true, Some(9)));
        assert_eq!((got.group_ttl, got.group_loop), (Some(0), Some(false)));
        assert_eq!(got.groups, ["239.1.2.3".parse::<IpAddr>().unwrap(), "ff15::1".parse().unwrap()]);
        assert_eq!((got.interface.as_deref(), got.socket.device.as_deref()), (Some("lo"), Some("lo")));
        assert_eq!(got.to, Some("127.0.0.1:7".parse().unwrap()));
        let range = o.clone().with_bind(None).with_port_range(Some("5-6".into()));
        let text: Vec<_> =
            range.towards("[::1]:7".parse().unwrap()).unwrap().socket.bind.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["[::]:5", "[::]:6"]);
        assert!(o.towards("[::1]:7".parse().unwrap()).is_err_and(|e| e.kind() == ErrorKind::AddrNotAvailable));
    }
}
