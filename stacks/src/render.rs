//! Draws one [`Diagnostic`] as plain text: the line, a caret marker under each span, the help.
//! Invariant: the output holds no control character of the source, and a long line costs a window
//! of [`WIDTH`] columns, not its length. It knows no colours; columns are counted in characters.

use std::fmt::{self, Write};
use std::ops::Range;

use crate::diagnostic::Diagnostic;

/// Most columns of a source line that are shown.
const WIDTH: usize = 100;
/// Columns kept in front of a span that lies far to the right.
const LEAD: usize = 30;

/// Writes `d` with the lines of `source` it points at.
pub(crate) fn plain(f: &mut fmt::Formatter<'_>, source: &str, d: &Diagnostic) -> fmt::Result {
    write!(f, "{}[{}]: {}", d.severity.name(), d.code, d.what)?;
    let places: Vec<_> = d.spans.iter().map(|(span, note)| Place::of(source, span, note)).collect();
    let gutter = places.iter().map(|p| p.line.to_string().len()).max().unwrap_or(0);
    if let Some(first) = places.first() {
        write!(f, "\n{:gutter$}--> {}:{}", "", first.line, first.column)?;
        write!(f, "\n{:gutter$} |", "")?;
    }
    let mut shown: Option<(usize, usize)> = None;
    for p in &places {
        let window = Window::of(p);
        if shown != Some((p.line, window.first)) {
            write!(f, "\n{:>gutter$} | {}", p.line, window.text)?;
            shown = Some((p.line, window.first));
        }
        write!(f, "\n{:gutter$} | {:pad$}", "", "", pad = window.pad)?;
        for _ in 0..window.carets {
            f.write_char('^')?;
        }
        if !p.note.is_empty() {
            write!(f, " {}", p.note)?;
        }
    }
    match &d.help {
        Some(help) => write!(f, "\n{:gutter$} = help: {help}", ""),
        None => Ok(()),
    }
}

/// Whether a character may go to a terminal as it is.
pub(crate) fn is_visible(c: char) -> bool {
    let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !hidden
}

/// A span in its line.
struct Place<'a> {
    line: usize,
    column: usize,
    text: &'a str,
    chars: usize,
    note: &'a str,
}

impl<'a> Place<'a> {
    fn of(source: &'a str, span: &Range<usize>, note: &'a str) -> Self {
        let before = &source[..span.start];
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let end = source[start..].find('\n').map_or(source.len(), |i| start + i);
        Self {
            line: before.matches('\n').count() + 1,
            column: source[start..span.start].chars().count() + 1,
            text: &source[start..end],
            chars: source[span.start..span.end.min(end).max(span.start)].chars().count().max(1),
            note,
        }
    }
}

/// The part of a line that is shown for a span.
struct Window {
    first: usize,
    text: String,
    pad: usize,
    carets: usize,
}

impl Window {
    fn of(p: &Place<'_>) -> Self {
        let length = p.text.chars().count();
        let at = p.column - 1;
        let fits = length <= WIDTH || at + p.chars <= WIDTH;
        let first = if fits { 0 } else { at.saturating_sub(LEAD) };
        let mut text = String::from(if first > 0 { "…" } else { "" });
        text.extend(p.text.chars().skip(first).take(WIDTH).map(|c| match c {
            '\t' => ' ',
            c if is_visible(c) => c,
            _ => '\u{fffd}',
        }));
        if first + WIDTH < length {
            text.push('…');
        }
        let pad = at - first + usize::from(first > 0);
        Self { first, text, pad, carets: p.chars.min(WIDTH.saturating_sub(at - first).max(1)) }
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::{Diagnostic, Diagnostics};

    #[test]
    fn two_spans_on_one_line_share_it() {
        let d = Diagnostic::error("E034", "they do not fit").at(0..5, "upper").at(6..9, "lower").help("do");
        insta::assert_snapshot!(Diagnostics::new("typed/tcp", vec![d]), @r"
        error[E034]: they do not fit
         --> 1:1
          |
        1 | typed/tcp
          | ^^^^^ upper
          |       ^^^ lower
          = help: do
        ");
    }

    #[test]
    fn long_lines_are_cut_and_control_characters_replaced() {
        let source = format!("x\n{}\u{1b}[31m{}", "a".repeat(500), "b".repeat(500));
        let d = Diagnostic::error("E002", "bad").at(502..507, "");
        insta::assert_snapshot!(Diagnostics::new(source, vec![d]), @r"
        error[E002]: bad
         --> 2:501
          |
        2 | …aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa�[31mbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…
          |                                ^^^^^
        ");
    }
}
