//! A stack and where to, as commands take them: `SPEC CONTACT` or one `ENDPOINT`.
//! Invariant: what comes out is bound; a fault of either text points into that text.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use xio_stacks::{Contact, Endpoint, Registry, Stack, StackSpec};

use crate::exit::{Failure, Outcome, failed, say};
use crate::log;
use crate::render::{Ui, diagnostics};
use crate::words::bottoms;

/// Most bytes of a spec that are read from a file or stdin: a little more than the language allows,
/// so that the parser says what is wrong.
const MAX_TEXT: u64 = 128 * 1024;

/// The stack and contact of a command that opens or listens.
#[derive(Args)]
pub(crate) struct TargetArgs {
    /// The stack, like 'queue/frame/tcp', or stack and contact in one: 'frame/tcp @ 127.0.0.1:7000'
    #[arg(value_name = "SPEC|ENDPOINT")]
    spec: String,
    /// Where to; how it is written is up to the transport (`xio drivers tcp`)
    #[arg(allow_hyphen_values = true)]
    contact: Option<String>,
    /// Log on stderr what passes each `trace` of the stack; where it has none, what passes its top
    #[arg(long)]
    trace: bool,
}

/// A bound stack and where to.
pub(crate) struct Target {
    pub(crate) stack: Stack,
    pub(crate) spec: StackSpec,
    pub(crate) contact: Contact,
}

impl TargetArgs {
    /// Reads and binds both.
    pub(crate) fn bind(&self, ui: &Ui) -> Outcome<Target> {
        let mut target = endpoint(&self.spec, ui)?;
        if self.trace {
            log::begin();
            if !target.stack.levels().any(|l| l.driver().info().name == log::DRIVER) {
                // It gives what is below it, so it fits on top of anything.
                target = endpoint(&format!("{}/{}", log::DRIVER, self.spec), ui)?;
            }
        }
        if let Some(text) = &self.contact {
            if !target.contact.is_none() {
                return Err(two_contacts(&target.contact, text));
            }
            target.contact = text.parse()?;
        }
        Ok(target)
    }
}

impl Target {
    /// That there is a contact, where every transport connects to one.
    pub(crate) fn has_contact(&self, command: &str) -> Outcome {
        let registry = Registry::with_defaults();
        let bottoms = bottoms(&self.stack);
        let takes = |name: &&str| registry.get(name).is_some_and(|d| !d.info().contact.is_empty());
        if !self.contact.is_none() || !bottoms.iter().all(takes) {
            return Ok(());
        }
        let name = bottoms.first().copied().unwrap_or_default();
        let spec = &self.spec;
        Err(Failure::Usage(format!(
            "there is no contact: say where to, as in `xio {command} '{spec}' CONTACT`; `xio drivers {name}` says how"
        )))
    }
}

/// The failure of a command that was given a contact in the endpoint and another one.
pub(crate) fn two_contacts(one: &Contact, other: &str) -> Failure {
    Failure::Usage(format!("two contacts: `{one}` in the endpoint and `{other}` behind it; leave one of them out"))
}

/// Reads and binds an endpoint, and says what it warns of; a spec alone is one without a contact.
pub(crate) fn endpoint(text: &str, ui: &Ui) -> Outcome<Target> {
    let (bound, found) = Registry::with_defaults().check_endpoint(text);
    let Some((stack, contact)) = bound else { return Err(found.into()) };
    if !found.is_empty() {
        say(&diagnostics(&found, ui));
    }
    let spec = text.parse::<Endpoint>()?.stack;
    Ok(Target { stack, spec, contact })
}

/// A spec as an argument, from a file, or from stdin.
#[derive(Args)]
pub(crate) struct Text {
    /// The spec, or an endpoint; `-` reads it from stdin
    #[arg(value_name = "SPEC", required_unless_present = "file", conflicts_with = "file")]
    spec: Option<String>,
    /// Read the spec from a file
    #[arg(long, short, value_name = "PATH")]
    file: Option<PathBuf>,
}

impl Text {
    /// The text.
    pub(crate) fn read(&self) -> Outcome<String> {
        read(self.spec.as_deref(), self.file.as_deref())
    }
}

/// The text of an argument, a file, or stdin where the argument is `-` or there is neither.
pub(crate) fn read(spec: Option<&str>, file: Option<&Path>) -> Outcome<String> {
    let mut text = String::new();
    match (spec, file) {
        (_, Some(path)) => {
            let open = std::fs::File::open(path);
            open.and_then(|f| f.take(MAX_TEXT).read_to_string(&mut text))
                .map_err(failed(format!("cannot read `{}`", path.display())))?;
        }
        (Some("-") | None, None) => {
            std::io::stdin().take(MAX_TEXT).read_to_string(&mut text).map_err(failed("cannot read stdin"))?;
        }
        (Some(spec), None) => text.push_str(spec),
    }
    Ok(text)
}
