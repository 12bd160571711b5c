//! Contacts: read, print, ask for branches.

use xio_core::{Contact, ErrorKind};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "contact",
    body: run,
    covers: &["xio-core/src/contact.rs"],
    fault: "an escape takes the next character along",
};

/// A contact that parses prints as text that parses to the same, and has its branches; any other says what
/// is wrong and where. Any text can be a leaf.
fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Contact::parse(text) {
        Ok(c) => {
            reads_back(&c);
            if let Contact::Branches(map) = &c {
                for (label, inner) in map {
                    assert_eq!(c.branch(label), Some(inner));
                }
                assert_eq!(c.branch("no such label"), map.get("*"));
            } else {
                assert_eq!(c.branch("any"), Some(&c));
                assert_eq!(c.text().unwrap_or_default().is_empty(), c.is_none());
            }
            reads_back(&Contact::from(&c).with_branch("z", Contact::new("here")));
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::InvalidContact);
            assert!(e.to_string().contains("at byte"), "{e}");
        }
    }
    if text.len() < 1000 {
        reads_back(&Contact::new(text));
        reads_back(&Contact::from(()).with_branch("a", Contact::new(text)).with_branch("b-1", Contact::None));
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        assert_eq!(Contact::from(address), address.to_string().parse().unwrap());
    }
}

fn reads_back(c: &Contact) {
    let printed = c.to_string();
    assert_eq!(Contact::parse(&printed).ok().as_ref(), Some(c), "{printed}");
}
