//! `cargo fuzz run spec`: see `fuzz/src/spec.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("spec");
