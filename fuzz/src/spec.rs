//! Specs: read, print, bind.

use xio_stacks::{Diagnostics, StackSpec};

use crate::{DRIVERS, Target};

pub(crate) const TARGET: Target = Target {
    name: "spec",
    body: run,
    covers: &[
        "stacks/src/spec/parse.rs",
        "stacks/src/spec/print.rs",
        "stacks/src/spec/scan.rs",
        "stacks/src/spec/value.rs",
    ],
    fault: "a list of one is printed without its brackets",
};

/// A spec that parses prints as text that parses to the same, in both forms, and the text needs no
/// escaping in a shell's single quotes; binding either gives the same, a stack or diagnostics whose spans
/// lie in the text.
fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let registry = &*DRIVERS;
    let (bound, found) = registry.check(text);
    spans(text, &found);
    assert!(bound.is_none() == found.has_errors(), "neither a stack nor an error, or both: {found}");
    match text.parse::<StackSpec>() {
        Ok(spec) => {
            let printed = spec.to_string();
            assert!(!printed.contains(['\'', '$', '`', '!']), "{printed}");
            assert_eq!(printed.parse::<StackSpec>().as_ref(), Ok(&spec), "{printed}");
            let indented = format!("{spec:#}");
            assert_eq!(indented.parse::<StackSpec>().as_ref(), Ok(&spec), "{indented}");
            assert_eq!(registry.stack(&printed).is_ok(), bound.is_some(), "{printed}");
        }
        Err(e) => spans(text, &e),
    }
}

/// Every mark stands on a piece of the text, and the report can be drawn.
pub(crate) fn spans(text: &str, found: &Diagnostics) {
    for d in found.iter() {
        for (span, _) in &d.spans {
            // What is too long to be shown has no text to mark.
            assert!(text.get(span.clone()).is_some(), "{span:?} is no slice of {text:?}");
        }
    }
    assert!(found.is_empty() || !found.to_string().is_empty());
}
