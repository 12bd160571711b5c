//! Whether a contact fits the stack it is for: each transport is asked about what reaches it, as far
//! as that can be told without opening anything. Invariant: what is wrong with one text is reported
//! once, however many levels it reaches.

use std::ops::Range;

use xio_core::stack::LevelView;
use xio_core::{Contact, Error, Stack};

use crate::diagnostic::{Diagnostic, MAX_FOUND};
use crate::spec::shown;

/// A contact, and where its text stands in the source, if it does.
#[derive(Clone)]
pub(crate) struct To<'a> {
    pub(crate) contact: &'a Contact,
    pub(crate) span: Option<Range<usize>>,
}

/// What is wrong with the contact for this stack; `source` is the text that `to.span` points into.
pub(super) fn check(stack: &Stack, to: &To<'_>, source: &str, found: &mut Vec<Diagnostic>) {
    if to.contact.is_none() {
        return;
    }
    let text = to.span.clone().and_then(|span| source.get(span));
    let mut asking = Asking { levels: stack.levels().collect(), to, text, found };
    if !asking.down(0, to.contact) {
        asking.idle(0, to.contact);
    }
}

/// Takes an error about a contact apart: what is wrong, at which byte of `leaf`, what to write.
pub(crate) fn parts<'e>(e: &'e Error, leaf: &str) -> (&'e str, Option<usize>, Option<&'e str>) {
    let quoted = e.what().strip_prefix('`').and_then(|w| w.strip_prefix(leaf)).and_then(|w| w.strip_prefix("`: "));
    let text = quoted.unwrap_or_else(|| e.what());
    let placed = text.split_once(" (at byte ").and_then(|(what, rest)| {
        let (n, rest) = rest.split_once(')')?;
        Some((what, n.parse().ok(), rest.strip_prefix("; ")))
    });
    placed.unwrap_or_else(|| match text.split_once("; ") {
        Some((what, help)) => (what, None, Some(help)),
        None => (text, None, None),
    })
}

struct Asking<'a> {
    levels: Vec<LevelView<'a>>,
    to: &'a To<'a>,
    /// The contact as it is written.
    text: Option<&'a str>,
    found: &'a mut Vec<Diagnostic>,
}

impl Asking<'_> {
    /// Follows a contact down from a level. Whether a transport takes one.
    fn down(&mut self, at: usize, contact: &Contact) -> bool {
        let below: Vec<usize> = (at + 1..self.levels.len()).filter(|i| self.levels[*i].above() == Some(at)).collect();
        if below.is_empty() {
            return self.transport(at, contact);
        }
        let labels: Vec<_> = below.iter().map(|i| self.levels[*i].label().map(str::to_owned)).collect();
        if let Contact::Branches(map) = contact
            && labels.iter().any(Option::is_some)
        {
            for label in map.keys().filter(|l| *l != "*" && !labels.iter().any(|x| x.as_ref() == Some(l))) {
                let d = Diagnostic::warning("W002", format!("there is no branch {} for its contact", shown(label)));
                self.note(d, label);
            }
        }
        let mut taken = false;
        for (child, label) in below.into_iter().zip(labels) {
            let Some(label) = label else {
                taken |= self.down(child, contact);
                continue;
            };
            match contact.branch(&label) {
                None => {
                    let d = Diagnostic::warning("W002", format!("there is no contact for branch {}", shown(&label)));
                    self.note(d.help(format!("add `{label}: …`, or `*: …` for all that are not named")), "");
                    taken = true;
                }
                Some(c) => {
                    let takes = self.down(child, c);
                    // One that is for this branch alone.
                    if !takes && matches!(contact, Contact::Branches(map) if map.contains_key(&label)) {
                        self.idle(child, c);
                    }
                    taken |= takes || matches!(contact, Contact::Branches(_));
                }
            }
        }
        taken
    }

    fn transport(&mut self, at: usize, contact: &Contact) -> bool {
        let (info, attr) = (self.levels[at].driver().info(), self.levels[at].attr());
        if contact.is_none() {
            return true;
        }
        if let Err(e) = attr.check_contact(contact) {
            let leaf = contact.to_string();
            let (what, byte, help) = parts(&e, &leaf);
            let what = format!("{} is not a contact of `{}`: {what}", shown(&leaf), info.name);
            let mut d = Diagnostic::error("E013", what);
            d.help = help.map(str::to_owned);
            let place = self.exact(&leaf).zip(byte.filter(|n| leaf.is_char_boundary(*n)));
            if let Some((span, n)) = place {
                // Where the text ends the place is behind its last character.
                let len = leaf.get(n..).and_then(|r| r.chars().next()).map_or(0, char::len_utf8);
                self.push(d.at(span.start + n..span.start + n + len, ""));
            } else {
                self.note(d, &leaf);
            }
        }
        !info.contact.is_empty()
    }

    /// Nobody takes the contact that goes down from this level.
    fn idle(&mut self, at: usize, contact: &Contact) {
        let mut at = at;
        while let Some(i) = (at + 1..self.levels.len()).find(|i| self.levels[*i].above() == Some(at)) {
            at = i;
        }
        let what = format!("`{}` takes no contact", self.levels[at].driver().info().name);
        self.note(Diagnostic::warning("W002", what).help("leave it out"), &contact.to_string());
    }

    /// Adds a finding about a part of the contact; its place is all of it where that is not clear.
    fn note(&mut self, d: Diagnostic, part: &str) {
        match self.exact(part).or_else(|| self.to.span.clone()) {
            Some(span) => self.push(d.at(span, "")),
            None => self.push(d),
        }
    }

    fn push(&mut self, d: Diagnostic) {
        if self.found.len() < MAX_FOUND && !self.found.contains(&d) {
            self.found.push(d);
        }
    }

    /// Where a part of the contact stands in the source, if it stands there once.
    fn exact(&self, part: &str) -> Option<Range<usize>> {
        let (whole, text) = (self.to.span.clone()?, self.text?);
        let mut places = text.match_indices(part).map(|(i, _)| i);
        let start = whole.start + places.next().filter(|_| !part.is_empty())?;
        places.next().is_none().then(|| start..start + part.len())
    }
}
