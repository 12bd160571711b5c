//! How things look: colours, tables, numbers for people, drawn spec errors.
//! Invariant: colours go to terminals only, unless they were asked for; a table never depends on them
//! for its columns.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::time::Duration;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use clap::ValueEnum;
use xio_stacks::{Diagnostics, Severity};

use crate::exit::Outcome;

/// Columns where no terminal says how many it has.
const WIDTH: usize = 80;
/// Columns that text for reading fills at most.
const MAX_WIDTH: usize = 100;

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// What is known of stdout and stderr.
pub(crate) struct Ui {
    pub(crate) out: Paint,
    pub(crate) err: Paint,
    /// Columns for text.
    pub(crate) width: usize,
    /// Whether a person watches stderr.
    pub(crate) live: bool,
}

impl Ui {
    pub(crate) fn new(when: When) -> Self {
        let var = |name| std::env::var_os(name).unwrap_or_default();
        // <https://no-color.org>: set and not empty.
        let plain = !var("NO_COLOR").is_empty() || var("TERM") == "dumb";
        let on = |terminal: bool| match when {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !plain,
        };
        let columns = terminal_size::terminal_size().map_or(WIDTH, |(w, _)| usize::from(w.0));
        let live = io::stderr().is_terminal();
        Self { out: Paint(on(io::stdout().is_terminal())), err: Paint(on(live)), width: columns.min(MAX_WIDTH), live }
    }
}

/// Puts colours around text, or not.
#[derive(Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("1;32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("1;33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Stdout, buffered. An error of its `write!` ends the command, quietly if the reader is gone.
pub(crate) struct Out(BufWriter<Stdout>);

impl Out {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout()))
    }

    /// Sends everything off; the last thing a command does with it.
    pub(crate) fn done(&mut self) -> Outcome {
        Ok(self.0.flush()?)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// All findings of a spec, drawn.
pub(crate) fn diagnostics(found: &Diagnostics, ui: &Ui) -> String {
    let renderer = if ui.err.0 { Renderer::styled() } else { Renderer::plain() };
    // Wider than a terminal is fine: a spec is one line, and carets wrapped with it still line up.
    let renderer = renderer.term_width(ui.width.max(WIDTH) + MAX_WIDTH);
    let mut out = String::new();
    for (i, d) in found.iter().enumerate() {
        let level = if d.severity == Severity::Warning { Level::WARNING } else { Level::ERROR };
        // What has no place is one line.
        let title = match &d.help {
            Some(help) if d.spans.is_empty() => format!("{}; {help}", d.what),
            _ => d.what.clone(),
        };
        let mut group = Group::with_title(level.primary_title(title).id(d.code));
        if !d.spans.is_empty() {
            let mut snippet = Snippet::source(found.source());
            for (n, (span, note)) in d.spans.iter().enumerate() {
                let kind = if n == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                let annotation = kind.span(span.clone());
                snippet = snippet.annotation(if note.is_empty() { annotation } else { annotation.label(note) });
            }
            group = group.element(snippet);
        }
        if let (Some(help), false) = (&d.help, d.spans.is_empty()) {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let _ = write!(out, "{}{}", if i > 0 { "\n\n" } else { "" }, renderer.render(&[group]));
    }
    out
}

/// Rows of a table; the columns are as wide as they must be.
pub(crate) struct Table {
    /// Alignment of the columns: `<` to the left, `>` to the right.
    align: &'static [u8],
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with one letter of `align` a column.
    pub(crate) fn new<const N: usize>(align: &'static [u8; N], head: [&str; N]) -> Self {
        Self { align, head: head.map(str::to_owned).into(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The lines, each behind `indent`, no blanks at their ends. The first column stands out; a column
    /// of dashes is left out.
    pub(crate) fn render(&self, indent: &str, paint: Paint) -> String {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |c: usize| all().map(|r| r[c].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let is_empty = |c: usize| !self.rows.is_empty() && self.rows.iter().all(|r| r[c] == "-");
        let mut out = String::new();
        for (n, row) in all().enumerate() {
            let mut line = String::from(indent);
            for (c, cell) in row.iter().enumerate().filter(|(c, _)| !is_empty(*c)) {
                let pad = " ".repeat(widths[c] - cell.chars().count());
                let shown = match (n, c) {
                    (0, _) => paint.dim(cell),
                    (_, 0) => paint.bold(cell),
                    _ => cell.clone(),
                };
                let gap = if c > 0 { "  " } else { "" };
                match self.align[c] {
                    b'>' => line.extend([gap, &pad, &shown]),
                    _ => line.extend([gap, &shown, &pad]),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Breaks text into lines of at most `width` columns.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let at = lines.len() - 1;
        let line = &mut lines[at];
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

/// Bytes, as "11.2 KiB".
pub(crate) fn bytes(n: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut n = n;
    let mut unit = 0;
    // Rounds to 1024 before it would print as such.
    while n >= 1023.5 && unit + 1 < units.len() {
        n /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(n, unit == 0), units[unit])
}

/// Nanoseconds, as "1.32 us".
pub(crate) fn nanos(ns: f64) -> String {
    let units = ["ns", "us", "ms", "s"];
    let mut n = ns;
    let mut unit = 0;
    while n >= 999.5 && unit + 1 < units.len() {
        n /= 1000.0;
        unit += 1;
    }
    format!("{} {}", three_digits(n, false), units[unit])
}

/// A span of time, as [`nanos`].
pub(crate) fn time(d: Duration) -> String {
    nanos(d.as_nanos() as f64)
}

/// Bytes a second.
pub(crate) fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", bytes(bytes_per_s))
}

/// A count with its word, which takes an `s` unless it is one.
pub(crate) fn count(n: u64, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

fn three_digits(n: f64, whole: bool) -> String {
    match n {
        _ if whole => format!("{n:.0}"),
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            ["0 B", "1023 B", "1.00 KiB", "11.2 KiB", "1.00 MiB", "1.00 GiB"],
            [bytes(0.0), bytes(1023.0), bytes(1024.0), bytes(11_490.0), bytes(1_048_575.0), bytes(1e9 * 1.0737),]
        );
        assert_eq!(
            ["46.1 ns", "1.32 us", "100 us", "1.00 s", "120 s"],
            [nanos(46.12), nanos(1320.0), nanos(99_960.0), nanos(999_900_000.0), nanos(1.2e11),]
        );
    }

    #[test]
    fn tables_line_up_with_and_without_colours() {
        let mut t = Table::new(b"<>", ["name", "n"]);
        t.row(["a".into(), "100".into()]);
        t.row(["queue".into(), "7".into()]);
        assert_eq!(t.render(" ", Paint(false)), " name     n\n a      100\n queue    7\n");
        assert_eq!(t.render("", Paint(true)).lines().last(), Some("\x1b[1mqueue\x1b[0m    7"));
    }

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrap("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("", 9), [""]);
    }
}
