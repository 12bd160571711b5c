//! `cargo fuzz run shm`: see `fuzz/src/shm.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("shm");
