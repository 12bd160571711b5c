//! What is refused when a stack is bound.

use xio_core::caps::{Branch, Caps, Unit};
use xio_core::stack::FaultKind;
use xio_core::{ErrorKind, LevelNode, Stack};
use xio_drivers::{loop_, pick};

use super::bed::leaf;

#[test]
fn caps_are_the_weakest_and_units_must_agree() {
    let d = loop_::driver();
    let message = loop_::Options::default().with_message(true);
    let stream = loop_::Options::default();
    let both = |a: &loop_::Options, b: &loop_::Options| {
        Stack::new(LevelNode::new(pick::driver()).branch("a", leaf(&d, a)).branch("b", leaf(&d, b)))
    };
    assert_eq!(*both(&message, &message).unwrap().caps(), Caps::message());
    let caps = both(&stream, &stream).unwrap().caps().clone();
    assert!(caps.unit == Unit::Stream && !caps.ordered);
    let faults = both(&stream, &message).unwrap_err();
    assert!(matches!(&faults[0].kind, FaultKind::Refused(e) if e.kind() == ErrorKind::Misfit));
    let text = faults[0].to_string();
    assert!(text.contains("`a` a stream, `b` a message"), "{text}");
    #[cfg(feature = "frame")]
    {
        let merged = LevelNode::new(pick::driver()).branch("a", leaf(&d, &stream)).branch("b", leaf(&d, &stream));
        assert!(Stack::new(LevelNode::new(xio_drivers::frame::driver()).over(merged)).is_err());
    }
}

/// What `pick` with this default says of branches with these labels.
fn refusal(default: Option<&str>, labels: &[Option<&str>]) -> Option<String> {
    let driver = pick::driver();
    let options = pick::Options::default().with_default(default.map(Into::into));
    let caps = Caps::stream();
    let below: Vec<_> = labels.iter().map(|l| Branch::new(*l, &caps)).collect();
    driver.caps(&options, &below).err().map(|e| e.to_string())
}

#[test]
fn a_default_that_no_branch_has_is_refused() {
    let ab = [Some("a"), Some("b")];
    assert_eq!(refusal(Some("b"), &ab), None);
    let text = refusal(Some("z"), &ab).unwrap();
    assert!(text.contains("`default` names the branch `z`; there are a, b"), "{text}");
    // A path is no label, and `*` takes every name, as does a lone branch without one.
    assert!(refusal(Some("a.b"), &ab).is_some());
    assert_eq!(refusal(Some("z"), &[Some("a"), Some("*")]), None);
    assert_eq!(refusal(Some("z"), &[None]), None);
}

#[test]
fn labels_stand_once_and_are_not_left_out() {
    let text = refusal(None, &[Some("a"), None]).unwrap();
    assert!(text.contains("needs a label"), "{text}");
    let d = loop_::driver();
    let one = || leaf(&d, &loop_::Options::default());
    let faults = Stack::new(LevelNode::new(pick::driver()).branch("a", one()).branch("a", one())).unwrap_err();
    assert!(matches!(&faults[0].kind, FaultKind::DuplicateLabel(l) if l == "a"));
    assert_eq!((faults.len(), faults[0].level), (1, 0));
    assert_eq!(faults[0].to_string(), "two branches have the label `a`");
}
