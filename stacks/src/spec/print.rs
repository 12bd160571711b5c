//! Prints a spec: canonical on one line (`Display`), indented for files (`{:#}`). Invariant: both
//! forms read back to an equal spec, and neither holds `' $ \` !` or a control character.
//! Comments are not kept: the tree does not have them.

use std::fmt::{self, Display, Formatter, Write};

use xio_core::planted;

use super::MAX_SPEC;
use super::ast::{BranchSpec, LevelSpec, SpecOption, SpecValue, StackSpec, is_bare};
use crate::render::is_visible;

/// Columns that a line of the indented form may fill before it is broken.
const WIDTH: usize = 80;
const INDENT: usize = 4;

impl Display for StackSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            let mut text = String::new();
            indented(&mut text, self, 0, 0)?;
            // Indentation must not make a spec too long to be read.
            if text.len() <= MAX_SPEC {
                return f.write_str(&text);
            }
        }
        for (i, level) in self.levels.iter().enumerate() {
            f.write_str(if i > 0 { "/" } else { "" })?;
            level.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for LevelSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        head(f, self)?;
        for (i, o) in self.options.iter().enumerate() {
            f.write_str(if i == 0 { "(" } else { ", " })?;
            o.fmt(f)?;
        }
        if !self.options.is_empty() {
            f.write_char(')')?;
        }
        for (i, BranchSpec { label, stack, .. }) in self.branches.iter().enumerate() {
            write!(f, "{}{label}: {stack}", if i == 0 { "{" } else { ", " })?;
        }
        if self.branches.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

impl Display for SpecOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if self.value.is_true() { Ok(()) } else { write!(f, "={}", self.value) }
    }
}

impl Display for SpecValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(t) if is_bare(t) => f.write_str(t),
            Self::Bare(t) | Self::Quoted(t) => string(f, t),
            Self::List(items) if items.len() == 1 && planted("a list of one is printed without its brackets") => {
                items[0].fmt(f)
            }
            Self::List(items) => {
                f.write_char('[')?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_char(']')
            }
        }
    }
}

fn head(f: &mut impl Write, level: &LevelSpec) -> fmt::Result {
    write!(f, "{}{}", if level.preset { "@" } else { "" }, level.name)
}

fn string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            '\'' | '$' | '`' | '!' => write!(f, "{}", c.escape_unicode())?,
            c if is_visible(c) => f.write_char(c)?,
            c => write!(f, "{}", c.escape_unicode())?,
        }
    }
    f.write_char('"')
}

/// A stack on one line if it fits and has no branches, else one level a line. `used` is what the
/// first line already holds.
fn indented(f: &mut String, stack: &StackSpec, indent: usize, used: usize) -> fmt::Result {
    let branched = stack.levels.iter().any(|l| !l.branches.is_empty());
    let line = stack.to_string();
    if !branched && used + line.chars().count() <= WIDTH {
        return f.write_str(&line);
    }
    for (i, level) in stack.levels.iter().enumerate() {
        if i > 0 {
            write!(f, "/\n{:indent$}", "")?;
        }
        indented_level(f, level, indent, if i > 0 { indent } else { used })?;
    }
    Ok(())
}

fn indented_level(f: &mut String, level: &LevelSpec, indent: usize, used: usize) -> fmt::Result {
    let inner = indent + INDENT;
    head(f, level)?;
    let options: Vec<_> = level.options.iter().map(ToString::to_string).collect();
    let line = options.join(", ");
    if used + level.name.len() + line.chars().count() + 4 <= WIDTH {
        if !options.is_empty() {
            write!(f, "({line})")?;
        }
    } else {
        f.write_char('(')?;
        for o in &options {
            write!(f, "\n{:inner$}{o},", "")?;
        }
        write!(f, "\n{:indent$})", "")?;
    }
    if level.branches.is_empty() {
        return Ok(());
    }
    f.write_char('{')?;
    for BranchSpec { label, stack, .. } in &level.branches {
        write!(f, "\n{:inner$}{label}: ", "")?;
        // Levels on lines of their own stand further in than the labels.
        let lines = inner + if stack.levels.len() > 1 { INDENT } else { 0 };
        indented(f, stack, lines, inner + label.len() + 2)?;
        f.write_char(',')?;
    }
    write!(f, "\n{:indent$}}}", "")
}
