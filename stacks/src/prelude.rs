//! The names that nearly every user of a stack needs. It holds re-exports only.

pub use crate::{
    Allow, Contact, Diagnostics, Endpoint, Engine, Error, ErrorKind, Handle, LevelSpec, Link, Registry, Server, Stack,
    StackSpec,
};
