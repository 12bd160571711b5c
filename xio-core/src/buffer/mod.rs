//! Buffers: what a write carries ([`Piece`], [`Pieces`]), what a read hands out ([`Chunk`]), and
//! where a read's bytes go. Invariant: levels see slices only, and the engine counts
//! what was filled; nobody can claim bytes that were not written.

mod lent;
mod loan;
mod target;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use self::loan::Lent;
pub(crate) use lent::{LentMut, LentSlice};
pub use loan::{Lend, Loan};
pub use target::Room;
pub(crate) use target::Target;

/// Most bytes a [`Piece`] holds without memory of its own.
pub const MAX_INLINE: usize = 38;

/// The pieces of a write, in order.
pub type Pieces = SmallVec<[Piece; 2]>;

/// One run of bytes of a write.
///
/// ```
/// use xio_core::buffer::Piece;
/// let header = Piece::inline(&7u32.to_be_bytes());
/// assert_eq!(&*header, &[0, 0, 0, 7]);
/// ```
pub struct Piece(Repr);

enum Repr {
    Shared(Bytes),
    Owned(BytesMut),
    Inline { len: u8, data: [u8; MAX_INLINE] },
    Lent(LentSlice),
    Loan(Box<Lent>),
}

impl Piece {
    /// A short piece without memory of its own; longer input is copied to the heap.
    pub fn inline(bytes: &[u8]) -> Self {
        let mut data = [0; MAX_INLINE];
        match (data.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(to), Ok(len)) => {
                to.copy_from_slice(bytes);
                Self(Repr::Inline { len, data })
            }
            _ => Self(Repr::Shared(Bytes::copy_from_slice(bytes))),
        }
    }

    pub(crate) fn lent(slice: LentSlice) -> Self {
        Self(Repr::Lent(slice))
    }

    fn of_loan(lent: Box<Lent>) -> Self {
        Self(Repr::Loan(lent))
    }

    /// How many bytes it has. Unlike a look at them that copies nothing.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Shared(b) => b.len(),
            Repr::Owned(b) => b.len(),
            Repr::Inline { len, .. } => usize::from(*len),
            Repr::Lent(s) => s.len(),
            Repr::Loan(lent) => lent.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it lies in memory that a transport has lent.
    pub(crate) fn is_loan(&self) -> bool {
        matches!(self.0, Repr::Loan(_))
    }

    /// The memory it lies in from the start, where that was lent by a transport that knows it as an `L`. The bytes are
    /// as good as written then, if they lie where they go.
    pub fn lent_by<L: Lend>(&self) -> Option<&L> {
        match &self.0 {
            Repr::Loan(lent) => (lent.memory() as &dyn std::any::Any).downcast_ref(),
            _ => None,
        }
    }

    /// The owned, changeable buffer, if the write was given one.
    pub fn owned_mut(&mut self) -> Option<&mut BytesMut> {
        match &mut self.0 {
            Repr::Owned(b) => Some(b),
            _ => None,
        }
    }

    /// A second owner of the same bytes. Free for shared memory; an owned buffer is frozen first;
    /// borrowed, lent and inline bytes are copied.
    pub fn share(&mut self) -> Self {
        match &mut self.0 {
            Repr::Shared(b) => Self(Repr::Shared(b.clone())),
            Repr::Owned(b) => {
                let frozen = std::mem::take(b).freeze();
                self.0 = Repr::Shared(frozen.clone());
                Self(Repr::Shared(frozen))
            }
            Repr::Inline { len, data } => Self(Repr::Inline { len: *len, data: *data }),
            Repr::Lent(s) => Self(Repr::Shared(Bytes::copy_from_slice(s))),
            Repr::Loan(lent) => Self(Repr::Shared(Bytes::copy_from_slice(lent.bytes()))),
        }
    }

    /// The bytes as shared memory; borrowed, lent and inline bytes are copied.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Shared(b) => b,
            Repr::Owned(b) => b.freeze(),
            Repr::Inline { len, data } => Bytes::copy_from_slice(&data[..usize::from(len)]),
            Repr::Lent(s) => Bytes::copy_from_slice(&s),
            Repr::Loan(lent) => Bytes::copy_from_slice(lent.bytes()),
        }
    }
}

