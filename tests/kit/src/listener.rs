//! Somebody who wants every line of the log and keeps none, so that drivers that log do what they do for one.
//! Invariant: it looks at each field of each line, and allocates nothing.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// From now on somebody listens, in the whole process; a program that has a subscriber keeps it.
///
/// ```
/// xio_testkit::listener::listen();
/// assert!(tracing::enabled!(tracing::Level::TRACE));
/// ```
pub fn listen() {
    // A second one changes nothing.
    let _ = tracing::subscriber::set_global_default(Listener);
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
    fn event(&self, event: &Event<'_>) {
        event.record(&mut Nowhere);
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        Ok(())
    }
}

impl Visit for Nowhere {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        // A value that cannot be written is the fault of its type.
        write!(self, "{value:?}").expect("nothing is written anywhere");
    }
}
