//! Typed option values: kinds, units of size, duration and rate, reading and canonical printing.
//! Invariant: `kind.parse(value.to_string()) == value` for every value the kind accepts.
//! It does not know the grammar around a value (quotes, lists in a spec): that is `xio-stacks`.

use std::fmt;
use std::time::Duration;

use crate::sync::planted;

/// A typed option value. `Display` prints it in canonical form, unquoted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A decimal number.
    Float(f64),
    /// Bytes.
    Size(u64),
    /// A span of time.
    Duration(Duration),
    /// Bytes a second.
    Rate(u64),
    /// Text, a path or one of a closed set of words.
    Text(String),
    /// Several values.
    List(Vec<Self>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Size(n) => f.write_str(&size_text(*n)),
            Self::Duration(d) => f.write_str(&duration_text(*d)),
            Self::Rate(n) => write!(f, "{}/s", size_text(*n)),
            Self::Text(s) => f.write_str(s),
            Self::List(v) => {
                f.write_str("[")?;
                for (i, x) in v.iter().enumerate() {
                    write!(f, "{}{x}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// What kind of value an option takes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ValueKind {
    /// `true` or `false`.
    Bool,
    /// A whole number in `min..=max`.
    Int {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A decimal number in `min..=max`.
    Float {
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// Bytes in `min..=max`, written with a unit.
    Size {
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
    },
    /// A span of time up to `max`, written with a unit.
    Duration {
        /// Longest value.
        max: Duration,
    },
    /// Bytes a second, written as a size with `/s`.
    Rate,
    /// Any text.
    Text,
    /// A path of the file system.
    Path,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// A list of values of one kind.
    List(&'static Self),
}

impl ValueKind {
    /// Bytes without a bound.
    pub const ANY_SIZE: Self = Self::Size { min: 0, max: u64::MAX };
    /// A span of at most a day.
    pub const ANY_DURATION: Self = Self::Duration { max: Duration::from_secs(86_400) };

    /// Reads a value of this kind.
    ///
    /// # Errors
    /// What was wanted, and how to write it, where `raw` is something else.
    pub fn parse(&self, raw: &Raw<'_>) -> Result<Value, ValueError> {
        let wrong = |help: String| ValueError { wanted: self.to_string(), found: raw.to_string(), help };
        if let Self::List(inner) = self {
            return match raw {
                Raw::List(items) => items.iter().map(|r| inner.parse(r)).collect::<Result<_, _>>().map(Value::List),
                one => inner.parse(one).map(|v| Value::List(vec![v])),
            };
        }
        let (text, quoted) = match raw {
            Raw::Bare(t) => (*t, false),
            Raw::Quoted(t) => (*t, true),
            Raw::List(_) => return Err(wrong("a list does not fit here".into())),
        };
        match self {
            Self::Text | Self::Path => return Ok(Value::Text(text.to_owned())),
            Self::Enum(words) => {
                return if words.contains(&text) {
                    Ok(Value::Text(text.to_owned()))
                } else {
                    Err(wrong(format!("write one of: {}", words.join(", "))))
                };
            }
            _ if quoted => return Err(wrong("write it without quotes".into())),
            _ => {}
        }
        match *self {
            Self::Bool => match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(wrong("write `true` or `false`; the bare option name means `true`".into())),
            },
            Self::Int { min, max } => match parse_int(text) {
                Some(i) if (min..=max).contains(&i) => Ok(Value::Int(i)),
                Some(_) => Err(wrong(format!("it must lie in {min}..={max}"))),
                None => Err(wrong("write digits only, with no unit".into())),
            },
            Self::Float { min, max } => match text.parse::<f64>() {
                Ok(x) if x.is_finite() && x >= min && x <= max => Ok(Value::Float(x)),
                Ok(_) => Err(wrong(format!("it must lie in {min:?}..={max:?}"))),
                Err(_) => Err(wrong("write it like `0.25`".into())),
            },
            Self::Size { min, max } => match parse_size(text) {
                Ok(n) if (min..=max).contains(&n) => Ok(Value::Size(n)),
                Ok(_) => Err(wrong(format!("it must lie in {}..={}", size_text(min), size_text(max)))),
                Err(help) => Err(wrong(help)),
            },
            Self::Duration { max } => match parse_duration(text) {
                Ok(d) if d <= max => Ok(Value::Duration(d)),
                Ok(_) => Err(wrong(format!("it may be {} at most", duration_text(max)))),
                Err(help) => Err(wrong(help)),
            },
            Self::Rate => match text.strip_suffix("/s") {
                Some(size) => parse_size(size).map(Value::Rate).map_err(wrong),
                None => Err(wrong("a rate is a size a second: `2MB/s`, `512KiB/s`".into())),
            },
            Self::Text | Self::Path | Self::Enum(_) | Self::List(_) => Err(wrong(String::new())),
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Int { min, max } => match (*min, *max) {
                (i64::MIN, i64::MAX) => f.write_str("a whole number"),
                (lo, i64::MAX) => write!(f, "a whole number from {lo} up"),
                (lo, hi) => write!(f, "a whole number {lo}..={hi}"),
            },
            Self::Float { .. } => f.write_str("a number"),
            Self::Size { .. } => f.write_str("a size"),
            Self::Duration { .. } => f.write_str("a duration"),
            Self::Rate => f.write_str("a rate"),
            Self::Text => f.write_str("a text"),
            Self::Path => f.write_str("a path"),
            Self::Enum(words) => write!(f, "one of {}", words.join(", ")),
            Self::List(k) => write!(f, "a list, each {k}"),
        }
    }
}

/// A value as it was written, before its kind is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw<'a> {
    /// Unquoted text.
    Bare(&'a str),
    /// Text that stood in quotes, with the escapes already taken out.
    Quoted(&'a str),
    /// Several values.
    List(Vec<Self>),
}

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(t) => f.write_str(t),
            Self::Quoted(t) => write!(f, "{t:?}"),
            Self::List(v) => {
                f.write_str("[")?;
                for (i, x) in v.iter().enumerate() {
                    write!(f, "{}{x}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A value that is not what the option takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What the option takes, as "a size".
    pub wanted: String,
    /// What was written.
    pub found: String,
    /// How to write it.
    pub help: String,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wants {}, found `{}`", self.wanted, self.found)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, ": {}", self.help) }
    }
}

impl std::error::Error for ValueError {}

/// One option of a driver: its name, kind, default and what it is for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OptionSpec {
    /// The key in a spec.
    pub name: &'static str,
    /// What it takes.
    pub kind: ValueKind,
    /// Its default, `None` where unset is a state of its own.
    pub default: fn() -> Option<Value>,
    /// What it is for, in a line or two.
    pub doc: &'static str,
    /// Its value is never shown.
    pub secret: bool,
    /// It may be changed on an open handle with `SetOption`.
    pub runtime: bool,
}

impl OptionSpec {
    /// An option; used by the [`options!`](crate::options) macro.
    pub const fn new(
        name: &'static str,
        kind: ValueKind,
        default: fn() -> Option<Value>,
        doc: &'static str,
        secret: bool,
        runtime: bool,
    ) -> Self {
        Self { name, kind, default, doc, secret, runtime }
    }
}

const BINARY: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const DECIMAL: [(&str, u64); 4] = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
const TIMES: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Prints a number of bytes with the largest unit that divides it.
pub fn size_text(n: u64) -> String {
    if n == 0 {
        return "0".into();
    }
    let unit = BINARY.iter().chain(&DECIMAL).filter(|(_, f)| n.is_multiple_of(*f));
    match unit.max_by_key(|(_, f)| *f) {
        Some(("MB", f)) if planted("thousands of thousands are printed as powers of two") => format!("{}MiB", n / f),
        Some((name, f)) => format!("{}{name}", n / f),
        None => format!("{n}B"),
    }
}

/// The same in a sentence, as `16 MiB`; no option takes it.
pub fn size_words(n: u64) -> String {
    let text = size_text(n);
    match split_unit(&text) {
        (n, "") => format!("{n} B"),
        (n, unit) => format!("{n} {unit}"),
    }
}

/// Prints a span of time with the largest unit that divides it.
pub fn duration_text(d: Duration) -> String {
    let ns = d.as_nanos();
    if ns == 0 {
        return "0s".into();
    }
    match TIMES.iter().find(|(_, f)| ns.is_multiple_of(*f)) {
        Some((name, f)) => format!("{}{name}", ns / f),
        None => format!("{ns}ns"),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn parse_int(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits == "0" || !digits.starts_with('0');
    if plain && canonical { text.parse().ok() } else { None }
}

/// Reads a number of bytes: `64KiB`, `64kB`, `512B` or `0`.
///
/// # Errors
/// How to write it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let Ok(n) = digits.parse::<u64>() else {
        return Err("write a size like `64KiB`, `64kB` or `512B`".into());
    };
    if unit.is_empty() {
        return if n == 0 { Ok(0) } else { Err(format!("it needs a unit: `{n}B`, `{n}KiB` or `{n}kB`")) };
    }
    if unit == "B" {
        return Ok(n);
    }
    let Some((_, factor)) = BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == unit) else {
        let (bin, dec) = match unit.chars().next() {
            Some('m' | 'M') => ("MiB", "MB"),
            Some('g' | 'G') => ("GiB", "GB"),
            Some('t' | 'T') => ("TiB", "TB"),
            Some('k' | 'K') => ("KiB", "kB"),
            _ => return Err("units are B, KiB, MiB, GiB, TiB (1024s) and kB, MB, GB, TB (1000s)".into()),
        };
        return Err(format!("write `{n}{bin}` (1024s) or `{n}{dec}` (1000s)"));
    };
    n.checked_mul(*factor).ok_or_else(|| "it is too large: the limit is 16 EiB".into())
}

/// Reads a span of time: `30s`, `250ms`, `50us`.
///
/// # Errors
/// How to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split_unit(text);
    let Ok(n) = digits.parse::<u64>() else {
        return Err("write a duration like `30s`, `250ms` or `50us`".into());
    };
    let Some((_, factor)) = TIMES.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() && n == 0 {
            "write `0s`".into()
        } else {
            format!("it needs a unit: `{n}s`, `{n}ms`, `{n}us`, `{n}ns`, `{n}m` or `{n}h`")
        });
    };
    let ns = u128::from(n) * factor;
    u64::try_from(ns).map(Duration::from_nanos).map_err(|_| "it is too long: the limit is 584 years".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(kind: ValueKind, text: &str) -> Result<Value, ValueError> {
        kind.parse(&Raw::Bare(text))
    }

    #[test]
    fn sizes_want_a_unit_and_say_which() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("64kB"), Ok(64_000));
        assert!(parse_size("64k").unwrap_err().contains("`64KiB` (1024s) or `64kB` (1000s)"));
        assert!(parse_size("64K").is_err() && parse_size("64KB").is_err() && parse_size("1m").is_err());
        assert!(parse_size("64").unwrap_err().contains("`64B`"));
        assert!(parse_size("99999999TiB").is_err());
    }

    #[test]
    fn sizes_in_sentences_have_a_space() {
        for (n, words) in [
            (0, "0 B"),
            (1472, "1472 B"),
            (16 << 20, "16 MiB"),
            (64_000, "64 kB"),
            (u64::MAX, "18446744073709551615 B"),
        ] {
            assert_eq!(size_words(n), words);
        }
    }

    #[test]
    fn durations_and_rates_and_numbers() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("5").unwrap_err().contains("`5s`"));
        assert_eq!(parse(ValueKind::Rate, "2MB/s"), Ok(Value::Rate(2_000_000)));
        assert!(parse(ValueKind::Rate, "2MB").is_err());
        let k = ValueKind::Int { min: 1, max: 65_536 };
        let e = parse(k, "64KiB").unwrap_err();
        assert_eq!(e.to_string(), "wants a whole number 1..=65536, found `64KiB`: write digits only, with no unit");
        assert!(parse(k, "0").is_err() && parse(k, "007").is_err() && parse(k, "+1").is_err());
        assert!(parse(ValueKind::Bool, "maybe").is_err());
    }

    proptest! {
        #[test]
        fn printed_values_read_back(n in any::<u64>(), ns in any::<u64>(), i in any::<i64>(), x in -1e9f64..1e9) {
            for (kind, v) in [
                (ValueKind::ANY_SIZE, Value::Size(n)),
                (ValueKind::Rate, Value::Rate(n)),
                (ValueKind::Duration { max: Duration::MAX }, Value::Duration(Duration::from_nanos(ns))),
                (ValueKind::Int { min: i64::MIN, max: i64::MAX }, Value::Int(i)),
                (ValueKind::Float { min: f64::MIN, max: f64::MAX }, Value::Float(x)),
            ] {
                let text = v.to_string();
                prop_assert_eq!(parse(kind, &text), Ok(v));
            }
        }
    }
}
