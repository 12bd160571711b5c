//! A global allocator that counts, and fails what a test wants to fail. Opt-in: a test binary installs
//! it; what it does not install it changes nothing for.
//!
//! ```
//! use xio_testkit::budget::{self, Budget};
//!
//! #[global_allocator]
//! static ALLOCATOR: Budget = Budget::new();
//!
//! let before = budget::thread();
//! drop(std::hint::black_box(vec![0u8; 100]));
//! assert_eq!(budget::thread().since(before).allocations, 1);
//! // What tries first gets an error; what does not try ends the process.
//! let _guard = budget::fail_over(1 << 20);
//! assert!(Vec::<u8>::new().try_reserve(2 << 20).is_err());
//! ```
//!
//! Invariant: it never allocates itself, and what it does not fail goes to the system allocator
//! unchanged. Counters and faults belong to one thread.
#![allow(unsafe_code, reason = "a global allocator is unsafe by its trait; nothing else here is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;

/// The system allocator, with counters and faults.
#[derive(Debug, Default)]
pub struct Budget(());

impl Budget {
    /// The allocator, to be put in a `#[global_allocator]` static.
    pub const fn new() -> Self {
        Self(())
    }
}

/// What a thread has allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations and reallocations so far.
    pub allocations: u64,
    /// Bytes allocated less bytes freed. Below zero for a thread that frees what others allocated.
    pub live: i64,
    /// Most live bytes there have been since the last [`mark`].
    pub peak: i64,
}

impl Counts {
    /// What has come since `earlier`.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            allocations: self.allocations.wrapping_sub(earlier.allocations),
            live: self.live - earlier.live,
            peak: self.peak - earlier.live,
        }
    }
}

/// What fails.
#[derive(Clone, Copy)]
enum Failing {
    Nothing,
    Over(usize),
    /// The n-th of more than so many bytes.
    Nth(u64, usize),
}

thread_local! {
    // Const and without destructors: reading them never allocates, even while a thread ends.
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, live: 0, peak: 0 }) };
    static FAILING: Cell<Failing> = const { Cell::new(Failing::Nothing) };
    static FAILED: Cell<u64> = const { Cell::new(0) };
}

/// The counts of the calling thread; zero where [`Budget`] is not installed.
pub fn thread() -> Counts {
    COUNTS.try_with(Cell::get).unwrap_or_default()
}

/// Begins a new peak, and gives the counts.
pub fn mark() -> Counts {
    let mut counts = thread();
    counts.peak = counts.live;
    let _ = COUNTS.try_with(|c| c.set(counts));
    counts
}

/// Whether [`Budget`] is this binary's allocator. Assert it before 0 allocations mean anything.
pub fn installed() -> bool {
    let before = thread();
    drop(std::hint::black_box(Box::new(0u8)));
    thread().since(before).allocations > 0
}

/// Lets allocations of this thread fail while it lives.
#[derive(Debug)]
#[must_use = "nothing fails once this is dropped"]
pub struct Fails(PhantomData<*const ()>);

/// From now on allocations of this thread larger than this fail. Code that does not try, ends the
/// process (`handle_alloc_error`), so choose a size that only what may fail reaches.
pub fn fail_over(bytes: usize) -> Fails {
    arm(Failing::Over(bytes))
}

/// The n-th allocation of this thread from now on fails, counted from 1.
pub fn fail_nth(n: u64) -> Fails {
    fail_nth_over(n, 0)
}

/// The same, of those larger than this: what code tries is seldom small.
pub fn fail_nth_over(n: u64, bytes: usize) -> Fails {
    arm(Failing::Nth(n, bytes))
}

fn arm(what: Failing) -> Fails {
    FAILED.set(0);
    FAILING.set(what);
    Fails(PhantomData)
}

impl Fails {
    /// How many allocations have failed.
    pub fn hit(&self) -> u64 {
        FAILED.get()
    }
}

impl Drop for Fails {
    fn drop(&mut self) {
        FAILING.set(Failing::Nothing);
    }
}

fn refuses(size: usize) -> bool {
    let refuses = FAILING.try_with(|f| match f.get() {
        Failing::Nothing => false,
        Failing::Over(most) => size > most,
        Failing::Nth(_, most) if size <= most => false,
        Failing::Nth(n, most) => {
            f.set(if n <= 1 { Failing::Nothing } else { Failing::Nth(n - 1, most) });
            n == 1
        }
    });
    let refuses = refuses.unwrap_or(false);
    if refuses {
        let _ = FAILED.try_with(|n| n.set(n.get() + 1));
    }
    refuses
}

fn count(allocations: u64, bytes: i64) {
    let _ = COUNTS.try_with(|cell| {
        let old = cell.get();
        let live = old.live + bytes;
        cell.set(Counts { allocations: old.allocations + allocations, live, peak: old.peak.max(live) });
    });
}

/// A layout's size is at most `isize::MAX`, so it always fits.
fn signed(size: usize) -> i64 {
    size as i64
}

// SAFETY: every method hands its arguments to `System` unchanged and gives back what it answers, or
// answers null, which every method may; `count` and `refuses` neither allocate nor unwind.
unsafe impl GlobalAlloc for Budget {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller upholds the contract of `alloc`, which is the same for `System`.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            count(1, signed(layout.size()));
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as in `alloc`.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            count(1, signed(layout.size()));
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from one of these methods, so from `System`, with this layout.
        unsafe { System.dealloc(block, layout) };
        count(0, -signed(layout.size()));
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if new_size > layout.size() && refuses(new_size) {
            return std::ptr::null_mut();
        }
        // SAFETY: as in `dealloc`; the caller vouches for `new_size`.
        let new = unsafe { System.realloc(block, layout, new_size) };
        if !new.is_null() {
            count(1, signed(new_size) - signed(layout.size()));
        }
        new
    }
}
