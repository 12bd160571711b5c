//! Turns a spec into a checked `xio_core::Stack`: names to drivers, words to typed values, levels to
//! a tree that fits. Invariant: it reports everything that is wrong, each thing once, and nothing
//! that only follows from something it reported already. It opens nothing.

mod contact;
mod faults;
mod fix;
mod options;
mod unknown;

use std::collections::HashSet;
use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::driver::Driver;
use xio_core::stack::{MAX_DEPTH, MAX_LEVELS};
use xio_core::{LevelNode, Stack};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::registry::{Registry, Shipped, shipped, shipped_names};
use crate::spec::{self, LevelSpec, SpecValue, StackSpec, shown};
use crate::suggest::nearest;
pub(crate) use contact::{To, parts};
use unknown::Unknown;

/// Longest id of a level in bytes.
pub const MAX_ID: usize = 64;
/// Most names that a message lists.
const MAX_LISTED: usize = 32;

impl StackSpec {
    /// Binds the spec to the drivers of a registry.
    ///
    /// # Errors
    /// Everything that is wrong with the names, the values, and how the levels fit.
    pub fn bind(&self, registry: &Registry) -> Result<Stack, Diagnostics> {
        finish(self.check(registry))
    }

    /// Like [`bind`](Self::bind), and lets `adjust` change each attr before it is checked, called
    /// with the level's id from the top down. For what no text can hold, such as a descriptor.
    ///
    /// ```
    /// use xio_stacks::{Registry, StackSpec, drivers::queue};
    /// let spec: StackSpec = "queue(id=tx)/frame/tcp".parse().unwrap();
    /// let stack = spec.bind_with(&Registry::with_defaults(), |id, attr| {
    ///     if let ("tx", Some(options)) = (id, attr.as_any_mut().downcast_mut::<queue::Options>()) {
    ///         options.depth = 3;
    ///     }
    /// });
    /// assert_eq!(stack.unwrap().level("tx").unwrap().attr().value("depth").unwrap().to_string(), "3");
    /// ```
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with(
        &self,
        registry: &Registry,
        mut adjust: impl FnMut(&str, &mut dyn Attr),
    ) -> Result<Stack, Diagnostics> {
        finish(check(self, Vec::new(), registry, None, &mut adjust))
    }

    /// Like [`bind`](Self::bind), with the warnings. The stack is there if there was no error.
    pub fn check(&self, registry: &Registry) -> (Option<Stack>, Diagnostics) {
        check(self, Vec::new(), registry, None, &mut |_, _| ())
    }
}

/// Drops the warnings of what was bound.
pub(crate) fn finish<T>((bound, found): (Option<T>, Diagnostics)) -> Result<T, Diagnostics> {
    bound.ok_or(found)
}

/// Binds `spec`; `soft` is what reading it found, `to` where it is to go.
pub(crate) fn check(
    spec: &StackSpec,
    soft: Vec<Diagnostic>,
    registry: &Registry,
    to: Option<To<'_>>,
    adjust: &mut dyn FnMut(&str, &mut dyn Attr),
) -> (Option<Stack>, Diagnostics) {
    let Some(source) = &spec.source.0 else {
        return match reread(spec) {
            // The text is another one: the contact has no place in it.
            Ok(read) => check(&read, soft, registry, to.map(|to| To { span: None, ..to }), adjust),
            Err(found) => (None, found),
        };
    };
    let mut b = Binder {
        registry,
        levels: Vec::new(),
        chains: Vec::new(),
        ids: HashSet::new(),
        found: soft,
        secrets: Vec::new(),
    };
    b.add(spec, "", 1);
    for at in 0..b.levels.len() {
        b.set_options(at);
        b.check_labels(at);
        let level = &mut b.levels[at];
        if !level.is_unknown {
            adjust(&level.id, &mut *level.attr);
        }
    }
    let stack = b.stack();
    if let (Some(stack), Some(to)) = (&stack, to) {
        contact::check(stack, &to, source, &mut b.found);
    }
    let mut found = Diagnostics::new(source.clone(), b.found);
    found.mask(b.secrets);
    (stack.filter(|_| !found.has_errors()), found)
}

