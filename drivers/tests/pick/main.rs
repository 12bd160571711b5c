//! One handle over several branches: routing, merging, ends and errors of branches, servers.
#![cfg(all(feature = "pick", feature = "loop", feature = "frame", feature = "rate"))]

mod again;
mod ask;
mod bed;
mod bind;
mod close;
mod end;
mod nest;
mod open;
mod read;
mod server;
mod write;
