//! The programs are in `examples/`: `cargo run -p xio-examples --example echo`.
