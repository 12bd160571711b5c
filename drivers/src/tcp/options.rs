//! What can be set on a `tcp` level, and what of it goes together. Invariant: options that passed
//! [`Attr::check`](xio_core::attr::Attr::check) make a [`SocketOptions`] without an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use xio_core::attr::Size;
use xio_core::io::{Keepalive, SocketOptions};
use xio_core::schema::ValueKind;
use xio_core::{Contact, Error, ErrorKind};

use crate::net::{self, Host, HostPort, Places, PortRange, address};

/// Largest socket buffer; the kernel doubles it and counts in an `int`.
const MAX_BUFFER: u64 = 1 << 30;
const BUFFER: ValueKind = ValueKind::Size { min: 1, max: MAX_BUFFER };
/// Linux keeps the times of keepalive in seconds, at most 32767 of them (`MAX_TCP_KEEPIDLE`).
const KEEPALIVE: ValueKind = ValueKind::Duration { max: Duration::from_secs(32_767) };
/// Longest name of a device or of a congestion control (`IFNAMSIZ`, `TCP_CA_NAME_MAX`), less one.
const MAX_WORD: usize = 15;

xio_core::options! {
    /// Options of the `tcp` driver.
    pub struct Options for "tcp" {
        /// Send small segments at once, without waiting for acknowledgements (Nagle's algorithm off).
        nodelay, with_nodelay: bool = false, ValueKind::Bool, runtime;
        /// Probe a peer that was silent for so long; whole seconds.
        keepalive, with_keepalive: Option<Duration> = None, KEEPALIVE;
        /// Time between probes; whole seconds. Needs `keepalive`.
        keepalive_interval, with_keepalive_interval: Option<Duration> = None, KEEPALIVE;
        /// Probes without an answer before the connection is given up. Needs `keepalive`.
        keepalive_count, with_keepalive_count: Option<u32> = None, ValueKind::Int { min: 1, max: 127 };
        /// Size of the system's send buffer; unset, the system tunes it.
        sndbuf, with_sndbuf: Option<Size> = None, BUFFER, runtime;
        /// Size of the system's receive buffer; unset, the system tunes it.
        rcvbuf, with_rcvbuf: Option<Size> = None, BUFFER, runtime;
        /// Let a listener take an address that ended connections still hold.
        reuse, with_reuse: bool = true, ValueKind::Bool;
        /// Connections that may wait to be accepted.
        backlog, with_backlog: u32 = 1024, ValueKind::Int { min: 1, max: 65_535 };
        /// Local address to use, numeric, with or without a port: `192.0.2.1`, `[::1]:5000`, `:5000`.
        bind, with_bind: Option<String> = None, ValueKind::Text;
        /// Network device to send and receive through, like `wlan0`.
        device, with_device: Option<String> = None, ValueKind::Text;
        /// Local ports to choose from, like `26000-26100`; the first that is free is taken.
        port_range, with_port_range: Option<String> = None, ValueKind::Text;
        /// Congestion control of the system, like `bbr`.
        congestion, with_congestion: Option<String> = None, ValueKind::Text;
        /// Differentiated services code point (RFC 2474).
        dscp, with_dscp: Option<u8> = None, ValueKind::Int { min: 0, max: 63 };
        /// Give the connection up when data was unacknowledged for so long (RFC 5482); whole milliseconds.
        user_timeout, with_user_timeout: Option<Duration> = None, ValueKind::ANY_DURATION;
        /// Bytes that may wait unsent in the system before writes wait.
        notsent_lowat, with_notsent_lowat: Option<Size> = None, BUFFER, runtime;
        /// How long a close waits until the peer has everything; whole seconds, `0s` resets the connection.
        linger, with_linger: Option<Duration> = None, ValueKind::Duration { max: Duration::from_secs(65_535) };
        /// How long a blocking caller spins before it sleeps.
        spin, with_spin: Duration = Duration::ZERO, ValueKind::Duration { max: Duration::from_secs(1) }, runtime;
        live {
            /// A socket made elsewhere: connected for a handle, listening for a server. Opened with no contact.
            fd, with_fd: Option<Fd> = None;
        }
        check check;
        contact super::open::check_contact;
    }
}

/// A ready-made stream socket as an option. It is taken by the first open or listen; its copies are
/// empty from then on.
#[derive(Clone, Debug)]
pub struct Fd(Arc<Mutex<Option<OwnedFd>>>);

impl Fd {
    /// Wraps a socket: an `OwnedFd`, a `TcpStream`, a `TcpListener`, …
    pub fn new(socket: impl Into<OwnedFd>) -> Self {
        Self(Arc::new(Mutex::new(Some(socket.into()))))
    }

