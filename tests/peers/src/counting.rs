//! A global allocator that counts, for binaries to install.
//!
//! ```
//! use xio_peers::counting::{self, Counting};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting::new();
//!
//! let before = counting::thread();
//! drop(std::hint::black_box(vec![0u8; 100]));
//! assert_eq!(counting::thread().since(before).allocations, 1);
//! ```
//!
//! Invariant: it never allocates, and every call goes to the system allocator unchanged.
//! The counters exist once a process, whichever value of [`Counting`] is installed.
//!
//! Does not: say where an allocation came from.
#![allow(unsafe_code, reason = "a global allocator is unsafe by its trait; nothing else here is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// The system allocator, with counters.
#[derive(Debug, Default)]
pub struct Counting(());

/// What a thread or the process has allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations and reallocations so far.
    pub allocations: u64,
    /// Bytes allocated less bytes freed. Below zero for a thread that frees what others allocated.
    pub live_bytes: i64,
}

impl Counting {
    /// The allocator, to be put in a `#[global_allocator]` static.
    pub const fn new() -> Self {
        Self(())
    }
}

impl Counts {
    /// What has come since `earlier`.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            allocations: self.allocations.wrapping_sub(earlier.allocations),
            live_bytes: self.live_bytes.wrapping_sub(earlier.live_bytes),
        }
    }
}

/// The counts of the calling thread; zero where [`Counting`] is not installed.
pub fn thread() -> Counts {
    THREAD.try_with(Cell::get).unwrap_or_default()
}

/// The counts of the process; zero where [`Counting`] is not installed.
pub fn global() -> Counts {
    Counts { allocations: ALLOCATIONS.load(Relaxed), live_bytes: LIVE_BYTES.load(Relaxed) }
}

/// Whether [`Counting`] is this binary's allocator. Assert it before you report 0 allocations.
pub fn installed() -> bool {
    let before = thread();
    drop(std::hint::black_box(Box::new(0u8)));
    thread().since(before).allocations > 0
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    // Const and without a destructor: reading it never allocates, even while a thread ends.
    static THREAD: Cell<Counts> = const { Cell::new(Counts { allocations: 0, live_bytes: 0 }) };
}

fn count(allocations: u64, bytes: i64) {
    if allocations > 0 {
        ALLOCATIONS.fetch_add(allocations, Relaxed);
    }
    LIVE_BYTES.fetch_add(bytes, Relaxed);
    let _ = THREAD.try_with(|cell| {
        let old = cell.get();
        cell.set(Counts { allocations: old.allocations + allocations, live_bytes: old.live_bytes + bytes });
    });
}

/// A layout's size is at most `isize::MAX`, so it always fits.
fn signed(size: usize) -> i64 {
    size as i64
}

// SAFETY: every method hands its arguments to `System` unchanged and gives back what it answers;
// `count` neither allocates nor unwinds (atomics and a const-initialised cell, additions that
// cannot overflow in any process's lifetime).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc`, which is the same for `System`.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            count(1, signed(layout.size()));
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
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
        // SAFETY: as in `dealloc`; the caller vouches for `new_size`.
        let new = unsafe { System.realloc(block, layout, new_size) };
        if !new.is_null() {
            count(1, signed(new_size) - signed(layout.size()));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting::new();

    #[test]
    fn counts_this_thread() {
        assert!(installed());
        let start = thread();
        let mut v: Vec<u8> = black_box(Vec::with_capacity(100));
        assert_eq!(thread().since(start), Counts { allocations: 1, live_bytes: 100 });
        v.reserve_exact(300);
        let grown = thread().since(start);
        assert_eq!((grown.allocations, grown.live_bytes), (2, v.capacity() as i64));
        drop(v);
        assert_eq!(thread().since(start), Counts { allocations: 2, live_bytes: 0 });
    }

    #[test]
    fn the_process_counts_all_threads() {
        let start = global();
        let v = std::thread::spawn(|| black_box(vec![0u8; 1 << 20])).join().unwrap();
        assert!(global().since(start).allocations >= 1);
        let mine = thread();
        drop(v);
        assert_eq!(thread().since(mine).live_bytes, -(1 << 20));
    }
}
