//! Memory a blocking caller lends to its op. The lender stays in its call until the op is finished,
//! so the memory outlives every use; [`crate::engine`] keeps that promise by not returning, and not
//! unwinding, while the op is inside. Invariant: only the engine makes these, and no level can take
//! one out of an op. One of the crate's few files with `unsafe`.
#![allow(unsafe_code, reason = "erases the lifetime of a borrowed slice for the length of a blocking call")]

use std::mem::MaybeUninit;
use std::ops::Deref;

use bytes::BytesMut;

/// A borrowed slice to write from.
pub(crate) struct LentSlice {
    ptr: *const u8,
    len: usize,
}

// SAFETY: it stands for a `&[u8]`, which is Send.
unsafe impl Send for LentSlice {}
// SAFETY: it stands for a `&[u8]`, which is Sync.
unsafe impl Sync for LentSlice {}

impl LentSlice {
    /// The caller must keep `slice` alive and unchanged until this value is dropped.
    pub(crate) fn new(slice: &[u8]) -> Self {
        Self { ptr: slice.as_ptr(), len: slice.len() }
    }
}

impl Deref for LentSlice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: made from a slice of this length that lives until `self` is dropped (see `new`).
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// A borrowed slice to read into.
pub(crate) struct LentMut {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: it stands for a `&mut [u8]`, which is Send.
unsafe impl Send for LentMut {}
// SAFETY: no method takes `&self` to the bytes.
unsafe impl Sync for LentMut {}

impl LentMut {
    /// The caller must keep `slice` alive and untouched until this value is dropped.
    pub(crate) fn new(slice: &mut [u8]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes; every one is initialised since they came from a `&mut [u8]`.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: made from a mutable slice of this length that is lent to `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }
}

/// Lets `f` write into the spare capacity of `buf`, at most `room` bytes, and counts what `f`
/// says it initialised by handing back the initialised part.
pub(crate) fn fill_spare<E>(
    buf: &mut BytesMut,
    room: usize,
    f: impl for<'a> FnOnce(&'a mut [MaybeUninit<u8>]) -> Result<&'a mut [u8], E>,
) -> Result<usize, E> {
    let spare = buf.spare_capacity_mut();
    let room = room.min(spare.len());
    let spare = &mut spare[..room];
    let start = spare.as_ptr().cast::<u8>();
    let filled = f(spare)?;
    let n = filled.len();
    assert!(filled.as_ptr() == start && n <= room, "the initialised part must be the front of the spare room");
    let len = buf.len() + n;
    // SAFETY: `filled` is a `&mut [u8]`, so its bytes are initialised, and it is the first `n` bytes
    // of the spare capacity, as just checked.
    unsafe { buf.set_len(len) };
    Ok(n)
}

/// Lets `f` write into a slice that is initialised already; gives the length of the part that `f`
/// hands back.
pub(crate) fn as_uninit<E>(
    slice: &mut [u8],
    f: impl for<'a> FnOnce(&'a mut [MaybeUninit<u8>]) -> Result<&'a mut [u8], E>,
) -> Result<usize, E> {
    let (ptr, len) = (slice.as_mut_ptr().cast::<MaybeUninit<u8>>(), slice.len());
    // SAFETY: same memory, same length. `f` could only spoil it by writing uninitialised bytes,
    // which the system calls behind it never do; what it hands back is checked to be its front.
    let room = unsafe { std::slice::from_raw_parts_mut(ptr, len) };
    let filled = f(room)?;
    let n = filled.len();
    assert!(filled.as_ptr().cast() == ptr.cast_const() && n <= len, "the filled part must be the front");
    Ok(n)
}
