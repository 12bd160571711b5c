//! What a level gives above and needs below, and whether the two fit.
//! Invariant: [`Needs::fit`] is the only place that decides it; binding and run time agree.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::schema::size_words;

/// What one read or write stands for on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes in order; reads and writes have no borders.
    Stream,
    /// Packets with borders; each may be lost, doubled or overtaken.
    Datagram,
    /// Messages with borders, one write a message.
    Message,
}

impl Unit {
    /// The word used in texts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Datagram => "datagram",
            Self::Message => "message",
        }
    }

    /// Whether a read or write has borders that must be kept.
    pub const fn has_borders(self) -> bool {
        !matches!(self, Self::Stream)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a level, and so the stack from it down, gives to whoever is above.
///
/// ```
/// use xio_core::caps::{Caps, Unit};
/// let c = Caps::stream();
/// assert!(c.reliable && c.ordered && c.unit == Unit::Stream);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// What one op stands for.
    pub unit: Unit,
    /// Nothing that was accepted gets lost while the handle lives.
    pub reliable: bool,
    /// What is read comes in the order it was written.
    pub ordered: bool,
    /// Reads and writes both work.
    pub duplex: bool,
    /// The two ends know of each other: an open fails where nobody is, each sees the other close or break
    /// off, and who does not read stops who writes.
    pub connected: bool,
    /// The write side can be ended alone.
    pub half_close: bool,
    /// Largest message or datagram in bytes; `None`: no limit of its own.
    pub max_message: Option<usize>,
    /// Reads can hand out the driver's own memory without a copy.
    pub take_reads: bool,
    /// The stack can listen and accept.
    pub accepts: bool,
    /// The stack can open towards a contact.
    pub connects: bool,
    /// After an end of stream more bytes may come (a growing file, a terminal).
    pub eof_resets: bool,
    /// State of a handle lies where other processes reach it: a handle that crossed a fork is refused.
    pub shared_memory: bool,
}

impl Caps {
    /// A reliable, ordered, duplex byte stream with half close, that takes, accepts and connects.
    pub const fn stream() -> Self {
        Self {
            unit: Unit::Stream,
            reliable: true,
            ordered: true,
            duplex: true,
            connected: true,
            half_close: true,
            max_message: None,
            take_reads: true,
            accepts: true,
            connects: true,
            eof_resets: false,
            shared_memory: false,
        }
    }

    /// Like [`stream`](Self::stream), but with message borders.
    pub const fn message() -> Self {
        Self { unit: Unit::Message, ..Self::stream() }
    }

    /// Unreliable, unordered packets of at most `max` bytes.
    pub const fn datagram(max: usize) -> Self {
        Self {
            unit: Unit::Datagram,
            reliable: false,
            ordered: false,
            half_close: false,
            max_message: Some(max),
            ..Self::stream()
        }
    }

    /// What holds for all of `branches`: the weakest of each property. `None` if they carry
    /// different units or there are none.
    pub fn common<'a>(branches: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut branches = branches.into_iter();
        let mut out = branches.next()?.clone();
        for c in branches {
            if c.unit != out.unit {
                return None;
            }
            out.reliable &= c.reliable;
            out.ordered &= c.ordered;
            out.duplex &= c.duplex;
            out.connected &= c.connected;
            out.half_close &= c.half_close;
            out.take_reads &= c.take_reads;
            out.accepts &= c.accepts;
            out.connects &= c.connects;
            out.eof_resets |= c.eof_resets;
            out.shared_memory |= c.shared_memory;
            out.max_message = match (out.max_message, c.max_message) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Some(out)
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.unit.name())?;
        let flags = [
            (self.reliable, "reliable"),
            (self.ordered, "ordered"),
            (self.duplex, "duplex"),
            // Nearly all are: only what is not is worth a word.
            (!self.connected, "connectionless"),
            (self.half_close, "half-close"),
            (self.take_reads, "take"),
            (self.accepts, "accepts"),
            (self.connects, "connects"),
            (self.eof_resets, "eof-resets"),
            (self.shared_memory, "shared-memory"),
        ];
        for (_, name) in flags.iter().filter(|(on, _)| *on) {
            write!(f, ", {name}")?;
        }
        if let Some(max) = self.max_message {
            write!(f, ", max {}", size_words(max as u64))?;
        }
        Ok(())
    }
}

