//! The binary `xio` as others see it: exit codes, texts, bytes.

mod bench;
mod demo;
mod describe;
mod errors;
mod kit;
mod relay;
mod signals;
mod xio;
