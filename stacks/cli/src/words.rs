//! The words for what drivers are, take, need and give; `xio drivers` and `xio explain` share them.

use xio_stacks::core::attr::Attr;
use xio_stacks::core::caps::Caps;
use xio_stacks::core::driver::{Driver, Shape};
use xio_stacks::core::schema::{OptionSpec, Value, ValueKind, duration_text, size_text, size_words};
use xio_stacks::{SpecValue, Stack};

/// What a level needs that fits over everything.
pub(crate) const ANYTHING: &str = "anything";
/// What stands for a secret.
const MASK: &str = "***";

/// Where in a stack a driver can stand, in a word.
pub(crate) const fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Transport => "transport",
        Shape::Transform => "transform",
        Shape::Branching => "branching",
    }
}

/// What one op stands for, and how much it may be.
pub(crate) fn unit(caps: &Caps) -> String {
    match caps.max_message {
        Some(n) => format!("{}s up to {}", caps.unit, size_words(n as u64)),
        None if caps.unit.has_borders() => format!("{}s", caps.unit),
        None => format!("a {}", caps.unit),
    }
}

/// What else holds for it.
pub(crate) fn flags(caps: &Caps) -> String {
    let mut rest = caps.clone();
    rest.max_message = None;
    rest.to_string().split_once(", ").map_or(String::new(), |(_, flags)| flags.to_owned())
}

/// What a driver with these options needs below.
pub(crate) fn needs(driver: &dyn Driver, attr: &dyn Attr) -> String {
    let needs = driver.needs(attr);
    let words = [(needs.reliable, "reliable"), (needs.ordered, "ordered")];
    let words: Vec<_> = words.iter().filter(|w| w.0).map(|w| w.1).collect();
    let units: Vec<_> = needs.units.iter().map(|u| u.name()).collect();
    match units.len() {
        0 => "nothing below".into(),
        3 if words.is_empty() => ANYTHING.into(),
        _ => ["a", &words.join(", "), &units.join(" or ")].join(" ").replace("  ", " "),
    }
}

/// What an option takes, with its bounds.
pub(crate) fn takes(kind: &ValueKind) -> String {
    match *kind {
        ValueKind::Size { min: 0, max: u64::MAX } => kind.to_string(),
        ValueKind::Size { min, max } => format!("{kind} {}..={}", size_text(min), size_text(max)),
        ValueKind::Duration { max } => format!("{kind} up to {}", duration_text(max)),
        ValueKind::Float { min, max } => format!("{kind} {min:?}..={max:?}"),
        _ => kind.to_string(),
    }
}

/// A value of an option as it would be written.
pub(crate) fn value(o: &OptionSpec, value: &Value) -> String {
    if o.secret { MASK.into() } else { SpecValue::from(value).to_string() }
}

/// The default of an option as it would be written.
pub(crate) fn default(o: &OptionSpec) -> Option<String> {
    (o.default)().map(|v| value(o, &v))
}

/// The doc of an option as one paragraph.
pub(crate) fn doc(o: &OptionSpec) -> String {
    o.doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Names of the transports of a stack.
pub(crate) fn bottoms(stack: &Stack) -> Vec<&'static str> {
    let levels: Vec<_> = stack.levels().collect();
    let is_bottom = |i: usize| !levels.iter().any(|l| l.above() == Some(i));
    let bottoms = levels.iter().enumerate().filter(|(i, _)| is_bottom(*i));
    bottoms.map(|(_, l)| l.driver().info().name).collect()
}
