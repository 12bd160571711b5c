//! Reads a spec: recursive descent, at most [`MAX_BRANCH_DEPTH`] deep. Invariant: it needs time
//! linear in the text and a stack that the text cannot choose; every error has a span.
//!
//! Two kinds of findings: after a *fatal* one reading stops; a *soft* one (a capital letter, a value
//! without a key, a key that stands twice) is noted and reading goes on, so that the binder can
//! report what else is wrong. It resolves no names: that is [`crate::bind`].

use std::str::FromStr;

use super::ast::{BranchSpec, LevelSpec, Source, Span, SpecOption, SpecValue, StackSpec, is_bare_char};
use super::scan::{Cursor, Fatal, is_word, shown};
use super::value::unclosed;
use super::{MAX_BRANCH_DEPTH, MAX_BRANCHES, MAX_LEVELS, MAX_OPTIONS, MAX_SPEC, is_name};
use crate::diagnostic::{Diagnostic, Diagnostics, MAX_FOUND};

impl FromStr for StackSpec {
    type Err = Diagnostics;

    /// Reads a spec.
    ///
    /// # Errors
    /// What is wrong with the text, E001–E011. Names and values are checked by
    /// [`bind`](StackSpec::bind).
    fn from_str(text: &str) -> Result<Self, Diagnostics> {
        let parsed = spec(text)?;
        if parsed.soft.is_empty() { Ok(parsed.stack) } else { Err(Diagnostics::new(text, parsed.soft)) }
    }
}

/// A text that was read to its end.
pub(crate) struct Parsed {
    /// The spec. Where a soft finding left a choice, it holds the likely meaning.
    pub(crate) stack: StackSpec,
    /// Findings that did not stop the reading.
    pub(crate) soft: Vec<Diagnostic>,
    /// Where reading ended: at the end of the text, or behind the `@` of an endpoint.
    pub(crate) end: Option<usize>,
}

/// Reads a whole text as a spec.
pub(crate) fn spec(text: &str) -> Result<Parsed, Diagnostics> {
    read(text, MAX_SPEC, false)
}

/// Reads the front of an endpoint as a spec; `end` is where the contact begins, if there is one.
pub(crate) fn endpoint(text: &str) -> Result<Parsed, Diagnostics> {
    read(text, MAX_SPEC + xio_core::MAX_CONTACT, true)
}

fn read(text: &str, max: usize, endpoint: bool) -> Result<Parsed, Diagnostics> {
    if text.len() > max {
        // The text itself stays out of the report: a line of a megabyte helps nobody.
        return Err(Diagnostics::new("", vec![too_long(text.len(), max)]));
    }
    let mut p = Parser { c: Cursor { text, at: 0 }, levels: 0, soft: Vec::new() };
    match p.whole(endpoint) {
        Ok((mut stack, end)) => {
            // What can be read can be printed and read again, so the limit holds for both forms. One
            // byte is printed as six at most, as `\u{27}`.
            let own = end.unwrap_or(text.len());
            let printed = if own > MAX_SPEC / 6 { stack.to_string().len() } else { 0 };
            if own.max(printed) > MAX_SPEC {
                return Err(Diagnostics::new("", vec![too_long(own.max(printed), MAX_SPEC)]));
            }
            stack.source = Source(Some(text.into()));
            Ok(Parsed { stack, soft: p.soft, end })
        }
        Err(fatal) => {
            p.soft.push(*fatal);
            Err(Diagnostics::new(text, p.soft))
        }
    }
}

struct Parser<'a> {
    c: Cursor<'a>,
    levels: usize,
    soft: Vec<Diagnostic>,
}

