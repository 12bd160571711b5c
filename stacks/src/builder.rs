//! Composes specs in code: [`stack`], [`StackSpec::over`], [`StackSpec::branch`], [`StackSpec::id`].
//! Invariant: the result equals what reading its printed text gives; an option that has its default
//! value is left out. Nothing is checked here: [`StackSpec::bind`] does that, for both ways alike.

use std::collections::HashSet;

use xio_core::Stack;
use xio_core::attr::Attr;
use xio_core::schema::{Value, ValueKind};
use xio_core::stack::LevelView;

use crate::bind::{branch_path, default_id};
use crate::diagnostic::MASK;
use crate::spec::{self, BranchSpec, LevelSpec, Source, Span, SpecOption, SpecValue, StackSpec};

/// Begins a stack with its top: a driver's options, a [`LevelSpec`] or another spec.
///
/// ```
/// use xio_stacks::drivers::{frame, queue, tcp};
/// use xio_stacks::stack;
/// let spec = stack(queue::Options::default().with_depth(64)).id("tx")
///     .over(frame::Options::default())
///     .over(tcp::Options::default());
/// assert_eq!(spec, "queue(depth=64, id=tx)/frame/tcp".parse().unwrap());
/// ```
///
/// Fields of options that exist in code only, such as a descriptor, are not part of a spec: set
/// them with [`StackSpec::bind_with`].
pub fn stack(top: impl IntoSpec) -> StackSpec {
    top.into_spec()
}

/// What a stack can be composed of: options of a driver, a level, a stack.
pub trait IntoSpec {
    /// As a spec of one level or more.
    fn into_spec(self) -> StackSpec;
}

impl<A: Attr> IntoSpec for A {
    fn into_spec(self) -> StackSpec {
        StackSpec::new(vec![LevelSpec::of(&self)])
    }
}

impl IntoSpec for LevelSpec {
    fn into_spec(self) -> StackSpec {
        StackSpec::new(vec![self])
    }
}

impl IntoSpec for StackSpec {
    fn into_spec(self) -> StackSpec {
        self
    }
}

impl StackSpec {
    /// Puts everything so far over `below`. Nothing can lie below branches: such a spec does not bind.
    #[must_use]
    pub fn over(mut self, below: impl IntoSpec) -> Self {
        self.levels.extend(below.into_spec().levels);
        self.changed()
    }

    /// Adds a branch to the lowest level so far.
    ///
    /// ```
    /// use xio_stacks::drivers::{frame, tcp};
    /// use xio_stacks::{LevelSpec, stack};
    /// let link = stack(frame::Options::default()).over(tcp::Options::default());
    /// let spec = stack(LevelSpec::new("pick")).branch("wifi", link.clone()).branch("*", link);
    /// assert_eq!(spec.to_string(), "pick{wifi: frame/tcp, *: frame/tcp}");
    /// ```
    #[must_use]
    pub fn branch(mut self, label: impl Into<String>, below: impl IntoSpec) -> Self {
        if let Some(level) = self.levels.last_mut() {
            let stack = below.into_spec().changed();
            level.branches.push(BranchSpec { label: label.into(), stack, label_span: Span::default() });
        }
        self.changed()
    }

    /// Names the lowest level so far.
    #[must_use]
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        if let Some(level) = self.levels.last_mut() {
            level.options.retain(|o| o.key != spec::ID);
            level.options.push(option(spec::ID, id.as_ref().into()));
        }
        self.changed()
    }

    /// The spec of a bound stack, for people: options that differ from their defaults, ids that were
    /// given, every secret as `"***"`. Live fields of attrs are not in it.
    pub fn describe(stack: &Stack) -> Self {
        let levels: Vec<_> = stack.levels().collect();
        described(&levels, 0, "", &mut HashSet::new())
    }

    /// Without a source: spans of another text would point nowhere.
    fn changed(mut self) -> Self {
        self.source = Source(None);
        self
    }
}

impl LevelSpec {
    /// A level by the name of its driver, without options.
    pub fn new(name: impl Into<String>) -> Self {
        let name_span = Span::default();
        Self { name: name.into(), preset: false, options: Vec::new(), branches: Vec::new(), name_span }
    }

    /// A preset by its name, without the `@`.
    pub fn preset(name: impl Into<String>) -> Self {
        Self { preset: true, ..Self::new(name) }
    }

    /// A level with the options of an attr that differ from their defaults. An option whose default
    /// is set and that was unset cannot be written, and is left out.
    pub fn of(attr: &dyn Attr) -> Self {
        let mut out = Self::new(attr.driver());
        for schema in attr.specs() {
            let value = match attr.value(schema.name) {
                value if value == (schema.default)() => continue,
                Some(value) => SpecValue::from(&value),
                None if matches!(schema.kind, ValueKind::List(_)) => SpecValue::List(Vec::new()),
                None => continue,
            };
            out.options.push(option(schema.name, value));
        }
        out
    }

    /// Adds an option. Its value is typed when the stack is bound.
    ///
    /// ```
    /// use xio_stacks::{LevelSpec, stack};
    /// let tcp = LevelSpec::new("tcp").option("nodelay", true).option("device", "wlan 0");
    /// assert_eq!(stack(tcp).to_string(), r#"tcp(nodelay, device="wlan 0")"#);
    /// ```
    #[must_use]
    pub fn option(mut self, key: impl AsRef<str>, value: impl Into<SpecValue>) -> Self {
        self.options.push(option(key.as_ref(), value.into()));
        self
    }
}

impl From<&Value> for SpecValue {
    /// The value as it is written. A text is quoted where it has to be.
    fn from(value: &Value) -> Self {
        match value {
            // Without quotes it would be what a bare key stands for.
            Value::Text(t) if t == "true" => Self::Quoted(t.clone()),
            Value::Text(t) => Self::from(&**t),
            Value::List(items) => Self::List(items.iter().map(Self::from).collect()),
            other => Self::Bare(other.to_string()),
        }
    }
}

fn option(key: &str, value: SpecValue) -> SpecOption {
    SpecOption { key: key.into(), value, key_span: Span::default(), value_span: Span::default() }
}

/// The levels from `top` down.
fn described(levels: &[LevelView<'_>], top: usize, path: &str, ids: &mut HashSet<String>) -> StackSpec {
    let mut out = Vec::new();
    let mut at = top;
    loop {
        let view = &levels[at];
        let mut level = LevelSpec::of(view.attr());
        for o in &mut level.options {
            if view.attr().specs().iter().any(|s| s.secret && s.name == o.key) {
                o.value = SpecValue::Quoted(MASK.into());
            }
        }
        if default_id(ids, path, &level.name) != view.id() {
            level.options.push(option(spec::ID, view.id().into()));
        }
        ids.insert(view.id().to_owned());
        let below: Vec<usize> = (at + 1..levels.len()).filter(|i| levels[*i].above() == Some(at)).collect();
        if let ([next], None) = (&below[..], below.first().and_then(|i| levels[*i].label())) {
            out.push(level);
            at = *next;
            continue;
        }
        for child in below {
            let label = levels[child].label().unwrap_or("*").to_owned();
            let stack = described(levels, child, &branch_path(path, &label), ids);
            level.branches.push(BranchSpec { label, stack, label_span: Span::default() });
        }
        out.push(level);
        return StackSpec::new(out);
    }
}
