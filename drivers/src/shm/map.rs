//! A ring's memory as two processes share it: a sealed memfd, mapped. Invariant: the mapping has the size that
//! was checked, which the seals keep for good, so no access leaves it or faults; nothing here makes a `&[u8]`
//! of memory that the peer can still write, unless the user trusts it. The driver's one file with `unsafe`.
#![allow(unsafe_code, reason = "a mapping shared with another process is reached by pointer only")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use xio_core::buffer::{Foreign, Lend};
use xio_core::{Error, ErrorKind};

use super::kept::Run;
use super::lent::Spot;
use super::memory::{Memory, Note, Place};
use super::ring::{Side, prepare};

/// Smallest and largest ring.
pub(super) const SIZES: std::ops::RangeInclusive<usize> = 4096..=1 << 30;
/// Bytes before the ring, for the shared words: each position on a line of its own, and the other words of an
/// end, which change rarely and are looked at often, on another.
const WORDS: usize = 4096;
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A mapped ring.
pub(super) struct Map {
    base: NonNull<u8>,
    /// Bytes of the ring, a power of two.
    size: usize,
    /// The process that mapped it.
    process: u32,
}

// SAFETY: the words are reached as atomics alone, the bytes by copies whose order the ring's positions give.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// A new ring and its descriptor, for the peer. `size` is a power of two.
    pub(super) fn create(size: usize) -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match memfd_create("xio-shm", flags | MemfdFlags::NOEXEC_SEAL) {
            // Linux before 6.3.
            Err(Errno::INVAL) => memfd_create("xio-shm", flags)?,
            other => other?,
        };
        ftruncate(&fd, (WORDS + size) as u64)?;
        fcntl_add_seals(&fd, SEALS)?;
        let map = Self::attach(fd.as_fd(), size)?;
        prepare(&map);
        Ok((map, fd))
    }

    /// The ring of a peer, whose word is not taken for anything: neither for the size nor for its staying so.
    pub(super) fn open(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let foul = |text: &'static str| Err(Error::new(ErrorKind::Protocol).detail(text).into());
        // What is no memfd has no seals.
        match fcntl_get_seals(fd) {
            Ok(seals) if seals.contains(SEALS) => {}
            Ok(_) => return foul("the peer's memory could still shrink under us: it is not sealed"),
            Err(_) => return foul("the peer's descriptor is no shared memory"),
        }
        let size = usize::try_from(fstat(fd)?.st_size).unwrap_or(0).saturating_sub(WORDS);
        if !size.is_power_of_two() || !SIZES.contains(&size) {
            return foul("the peer's memory has a size that no ring has");
        }
        Self::attach(fd, size)
    }

    fn attach(fd: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the system chooses; `fd` has `WORDS + size` bytes for good,
        // as its seals say.
        let base = unsafe { mmap(ptr::null_mut(), WORDS + size, prot, MapFlags::SHARED, fd, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, size, process: this_process() })
    }

    fn position(&self, place: Place) -> &AtomicU64 {
        let at = match place {
            Place::Head => 128,
            Place::Tail => 256,
        };
        // SAFETY: inside the first `WORDS` bytes, aligned, mapped as long as `self`, and never used but as an
        // atomic, by the peer either.
        unsafe { AtomicU64::from_ptr(self.base.add(at).as_ptr().cast()) }
    }

    fn word(&self, note: Note) -> &AtomicU32 {
        let at = match note {
            Note::ReaderEnd => 384,
            Note::ReaderSleeps => 388,
            Note::WriterEnd => 512,
            Note::WriterSleeps => 516,
        };
        // SAFETY: as in `position`.
        unsafe { AtomicU32::from_ptr(self.base.add(at).as_ptr().cast()) }
    }

    /// The word an end sleeps on.
    pub(super) fn bed(&self, side: Side) -> &AtomicU32 {
        self.word(side.sleeps())
    }

    /// The first of `n` bytes at `at` of the ring, all inside it.
    fn bytes(&self, at: usize, n: usize) -> *mut u8 {
        assert!(at <= self.size && n <= self.size - at, "inside the ring");
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.base.add(WORDS + at) }.as_ptr()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and nobody borrows it any more. It cannot
        // fail for a whole mapping.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), WORDS + self.size) };
    }
}

