//! What `--trace` shows: the lines of `trace` levels, on stderr. Invariant: a line is written at once and whole,
//! so those of several threads do not mix; where it cannot be written it is lost.

use std::fmt::{Debug, Write};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use xio_stacks::drivers::trace::TARGET;

use crate::exit::say;

/// The driver whose lines these are.
pub(crate) const DRIVER: &str = "trace";

/// From now on lines are written.
pub(crate) fn begin() {
    // A second time changes nothing.
    let _ = tracing::subscriber::set_global_default(Lines { start: Instant::now() });
}

struct Lines {
    start: Instant,
}

impl Subscriber for Lines {
    fn enabled(&self, m: &Metadata<'_>) -> bool {
        m.target() == TARGET && m.is_event()
    }

    /// `0.001234s trace 1 down write op=2 asked=6`
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{:.6}s", self.start.elapsed().as_secs_f64()));
        event.record(&mut line);
        say(&line.0);
    }

    // There are no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Line {
    /// What every line has goes without its name.
    fn add(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        let _ = match field.name() {
            "at" | "handle" | "way" | "kind" => write!(self.0, " {value}"),
            name => write!(self.0, " {name}={value}"),
        };
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}
