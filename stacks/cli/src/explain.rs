//! `xio explain`: a bound stack drawn as a tree, with what binding decided.
//! Invariant: everything comes from the bound stack, so it is what an open would use; secrets are
//! never shown.

use std::io::Write;

use serde_json::{Value, json};
use xio_stacks::core::driver::{Intercepts, OpKind, Role, Shape};
use xio_stacks::core::handle::{CLOSE_TIME, MAX_BYTES, MAX_OPS};
use xio_stacks::core::schema::{OptionSpec, duration_text, size_words};
use xio_stacks::core::stack::LevelView;
use xio_stacks::{Stack, StackSpec};

use crate::exit::Outcome;
use crate::render::{Out, Ui, wrap};
use crate::target::{self, Text};
use crate::words::{ANYTHING, default, doc, flags, needs, unit, value};

/// Draw a stack: levels, ids, options, what each gives and needs.
///
/// Shows the stack as it would be opened: every option with its value, which of them differ from
/// their defaults, what each level gives to the one above and needs from the one below, which
/// operations it sees, and the limits of a handle.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Explain {
    #[command(flatten)]
    text: Text,
    /// Say what each option is for
    #[arg(long, short)]
    docs: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  xio explain 'queue(depth=64)/frame/tcp(nodelay)'
  xio explain --docs tcp                 and what each option is for
  xio explain 'pick{wifi: frame/tcp(device=wlan0), *: frame/tcp}'
  xio explain queue/frame/tcp --json | jq '.levels[].id'";

impl Explain {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        let text = self.text.read()?;
        let target = target::endpoint(text.trim_end(), ui)?;
        let mut out = Out::new();
        if self.json {
            writeln!(out, "{}", object(&target))?;
        } else {
            let drawing = Drawing { ui, docs: self.docs, levels: target.stack.levels().collect(), out: String::new() };
            write!(out, "{}", drawing.draw(&target))?;
        }
        out.done()
    }
}

struct Drawing<'a> {
    ui: &'a Ui,
    docs: bool,
    levels: Vec<LevelView<'a>>,
    out: String,
}

