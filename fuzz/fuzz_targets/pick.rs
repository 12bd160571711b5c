//! `cargo fuzz run pick`: see `fuzz/src/pick.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("pick");
