//! How an op ends for its owner: what it gets, and who is told. Invariant: buffers come back on
//! every outcome.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::attr::OpAttrs;
use crate::body::Chunks;
use crate::buffer::{Pieces, Target};
use crate::contact::{Contact, Unread};
use crate::driver::{LinkPart, OpKind};
use crate::error::{Error, ErrorKind};
use crate::op::{Accept, Cell, Close, Flush, Kind, Listen, Open, Read, Ready, Shutdown, Write};
use crate::reactor::Bell;
use crate::sync::Arc;

/// Who is told.
pub(crate) enum End<K: Kind> {
    /// The level or engine that made it.
    Own,
    /// A blocking caller; the bell is set once it may sleep.
    Wait(Option<Arc<Bell>>),
    /// A future.
    Task(Option<std::task::Waker>),
    /// A callback.
    Call(Callback<K>),
    /// Nobody any more.
    Gone,
}

pub(crate) type Callback<K> = Box<dyn FnOnce(<K as Kind>::Outcome) + Send>;

/// What a finished read gives back.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReadDone {
    /// Bytes that came with this read.
    pub n: usize,
    /// The buffer that was given, with the bytes appended; empty for a take.
    pub buf: BytesMut,
    /// The chunks of a take; empty for a fill.
    pub chunks: Chunks,
    /// Attrs that came up with the data.
    pub attrs: OpAttrs,
}

impl ReadDone {
    /// All bytes that came as one run: the buffer, or the chunks (joined by a copy where there are
    /// several).
    pub fn into_bytes(mut self) -> Bytes {
        match self.chunks.len() {
            0 => self.buf.freeze(),
            1 => self.chunks.pop().unwrap_or_default().into_bytes(),
            _ => {
                let mut out = BytesMut::with_capacity(self.n);
                for c in self.chunks {
                    out.extend_from_slice(&c.into_bytes());
                }
                out.freeze()
            }
        }
    }
}

/// What a finished write gives back.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct WriteDone {
    /// Bytes written: all of them, or as many as were through when an error came.
    pub n: usize,
    /// The pieces that were given.
    pub pieces: Pieces,
    /// The attrs that were given.
    pub attrs: OpAttrs,
}

/// An op that failed, with everything its owner gave.
pub struct Failed<B> {
    /// Why.
    pub error: Error,
    /// The buffers and attrs, and how many bytes had moved.
    pub back: B,
}

impl<B> Failed<B> {
    pub(crate) fn new(error: Error, back: B) -> Self {
        Self { error, back }
    }

    /// Why, as a kind.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}

impl<B> fmt::Debug for Failed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl<B> fmt::Display for Failed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<B> std::error::Error for Failed<B> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl<B> From<Failed<B>> for Error {
    fn from(f: Failed<B>) -> Self {
        f.error
    }
}

impl<B> From<Failed<B>> for std::io::Error {
    fn from(f: Failed<B>) -> Self {
        f.error.into()
    }
}

/// What an accept gives: the parts of a link.
pub struct Accepted {
    pub(crate) links: Vec<(u8, LinkPart)>,
    pub(crate) local: Unread,
    pub(crate) peer: Unread,
}

/// Takes the outcome out of a finished cell and leaves it fit for another op.
#[allow(unreachable_pub, reason = "named by a sealed trait")]
pub trait FromCell<K: Kind>: Sized {
    #[allow(private_interfaces, reason = "named by a sealed trait")]
    fn from_cell(cell: &mut Cell<K>) -> Self;
}

impl FromCell<Read> for Result<ReadDone, Failed<ReadDone>> {
    #[allow(private_interfaces, reason = "named by a sealed trait")]
    fn from_cell(cell: &mut Cell<Read>) -> Self {
        cell.body.leave(0);
        let mut done =
            ReadDone { n: cell.body.got, attrs: std::mem::take(&mut cell.head.attrs), ..ReadDone::default() };
        match std::mem::replace(&mut cell.body.target, Target::none()) {
            Target::Fill(b) => done.buf = b,
            Target::Take(c) => done.chunks = c,
            Target::Lent(..) => {}
        }
        match cell.head.error.take() {
            None => Ok(done),
            Some(e) => Err(Failed::new(e.with_moved(done.n as u64), done)),
        }
    }
}

impl FromCell<Write> for Result<WriteDone, Failed<WriteDone>> {
    #[allow(private_interfaces, reason = "named by a sealed trait")]
    fn from_cell(cell: &mut Cell<Write>) -> Self {
        let (pieces, n) = cell.body.give_back();
        let done = WriteDone { n, pieces, attrs: std::mem::take(&mut cell.head.attrs) };
        match cell.head.error.take() {
            None => Ok(done),
            Some(e) => Err(Failed::new(e.with_moved(n as u64), done)),
        }
    }
}

macro_rules! plain {
    ($($K:ident),+) => {$(
        impl FromCell<$K> for Result<(), Error> {
            #[allow(private_interfaces, reason = "named by a sealed trait")]
            fn from_cell(cell: &mut Cell<$K>) -> Self {
                cell.head.error.take().map_or(Ok(()), Err)
            }
        }
    )+};
}
plain!(Open, Flush, Shutdown, Ready);

impl FromCell<Close> for Result<(), Error> {
    #[allow(private_interfaces, reason = "named by a sealed trait")]
    fn from_cell(cell: &mut Cell<Close>) -> Self {
        match cell.head.error.take() {
            Some(e) => Err(e),
            None if cell.body.late => {
                let e = Error::new(ErrorKind::TimedOut);
                let text = "what was outstanding did not end in the time the close had, and was cancelled";
                Err(e.detail(text).at(OpKind::Close, || None))
            }
            None => Ok(()),
        }
    }
}

impl FromCell<Accept> for Result<Accepted, Error> {
    #[allow(private_interfaces, reason = "named by a sealed trait")]
    fn from_cell(cell: &mut Cell<Accept>) -> Self {
        if let Some(e) = cell.head.error.take() {
            return Err(e);
        }
        let body = std::mem::take(&mut cell.body);
        Ok(Accepted { links: body.links, local: body.local, peer: body.peer })
    }
}

impl FromCell<Listen> for Result<Contact, Error> {
    #[allow(private_interfaces, reason = "named by a sealed trait")]
    fn from_cell(cell: &mut Cell<Listen>) -> Self {
        match cell.head.error.take() {
            Some(e) => Err(e),
            None => Ok(std::mem::take(&mut cell.body.contact)),
        }
    }
}
