//! `cargo fuzz run ops`: see `fuzz/src/ops.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("ops");
