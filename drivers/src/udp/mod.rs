//! The `udp` transport: datagrams over UDP, IPv4 and IPv6, to one peer or to many, with a server that makes
//! a link of each new peer.
//!
//! # Contact
//! | text | open | listen |
//! |---|---|---|
//! | `192.0.2.1:7000`, `[2001:db8::1]:7000` | a handle with this one peer | listens on that address |
//! | `example.org:7000` | looks the name up; its first address, IPv4 first | the same |
//! | `:7000`, `*:7000`, `7000` | a handle for whoever sends, bound there | listens on all addresses |
//! | `0.0.0.0:7000`, `[::]:7000` | the same, with IPv4 alone or both | the same |
//! | `192.0.2.1:0`, `:0`, `*` or nothing | the same on a free port | takes a free port |
//!
//! On a handle for whoever sends, a read gives its sender in the attr [`Peer`](xio_core::attr::Peer), and a
//! write needs one (a numeric address). On a handle with one peer nobody else's datagrams are read.
//!
//! # Options
//! | option | value | default | |
//! |---|---|---|---|
//! | `max` | size | 65507 B | longest datagram that is sent |
//! | `batch` | bool | `false` | many datagrams of equal length in one system call (GSO, GRO) |
//! | `greet` | bool | `false` | an open sends an empty datagram; a link's first one is no message if it is empty |
//! | `bind`, `port_range`, `device` | as `tcp` | any | local address and ports; network device |
//! | `reuse` | bool | `false` | several sockets on one address, for groups |
//! | `sndbuf`, `rcvbuf` | size, runtime | the system's | socket buffers |
//! | `dscp`, `ttl` | 0..=63, 1..=255 | the system's | |
//! | `broadcast` | bool | `false` | may send to broadcast addresses |
//! | `join` | list of addresses | none | multicast groups |
//! | `interface`, `group_ttl`, `group_loop` | name, 0..=255, bool | the system's | where and how far groups reach |
//! | `backlog`, `links` | numbers | 128, 1024 | links of a server that wait; links in all |
//! | `early` | size | 64 KiB | datagrams that wait in a link not opened yet |
//! | `idle` | duration | `300s` | a link whose peer is silent for so long ends |
//! | `amplify` | 0..=1000 | 3 | how many times what came may go to a peer that may be forged |
//! | `spin` | duration, runtime | `0s` | a blocking caller spins before it sleeps |
//!
//! # Contract notes
//! - One write is one datagram, or with the attr [`Segment`](xio_core::attr::Segment) many of so many bytes
//!   each. A read gives one datagram, and with the attr `Segment` (its value is not looked at) as many as
//!   came together from one sender and fit: the attr then holds the length of each but the last, and is
//!   gone where it is one. An empty datagram is a message. There is no end of stream.
//! - A datagram longer than the read ends it with `Truncated` and its real length; the rest is gone.
//! - That a datagram came back (ICMP) is told to one read, as `Refused`; the handle works on. A write never
//!   fails for an earlier one.
//! - A write finishes when the system has taken it. Datagrams get lost, doubled and overtaken.
//! - A server has one socket, and one for each link that is open. A link is made by the first datagram of a
//!   peer and ends with its handle; after that the peer makes a new one. What comes from new peers while
//!   `backlog` or `links` are used up is dropped and counted ([`Counts`]); a link that waits longer than
//!   `idle` is given up. Handles outlive their server.
//! - A peer's address may be forged. Until the owner says that it is not ([`Validated`]), a link sends it at
//!   most `amplify` times the bytes that came (RFC 9000 §8.1); more is `Busy`.
//! - `batch` sends no fragments: a datagram longer than the path takes is `TooLong`.

mod cntl;
mod driver;
mod guest;
mod hub;
mod level;
mod open;
mod options;
mod server;

pub use cntl::{Counts, Tally, Validated};
pub use driver::{Driver, driver};
pub use options::Options;
