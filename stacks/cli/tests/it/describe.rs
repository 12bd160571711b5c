//! `drivers`, `check`, `explain`, `fmt`: what they say, to people and to programs.

use serde_json::Value;

use crate::xio::{feed, run, xio};

fn json(args: &[&str], code: i32) -> Value {
    let ran = run(args);
    assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{args:?}");
    assert_eq!(ran.out.lines().count(), 1);
    serde_json::from_str(&ran.out).expect("one JSON value")
}

#[test]
fn drivers_are_listed_and_described() {
    let all: Vec<Value> = run(&["drivers", "--json"]).out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let names: Vec<_> = all.iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["fault", "file", "frame", "loop", "null", "pick", "queue", "rate", "shm", "tcp", "trace", "udp", "void"]
    );
    for name in names {
        let one = json(&["drivers", name, "--json"], 0);
        assert!(all.contains(&one), "{name}");
        let page = run(&["drivers", name]);
        assert_eq!(page.code, Some(0));
        for o in one["options"].as_array().unwrap() {
            assert!(page.out.contains(o["name"].as_str().unwrap()) && o["doc"].as_str().unwrap().ends_with('.'));
        }
        assert!(page.out.lines().all(|l| l.chars().count() <= 80), "{}", page.out);
    }
    let units: Vec<_> = all.iter().map(|d| d["unit"].as_str().unwrap()).collect();
    assert_eq!(
        units,
        [
            "as below",
            "stream",
            "stream to message",
            "stream, message",
            "as below",
            "as branches",
            "as below",
            "as below",
            "stream, message",
            "stream",
            "as below",
            "datagram",
            "stream, message"
        ]
    );
    let list = run(&["drivers"]).out;
    assert!(list.lines().all(|l| l.chars().count() <= 100), "{list}");
}

#[test]
fn check_says_the_canonical_form() {
    let ok = run(&["check", "queue( depth = 64 )/frame / tcp(nodelay=true,)"]);
    assert_eq!((ok.code, ok.out.as_str()), (Some(0), "ok: queue(depth=64)/frame/tcp(nodelay)\n"));
    let ok = json(&["check", "--json", "frame/tcp @ 127.0.0.1:7000"], 0);
    assert_eq!(
        (&ok["ok"], &ok["canonical"], &ok["unit"]),
        (&true.into(), &"frame/tcp @ 127.0.0.1:7000".into(), &"message".into())
    );
    let bad = json(&["check", "--json", "quene(depth=1)/\ntcp(no_delay)"], 2);
    let found = bad["diagnostics"].as_array().unwrap();
    let codes: Vec<_> = found.iter().map(|d| d["code"].as_str().unwrap()).collect();
    assert_eq!((&bad["ok"], codes), (&false.into(), vec!["E020", "E023"]));
    let place = &found[1]["spans"][0];
    assert_eq!((&place["line"], &place["column"], &place["start"]), (&2.into(), &5.into(), &20.into()));
}

#[test]
fn specs_come_from_files_and_stdin_too() {
    let path = std::env::temp_dir().join(format!("xio-cli-spec-{}", std::process::id()));
    std::fs::write(&path, "queue(depth=64)/ # a comment\n  frame/tcp\n").unwrap();
    let file = path.to_str().unwrap();
    assert_eq!(run(&["check", "--file", file]).out, "ok: queue(depth=64)/frame/tcp\n");
    assert_eq!(run(&["fmt", "--file", file]).out, "queue(depth=64)/frame/tcp\n");
    std::fs::remove_file(path).unwrap();
    for args in [&["fmt"][..], &["fmt", "-"]] {
        let out = feed(&mut xio(args), b"a / b( c ) ");
        assert_eq!(String::from_utf8(out.stdout).unwrap(), "a/b(c)\n");
    }
    assert_eq!(feed(&mut xio(&["check", "-"]), b"tcp/tcp").status.code(), Some(2));
}

#[test]
fn fmt_indents_and_checks() {
    let spec = "pick{wifi: frame/tcp(device=wlan0), *: frame/tcp}";
    let indented = run(&["fmt", "--indent", spec]).out;
    assert_eq!(indented, "pick{\n    wifi: frame/tcp(device=wlan0),\n    *: frame/tcp,\n}\n");
    assert_eq!(run(&["fmt", &indented]).out.trim_end(), spec);
    assert_eq!(run(&["fmt", "--check", spec]).code, Some(0));
    let not = run(&["fmt", "--check", "a / b"]);
    assert_eq!((not.code, not.out.as_str(), not.err.as_str()), (Some(2), "", "error: not in this form: a/b\n"));
}

#[test]
fn explain_draws_every_level() {
    let spec = "null(intercept=none)/pick{a: frame/tcp(nodelay), *: frame/loop}";
    let text = run(&["explain", spec]);
    assert_eq!(text.code, Some(0));
    for part in [
        "your program\n",
        "├─ a:\n",
        "└─ *:\n",
        "id a.frame",
        "id default.loop",
        "nodelay  true  default false",
        "sees nothing",
    ] {
        assert!(text.out.contains(part), "{part} in\n{}", text.out);
    }
    assert!(text.out.lines().all(|l| l.chars().count() <= 80), "{}", text.out);
    let all = json(&["explain", "--json", spec], 0);
    let ids: Vec<_> = all["levels"].as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["null", "pick", "a.frame", "a.tcp", "default.frame", "default.loop"]);
    assert_eq!((&all["levels"][2]["above"], &all["levels"][2]["label"]), (&1.into(), &"a".into()));
}

#[test]
fn every_command_teaches() {
    let top = run(&["--help"]);
    assert_eq!((top.code, top.err.as_str()), (Some(0), ""));
    for c in ["demo", "drivers", "check", "explain", "fmt", "cat", "listen", "bench"] {
        assert!(top.out.contains(&format!("  {c} ")), "{c}");
        for flag in ["-h", "--help"] {
            let help = run(&[c, flag]);
            assert!(help.out.contains("Examples:\n  xio "), "{c}");
            assert!(help.out.lines().all(|l| l.chars().count() <= 100), "{c}: {}", help.out);
        }
    }
    assert!(!top.out.contains("demo-peer"));
    let none = run(&[]);
    assert_eq!((none.code, none.out.as_str()), (Some(2), ""));
}
