//! Scratch: ping-pong and stream over tcp against raw sockets, interleaved.
use std::time::Instant;
use xio_core::{Contact, Engine, Handle, LevelNode, Stack};
use xio_drivers::{frame, null, queue, tcp};
use xio_peers::placement::{Placement, Side};
use xio_peers::{counting, raw};
#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();

fn t() -> LevelNode { LevelNode::new(tcp::driver()).with_attr(Box::new(tcp::Options::default().with_nodelay(true))) }
fn spin() -> LevelNode { LevelNode::new(tcp::driver()).with_attr(Box::new(tcp::Options::default().with_nodelay(true).with_spin(std::time::Duration::from_micros(50)))) }
fn f() -> LevelNode { LevelNode::new(frame::driver()) }
fn q(early: bool) -> LevelNode { LevelNode::new(queue::driver()).with_attr(Box::new(queue::Options::default().with_early(early))) }
fn stacks() -> Vec<(&'static str, Stack)> {
    vec![
        ("tcp", t()),
        ("null*3/tcp", LevelNode::new(null::driver()).over(LevelNode::new(null::driver()).over(LevelNode::new(null::driver()).over(t())))),
        ("frame/tcp", f().over(t())),
        ("queue/frame/tcp", q(false).over(f().over(t()))),
        ("queue(early)/frame/tcp", q(true).over(f().over(t()))),
        ("tcp(spin)", spin()),
    ].into_iter().map(|(n, s)| (n, Stack::new(s).unwrap())).collect()
}
fn pair(engine: &Engine, stack: &Stack) -> (Handle, Handle) {
    let server = engine.listen(stack, Contact::new("127.0.0.1:0")).wait().unwrap();
    let c = engine.open(stack, server.contact().clone()).wait().unwrap();
    let s = server.accept().wait().unwrap().open().wait().unwrap();
    (c, s)
}
fn pingpong(engine: &Engine, stack: &Stack, p: Placement, size: usize, n: usize) -> f64 {
    let (c, s) = pair(engine, stack);
    let srv = std::thread::spawn(move || {
        p.pin(Side::Server).unwrap();
        let mut b = vec![0u8; size];
        for _ in 0..n + n / 10 {
            s.read_into(&mut b).wait_for(size).wait().unwrap();
            s.write_from(&b).wait().unwrap();
        }
    });
    let r = std::thread::spawn(move || {
        p.pin(Side::Client).unwrap();
        let mut b = vec![0u8; size];
        let mut go = |n: usize| for _ in 0..n { c.write_from(&b).wait().unwrap(); c.read_into(&mut b).wait_for(size).wait().unwrap(); };
        go(n / 10);
        let t = Instant::now();
        go(n);
        t.elapsed().as_nanos() as f64 / n as f64
    }).join().unwrap();
    srv.join().unwrap();
    r
}
fn stream(engine: &Engine, stack: &Stack, p: Placement, size: usize, n: usize) -> f64 {
    let (c, s) = pair(engine, stack);
    let msg = stack.caps().unit.has_borders();
    let t = Instant::now();
    let sink = std::thread::spawn(move || {
        p.pin(Side::Server).unwrap();
        let mut b = vec![0u8; size];
        let mut left = n * size;
        while left > 0 {
            left -= if msg { s.read_into(&mut b).wait().unwrap() } else { s.read_into(&mut b).wait().unwrap() };
        }
    });
    std::thread::spawn(move || {
        p.pin(Side::Client).unwrap();
        let b = vec![1u8; size];
        for _ in 0..n { c.write_from(&b).wait().unwrap(); }
        c.flush().wait().unwrap();
    }).join().unwrap();
    sink.join().unwrap();
    t.elapsed().as_nanos() as f64 / n as f64
}
fn med(v: &mut Vec<f64>) -> String { v.sort_by(f64::total_cmp); format!("{:.2} [{:.2}..{:.2}] best3rd {:.2}", v[v.len()/2], v[0], v[v.len()-1], v[v.len()/6]) }
fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(5);
    let only = std::env::args().nth(2).unwrap_or_default();
    let engine = Engine::new().unwrap();
    if let Ok(w) = std::env::var("ONE") {
        for _ in 0..rounds {
            let (p, size, m) = (Placement::SameCpu, 64, 300_000);
            let x = if w == "raw" { raw::stream(p, size, m, size).unwrap().ns_per_op } else {
                let (_, s) = stacks().into_iter().find(|(n, _)| *n == w).unwrap();
                stream(&engine, &s, p, size, m) };
            println!("{x:.0} ns");
        }
        return;
    }
    for p in [Placement::SameCpu, Placement::TwoCpus] {
        for size in [64usize, 4096, 65536] {
            for (name, stack) in stacks() {
                if !only.is_empty() && name != only { continue }
                if name.contains("spin") && (p == Placement::SameCpu || size != 64) { continue }
                let mut pp = vec![]; let mut st = vec![];
                let n = if size > 10000 { 2000 } else { 5000 };
                let m = if size > 10000 { 4000 } else { 60000 };
                for _ in 0..rounds {
                    let a = raw::pingpong(p, size, n).unwrap().ns_per_op;
                    let b = pingpong(&engine, &stack, p, size, n);
                    pp.push(b / a);
                    if name.contains("spin") { continue }
                    let a = raw::stream(p, size, m, size).unwrap().ns_per_op;
                    let b = stream(&engine, &stack, p, size, m);
                    st.push(b / a);
                }
                println!("{p} {size} {name}: pingpong time {} ; stream time {}", med(&mut pp), if st.is_empty() { String::new() } else { let s: Vec<f64> = st.iter().map(|x| 1.0 / x).collect(); let mut s = s; s.sort_by(f64::total_cmp); format!("thru {:.2} [{:.2}..{:.2}]", s[s.len()/2], s[0], s[s.len()-1]) });
            }
        }
    }
}