impl Memory for Map {
    fn size(&self) -> usize {
        self.size
    }
    #[inline]
    fn load(&self, place: Place) -> u64 {
        self.position(place).load(Ordering::Acquire)
    }
    #[inline]
    fn store(&self, place: Place, value: u64) {
        self.position(place).store(value, Ordering::Release);
    }
    #[inline]
    fn note(&self, note: Note) -> u32 {
        self.word(note).load(Ordering::Acquire)
    }
    fn set(&self, note: Note, value: u32) {
        self.word(note).store(value, Ordering::Release);
    }
    fn raise(&self, note: Note, bits: u32) {
        self.word(note).fetch_or(bits, Ordering::AcqRel);
    }
    fn lower(&self, note: Note, bits: u32) {
        self.word(note).fetch_and(!bits, Ordering::AcqRel);
    }
    fn take(&self, note: Note) -> u32 {
        self.word(note).swap(0, Ordering::AcqRel)
    }
    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    #[inline]
    fn write(&self, at: usize, from: &[u8]) {
        let to = self.bytes(at, from.len());
        // SAFETY: both are valid for this length and apart: one is a slice of ours, the other the mapping. The
        // peer reads these bytes only after our position says so; one that does it sooner gets what it gets.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }
    #[inline]
    fn read(&self, at: usize, to: &mut [u8]) {
        let from = self.bytes(at, to.len());
        // SAFETY: as in `write`. A peer that keeps to the protocol does not write these bytes now; from one that
        // does we get some bytes or others, which mean nothing before they are looked at in our own copy.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }
    /// A child that a fork made has the same memory, and would write over what its parent writes.
    fn is_ours(&self) -> bool {
        is_this_process(self.process)
    }
}

impl Foreign for Map {
    fn len(&self) -> usize {
        self.size
    }
    fn copy_out(&self, at: usize, to: &mut [u8]) {
        self.read(at, to);
    }
}

/// Bytes of a peer that the user trusts to leave alone what it has written.
pub(super) struct Trusted(Run<Arc<Map>>);

impl Trusted {
    /// `run` is fixed.
    pub(super) fn new(run: Run<Arc<Map>>) -> Self {
        Self(run)
    }
}

impl AsRef<[u8]> for Trusted {
    fn as_ref(&self) -> &[u8] {
        let (map, at, n) = self.0.place();
        let from = map.bytes(at, n);
        // SAFETY: inside the mapping, which the run keeps; initialised, as all of a memfd is. A peer that keeps to the
        // protocol does not write there before the run is dropped; that this one does keep to it is what the user
        // says with `trust=peer`, without which nobody makes this.
        unsafe { std::slice::from_raw_parts(from, n) }
    }
}

impl Lend for Spot<Arc<Map>> {
    fn room(&self) -> usize {
        Self::room(self)
    }

    fn fill(&self, at: usize, f: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        Self::fill(self, at, f, |map, at, n, f| {
            let from = map.bytes(at, n);
            // SAFETY: inside the mapping, which is borrowed; initialised, as all of a memfd is. In this process it is
            // this call's alone: the spot's lock is held, there is one spot at a time, and its writer puts nothing
            // there before it has moved. A peer that keeps to the protocol reads and writes nothing past what it was
            // shown; that this one does keep to it is what the user says with `trust=peer`, without which nobody
            // makes this.
            f(unsafe { std::slice::from_raw_parts_mut(from, n) })
        })
    }

    fn copy_out(&self, to: &mut [u8]) {
        Self::copy_out(self, to);
    }
}

/// A page that a fork wipes in the child.
struct Wiped(NonNull<u8>);

// SAFETY: it is reached as an atomic alone.
unsafe impl Send for Wiped {}
// SAFETY: as above.
unsafe impl Sync for Wiped {}

impl Wiped {
    fn new() -> Option<Self> {
        // SAFETY: a new mapping at an address that the system chooses.
        let base =
            unsafe { mmap_anonymous(ptr::null_mut(), WORDS, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
        let page = Self(NonNull::new(base.ok()?.cast())?);
        // SAFETY: the mapping is ours, and nobody has a reference into it.
        unsafe { madvise(page.0.as_ptr().cast(), WORDS, Advice::LinuxWipeOnFork) }.ok()?;
        Some(page)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: aligned, inside the page, which stays as long as the process, and never used but as an atomic.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast()) }
    }
}

/// None where the system cannot wipe.
static WIPED: OnceLock<Option<Wiped>> = OnceLock::new();
static PROCESSES: AtomicU32 = AtomicU32::new(0);

/// A number that this process has and no child of it, without a system call each time.
pub(super) fn this_process() -> u32 {
    let Some(page) = WIPED.get_or_init(Wiped::new) else { return 0 };
    match page.word().load(Ordering::Relaxed) {
        0 => {
            // A child counts on from where its parent was.
            let next = PROCESSES.fetch_add(1, Ordering::Relaxed) + 1;
            match page.word().compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => next,
                Err(others) => others,
            }
        }
        n => n,
    }
}

/// Whether this is the process that had this number.
#[inline]
pub(super) fn is_this_process(number: u32) -> bool {
    match WIPED.get() {
        Some(Some(page)) => page.word().load(Ordering::Relaxed) == number,
        _ => true,
    }
}

#[cfg(all(test, not(any(miri, loom))))]
mod tests {
    use super::*;

