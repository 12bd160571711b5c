//! Where the bytes of a read go: into the reader's buffer (fill), or as chunks the driver owns
//! (take); the bridge between the two. Invariant: `got` bytes are initialised and belong to this
//! read; nothing beyond the room is ever written.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::lent::fill_spare;
use super::{Chunk, LentMut};
use crate::sync::thread_local;

/// Smallest memory that a take read receives into.
const TAKE_BLOCK: usize = 64 * 1024;
/// A taken chunk smaller than this is copied out, so that it does not keep a whole block alive.
const TAKE_COPY: usize = 1024;

/// Where a read puts its bytes.
pub(crate) enum Target {
    /// Appended to a buffer.
    Fill(BytesMut),
    /// Into memory a blocking caller lends; the count of bytes in it.
    Lent(LentMut, usize),
    /// Chunks.
    Take(SmallVec<[Chunk; 1]>),
}

impl Target {
    pub(crate) const fn none() -> Self {
        Self::Take(SmallVec::new_const())
    }

    /// How many bytes fit a buffer target as a whole; `usize::MAX` for a take.
    pub(crate) fn room(&self) -> usize {
        match self {
            Self::Fill(b) => b.capacity() - b.len(),
            Self::Lent(m, n) => m.len() - n,
            Self::Take(_) => usize::MAX,
        }
    }

    /// Copies in what fits into `room`; says how much.
    pub(crate) fn put(&mut self, room: usize, from: &[u8]) -> usize {
        let n = from.len().min(room);
        let from = &from[..n];
        match self {
            Self::Fill(b) => b.extend_from_slice(from),
            Self::Lent(m, at) => {
                m.bytes()[*at..*at + n].copy_from_slice(from);
                *at += n;
            }
            Self::Take(list) => {
                if n > 0 {
                    list.push(Bytes::copy_from_slice(from).into());
                }
            }
        }
        n
    }

    /// Moves or copies in what fits into `room`; leaves the rest in `chunk`.
    pub(crate) fn put_chunk(&mut self, room: usize, chunk: &mut Chunk) -> usize {
        let n = chunk.len().min(room);
        if n == 0 {
            return 0;
        }
        match self {
            Self::Take(list) => list.push(chunk.split_to(n)),
            other => {
                match chunk.as_slice() {
                    Some(s) => {
                        other.put(room, s);
                    }
                    None => match other {
                        Self::Lent(m, at) => {
                            chunk.copy_to(&mut m.bytes()[*at..*at + n]);
                            *at += n;
                        }
                        Self::Fill(b) => b.extend_from_slice(&chunk.clone().split_to(n).into_bytes()),
                        Self::Take(_) => {}
                    },
                }
                chunk.advance(n);
            }
        }
        n
    }

    /// Takes the last `n` bytes out again.
    pub(crate) fn take_back(&mut self, n: usize) -> Bytes {
        match self {
            Self::Fill(b) => {
                // A copy: splitting would take the room along, which the read still counts on.
                let from = b.len() - n.min(b.len());
                let out = Bytes::copy_from_slice(&b[from..]);
                b.truncate(from);
                out
            }
            Self::Lent(m, at) => {
                let from = at.saturating_sub(n);
                let out = Bytes::copy_from_slice(&m.bytes()[from..*at]);
                *at = from;
                out
            }
            Self::Take(list) => {
                let mut out = BytesMut::with_capacity(n);
                let mut skip = list.iter().map(Chunk::len).sum::<usize>().saturating_sub(n);
                let mut keep: SmallVec<[Chunk; 1]> = SmallVec::new();
                for mut c in std::mem::take(list) {
                    let head = c.split_to(skip);
                    skip -= head.len();
                    if !head.is_empty() {
                        keep.push(head);
                    }
                    out.extend_from_slice(&c.into_bytes());
                }
                *list = keep;
                out.freeze()
            }
        }
    }
}

thread_local! {
    /// Memory that take reads receive into; chunks are split off its front.
    static BLOCK: std::cell::RefCell<BytesMut> = std::cell::RefCell::new(BytesMut::new());
}

/// Room for received bytes, given to a socket. It counts what is put in.
///
/// ```
/// use xio_core::buffer::Room;
/// let mut memory = [0u8; 4];
/// let mut room = Room::over(&mut memory);
/// assert_eq!(room.put(b"hello"), 4);
/// assert_eq!(room.got(), 4);
/// ```
pub struct Room<'a> {
    target: Inner<'a>,
    room: usize,
    got: usize,
}

