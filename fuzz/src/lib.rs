//! Bodies of the fuzz targets. Each takes any bytes and panics where a promise is broken, so that a
//! fuzzer, a corpus and a plain random test can all drive it. Invariant: nothing here touches the
//! network or the file system.

use xio_stacks::prelude::*;
use xio_stacks::{Endpoint, StackSpec};

/// A spec that parses prints as text that parses to the same, in both forms, and the text needs no
/// escaping in a shell's single quotes; binding it gives a stack or diagnostics whose spans lie in
/// the text.
pub fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<StackSpec>() {
        Ok(spec) => {
            let printed = spec.to_string();
            assert!(!printed.contains(['\'', '$', '`', '!']), "{printed}");
            assert_eq!(printed.parse::<StackSpec>().as_ref(), Ok(&spec), "{printed}");
            let indented = format!("{spec:#}");
            assert_eq!(indented.parse::<StackSpec>().as_ref(), Ok(&spec), "{indented}");
            if let Err(e) = Registry::with_defaults().stack(text) {
                spans(text, &e);
            }
        }
        Err(e) => spans(text, &e),
    }
}

fn spans(text: &str, e: &Diagnostics) {
    for d in e.iter() {
        for (span, _) in &d.spans {
            assert!(text.get(span.clone()).is_some(), "{span:?} is no slice of {text:?}");
        }
    }
    assert!(!e.to_string().is_empty());
}

/// A contact that parses prints as text that parses to the same.
pub fn contact(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(c) = Contact::parse(text) {
        assert_eq!(Contact::parse(&c.to_string()).ok(), Some(c));
    }
}

/// An endpoint that parses prints as text that parses to the same.
pub fn endpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(e) = text.parse::<Endpoint>() {
        assert_eq!(e.to_string().parse::<Endpoint>().ok(), Some(e));
    }
}
