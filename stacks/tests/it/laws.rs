//! Laws, as property tests: what is printed reads back; nothing panics; spans are slices; the text
//! needs no escaping in a shell.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use xio_stacks::{Contact, Diagnostics, Endpoint, LevelSpec, SpecValue, StackSpec, stack};

use crate::drivers::registry;

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,7}"
}

fn value() -> impl Strategy<Value = SpecValue> {
    let leaf = prop_oneof![
        "[A-Za-z0-9_.:/+%*~^@-]{1,12}".prop_map(SpecValue::Bare),
        any::<String>().prop_map(SpecValue::Quoted),
        "[ '$`!\"\\\\\n\t\u{202e}x]{0,8}".prop_map(SpecValue::Quoted),
    ];
    leaf.prop_recursive(3, 8, 4, |inner| vec(inner, 0..4).prop_map(SpecValue::List))
}

fn level() -> impl Strategy<Value = LevelSpec> {
    let key = vec(name(), 1..3).prop_map(|parts| parts.join("."));
    (any::<bool>(), name(), proptest::collection::btree_map(key, value(), 0..4)).prop_map(|(preset, name, options)| {
        let level = if preset { LevelSpec::preset(name) } else { LevelSpec::new(name) };
        options.into_iter().fold(level, |l, (k, v)| l.option(k, v))
    })
}

fn spec() -> impl Strategy<Value = StackSpec> {
    let chain = vec(level(), 1..4).prop_map(|levels| {
        let mut levels = levels.into_iter();
        let top = stack(levels.next().unwrap());
        levels.fold(top, StackSpec::over)
    });
    let chain = chain.boxed();
    chain.clone().prop_recursive(4, 24, 3, move |inner| {
        let label = prop_oneof![Just("*".to_owned()), "[A-Za-z0-9_+-]{1,6}"];
        let branches = proptest::collection::btree_map(label, inner, 0..4);
        (chain.clone(), branches).prop_map(|(top, b)| b.into_iter().fold(top, |s, (l, below)| s.branch(l, below)))
    })
}

fn contact() -> impl Strategy<Value = Contact> {
    let leaf = prop_oneof![
        "[a-z0-9.]{1,12}:[0-9]{1,5}".prop_map(Contact::new),
        "[ @#{}/,a\"\\\\]{1,10}".prop_map(Contact::new),
        any::<String>().prop_map(|s| if s.is_empty() { Contact::None } else { Contact::new(s) }),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        proptest::collection::btree_map("[a-z0-9_+-]{1,6}", inner, 1..4).prop_map(Contact::Branches)
    })
}

