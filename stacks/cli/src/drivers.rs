//! `xio drivers`: what stacks are made of. Everything it says comes from the drivers themselves.

use std::io::Write;

use serde_json::{Value, json};
use xio_stacks::core::attr::Attr;
use xio_stacks::core::caps::{Caps, Unit};
use xio_stacks::core::driver::{Driver, Info, Shape};
use xio_stacks::core::schema::{self, OptionSpec, ValueKind};
use xio_stacks::Registry;

use crate::exit::{Failure, Outcome};
use crate::render::{Out, Table, Ui, wrap};

/// List the drivers, or describe one.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Drivers {
    /// The driver to describe in full
    name: Option<String>,
    /// One JSON object on stdout; for the list, an array of them
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  xio drivers
  xio drivers tcp           its options, and how a contact for it is written
  xio drivers --json | jq -r '.[].name'";

impl Drivers {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        let registry = Registry::with_defaults();
        let mut out = Out::new();
        match &self.name {
            None if self.json => {
                let all: Value = registry.iter().map(|d| object(&**d)).collect();
                writeln!(out, "{all}")?;
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
            Failure::Usage([Some(d.what.as_str()), note, d.help.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
        None => Failure::Usage(format!("`{name}` is no name of a driver; `xio drivers` lists them")),
    }
}

fn list(registry: &Registry, ui: &Ui) -> String {
    let mut table = Table::new(b"<<<<", ["driver", "shape", "unit", "what it is for"]);
    for d in registry.iter() {
        let info = d.info();
        table.row([info.name.into(), shape(info.shape).into(), unit(&**d), info.summary.into()]);
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
    fact("needs", &needs(driver));
    for (with, caps) in gives(driver) {
        fact("gives", &format!("{caps}{with}"));
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
        let facts = facts(o).join(", ");
        out.push_str(&format!("  {}  {}\n", p.cyan(&format!("{:<20}", o.name)), p.dim(&facts)));
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

/// The default as it would be written.
fn default(o: &OptionSpec) -> Option<String> {
    (o.default)().map(|v| if o.secret { "***".into() } else { xio_stacks::SpecValue::from(&v).to_string() })
}

/// What a kind takes, with its bounds.
fn takes(kind: &ValueKind) -> String {
    match *kind {
        ValueKind::Size { min: 0, max: u64::MAX } => kind.to_string(),
        ValueKind::Size { min, max } => format!("{kind} {}..={}", schema::size_text(min), schema::size_text(max)),
        ValueKind::Duration { max } => format!("{kind} up to {}", schema::duration_text(max)),
        ValueKind::Float { min, max } => format!("{kind} {min:?}..={max:?}"),
        _ => kind.to_string(),
    }
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Transport => "transport",
        Shape::Transform => "transform",
        Shape::Branching => "branching",
    }
}

fn place(shape: Shape) -> &'static str {
    match shape {
        Shape::Transport => "the lowest level",
        Shape::Transform => "over one level",
        Shape::Branching => "over branches: the lowest level of its chain",
    }
}

/// What a level needs that fits over everything.
pub(crate) const ANYTHING: &str = "anything";

/// What it needs below, in words.
pub(crate) fn needs(driver: &dyn Driver) -> String {
    needs_of(driver, &*driver.attr())
}

/// What it needs below with these options, in words.
pub(crate) fn needs_of(driver: &dyn Driver, attr: &dyn Attr) -> String {
    let needs = driver.needs(attr);
    let units: Vec<_> = needs.units.iter().map(|u| u.name()).collect();
    let flags = [(needs.reliable, "reliable"), (needs.ordered, "ordered")];
    let flags: Vec<_> = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    match units.len() {
        0 => "nothing below".into(),
        3 if flags.is_empty() => ANYTHING.into(),
        _ => [units.join(" or "), flags.join(", ")].join(", ").trim_end_matches(", ").to_owned(),
    }
}

/// What it gives above: over each unit it takes, and what a switch changes. The first text says
/// under what condition.
fn gives(driver: &dyn Driver) -> Vec<(String, String)> {
    let attr = driver.attr();
    let below = kinds_below(driver, &*attr);
    if below.len() == Unit::COUNT && below.iter().all(|b| of(driver, &*attr, b).as_ref() == b.first()) {
        return vec![(String::new(), "what the level below gives".into())];
    }
    let mut out = Vec::new();
    for b in &below {
        let over = match b.first() {
            Some(c) if below.len() > 1 => format!(" (over {})", c.unit),
            _ => String::new(),
        };
        let Some(caps) = of(driver, &*attr, b) else { continue };
        out.push((over, caps.to_string()));
        for (name, other) in switched(driver) {
            let Some(changed) = of(driver, &*other, b).filter(|c| *c != caps) else { continue };
            out.push((format!(" (with `{name}`)"), changed.to_string()));
        }
    }
    out
}

/// The unit column of the list.
fn unit(driver: &dyn Driver) -> String {
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

/// How many units there are, as a count of [`Unit`].
trait UnitCount {
    const COUNT: usize;
}
impl UnitCount for Unit {
    const COUNT: usize = 3;
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
    driver.caps(attr, below).ok()
}

/// The driver's defaults with one switch turned, for each switch.
fn switched(driver: &dyn Driver) -> Vec<(&'static str, Box<dyn Attr>)> {
    let turn = |o: &OptionSpec| {
        let mut attr = driver.attr();
        attr.set(o.name, schema::Value::Bool(true)).ok()?;
        attr.check().ok()?;
        Some((o.name, attr))
    };
    driver.info().options.iter().filter(|o| o.kind == ValueKind::Bool).filter_map(turn).collect()
}

fn object(driver: &dyn Driver) -> Value {
    let info: &Info = driver.info();
    let needs = driver.needs(&*driver.attr());
    let gives: Vec<_> = gives(driver).into_iter().map(|(with, caps)| format!("{caps}{with}")).collect();
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
        "unit": unit(driver),
        "needs": {
            "units": needs.units.iter().map(|u| u.name()).collect::<Vec<_>>(),
            "reliable": needs.reliable,
            "ordered": needs.ordered,
        },
        "gives": gives,
        "labels": info.labels,
        "contact": Some(info.contact).filter(|c| !c.is_empty()),
        "options": options,
    })
}

/// The doc of an option as one paragraph.
pub(crate) fn doc(o: &OptionSpec) -> String {
    o.doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
