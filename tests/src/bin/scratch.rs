//! Scratch.
use std::time::Instant;
use xio_core::{Engine, LevelNode, Stack};
use xio_drivers::{frame, null, queue, void};
use xio_peers::counting;
#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();
fn run(name: &str, engine: &Engine, node: LevelNode, size: usize) {
    let stack = Stack::new(node).unwrap();
    let h = engine.open(&stack, ()).wait().unwrap();
    let buf = vec![1u8; size];
    let mut best = f64::MAX;
    let mut al = 0.0;
    for _ in 0..10 {
        let n = 100_000;
        let a = counting::thread();
        let t = Instant::now();
        for _ in 0..n { h.write_from(&buf).wait().unwrap(); }
        best = best.min(t.elapsed().as_nanos() as f64 / n as f64);
        al = counting::thread().since(a).allocations as f64 / n as f64;
    }
    println!("{name} {size}: {best:.1} ns, {al:.4} allocs");
}
fn main() {
    let engine = Engine::new().unwrap();
    let v = || LevelNode::new(void::driver());
    let q = |early: bool| LevelNode::new(queue::driver()).with_attr(Box::new(queue::Options::default().with_early(early)));
    let f = || LevelNode::new(frame::driver());
    run("void", &engine, v(), 64);
    run("null/void", &engine, LevelNode::new(null::driver()).over(v()), 64);
    run("frame/void", &engine, f().over(v()), 64);
    run("frame/void", &engine, f().over(v()), 4096);
    run("queue/void", &engine, q(false).over(v()), 64);
    run("queue/frame/void", &engine, q(false).over(f().over(v())), 64);
    run("queue(early)/frame/void", &engine, q(true).over(f().over(v())), 64);
    run("queue(early)/frame/void", &engine, q(true).over(f().over(v())), 4096);
    // reads: frame over void reads zero-length messages forever
    let h = engine.open(&Stack::new(f().over(v())).unwrap(), ()).wait().unwrap();
    let mut b = [0u8; 64];
    let t = Instant::now();
    for _ in 0..1_000_000 { h.read_into(&mut b).wait().unwrap(); }
    println!("frame/void read: {:.1} ns", t.elapsed().as_nanos() as f64 / 1e6);
}
