//! What binding gives: ids, typed options, warnings, overrides, specs composed in code.

use xio_stacks::core::attr::Size;
use xio_stacks::{Endpoint, ErrorKind, LevelSpec, Severity, SpecValue, StackSpec, stack};

use crate::drivers::{frame, mux, pick, queue, registry, tcp, tls};

fn spec(text: &str) -> StackSpec {
    text.parse().unwrap()
}

#[test]
fn levels_get_their_ids_and_options() {
    let s = registry()
        .stack("mux{fg: queue(id=tx, depth=64)/queue/frame/tcp(nodelay), *: frame(max=1MiB)/tcp(device=\"wlan 0\")}")
        .unwrap();
    let ids: Vec<_> = s.levels().map(|l| l.id().to_owned()).collect();
    assert_eq!(ids, ["mux", "tx", "fg.queue", "fg.frame", "fg.tcp", "default.frame", "default.tcp"]);
    let value = |id: &str, key: &str| s.level(id).unwrap().attr().value(key).map(|v| v.to_string());
    assert_eq!(value("tx", "depth").unwrap(), "64");
    assert_eq!(value("fg.queue", "depth").unwrap(), "16");
    assert_eq!(value("fg.tcp", "nodelay").unwrap(), "true");
    assert_eq!(value("default.tcp", "device").unwrap(), "wlan 0");
    assert_eq!(value("fg.tcp", "device"), None);
    assert_eq!(s.to_string(), "mux{fg: queue/queue/frame/tcp, *: frame/tcp}");
    let twice = registry().stack("queue/queue/tcp").unwrap();
    assert_eq!(twice.levels().map(|l| l.id().to_owned()).collect::<Vec<_>>(), ["queue", "queue-2", "tcp"]);
}

#[test]
fn code_and_text_give_the_same_spec() {
    let links = |s: &str| stack(frame::Options::default()).over(tcp::Options::default().with_device(Some(s.into())));
    let built = stack(queue::Options::default().with_depth(64).with_high(Size(1 << 20)))
        .id("tx")
        .over(mux::Options::default())
        .branch("fg", links("wlan0"))
        .branch("*", links("eth 0").over(LevelSpec::new("x").option("on", true)));
    let text =
        "queue(depth=64, high=1MiB, id=tx)/mux{fg: frame/tcp(device=wlan0), *: frame/tcp(device=\"eth 0\")/x(on)}";
    assert_eq!(built.to_string(), text);
    assert_eq!(built, spec(text));
    assert_eq!(stack(queue::Options::default()).over(tcp::Options::default()), spec("queue/tcp"));
    assert_eq!(built.clone().id("tx").levels()[0].id(), Some("tx"));
}

#[test]
fn values_that_need_care_in_code() {
    let o = queue::Options::default().with_tags(Vec::new()).with_factor(1e-7);
    assert_eq!(LevelSpec::of(&o).to_string(), "queue(tags=[], factor=1e-7)");
    assert!(stack(o).over(tcp::Options::default()).bind(&registry()).is_ok());
    let o = tcp::Options::default().with_device(Some("true".into())).with_nodelay(true);
    assert_eq!(LevelSpec::of(&o).to_string(), "tcp(nodelay, device=\"true\")");
    let bound = stack(o).bind(&registry()).unwrap();
    assert_eq!(bound.level("tcp").unwrap().attr().value("device").unwrap().to_string(), "true");
}

#[test]
fn a_name_from_code_stays_one_name() {
    for bad in [
        stack(LevelSpec::new("tcp(nodelay)")),
        stack(LevelSpec::new("queue/tcp")),
        stack(LevelSpec::new("queue").option("depth=1,high", "1B")).over(tcp::Options::default()),
        stack(pick::Options::default()).branch("a: tcp, b", tcp::Options::default()),
        stack(tcp::Options::default()).id("a b").over(LevelSpec::preset("x/tcp")),
        stack(LevelSpec::new("tcp").option("device", SpecValue::Bare("a b".into()))),
    ] {
        let e = bad.bind(&registry()).unwrap_err();
        assert!(e.has_errors(), "{bad}");
    }
}

#[test]
fn errors_in_composed_specs_point_into_their_text() {
    let e = stack(LevelSpec::new("quene")).over(tcp::Options::default()).bind(&registry()).unwrap_err();
    assert_eq!((e.source(), &e.source()[e.iter().next().unwrap().spans[0].0.clone()]), ("quene/tcp", "quene"));
    // A part of a read spec carries no spans of the whole into another text.
    let part = spec("queue(depth=9)/nosuch(a=b)").levels()[1].clone();
    let e = stack(part).over(tcp::Options::default()).bind(&registry()).unwrap_err();
    assert_eq!(&e.source()[e.iter().next().unwrap().spans[0].0.clone()], "nosuch");
    let branch = spec("pick{a: nosuch}").levels()[0].branches()[0].stack().clone();
    assert!(branch.bind(&registry()).unwrap_err().to_string().contains("1 | nosuch"));
}

#[test]
fn live_things_come_by_override() {
    let mut seen = Vec::new();
    let bound = spec("queue/frame/tcp(id=wire)").bind_with(&registry(), |id, attr| {
        seen.push(id.to_owned());
        if let Some(o) = attr.as_any_mut().downcast_mut::<tcp::Options>() {
            o.fd = Some(3);
        }
    });
    assert_eq!(seen, ["queue", "frame", "wire"]);
    let bound = bound.unwrap();
    let attr = bound.level("wire").unwrap().attr();
    assert_eq!(attr.as_any().downcast_ref::<tcp::Options>().unwrap().fd, Some(3));
    let broken = spec("queue/tcp").bind_with(&registry(), |_, attr| {
        if let Some(o) = attr.as_any_mut().downcast_mut::<queue::Options>() {
            o.low = Size(1 << 30);
        }
    });
    assert!(broken.unwrap_err().to_string().contains("`low` is above `high`"));
}

