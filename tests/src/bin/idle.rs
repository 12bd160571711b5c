//! Memory of an idle handle with one take read outstanding, over real sockets: live bytes of the
//! whole process before and after many pairs, divided by the handles. One JSON object a stack.
//!
//! `cargo run --release -p xio-tests --bin idle [PAIRS]`

use xio_core::Engine;
use xio_peers::counting;
use xio_tests::{pair, stack};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();

fn main() -> std::io::Result<()> {
    let pairs: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(500);
    let engine = Engine::new()?;
    for spec in ["tcp(nodelay)", "frame/tcp(nodelay)", "queue/frame/tcp(nodelay)"] {
        let stack = stack(spec);
        // What is made once: tables, threads, the thread's own lists.
        let first = pair(&engine, &stack)?;
        let mut handles = Vec::with_capacity(2 * pairs);
        let before = counting::global();
        for _ in 0..pairs {
            let (a, b) = pair(&engine, &stack)?;
            for h in [a, b] {
                h.take(64 * 1024).then(drop);
                handles.push(h);
            }
        }
        let bytes = (counting::global().live_bytes - before.live_bytes) as f64 / handles.len() as f64;
        println!("{{\"spec\": \"{spec}\", \"handles\": {}, \"bytes_per_idle_handle\": {bytes:.0}}}", handles.len());
        drop(first);
    }
    Ok(())
}