impl Parser<'_> {
    fn whole(&mut self, endpoint: bool) -> Result<(StackSpec, Option<usize>), Fatal> {
        self.c.space();
        if self.c.rest().is_empty() {
            let d = Diagnostic::error("E011", "the spec is empty").at(self.c.here(), "");
            return Err(Box::new(d.help("name at least a transport, as `tcp`")));
        }
        let stack = self.stack(0)?;
        if endpoint && self.at_contact() {
            self.c.at += 1;
            return Ok((stack, Some(self.c.at)));
        }
        if self.c.rest().is_empty() { Ok((stack, None)) } else { Err(Box::new(self.not_the_end())) }
    }

    /// Whether an `@` with a space on both sides stands here. A preset's `@` follows a `/` or the
    /// beginning, where a level is read, so the two cannot be mixed up.
    fn at_contact(&self) -> bool {
        let mut rest = self.c.rest().chars();
        let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        rest.next() == Some('@') && rest.next().is_none_or(is_space) && self.c.text[..self.c.at].ends_with(is_space)
    }

    fn stack(&mut self, depth: usize) -> Result<StackSpec, Fatal> {
        let mut levels: Vec<LevelSpec> = Vec::new();
        loop {
            self.c.space();
            levels.push(self.level(depth, levels.is_empty())?);
            self.c.space();
            let slash = self.c.at;
            if !self.c.eat('/') {
                return Ok(StackSpec::new(levels));
            }
            if levels.last().is_some_and(|l| !l.branches.is_empty()) {
                let d =
                    Diagnostic::error("E009", "nothing can lie below a level with branches").at(slash..slash + 1, "");
                return Err(Box::new(d.help("write what lies below into each branch")));
            }
        }
    }

    fn level(&mut self, depth: usize, first: bool) -> Result<LevelSpec, Fatal> {
        let start = self.c.at;
        let preset = self.c.eat('@');
        let word = self.c.run(is_word);
        let span = start..self.c.at;
        if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(Box::new(self.no_level(start, word, first)));
        }
        self.levels += 1;
        if self.levels > MAX_LEVELS {
            return Err(limit(span, format!("the spec has more than {MAX_LEVELS} levels")));
        }
        let name = self.lower(word, start + usize::from(preset));
        let options = if self.c.peek() == Some('(') { self.options()? } else { Vec::new() };
        let after = self.c.at;
        self.c.space();
        let branches = if self.c.peek() == Some('{') {
            self.branches(depth)?
        } else {
            self.c.at = after;
            Vec::new()
        };
        Ok(LevelSpec { name, preset, options, branches, name_span: span.into() })
    }

    /// A name as it should be; a soft finding if it was not.
    fn lower(&mut self, word: &str, start: usize) -> String {
        let name = word.to_ascii_lowercase();
        if name != word && self.soft.len() < MAX_FOUND {
            let d = Diagnostic::error("E006", format!("names are lower case: {}", shown(word)));
            self.soft.push(d.at(start..start + word.len(), format!("write {}", shown(&name))));
        }
        name
    }

    fn options(&mut self) -> Result<Vec<SpecOption>, Fatal> {
        let open = self.c.at;
        self.c.eat('(');
        let mut options: Vec<SpecOption> = Vec::new();
        for n in 0.. {
            self.c.space();
            if self.c.eat(')') {
                break;
            }
            if self.c.rest().is_empty() {
                return Err(Box::new(unclosed(open, "(", ")")));
            }
            if n == MAX_OPTIONS {
                return Err(limit(self.c.here(), format!("the level has more than {MAX_OPTIONS} options")));
            }
            if let Some(option) = self.option()? {
                if let Some(first) = options.iter().find(|o| o.key == option.key) {
                    self.twice("E007", "option", &option.key, first.key_span, option.key_span);
                }
                options.push(option);
            }
            self.c.space();
            if !self.c.eat(',') && self.c.peek() != Some(')') {
                return Err(Box::new(self.c.no_separator(open, "(", ")")));
            }
        }
        Ok(options)
    }

    /// One option; `None` where something else stood in its place.
    fn option(&mut self) -> Result<Option<SpecOption>, Fatal> {
        let start = self.c.at;
        let word = self.c.run(|c| is_word(c) || c == '.');
        let key = word.to_ascii_lowercase();
        if !key.split('.').all(is_name) || matches!(self.c.peek(), Some('/')) {
            self.c.at = start;
            return self.no_key().map(|()| None);
        }
        self.lower(word, start);
        let key_span = start..self.c.at;
        let after = self.c.at;
        self.c.space();
        if !self.c.eat('=') {
            if self.c.peek() == Some(':') {
                return Err(Box::new(self.c.expected("`=`, `,` or `)`").help(format!("write `{key}=…`"))));
            }
            self.c.at = after;
            let value = SpecValue::from(true);
            return Ok(Some(SpecOption { key, value, value_span: key_span.clone().into(), key_span: key_span.into() }));
        }
        self.c.space();
        let value_start = self.c.at;
        let value = self.c.value(0)?;
        Ok(Some(SpecOption { key, value, key_span: key_span.into(), value_span: (value_start..self.c.at).into() }))
    }

    /// Something that is no key: passes over it if it is a value, so that reading goes on.
    fn no_key(&mut self) -> Result<(), Fatal> {
        let start = self.c.at;
        let what = match self.c.peek() {
            Some(c) if is_bare_char(c) => shown(self.c.run(is_bare_char)),
            Some('"' | '[') => {
                self.c.value(0)?;
                "a value".into()
            }
            _ => return Err(Box::new(self.c.expected("an option").help("options are written `name(key=value, …)`"))),
        };
        let end = self.c.at;
        self.c.space();
        if self.c.eat('=') {
            self.c.space();
            self.c.value(0)?;
        }
        if self.soft.len() < MAX_FOUND {
            let d = Diagnostic::error("E005", format!("{what} is not an option name")).at(start..end, "");
            self.soft.push(d.help("options are named, as in `depth=64`; never positional"));
        }
        Ok(())
    }

    fn branches(&mut self, depth: usize) -> Result<Vec<BranchSpec>, Fatal> {
        let open = self.c.at;
        self.c.eat('{');
        if depth >= MAX_BRANCH_DEPTH {
            return Err(limit(open..open + 1, format!("branches are nested more than {MAX_BRANCH_DEPTH} deep")));
        }
        let mut branches: Vec<BranchSpec> = Vec::new();
        loop {
            self.c.space();
            if !branches.is_empty() && self.c.eat('}') {
                return Ok(branches);
            }
            if branches.len() == MAX_BRANCHES {
                return Err(limit(self.c.here(), format!("the level has more than {MAX_BRANCHES} branches")));
            }
            let (label, label_span) = self.label(open)?;
            let stack = self.stack(depth + 1)?;
            let first = branches.iter().find(|b| b.label == label).map(|b| b.label_span);
            if let Some(first) = first {
                self.twice("E008", "branch", &label, first, label_span);
            }
            branches.push(BranchSpec { label, stack, label_span });
            self.c.space();
            if !self.c.eat(',') && self.c.peek() != Some('}') {
                return Err(Box::new(self.not_the_branch_end(open)));
            }
        }
    }

    /// `label :`
    fn label(&mut self, open: usize) -> Result<(String, Span), Fatal> {
        let start = self.c.at;
        let label = if self.c.eat('*') { "*" } else { self.c.run(|c| is_word(c) || c == '+') };
        let span = start..self.c.at;
        if label.is_empty() {
            if self.c.rest().is_empty() {
                return Err(Box::new(unclosed(open, "{", "}")));
            }
            let d = self.c.expected("a branch label");
            return Err(Box::new(d.help("branches are written `name{label: stack, *: stack}`")));
        }
        self.c.space();
        if self.c.eat(':') {
            return Ok((label.to_owned(), span.into()));
        }
        let d = self.c.expected(&format!("`:` after the branch label `{}`", label));
        Err(Box::new(d.help("branches are written `name{label: stack, *: stack}`")))
    }

    #[cold]
    fn twice(&mut self, code: &'static str, kind: &str, key: &str, first: Span, second: Span) {
        if self.soft.len() >= MAX_FOUND {
            return;
        }
        let d = Diagnostic::error(code, format!("the {kind} {} stands twice", shown(key)));
        self.soft.push(d.at(second.range(), "again here").at(first.range(), "first here"));
    }

    /// No level where one should be; `word` is what stood there of a name.
    #[cold]
    fn no_level(&mut self, start: usize, word: &str, first: bool) -> Diagnostic {
        if !word.is_empty() {
            let d = Diagnostic::error("E006", format!("{} is not a name", shown(word))).at(start..self.c.at, "");
            return d.help("a name is a lower-case letter, then lower-case letters, digits, `-` or `_`");
        }
        if self.c.at > start {
            let d = Diagnostic::error("E002", "expected a preset's name behind `@`").at(start..self.c.at, "");
            return d.help("in an endpoint, ` @ ` follows a whole spec, as in `queue/tcp @ host:port`");
        }
        let d = self.c.expected("a level");
        match self.c.peek() {
            None | Some('}' | ',') if !first => {
                d.help("a `/` stands between two levels: name the one below, or remove it")
            }
            Some('/') if !first => d.help("one `/` is enough"),
            Some('/' | '|' | ',') => d.help("a spec begins with its top level, as `queue/tcp`"),
            Some('"' | '\'') => d.help("a level is a plain name, without quotes"),
            _ => d.help("a level is a driver's name, as `tcp`"),
        }
    }

    /// Text behind the last level.
    #[cold]
    fn not_the_end(&self) -> Diagnostic {
        let d = self.c.expected("`/` or the end of the spec");
        let glued = !self.c.text[..self.c.at].ends_with([' ', '\t', '\r', '\n']);
        if self.at_contact() {
            return d.help("a spec has no contact; with one, the text is an endpoint");
        }
        match self.c.peek() {
            Some(':') if self.c.rest().starts_with("://") => {
                d.help("a spec has no addresses; an endpoint is written `tcp @ host:port`")
            }
            Some(':') => d.help("options stand in parentheses: `tcp(nodelay)`; an address is no part of a spec"),
            Some('=') => d.help("options stand in parentheses: `name(key=value)`"),
            Some('(') if !glued => d.help("no space stands between a name and its `(`"),
            Some('@') => d.help("a contact follows ` @ ` with spaces, in an endpoint; a preset is a level: `…/@name`"),
            Some(')' | '}' | ']') => d.help("it closes nothing"),
            _ => d.help("levels are joined with `/`, top first"),
        }
    }

    /// Text behind the last level of a branch.
    #[cold]
    fn not_the_branch_end(&self, open: usize) -> Diagnostic {
        if self.c.rest().is_empty() {
            return unclosed(open, "{", "}");
        }
        let d = self.c.expected("`/`, `,` or `}`");
        match self.c.peek() {
            Some(':') => d.help("`,` stands between two branches"),
            Some(')' | ']') => d.at(open..open + 1, "opened here"),
            _ => d,
        }
    }
}

#[cold]
fn too_long(len: usize, max: usize) -> Diagnostic {
    Diagnostic::error("E001", format!("the spec has {len} bytes; the limit is {max}"))
}

#[cold]
fn limit(span: std::ops::Range<usize>, what: String) -> Fatal {
    Box::new(Diagnostic::error("E010", what).at(span, ""))
}
