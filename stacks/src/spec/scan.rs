//! The reading position in a spec: spaces and comments, runs of characters, and the words for what
//! was found. Invariant: the position never leaves the text and never stands inside a character.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::render::is_visible;

/// A finding after which reading cannot go on. Boxed: it crosses every level of the recursion.
pub(super) type Fatal = Box<Diagnostic>;

/// Longest word that a message repeats.
const MAX_SHOWN: usize = 32;

pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let hit = self.peek() == Some(c);
        self.at += if hit { c.len_utf8() } else { 0 };
        hit
    }

    /// Skips spaces and comments.
    pub(super) fn space(&mut self) {
        loop {
            self.run(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
            if self.peek() != Some('#') {
                return;
            }
            self.run(|c| c != '\n');
        }
    }

    /// The longest run of such characters from here on, possibly empty.
    pub(super) fn run(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// The word or character that stands here.
    pub(super) fn here(&self) -> Range<usize> {
        let rest = self.rest();
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let len = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
        self.at..self.at + len
    }

    /// `expected …, found …` about what stands here.
    #[cold]
    pub(super) fn expected(&self, wanted: &str) -> Diagnostic {
        let here = self.here();
        let found = match &self.text[here.clone()] {
            "" => "the end".to_owned(),
            "`" => "a backtick".to_owned(),
            text => shown(text),
        };
        Diagnostic::error("E002", format!("expected {wanted}, found {found}")).at(here, "")
    }
}

/// A character of a name, a key segment or a label.
pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// A piece of the text between backticks, cut where it is long, with nothing in it that a terminal
/// would obey.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::from("`");
    for (i, c) in text.chars().enumerate() {
        if i == MAX_SHOWN {
            out.push('…');
            break;
        }
        if is_visible(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out.push('`');
    out
}