impl Deref for Piece {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Shared(b) => b,
            Repr::Owned(b) => b,
            Repr::Inline { len, data } => &data[..usize::from(*len)],
            Repr::Lent(s) => s,
            Repr::Loan(lent) => lent.bytes(),
        }
    }
}

impl From<Bytes> for Piece {
    fn from(b: Bytes) -> Self {
        Self(Repr::Shared(b))
    }
}

impl From<BytesMut> for Piece {
    fn from(b: BytesMut) -> Self {
        Self(Repr::Owned(b))
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} B)", self.len())
    }
}

/// What a user can hand to a write: anything that becomes owned pieces.
///
/// ```
/// use xio_core::buffer::WriteBuf;
/// let w: WriteBuf = "hello".into();
/// assert_eq!(w.len(), 5);
/// let list: WriteBuf = vec![bytes::Bytes::from_static(b"a"), bytes::Bytes::from_static(b"bc")].into();
/// assert_eq!(list.into_pieces().len(), 2);
/// ```
#[derive(Debug, Default)]
pub struct WriteBuf(Pieces);

impl WriteBuf {
    /// All bytes together.
    pub fn len(&self) -> usize {
        total(&self.0)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces.
    pub fn into_pieces(self) -> Pieces {
        self.0
    }
}

impl From<Pieces> for WriteBuf {
    fn from(p: Pieces) -> Self {
        Self(p)
    }
}

macro_rules! write_bufs {
    ($($t:ty, $v:ident => $piece:expr;)+) => {$(
        impl From<$t> for WriteBuf {
            fn from($v: $t) -> Self {
                Self(SmallVec::from_iter([Piece::from($piece)]))
            }
        }
    )+};
}
write_bufs! {
    Bytes, b => b;
    BytesMut, b => b;
    Vec<u8>, v => Bytes::from(v);
    String, s => Bytes::from(s);
    &'static str, s => Bytes::from_static(s.as_bytes());
    &'static [u8], s => Bytes::from_static(s);
}
impl<const N: usize> From<&'static [u8; N]> for WriteBuf {
    fn from(b: &'static [u8; N]) -> Self {
        Self::from(&b[..])
    }
}
impl From<Vec<Bytes>> for WriteBuf {
    fn from(v: Vec<Bytes>) -> Self {
        Self(v.into_iter().map(Piece::from).collect())
    }
}

/// Bytes of all pieces together.
pub fn total(pieces: &[Piece]) -> usize {
    pieces.iter().map(|p| p.len()).sum()
}

/// Memory that somebody else can still change. It can only be copied out.
pub trait Foreign: Send + Sync {
    /// How many bytes.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies from `at` into `to`; both ends lie within [`len`](Self::len).
    fn copy_out(&self, at: usize, to: &mut [u8]);
}

/// A run of received bytes that the reader owns. Keep it to take it, drop it to give it back.
///
/// Over private memory it is a [`Bytes`] and costs nothing; over memory that a peer can still
/// write ([`Foreign`]) it offers copies only.
///
/// ```
/// use xio_core::buffer::Chunk;
/// let mut c = Chunk::from(bytes::Bytes::from_static(b"hello"));
/// let he = c.split_to(2);
/// assert_eq!((he.len(), c.as_slice()), (2, Some(&b"llo"[..])));
/// ```
#[derive(Clone)]
pub struct Chunk(ChunkRepr);

#[derive(Clone)]
enum ChunkRepr {
    Private(Bytes),
    /// As small as the other: four bytes a number.
    Foreign {
        memory: Arc<dyn Foreign>,
        at: u32,
        len: u32,
    },
}

