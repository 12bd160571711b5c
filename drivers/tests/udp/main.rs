//! `udp`: over real sockets, with a foreign peer, and in a simulated network that loses, doubles and reorders.
#![cfg(all(feature = "udp", feature = "queue"))]

mod batch;
mod evpath;
mod fixture;
mod foreign;
mod groups;
mod handle;
mod server;
mod sim;
