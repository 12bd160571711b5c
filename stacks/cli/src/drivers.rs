//! `xio drivers`: what stacks are made of. Everything it says comes from the drivers themselves.

use std::io::Write;

use serde_json::{Value, json};
use xio_stacks::Registry;
use xio_stacks::core::attr::Attr;
use xio_stacks::core::caps::{Branch, Caps, Needs};
use xio_stacks::core::driver::{Driver, Info, Shape};
use xio_stacks::core::schema::{OptionSpec, Value as Setting, ValueKind};

use crate::exit::{Failure, Outcome};
use crate::render::{Out, Table, Ui, wrap};
use crate::words::{self, default, doc, flags, shape, takes, unit};

/// List the drivers, or describe one.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Drivers {
    /// The driver to describe in full
    name: Option<String>,
    /// A JSON object a driver on stdout, one a line
    #[arg(long)]
    json: bool,
}

/// How many kinds of units there are.
const UNITS: usize = Needs::ANY.units.len();

const HELP: &str = "\
Examples:
  xio drivers
  xio drivers tcp           its options, and how a contact for it is written
  xio drivers --json | jq -r .name";

impl Drivers {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        let registry = Registry::with_defaults();
        let mut out = Out::new();
        match &self.name {
            None if self.json => {
                for driver in registry.iter() {
                    writeln!(out, "{}", object(&**driver))?;
                }
            }
            None => write!(out, "{}", list(&registry, ui))?,
            Some(name) => {
                // A spec of this name alone is the way to a suggestion.
                let Some(driver) = registry.get(name) else { return Err(unknown(&registry, name)) };
                match self.json {
                    true => writeln!(out, "{}", object(&**driver))?,
                    false => write!(out, "{}", page(&**driver, ui))?,
                }
            }
        }
        out.done()
    }
}

fn unknown(registry: &Registry, name: &str) -> Failure {
    let found = registry.stack(name).err();
    let d = found.as_ref().and_then(|f| f.iter().find(|d| matches!(d.code, "E020" | "E021")));
    match d {
        Some(d) => {
            let note = d.spans.first().map(|(_, note)| note.as_str()).filter(|n| !n.is_empty());
            let parts: Vec<_> = [Some(d.what.as_str()), note, d.help.as_deref()].into_iter().flatten().collect();
            Failure::Usage(parts.join("; ").replace("?; ", "? "))
        }
        None => Failure::Usage(format!("`{name}` is no name of a driver; `xio drivers` lists them")),
    }
}

fn list(registry: &Registry, ui: &Ui) -> String {
    let mut table = Table::new(b"<<<<", ["driver", "shape", "unit", "what it is for"]);
    for d in registry.iter() {
        let info = d.info();
        table.row([info.name.into(), shape(info.shape).into(), units(&**d), info.summary.into()]);
    }
    let tail = "A stack is levels of these, top first, a transport at the bottom: 'queue/frame/tcp'.\n\
                `xio drivers NAME` describes one.";
    format!("{}\n{}\n", table.render("", ui.out), ui.out.dim(tail))
}

fn page(driver: &dyn Driver, ui: &Ui) -> String {
    let info = driver.info();
    let p = ui.out;
    let mut out = format!("{}: {}\n\n", p.bold(info.name), info.summary);
    let mut fact = |name: &str, text: &str| {
        for (i, line) in wrap(text, ui.width - 12).iter().enumerate() {
            out.push_str(&format!("  {}  {line}\n", p.dim(&format!("{:<8}", if i == 0 { name } else { "" }))));
        }
    };
    fact("shape", &format!("{}, {}", shape(info.shape), place(info.shape)));
    fact("needs", &words::needs(driver, &*driver.attr()));
    for (n, text) in gives(driver).iter().enumerate() {
        fact(if n == 0 { "gives" } else { "" }, text);
    }
    if !info.labels.is_empty() {
        fact("branches", &info.labels.join(", "));
    }
    let contact = if info.contact.is_empty() { "none" } else { info.contact };
    if info.shape == Shape::Transport {
        fact("contact", contact);
    }
    if info.options.is_empty() {
        return out + "\nNo options.\n";
    }
    out.push('\n');
    for o in info.options {
        for (n, line) in wrap(&facts(o).join(", "), ui.width - 24).iter().enumerate() {
            let name = format!("{:<20}", if n == 0 { o.name } else { "" });
            out.push_str(&format!("  {}  {}\n", p.cyan(&name), p.dim(line)));
        }
        for line in wrap(o.doc, ui.width - 8) {
            out.push_str(&format!("      {line}\n"));
        }
    }
    out
}

