//! What can be set on a `fault` level. Invariant: options that passed
//! [`Attr::check`](xio_core::attr::Attr::check) do something of what they say.

use std::time::Duration;

use xio_core::attr::Size;
use xio_core::driver::OpKind;
use xio_core::schema::ValueKind;
use xio_core::{Error, ErrorKind};

const PART: ValueKind = ValueKind::Float { min: 0.0, max: 1.0 };
const OPS: ValueKind = ValueKind::Enum(&["open", "close", "read", "write", "flush", "shutdown", "accept", "listen"]);
const ERRORS: [(&str, ErrorKind); 12] = [
    ("reset", ErrorKind::Reset),
    ("broken-pipe", ErrorKind::BrokenPipe),
    ("refused", ErrorKind::Refused),
    ("unreachable", ErrorKind::Unreachable),
    ("timed-out", ErrorKind::TimedOut),
    ("eof", ErrorKind::Eof),
    ("busy", ErrorKind::Busy),
    ("exhausted", ErrorKind::Exhausted),
    ("not-found", ErrorKind::NotFound),
    ("permission-denied", ErrorKind::PermissionDenied),
    ("protocol", ErrorKind::Protocol),
    ("io", ErrorKind::Io),
];
const ERROR_WORDS: [&str; ERRORS.len()] = {
    let mut words = [""; ERRORS.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = ERRORS[i].0;
        i += 1;
    }
    words
};

xio_core::options! {
    /// Options of the `fault` driver.
    pub struct Options for "fault" {
        /// Decides, with kind and number of an op, what becomes of it.
        seed, with_seed: i64 = 0, ValueKind::Int { min: 0, max: i64::MAX };
        /// The kinds of ops that faults fall on.
        on, with_on: Vec<String> = vec!["read".into(), "write".into()], ValueKind::List(&OPS);
        /// Ops of each kind that are left alone first.
        after, with_after: u32 = 0, ValueKind::Int { min: 0, max: u32::MAX as i64 };
        /// What failing ops fail with.
        error, with_error: Option<String> = None, ValueKind::Enum(&ERROR_WORDS);
        /// Part of the ops that fail with `error`.
        error_rate, with_error_rate: f64 = 1.0, PART;
        /// How much later ops go down: one time, or the least and the most, like `[5ms, 20ms]`.
        delay, with_delay: Vec<Duration> = Vec::new(), ValueKind::List(&ValueKind::ANY_DURATION);
        /// Part of the ops that never go on.
        stall, with_stall: f64 = 0.0, PART;
        /// Part of the messages that are lost.
        loss, with_loss: f64 = 0.0, PART;
        /// Part of the messages that come twice.
        dup, with_dup: f64 = 0.0, PART;
        /// Part of the written messages that are overtaken by the next.
        reorder, with_reorder: f64 = 0.0, PART;
        /// Part of the reads and writes of which one bit is changed.
        corrupt, with_corrupt: f64 = 0.0, PART;
        /// Part of the reads of a stream that bring less than they could.
        short_read, with_short_read: f64 = 0.0, PART;
        /// Part of the writes to a stream that go down in two parts.
        short_write, with_short_write: f64 = 0.0, PART;
        /// Bytes, read and written together, after which everything fails with `Reset`.
        reset_after, with_reset_after: Option<Size> = None, ValueKind::ANY_SIZE;
        /// Reads and writes after which everything fails with `Reset`.
        reset_after_ops, with_reset_after_ops: Option<u32> = None, ValueKind::Int { min: 0, max: u32::MAX as i64 };
        check check;
    }
}

impl Options {
    /// Whether the faults that are not for reads or writes by their nature fall on this kind.
    pub(super) fn falls_on(&self, kind: OpKind) -> bool {
        self.on.iter().any(|w| w == kind.name())
    }

    /// Whether there is a fault for ops of any kind.
    pub(super) fn stops(&self) -> bool {
        self.error().is_some() || !self.delay.is_empty() || self.stall > 0.0
    }

    pub(super) fn resets(&self) -> bool {
        self.reset_after.is_some() || self.reset_after_ops.is_some()
    }

    pub(super) fn error(&self) -> Option<ErrorKind> {
        let word = self.error.as_deref()?;
        ERRORS.iter().find(|(w, _)| *w == word).map(|(_, kind)| *kind)
    }

    /// Least and most delay.
    pub(super) fn delays(&self) -> Option<(Duration, Duration)> {
        Some((*self.delay.first()?, *self.delay.last()?))
    }