#[test]
fn warnings_do_not_keep_a_stack_from_being_bound() {
    let (bound, found) = registry().check("mux{fg: frame/tcp}");
    assert!(bound.is_some() && !found.has_errors() && found.len() == 1);
    assert_eq!(found.iter().next().unwrap().severity, Severity::Warning);
    insta::assert_snapshot!(found, @r"
    warning[W001]: `mux` has no branch for `bg`, `small`, and no `*`
     --> 1:1
      |
    1 | mux{fg: frame/tcp}
      | ^^^
      = help: a `*: …` branch takes every other label
    ");
    for fine in ["mux{fg: frame/tcp, *: frame/tcp}", "mux{fg+bg: frame/tcp, small: frame/tcp}", "pick{x: tcp}"] {
        let (bound, found) = registry().check(fine);
        assert!(bound.is_some() && found.is_empty(), "{found}");
    }
}

#[test]
fn a_bound_stack_is_described_without_its_secrets() {
    let text = "pick{a: queue/queue(id=x, depth=3)/tls(key=hunter2)/tcp, *: queue(id=q)/tcp(nodelay)}";
    let bound = registry().stack(text).unwrap();
    let shown = StackSpec::describe(&bound).to_string();
    assert_eq!(shown, "pick{a: queue/queue(depth=3, id=x)/tls(key=\"***\")/tcp, *: queue(id=q)/tcp(nodelay)}");
    assert!(stack(tls::Options::default()).to_string() == "tls");
}

#[test]
fn endpoints_bind_and_carry_their_contact() {
    let (s, c) = registry().endpoint("pick{a: tcp, b: tcp} @ {a: 10.0.0.1:1, b: host @ home:2}").unwrap();
    assert_eq!(s.to_string(), "pick{a: tcp, b: tcp}");
    assert_eq!(c.branch("b").unwrap().text(), Some("host @ home:2"));
    let plain: Endpoint = " queue / tcp(device=a@b) ".parse().unwrap();
    assert!(plain.contact.is_none());
    assert_eq!(Endpoint::new(spec("tcp"), ()).to_string(), "tcp");
    let preset: Endpoint = "queue/@wan @ host:1".parse().unwrap();
    assert_eq!(preset.to_string(), "queue/@wan @ host:1");
}

#[test]
fn errors_become_the_errors_of_the_core() {
    let kind = |t: &str| xio_stacks::Error::from(registry().stack(t).unwrap_err()).kind();
    assert_eq!(kind("typed/tcp"), ErrorKind::Misfit);
    assert_eq!(kind("nosuch"), ErrorKind::InvalidInput);
    let e: xio_stacks::Error = registry().stack("quene/tcp").unwrap_err().into();
    assert!(e.to_string().contains("no driver `quene`"));
}

#[test]
fn a_registry_takes_only_what_a_spec_can_write() {
    use std::sync::Arc;
    let mut r = registry();
    assert!(r.register(Arc::new(tcp::Driver)).unwrap_err().to_string().contains("registered already"));
    let names: Vec<_> = r.names().collect();
    assert!(names.is_sorted() && names.len() == 11 && r.iter().count() == 11);
    #[cfg(feature = "tcp")]
    assert!(xio_stacks::Registry::with_defaults().get("tcp").is_some());
}

#[test]
fn specs_print_on_one_line_or_indented() {
    let text = r#"queue( id = tx,tags=[a , "b c",[ ]],)/mux # labels
        { fg:tcp(nodelay=true, device="\u{1f600}'$`!\"\\\n\u{7f}"),
          small+bg : rate(limit=1MiB/s)/frame/queue(depth=1, low=1KiB, high=123KiB)/null/tcp(timeout=5s, port=1) , *: @wan(tx.depth=3)/pick{a:loop,b:void} }"#;
    let s = spec(text);
    insta::assert_snapshot!(s, @r#"queue(id=tx, tags=[a, "b c", []])/mux{fg: tcp(nodelay, device="😀\u{27}\u{24}\u{60}\u{21}\"\\\n\u{7f}"), small+bg: rate(limit=1MiB/s)/frame/queue(depth=1, low=1KiB, high=123KiB)/null/tcp(timeout=5s, port=1), *: @wan(tx.depth=3)/pick{a: loop, b: void}}"#);
    insta::assert_snapshot!(format!("{s:#}"), @r#"
    queue(id=tx, tags=[a, "b c", []])/
    mux{
        fg: tcp(nodelay, device="😀\u{27}\u{24}\u{60}\u{21}\"\\\n\u{7f}"),
        small+bg: rate(limit=1MiB/s)/
            frame/
            queue(depth=1, low=1KiB, high=123KiB)/
            null/
            tcp(timeout=5s, port=1),
        *: @wan(tx.depth=3)/
            pick{
                a: loop,
                b: void,
            },
    }
    "#);
    insta::assert_snapshot!(format!("{:#}", spec("queue/frame(max=1MiB)/tcp(nodelay)")), @"queue/frame(max=1MiB)/tcp(nodelay)");
}