impl Drawing<'_> {
    fn draw(mut self, target: &target::Target) -> String {
        let p = self.ui.out;
        let shown = StackSpec::describe(&target.stack);
        self.line("", &p.bold(&shown.to_string()));
        if !target.contact.is_none() {
            self.line("", &format!("{} {}", p.dim("contact"), target.contact));
        }
        self.line("", "");
        self.line("", &p.dim("your program"));
        self.edge("", 0, None);
        self.level(0, "");
        self.line("", "");
        for (name, text) in limits(&target.stack) {
            for (n, line) in wrap(&text, self.ui.width.saturating_sub(10)).iter().enumerate() {
                let name = format!("{:<8}", if n == 0 { name } else { "" });
                self.line("", &format!("{}  {line}", p.dim(&name)));
            }
        }
        self.out
    }

    fn line(&mut self, indent: &str, text: &str) {
        let line = format!("{indent}{text}");
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// The line between two levels: what goes over it.
    fn edge(&mut self, indent: &str, below: usize, above: Option<usize>) {
        let p = self.ui.out;
        let caps = self.levels[below].caps();
        let text = match above.map(|a| self.levels[a]) {
            None => format!("gets {}, {}", unit(caps), flags(caps)),
            Some(above) => {
                let changed =
                    if flags(above.caps()) == flags(caps) { String::new() } else { format!(", {}", flags(caps)) };
                let needed = match needs(&**above.driver(), above.attr()) {
                    any if any == ANYTHING => String::new(),
                    needed => format!("; needs {needed}"),
                };
                format!("gets {}{changed}{needed}", unit(caps))
            }
        };
        let width = self.ui.width.saturating_sub(visible(indent) + 2);
        for line in wrap(&text, width) {
            self.line(indent, &format!("{} {}", p.dim("│"), p.dim(&line)));
        }
    }

    /// A level and all below it.
    fn level(&mut self, at: usize, indent: &str) {
        let p = self.ui.out;
        let level = self.levels[at];
        let info = level.driver().info();
        let id = if level.id() == info.name { String::new() } else { format!("  id {}", level.id()) };
        let used = visible(indent) + info.name.len() + id.len() + 2;
        // The summary is the first to go where there is no room.
        let summary = if used + info.summary.len() <= self.ui.width { info.summary } else { "" };
        self.line(indent, &format!("{}{id}  {}", p.cyan(info.name), p.dim(summary)));
        let below: Vec<usize> = (at + 1..self.levels.len()).filter(|i| self.levels[*i].above() == Some(at)).collect();
        let bar = if below.is_empty() { "    ".to_owned() } else { format!("{}   ", p.dim("│")) };
        let inside = format!("{indent}{bar}");
        self.options(level, &inside);
        self.sees(level, &inside);
        match below[..] {
            [] => {}
            [one] if self.levels[one].label().is_none() => {
                self.edge(indent, one, Some(at));
                self.level(one, indent);
            }
            _ => {
                let last = below.len() - 1;
                for (n, child) in below.into_iter().enumerate() {
                    let label = self.levels[child].label().unwrap_or("*").to_owned();
                    let (knee, rest) = if n == last { ("└─", "   ") } else { ("├─", "│  ") };
                    self.line(indent, &format!("{} {}", p.dim(knee), p.yellow(&format!("{label}:"))));
                    let inner = format!("{indent}{}", p.dim(rest));
                    self.edge(&inner, child, Some(at));
                    self.level(child, &inner);
                }
            }
        }
    }

    /// The options that have a value, then the names of the others.
    fn options(&mut self, level: LevelView<'_>, indent: &str) {
        let p = self.ui.out;
        let width = self.ui.width.saturating_sub(visible(indent));
        let (set, unset): (Vec<&OptionSpec>, Vec<&OptionSpec>) =
            level.attr().specs().iter().partition(|o| self.docs || level.attr().value(o.name).is_some());
        let name_width = set.iter().map(|o| o.name.len()).max().unwrap_or(0);
        let written = |o: &OptionSpec| level.attr().value(o.name).map_or_else(|| "-".into(), |v| value(o, &v));
        let shown: Vec<_> = set.iter().map(|o| written(o)).collect();
        let value_width = shown.iter().map(|v| v.chars().count()).max().unwrap_or(0).min(24);
        for (o, shown) in set.iter().zip(shown) {
            let is_default = level.attr().value(o.name) == (o.default)();
            let note = match default(o) {
                _ if is_default => String::new(),
                Some(default) => format!("default {default}"),
                None => "default unset".into(),
            };
            let name = format!("{:<name_width$}", o.name);
            let text = format!("{shown:<value_width$}");
            let text = if is_default { text } else { p.bold(&text) };
            let line =
                if note.is_empty() { format!("{name}  {text}") } else { format!("{name}  {text}  {}", p.dim(&note)) };
            self.line(indent, &line);
            if self.docs {
                for line in wrap(o.doc, width.saturating_sub(4)) {
                    self.line(indent, &format!("    {}", p.dim(&line)));
                }
            }
        }
        if !unset.is_empty() {
            let names: Vec<_> = unset.iter().map(|o| o.name).collect();
            for line in wrap(&format!("unset: {}", names.join(", ")), width) {
                self.line(indent, &p.dim(&line));
            }
        }
    }

    /// Which ops a level sees, and how many at once.
    fn sees(&mut self, level: LevelView<'_>, indent: &str) {
        let p = self.ui.out;
        let mut text = format!("sees {}", seen(level));
        let one = one_at_a_time(level);
        if !one.is_empty() {
            text.push_str(&format!("; one {} at a time", one.join(", one ")));
        }
        if batches(level) {
            text.push_str("; takes batches of messages");
        }
        let width = self.ui.width.saturating_sub(visible(indent) + 2);
        for line in wrap(&text, width) {
            self.line(indent, &p.dim(&line));
        }
    }
}

/// Columns of text with colours in it.
fn visible(text: &str) -> usize {
    let mut n = 0;
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '\x1b' => in_code = true,
            'm' if in_code => in_code = false,
            _ if in_code => {}
            _ => n += 1,
        }
    }
    n
}

