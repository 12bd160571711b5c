//! An address of this host that others can reach, for servers that listen on all of them. Invariant:
//! no packet is sent: a datagram socket that is only "connected" tells which address the system
//! would send from. It makes system calls, so it runs on the pool.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// Addresses of nobody (RFC 5737, RFC 3849): they take the default route.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// Devices looked at.
const MAX_DEVICES: usize = 64;

/// Turns "all addresses" into one that is good from another host: that of `device`, else the one
/// this host sends from, else any that is not loopback, else loopback.
pub(crate) fn usable(bound: SocketAddr, v6_first: bool, device: Option<&str>) -> SocketAddr {
    let families: &[IpAddr] = match bound {
        SocketAddr::V4(_) => &[FAR_V4],
        SocketAddr::V6(_) if v6_first => &[FAR_V6, FAR_V4],
        SocketAddr::V6(_) => &[FAR_V4, FAR_V6],
    };
    let found = match device {
        Some(d) => families.iter().find_map(|f| source(*f, Some(d))),
        None => families.iter().find_map(|f| source(*f, None)).or_else(|| {
            let devices = devices();
            families.iter().find_map(|f| devices.iter().find_map(|d| source(*f, Some(d))))
        }),
    };
    let loopback = match families[0] {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(found.unwrap_or(loopback), bound.port())
}

/// The address the system would send from to `far`.
fn source(far: IpAddr, device: Option<&str>) -> Option<IpAddr> {
    let far = SocketAddr::new(far, 9);
    let socket = Socket::new(Domain::for_address(far), Type::DGRAM, None).ok()?;
    if let Some(device) = device {
        bind_device(&socket, device)?;
    }
    socket.connect(&far.into()).ok()?;
    let ip = socket.local_addr().ok()?.as_socket()?.ip();
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (!ip.is_loopback() && !ip.is_unspecified() && !link_local).then_some(ip)
}

#[cfg(target_os = "linux")]
fn bind_device(socket: &Socket, device: &str) -> Option<()> {
    socket.bind_device(Some(device.as_bytes())).ok()
}

#[cfg(not(target_os = "linux"))]
fn bind_device(_: &Socket, _: &str) -> Option<()> {
    None
}

/// The network devices of this host, in the order of their names; none where the system does not say.
fn devices() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).take(MAX_DEVICES).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::super::is_local;
    use super::*;

    #[test]
    fn the_address_is_concrete_local_and_keeps_the_port() {
        for (bound, v6_first) in [("0.0.0.0:7", false), ("[::]:7", false), ("[::]:7", true)] {
            for device in [None, Some("lo"), Some("no-such-device")] {
                let a = usable(bound.parse().unwrap(), v6_first, device);
                assert!(!a.ip().is_unspecified() && a.port() == 7, "{a}");
                assert_ne!(is_local(a.ip(), 0), Some(false), "{a}");
            }
        }
    }

    #[test]
    fn without_a_way_out_it_is_loopback() {
        let v4 = usable("0.0.0.0:7".parse().unwrap(), false, Some("no-such-device"));
        assert_eq!(v4.to_string(), "127.0.0.1:7");
        let v6 = usable("[::]:7".parse().unwrap(), true, Some("no-such-device"));
        assert_eq!(v6.to_string(), "[::1]:7");
        assert!(devices().iter().all(|d| !d.is_empty()));
    }
}
