//! A spec as a tree: levels, options, branches. Invariant: equality ignores where things stood in a
//! text, so a spec read from a string equals the same spec composed in code.
//! It holds no drivers and no typed values: names and values are what was written.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use xio_core::schema::Raw;

/// A stack as it is written: levels, top first.
///
/// Read it with `parse`, compose it with [`stack`](crate::stack), print it with `to_string` (one
/// line) or `{:#}` (indented), turn it into an `xio_core::Stack` with [`bind`](Self::bind).
///
/// ```
/// use xio_stacks::StackSpec;
/// let spec: StackSpec = "queue( depth = 64 )/frame / tcp(nodelay=true,)".parse().unwrap();
/// assert_eq!(spec.to_string(), "queue(depth=64)/frame/tcp(nodelay)");
/// assert_eq!(spec.levels()[0].name(), "queue");
/// ```
///
/// It prints values as they were written, secrets too; a log shows
/// [`StackSpec::describe`] of the bound stack instead.
#[derive(Clone, PartialEq, Eq)]
pub struct StackSpec {
    pub(crate) levels: Vec<LevelSpec>,
    pub(crate) source: Source,
}

impl StackSpec {
    pub(crate) fn new(levels: Vec<LevelSpec>) -> Self {
        Self { levels, source: Source(None) }
    }

    /// The levels, top first. There is at least one.
    pub fn levels(&self) -> &[LevelSpec] {
        &self.levels
    }
}

impl fmt::Debug for StackSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StackSpec({self})")
    }
}

/// One level of a spec: a driver or preset by name, its options and branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelSpec {
    pub(crate) name: String,
    pub(crate) preset: bool,
    pub(crate) options: Vec<SpecOption>,
    pub(crate) branches: Vec<BranchSpec>,
    pub(crate) name_span: Span,
}

impl LevelSpec {
    /// Name of the driver, or of the preset without its `@`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the name is that of a preset.
    pub fn is_preset(&self) -> bool {
        self.preset
    }

    /// The options in the order they were written, `id` among them.
    pub fn options(&self) -> &[SpecOption] {
        &self.options
    }

    /// The branches in the order they were written.
    pub fn branches(&self) -> &[BranchSpec] {
        &self.branches
    }

    /// The id it was given with `id=`.
    pub fn id(&self) -> Option<&str> {
        match &self.options.iter().find(|o| o.key == ID)?.value {
            SpecValue::Bare(t) | SpecValue::Quoted(t) => Some(t),
            SpecValue::List(_) => None,
        }
    }
}

/// The option that every level has.
pub(crate) const ID: &str = "id";

/// One option of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecOption {
    pub(crate) key: String,
    pub(crate) value: SpecValue,
    pub(crate) key_span: Span,
    pub(crate) value_span: Span,
}

impl SpecOption {
    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its value; `true` where only the key was written.
    pub fn value(&self) -> &SpecValue {
        &self.value
    }
}

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecValue {
    /// Without quotes.
    Bare(String),
    /// In quotes; this is the text between them with the escapes taken out.
    Quoted(String),
    /// `[…]`.
    List(Vec<Self>),
}

impl SpecValue {
    /// For [`ValueKind::parse`](xio_core::schema::ValueKind::parse).
    pub fn raw(&self) -> Raw<'_> {
        match self {
            Self::Bare(t) => Raw::Bare(t),
            Self::Quoted(t) => Raw::Quoted(t),
            Self::List(items) => Raw::List(items.iter().map(Self::raw).collect()),
        }
    }

    /// Whether it is what a bare key stands for.
    pub(crate) fn is_true(&self) -> bool {
        matches!(self, Self::Bare(t) if t == "true")
    }
}

impl From<&str> for SpecValue {
    /// Without quotes where the text allows it.
    fn from(text: &str) -> Self {
        if is_bare(text) { Self::Bare(text.into()) } else { Self::Quoted(text.into()) }
    }
}

impl From<bool> for SpecValue {
    fn from(value: bool) -> Self {
        Self::Bare(value.to_string())
    }
}

impl From<i64> for SpecValue {
    fn from(value: i64) -> Self {
        Self::Bare(value.to_string())
    }
}

/// Whether a text can stand without quotes.
pub(crate) fn is_bare(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_bare_char)
}

pub(crate) fn is_bare_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '+' | '%' | '*' | '~' | '^' | '@')
}

/// One branch of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchSpec {
    pub(crate) label: String,
    pub(crate) stack: StackSpec,
    pub(crate) label_span: Span,
}

impl BranchSpec {
    /// Its label; `*` stands for every label that has no branch of its own.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What lies in it.
    pub fn stack(&self) -> &StackSpec {
        &self.stack
    }
}

/// Where something stands in the source, in bytes. Two spans are always equal, so that equality of
/// what holds them does not depend on them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    pub(crate) fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl From<Range<usize>> for Span {
    fn from(r: Range<usize>) -> Self {
        Self { start: r.start, end: r.end }
    }
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

/// The text that the spans point into; none for a spec composed in code. Two are always equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source(pub(crate) Option<Arc<str>>);

impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Source {}