    fn refused(fd: impl AsFd, text: &str) {
        let e = Map::open(fd.as_fd()).err().expect("refused");
        assert!(e.to_string().contains(text), "{e}");
    }

    fn memfd(flags: MemfdFlags, size: usize, seals: SealFlags) -> OwnedFd {
        let fd = memfd_create("test", flags).unwrap();
        ftruncate(&fd, size as u64).unwrap();
        if !seals.is_empty() {
            fcntl_add_seals(&fd, seals).unwrap();
        }
        fd
    }

    #[test]
    fn what_is_written_on_one_mapping_is_read_on_the_other() {
        let (ours, fd) = Map::create(4096).unwrap();
        let theirs = Map::open(fd.as_fd()).unwrap();
        drop(fd);
        let (mut w, mut r) = (super::super::ring::Writer::new(ours), super::super::ring::Reader::new(theirs));
        for round in 0..300u32 {
            assert_eq!(w.put(&[round as u8; 60]), 60.min(w.room(60).unwrap() + 60));
            let _ = w.publish();
            assert_eq!(r.ready(60).unwrap(), 60);
            let mut to = [0; 60];
            assert_eq!((r.copy(&mut to), to), (60, [round as u8; 60]));
            let _ = r.release();
            assert!(w.room(4096).unwrap() == 4096);
        }
    }

    #[test]
    fn memory_that_could_change_its_size_is_refused() {
        let (all, sealing) = (SEALS, MemfdFlags::ALLOW_SEALING);
        refused(memfd(sealing, 8192, SealFlags::SHRINK | SealFlags::SEAL), "not sealed");
        refused(memfd(sealing, 8192, SealFlags::SHRINK | SealFlags::GROW), "not sealed");
        refused(memfd(MemfdFlags::empty(), 8192, SealFlags::empty()), "not sealed");
        refused(std::fs::File::open("/dev/null").unwrap(), "no shared memory");
        refused(std::os::unix::net::UnixDatagram::unbound().unwrap(), "no shared memory");
        for size in [0, 1, 4096, 4097, 8191, 8193, 4 * 4096, WORDS + (2 << 30)] {
            refused(memfd(sealing, size, all), "a size that no ring has");
        }
        // Nobody can write what is sealed against that: no ring either.
        refused(memfd(sealing, 8192, all | SealFlags::FUTURE_WRITE), "");
        Map::open(memfd(sealing, 8192, all).as_fd()).unwrap();
    }

    #[test]
    fn a_sealed_ring_cannot_be_cut_off_under_its_user() {
        let (map, fd) = Map::create(8192).unwrap();
        assert_eq!(ftruncate(&fd, 0).unwrap_err(), Errno::PERM);
        assert_eq!(ftruncate(&fd, 1 << 20).unwrap_err(), Errno::PERM);
        // A hole can still be punched: it reads as zeroes, which no ring is made of.
        let holes = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&fd, holes, 0, (WORDS + 8192) as u64).unwrap();
        let mut r = super::super::ring::Reader::new(map);
        assert!(r.ready(1).is_err());
    }
}
