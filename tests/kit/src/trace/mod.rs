//! What passed the top of a transport in one run, as a list that can be kept as text and played again.
//! Invariant: a trace holds what ops came to, in the order they came to it, and no time; it stays within its
//! limits, whoever makes it. Op attrs, peers of datagrams among them, are not in it.

mod recorder;
mod text;

use std::fmt;

use bytes::Bytes;
use xio_core::ErrorKind;
use xio_core::caps::{Caps, Unit};
use xio_core::driver::OpKind;

pub use recorder::Recorder;
pub use text::ParseError;

/// Most ops of a trace.
pub const MAX_OPS: usize = 100_000;
/// Most bytes that its reads and writes moved, together.
pub const MAX_DATA: usize = 1 << 24;
/// Longest datagram of a transport that carries such, as UDP has it.
const MAX_DATAGRAM: usize = 65_507;

/// The kinds of ops that are kept: those of a handle.
pub(crate) const KINDS: [OpKind; 7] =
    [OpKind::Open, OpKind::Close, OpKind::Read, OpKind::Write, OpKind::Flush, OpKind::Shutdown, OpKind::Ready];

/// What one op came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// What kind of op.
    pub kind: OpKind,
    /// What a read brought, or how far a write went; empty for other kinds.
    pub data: Bytes,
    /// What it failed with, after that.
    pub error: Option<ErrorKind>,
}

/// What ops of one handle came to, in that order.
///
/// As text it is a line for what kind of transport it was and one for each op: its kind; of a read or write the
/// bytes that moved, in quotes, with `\n`, `\r`, `\t`, `\0`, `\\`, `\"` and `\xHH` for what does not print; the
/// name of the error. Empty lines and those that begin with `#` are passed over.
///
/// ```
/// use xio_testkit::trace::Trace;
/// let text = "\
/// xio-trace 1 stream
/// open
/// write \"\\0\\0\\0\\x05hello\"
/// read \"\\0\\0\\0\\x02ok\"
/// read \"\" Eof
/// close
/// ";
/// let trace = Trace::parse(text)?;
/// assert_eq!(trace.records()[1].data, &b"\0\0\0\x05hello"[..]);
/// assert_eq!(trace.to_string(), text);
/// let e = Trace::parse("xio-trace 1 stream\nopen\nread what\n").unwrap_err();
/// assert_eq!(e.to_string(), "line 3: `what` stands where the bytes of the read belong, in quotes");
/// # Ok::<(), xio_testkit::trace::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    unit: Unit,
    records: Vec<Record>,
    data: usize,
}

/// A trace would grow over [`MAX_OPS`] or [`MAX_DATA`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a trace holds at most {MAX_OPS} ops and {MAX_DATA} bytes of data")
    }
}

impl std::error::Error for TooLong {}

impl Trace {
    /// One without ops, of a transport that carries this.
    pub const fn new(unit: Unit) -> Self {
        Self { unit, records: Vec::new(), data: 0 }
    }

    /// What the transport carried.
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// What ops came to.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Adds what the next op came to. `data` is kept for reads and writes.
    ///
    /// # Errors
    /// The trace is as long as it may be.
    pub fn push(&mut self, kind: OpKind, data: impl Into<Bytes>, error: Option<ErrorKind>) -> Result<(), TooLong> {
        let data = if moves(kind) { data.into() } else { Bytes::new() };
        let sum = self.data.checked_add(data.len()).filter(|n| *n <= MAX_DATA).ok_or(TooLong)?;
        if self.records.len() >= MAX_OPS {
            return Err(TooLong);
        }
        self.data = sum;
        self.records.push(Record { kind, data, error });
        Ok(())
    }

    /// What a transport gives that plays it.
    pub(crate) const fn caps(&self) -> Caps {
        match self.unit {
            Unit::Stream => Caps::stream(),
            Unit::Message => Caps::message(),
            Unit::Datagram => Caps::datagram(MAX_DATAGRAM),
        }
    }
}

const fn moves(kind: OpKind) -> bool {
    matches!(kind, OpKind::Read | OpKind::Write)
}
