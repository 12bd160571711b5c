//! Puts what the core says of a tree of levels into words with places and a fix. Invariant: of the
//! faults that only follow from another one none is reported.

use std::error::Error as _;
use std::ops::Range;

use xio_core::caps::NoBranch;
use xio_core::driver::Shape;
use xio_core::stack::{Fault, FaultKind};
use xio_core::{Error, ErrorKind};

use super::{Binder, list};
use crate::diagnostic::{Diagnostic, Severity};
use crate::spec::{self, shown};
use crate::suggest::nearest;

impl Binder<'_> {
    /// Reports faults of `Stack::new`, which counts levels as `self.levels` does.
    pub(super) fn report(&mut self, faults: &[Fault]) {
        for fault in faults {
            if let Some(d) = self.fault(fault, faults) {
                self.found.push(d);
            }
        }
        // A stack that is refused says why, whatever was left out above.
        if let (Some(fault), false) = (faults.first(), self.found.iter().any(|d| d.severity == Severity::Error)) {
            self.found.push(Diagnostic::error("E039", fault.to_string()));
        }
    }

    fn fault(&self, fault: &Fault, all: &[Fault]) -> Option<Diagnostic> {
        let at = fault.level;
        let (level, name, span) = (self.levels.get(at)?, self.name(at), self.span(at));
        let d = match &fault.kind {
            FaultKind::TransportNotLast => self.transport_not_last(at, all),
            FaultKind::NothingBelow if self.turned(at, all).is_some() => return None,
            FaultKind::NothingBelow => {
                let d = Diagnostic::error("E031", format!("`{name}` needs a level below it")).at(span, "");
                match self.with_transport(at) {
                    Some(text) => d.help(format!("end with a transport, as in `{text}`")),
                    None => d.help("end with a transport"),
                }
            }
            FaultKind::NoBranches => {
                let d = Diagnostic::error("E032", format!("`{name}` takes no branches")).at(span, "");
                d.help(format!("it stands over one level: `{name}/…`"))
            }
            FaultKind::BranchesMissing => {
                let labels = match level.driver.info().labels {
                    [] => "a: …, b: …".to_owned(),
                    known => known.iter().map(|l| format!("{l}: …")).collect::<Vec<_>>().join(", "),
                };
                let d = Diagnostic::error("E033", format!("`{name}` needs branches")).at(span, "");
                d.help(format!("write `{name}{{{labels}}}`"))
            }
            FaultKind::Unfit { wanted, given } => {
                let below = fault.other?;
                if level.is_suspect || self.is_suspect(below) || self.misfits_below(below, all) {
                    return None;
                }
                let what = format!("`{name}` needs {wanted} below; `{}` gives {given}", self.name(below));
                Diagnostic::error("E034", what)
                    .at(span, format!("needs {wanted} below"))
                    .at(self.span(below), format!("gives {given}"))
                    .help(self.fit_help(at, below, wanted, given))
            }
            FaultKind::Refused(e) if no_branch(e).is_some() => self.no_branch(at, no_branch(e)?),
            FaultKind::Refused(_) if self.is_suspect(at) || self.misfits_below(at, all) => return None,
            FaultKind::Refused(e) => {
                let why = if e.what().is_empty() { e.to_string() } else { e.what().to_owned() };
                let whose = if e.kind() == ErrorKind::Misfit { "what lies below it" } else { "its options" };
                Diagnostic::error("E035", format!("`{name}` refuses {whose}: {why}")).at(span, "")
            }
            FaultKind::DuplicateId(id) => {
                let d =
                    Diagnostic::error("E027", format!("the id `{id}` stands twice")).at(self.id_span(at), "again here");
                match self.levels.iter().position(|l| l.id == *id) {
                    Some(first) if first != at => d.at(self.id_span(first), "first here"),
                    _ => d,
                }
            }
            // Reading has said so: text is the only way to it.
            FaultKind::DuplicateLabel(_) => return None,
            _ => Diagnostic::error("E039", format!("`{name}`: {fault}")).at(span, ""),
        };
        Some(d)
    }

    /// An option of the level names a branch that is not there.
    fn no_branch(&self, at: usize, absent: &NoBranch) -> Diagnostic {
        let given = self.levels[at].spec.options().iter().find(|o| o.key() == absent.option);
        let span = given.map_or_else(|| self.span(at), |o| o.value_span.range());
        let labels = || absent.labels.iter().map(String::as_str);
        let note = nearest(&absent.label, labels()).map(|n| format!("did you mean `{n}`?")).unwrap_or_default();
        let what = format!("`{}` has no branch {} for `{}`", self.name(at), shown(&absent.label), absent.option);
        let help = format!("its branches are {}", list(labels()));
        Diagnostic::error("E038", what).at(span, note).help(help)
    }

    fn transport_not_last(&self, at: usize, all: &[Fault]) -> Diagnostic {
        let name = self.name(at);
        let what = format!("`{name}` is a transport and must be the lowest level");
        let d = Diagnostic::error("E030", what).at(self.span(at), "");
        if !self.levels[at].spec.branches().is_empty() {
            return d.help("a transport has no branches: nothing lies below it");
        }
        let chain = &self.chains[self.levels[at].chain];
        let d = match chain.last() {
            Some(&last) if self.turned(last, all) == Some(at) => {
                d.at(self.span(last), format!("`{}` needs a level below it", self.name(last)))
            }
            _ => d,
        };
        let is_misplaced = |i: &usize| {
            let mut here = all.iter().filter(|f| f.level == *i);
            here.any(|f| matches!(f.kind, FaultKind::TransportNotLast))
        };
        if chain.iter().find(|i| is_misplaced(i)) != Some(&at) {
            // The first one of the chain has the help for all of it.
            return d;
        }
        match self.reordered(chain, true) {
            Some(text) => d.help(format!("specs are written top first; did you mean `{text}`?")),
            None if chain.iter().filter(|i| self.levels[**i].driver.info().shape == Shape::Transport).count() > 1 => {
                d.help("a path has one transport, its last level")
            }
            None => d.help("specs are written top first, the transport last"),
        }
    }

    /// The first misplaced transport of the chain that ends with `last`: what `last` lacks stands
    /// above it.
    fn turned(&self, last: usize, all: &[Fault]) -> Option<usize> {
        let chain = &self.chains[self.levels[last].chain];
        let is = |i: usize, kind: fn(&FaultKind) -> bool| all.iter().any(|f| f.level == i && kind(&f.kind));
        let lacks = chain.last() == Some(&last) && is(last, |k| matches!(k, FaultKind::NothingBelow));
        chain.iter().copied().find(|i| lacks && is(*i, |k| matches!(k, FaultKind::TransportNotLast)))
    }

    fn fit_help(&self, at: usize, below: usize, wanted: &str, given: &str) -> String {
        let between = self.converters(at, below);
        if !between.is_empty() {
            return format!("put {} between them", list(between.into_iter()).replace(", ", " or "));
        }
        match self.reordered(&self.chains[self.levels[at].chain], false) {
            Some(text) => format!("upside down? `{text}` fits"),
            None => format!("no registered driver makes {wanted} of {given}"),
        }
    }

    /// Whether the level or one below it is wrong for another reason.
    fn is_suspect(&self, at: usize) -> bool {
        self.levels[at..self.levels[at].end].iter().any(|l| l.is_suspect)
    }

    /// Whether two levels from `at` down do not fit, so that what `at` gives is not known.
    fn misfits_below(&self, at: usize, all: &[Fault]) -> bool {
        let below = at..self.levels[at].end;
        all.iter().any(|f| below.contains(&f.level) && matches!(f.kind, FaultKind::Unfit { .. }))
    }

    fn name(&self, at: usize) -> &str {
        self.levels[at].spec.name()
    }

    fn span(&self, at: usize) -> Range<usize> {
        self.levels[at].spec.name_span.range()
    }

    /// Where the id of a level was given, or its name.
    fn id_span(&self, at: usize) -> Range<usize> {
        let given = self.levels[at].spec.options().iter().find(|o| o.key() == spec::ID);
        given.map_or_else(|| self.span(at), |o| o.value_span.range())
    }
}

/// What a driver refused its branches for, if an option names one that is not there.
fn no_branch(e: &Error) -> Option<&NoBranch> {
    e.source()?.downcast_ref()
}
