//! The one error of the framework: what kind, which op, which level of which stack, how much had
//! moved. Invariant: an error never carries payload bytes, and its text stays under [`MAX_TEXT`].

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::driver::OpKind;

mod text;

/// Longest text, in bytes, that `Display` of an [`Error`] produces.
pub const MAX_TEXT: usize = 1024;

/// What went wrong. New kinds may be added, so match with a wildcard arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The peer ended the stream; no more bytes come.
    Eof,
    /// The stream ended inside a message or record.
    UnexpectedEof,
    /// The op was cancelled by its owner or by a close.
    Cancelled,
    /// The op's deadline or an idle timeout passed.
    TimedOut,
    /// The handle, server or link is closed or closing.
    Closed,
    /// A driver dropped the op without finishing it.
    Dropped,
    /// A level or a user callback panicked; the handle is poisoned.
    Panicked,
    /// A driver finished an op with success although it moved nothing.
    NoProgress,
    /// A driver broke the driver contract in another way.
    Contract,
    /// A message or datagram of `len` bytes did not fit the read.
    Truncated {
        /// Real length of the message in bytes.
        len: usize,
    },
    /// A message is larger than a limit allows.
    TooLong,
    /// An argument of the call cannot be satisfied.
    InvalidInput,
    /// The stack cannot do this kind of op.
    Unsupported,
    /// No level knows this command.
    UnsupportedCommand,
    /// The stack has no level of this id.
    UnknownLevel,
    /// A named limit is reached; try again later.
    Busy,
    /// A blocking call from a callback on an engine thread.
    InCallback,
    /// The engine was shut down.
    Stopped,
    /// A contact text is malformed or does not fit the transport.
    InvalidContact,
    /// A name could not be resolved to an address.
    Resolve,
    /// The peer refused the connection.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The peer no longer reads.
    BrokenPipe,
    /// The address is in use.
    AddrInUse,
    /// The address does not belong to this host.
    AddrNotAvailable,
    /// The network or host cannot be reached.
    Unreachable,
    /// A file or name does not exist.
    NotFound,
    /// The operating system denied access.
    PermissionDenied,
    /// File descriptors, memory or another resource ran out.
    Exhausted,
    /// The peer sent bytes that break the protocol of a level.
    Protocol,
    /// The levels of a stack do not fit each other.
    Misfit,
    /// Another error of the operating system.
    Io,
}

impl ErrorKind {
    /// A few words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Eof => "end of stream",
            Self::UnexpectedEof => "the stream ended inside a message",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Closed => "closed",
            Self::Dropped => "a driver dropped the operation",
            Self::Panicked => "a driver or callback panicked",
            Self::NoProgress => "the driver finished without moving a byte",
            Self::Contract => "the driver broke its contract",
            Self::Truncated { .. } => "the message did not fit the buffer",
            Self::TooLong => "the message is longer than allowed",
            Self::InvalidInput => "invalid argument",
            Self::Unsupported => "this stack cannot do that",
            Self::UnsupportedCommand => "no level knows this command",
            Self::UnknownLevel => "no such level",
            Self::Busy => "busy: a limit is reached",
            Self::InCallback => "blocking call inside a callback on an engine thread",
            Self::Stopped => "the engine was stopped",
            Self::InvalidContact => "invalid contact",
            Self::Resolve => "the name could not be resolved",
            Self::Refused => "connection refused",
            Self::Reset => "connection reset by the peer",
            Self::BrokenPipe => "the peer no longer reads",
            Self::AddrInUse => "address in use",
            Self::AddrNotAvailable => "address not available on this host",
            Self::Unreachable => "network or host unreachable",
            Self::NotFound => "not found",
            Self::PermissionDenied => "permission denied",
            Self::Exhausted => "out of descriptors or memory",
            Self::Protocol => "the peer broke the protocol",
            Self::Misfit => "the levels of the stack do not fit",
            Self::Io => "I/O error",
        }
    }

    fn of_io(e: &io::Error) -> Self {
        use io::ErrorKind as K;
        match e.kind() {
            K::ConnectionRefused => Self::Refused,
            K::ConnectionReset | K::ConnectionAborted => Self::Reset,
            K::BrokenPipe | K::NotConnected => Self::BrokenPipe,
            K::AddrInUse => Self::AddrInUse,
            K::AddrNotAvailable => Self::AddrNotAvailable,
            K::NetworkUnreachable | K::HostUnreachable | K::NetworkDown => Self::Unreachable,
            K::NotFound => Self::NotFound,
            K::PermissionDenied => Self::PermissionDenied,
            K::TimedOut => Self::TimedOut,
            K::UnexpectedEof => Self::UnexpectedEof,
            K::OutOfMemory => Self::Exhausted,
            K::InvalidInput => Self::InvalidInput,
            K::WouldBlock => Self::Busy,
            _ => match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(
                    rustix::io::Errno::MFILE
                    | rustix::io::Errno::NFILE
                    | rustix::io::Errno::NOBUFS
                    | rustix::io::Errno::NOMEM,
                ) => Self::Exhausted,
                Some(rustix::io::Errno::MSGSIZE) => Self::TooLong,
                _ => Self::Io,
            },
        }
    }
}

