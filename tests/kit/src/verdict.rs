//! What a rule comes to on a subject. Invariant: a rule that does not apply names the property that
//! makes it so, and a failure names the rule that was broken, which need not be the one under test.

use std::fmt;

use xio_core::{Error, Failed};

/// The result of one rule on one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The rule holds.
    Pass,
    /// The rule says nothing about this subject.
    NotApplicable {
        /// The property that makes it so, as `unit=stream`.
        cap: String,
    },
    /// A rule was broken.
    Fail {
        /// Id of the rule that was broken. What sits between the levels may see another rule broken
        /// than the one under test.
        rule: &'static str,
        /// What happened, and with which seed.
        message: String,
    },
}

impl Verdict {
    /// Whether nothing was broken.
    pub fn is_good(&self) -> bool {
        !matches!(self, Self::Fail { .. })
    }

    /// The word used in tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::NotApplicable { .. } => "n/a",
            Self::Fail { .. } => "FAIL",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::NotApplicable { cap } => write!(f, "not applicable: {cap}"),
            Self::Fail { rule, message } => write!(f, "FAIL {rule}: {message}"),
        }
    }
}

/// Why the body of a rule ends early.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stop {
    /// The rule says nothing about the subject.
    NotApplicable(String),
    /// Something is broken: this rule, or the one under test.
    Fail(Option<&'static str>, String),
}

/// What the body of a rule gives.
pub type Checked<T = ()> = Result<T, Stop>;

impl Stop {
    /// The rule under test is broken.
    pub fn fail(message: impl Into<String>) -> Self {
        Self::Fail(None, message.into())
    }

    /// The rule does not apply, for the subject has this property.
    pub fn not_applicable(cap: impl Into<String>) -> Self {
        Self::NotApplicable(cap.into())
    }

    /// Says beside a failure where it came about.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        match self {
            Self::Fail(rule, message) => Self::Fail(rule, format!("{place}: {message}")),
            other => other,
        }
    }
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::fail(format!("unexpected error: {e}"))
    }
}

impl<B> From<Failed<B>> for Stop {
    fn from(f: Failed<B>) -> Self {
        f.error.into()
    }
}

/// Fails the rule under test unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($cond:expr, $($text:tt)+) => {
        if !$cond {
            return Err($crate::Stop::fail(format!($($text)+)));
        }
    };
}

/// Fails the rule under test unless two values are equal; shows both.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($text:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    let what = format!($($text)+);
                    return Err($crate::Stop::fail(format!("{what}: got {left:?}, expected {right:?}")));
                }
            }
        }
    };
}
