//! `cargo fuzz run address`: see `fuzz/src/address.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("address");
