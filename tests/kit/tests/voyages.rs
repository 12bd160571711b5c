//! Stacks of the shipped drivers on the simulated network, seed after seed. A failure prints the one
//! command that makes the same voyage again.

use std::time::Duration;

use xio_core::attr::Size;
use xio_core::{LevelNode, Stack};
use xio_drivers::{frame, null, queue, shm, tcp};
use xio_testkit::voyage::{Log, Settings, voyage};

/// Seeds of each stack; the gate sails many more with `xio sim`, built for speed.
const SEEDS: u64 = 100;

fn tcp() -> LevelNode {
    LevelNode::new(tcp::driver())
}

fn framed() -> LevelNode {
    LevelNode::new(frame::driver()).over(tcp())
}

fn early() -> LevelNode {
    let options = queue::Options::default().with_early(true);
    LevelNode::new(queue::driver()).with_attr(Box::new(options)).over(framed())
}

fn sail(spec: &str, root: &LevelNode, seeds: std::ops::Range<u64>) {
    let stack = Stack::new(root.clone()).unwrap();
    for seed in seeds {
        let mut settings = Settings::new(seed).with_length(Duration::from_millis(30)).with_bytes(1500);
        if spec.contains("shm") {
            // A path that nobody has.
            settings = settings.with_contact(());
        }
        let log = voyage(&stack, &settings).unwrap();
        assert!(
            log.broken.is_empty(),
            "{}\nxio sim '{spec}' --seed {seed} --milliseconds 30 --bytes 1500 makes this voyage again",
            log.broken.join("\n")
        );
    }
}

#[test]
fn plain_tcp() {
    sail("tcp", &tcp(), 0..SEEDS);
}

#[test]
fn messages() {
    sail("frame/tcp", &framed(), 0..SEEDS);
}

#[test]
fn a_queue_over_messages() {
    let root = LevelNode::new(queue::driver()).over(framed());
    sail("queue/frame/tcp", &root, 0..SEEDS);
}

#[test]
fn an_early_queue_and_levels_that_do_nothing() {
    let root = LevelNode::new(null::driver()).over(LevelNode::new(null::driver()).over(early()));
    sail("null/null/queue(early)/frame/tcp", &root, 0..SEEDS);
}

#[test]
fn shared_memory() {
    let root = LevelNode::new(shm::driver());
    sail("shm", &root, 0..SEEDS);
    // Opens that find no place wait in virtual time.
    let options = shm::Options::default().with_backlog(1);
    sail("shm(backlog=1)", &LevelNode::new(shm::driver()).with_attr(Box::new(options)), 0..SEEDS);
    let options = shm::Options::default().with_buffer(Size(4096)).with_trust("peer".to_owned());
    sail("shm(buffer=4KiB, trust=peer)", &LevelNode::new(shm::driver()).with_attr(Box::new(options)), 0..SEEDS);
    sail(
        "queue/frame/shm",
        &LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(root)),
        0..SEEDS,
    );
}

#[test]
fn equal_voyages_have_equal_hashes() {
    let stack = Stack::new(framed()).unwrap();
    let go = |seed| voyage(&stack, &Settings::new(seed)).unwrap();
    for seed in 0..20 {
        assert_eq!(go(seed), go(seed), "seed {seed}");
    }
    assert_ne!(go(1).hash, go(2).hash);
}

#[test]
fn voyages_do_something() {
    let stack = Stack::new(framed()).unwrap();
    let logs: Vec<_> = (0..20).map(|seed| voyage(&stack, &Settings::new(seed)).unwrap()).collect();
    let sum = |f: fn(&Log) -> u64| logs.iter().map(f).sum::<u64>();
    let sums = [sum(|l| l.ops), sum(|l| l.bytes), sum(|l| l.connections), sum(|l| l.faults)];
    assert!(sums[0] > 2_000 && sums[1] > 300_000 && sums[2] > 60 && sums[3] > 20, "{sums:?}");
}