    /// Takes the socket out; there is none the second time.
    pub(super) fn take(&self) -> Result<OwnedFd, Error> {
        let text = "the ready-made socket (`fd`) was taken by an earlier open; give each open its own";
        self.0.lock().take().ok_or_else(|| Error::new(ErrorKind::InvalidInput).detail(text))
    }
}

impl Options {
    /// The part that a reactor sets on every socket.
    pub(super) fn socket(&self) -> SocketOptions {
        let size = |s: Size| usize::try_from(s.0).unwrap_or(usize::MAX);
        let mut o = SocketOptions::default();
        o.nodelay = self.nodelay;
        o.keepalive = self.keepalive.map(|idle| Keepalive {
            idle,
            interval: self.keepalive_interval,
            count: self.keepalive_count,
        });
        o.send_buffer = self.sndbuf.map(size);
        o.recv_buffer = self.rcvbuf.map(size);
        o.reuse = self.reuse;
        o.backlog = self.backlog;
        o.device = self.device.clone();
        o.congestion = self.congestion.clone();
        o.dscp = self.dscp;
        o.user_timeout = self.user_timeout;
        o.notsent_lowat = self.notsent_lowat.map(|s| u32::try_from(s.0).unwrap_or(u32::MAX));
        o.spin = self.spin;
        o
    }

    /// For a connection to `to`: the same with the local addresses to try.
    pub(super) fn towards(&self, to: SocketAddr) -> Result<SocketOptions, Error> {
        let mut o = self.socket();
        let bind = self.bind()?;
        let ip = match bind.host {
            Host::Ip(ip, scope) => (ip, scope),
            _ if to.is_ipv4() => (Ipv4Addr::UNSPECIFIED.into(), 0),
            _ => (Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        if ip.0.is_ipv4() != to.is_ipv4() {
            let text = format!("{to} cannot be reached from `bind={}`: one is IPv4, the other IPv6", ip.0);
            return Err(Error::new(ErrorKind::AddrNotAvailable).detail(text));
        }
        o.bind = match (bind.port, self.ports()?) {
            (Some(port), _) => vec![address(ip.0, ip.1, port)],
            (None, Some(range)) => range.ports().map(|p| address(ip.0, ip.1, p)).collect(),
            (None, None) if ip.0.is_unspecified() => Vec::new(),
            (None, None) => vec![address(ip.0, ip.1, 0)],
        };
        Ok(o)
    }

    /// The local address, `*` where none is set.
    pub(super) fn bind(&self) -> Result<HostPort, Error> {
        net::bind(self.bind.as_deref()).map_err(wrong)
    }

    /// Where a server of this contact listens, and the name to look up first.
    pub(super) fn places(&self, contact: &Contact) -> Result<(Places, Option<String>), Error> {
        Places::new(Self::DRIVER, contact, self.bind()?, self.ports()?)
    }

    /// The local ports to choose from.
    pub(super) fn ports(&self) -> Result<Option<PortRange>, Error> {
        let range = self.port_range.as_deref().map(PortRange::parse).transpose();
        range.map_err(|e| wrong(format!("`port_range`: {e}")))
    }
}

/// What no single option can tell.
fn check(o: &Options) -> Result<(), Error> {
    let seconds =
        [("keepalive", o.keepalive, 1), ("keepalive_interval", o.keepalive_interval, 1), ("linger", o.linger, 0)];
    for (name, value, least) in seconds {
        if value.is_some_and(|d| d.subsec_nanos() != 0 || d.as_secs() < least) {
            return Err(wrong(format!("`{name}` counts whole seconds from {least}s up")));
        }
    }
    let needless =
        [("keepalive_interval", o.keepalive_interval.is_some()), ("keepalive_count", o.keepalive_count.is_some())];
    if let (None, Some((name, _))) = (o.keepalive, needless.iter().find(|(_, set)| *set)) {
        return Err(wrong(format!("`{name}` does nothing without `keepalive`; add `keepalive=60s`")));
    }
    if o.user_timeout.is_some_and(|d| d.is_zero() || d.subsec_nanos() % 1_000_000 != 0) {
        return Err(wrong("`user_timeout` counts whole milliseconds from 1ms up".into()));
    }
    for (name, value) in [("device", &o.device), ("congestion", &o.congestion)] {
        let fits = |s: &str| (1..=MAX_WORD).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if value.as_deref().is_some_and(|v| !fits(v)) {
            return Err(wrong(format!("`{name}` is a name of 1 to {MAX_WORD} characters, without spaces and `/`")));
        }
    }
    let bind = o.bind()?;
    if o.ports()?.is_some() && bind.port.is_some() {
        return Err(wrong("`bind` names a port and `port_range` others; leave one of them out".into()));
    }
    if matches!(bind.host, Host::Ip(IpAddr::V4(ip), _) if ip.is_multicast() || ip.is_broadcast()) {
        return Err(wrong("`bind` is no address of a single host".into()));
    }
    if let Some((name, _)) =
        [("bind", o.bind.is_some()), ("device", o.device.is_some()), ("port_range", o.port_range.is_some())]
            .iter()
            .find(|(_, set)| o.fd.is_some() && *set)
    {
        return Err(wrong(format!("`{name}` does nothing to a ready-made socket (`fd`); leave one of them out")));
    }
    Ok(())
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
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains(text), "{e}");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let o = Options::default;
        let ms = Duration::from_millis;
        o().check().unwrap();
        refused(&o().with_keepalive(Some(ms(1500))), "`keepalive` counts whole seconds from 1s up");
        refused(&o().with_keepalive(Some(ms(0))), "`keepalive` counts whole seconds from 1s up");
        refused(&o().with_linger(Some(ms(100))), "`linger` counts whole seconds from 0s up");
        o().with_linger(Some(ms(0))).check().unwrap();
        refused(&o().with_keepalive_count(Some(3)), "`keepalive_count` does nothing without `keepalive`");
        refused(&o().with_keepalive_interval(Some(ms(1000))), "`keepalive_interval` does nothing");
        refused(&o().with_user_timeout(Some(ms(0))), "`user_timeout` counts whole milliseconds");
        refused(&o().with_user_timeout(Some(Duration::from_nanos(1))), "`user_timeout`");
        refused(&o().with_device(Some("a/b".into())), "`device` is a name");
        refused(&o().with_congestion(Some("x".repeat(16))), "`congestion` is a name");
        refused(&o().with_bind(Some("localhost".into())), "names are not looked up");
        refused(&o().with_bind(Some("::1:x".into())), "`bind`: `::1:x`: more than one `:`");
        refused(&o().with_bind(Some("255.255.255.255".into())), "no address of a single host");
        refused(&o().with_port_range(Some("9-8".into())), "ends before it begins");
        let both = o().with_bind(Some(":5".into())).with_port_range(Some("5-6".into()));
        refused(&both, "leave one of them out");
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        refused(&o().with_fd(Some(Fd::new(a))).with_device(Some("lo".into())), "`device` does nothing");
    }

