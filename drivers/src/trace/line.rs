//! One line of the log. Invariant: its fields are numbers, names of this program and contacts; nothing of
//! what users write or read.

use tracing::Level;
use xio_core::io::Direction;
use xio_core::{CloseMode, Contact, Error};

/// The target of all lines, for subscribers that choose by it.
pub const TARGET: &str = "xio::trace";

/// What a line says; what is `None` is left out.
#[derive(Default)]
pub(super) struct Line<'a> {
    pub(super) at: &'a str,
    pub(super) handle: u64,
    pub(super) way: &'static str,
    pub(super) kind: &'a str,
    pub(super) op: Option<u64>,
    pub(super) asked: Option<usize>,
    pub(super) least: Option<usize>,
    pub(super) messages: Option<usize>,
    pub(super) direction: Option<Direction>,
    pub(super) mode: Option<CloseMode>,
    pub(super) contact: Option<&'a Contact>,
    pub(super) passive: Option<bool>,
    pub(super) moved: Option<usize>,
    pub(super) error: Option<&'a Error>,
    pub(super) took_ns: Option<u64>,
}

/// Whether anybody may want lines of this importance: one look at a number.
#[inline]
pub(super) fn is_wanted(severity: Level) -> bool {
    severity <= tracing::level_filters::LevelFilter::current()
}

/// The importance of an event is part of its code, so each has its own.
macro_rules! at_severity {
    ($severity:expr, $($fields:tt)+) => {
        match $severity {
            Level::ERROR => tracing::event!(target: TARGET, Level::ERROR, $($fields)+),
            Level::WARN => tracing::event!(target: TARGET, Level::WARN, $($fields)+),
            Level::INFO => tracing::event!(target: TARGET, Level::INFO, $($fields)+),
            Level::DEBUG => tracing::event!(target: TARGET, Level::DEBUG, $($fields)+),
            Level::TRACE => tracing::event!(target: TARGET, Level::TRACE, $($fields)+),
        }
    };
}

impl Line<'_> {
    /// Hands it to whoever listens.
    #[cold]
    pub(super) fn say(&self, severity: Level) {
        at_severity!(
            severity,
            at = self.at,
            handle = self.handle,
            way = self.way,
            kind = self.kind,
            op = self.op,
            asked = self.asked,
            least = self.least,
            messages = self.messages,
            direction = self.direction.map(tracing::field::debug),
            mode = self.mode.map(tracing::field::debug),
            contact = self.contact.map(tracing::field::display),
            passive = self.passive,
            moved = self.moved,
            error = self.error.map(|e| tracing::field::debug(e.kind())),
            by = self.error.and_then(Error::level),
            took_ns = self.took_ns,
        );
    }
}
