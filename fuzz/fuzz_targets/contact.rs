//! `cargo fuzz run contact`: see `fuzz/src/contact.rs`.
#![cfg_attr(fuzzing, no_main)]

xio_fuzz::target!("contact");
