//! Memory that a write is filled into before it is made: the transport's own, where it sends from there. Invariant:
//! while it is filled it is its user's alone; who looks at it later on looks at a copy.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use super::{Piece, WriteBuf};
use crate::error::{Error, ErrorKind};

/// Memory that a transport lends, to be filled by a user and sent from where it is.
pub trait Lend: Any + Send + Sync {
    /// How many bytes it has.
    fn room(&self) -> usize;

    /// Gives `f` the bytes from `at` on; says what `f` says, how many it has filled. Nobody else has them meanwhile,
    /// so whoever wants their place waits.
    fn fill(&self, at: usize, f: &mut dyn FnMut(&mut [u8]) -> usize) -> usize;

    /// Copies from its beginning; no more than was filled. What has been sent is the peer's, and leaves `to` as it is.
    fn copy_out(&self, to: &mut [u8]);
}

/// Memory for one write, filled before that is made: see [`Handle::loan`](crate::Handle::loan).
///
/// ```
/// use std::io::Write;
/// # use xio_core::buffer::{Loan, WriteBuf};
/// # let mut loan = Loan::own(12).unwrap();
/// write!(loan, "{}:", 42).unwrap();
/// loan.fill(|room| {
///     room[..4].copy_from_slice(b"the ");
///     4
/// });
/// assert_eq!(loan.put(b"answer"), 5, "it has room for 12 bytes");
/// assert_eq!(WriteBuf::from(loan).len(), 12);
/// ```
pub struct Loan {
    memory: Memory,
    room: usize,
}

enum Memory {
    /// And how far it was filled.
    Own(Vec<u8>, usize),
    Lent(Box<Lent>),
}

/// The beginning of lent memory.
pub(super) struct Lent {
    memory: Arc<dyn Lend>,
    len: usize,
    /// A copy, once somebody looked.
    seen: OnceLock<Box<[u8]>>,
}

impl Loan {
    /// Private memory, where a transport has none to lend.
    ///
    /// # Errors
    /// `Exhausted` where there is not so much memory.
    pub fn own(room: usize) -> Result<Self, Error> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(room).map_err(|_| {
            Error::new(ErrorKind::Exhausted).detail(format!("there is no memory for a loan of {room} bytes"))
        })?;
        Ok(Self { memory: Memory::Own(memory, 0), room })
    }

    /// Memory of a transport's.
    pub fn lent(memory: Arc<dyn Lend>) -> Self {
        let room = memory.room();
        Self { memory: Memory::Lent(Box::new(Lent { memory, len: 0, seen: OnceLock::new() })), room }
    }

    /// Gives `f` all the room that is left, whatever is in there; `f` says how much of it, from its beginning, it has
    /// filled. Where the memory is lent, other writes of the handle may have to wait meanwhile: `f` must not wait for
    /// them.
    pub fn fill(&mut self, f: impl FnOnce(&mut [u8]) -> usize) {
        let (len, room) = (self.len(), self.room);
        match &mut self.memory {
            Memory::Own(own, filled) => {
                own.resize(room, 0);
                *filled += f(&mut own[len..]).min(room - len);
            }
            Memory::Lent(lent) => {
                let mut f = Some(f);
                let n = lent.memory.fill(len, &mut |bytes| f.take().map_or(0, |f| f(bytes)));
                lent.len += n.min(room - len);
            }
        }
    }

    /// Appends as many bytes as there is room for; says how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.left());
        match &mut self.memory {
            Memory::Own(own, filled) if own.len() == *filled => {
                own.extend_from_slice(&bytes[..n]);
                *filled += n;
            }
            _ => self.fill(|room| {
                room[..n].copy_from_slice(&bytes[..n]);
                n
            }),
        }
        n
    }

    /// How many bytes were filled.
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Own(_, filled) => *filled,
            Memory::Lent(lent) => lent.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more fit.
    pub fn left(&self) -> usize {
        self.room - self.len()
    }

    /// Whether the memory is a transport's.
    pub fn is_lent(&self) -> bool {
        matches!(self.memory, Memory::Lent(_))
    }
}

impl io::Write for Loan {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.put(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loan({} of {} B{})", self.len(), self.room, if self.is_lent() { ", lent" } else { "" })
    }
}

impl From<Loan> for WriteBuf {
    fn from(loan: Loan) -> Self {
        match loan.memory {
            Memory::Own(mut own, filled) => {
                own.truncate(filled);
                own.into()
            }
            Memory::Lent(lent) => Self(smallvec::SmallVec::from_iter([Piece::of_loan(lent)])),
        }
    }
}

impl Lent {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn memory(&self) -> &dyn Lend {
        &*self.memory
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.seen.get_or_init(|| {
            let mut bytes = vec![0; self.len].into_boxed_slice();
            self.memory.copy_out(&mut bytes);
            bytes
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parking_lot::Mutex;

    use super::*;

    struct Shared(Mutex<[u8; 8]>);
    impl Lend for Shared {
        fn room(&self) -> usize {
            8
        }
        fn fill(&self, at: usize, f: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
            f(&mut self.0.lock()[at..])
        }
        fn copy_out(&self, to: &mut [u8]) {
            to.copy_from_slice(&self.0.lock()[..to.len()]);
        }
    }

    #[test]
    fn a_loan_takes_what_it_has_room_for_wherever_it_lies() {
        let memory = Arc::new(Shared(Mutex::default()));
        for mut loan in [Loan::own(8).unwrap(), Loan::lent(memory.clone())] {
            assert_eq!((loan.len(), loan.left(), loan.is_empty()), (0, 8, true));
            assert_eq!(loan.put(b"abc"), 3);
            loan.fill(|room| {
                assert_eq!(room.len(), 5);
                room.copy_from_slice(b"de---");
                2
            });
            assert_eq!((loan.put(b"fgh!"), loan.put(b"more")), (3, 0));
            assert_eq!(loan.write(b"x").unwrap(), 0);
            // Whoever says that more was filled than there was is not believed.
            loan.fill(|room| room.len() + 1);
            assert_eq!((loan.len(), loan.left()), (8, 0));
            let pieces = WriteBuf::from(loan).into_pieces();
            assert_eq!((pieces[0].len(), &*pieces[0]), (8, &b"abcdefgh"[..]));
        }
        // Once somebody has looked, what happens there changes nothing.
        let mut loan = Loan::lent(memory.clone());
        loan.put(b"12345");
        let pieces = WriteBuf::from(loan).into_pieces();
        assert!(pieces[0].lent_by::<Shared>().is_some_and(|s| std::ptr::eq(s, &*memory)));
        assert_eq!(&*pieces[0], b"12345");
        memory.0.lock()[0] = b'x';
        assert_eq!(&*pieces[0], b"12345");
    }

    #[test]
    fn what_a_fill_that_panics_did_does_not_count() {
        for mut loan in [Loan::own(8).unwrap(), Loan::lent(Arc::new(Shared(Mutex::default())))] {
            loan.put(b"abc");
            let fill = std::panic::AssertUnwindSafe(|| loan.fill(|_| panic!("of the test")));
            assert!(std::panic::catch_unwind(fill).is_err());
            assert_eq!((loan.len(), loan.put(b"d"), loan.len()), (3, 1, 4));
            assert_eq!(&*WriteBuf::from(loan).into_pieces()[0], b"abcd");
        }
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        assert_eq!(Loan::own(usize::MAX).unwrap_err().kind(), ErrorKind::Exhausted);
        assert_eq!(Loan::own(0).unwrap().put(b"x"), 0);
    }
}