/// A spec composed in code, read from its own text so that errors have something to point at. It
/// also keeps a name with a `/` or `(` in it from becoming more than a name.
fn reread(spec: &StackSpec) -> Result<StackSpec, Diagnostics> {
    let text = spec.to_string();
    let parsed = spec::spec(&text)?;
    if !parsed.soft.is_empty() {
        return Err(Diagnostics::new(text, parsed.soft));
    }
    if parsed.stack == *spec {
        return Ok(parsed.stack);
    }
    let d = Diagnostic::error("E014", "the spec was composed with a name or value that cannot be written as one");
    Err(Diagnostics::new(text, vec![d.help("it would read back as another spec")]))
}

/// The id a level gets that was given none: its driver's name behind the branch path.
pub(crate) fn default_id(taken: &HashSet<String>, path: &str, driver: &str) -> String {
    let base = format!("{path}{driver}");
    if !taken.contains(&base) {
        return base;
    }
    (2usize..).map(|i| format!("{base}-{i}")).find(|id| !taken.contains(id)).unwrap_or(base)
}

/// The branch path behind `path` and a label.
pub(crate) fn branch_path(path: &str, label: &str) -> String {
    format!("{path}{}.", if label == "*" { "default" } else { label })
}

struct Binder<'a> {
    registry: &'a Registry,
    /// In preorder, as the core counts them.
    levels: Vec<Level<'a>>,
    /// Each unbranched run of levels, top first.
    chains: Vec<Vec<usize>>,
    ids: HashSet<String>,
    found: Vec<Diagnostic>,
    /// Where secret values stand in the source.
    secrets: Vec<std::ops::Range<usize>>,
}

struct Level<'a> {
    spec: &'a LevelSpec,
    driver: Arc<dyn Driver>,
    attr: Box<dyn Attr>,
    id: String,
    /// A stand-in holds the place of a driver that does not exist.
    is_unknown: bool,
    /// Something about it is wrong already, so what it gives and needs is not known.
    is_suspect: bool,
    chain: usize,
    depth: usize,
    below: Vec<(Option<&'a str>, usize)>,
    /// The number behind its last level below.
    end: usize,
}

impl<'a> Binder<'a> {
    /// Numbers the levels of `stack` and resolves their names; gives the number of its top.
    fn add(&mut self, stack: &'a StackSpec, path: &str, depth: usize) -> usize {
        let first = self.levels.len();
        let chain = self.chains.len();
        self.chains.push(Vec::new());
        for (n, spec) in stack.levels().iter().enumerate() {
            let at = self.levels.len();
            if n > 0 {
                // Only the last level of a chain has branches, so the one above is the one before.
                self.levels[at - 1].below.push((None, at));
            }
            self.chains[chain].push(at);
            let id = self.id(spec, path);
            let known = self.driver(spec);
            let is_unknown = known.is_none();
            let driver = known.unwrap_or_else(|| Unknown::standing_for(spec, n + 1 == stack.levels().len()));
            let (depth, attr) = (depth + n, driver.attr());
            let is_suspect = is_unknown;
            self.levels.push(Level {
                spec,
                driver,
                attr,
                id,
                is_unknown,
                is_suspect,
                chain,
                depth,
                below: Vec::new(),
                end: 0,
            });
            for b in spec.branches() {
                let child = self.add(b.stack(), &branch_path(path, b.label()), depth + 1);
                self.levels[at].below.push((Some(b.label()), child));
            }
        }
        let end = self.levels.len();
        for at in &self.chains[chain] {
            self.levels[*at].end = end;
        }
        first
    }

