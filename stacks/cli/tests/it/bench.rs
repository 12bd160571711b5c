//! `xio bench`: the fields are there and make sense; nothing is claimed of their size.

use serde_json::Value;

use crate::xio::run;

const QUICK: [&str; 7] = ["--rounds", "2", "--ops", "50", "--placement", "free", "--json"];

fn bench(args: &[&str]) -> Vec<Value> {
    let ran = run(&[&["bench"], args, &QUICK[..]].concat());
    assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
    ran.out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

#[test]
fn every_mode_and_api_measures() {
    let stacks = [
        ("tcp(nodelay)", "pingpong"),
        ("frame/tcp(nodelay)", "pingpong"),
        ("queue/frame/tcp(nodelay)", "stream"),
        ("tcp(nodelay)", "stream"),
        ("udp", "pingpong"),
        ("queue/udp", "stream"),
        ("loop", "pingpong"),
        ("loop(message)", "stream"),
        ("shm", "pingpong"),
        ("shm(message, spin=20us)", "stream"),
        ("null/void", "op"),
    ];
    for (spec, mode) in stacks {
        for api in ["blocking", "callback", "async"] {
            let rows = bench(&[spec, "--mode", mode, "--api", api, "--size", "64,4KiB"]);
            assert_eq!(rows.len(), 2, "{spec} {mode} {api}");
            for (row, size) in rows.iter().zip([64, 4096]) {
                let given = ["spec", "mode", "api", "placement"].map(|k| row[k].as_str().unwrap());
                assert_eq!(given, [spec, mode, api, "free"]);
                assert_eq!((&row["size"], &row["ops"], &row["rounds"]), (&size.into(), &50.into(), &2.into()));
                for figure in ["ns_per_op", "bytes_per_s", "cpu_ns_per_op"] {
                    assert!(row[figure].as_f64().unwrap() > 0.0, "{figure} of {row}");
                }
                assert!(row["allocs_per_op"].as_f64().unwrap() >= 0.0 && row["syscalls_per_op"].is_null());
                assert_eq!(row["p50_us"].is_number() && row["p99_us"].is_number(), mode == "pingpong", "{row}");
                let baseline = match (spec, mode) {
                    (_, "op") => Some("mutex and copy"),
                    (s, _) if s.contains("tcp") => Some("raw blocking sockets"),
                    (s, _) if s.contains("udp") => Some("raw blocking datagram sockets"),
                    ("shm", _) => Some("bare ring, futex"),
                    (s, _) if s.contains("shm") => Some("bare ring, spinning"),
                    _ => None,
                };
                assert_eq!(row["baseline"].as_str(), baseline);
                for figure in ["ratio", "ratio_min", "ratio_max", "best_third", "baseline_ns_per_op"] {
                    assert_eq!(row[figure].is_number(), baseline.is_some(), "{figure} of {row}");
                }
            }
        }
    }
}

#[test]
fn blocking_ops_over_void_allocate_nothing() {
    for op in ["read", "write"] {
        // So many ops that what threads need to begin does not show.
        let args = ["bench", "null/void", "--mode", "op", "--op", op, "--ops", "100000", "--rounds", "3", "--json"];
        let row: Value = serde_json::from_str(&run(&args).out).unwrap();
        assert_eq!(row["allocs_per_op"], 0.0, "{op}");
    }
}

#[test]
fn many_writes_are_under_way() {
    for api in ["callback", "async"] {
        let args = ["queue/frame/tcp(nodelay)", "--mode", "stream", "--api", api, "--outstanding", "32"];
        assert_eq!(bench(&args)[0]["outstanding"], 32);
    }
}

#[test]
fn unfair_comparisons_are_told() {
    let ran = run(&[&["bench", "tcp", "--mode", "pingpong"], &QUICK[..]].concat());
    assert!(ran.err.contains("warning: the baseline has nodelay and this stack has not"), "{}", ran.err);
}

#[test]
fn system_calls_are_counted_where_strace_is() {
    let ran = run(&[&["bench", "tcp(nodelay)", "--mode", "pingpong", "--count-syscalls"], &QUICK[..]].concat());
    if ran.code == Some(1) && ran.err.contains("strace") {
        eprintln!("SKIP: {}", ran.err);
        return;
    }
    let row: Value = serde_json::from_str(&ran.out).unwrap();
    // Two sends and two receives at least, of both ends together; set-ups differ by a call or two.
    assert!((3.9..20.0).contains(&row["syscalls_per_op"].as_f64().unwrap()), "{row}");
}

#[test]
fn people_get_a_table() {
    let ran = run(&["bench", "null/void", "--mode", "op", "--rounds", "1", "--ops", "50"]);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(ran.code, Some(0));
    assert!(lines[0].starts_with("null/void  op, blocking, ") && lines[1].starts_with("size"), "{}", ran.out);
    assert!(lines[2].starts_with("64 B ") && lines[3].starts_with("baseline: mutex and copy"), "{}", ran.out);
}
