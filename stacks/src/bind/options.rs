//! Types the options of one level with its driver's schema, and checks its branch labels.
//! Invariant: a secret value never gets into a message, and its place is noted for masking.

use xio_core::attr::Attr;
use xio_core::schema::{OptionSpec, ValueKind};

use super::{Binder, list};
use crate::diagnostic::{Diagnostic, MASK, MAX_FOUND};
use crate::spec::{self, LevelSpec, SpecOption, SpecValue, shown};
use crate::suggest::nearest;

impl Binder<'_> {
    /// Sets the options of the level at `at`.
    pub(super) fn set_options(&mut self, at: usize) {
        let level = &mut self.levels[at];
        if level.is_unknown {
            return;
        }
        let info = *level.driver.info();
        let mut seen = Vec::new();
        for option in level.spec.options() {
            if option.key() == spec::ID {
                continue;
            }
            let schema = info.options.iter().find(|s| s.name == option.key());
            let near = match schema {
                Some(_) => None,
                None => nearest(option.key(), info.options.iter().map(|s| s.name)),
            };
            // A mistyped key of a secret is as secret.
            let meant = schema.or_else(|| info.options.iter().find(|s| Some(s.name) == near));
            if meant.is_some_and(|s| s.secret) && !option.value().is_true() {
                self.secrets.push(option.value_span.range());
            }
            let finding = match schema {
                // It stands twice, and reading has said so: the first one counts.
                Some(_) if seen.contains(&option.key()) => continue,
                Some(schema) => set(&mut *level.attr, schema, option),
                None if self.found.len() >= MAX_FOUND => None,
                None => Some(no_option(info.name, info.options, option, near)),
            };
            seen.push(option.key());
            if let Some(d) = finding {
                self.found.push(d);
                level.is_suspect = true;
            } else if !self.registry.allows_option(info.name, option.key()) {
                let what = format!("the option `{}` of `{}` is not allowed here", option.key(), info.name);
                self.found.push(Diagnostic::error("E041", what).at(option.key_span.range(), ""));
            }
        }
    }

    /// Checks the branch labels of the level at `at` against those its driver knows.
    pub(super) fn check_labels(&mut self, at: usize) {
        let level = &self.levels[at];
        let info = level.driver.info();
        if info.labels.is_empty() || level.spec.branches().is_empty() {
            return;
        }
        // `fg+small` is a set of labels.
        let parts = |label: &str| -> Vec<String> {
            if info.labels.contains(&label) { vec![label.into()] } else { label.split('+').map(Into::into).collect() }
        };
        let mut covered = Vec::new();
        let before = self.found.len();
        for b in level.spec.branches() {
            for part in parts(b.label()) {
                if part == "*" || info.labels.contains(&&*part) {
                    covered.push(part);
                    continue;
                }
                let near = nearest(&part, info.labels.iter().copied());
                let note = near.map(|n| format!("did you mean `{n}`?")).unwrap_or_default();
                let d = Diagnostic::error("E036", format!("`{}` has no branch label {}", info.name, shown(&part)));
                let help = format!("its labels are {}, and `*`", list(info.labels.iter().copied()));
                self.found.push(d.at(b.label_span.range(), note).help(help));
            }
        }
        let missing: Vec<_> = info.labels.iter().copied().filter(|l| !covered.iter().any(|c| c == l)).collect();
        let is_complete = missing.is_empty() || self.found.len() > before;
        if !is_complete && !covered.iter().any(|c| c == "*") {
            let what = format!("`{}` has no branch for {}, and no `*`", info.name, list(missing.into_iter()));
            let d = Diagnostic::warning("W001", what).at(level.spec.name_span.range(), "");
            self.found.push(d.help("a `*: …` branch takes every other label"));
        }
    }

    /// The level as it was written, without its branches and with its secrets masked.
    pub(super) fn shown_level(&self, at: usize) -> LevelSpec {
        let level = &self.levels[at];
        let options = level.driver.info().options;
        let mut out = LevelSpec { branches: Vec::new(), ..level.spec.clone() };
        for o in &mut out.options {
            if options.iter().any(|s| s.secret && s.name == o.key) {
                o.value = SpecValue::Quoted(MASK.into());
            }
        }
        out
    }
}