/// What an option takes, its default, and what is special about it.
fn facts(o: &OptionSpec) -> Vec<String> {
    let mut out = vec![takes(&o.kind)];
    out.push(default(o).map_or_else(|| "unset".into(), |d| format!("default {d}")));
    if o.runtime {
        out.push("may change while open".into());
    }
    if o.secret {
        out.push("secret".into());
    }
    out
}

fn place(shape: Shape) -> &'static str {
    match shape {
        Shape::Transport => "the lowest level",
        Shape::Transform => "over one level",
        Shape::Branching => "over branches: the lowest level of its chain",
    }
}

/// What it gives above: over each unit it takes, and what a switch changes.
fn gives(driver: &dyn Driver) -> Vec<String> {
    let attr = driver.attr();
    let below = kinds_below(driver, &*attr);
    if below.len() == UNITS && below.iter().all(|b| of(driver, &*attr, b).as_ref() == b.first()) {
        let branching = driver.info().shape == Shape::Branching;
        return vec![if branching { "what its branches give" } else { "what the level below gives" }.into()];
    }
    let text = |caps: &Caps| format!("{}, {}", unit(caps), flags(caps));
    let mut out = Vec::new();
    for b in &below {
        let over = match b.first() {
            Some(c) if below.len() > 1 => format!("over a {}: ", c.unit),
            _ => String::new(),
        };
        let Some(caps) = of(driver, &*attr, b) else { continue };
        out.push(format!("{over}{}", text(&caps)));
        for (name, other) in switched(driver) {
            let changed = of(driver, &*other, b).filter(|c| *c != caps);
            out.extend(changed.map(|c| format!("{over}with `{name}`: {}", text(&c))));
        }
    }
    out
}

/// The unit column of the list.
fn units(driver: &dyn Driver) -> String {
    let attr = driver.attr();
    let below = kinds_below(driver, &*attr);
    let mut units: Vec<String> = Vec::new();
    let mut same = true;
    for b in &below {
        let attrs = std::iter::once(attr.copy()).chain(switched(driver).into_iter().map(|(_, a)| a));
        for caps in attrs.filter_map(|a| of(driver, &*a, b)) {
            same &= b.first().is_some_and(|c| c.unit == caps.unit);
            let text = match b.first() {
                Some(c) if c.unit != caps.unit => format!("{} to {}", c.unit, caps.unit),
                _ => caps.unit.to_string(),
            };
            if !units.contains(&text) {
                units.push(text);
            }
        }
    }
    let branching = driver.info().shape == Shape::Branching;
    if same && below.len() > 1 { if branching { "as branches" } else { "as below" }.into() } else { units.join(", ") }
}

/// What may lie below it: nothing for a transport, else one level of each unit that fits.
fn kinds_below(driver: &dyn Driver, attr: &dyn Attr) -> Vec<Vec<Caps>> {
    if driver.info().shape == Shape::Transport {
        return vec![Vec::new()];
    }
    let needs = driver.needs(attr);
    let all = [Caps::stream(), Caps::message(), Caps::datagram(1472)];
    all.into_iter().filter(|c| needs.fit(c).is_ok()).map(|c| vec![c]).collect()
}

fn of(driver: &dyn Driver, attr: &dyn Attr, below: &[Caps]) -> Option<Caps> {
    let below: Vec<_> = below.iter().map(|c| Branch::new(None, c)).collect();
    driver.caps(attr, &below).ok()
}

/// The driver's defaults with one switch turned, for each switch.
fn switched(driver: &dyn Driver) -> Vec<(&'static str, Box<dyn Attr>)> {
    let turn = |o: &OptionSpec| {
        let mut attr = driver.attr();
        attr.set(o.name, Setting::Bool(true)).ok()?;
        attr.check().ok()?;
        Some((o.name, attr))
    };
    driver.info().options.iter().filter(|o| o.kind == ValueKind::Bool).filter_map(turn).collect()
}

fn object(driver: &dyn Driver) -> Value {
    let info: &Info = driver.info();
    let needs = driver.needs(&*driver.attr());
    let options: Vec<_> = info
        .options
        .iter()
        .map(|o| {
            json!({
                "name": o.name, "takes": takes(&o.kind), "default": default(o), "doc": doc(o),
                "runtime": o.runtime, "secret": o.secret,
            })
        })
        .collect();
    json!({
        "name": info.name,
        "summary": info.summary,
        "shape": shape(info.shape),
        "unit": units(driver),
        "needs": {
            "units": needs.units.iter().map(|u| u.name()).collect::<Vec<_>>(),
            "reliable": needs.reliable,
            "ordered": needs.ordered,
        },
        "gives": gives(driver),
        "labels": info.labels,
        "contact": Some(info.contact).filter(|c| !c.is_empty()),
        "options": options,
    })
}
