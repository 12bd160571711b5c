//! Where to: the address side of an open, kept apart from the stack. Only the transport that gets a
//! leaf text can read it; here it is text, or a map of branch labels to contacts.
//! Invariant: `Contact::parse(c.to_string()) == c`.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::sync::planted;

/// Longest contact text in bytes.
pub const MAX_CONTACT: usize = 16 * 1024;
/// Deepest nesting of branch maps.
pub const MAX_CONTACT_DEPTH: usize = 32;

/// Where a stack connects to or listens on.
///
/// ```
/// use xio_core::Contact;
/// let one: Contact = "127.0.0.1:7000".parse().unwrap();
/// let map: Contact = "{wifi: 10.0.0.1:7000, cell: 192.168.1.1:7000}".parse().unwrap();
/// assert_eq!(one.text(), Some("127.0.0.1:7000"));
/// assert_eq!(map.branch("cell").unwrap().text(), Some("192.168.1.1:7000"));
/// assert_eq!(map.to_string(), "{cell: 192.168.1.1:7000, wifi: 10.0.0.1:7000}");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contact {
    /// None: the transport needs no address, or takes its default.
    #[default]
    None,
    /// The text that one transport reads.
    Text(Arc<str>),
    /// One contact for each branch label.
    Branches(BTreeMap<String, Self>),
}

impl Contact {
    /// A contact of one leaf; an empty text is none.
    pub fn new(text: impl AsRef<str>) -> Self {
        match text.as_ref() {
            "" => Self::None,
            text => Self::Text(Arc::from(text)),
        }
    }

    /// The text for one transport.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(t) => Some(t),
            _ => None,
        }
    }

    /// The contact of a branch. A plain text serves every branch.
    pub fn branch(&self, label: &str) -> Option<&Self> {
        match self {
            Self::Branches(map) => map.get(label).or_else(|| map.get("*")),
            other => Some(other),
        }
    }

    /// Sets the contact of a branch, turning `self` into a map.
    #[must_use]
    pub fn with_branch(self, label: impl Into<String>, contact: Self) -> Self {
        let mut map = match self {
            Self::Branches(map) => map,
            _ => BTreeMap::new(),
        };
        map.insert(label.into(), contact);
        Self::Branches(map)
    }

    /// Whether there is no address at all.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Reads a contact: a text, or `{label: contact, …}`. An empty text is [`Contact::None`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidContact`] with the byte offset and what was expected.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_CONTACT {
            return Err(bad(text.len(), "the contact is longer than 16 KiB"));
        }
        let mut p = Parser { text, at: 0 };
        let c = p.contact(0, true)?;
        p.space();
        if p.at < text.len() {
            return Err(bad(p.at, "expected the end of the contact"));
        }
        Ok(c)
    }
}

impl FromStr for Contact {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        Self::parse(s)
    }
}

impl From<&Self> for Contact {
    fn from(c: &Self) -> Self {
        c.clone()
    }
}

impl From<SocketAddr> for Contact {
    fn from(a: SocketAddr) -> Self {
        Self::new(a.to_string())
    }
}

impl From<()> for Contact {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Text(t) if is_bare(t) => f.write_str(t),
            Self::Text(t) => {
                f.write_str("\"")?;
                for c in t.chars() {
                    match c {
                        '"' | '\\' => write!(f, "\\{c}")?,
                        c if c.is_control() => write!(f, "\\u{{{:x}}}", c as u32)?,
                        c => write!(f, "{c}")?,
                    }
                }
                f.write_str("\"")
            }
            Self::Branches(map) => {
                f.write_str("{")?;
                for (i, (label, c)) in map.iter().enumerate() {
                    write!(f, "{}{label}: ", if i > 0 { ", " } else { "" })?;
                    if c.is_none() { f.write_str("\"\"")? } else { write!(f, "{c}")? }
                }
                f.write_str("}")
            }
        }
    }
}

/// A contact or an address that becomes one when somebody reads it: few do, and every accept has two.
#[derive(Default)]
pub(crate) struct Unread {
    address: Option<SocketAddr>,
    contact: OnceCell<Contact>,
}

impl Unread {
    pub(crate) fn read(&self) -> &Contact {
        self.contact.get_or_init(|| self.address.map(Contact::from).unwrap_or_default())
    }
}

impl From<Contact> for Unread {
    fn from(c: Contact) -> Self {
        Self { address: None, contact: OnceCell::from(c) }
    }
}

impl From<Option<SocketAddr>> for Unread {
    fn from(address: Option<SocketAddr>) -> Self {
        Self { address, contact: OnceCell::new() }
    }
}

/// Whether a text can stand without quotes: nothing that a map uses, no space at its ends.
fn is_bare(t: &str) -> bool {
    !t.is_empty()
        && t.trim() == t
        && !t.starts_with(['"', '{'])
        && !t.contains([',', '}', '"', '\\'])
        && !t.chars().any(char::is_control)
}

