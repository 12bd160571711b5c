//! The counting allocator, in a process that installs it.

use xio_testkit::budget::{self, Budget};

#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

#[test]
fn allocations_are_counted_and_the_peak_is_kept() {
    assert!(budget::installed());
    let start = budget::mark();
    drop(std::hint::black_box(vec![0u8; 1000]));
    let v = std::hint::black_box(vec![0u8; 100]);
    let now = budget::thread().since(start);
    assert_eq!((now.allocations, now.live, now.peak), (2, 100, 1000));
    drop(v);
    assert_eq!(budget::thread().since(start).live, 0);
}

#[test]
fn what_may_fail_fails_and_only_while_it_is_to() {
    let mut v = Vec::<u8>::new();
    let guard = budget::fail_over(1 << 16);
    assert!(v.try_reserve_exact(1 << 20).is_err());
    assert!(v.try_reserve_exact(1 << 10).is_ok());
    assert_eq!(guard.hit(), 1);
    drop(guard);
    assert!(v.try_reserve_exact(1 << 20).is_ok());
    let guard = budget::fail_nth(2);
    assert!(Vec::<u8>::new().try_reserve_exact(10).is_ok());
    assert!(Vec::<u8>::new().try_reserve_exact(10).is_err());
    assert!(Vec::<u8>::new().try_reserve_exact(10).is_ok());
    assert_eq!(guard.hit(), 1);
}
