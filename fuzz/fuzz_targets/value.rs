//! `cargo fuzz run value`: see `fuzz/src/value.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("value");
