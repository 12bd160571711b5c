//! What strings from outside may name: drivers, options, contacts. Invariant: an [`Allow`] only ever
//! takes away; what it does not mention it leaves as it was, except drivers, which it lists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A list of what is allowed, for [`Registry::only`](crate::Registry::only).
#[derive(Default)]
pub struct Allow {
    drivers: Option<BTreeSet<String>>,
    options: BTreeMap<String, BTreeSet<String>>,
    contacts: Vec<Contacts>,
}

enum Contacts {
    Prefixes(Vec<String>),
    If(Box<dyn Fn(&str) -> bool + Send + Sync>),
}

impl Allow {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// These drivers, with all their options and any contact.
    pub fn drivers<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self { drivers: Some(names.into_iter().map(Into::into).collect()), ..Self::default() }
    }

    /// Of this driver only these options. `id=` is always allowed.
    #[must_use]
    pub fn options<S: Into<String>>(mut self, driver: impl Into<String>, names: impl IntoIterator<Item = S>) -> Self {
        self.options.insert(driver.into(), names.into_iter().map(Into::into).collect());
        self
    }

    /// Only contacts that begin with one of these. A prefix ends at a border: `10.0.0.1` allows
    /// `10.0.0.1:80` and not `10.0.0.100:80`, `/run/app` allows `/run/app/x` and not `/run/apple`.
    /// A prefix that itself ends in `:`, `/` or `.` is such a border. A contact with a path segment
    /// `..` is never allowed by a prefix.
    ///
    /// Text is compared, not what it resolves to: `10.` also allows the host name `10.example.org`.
    /// Use [`contacts_if`](Self::contacts_if) where that matters. No contact at all is allowed.
    #[must_use]
    pub fn contacts<S: Into<String>>(mut self, prefixes: impl IntoIterator<Item = S>) -> Self {
        self.contacts.push(Contacts::Prefixes(prefixes.into_iter().map(Into::into).collect()));
        self
    }

    /// Only contacts whose text this function accepts; it is asked for each leaf.
    #[must_use]
    pub fn contacts_if(mut self, accept: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.contacts.push(Contacts::If(Box::new(accept)));
        self
    }

    pub(crate) fn permits_driver(&self, name: &str) -> bool {
        self.drivers.as_ref().is_none_or(|set| set.contains(name))
    }

    pub(crate) fn permits_option(&self, driver: &str, option: &str) -> bool {
        self.options.get(driver).is_none_or(|set| set.contains(option))
    }

    pub(crate) fn permits_contact(&self, text: &str) -> bool {
        self.contacts.iter().all(|rule| match rule {
            Contacts::Prefixes(list) => {
                !text.split('/').any(|segment| segment == "..") && list.iter().any(|p| begins_with(text, p))
            }
            Contacts::If(accept) => accept(text),
        })
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Allow {
    fn from(names: [S; N]) -> Self {
        Self::drivers(names)
    }
}

impl fmt::Debug for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = &mut f.debug_struct("Allow");
        out.field("drivers", &self.drivers).field("options", &self.options).finish_non_exhaustive()
    }
}

fn begins_with(text: &str, prefix: &str) -> bool {
    match text.strip_prefix(prefix) {
        Some("") => true,
        Some(rest) => prefix.ends_with([':', '/', '.']) || rest.starts_with([':', '/']),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_border() {
        let a = Allow::all().contacts(["10.0.0.1", "192.168.", "/run/app"]);
        for (text, ok) in [
            ("10.0.0.1:80", true),
            ("10.0.0.1", true),
            ("10.0.0.100:80", false),
            ("10.0.0.1.evil.example:80", false),
            ("192.168.7.7:1", true),
            ("/run/app/x", true),
            ("/run/apple", false),
            ("/run/app/../../etc/passwd", false),
            ("", false),
        ] {
            assert_eq!(a.permits_contact(text), ok, "{text}");
        }
        assert!(!Allow::all().contacts([""; 0]).permits_contact("x"));
        assert!(Allow::all().contacts([""]).permits_contact(""));
    }
}