    /// The level's id, counted as the core counts them.
    fn id(&mut self, spec: &LevelSpec, path: &str) -> String {
        let given = spec.options().iter().find(|o| o.key() == spec::ID);
        if let Some(option) = given {
            match option.value() {
                SpecValue::Bare(id) | SpecValue::Quoted(id) if is_id(id) && !option.value().is_true() => {
                    self.ids.insert(id.clone());
                    return id.clone();
                }
                other => {
                    let what = format!("{} is not an id", shown(&other.to_string()));
                    let d = Diagnostic::error("E026", what).at(option.value_span.range(), "");
                    self.found.push(d.help(format!("an id has 1 to {MAX_ID} letters, digits, `-`, `_` or `.`")));
                }
            }
        }
        let id = default_id(&self.ids, path, spec.name());
        self.ids.insert(id.clone());
        id
    }

    /// The driver of a level; a finding where there is none, or none that is allowed.
    fn driver(&mut self, spec: &LevelSpec) -> Option<Arc<dyn Driver>> {
        let (name, span) = (spec.name(), spec.name_span.range());
        if spec.is_preset() {
            let d = Diagnostic::error("E022", format!("presets are not available yet: {}", shown(&format!("@{name}"))));
            self.found.push(d.at(span, "").help("write the levels out"));
            return None;
        }
        if let Some(driver) = self.registry.get(name) {
            if !self.registry.allows_driver(name) {
                let d = Diagnostic::error("E040", format!("the driver `{name}` is not allowed here")).at(span, "");
                self.found.push(d.help(self.listed()));
            }
            return Some(driver.clone());
        }
        let listed = self.listed();
        let d = match shipped(name) {
            Shipped::NotCompiled => {
                Diagnostic::error("E021", format!("no driver `{name}`: built without feature `{name}`")).at(span, "")
            }
            Shipped::NotRegistered => {
                Diagnostic::error("E020", format!("no driver `{name}` in this registry")).at(span, "")
            }
            Shipped::No => {
                let missing = || nearest(name, shipped_names().filter(|n| shipped(n) == Shipped::NotCompiled));
                let note = match nearest(name, self.registry.names()) {
                    Some(n) => format!("did you mean `{n}`?"),
                    None => missing()
                        .map(|n| format!("did you mean `{n}`? this build is without feature `{n}`"))
                        .unwrap_or_default(),
                };
                Diagnostic::error("E020", format!("no driver {}", shown(name))).at(span, note)
            }
        };
        self.found.push(d.help(listed));
        None
    }

    fn listed(&self) -> String {
        if self.registry.names().next().is_none() {
            return "this registry has no drivers".into();
        }
        format!("there are {}", list(self.registry.names()))
    }

    /// The stack, if it fits; findings if not.
    fn stack(&mut self) -> Option<Stack> {
        let deep = self.levels.iter().find(|l| l.depth > MAX_DEPTH);
        let long = self.levels.get(MAX_LEVELS);
        if let Some((level, what)) = deep
            .map(|l| (l, format!("more than {MAX_DEPTH} levels on one path")))
            .or_else(|| long.map(|l| (l, format!("more than {MAX_LEVELS} levels in one stack"))))
        {
            let d = Diagnostic::error("E037", what).at(level.spec.name_span.range(), "this one is too many");
            self.found.push(d);
            return None;
        }
        match Stack::new(self.node(0)) {
            Ok(stack) => Some(stack),
            Err(faults) => {
                self.report(&faults);
                None
            }
        }
    }

    /// The level at `at` alone.
    fn bare_node(&self, at: usize) -> LevelNode {
        let level = &self.levels[at];
        LevelNode::new(level.driver.clone()).with_attr(level.attr.copy()).with_id(&level.id)
    }

    /// The level at `at` with everything below it. The depth was checked before.
    fn node(&self, at: usize) -> LevelNode {
        self.levels[at].below.iter().fold(self.bare_node(at), |node, (label, child)| match label {
            Some(label) => node.branch(*label, self.node(*child)),
            None => node.over(self.node(*child)),
        })
    }
}

/// Names in backticks, separated with commas.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut out = String::new();
    for (i, name) in names.enumerate() {
        if i == MAX_LISTED {
            out.push_str(", …");
            break;
        }
        out.push_str(if i > 0 { ", `" } else { "`" });
        out.push_str(name);
        out.push('`');
    }
    out
}

fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
