//! Values of options: kinds and units.

use std::time::Duration;

use xio_core::attr::check_value;
use xio_core::schema::{
    OptionSpec, Raw, Value, ValueKind, duration_text, parse_duration, parse_size, size_text, size_words,
};

use crate::Target;
use crate::input::Input;

pub(crate) const TARGET: Target = Target {
    name: "value",
    body: run,
    covers: &["xio-core/src/schema.rs"],
    fault: "thousands of thousands are printed as powers of two",
};

const WORDS: &[&str] = &["read", "write", "read-write"];
const KINDS: &[ValueKind] = &[
    ValueKind::Bool,
    ValueKind::Int { min: i64::MIN, max: i64::MAX },
    ValueKind::Int { min: 1, max: 8 },
    ValueKind::Int { min: 0, max: i64::MAX },
    ValueKind::Float { min: f64::MIN, max: f64::MAX },
    ValueKind::Float { min: 0.0, max: 1.0 },
    ValueKind::ANY_SIZE,
    ValueKind::Size { min: 1, max: 1 << 30 },
    ValueKind::ANY_DURATION,
    ValueKind::Duration { max: Duration::MAX },
    ValueKind::Rate,
    ValueKind::Text,
    ValueKind::Path,
    ValueKind::Enum(WORDS),
    ValueKind::List(&ValueKind::ANY_SIZE),
    ValueKind::List(&ValueKind::Enum(WORDS)),
    ValueKind::List(&ValueKind::Int { min: 0, max: 65_535 }),
];

/// A value that a kind accepts is of that kind and in its bounds, prints as text that reads back to it,
/// and may be set; whatever else says what was wanted.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.one_of(KINDS);
    let form = input.below(3);
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let raw = match form {
        0 => Raw::Bare(text),
        1 => Raw::Quoted(text),
        _ => Raw::List(text.split(',').map(Raw::Bare).collect()),
    };
    match kind.parse(&raw) {
        Ok(value) => {
            assert!(is_of(&kind, &value), "{value:?} is not of {kind:?}");
            let spec = OptionSpec::new("it", kind, || None, "", false, false);
            check_value(&spec, &value).unwrap_or_else(|e| panic!("{e}"));
            reads_back(&kind, &value);
        }
        Err(e) => {
            // Of a list it is the one item.
            let is_list = matches!(kind, ValueKind::List(_));
            assert!(e.to_string().starts_with("wants "), "{e}");
            assert!(is_list || e.wanted == kind.to_string() && e.found == raw.to_string(), "{e}");
        }
    }
    if let Ok(n) = parse_size(text) {
        assert_eq!(parse_size(&size_text(n)), Ok(n));
        assert_eq!(size_words(n).replace(' ', "").trim_end_matches('B'), size_text(n).trim_end_matches('B'));
    }
    if let Ok(d) = parse_duration(text) {
        assert_eq!(parse_duration(&duration_text(d)), Ok(d));
    }
}

fn reads_back(kind: &ValueKind, value: &Value) {
    let printed = value.to_string();
    match (kind, value) {
        (ValueKind::List(inner), Value::List(items)) => items.iter().for_each(|v| reads_back(inner, v)),
        _ => assert_eq!(kind.parse(&Raw::Bare(&printed)).as_ref(), Ok(value), "{printed}"),
    }
}

/// Said once more, for what a kind's own bounds are worth.
pub(crate) fn is_of(kind: &ValueKind, value: &Value) -> bool {
    match (kind, value) {
        (ValueKind::Bool, Value::Bool(_)) | (ValueKind::Rate, Value::Rate(_)) => true,
        (ValueKind::Int { min, max }, Value::Int(i)) => min <= i && i <= max,
        (ValueKind::Float { min, max }, Value::Float(x)) => min <= x && x <= max,
        (ValueKind::Size { min, max }, Value::Size(n)) => min <= n && n <= max,
        (ValueKind::Duration { max }, Value::Duration(d)) => d <= max,
        (ValueKind::Text | ValueKind::Path, Value::Text(_)) => true,
        (ValueKind::Enum(words), Value::Text(t)) => words.contains(&t.as_str()),
        (ValueKind::List(inner), Value::List(items)) => items.iter().all(|v| is_of(inner, v)),
        _ => false,
    }
}
