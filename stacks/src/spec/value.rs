//! Reads values: bare words, strings with their escapes, lists. Invariant: a string's content is
//! what its printed form reads back to. What a value means is not known here.

use super::ast::{SpecValue, is_bare_char};
use super::scan::{Cursor, Fatal};
use super::{MAX_LIST_DEPTH, MAX_VALUE};
use crate::diagnostic::Diagnostic;

impl Cursor<'_> {
    /// A value; `depth` counts the lists round it.
    pub(super) fn value(&mut self, depth: usize) -> Result<SpecValue, Fatal> {
        let start = self.at;
        let value = match self.peek() {
            Some('"') => SpecValue::Quoted(self.string()?),
            Some('[') => return self.list(depth),
            Some(c) if is_bare_char(c) => SpecValue::Bare(self.run(is_bare_char).to_owned()),
            _ => return Err(Box::new(self.no_value())),
        };
        match &value {
            SpecValue::Bare(t) | SpecValue::Quoted(t) if t.len() > MAX_VALUE => {
                let what = format!("the value has {} bytes; the limit is {MAX_VALUE}", t.len());
                Err(Box::new(Diagnostic::error("E010", what).at(start..self.at, "")))
            }
            _ => Ok(value),
        }
    }

    #[cold]
    fn no_value(&self) -> Diagnostic {
        let d = self.expected("a value");
        match self.peek() {
            Some('\'') => d.help("strings stand in double quotes: `\"…\"`"),
            Some('$') => d.help("a spec has no variables; a text with `$` stands in double quotes"),
            Some('(' | '{') => d.help("a list is written `[a, b]`, a text with brackets `\"…\"`"),
            Some(',' | ')') => d.help("write `key=value`, or only the key for `true`"),
            _ => d.help("write a bare word, a `\"text\"` or a `[list]`"),
        }
    }

    fn list(&mut self, depth: usize) -> Result<SpecValue, Fatal> {
        let open = self.at;
        self.eat('[');
        if depth >= MAX_LIST_DEPTH {
            let what = format!("lists are nested more than {MAX_LIST_DEPTH} deep");
            return Err(Box::new(Diagnostic::error("E010", what).at(open..self.at, "")));
        }
        let mut items = Vec::new();
        loop {
            self.space();
            if self.eat(']') {
                return Ok(SpecValue::List(items));
            }
            if self.at == self.text.len() {
                return Err(Box::new(unclosed(open, "[", "]")));
            }
            items.push(self.value(depth + 1)?);
            self.space();
            if !self.eat(',') && self.peek() != Some(']') {
                return Err(Box::new(self.no_separator(open, "[", "]")));
            }
        }
    }

    /// After an item: neither a comma nor the closing bracket.
    #[cold]
    pub(super) fn no_separator(&self, open: usize, opening: &str, closing: &str) -> Diagnostic {
        if self.at == self.text.len() {
            return unclosed(open, opening, closing);
        }
        let d = self.expected(&format!("`,` or `{closing}`"));
        let glued = self.at > 0 && self.text[..self.at].ends_with(is_bare_char);
        match self.peek() {
            Some(';' | '&') => d.help("options are separated with `,`"),
            Some(c) if glued && !matches!(c, '(' | ')' | '{' | '}' | '[' | ']') => {
                d.help("a value with this character stands in double quotes")
            }
            Some(')' | '}' | ']') => d.at(open..open + 1, "opened here"),
            _ => d,
        }
    }

    fn string(&mut self) -> Result<String, Fatal> {
        let open = self.at;
        self.eat('"');
        let mut out = String::new();
        loop {
            out.push_str(self.run(|c| c != '"' && c != '\\' && !c.is_control()));
            let here = self.at;
            match self.peek() {
                None | Some('\n' | '\r') => {
                    let d = Diagnostic::error("E003", "this `\"` is never closed").at(open..open + 1, "");
                    return Err(Box::new(d.help("a string ends on its line; a line break in it is `\\n`")));
                }
                Some('"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some('\\') => {
                    self.at += 1;
                    out.push(self.escape(here)?);
                }
                Some(c) => {
                    let what = format!("the control character U+{:04X} stands in a string", c as u32);
                    let d = Diagnostic::error("E004", what).at(here..here + c.len_utf8(), "");
                    return Err(Box::new(d.help(format!("write `{}`", c.escape_default()))));
                }
            }
        }
    }

    /// The character after a `\` at `start`.
    fn escape(&mut self, start: usize) -> Result<char, Fatal> {
        let simple = match self.peek() {
            Some(c @ ('"' | '\\')) => Some(c),
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            _ => None,
        };
        if let Some(c) = simple {
            self.at += 1;
            return Ok(c);
        }
        let bad = |end: usize, what: &str| {
            let d = Diagnostic::error("E004", what).at(start..end, "");
            Box::new(d.help(r#"the escapes are `\"`, `\\`, `\n`, `\t`, `\r` and `\u{1f600}`"#))
        };
        if !self.eat('u') {
            let end = self.at + self.peek().filter(|c| !c.is_control()).map_or(0, char::len_utf8);
            return Err(bad(end, "there is no such escape"));
        }
        let open = self.eat('{');
        let hex = self.run(|c| c.is_ascii_hexdigit());
        if !open || !(1..=6).contains(&hex.len()) || !self.eat('}') {
            return Err(bad(self.at, "`\\u` wants 1 to 6 hexadecimal digits in braces"));
        }
        match u32::from_str_radix(hex, 16).ok().and_then(char::from_u32) {
            Some(c) => Ok(c),
            None => Err(bad(self.at, "there is no character of this number")),
        }
    }
}

/// A bracket at `open` that nothing closes.
#[cold]
pub(super) fn unclosed(open: usize, opening: &str, closing: &str) -> Diagnostic {
    Diagnostic::error("E003", format!("this `{opening}` is never closed"))
        .at(open..open + opening.len(), format!("wants a `{closing}`"))
}