/// Text made of pieces of the language, so that garbage gets past the first character.
fn garbage() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(&[
            "tcp", "queue", "frame", "typed", "mux", "pick", "tls", "@x", "/", "(", ")", "{", "}", "[", "]", ",", ":",
            "=", "\"", "\\u{", "depth", "key", "id", "64KiB", "*", " ", "\n", "#", " @ ", "é", "'", "\u{1b}", "TCP",
            "a.b",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop_oneof![vec(piece, 0..24).prop_map(|p| p.concat()), any::<String>()]
}

/// Spans that are slices of the source, and a text without control characters.
fn check(found: &Diagnostics) -> Result<(), TestCaseError> {
    for d in found {
        for (span, _) in &d.spans {
            prop_assert!(found.source().get(span.clone()).is_some(), "{:?}", d);
        }
    }
    let shown = found.to_string();
    prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{:?}", shown);
    Ok(())
}

proptest! {
    #[test]
    fn printed_specs_read_back(a in spec()) {
        for text in [a.to_string(), format!("{a:#}")] {
            let b: StackSpec = text.parse()?;
            prop_assert_eq!(&a, &b);
            prop_assert_eq!(a.to_string(), b.to_string());
            prop_assert_eq!(format!("{a:#}"), format!("{b:#}"));
        }
        let text = a.to_string();
        prop_assert!(!text.contains(['\'', '$', '`', '!']) && !text.chars().any(char::is_control), "{}", text);
    }

    #[test]
    fn printed_endpoints_read_back(stack in spec(), contact in contact()) {
        let a = Endpoint { stack, contact };
        prop_assert_eq!(&a.to_string().parse::<Endpoint>()?, &a);
        prop_assert_eq!(&format!("{a:#}").parse::<Endpoint>()?, &a);
    }

    #[test]
    fn garbage_is_refused_without_a_panic(text in garbage()) {
        match text.parse::<StackSpec>() {
            Ok(a) => prop_assert_eq!(&a.to_string().parse::<StackSpec>()?, &a),
            Err(found) => {
                prop_assert!(found.has_errors() && !found.is_empty());
                check(&found)?;
            }
        }
        check(&registry().check(&text).1)?;
        check(&registry().check_endpoint(&text).1)?;
    }

    #[test]
    fn random_specs_bind_or_say_why(a in spec()) {
        let (bound, found) = a.check(&registry());
        prop_assert_eq!(bound.is_some(), !found.has_errors());
        check(&found)?;
    }

    #[test]
    fn real_names_in_any_order_bind_or_say_why(
        names in vec(proptest::sample::select(&["tcp", "udp", "loop", "queue", "frame", "typed", "tls", "null", "quene"]), 1..6)
    ) {
        let text = names.join("/");
        let (bound, found) = registry().check(&text);
        prop_assert_eq!(bound.is_some(), !found.has_errors());
        check(&found)?;
        if let Some(bound) = bound {
            prop_assert_eq!(StackSpec::describe(&bound), text.parse()?);
        }
    }
}

#[test]
fn what_can_be_read_can_be_printed_and_read_again() {
    let deep = "a{a:".repeat(30) + "x(o=1)" + &"}".repeat(30);
    let options: String = (0..64).map(|i| format!("option{i},")).collect();
    let wide = "a{a:".repeat(30) + &format!("x({options})/").repeat(100) + "x" + &"}".repeat(30);
    let quotes = format!("a(b=\"{}\")", "'".repeat(10_000));
    for text in [deep, wide, quotes] {
        let a: StackSpec = text.parse().unwrap();
        assert_eq!(a.to_string().parse::<StackSpec>().unwrap(), a);
        assert_eq!(format!("{a:#}").parse::<StackSpec>().unwrap(), a);
    }
}

#[test]
fn hostile_texts_are_refused_at_once_on_a_small_stack() {
    let texts = [
        "(".repeat(1 << 20),
        "{".repeat(1 << 20),
        "a{a:".repeat(1 << 18),
        "a{a:".repeat(1 << 14),
        "a(a=".to_owned() + &"[".repeat(60_000),
        "a(a=\"".to_owned() + &"\\u{1}".repeat(10_000),
        "#\n".repeat(30_000),
        "a/".repeat(30_000),
        "a,".repeat(30_000),
        "a(".to_owned() + &"a,".repeat(30_000),
        "A/".repeat(30_000),
        "queue(".to_owned() + &"9,".repeat(60) + ")/tcp",
        ("queue(".to_owned() + &"b=1,".repeat(60) + ")/").repeat(240) + "tcp",
        "a".to_owned() + &"\n".repeat(60_000) + "|",
        "\u{1f600}".repeat(16_000),
    ];
    for text in &texts[..2] {
        let parse = || {
            let start = Instant::now();
            assert!(text.parse::<StackSpec>().is_err());
            start.elapsed()
        };
        assert!((0..5).map(|_| parse()).min().unwrap() < Duration::from_millis(10));
    }
    let small = std::thread::Builder::new().stack_size(128 * 1024);
    let worker = small.spawn(move || {
        let registry = registry();
        for text in texts {
            let start = Instant::now();
            let (stack, found) = registry.check(&text);
            let took = start.elapsed();
            assert!(stack.is_none() && found.has_errors());
            assert!(found.to_string().len() < 64 * 1024);
            // Generous: these are debug builds on a shared machine; release needs about a tenth.
            assert!(took < Duration::from_millis(500), "{took:?} for {}", &text[..4]);
        }
    });
    worker.unwrap().join().unwrap();
}