impl Chunk {
    /// A chunk over memory that is not private: its first 4 GiB, where it is longer.
    pub fn foreign(memory: Arc<dyn Foreign>) -> Self {
        let len = u32::try_from(memory.len()).unwrap_or(u32::MAX);
        Self(ChunkRepr::Foreign { memory, at: 0, len })
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            ChunkRepr::Private(b) => b.len(),
            ChunkRepr::Foreign { len, .. } => *len as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, where the memory is private.
    pub fn as_slice(&self) -> Option<&[u8]> {
        match &self.0 {
            ChunkRepr::Private(b) => Some(b),
            ChunkRepr::Foreign { .. } => None,
        }
    }

    /// Copies from the front into `to`, as much as fits; says how much.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let n = self.len().min(to.len());
        match &self.0 {
            ChunkRepr::Private(b) => to[..n].copy_from_slice(&b[..n]),
            ChunkRepr::Foreign { memory, at, .. } => memory.copy_out(*at as usize, &mut to[..n]),
        }
        n
    }

    /// Splits off the first `n` bytes, or all if there are fewer.
    pub fn split_to(&mut self, n: usize) -> Self {
        let n = n.min(self.len());
        match &mut self.0 {
            ChunkRepr::Private(b) => Self(ChunkRepr::Private(b.split_to(n))),
            ChunkRepr::Foreign { memory, at, len } => {
                // No more than `len`, which fits.
                let n = u32::try_from(n).unwrap_or(*len);
                let head = ChunkRepr::Foreign { memory: memory.clone(), at: *at, len: n };
                *at += n;
                *len -= n;
                Self(head)
            }
        }
    }

    /// Drops the first `n` bytes, or all if there are fewer.
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.len());
        match &mut self.0 {
            ChunkRepr::Private(b) => bytes::Buf::advance(b, n),
            ChunkRepr::Foreign { at, len, .. } => {
                let n = u32::try_from(n).unwrap_or(*len);
                *at += n;
                *len -= n;
            }
        }
    }

    /// The bytes as private memory; foreign memory is copied.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            ChunkRepr::Private(b) => b,
            ChunkRepr::Foreign { memory, at, len } => {
                let mut v = vec![0; len as usize];
                memory.copy_out(at as usize, &mut v);
                v.into()
            }
        }
    }
}

impl From<Bytes> for Chunk {
    fn from(b: Bytes) -> Self {
        Self(ChunkRepr::Private(b))
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Self(ChunkRepr::Private(Bytes::new()))
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} B)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shared([u8; 4]);
    impl Foreign for Shared {
        fn len(&self) -> usize {
            4
        }
        fn copy_out(&self, at: usize, to: &mut [u8]) {
            to.copy_from_slice(&self.0[at..at + to.len()]);
        }
    }

    #[test]
    fn foreign_chunks_only_copy() {
        let mut c = Chunk::foreign(Arc::new(Shared([1, 2, 3, 4])));
        assert!(c.as_slice().is_none());
        assert_eq!(&*c.split_to(1).into_bytes(), &[1]);
        c.advance(1);
        let mut to = [0; 8];
        assert_eq!(c.copy_to(&mut to), 2);
        assert_eq!(&to[..2], &[3, 4]);
    }

    #[test]
    fn pieces_share_without_copies_where_they_can() {
        let mut p = Piece::from(BytesMut::from(&b"abc"[..]));
        p.owned_mut().unwrap()[0] = b'x';
        let q = p.share();
        assert_eq!((&*p, &*q), (&b"xbc"[..], &b"xbc"[..]));
        assert_eq!(p.as_ptr(), q.as_ptr());
        assert_eq!(&*Piece::inline(&[9; 100]), &[9; 100]);
        assert_eq!(size_of::<Piece>(), 40);
    }
}
