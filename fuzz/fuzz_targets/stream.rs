//! `cargo fuzz run stream`: see `fuzz/src/stream.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("stream");
