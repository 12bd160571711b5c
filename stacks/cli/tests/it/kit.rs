//! `xio contract` and `xio sim`: what they say of a stack, and of one that they cannot run.

use serde_json::Value;

use crate::xio::run;

/// The object that a good run prints.
fn object(args: &[&str]) -> Value {
    let ran = run(args);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", ran.out))
}

/// What a run says that is of no use.
fn refused(args: &[&str]) -> String {
    let ran = run(args);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?}: {}", ran.err);
    ran.err
}

#[test]
fn rules_run_on_every_transport_that_a_stack_may_have() {
    for spec in ["tcp", "frame/loop", "queue", "udp(greet, amplify=0, idle=0s)", "queue/shm(message)"] {
        let report = object(&["contract", spec, "--rule", "c1,e10,h5", "--seeds", "1", "--json"]);
        let rows = report["rules"].as_array().unwrap_or_else(|| panic!("{report}"));
        assert_eq!((rows.len(), &report["fail"]), (3, &Value::from(0)), "{spec}: {report}");
    }
}

#[test]
fn what_no_rule_can_run_on_is_refused_with_what_to_write() {
    assert!(refused(&["contract", "udp"]).contains("run them on `udp(greet, amplify=0, idle=0s)`"));
    assert!(refused(&["contract", "tcp", "--rule", "z9"]).contains("there is no rule `z9`"));
    assert!(refused(&["contract"]).contains("there is no stack"));
}

#[test]
fn a_seed_runs_the_same_way_again() {
    for spec in ["queue/frame/tcp", "frame/shm"] {
        let hash =
            |seed: &str| object(&["sim", spec, "--seed", seed, "--milliseconds", "50", "--json"])["hash"].clone();
        let first = hash("7");
        assert!(first.is_string(), "{first}");
        assert_eq!(first, hash("7"));
        assert_ne!(first, hash("8"));
    }
}

#[test]
fn what_no_simulation_carries_is_refused_at_once() {
    for (spec, name) in [("udp", "udp"), ("frame/loop", "loop"), ("void", "void")] {
        assert!(refused(&["sim", spec]).contains(&format!("no simulation carries `{name}`")), "{spec}");
    }
    assert!(refused(&["sim", "pick{a: tcp, b: tcp}"]).contains("one transport"));
}
