//! A stack and where to, as one string: `queue/frame/tcp @ 127.0.0.1:7000`. For a flag, a variable,
//! a log line. Invariant: a printed endpoint reads back to an equal one.
//!
//! The separator is an `@` with white space on both sides, behind a whole spec. A preset's `@`
//! stands where a level is expected and a value's `@` inside parentheses, so neither can be taken
//! for it; in the contact behind it, an `@` means nothing.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use xio_core::{Contact, Stack, planted};

use crate::bind::{self, To};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::registry::Registry;
use crate::spec::{self, StackSpec};

/// A stack with a contact. The two stay separate values; only the text joins them.
///
/// ```
/// use xio_stacks::Endpoint;
/// let e: Endpoint = "queue/frame/tcp @ 127.0.0.1:7000".parse().unwrap();
/// assert_eq!(e.stack.to_string(), "queue/frame/tcp");
/// assert_eq!(e.contact.text(), Some("127.0.0.1:7000"));
/// assert!("tcp@127.0.0.1:7000".parse::<Endpoint>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The stack.
    pub stack: StackSpec,
    /// Where to; [`Contact::None`] where the text has no `@`.
    pub contact: Contact,
}

impl Endpoint {
    /// Joins a stack and a contact.
    pub fn new(stack: StackSpec, contact: impl Into<Contact>) -> Self {
        Self { stack, contact: contact.into() }
    }

    /// Binds the stack, and checks that the contact fits it and the registry allows it.
    ///
    /// # Errors
    /// As [`StackSpec::bind`]; E013 for a contact that a transport cannot read, E042 for one that is
    /// not allowed.
    pub fn bind(&self, registry: &Registry) -> Result<(Stack, Contact), Diagnostics> {
        bind::finish(self.check(registry))
    }

    /// Like [`bind`](Self::bind), with the warnings. Stack and contact are there if there was no error.
    pub fn check(&self, registry: &Registry) -> (Option<(Stack, Contact)>, Diagnostics) {
        self.check_read(Vec::new(), None, registry)
    }

    fn check_read(
        &self,
        mut found: Vec<Diagnostic>,
        span: Option<Range<usize>>,
        registry: &Registry,
    ) -> (Option<(Stack, Contact)>, Diagnostics) {
        if let Err(e) = registry.allows_contact(&self.contact) {
            found.push(Diagnostic::error("E042", e.what()));
        }
        let to = To { contact: &self.contact, span };
        let (stack, found) = bind::check(&self.stack, found, registry, Some(to), &mut |_, _| ());
        (stack.map(|s| (s, self.contact.clone())), found)
    }
}

impl Registry {
    /// Reads an endpoint and binds it: every finding in one report.
    ///
    /// # Errors
    /// All that is wrong with the text, its names and values, how the levels fit, and the contact.
    pub fn endpoint(&self, text: &str) -> Result<(Stack, Contact), Diagnostics> {
        bind::finish(self.check_endpoint(text))
    }

    /// Like [`endpoint`](Self::endpoint), with the warnings. Stack and contact are there if there was
    /// no error.
    ///
    /// ```
    /// let (bound, found) = xio_stacks::Registry::with_defaults().check_endpoint("void @ nowhere");
    /// assert!(bound.is_some() && !found.has_errors());
    /// assert!(found.to_string().contains("`void` takes no contact"));
    /// ```
    pub fn check_endpoint(&self, text: &str) -> (Option<(Stack, Contact)>, Diagnostics) {
        match read(text) {
            Ok((endpoint, soft, span)) => endpoint.check_read(soft, span, self),
            Err(fatal) => (None, fatal),
        }
    }
}

impl FromStr for Endpoint {
    type Err = Diagnostics;

    /// Reads an endpoint.
    ///
    /// # Errors
    /// What is wrong with the spec, as its own `parse`, or with the contact, E013.
    fn from_str(text: &str) -> Result<Self, Diagnostics> {
        let (endpoint, soft, _) = read(text)?;
        if soft.is_empty() { Ok(endpoint) } else { Err(Diagnostics::new(text, soft)) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stack.fmt(f)?;
        if self.contact.is_none() { Ok(()) } else { write!(f, " @ {}", self.contact) }
    }
}

/// The endpoint, what else was found, and where the contact stands.
type Read = (Endpoint, Vec<Diagnostic>, Option<Range<usize>>);

fn read(text: &str) -> Result<Read, Diagnostics> {
    let mut parsed = spec::endpoint(text)?;
    let contact = match parsed.end.map(|start| contact(text, start)) {
        None => Contact::None,
        Some(Ok(contact)) => contact,
        Some(Err(d)) => {
            parsed.soft.push(*d);
            return Err(Diagnostics::new(text, parsed.soft));
        }
    };
    let span = parsed.end.map(|start| {
        let rest = &text[start..];
        start + rest.len() - rest.trim_start().len()..start + rest.trim_end().len()
    });
    Ok((Endpoint { stack: parsed.stack, contact }, parsed.soft, span))
}

fn contact(text: &str, start: usize) -> Result<Contact, Box<Diagnostic>> {
    let rest = &text[start..];
    let none = |span: Range<usize>| {
        let d = Diagnostic::error("E013", "expected a contact behind ` @ `").at(span, "");
        Box::new(d.help("as in `tcp @ 127.0.0.1:7000`; a stack without a contact has no `@`"))
    };
    if rest.trim().is_empty() {
        return Err(none(text.len()..text.len()));
    }
    let read = Contact::parse(rest).map_err(|e| {
        let (what, at, _) = bind::parts(&e, rest);
        let at = at.filter(|n| rest.is_char_boundary(*n)).unwrap_or(0);
        let end = rest[at..]
            .chars()
            .next()
            .map_or(at, |c| at + if planted("a mark ends inside a character") { 1 } else { c.len_utf8() });
        Box::new(Diagnostic::error("E013", what.to_owned()).at(start + at..start + end, ""))
    })?;
    // Two quotes with nothing between are no contact, and without one an endpoint has another text.
    let begin = text.len() - rest.trim_start().len();
    if read.is_none() { Err(none(begin..begin + rest.trim().len())) } else { Ok(read) }
}
