//! `cargo fuzz run udp`: see `fuzz/src/udp.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("udp");