/// Sets one option; a finding if that fails.
fn set(attr: &mut dyn Attr, schema: &OptionSpec, option: &SpecOption) -> Option<Diagnostic> {
    let key = schema.name;
    if option.value().is_true() && !takes_true(&schema.kind) {
        let d = Diagnostic::error("E024", format!("`{key}` needs a value: {}", schema.kind));
        let text = matches!(schema.kind, ValueKind::Text | ValueKind::Path | ValueKind::List(_));
        let help = match (schema.default)() {
            _ if text => format!("write `{key}=…`; the word itself is written `{key}=\"true\"`"),
            Some(v) => format!("as in `{key}={v}`"),
            None => format!("write `{key}=…`"),
        };
        return Some(d.at(option.value_span.range(), "").help(help));
    }
    if let (true, SpecValue::Bare(name)) = (schema.secret, option.value()) {
        // Taken as text it would silently change its meaning once there is a table of secrets.
        if name.starts_with('@') {
            let d = Diagnostic::error("E028", format!("`{key}`: references to secrets are not available yet"));
            return Some(d.at(option.value_span.range(), "").help("set it in code, with `StackSpec::bind_with`"));
        }
    }
    match schema.kind.parse(&option.value().raw()) {
        Ok(value) => {
            let e = attr.set(key, value).err()?;
            let why = match e.what() {
                _ if schema.secret => "the value (not shown)".to_owned(),
                "" => e.to_string(),
                what => what.to_owned(),
            };
            Some(Diagnostic::error("E025", format!("`{key}` refuses it: {why}")).at(option.value_span.range(), ""))
        }
        Err(e) if schema.secret => {
            let what = format!("`{key}` wants {}; what was found is secret and not shown", e.wanted);
            Some(Diagnostic::error("E024", what).at(option.value_span.range(), ""))
        }
        Err(e) => {
            let what = format!("`{key}` wants {}, found {}", e.wanted, shown(&e.found));
            let near = match (&schema.kind, option.value()) {
                (ValueKind::Enum(words), SpecValue::Bare(t) | SpecValue::Quoted(t)) => {
                    nearest(t, words.iter().copied())
                }
                _ => None,
            };
            let note = near.map(|n| format!("did you mean `{n}`?")).unwrap_or_default();
            let d = Diagnostic::error("E024", what).at(option.value_span.range(), note);
            // "a whole number 1..=9" needs no "it must lie in 1..=9".
            let is_said = e.help.strip_prefix("it must lie in ").is_some_and(|range| e.wanted.ends_with(range));
            Some(if e.help.is_empty() || is_said { d } else { d.help(e.help) })
        }
    }
}

/// Whether a bare key, which stands for `true`, can be meant.
fn takes_true(kind: &ValueKind) -> bool {
    match kind {
        ValueKind::Bool => true,
        ValueKind::Enum(words) => words.contains(&"true"),
        ValueKind::List(inner) => takes_true(inner),
        _ => false,
    }
}

fn no_option(driver: &str, options: &[OptionSpec], option: &SpecOption, near: Option<&str>) -> Diagnostic {
    let key = option.key();
    let span = option.key_span.range();
    let d = Diagnostic::error("E023", format!("`{driver}` has no option {}", shown(key)));
    if key.contains('.') {
        return d.at(span, "").help("a key with a dot names an option inside a preset");
    }
    let note = near.map(|n| format!("did you mean `{n}`?")).unwrap_or_default();
    let help = match options {
        [] => format!("`{driver}` takes no options"),
        _ => format!("its options are {}", list(options.iter().map(|s| s.name))),
    };
    d.at(span, note).help(help)
}
