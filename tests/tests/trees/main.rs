//! Random trees of levels under random scripts, against a model: a byte stream or a row of messages
//! for each branch and direction. What is written into a branch comes out of it, once, in order, with
//! its borders, and says where it came from; what is not allowed to get lost does not. The same
//! programs run over real sockets and pipes, and over the simulated network with its short transfers.

mod fair;
mod fit;
mod line;
mod matrix;
mod model;
mod run;
mod script;
mod tree;

use proptest::prelude::*;
use xio_testkit::budget::Budget;

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

#[test]
fn every_pair_of_levels_keeps_the_contract_or_is_refused() {
    matrix::pairs().report("pairs", 80);
}

#[test]
fn triples_of_levels_keep_the_contract_or_are_refused() {
    matrix::triples(std::env::var_os("XIO_SEEDS").is_some()).report("triples", 100);
}

#[test]
fn a_tree_binds_if_it_fits_and_is_refused_where_it_does_not() {
    matrix::drawn(if cfg!(debug_assertions) { 2_000 } else { 10_000 }).report("trees", 100);
}

proptest! {
    #![proptest_config(with(320))]

    #[test]
    fn what_goes_into_a_branch_comes_out_of_it(p in script::program()) {
        run::real(&p);
    }

    #[test]
    fn no_branch_is_read_twice_while_another_waits(p in fair::program(), seed in any::<u64>()) {
        fair::run(&p, seed);
    }
}

proptest! {
    // Virtual time is cheap where the code is made for speed.
    #![proptest_config(with(if cfg!(debug_assertions) { 320 } else { 10_000 }))]

    #[test]
    fn so_it_does_over_a_network_with_short_transfers(p in script::program(), seed in any::<u64>()) {
        let hash = run::simulated(&p, seed);
        prop_assert_eq!(hash, run::simulated(&p, seed), "the same seed runs the same way");
    }
}

/// So many random cases of each test; more or fewer with `PROPTEST_CASES`.
fn with(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), ..ProptestConfig::default() }
}