/// An error of an op, a command or a stack, with where it happened.
///
/// One pointer wide. The text names the level and the stack:
///
/// ```
/// use xio_core::{Error, ErrorKind};
/// let e = Error::new(ErrorKind::Protocol).detail("frame of 9 GiB announced, limit is 16 MiB");
/// assert_eq!(e.kind(), ErrorKind::Protocol);
/// assert!(e.to_string().contains("16 MiB"));
/// assert!(!e.is_temporary());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    op: Option<OpKind>,
    place: Option<Place>,
    moved: u64,
    detail: Cow<'static, str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Where an error happened: a level of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) level: Arc<str>,
    pub(crate) driver: &'static str,
    pub(crate) stack: Arc<str>,
}

impl Error {
    /// An error of this kind with nothing else known yet.
    #[cold]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, op: None, place: None, moved: 0, detail: Cow::Borrowed(""), source: None }))
    }

    /// Adds a sentence that says what exactly, and what to do.
    #[must_use]
    pub fn detail(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = text.into();
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn source_error(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Which kind of op failed, where an op did.
    pub fn op(&self) -> Option<OpKind> {
        self.0.op
    }

    /// Id of the level that refused, where a level did.
    pub fn level(&self) -> Option<&str> {
        self.0.place.as_ref().map(|p| &*p.level)
    }

    /// Name of the driver of that level.
    pub fn driver(&self) -> Option<&'static str> {
        self.0.place.as_ref().map(|p| p.driver)
    }

    /// Bytes that had moved: for a read those already in the buffer, for a write those that went
    /// past the point of no return.
    pub fn moved(&self) -> u64 {
        self.0.moved
    }

    /// The sentence added by [`detail`](Self::detail), or an empty text.
    pub fn what(&self) -> &str {
        &self.0.detail
    }

    /// The number of the operating system's error that caused this one, where one did.
    pub fn raw_os_error(&self) -> Option<i32> {
        text::os_error(self)
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_temporary(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::Exhausted | ErrorKind::AddrInUse)
    }

    /// Sets the bytes that had moved.
    #[must_use]
    pub fn with_moved(mut self, moved: u64) -> Self {
        self.0.moved = moved;
        self
    }

    pub(crate) fn at(mut self, op: OpKind, place: impl FnOnce() -> Option<Place>) -> Self {
        if self.0.op.is_none() {
            self.0.op = Some(op);
        }
        if self.0.place.is_none() {
            self.0.place = place();
        }
        self
    }

    pub(crate) fn at_level(mut self, place: Place) -> Self {
        self.0.place.get_or_insert(place);
        self
    }

    /// The error of an engine that was shut down.
    pub(crate) fn stopped() -> Self {
        Self::new(ErrorKind::Stopped)
    }
}

impl Clone for Error {
    fn clone(&self) -> Self {
        let i = &*self.0;
        Self(Box::new(Inner {
            kind: i.kind,
            op: i.op,
            place: i.place.clone(),
            moved: i.moved,
            detail: i.detail.clone(),
            source: i.source.clone(),
        }))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("text", &self.to_string()).finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl From<io::Error> for Error {
    /// Takes an [`Error`] that travelled inside an `io::Error` out again, with its level and all.
    fn from(e: io::Error) -> Self {
        if e.get_ref().is_some_and(|r| r.is::<Self>()) {
            if let Some(Ok(own)) = e.into_inner().map(|b| b.downcast::<Self>()) {
                return *own;
            }
            return Self::new(ErrorKind::Io);
        }
        Self::new(ErrorKind::of_io(&e)).source_error(e)
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> Self {
        use io::ErrorKind as K;
        let kind = match e.kind() {
            ErrorKind::Eof | ErrorKind::UnexpectedEof => K::UnexpectedEof,
            ErrorKind::TimedOut => K::TimedOut,
            ErrorKind::Closed | ErrorKind::BrokenPipe => K::BrokenPipe,
            ErrorKind::Refused => K::ConnectionRefused,
            ErrorKind::Reset => K::ConnectionReset,
            ErrorKind::AddrInUse => K::AddrInUse,
            ErrorKind::AddrNotAvailable => K::AddrNotAvailable,
            ErrorKind::Unreachable => K::HostUnreachable,
            ErrorKind::NotFound => K::NotFound,
            ErrorKind::PermissionDenied => K::PermissionDenied,
            ErrorKind::Unsupported | ErrorKind::UnsupportedCommand => K::Unsupported,
            ErrorKind::InvalidInput | ErrorKind::InvalidContact | ErrorKind::Misfit => K::InvalidInput,
            ErrorKind::Busy => K::WouldBlock,
            ErrorKind::Protocol | ErrorKind::Truncated { .. } | ErrorKind::TooLong => K::InvalidData,
            _ => K::Other,
        };
        Self::new(kind, e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_a_trip_through_io_error() {
        let e = Error::new(ErrorKind::Reset).detail("while reading").with_moved(7);
        let back = Error::from(io::Error::from(e.clone()));
        assert_eq!((back.kind(), back.moved(), back.to_string()), (e.kind(), 7, e.to_string()));
    }

    #[test]
    fn os_errors_keep_their_kind() {
        let e = Error::from(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()));
        assert_eq!(e.kind(), ErrorKind::Exhausted);
        assert!(e.is_temporary());
    }
}