/// One of the levels right below a level, as its driver sees it when the stack is bound.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Branch<'a> {
    /// Its label; `None` for the one level below a transform.
    pub label: Option<&'a str>,
    /// What it gives.
    pub caps: &'a Caps,
}

impl<'a> Branch<'a> {
    /// A branch, for a driver that asks another one.
    pub const fn new(label: Option<&'a str>, caps: &'a Caps) -> Self {
        Self { label, caps }
    }
}

/// An option names a branch that is not there. A driver that refuses its branches with this as the
/// source of its error has the option pointed out where the stack was written as text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoBranch {
    /// Name of the option.
    pub option: &'static str,
    /// The label that no branch has.
    pub label: String,
    /// The labels there are.
    pub labels: Vec<String>,
}

impl NoBranch {
    /// `option` names `label`, and only these branches are there.
    pub fn new(option: &'static str, label: impl Into<String>, labels: Vec<String>) -> Self {
        Self { option, label: label.into(), labels }
    }
}

impl fmt::Display for NoBranch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, label, labels } = self;
        write!(f, "`{option}` names the branch `{label}`; there are {}", labels.join(", "))
    }
}

impl std::error::Error for NoBranch {}

impl From<NoBranch> for Error {
    fn from(e: NoBranch) -> Self {
        Self::new(ErrorKind::Misfit).source_error(e)
    }
}

/// What a level needs from what lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// Units it can work on. Empty: it has nothing below (a transport).
    pub units: &'static [Unit],
    /// It cannot stand losses.
    pub reliable: bool,
    /// It cannot stand reordering.
    pub ordered: bool,
}

impl Needs {
    /// Nothing lies below: a transport.
    pub const NOTHING: Self = Self { units: &[], reliable: false, ordered: false };
    /// A reliable, ordered stream.
    pub const STREAM: Self = Self { units: &[Unit::Stream], reliable: true, ordered: true };
    /// Reliable, ordered messages.
    pub const MESSAGE: Self = Self { units: &[Unit::Message], reliable: true, ordered: true };
    /// Anything.
    pub const ANY: Self =
        Self { units: &[Unit::Stream, Unit::Datagram, Unit::Message], reliable: false, ordered: false };

    /// Why `below` cannot carry a level with these needs, or `Ok`.
    ///
    /// # Errors
    /// The first property that is missing, in words that fit after "needs … below".
    pub fn fit(&self, below: &Caps) -> Result<(), Unfit> {
        if !self.units.contains(&below.unit) {
            let wanted: Vec<_> = self.units.iter().map(|u| u.name()).collect();
            return Err(Unfit { wanted: format!("a {}", wanted.join(" or a ")), given: format!("a {}", below.unit) });
        }
        if self.reliable && !below.reliable {
            return Err(Unfit { wanted: "a reliable level".into(), given: format!("an unreliable {}", below.unit) });
        }
        if self.ordered && !below.ordered {
            return Err(Unfit { wanted: "an ordered level".into(), given: format!("an unordered {}", below.unit) });
        }
        Ok(())
    }
}

/// Two levels that do not fit: what the upper one wants and what the lower one gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is needed, as "a stream".
    pub wanted: String,
    /// What there is, as "a datagram".
    pub given: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_driver_does_not_fit_over_datagrams() {
        let e = Needs::STREAM.fit(&Caps::datagram(1472)).unwrap_err();
        assert_eq!((e.wanted.as_str(), e.given.as_str()), ("a stream", "a datagram"));
        assert!(Needs::ANY.fit(&Caps::datagram(1)).is_ok());
        assert!(Needs::MESSAGE.fit(&Caps { reliable: false, ..Caps::message() }).is_err());
    }

    #[test]
    fn sizes_are_printed_for_people() {
        let caps = Caps { max_message: Some(16 << 20), half_close: false, ..Caps::message() };
        assert_eq!(caps.to_string(), "message, reliable, ordered, duplex, take, accepts, connects, max 16 MiB");
        assert!(Caps::datagram(1472).to_string().ends_with("max 1472 B"));
    }

    #[test]
    fn common_caps_are_the_weakest_of_each() {
        let a = Caps { max_message: Some(10), ..Caps::message() };
        let b = Caps { half_close: false, ..Caps::message() };
        let c = Caps::common([&a, &b]).unwrap();
        assert_eq!((c.max_message, c.half_close, c.reliable), (Some(10), false, true));
        assert!(Caps::common([&Caps::stream(), &Caps::message()]).is_none());
        assert!(Caps::common([]).is_none());
    }
}
