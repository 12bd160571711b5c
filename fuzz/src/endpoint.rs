//! Endpoints: a stack and where to in one text, and what strings from outside may name.

use std::sync::LazyLock;

use xio_stacks::prelude::*;
use xio_stacks::{Allow, Endpoint, StackSpec};

use crate::spec::spans;
use crate::{DRIVERS, Target};

pub(crate) const TARGET: Target = Target {
    name: "endpoint",
    body: run,
    covers: &["stacks/src/endpoint.rs", "stacks/src/bind/contact.rs"],
    fault: "a mark ends inside a character",
};

/// What strings from outside may name here.
static FEW: LazyLock<Registry> = LazyLock::new(|| {
    let less = Allow::drivers(["tcp", "frame", "pick"]).options("tcp", ["nodelay"]).contacts(["10.0.0.1", "host:"]);
    Registry::with_defaults().only(less.contacts_if(|c| c.len() < 40))
});

/// An endpoint that parses prints as text that parses to the same; marks lie in the text; a registry that
/// allows less binds no more, and nothing that it does not allow.
fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let registry = &*DRIVERS;
    let (bound, found) = registry.check_endpoint(text);
    spans(text, &found);
    assert!(bound.is_none() == found.has_errors(), "neither a stack nor an error, or both: {found}");
    let (allowed, refused) = FEW.check_endpoint(text);
    spans(text, &refused);
    if let Some((stack, contact)) = &allowed {
        assert!(bound.is_some(), "allowed by the smaller registry only");
        assert!(stack.levels().all(|l| ["tcp", "frame", "pick"].contains(&l.driver().info().name)));
        leaves(contact, &mut |c| assert!((c.starts_with("10.0.0.1") || c.starts_with("host:")) && c.len() < 40, "{c}"));
    }
    match text.parse::<Endpoint>() {
        Ok(e) => {
            let printed = e.to_string();
            assert_eq!(printed.parse::<Endpoint>().ok().as_ref(), Some(&e), "{printed}");
            assert_eq!(e.bind(registry).is_ok(), bound.is_some(), "{printed}");
            // A spec alone is an endpoint without a contact.
            if e.contact.is_none() {
                assert_eq!(text.parse::<StackSpec>().ok(), Some(e.stack), "{text}");
            }
        }
        Err(e) => spans(text, &e),
    }
}

fn leaves(contact: &Contact, f: &mut impl FnMut(&str)) {
    match contact {
        Contact::Text(t) => f(t),
        Contact::Branches(map) => map.values().for_each(|c| leaves(c, f)),
        _ => {}
    }
}
