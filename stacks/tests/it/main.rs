//! Tests of `xio-stacks` from outside: one binary, since linking is what takes time.

mod binding;
mod contacts;
mod diagnostics;
mod drivers;
mod laws;
mod shipped;
