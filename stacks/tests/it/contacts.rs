//! Contacts are checked with the stack they are for, as far as nothing has to be opened for it.
#![cfg(all(feature = "tcp", feature = "frame", feature = "pick", feature = "loop", feature = "void"))]

use insta::assert_snapshot;
use proptest::prelude::*;
use xio_stacks::{Contact, Endpoint, Registry, StackSpec};

fn findings(text: &str) -> String {
    let (bound, found) = Registry::with_defaults().check_endpoint(text);
    assert_eq!(bound.is_some(), !found.has_errors(), "{found}");
    found.to_string()
}

#[test]
fn a_contact_that_no_open_could_take_is_an_error() {
    let texts = [
        "frame/tcp @ ][",
        "tcp(bind=10.0.0.5) @ [::1]:1",
        "tcp @ {a: x:1}",
        "loop @ \"loop:\"",
        // Once, though it reaches two; in its place, though it stands among others.
        "pick{a: tcp, b: tcp} @ svc",
        "pick{a: tcp, b: tcp, c: loop} @ {a: svc:1, b: svc:99999, c: x}",
        "pick{a: tcp, b: loop} @ {a: \"svc:x\", b: x}",
    ];
    assert_snapshot!(texts.map(findings).join("\n---\n"), @r#"
    error[E013]: `][` is not a contact of `tcp`: `]` cannot stand in a host name
     --> 1:13
      |
    1 | frame/tcp @ ][
      |             ^
      = help: write a name or an address
    ---
    error[E013]: `[::1]:1` is not a contact of `tcp`: [::1]:1 cannot be reached from `bind=10.0.0.5`: one is IPv4, the other IPv6
     --> 1:22
      |
    1 | tcp(bind=10.0.0.5) @ [::1]:1
      |                      ^^^^^^^
    ---
    error[E013]: `{a: x:1}` is not a contact of `tcp`: a map of branches, but `tcp` has none
     --> 1:7
      |
    1 | tcp @ {a: x:1}
      |       ^^^^^^^^
      = help: write `host:port`
    ---
    error[E013]: `loop:` is not a contact of `loop`: the name is empty
     --> 1:9
      |
    1 | loop @ "loop:"
      |         ^^^^^
    ---
    error[E013]: `svc` is not a contact of `tcp`: the port is missing
     --> 1:27
      |
    1 | pick{a: tcp, b: tcp} @ svc
      |                           ^
      = help: write `host:port`
    ---
    error[E013]: `svc:99999` is not a contact of `tcp`: this is no port
     --> 1:51
      |
    1 | pick{a: tcp, b: tcp, c: loop} @ {a: svc:1, b: svc:99999, c: x}
      |                                                   ^
      = help: a port is a number 0..=65535
    ---
    error[E013]: `svc:x` is not a contact of `tcp`: this is no port
     --> 1:34
      |
    1 | pick{a: tcp, b: loop} @ {a: "svc:x", b: x}
      |                                  ^
      = help: a port is a number 0..=65535
    "#);
}

#[test]
fn a_contact_that_nobody_takes_is_a_warning() {
    let texts = [
        "frame/void @ somewhere",
        "pick{a: tcp, b: void} @ {a: x:1, b: y}",
        "pick{a: tcp, b: tcp} @ {a: x:1, cell: y:1}",
    ];
    assert_snapshot!(texts.map(findings).join("\n---\n"), @r"
    warning[W002]: `void` takes no contact
     --> 1:14
      |
    1 | frame/void @ somewhere
      |              ^^^^^^^^^
      = help: leave it out
    ---
    warning[W002]: `void` takes no contact
     --> 1:37
      |
    1 | pick{a: tcp, b: void} @ {a: x:1, b: y}
      |                                     ^
      = help: leave it out
    ---
    warning[W002]: there is no contact for branch `b`
     --> 1:24
      |
    1 | pick{a: tcp, b: tcp} @ {a: x:1, cell: y:1}
      |                        ^^^^^^^^^^^^^^^^^^^
      = help: add `b: …`, or `*: …` for all that are not named

    warning[W002]: there is no branch `cell` for its contact
     --> 1:33
      |
    1 | pick{a: tcp, b: tcp} @ {a: x:1, cell: y:1}
      |                                 ^^^^
    ");
    // The warnings do not keep an endpoint from being bound, and are not lost on the way.
    assert!(Registry::with_defaults().endpoint(texts[0]).is_ok());
    let endpoint: Endpoint = texts[0].parse().unwrap();
    let found = endpoint.check(&Registry::with_defaults()).1.to_string();
    assert!(found.starts_with("warning[W002]: `void` takes no contact"), "{found}");
}

#[test]
fn contacts_that_some_open_or_listen_takes_are_right() {
    for text in [
        "tcp @ :80",
        "tcp @ 80",
        "frame/tcp @ svc:80",
        "tcp @ [::1%3]:0",
        "loop @ here",
        "loop",
        "pick{a: tcp, b: void} @ svc:80",
        "pick{a: tcp, *: loop} @ {a: svc:80, *: here}",
        "pick{a: tcp, b: loop} @ {*: svc:80}",
    ] {
        assert_eq!(findings(text), "", "{text}");
    }
}

#[test]
fn an_endpoint_made_in_code_is_checked_without_a_place() {
    let stack: StackSpec = "frame/tcp".parse().unwrap();
    let wrong = Endpoint::new(stack.clone(), Contact::new("a b:1"));
    assert_snapshot!(wrong.bind(&Registry::with_defaults()).unwrap_err(), @r"
    error[E013]: `a b:1` is not a contact of `tcp`: ` ` cannot stand in a host name
     = help: write a name or an address
    ");
    assert!(Endpoint::new(stack, Contact::None).bind(&Registry::with_defaults()).is_ok());
}

#[test]
#[cfg(feature = "file")]
fn a_contact_of_a_file_is_one_path() {
    assert_snapshot!(findings("file @ {a: x}"), @r"
    error[E013]: `{a: x}` is not a contact of `file`: a file has no branches
     --> 1:8
      |
    1 | file @ {a: x}
      |        ^^^^^^
      = help: write one path
    ");
    assert_snapshot!(findings("file(mode=write, create=true) @ -"), @r"
    error[E013]: `-` is not a contact of `file`: `create` is about opening a path, and `-` is open
     --> 1:33
      |
    1 | file(mode=write, create=true) @ -
      |                                 ^
      = help: leave `create` out
    ");
    assert_eq!(findings("file @ /tmp/x y"), "");
}

proptest! {
    #[test]
    fn findings_about_any_contact_lie_in_the_text(
        stack in proptest::sample::select(&["tcp", "loop", "void", "pick{a: tcp, é: loop}", "pick{a: tcp, b: void}"]),
        contact in "[{}:,\"a*\\\\ u0é%.\\[\\]-]{0,30}",
    ) {
        let (bound, found) = Registry::with_defaults().check_endpoint(&format!("{stack} @ {contact}"));
        prop_assert_eq!(bound.is_some(), !found.has_errors());
        for (span, _) in found.iter().flat_map(|d| &d.spans) {
            prop_assert!(found.source().get(span.clone()).is_some(), "{:?}", found);
        }
    }
}

#[test]
fn an_empty_contact_is_none_and_an_endpoint_has_one() {
    for (text, at) in [("tcp @ ", "6..6"), ("tcp @ \"\"", "6..8"), ("tcp @  \"\" ", "7..9")] {
        let e = text.parse::<Endpoint>().unwrap_err();
        let d = e.iter().next().unwrap();
        assert_eq!((d.code, format!("{:?}", d.spans[0].0)), ("E013", at.to_owned()), "{text}");
        assert!(e.to_string().contains("expected a contact behind ` @ `"), "{e}");
    }
    // A branch may have none.
    "pick{a: tcp} @ {a: \"\"}".parse::<Endpoint>().unwrap();
}
