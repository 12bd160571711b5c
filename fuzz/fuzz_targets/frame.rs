//! `cargo fuzz run frame`: see `fuzz/src/frame.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("frame");
