//! How a run ends: what can go wrong, the line that says it, the exit code.
//! Invariant: a reader of stdout that went away is no failure, and nothing here panics when stderr
//! is closed too.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind as Clap;
use xio_stacks::{Diagnostics, Error, ErrorKind};

use crate::Cli;
use crate::interrupt;
use crate::render::{Ui, diagnostics};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be: exit code 2.
    Usage(String),
    /// A spec is wrong: exit code 2.
    Spec(Box<Diagnostics>),
    /// As [`Failure::Spec`], said already: exit code 2.
    Said,
    /// I/O failed: exit code 1.
    Failed(String),
    /// Whoever read stdout has had enough: exit code 0.
    Quiet,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
            Self::Spec(d) => d.fmt(f),
            Self::Said | Self::Quiet => Ok(()),
        }
    }
}

/// What a command comes to.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl From<Diagnostics> for Failure {
    fn from(d: Diagnostics) -> Self {
        Self::Spec(Box::new(d))
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        match e.kind() {
            ErrorKind::InvalidContact | ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::Misfit => {
                Self::Usage(e.to_string())
            }
            _ => Self::Failed(e.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    /// An error of writing to stdout; any other has to say what it is about: [`failed`].
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::Quiet,
            _ => failed("cannot write to stdout")(e),
        }
    }
}

/// Turns an error into "what: why".
pub(crate) fn failed<E: Display>(what: impl Display) -> impl FnOnce(E) -> Failure {
    move |e| Failure::Failed(format!("{what}: {e}"))
}

/// Says what went wrong, and gives the exit code.
pub(crate) fn code(outcome: Outcome, ui: &Ui) -> ExitCode {
    if let Some(signal) = interrupt::seen() {
        return ExitCode::from(128 + signal);
    }
    let (line, code) = match outcome {
        Ok(()) | Err(Failure::Quiet) => return ExitCode::SUCCESS,
        Err(Failure::Said) => return ExitCode::from(2),
        Err(Failure::Spec(d)) => (diagnostics(&d, ui), 2),
        Err(Failure::Usage(text)) => (line(ui, &text), 2),
        Err(Failure::Failed(text)) => (line(ui, &text), 1),
    };
    say(&line);
    ExitCode::from(code)
}

/// One line for an error.
pub(crate) fn line(ui: &Ui, text: &str) -> String {
    format!("{} {}", ui.err.red("error:"), one_line(text))
}

/// One line for a warning.
pub(crate) fn warn(ui: &Ui, text: &str) {
    say(&format!("{} {}", ui.err.yellow("warning:"), one_line(text)));
}

/// A line on stderr, if there is one.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Ends a run whose command line clap refused, or that asked for help.
pub(crate) fn usage(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() || e.kind() == Clap::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = e.print();
        return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
    }
    let ui = Ui::new(crate::render::When::Auto);
    say(&line(&ui, &flatten(&e.render().to_string())));
    ExitCode::from(2)
}

/// Clap's paragraphs as one line: what is wrong; the tips; where to read on.
fn flatten(text: &str) -> String {
    let mut parts = Vec::new();
    let mut command = asked();
    for block in text.split("\n\n").map(str::trim) {
        if let Some(usage) = block.strip_prefix("Usage: ") {
            let words = usage.split_whitespace();
            let names: Vec<_> = words.take_while(|w| w.starts_with(|c: char| c.is_ascii_lowercase())).collect();
            command = names.join(" ");
        } else if !block.starts_with("For more information") && !block.is_empty() {
            let words = block.trim_start_matches("error: ").trim_start_matches("tip: ");
            parts.push(words.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    parts.push(format!("try `{command} --help`"));
    parts.join("; ")
}

/// The command that was asked for, by its name alone.
fn asked() -> String {
    let known = Cli::command();
    let mut words = std::env::args().skip(1).filter(|w| known.find_subcommand(w).is_some());
    words.next().map_or_else(|| "xio".into(), |w| format!("xio {w}"))
}

/// Text of others may hold line ends and control characters; a line does not.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clap_says_becomes_one_line() {
        let text = "error: the following required arguments were not provided:\n  <SPEC>\n\n\
                    Usage: xio check <SPEC>\n\nFor more information, try '--help'.\n";
        assert_eq!(flatten(text), "the following required arguments were not provided: <SPEC>; try `xio check --help`");
        let text = "error: unrecognized subcommand 'chek'\n\n  tip: a similar subcommand exists: 'check'\n\n\
                    Usage: xio [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            flatten(text),
            "unrecognized subcommand 'chek'; a similar subcommand exists: 'check'; try `xio --help`"
        );
    }
}
