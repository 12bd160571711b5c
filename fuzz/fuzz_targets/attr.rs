//! `cargo fuzz run attr`: see `fuzz/src/attr.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("attr");
