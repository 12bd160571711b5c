//! `xio contract`: the driver contract, rule by rule, on a stack or a driver.

use std::io::Write;

use serde_json::Value;
use xio_stacks::core::contract;
use xio_stacks::core::driver::Shape;
use xio_stacks::{Registry, StackSpec};
use xio_testkit::{Options, Report, Subject, Verdict};

use crate::exit::{Failure, Outcome};
use crate::render::{Out, Ui};
use crate::target;

/// Run the rules of the driver contract on a stack.
///
/// A stack is tested as it stands, with a probe between every two levels, on a simulated network and
/// in virtual time. A single driver that needs others below it gets them from the kit. A rule that
/// does not apply names the property of the stack that makes it so.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Contract {
    /// The stack, like queue/frame/tcp, or one driver, like frame
    spec: Option<String>,
    /// Run these rules only, by id
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    rule: Vec<String>,
    /// Seeds that each rule runs with
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 2, 3])]
    seeds: Vec<u64>,
    /// Print the rules themselves
    #[arg(long, conflicts_with = "spec")]
    list: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  xio contract frame
  xio contract 'queue(early)/frame/tcp' --rule C1,C6,D1
  xio contract tcp --json
  xio contract --list                       the rules, in words

Exit codes: 0 every rule holds, 1 one is broken, 2 bad usage or spec.";

impl Contract {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        if self.list {
            return list(self.json);
        }
        let Some(spec) = &self.spec else {
            return Err(Failure::Usage("there is no stack; `xio contract frame`, or --list for the rules".into()));
        };
        if let Some(id) = self.rule.iter().find(|id| contract::rule(&id.to_uppercase()).is_none()) {
            return Err(Failure::Usage(format!("there is no rule `{id}`; `xio contract --list` has them all")));
        }
        let options = Options::default().with_seeds(self.seeds.clone()).with_rules(self.rule.clone());
        let report = xio_testkit::run(&subject(spec, ui)?, &options);
        let mut out = Out::new();
        if self.json {
            writeln!(out, "{}", report.to_json())?;
        } else {
            table(&mut out, &report, ui)?;
        }
        out.done()?;
        if report.is_good() { Ok(()) } else { Err(Failure::Failed(broken(&report))) }
    }
}

/// The stack as it stands; a single driver that needs others below gets them from the kit.
fn subject(text: &str, ui: &Ui) -> Outcome<Subject> {
    let registry = Registry::with_defaults();
    let alone = text.parse::<StackSpec>().is_ok()
        && registry
            .get(text.split('(').next().unwrap_or(text).trim())
            .is_some_and(|d| d.info().shape != Shape::Transport)
        && !text.contains(['/', '{']);
    if !alone {
        let target = target::endpoint(text, ui)?;
        let bottom = target.stack.levels().last();
        if let Some(l) = bottom.filter(|l| {
            l.driver().info().name == "udp"
                && l.attr().value("greet") != Some(xio_stacks::core::schema::Value::Bool(true))
        }) {
            return Err(Failure::Usage(format!(
                "a link of `{}` comes with its first datagram, and rules open handles that say nothing yet: \
                 run them on `udp(greet, amplify=0, idle=0s)`",
                l.id()
            )));
        }
        // Where nothing is said a network has a place for each; a name would be the same for all.
        let networked = bottom.is_some_and(|l| ["tcp", "udp"].contains(&l.driver().info().name));
        let at = if target.contact.is_none() && networked { "127.0.0.1:0".parse()? } else { target.contact };
        return Ok(Subject::stack(target.stack.root()).named(text).at(at));
    }
    // Its options are read as part of a stack that fits.
    let tails = ["/tcp", "/frame/tcp", "{a: tcp, b: tcp}"];
    let mut first = None;
    for tail in tails {
        match registry.stack(&format!("{text}{tail}")) {
            Ok(stack) => {
                if let Some(top) = stack.levels().next() {
                    return Ok(Subject::transform(top.driver().clone()).with_attr(top.attr().copy()).named(text));
                }
            }
            Err(e) => {
                first.get_or_insert(e);
            }
        }
    }
    Err(first.map_or_else(|| Failure::Usage(format!("`{text}` makes no stack")), Into::into))
}

fn table(out: &mut Out, report: &Report, ui: &Ui) -> Outcome {
    let (pass, not_applicable, fail) = report.counts();
    writeln!(out, "{}", ui.out.bold(&report.subject))?;
    for r in &report.rows {
        let id = r.rule.id;
        match &r.verdict {
            Verdict::Pass => writeln!(out, "  {id:4} {}  {}", ui.out.green("pass"), r.rule.title)?,
            Verdict::NotApplicable { cap } => {
                writeln!(out, "  {id:4} {}   {} {}", ui.out.dim("n/a"), r.rule.title, ui.out.dim(&format!("({cap})")))?;
            }
            Verdict::Fail { rule, message } => {
                writeln!(out, "  {id:4} {}  {}", ui.out.red("FAIL"), r.rule.title)?;
                let which = if *rule == id { String::new() } else { format!("{rule}: ") };
                writeln!(out, "             {which}{message}")?;
            }
            other => writeln!(out, "  {id:4} {}  {}", other.word(), r.rule.title)?,
        }
    }
    writeln!(out, "{pass} pass, {not_applicable} not applicable, {fail} fail")?;
    Ok(())
}

fn broken(report: &Report) -> String {
    let ids: Vec<_> = report.rows.iter().filter(|r| !r.verdict.is_good()).map(|r| r.rule.id).collect();
    format!("`{}` breaks {}", report.subject, ids.join(", "))
}

fn list(json: bool) -> Outcome {
    let mut out = Out::new();
    if json {
        let rules: Vec<Value> = contract::RULES
            .iter()
            .map(|r| serde_json::json!({ "id": r.id, "title": r.title, "text": r.text }))
            .collect();
        writeln!(out, "{}", Value::from(rules))?;
    } else {
        for r in contract::RULES {
            writeln!(out, "{:4} {}\n     {}", r.id, r.title, r.text)?;
        }
    }
    out.done()
}