enum Inner<'a> {
    Target(&'a mut Target),
    Slice(&'a mut [u8]),
}

impl<'a> Room<'a> {
    pub(crate) fn new(target: &'a mut Target, room: usize) -> Self {
        Self { target: Inner::Target(target), room, got: 0 }
    }

    /// Room over plain memory, for tests of sockets.
    pub fn over(slice: &'a mut [u8]) -> Self {
        let room = slice.len();
        Self { target: Inner::Slice(slice), room, got: 0 }
    }

    /// Bytes that still fit.
    pub fn left(&self) -> usize {
        self.room - self.got
    }

    /// Bytes put in so far.
    pub fn got(&self) -> usize {
        self.got
    }

    /// Copies in what fits; says how much.
    pub fn put(&mut self, from: &[u8]) -> usize {
        let left = self.left();
        let n = match &mut self.target {
            Inner::Target(t) => t.put(left, from),
            Inner::Slice(s) => {
                let n = left.min(from.len());
                s[self.got..self.got + n].copy_from_slice(&from[..n]);
                n
            }
        };
        self.got += n;
        n
    }

    /// Lets `f` (a system call) write into the memory itself. `f` gives back the part it
    /// initialised.
    ///
    /// # Errors
    /// That of `f`.
    pub(crate) fn fill<E>(
        &mut self,
        f: impl for<'b> FnOnce(&'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8], E>,
    ) -> Result<usize, E> {
        let left = self.left();
        let n = match &mut self.target {
            Inner::Target(Target::Fill(b)) => fill_spare(b, left, f)?,
            Inner::Target(Target::Lent(m, at)) => {
                let n = fill_slice(&mut m.bytes()[*at..], left, f)?;
                *at += n;
                n
            }
            Inner::Target(Target::Take(list)) => BLOCK.with_borrow_mut(|block| {
                if block.capacity() - block.len() < TAKE_BLOCK.min(left) {
                    // Takes the whole block back where nobody holds a chunk of it any more.
                    block.reserve(TAKE_BLOCK);
                }
                let n = fill_spare(block, left.min(TAKE_BLOCK), f)?;
                if n > 0 {
                    let bytes = if n < TAKE_COPY {
                        let copy = Bytes::copy_from_slice(block);
                        block.clear();
                        copy
                    } else {
                        block.split().freeze()
                    };
                    list.push(bytes.into());
                }
                Ok(n)
            })?,
            Inner::Slice(s) => fill_slice(&mut s[self.got..], left, f)?,
        };
        self.got += n;
        Ok(n)
    }
}

fn fill_slice<E>(
    slice: &mut [u8],
    room: usize,
    f: impl for<'b> FnOnce(&'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8], E>,
) -> Result<usize, E> {
    let room = room.min(slice.len());
    super::lent::as_uninit(&mut slice[..room], f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(to: &mut [MaybeUninit<u8>]) -> Result<&mut [u8], ()> {
        let mut bytes = b"hello".iter();
        Ok(initialise(to, || bytes.next().copied()))
    }

    /// What a system call does: writes a front part and hands it back.
    #[allow(unsafe_code, reason = "stands in for a system call")]
    fn initialise(to: &mut [MaybeUninit<u8>], mut next: impl FnMut() -> Option<u8>) -> &mut [u8] {
        let mut n = 0;
        for slot in to.iter_mut() {
            let Some(b) = next() else { break };
            slot.write(b);
            n += 1;
        }
        // SAFETY: the first `n` bytes were just written.
        unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), n) }
    }

    #[test]
    fn every_target_takes_what_fits_and_no_more() {
        let mut memory = [7u8; 8];
        let fill = Target::Fill(BytesMut::with_capacity(4));
        let lent = Target::Lent(LentMut::new(&mut memory), 0);
        let take = Target::none();
        for mut t in [fill, lent, take] {
            let mut room = Room::new(&mut t, 4);
            assert_eq!(room.fill(hello), Ok(4));
            assert_eq!((room.left(), room.put(b"x")), (0, 0));
            let mut c = Chunk::from(Bytes::from_static(b"xyz"));
            assert_eq!(t.put_chunk(0, &mut c), 0);
            if let Target::Take(list) = &t {
                assert_eq!(list[0].as_slice(), Some(&b"hell"[..]));
            }
        }
        assert_eq!(&memory, b"hell\x07\x07\x07\x07");
    }

    #[test]
    fn big_takes_are_not_copied() {
        let mut t = Target::none();
        let mut at = 0;
        Room::new(&mut t, usize::MAX)
            .fill(|to| {
                at = to.as_ptr() as usize;
                let mut left = 5000;
                Ok::<_, ()>(initialise(to, || {
                    left -= 1;
                    (left >= 0).then_some(1)
                }))
            })
            .unwrap();
        let Target::Take(list) = &t else { unreachable!() };
        assert_eq!(list[0].as_slice().unwrap().as_ptr() as usize, at);
    }
}
