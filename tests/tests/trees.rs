//! Random trees under random scripts, and compositions of levels: see [`xio_tests::trees`].

use proptest::prelude::*;
use xio_testkit::budget::Budget;
use xio_tests::trees::{self, matrix};

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
    fn what_goes_into_a_branch_comes_out_of_it(p in trees::program()) {
        trees::real(&p);
    }

    #[test]
    fn no_branch_is_read_twice_while_another_waits(p in trees::reads(), seed in any::<u64>()) {
        trees::read_fairly(&p, seed);
    }
}

proptest! {
    // Virtual time is cheap where the code is made for speed.
    #![proptest_config(with(if cfg!(debug_assertions) { 320 } else { 10_000 }))]

    #[test]
    fn so_it_does_over_a_network_with_short_transfers(p in trees::program(), seed in any::<u64>()) {
        let hash = trees::simulated(&p, seed);
        prop_assert_eq!(hash, trees::simulated(&p, seed), "the same seed runs the same way");
    }
}

/// So many random cases of each test; more or fewer with `PROPTEST_CASES`.
fn with(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), ..ProptestConfig::default() }
}
