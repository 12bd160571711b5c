//! `xio fmt`: a spec in its canonical form. Reads the language only; drivers may be unknown.

use std::io::Write;

use xio_stacks::Endpoint;

use crate::exit::{Failure, Outcome};
use crate::render::Out;
use crate::target;

/// Print a spec in its canonical form.
///
/// One line without needless space and quotes, or with --indent a level a line, for files. The
/// drivers need not exist. Comments are not kept.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Fmt {
    /// The spec, or an endpoint; `-` or none reads it from stdin
    spec: Option<String>,
    /// Read the spec from a file
    #[arg(long, short, value_name = "PATH", conflicts_with = "spec")]
    file: Option<std::path::PathBuf>,
    /// A level a line where the spec is long or has branches
    #[arg(long, short)]
    indent: bool,
    /// Print nothing; exit code 2 where the spec is not in this form
    #[arg(long)]
    check: bool,
}

const HELP: &str = "\
Examples:
  xio fmt 'queue( depth = 64 )/frame / tcp(nodelay=true,)'
                                           prints queue(depth=64)/frame/tcp(nodelay)
  xio fmt --indent 'pick{wifi: frame/tcp(device=wlan0), *: frame/tcp}'
  xio fmt --indent - <stack.xio >new.xio";

impl Fmt {
    pub(crate) fn run(&self) -> Outcome {
        let text = target::read(self.spec.as_deref(), self.file.as_deref())?;
        let text = text.trim_end();
        let endpoint: Endpoint = text.parse()?;
        let form = if self.indent { format!("{endpoint:#}") } else { endpoint.to_string() };
        if self.check {
            return if form == text { Ok(()) } else { Err(Failure::Usage(format!("not in this form: {form}"))) };
        }
        let mut out = Out::new();
        writeln!(out, "{form}")?;
        out.done()
    }
}
