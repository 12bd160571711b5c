//! Fairness: once everything is at rest, no branch is read twice while another one has something the
//! whole time.

use proptest::prelude::*;
use xio_core::reactor::Sim;

use super::run::Bed;
use super::script::{Read, Who};
use super::tree::{Tree, tree};

/// Most reads that are looked at.
const READS: usize = 100;

/// Who writes how much, and how it is read.
#[derive(Clone, Debug)]
pub struct Program {
    tree: Tree,
    one_server: bool,
    writes: Vec<(prop::sample::Index, usize)>,
    reads: Vec<usize>,
}

/// Random ones.
pub fn program() -> impl Strategy<Value = Program> {
    let write = (any::<prop::sample::Index>(), prop_oneof![3 => 1usize..300, 1 => 1000usize..5000]);
    let reads = prop::collection::vec(1usize..500, 1..5);
    (tree(), any::<bool>(), prop::collection::vec(write, 1..40), reads)
        .prop_map(|(tree, one_server, writes, reads)| Program { tree, one_server, writes, reads })
}

/// Runs one.
///
/// # Panics
/// Where a branch is read twice while another waits.
pub fn run(p: &Program, seed: u64) {
    let mut bed = Bed::open(&p.tree, p.one_server, Some(Sim::new(seed)));
    for (leaf, len) in &p.writes {
        let leaf = leaf.index(p.tree.leaves.len());
        bed.write(leaf, None, false, *len, 1, None);
    }
    let branch = |leaf: usize| p.tree.leaves[leaf].labels[0].clone();
    // For each branch that waits, those that were read since.
    let mut since: Vec<(String, Vec<String>)> = Vec::new();
    for i in 0..READS {
        bed.rest();
        let waiting: Vec<String> = {
            let model = bed.model();
            let mut all: Vec<_> = (0..p.tree.leaves.len()).filter(|l| model.unread(*l) > 0).map(branch).collect();
            all.dedup();
            all
        };
        if waiting.is_empty() {
            break;
        }
        since.retain(|(b, _)| waiting.contains(b));
        for b in &waiting {
            if !since.iter().any(|(x, _)| x == b) {
                since.push((b.clone(), Vec::new()));
            }
        }
        let room = if p.tree.borders { 1 << 20 } else { p.reads[i % p.reads.len()] };
        let before: Vec<_> = (0..p.tree.leaves.len()).map(|l| bed.model().received(l)).collect();
        bed.read(Who::Near, Read { room, wait_for: 1, take: i % 2 == 0 }, None);
        bed.rest();
        let from = (0..before.len()).find(|l| bed.model().received(*l) != before[*l]);
        let from = branch(from.expect("a branch has something, so a read finishes"));
        for (b, read) in &mut since {
            assert!(*b == from || !read.contains(&from), "`{from}` is read again while `{b}` waits: {}", p.tree.spec);
            if *b == from { read.clear() } else { read.push(from.clone()) }
        }
    }
    bed.finish(Read { room: 1000, wait_for: 1, take: true });
}
