//! `cargo fuzz run endpoint`: see `fuzz/src/endpoint.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("endpoint");
