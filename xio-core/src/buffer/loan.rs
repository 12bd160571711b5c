//! Memory that a write is filled into before it is made: the transport's own, where it sends from there. Invariant:
//! nobody gets a slice of memory that a peer can reach; who looks at bytes there looks at a copy.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use super::{Foreign, Piece, WriteBuf};
use crate::error::{Error, ErrorKind};

/// Memory that a transport lends, to be filled by a user and sent from where it is.
pub trait Lend: Foreign + Any {
    /// Copies `from` to `at`; both ends lie within [`len`](Foreign::len).
    fn fill(&self, at: usize, from: &[u8]);
}

/// Memory for one write, filled before that is made: see [`Handle::loan`](crate::Handle::loan).
///
/// ```
/// use std::io::Write;
/// # use xio_core::buffer::{Loan, WriteBuf};
/// # let mut loan = Loan::own(8).unwrap();
/// write!(loan, "{}:", 42).unwrap();
/// assert_eq!(loan.put(b"answer"), 5, "it has room for 8 bytes");
/// assert_eq!(WriteBuf::from(loan).len(), 8);
/// ```
pub struct Loan {
    memory: Memory,
    room: usize,
}

enum Memory {
    Own(Vec<u8>),
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
        Ok(Self { memory: Memory::Own(memory), room })
    }

    /// Memory of a transport's.
    pub fn lent(memory: Arc<dyn Lend>) -> Self {
        let room = memory.len();
        Self { memory: Memory::Lent(Box::new(Lent { memory, len: 0, seen: OnceLock::new() })), room }
    }

    /// Appends as many bytes as there is room for; says how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.left());
        match &mut self.memory {
            Memory::Own(own) => own.extend_from_slice(&bytes[..n]),
            Memory::Lent(lent) => {
                lent.memory.fill(lent.len, &bytes[..n]);
                lent.len += n;
            }
        }
        n
    }

    /// How many bytes were put in.
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Own(own) => own.len(),
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
            Memory::Own(own) => own.into(),
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
            self.memory.copy_out(0, &mut bytes);
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
    impl Foreign for Shared {
        fn len(&self) -> usize {
            8
        }
        fn copy_out(&self, at: usize, to: &mut [u8]) {
            to.copy_from_slice(&self.0.lock()[at..at + to.len()]);
        }
    }
    impl Lend for Shared {
        fn fill(&self, at: usize, from: &[u8]) {
            self.0.lock()[at..at + from.len()].copy_from_slice(from);
        }
    }

    #[test]
    fn a_loan_takes_what_it_has_room_for_wherever_it_lies() {
        let memory = Arc::new(Shared(Mutex::default()));
        for mut loan in [Loan::own(8).unwrap(), Loan::lent(memory.clone())] {
            assert_eq!((loan.len(), loan.left(), loan.is_empty()), (0, 8, true));
            assert_eq!((loan.put(b"abc"), loan.put(b"defgh!"), loan.put(b"more")), (3, 5, 0));
            assert_eq!(loan.write(b"x").unwrap(), 0);
            assert_eq!((loan.len(), loan.left()), (8, 0));
            let pieces = WriteBuf::from(loan).into_pieces();
            assert_eq!((pieces[0].len(), &*pieces[0]), (8, &b"abcdefgh"[..]));
        }
        // Once somebody has looked, a peer that writes there changes nothing.
        let mut loan = Loan::lent(memory.clone());
        loan.put(b"12345");
        let pieces = WriteBuf::from(loan).into_pieces();
        assert!(pieces[0].lent_by::<Shared>().is_some_and(|s| std::ptr::eq(s, &*memory)));
        assert_eq!(&*pieces[0], b"12345");
        memory.0.lock()[0] = b'x';
        assert_eq!(&*pieces[0], b"12345");
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        assert_eq!(Loan::own(usize::MAX).unwrap_err().kind(), ErrorKind::Exhausted);
        assert_eq!(Loan::own(0).unwrap().put(b"x"), 0);
    }
}
