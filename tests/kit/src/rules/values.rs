//! Values of options: those that an option takes, those that it does not, and what attrs, stacks and
//! handles have. Invariant: what is good or bad for a kind is decided here anew, not by the schema.

use std::collections::BTreeMap;
use std::time::Duration;

use xio_core::attr::Attr;
use xio_core::cntl::{Cntl, GetOption, SetOption};
use xio_core::schema::{Value, ValueKind};
use xio_core::{Error, Handle, Stack};

use crate::dice::Dice;
use crate::verdict::Checked;

/// The values of all options, by level and name.
pub(super) type Values = BTreeMap<(String, &'static str), Option<Value>>;

/// The values of an attr.
pub(super) fn of_attr(attr: &dyn Attr) -> Vec<(&'static str, Option<Value>)> {
    attr.specs().iter().map(|s| (s.name, attr.value(s.name))).collect()
}

/// Those of a stack.
pub(super) fn of_stack(stack: &Stack) -> Values {
    let of = |l: xio_core::stack::LevelView<'_>| {
        of_attr(l.attr()).into_iter().map(move |(n, v)| ((l.id().to_owned(), n), v)).collect::<Vec<_>>()
    };
    stack.levels().flat_map(of).collect()
}

/// Those of an open handle, as its levels tell.
pub(super) fn of_handle(h: &Handle) -> Checked<Values> {
    let mut all = of_stack(&h.stack());
    for ((id, name), value) in &mut all {
        *value = h.cntl(id, GetOption((*name).into()))?;
    }
    Ok(all)
}

/// Values of this kind, those at its bounds among them.
pub(super) fn good(kind: &ValueKind, dice: &mut Dice) -> Vec<Value> {
    let between = |lo: u64, hi: u64, dice: &mut Dice| lo + dice.roll() % (hi - lo).max(1);
    match *kind {
        ValueKind::Bool => vec![Value::Bool(true), Value::Bool(false)],
        ValueKind::Int { min, max } => {
            let mid = min.saturating_add(i64::try_from(dice.roll() % 1000).unwrap_or(0)).min(max);
            vec![Value::Int(min), Value::Int(max), Value::Int(mid)]
        }
        ValueKind::Float { min, max } => {
            vec![Value::Float(min), Value::Float(max), Value::Float(f64::midpoint(min, max))]
        }
        ValueKind::Size { min, max } => [min, max, between(min, max, dice)].map(Value::Size).into(),
        ValueKind::Duration { max } => [Duration::ZERO, max, max / 3].map(Value::Duration).into(),
        ValueKind::Rate => vec![Value::Rate(1), Value::Rate(dice.roll() >> 20)],
        ValueKind::Text | ValueKind::Path => vec![Value::Text("a word".into()), Value::Text(String::new())],
        ValueKind::Enum(words) => words.iter().map(|w| Value::Text((*w).into())).collect(),
        ValueKind::List(of) => vec![Value::List(good(of, dice))],
        _ => Vec::new(),
    }
}

/// Values that are of another kind, or out of its bounds.
pub(super) fn bad(kind: &ValueKind) -> Vec<Value> {
    let all = [
        Value::Bool(true),
        Value::Int(1),
        Value::Float(0.5),
        Value::Float(f64::NAN),
        Value::Size(1),
        Value::Duration(Duration::from_secs(1)),
        Value::Rate(1),
        Value::Text("no such word".into()),
        Value::List(vec![Value::Bool(true), Value::Text("x".into())]),
    ];
    let other = |v: &Value| match (kind, v) {
        (ValueKind::Float { .. }, Value::Float(x)) => x.is_nan(),
        (ValueKind::Bool, Value::Bool(_))
        | (ValueKind::Int { .. }, Value::Int(_))
        | (ValueKind::Size { .. }, Value::Size(_))
        | (ValueKind::Duration { .. }, Value::Duration(_))
        | (ValueKind::Rate, Value::Rate(_))
        | (ValueKind::Text | ValueKind::Path, Value::Text(_)) => false,
        _ => true,
    };
    let mut out: Vec<Value> = all.into_iter().filter(other).collect();
    match *kind {
        ValueKind::Int { min, max } => {
            out.extend(min.checked_sub(1).into_iter().chain(max.checked_add(1)).map(Value::Int));
        }
        ValueKind::Size { min, max } => {
            out.extend(min.checked_sub(1).into_iter().chain(max.checked_add(1)).map(Value::Size));
        }
        ValueKind::Duration { max } => {
            out.extend(max.checked_add(Duration::from_nanos(1)).map(Value::Duration));
        }
        _ => {}
    }
    out
}

/// Sets an option as a user does.
pub(super) fn set(attr: &mut dyn Attr, name: &str, value: &Value) -> Result<(), Error> {
    let command = SetOption(name.into(), value.clone());
    let mut c = Cntl::new(&command);
    attr.cntl(&mut c)?;
    c.into_reply::<SetOption>()
}

/// Asks for one as a user does.
pub(super) fn get(attr: &mut dyn Attr, name: &str) -> Result<Option<Value>, Error> {
    let command = GetOption(name.into());
    let mut c = Cntl::new(&command);
    attr.cntl(&mut c)?;
    c.into_reply::<GetOption>()
}