    #[test]
    fn local_addresses_have_the_family_of_the_peer() {
        let (v4, v6) = ("10.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        let o = Options::default();
        assert!(o.towards(v4).unwrap().bind.is_empty());
        let range = o.clone().with_port_range(Some("5-6".into()));
        let text = |o: &Options, to| o.towards(to).map(|s| s.bind.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(text(&range, v4).unwrap(), ["0.0.0.0:5", "0.0.0.0:6"]);
        assert_eq!(text(&range, v6).unwrap(), ["[::]:5", "[::]:6"]);
        let bind = o.with_bind(Some("127.0.0.1".into()));
        assert_eq!(text(&bind, v4).unwrap(), ["127.0.0.1:0"]);
        let e = text(&bind, v6).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AddrNotAvailable);
        assert!(e.to_string().contains("one is IPv4, the other IPv6"));
    }

    #[test]
    fn everything_reaches_the_socket() {
        let s = Duration::from_secs;
        let o = Options::default()
            .with_nodelay(true)
            .with_keepalive(Some(s(60)))
            .with_keepalive_interval(Some(s(5)))
            .with_keepalive_count(Some(3))
            .with_sndbuf(Some(Size(4096)))
            .with_rcvbuf(Some(Size(8192)))
            .with_reuse(false)
            .with_backlog(7)
            .with_device(Some("lo".into()))
            .with_congestion(Some("reno".into()))
            .with_dscp(Some(46))
            .with_user_timeout(Some(s(9)))
            .with_notsent_lowat(Some(Size(16_384)))
            .with_spin(Duration::from_micros(50));
        o.check().unwrap();
        let mut want = SocketOptions::default();
        want.nodelay = true;
        want.keepalive = Some(Keepalive { idle: s(60), interval: Some(s(5)), count: Some(3) });
        want.send_buffer = Some(4096);
        want.recv_buffer = Some(8192);
        want.backlog = 7;
        want.device = Some("lo".into());
        want.congestion = Some("reno".into());
        want.dscp = Some(46);
        want.user_timeout = Some(s(9));
        want.notsent_lowat = Some(16_384);
        want.spin = Duration::from_micros(50);
        assert_eq!(o.socket(), want);
    }

    #[test]
    fn a_ready_made_socket_is_taken_once() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let fd = Fd::new(a);
        let copy = fd.clone();
        copy.take().unwrap();
        assert!(fd.take().unwrap_err().to_string().contains("taken by an earlier open"));
    }
}
