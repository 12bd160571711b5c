//! A trace as text. Invariant: what is printed reads back as the same trace; what is read is within the
//! limits, and an error says in which line.

use std::fmt::{self, Write};
use std::str::FromStr;

use bytes::Bytes;
use xio_core::ErrorKind;
use xio_core::caps::Unit;
use xio_core::driver::OpKind;

use super::{KINDS, Trace, moves};

const HEAD: &str = "xio-trace";
const VERSION: &str = "1";
const UNITS: [Unit; 3] = [Unit::Stream, Unit::Datagram, Unit::Message];
/// How much of a text an error repeats.
const MAX_SHOWN: usize = 40;
/// Errors without a number, by their names. `Truncated(len)` has one.
const ERRORS: [ErrorKind; 31] = {
    use ErrorKind::*;
    [
        Eof,
        UnexpectedEof,
        Cancelled,
        TimedOut,
        Closed,
        Dropped,
        Panicked,
        NoProgress,
        Contract,
        TooLong,
        InvalidInput,
        Unsupported,
        UnsupportedCommand,
        UnknownLevel,
        Busy,
        InCallback,
        Stopped,
        InvalidContact,
        Resolve,
        Refused,
        Reset,
        BrokenPipe,
        AddrInUse,
        AddrNotAvailable,
        Unreachable,
        NotFound,
        PermissionDenied,
        Exhausted,
        Protocol,
        Misfit,
        Io,
    ]
};

/// Why a text is no trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseError {
    /// In which line, from 1.
    pub line: usize,
    what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// The first line that is none of a trace, or the one with which it is too long.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let meant = |l: &&str| !l.is_empty() && !l.starts_with('#');
        let mut lines = text.lines().map(str::trim).enumerate().map(|(i, l)| (i + 1, l)).filter(|(_, l)| meant(l));
        let (number, first) = lines.next().unwrap_or((1, ""));
        let at = |line: usize| move |what: String| ParseError { line, what };
        let mut trace = Self::new(unit(first).map_err(at(number))?);
        for (number, line) in lines {
            let (kind, data, error) = record(line).map_err(at(number))?;
            trace.push(kind, data, error).map_err(|e| at(number)(e.to_string()))?;
        }
        Ok(trace)
    }
}

impl FromStr for Trace {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD} {VERSION} {}", self.unit.name())?;
        for r in &self.records {
            f.write_str(r.kind.name())?;
            if moves(r.kind) {
                f.write_str(" \"")?;
                r.data.iter().try_for_each(|b| byte(f, *b))?;
                f.write_char('"')?;
            }
            match r.error {
                None => {}
                Some(ErrorKind::Truncated { len }) => write!(f, " Truncated({len})")?,
                Some(kind) if ERRORS.contains(&kind) => write!(f, " {kind:?}")?,
                // One that came later than this list.
                Some(_) => write!(f, " {:?}", ErrorKind::Io)?,
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

fn byte(f: &mut fmt::Formatter<'_>, b: u8) -> fmt::Result {
    match b {
        b'\n' => f.write_str("\\n"),
        b'\r' => f.write_str("\\r"),
        b'\t' => f.write_str("\\t"),
        0 => f.write_str("\\0"),
        b'"' | b'\\' => write!(f, "\\{}", char::from(b)),
        b' '..=b'~' => f.write_char(char::from(b)),
        _ => write!(f, "\\x{b:02x}"),
    }
}

fn shown(text: &str) -> &str {
    text.char_indices().nth(MAX_SHOWN).map_or(text, |(i, _)| &text[..i])
}

fn unit(line: &str) -> Result<Unit, String> {
    let words: Vec<_> = line.split_ascii_whitespace().take(4).collect();
    match words[..] {
        [HEAD, VERSION, name] => UNITS.into_iter().find(|u| u.name() == name).ok_or_else(|| {
            format!("`{}` is nothing a transport carries; there are stream, datagram, message", shown(name))
        }),
        [HEAD, version, _] => Err(format!("this is version `{}` of traces; version {VERSION} is read", shown(version))),
        _ => Err(format!("a trace begins with a line like `{HEAD} {VERSION} stream`")),
    }
}

fn record(line: &str) -> Result<(OpKind, Bytes, Option<ErrorKind>), String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let kind = KINDS
        .into_iter()
        .find(|k| k.name() == word)
        .ok_or_else(|| format!("there is no op `{}`; there are {}", shown(word), KINDS.map(OpKind::name).join(", ")))?;
    let mut rest = rest.trim_start();
    let mut data = Bytes::new();
    if moves(kind) {
        let inner = rest
            .strip_prefix('"')
            .ok_or_else(|| format!("`{}` stands where the bytes of the {kind} belong, in quotes", shown(rest)))?;
        (data, rest) = quoted(inner)?;
    }
    Ok((kind, data, error(rest.trim())?))
}

/// What stands up to the closing quote, and what follows it.
fn quoted(text: &str) -> Result<(Bytes, &str), String> {
    let mut data = Vec::new();
    let mut rest = text;
    loop {
        let plain = rest.find(['"', '\\']).ok_or("the closing quote is missing")?;
        data.extend_from_slice(&rest.as_bytes()[..plain]);
        let escape = &rest[plain + 1..];
        if rest[plain..].starts_with('"') {
            return Ok((data.into(), escape));
        }
        let wrong = || format!("`\\{}` stands for no byte", shown(escape.get(..3).unwrap_or(escape)));
        let first = escape.chars().next().ok_or_else(wrong)?;
        let (b, len) = match first {
            'n' => (b'\n', 1),
            'r' => (b'\r', 1),
            't' => (b'\t', 1),
            '0' => (0, 1),
            '"' => (b'"', 1),
            '\\' => (b'\\', 1),
            'x' => {
                let digits = escape.get(1..3).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(wrong)?;
                (u8::from_str_radix(digits, 16).map_err(|_| wrong())?, 3)
            }
            _ => return Err(wrong()),
        };
        data.push(b);
        rest = &escape[len..];
    }
}

fn error(word: &str) -> Result<Option<ErrorKind>, String> {
    if word.is_empty() {
        return Ok(None);
    }
    if let Some(len) = word.strip_prefix("Truncated(").and_then(|w| w.strip_suffix(')')) {
        let len = len.parse().map_err(|_| format!("`{}` is no length", shown(len)))?;
        return Ok(Some(ErrorKind::Truncated { len }));
    }
    let named = |k: &ErrorKind| format!("{k:?}") == word;
    ERRORS.into_iter().find(named).map(Some).ok_or_else(|| format!("`{}` is no kind of error", shown(word)))
}