fn bad(at: usize, what: &str) -> Error {
    Error::new(ErrorKind::InvalidContact).detail(format!("{what} (at byte {at})"))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, c: char) -> bool {
        let hit = self.text[self.at..].starts_with(c);
        self.at += if hit { c.len_utf8() } else { 0 };
        hit
    }

    fn contact(&mut self, depth: usize, top: bool) -> Result<Contact, Error> {
        self.space();
        if depth > MAX_CONTACT_DEPTH {
            return Err(bad(self.at, "branches are nested more than 32 deep"));
        }
        if self.eat('{') {
            return self.map(depth);
        }
        if self.eat('"') {
            return self.quoted();
        }
        let rest = &self.text[self.at..];
        let end = if top { rest.len() } else { rest.find([',', '}']).unwrap_or(rest.len()) };
        let leaf = rest[..end].trim();
        let start = self.at;
        self.at += end;
        if leaf.is_empty() {
            return if top { Ok(Contact::None) } else { Err(bad(start, "expected a contact")) };
        }
        match leaf.find([',', '}', '"', '\\']) {
            Some(i) => Err(bad(start + i, "this character needs quotes around the contact")),
            None if leaf.chars().any(char::is_control) => Err(bad(start, "a control character in the contact")),
            None => Ok(Contact::new(leaf)),
        }
    }

    fn quoted(&mut self) -> Result<Contact, Error> {
        let open = self.at - 1;
        let mut out = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(Contact::new(out));
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    Some((_, 'u')) => {
                        let rest = &self.text[self.at + i + 2..];
                        let hex = rest.strip_prefix('{').and_then(|r| r.split_once('}')).map(|(h, _)| h);
                        let c = hex.and_then(|h| u32::from_str_radix(h, 16).ok()).and_then(char::from_u32);
                        let (Some(hex), Some(c)) = (hex, c) else {
                            return Err(bad(self.at + i, "expected `\\u{…}` with a character's number"));
                        };
                        out.push(c);
                        let more = usize::from(planted("an escape takes the next character along"));
                        for _ in 0..hex.len() + 2 + more {
                            chars.next();
                        }
                    }
                    _ => return Err(bad(self.at + i, "unknown escape")),
                },
                c => out.push(c),
            }
        }
        Err(bad(open, "this quote is never closed"))
    }

    fn map(&mut self, depth: usize) -> Result<Contact, Error> {
        let open = self.at - 1;
        let mut map = BTreeMap::new();
        loop {
            self.space();
            if self.eat('}') {
                break;
            }
            let rest = &self.text[self.at..];
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '*')))
                .unwrap_or(rest.len());
            if end == 0 {
                return Err(bad(self.at, "expected a branch label"));
            }
            let label = rest[..end].to_owned();
            let label_at = self.at;
            self.at += end;
            self.space();
            if !self.eat(':') {
                return Err(bad(self.at, "expected `:` after the branch label"));
            }
            let c = self.contact(depth + 1, false)?;
            if map.insert(label, c).is_some() {
                return Err(bad(label_at, "this branch label stands twice"));
            }
            self.space();
            if !self.eat(',') {
                if self.eat('}') {
                    break;
                }
                let (at, what) = if self.at >= self.text.len() {
                    (open, "this brace is never closed")
                } else {
                    (self.at, "expected `,` or `}`")
                };
                return Err(bad(at, what));
            }
        }
        if map.is_empty() {
            return Err(bad(open, "a branch map needs at least one branch"));
        }
        Ok(Contact::Branches(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contacts() -> impl Strategy<Value = Contact> {
        let leaf = prop_oneof![
            Just(Contact::None),
            any::<String>().prop_map(Contact::new),
            "[a-z0-9.]{1,12}:[0-9]{1,5}".prop_map(Contact::new),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-z0-9_+-]{1,6}", inner, 1..4).prop_map(Contact::Branches)
        })
    }

    proptest! {
        #[test]
        fn printed_contacts_read_back(c in contacts()) {
            prop_assert_eq!(Contact::parse(&c.to_string()).unwrap(), c);
        }

        #[test]
        fn garbage_never_panics(s in any::<String>(), t in "[{}:,\"a*\\\\ u]{0,40}") {
            let _ = Contact::parse(&s);
            let _ = Contact::parse(&t);
        }
    }

    #[test]
    fn an_address_reads_as_its_contact_and_none_as_none() {
        let at: SocketAddr = "[::1]:7".parse().unwrap();
        assert_eq!(*Unread::from(Some(at)).read(), Contact::new("[::1]:7"));
        assert_eq!(*Unread::from(Contact::new("x")).read(), Contact::new("x"));
        assert!(Unread::from(None).read().is_none() && Unread::default().read().is_none());
    }

    #[test]
    fn bad_contacts_say_where() {
        for (text, at) in [("{a: x", "byte 0"), ("{a x}", "byte 3"), ("{a: x, a: y}", "byte 7"), ("\"abc", "byte 0")] {
            let e = Contact::parse(text).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidContact);
            assert!(e.to_string().contains(at), "{text}: {e}");
        }
        assert!(Contact::parse(&"{a:".repeat(5000)).is_err());
    }
}