fn intercepts(level: LevelView<'_>) -> Intercepts {
    level.driver().intercepts(level.attr(), Role::Handle)
}

/// The ops a level sees, in words.
fn seen(level: LevelView<'_>) -> String {
    let i = intercepts(level);
    let kinds = OpKind::ALL.into_iter().filter(|k| !matches!(k, OpKind::Accept | OpKind::Listen));
    let words: Vec<String> = kinds
        .filter_map(|k| match (i.down(k), i.up(k)) {
            (true, true) => Some(format!("{k} both ways")),
            (true, false) => Some(k.to_string()),
            (false, true) => Some(format!("{k} coming back")),
            (false, false) => None,
        })
        .collect();
    if words.is_empty() { "nothing: it costs nothing".into() } else { words.join(", ") }
}

/// Of which direction the engine lets one op in at a time.
fn one_at_a_time(level: LevelView<'_>) -> Vec<&'static str> {
    let i = intercepts(level);
    let gated = |kind, flag| (i.down(kind) || i.up(kind)) && !i.contains(flag);
    [(OpKind::Read, Intercepts::CONCURRENT_READS), (OpKind::Write, Intercepts::CONCURRENT_WRITES)]
        .into_iter()
        .filter(|(kind, flag)| gated(*kind, *flag))
        .map(|(kind, _)| kind.name())
        .collect()
}

fn batches(level: LevelView<'_>) -> bool {
    intercepts(level).contains(Intercepts::BATCHES)
}

/// What bounds a handle of the stack.
fn limits(stack: &Stack) -> Vec<(&'static str, String)> {
    let bytes = size_words(MAX_BYTES as u64);
    let message = match (stack.caps().unit.has_borders(), stack.caps().max_message) {
        (false, _) => "none: a stream has no borders".into(),
        (true, Some(n)) => format!("at most {}", size_words(n as u64)),
        (true, None) => "no limit of its own".into(),
    };
    vec![
        (
            "limits",
            format!("{MAX_OPS} operations and {bytes} under way in each direction, unless the open says otherwise"),
        ),
        ("message", message),
        ("close", format!("an orderly one has {}, unless it says otherwise", duration_text(CLOSE_TIME))),
    ]
}

fn object(target: &target::Target) -> Value {
    let levels: Vec<_> = target
        .stack
        .levels()
        .map(|l| {
            let i = intercepts(l);
            let kinds = |f: fn(Intercepts, OpKind) -> bool| -> Vec<_> {
                OpKind::ALL.into_iter().filter(|k| f(i, *k)).map(OpKind::name).collect()
            };
            let options: Vec<_> = l
                .attr()
                .specs()
                .iter()
                .map(|o| {
                    json!({
                        "name": o.name,
                        "value": l.attr().value(o.name).map(|v| value(o, &v)),
                        "is_default": l.attr().value(o.name) == (o.default)(),
                        "doc": doc(o),
                    })
                })
                .collect();
            json!({
                "id": l.id(),
                "driver": l.driver().info().name,
                "above": l.above(),
                "label": l.label(),
                "gives": l.caps().to_string(),
                "unit": l.caps().unit.name(),
                "max_message": l.caps().max_message,
                "needs": if l.driver().info().shape == Shape::Transport { Value::Null } else { needs(&**l.driver(), l.attr()).into() },
                "sees_down": kinds(Intercepts::down),
                "sees_up": kinds(Intercepts::up),
                "one_at_a_time": one_at_a_time(l),
                "batches": batches(l),
                "options": options,
            })
        })
        .collect();
    json!({
        "spec": StackSpec::describe(&target.stack).to_string(),
        "contact": Some(target.contact.to_string()).filter(|c| !c.is_empty()),
        "unit": target.stack.caps().unit.name(),
        "gives": target.stack.caps().to_string(),
        "limits": { "ops": MAX_OPS, "bytes": MAX_BYTES, "close_seconds": CLOSE_TIME.as_secs_f64() },
        "levels": levels,
    })
}
