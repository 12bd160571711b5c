//! `cargo fuzz run file`: see `fuzz/src/file.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("file");
