//! `file` against real files, pipes and terminals: what is read is what was written, nothing is lost
//! when an op is stopped, and nothing that was given is changed.
#![cfg(feature = "file")]

mod fixture;
mod model;
mod open;
mod pipe;
mod place;
mod standard;
mod write;
