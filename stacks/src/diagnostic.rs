//! What is wrong with a spec: [`Diagnostic`], one finding, and [`Diagnostics`], all of them with the
//! text they point into. `Display` is plain text; the CLI draws the same data in colour.
//! Invariant: every span is a range of [`Diagnostics::source`] that ends between two characters,
//! and the source holds no secret that the binder knew of.
//!
//! | code | what is wrong |
//! |---|---|
//! | E001 | the text is too long |
//! | E002 | something else was expected here |
//! | E003 | a bracket or quote is never closed |
//! | E004 | an escape or a control character in a string |
//! | E005 | a value where an option's name should be |
//! | E006 | a name that is not lower case, or no name |
//! | E007, E008 | an option, a branch label stands twice |
//! | E009 | a level below branches |
//! | E010 | a limit of the language |
//! | E011 | no level at all |
//! | E013 | the contact of an endpoint, as text or for the transport it is for |
//! | E014 | a spec composed in code with a name that is none |
//! | E020, E021 | no such driver; not in this build |
//! | E022 | a preset; not available yet |
//! | E023 | no such option |
//! | E024, E025 | a value of the wrong kind; one that the driver refuses |
//! | E026, E027 | no id; an id stands twice |
//! | E028 | a reference to a secret; not available yet |
//! | E030 | a transport that is not the lowest level |
//! | E031 | nothing below a level that needs something |
//! | E032, E033 | branches where none can be; none where some must be |
//! | E034 | two levels do not fit |
//! | E035 | a driver refuses its options or what lies below it |
//! | E036 | a branch label the driver does not know |
//! | E037 | a limit of the engine |
//! | E038 | an option that names a branch which is not there |
//! | E039 | another fault of the core |
//! | E040, E041, E042 | a driver, option, contact that [`Registry::only`](crate::Registry::only) does not allow |
//! | W001 | some branch labels have no branch, and there is no `*` |
//! | W002 | a contact that nobody takes, or a branch without one |

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use xio_core::{Error, ErrorKind};

use crate::render;

/// Most findings that one report keeps; the text says if there were more.
pub const MAX_DIAGNOSTICS: usize = 64;
/// Most findings that are collected before the first of them, by place, are kept. Hostile text could
/// otherwise ask for tens of thousands.
pub(crate) const MAX_FOUND: usize = 4 * MAX_DIAGNOSTICS;

/// What stands in a source instead of a secret value.
pub(crate) const MASK: &str = "***";

/// Whether a finding keeps the stack from being bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// The stack cannot be bound.
    Error,
    /// The stack can be bound, and probably does not do what was meant.
    Warning,
}

impl Severity {
    /// The word in front of the code.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// Its number, as `E023`. It stays the same from version to version.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub what: String,
    /// Where, in bytes of the source, each with a note that may be empty. The first is the main one.
    pub spans: Vec<(Range<usize>, String)>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(code: &'static str, what: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, what: what.into(), spans: Vec::new(), help: None }
    }

    /// A warning without a place.
    pub fn warning(code: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, what) }
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, span: Range<usize>, note: impl Into<String>) -> Self {
        self.spans.push((span, note.into()));
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn start(&self) -> usize {
        self.spans.first().map_or(usize::MAX, |(s, _)| s.start)
    }
}

/// Everything that was found in one text, in the order of the places.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    source: Arc<str>,
    list: Vec<Diagnostic>,
    is_cut: bool,
}

impl Diagnostics {
    /// Findings about `source`. The first [`MAX_DIAGNOSTICS`] are kept.
    pub fn new(source: impl Into<Arc<str>>, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(Diagnostic::start);
        let is_cut = list.len() > MAX_DIAGNOSTICS;
        list.truncate(MAX_DIAGNOSTICS);
        Self { source: source.into(), list, is_cut }
    }

    /// The text the spans point into.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The findings.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// Replaces these ranges of the source by `***` and moves the spans along.
    pub(crate) fn mask(&mut self, mut secrets: Vec<Range<usize>>) {
        if secrets.is_empty() {
            return;
        }
        secrets.sort_by_key(|r| r.start);
        let mut text = String::with_capacity(self.source.len());
        let mut at = 0;
        for r in &secrets {
            text.push_str(&self.source[at..r.start]);
            text.push_str(MASK);
            at = r.end;
        }
        text.push_str(&self.source[at..]);
        for (span, _) in self.list.iter_mut().flat_map(|d| &mut d.spans) {
            *span = moved(span.start, &secrets, false)..moved(span.end, &secrets, true);
        }
        self.source = text.into();
    }
}

/// Where an offset lies once each of `masked` has become `***`. Inside one, it goes to its border.
fn moved(offset: usize, masked: &[Range<usize>], is_end: bool) -> usize {
    let mut out = offset;
    for r in masked.iter().take_while(|r| r.start < offset) {
        if offset >= r.end {
            out = out + MASK.len() - r.len();
        } else {
            out = out - (offset - r.start) + if is_end { MASK.len() } else { 0 };
        }
    }
    out
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            render::plain(f, &self.source, d)?;
        }
        if self.is_cut { f.write_str("\n\n… and more") } else { Ok(()) }
    }
}

impl fmt::Debug for Diagnostics {
    /// The same text, on lines of its own: `unwrap` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    /// [`ErrorKind::Misfit`] where levels do not fit, else [`ErrorKind::InvalidInput`], with the
    /// sentences and no picture.
    fn from(d: Diagnostics) -> Self {
        let misfit = d.list.iter().any(|d| d.code.starts_with("E03"));
        let errors = d.list.iter().filter(|d| d.severity == Severity::Error);
        let text: Vec<_> = errors
            .map(|d| match &d.help {
                Some(help) => format!("{} ({help})", d.what),
                None => d.what.clone(),
            })
            .collect();
        Self::new(if misfit { ErrorKind::Misfit } else { ErrorKind::InvalidInput }).detail(text.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_moves_the_spans() {
        let source = "tls(key=hunter2, x=1)/tcp(pw=\"s\")";
        let at = |t: &str| source.find(t).map(|i| i..i + t.len()).unwrap();
        let list = ["key", "hunter2", "x", "unter", "tcp", "\"s\""].map(|t| Diagnostic::error("E024", t).at(at(t), ""));
        let mut d = Diagnostics::new(source, list.to_vec());
        d.mask(vec![at("\"s\""), at("hunter2")]);
        assert_eq!(d.source(), "tls(key=***, x=1)/tcp(pw=***)");
        for x in &d {
            let shown = &d.source()[x.spans[0].0.clone()];
            let want = if matches!(&*x.what, "key" | "x" | "tcp") { &*x.what } else { "***" };
            assert_eq!(shown, want);
        }
    }

    #[test]
    fn more_than_the_limit_are_cut() {
        let d = Diagnostics::new("", vec![Diagnostic::error("E001", "x"); 70]);
        assert_eq!((d.iter().len(), d.len()), (64, 64));
        assert!(d.to_string().ends_with("… and more"));
    }
}