    /// The first option set that needs messages.
    pub(super) fn of_messages(&self) -> Option<&'static str> {
        set([("loss", self.loss), ("dup", self.dup), ("reorder", self.reorder)])
    }

    /// The first option set that needs a stream.
    pub(super) fn of_streams(&self) -> Option<&'static str> {
        set([("short_read", self.short_read), ("short_write", self.short_write)])
    }
}

fn set<const N: usize>(parts: [(&'static str, f64); N]) -> Option<&'static str> {
    parts.iter().find_map(|(name, p)| (*p > 0.0).then_some(*name))
}

/// What no single option can tell.
fn check(o: &Options) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::new(ErrorKind::InvalidInput).detail(text));
    if o.error.is_none() && o.error_rate < 1.0 {
        return wrong("`error_rate` does nothing without an error; add one, like `error=reset`".into());
    }
    if o.delay.len() > 2 {
        return wrong("`delay` is one time or the least and the most: write `delay=5ms` or `delay=[5ms, 20ms]`".into());
    }
    if let Some((least, most)) = o.delays().filter(|(least, most)| least > most) {
        return wrong(format!("`delay` goes from {least:?} down to {most:?}; write the shorter time first"));
    }
    if o.on.is_empty() {
        return wrong(
            "`on` names no ops, so nothing would ever happen; write `on=[read, write]` or leave it out".into(),
        );
    }
    let (reads, writes) = (o.falls_on(OpKind::Read), o.falls_on(OpKind::Write));
    let data = [
        ("loss", o.loss, reads || writes, "read` or `write"),
        ("dup", o.dup, reads || writes, "read` or `write"),
        ("reorder", o.reorder, writes, "write"),
        ("corrupt", o.corrupt, reads || writes, "read` or `write"),
    ];
    if let Some((name, _, _, ops)) = data.iter().find(|(_, p, hits, _)| *p > 0.0 && !hits) {
        return wrong(format!("`{name}` never happens, for `on` is without `{ops}`; add that, or leave `on` out"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xio_core::attr::Attr;
    use xio_core::schema::{Raw, Value};

    fn on(words: &[&str]) -> Options {
        Options::default().with_on(words.iter().map(|w| (*w).to_owned()).collect())
    }

    #[test]
    fn what_would_do_nothing_is_refused() {
        let ms = Duration::from_millis;
        Options::default().check().unwrap();
        on(&["open", "close"]).with_error(Some("refused".into())).check().unwrap();
        Options::default().with_delay(vec![ms(1)]).check().unwrap();
        for (o, text) in [
            (Options::default().with_error_rate(0.5), "add one, like `error=reset`"),
            (Options::default().with_delay(vec![ms(1), ms(2), ms(3)]), "write `delay=5ms` or `delay=[5ms, 20ms]`"),
            (Options::default().with_delay(vec![ms(20), ms(5)]), "from 20ms down to 5ms; write the shorter time first"),
            (on(&[]), "`on` names no ops"),
            (on(&["open"]).with_loss(0.1), "`loss` never happens, for `on` is without `read` or `write`"),
            (on(&["open"]).with_dup(0.1), "`dup` never happens"),
            (on(&["read"]).with_reorder(0.1), "`reorder` never happens, for `on` is without `write`;"),
            (on(&["flush"]).with_corrupt(0.1), "`corrupt` never happens"),
        ] {
            let e = o.check().unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidInput && e.to_string().contains(text), "{e}");
        }
    }

    #[test]
    fn every_option_refuses_what_it_does_not_mean_and_says_what_it_does() {
        for (name, bad, text) in [
            ("seed", "-1", "a whole number from 0 up"),
            ("after", "1.5", "write digits only"),
            ("on", "reed", "one of open, close, read, write"),
            ("error", "boom", "one of reset, broken-pipe"),
            ("error_rate", "1.5", "it must lie in 0.0..=1.0"),
            ("error_rate", "often", "write it like `0.25`"),
            ("delay", "5", "it needs a unit: `5s`"),
            ("stall", "-0.1", "it must lie in 0.0..=1.0"),
            ("loss", "10%", "write it like `0.25`"),
            ("reset_after", "100", "it needs a unit: `100B`"),
            ("reset_after_ops", "100B", "write digits only"),
        ] {
            let spec = Options::SPECS.iter().find(|s| s.name == name).unwrap();
            let e = spec.kind.parse(&Raw::Bare(bad)).unwrap_err().to_string();
            assert!(e.contains(text), "{name}={bad}: {e}");
        }
    }

    #[test]
    fn every_error_has_a_word() {
        for (word, kind) in ERRORS {
            let mut o = Options::default();
            o.set("error", Value::Text(word.into())).unwrap();
            assert_eq!(o.error(), Some(kind));
        }
    }
}
