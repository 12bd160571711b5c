//! The `tcp` transport: byte streams over TCP, client and server, IPv4 and IPv6.
//!
//! # Contact
//! | text | open | listen |
//! |---|---|---|
//! | `192.0.2.1:7000`, `[2001:db8::1]:7000`, `[fe80::1%eth0]:7000` | connects there | listens on that address |
//! | `example.org:7000` | looks the name up and races its addresses (RFC 8305) | listens on its first address, IPv4 first |
//! | `:7000`, `*:7000`, `7000` | refused: no host | listens on all addresses, IPv4 and IPv6 |
//! | `192.0.2.1:0`, `:0`, `*` or nothing | refused: no port | takes a free port (of `port_range`, if set) |
//!
//! A server's own contact is where others reach it: for "all addresses" the address of `device`, else
//! the one this host sends from, else any that is not loopback, else loopback. A server with `bind`
//! listens on that address; the contact then names no host of its own.
//!
//! # Options
//! | option | value | default | |
//! |---|---|---|---|
//! | `nodelay` | bool, runtime | `false` | small segments go at once |
//! | `keepalive`, `keepalive_interval`, `keepalive_count` | seconds, seconds, 1..=127 | off | probe a silent peer |
//! | `sndbuf`, `rcvbuf` | size, runtime | tuned by the system | socket buffers; the kernel doubles them |
//! | `reuse` | bool | `true` | a listener may take an address ended connections hold |
//! | `backlog` | 1..=65535 | 1024 | connections that may wait for an accept |
//! | `bind` | address, `address:port`, `:port` | any | local address |
//! | `device` | name | any | network device (`SO_BINDTODEVICE`) |
//! | `port_range` | `26000-26100` | any | local ports; the first that is free |
//! | `congestion` | name | the system's | congestion control |
//! | `dscp` | 0..=63 | the system's | differentiated services (RFC 2474) |
//! | `user_timeout` | duration | the system's | give up on unacknowledged data (RFC 5482) |
//! | `notsent_lowat` | size, runtime | the system's | bytes that may wait unsent |
//! | `linger` | seconds | the system's | what a close does: wait so long, `0s` resets |
//! | `spin` | duration, runtime | `0s` | a blocking caller spins before it sleeps |
//! | `fd` | in code only | none | a ready-made socket, connected or listening |
//!
//! `nodelay` is off like in the system; whoever exchanges small messages sets it. Runtime options
//! change with `SetOption` on an open handle; on a server they hold for connections accepted later.
//! `port_range` names the port for a server only where its contact and `bind` name none.
//!
//! # Contract notes
//! - One read and one write are with the system at a time; more wait in order at the level's gate.
//! - A write finishes when the system has taken it, not when the peer has it. A graceful close sends
//!   what the system has; a close with unread received data resets the connection (RFC 1122
//!   §4.2.2.13), so read to the end of stream before closing. `Abort` always resets.
//! - End of stream is [`Eof`](xio_core::ErrorKind::Eof); a reset is [`Reset`](xio_core::ErrorKind::Reset).
//! - Opening a name: families alternate, a new attempt starts every 250 ms or when one fails, the
//!   first connection wins. At most 32 addresses. The error of an open that failed on all lists them.
//! - Accepts: an error of one connection never ends an accept. Out of descriptors or memory, accepts
//!   wait 50 ms, doubling to 1 s, an event `Other("exhausted")` rises, and they go on by themselves.
//! - `is_self` knows the servers of its own [`Driver`] value: share one (a registry does).

mod cntl;
mod driver;
mod open;
mod options;
mod peer;
mod race;
mod server;

pub use driver::{Driver, driver};
pub use options::{Fd, Options};
