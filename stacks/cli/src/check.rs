//! `xio check`: whether a spec makes a stack. Opens nothing.

use std::io::Write;

use serde_json::{Value, json};
use xio_stacks::{Diagnostics, Endpoint, Registry, Stack, StackSpec};

use crate::exit::{Failure, Outcome, say};
use crate::render::{Out, Ui, diagnostics};
use crate::target::Text;

/// Say whether a spec makes a stack that works.
///
/// Reads the spec, types the options, fits the levels together, and checks how the contact of an
/// endpoint is written; opens nothing and looks no name up. Prints the canonical form, or
/// everything that is wrong, each with its place and what to write instead.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Check {
    #[command(flatten)]
    text: Text,
    /// One JSON object on stdout: ok, canonical, diagnostics
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  xio check 'queue(depth=64, high=256KiB)/frame/tcp(nodelay)'
  xio check 'frame/tcp @ 127.0.0.1:7000'    an endpoint is checked too
  xio check --file stack.xio                as written by `xio fmt --indent`
  xio check tcp/queue                       exit code 2, and why

Exit codes: 0 it makes a stack, 2 it does not, 1 the file cannot be read.";

impl Check {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        let text = self.text.read()?;
        let text = text.trim_end();
        let mut out = Out::new();
        match check(text) {
            Ok((canonical, stack, warnings)) => {
                if self.json {
                    let found: Vec<_> = warnings.iter().map(|d| finding(warnings.source(), d)).collect();
                    let unit = stack.caps().unit.name();
                    let line = json!({ "ok": true, "canonical": canonical, "unit": unit, "diagnostics": found });
                    writeln!(out, "{line}")?;
                } else {
                    if !warnings.is_empty() {
                        say(&diagnostics(&warnings, ui));
                    }
                    writeln!(out, "{} {canonical}", ui.out.green("ok:"))?;
                }
                out.done()
            }
            Err(found) if self.json => {
                let list: Vec<_> = found.iter().map(|d| finding(found.source(), d)).collect();
                writeln!(out, "{}", json!({ "ok": false, "diagnostics": list }))?;
                out.done()?;
                Err(Failure::Said)
            }
            Err(found) => Err(found.into()),
        }
    }
}

/// The canonical text, the stack, and the warnings.
fn check(text: &str) -> Result<(String, Stack, Diagnostics), Diagnostics> {
    let (bound, found) = Registry::with_defaults().check_endpoint(text);
    let Some((stack, _)) = bound else { return Err(found) };
    let mut endpoint: Endpoint = text.parse()?;
    if has_secrets(&stack) {
        endpoint.stack = StackSpec::describe(&stack);
    }
    Ok((endpoint.to_string(), stack, found))
}

/// Whether a level was given a secret, which no output may show.
fn has_secrets(stack: &Stack) -> bool {
    stack.levels().any(|l| l.attr().specs().iter().any(|s| s.secret && l.attr().value(s.name) != (s.default)()))
}

/// One finding, with its places as byte offsets and as line and column (from 1, in characters).
fn finding(source: &str, d: &xio_stacks::Diagnostic) -> Value {
    let spans: Vec<_> = d
        .spans
        .iter()
        .map(|(span, note)| {
            let before = &source[..span.start];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            json!({ "start": span.start, "end": span.end, "line": line, "column": column, "note": note })
        })
        .collect();
    json!({ "code": d.code, "severity": d.severity.name(), "what": d.what, "help": d.help, "spans": spans })
}
