//! Every target over random bytes, and those that read text over text near what they read.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use xio_fuzz::{TARGETS, Target};

fn run(names: &[&str], text: &str) {
    names.iter().for_each(|n| (Target::named(n).unwrap().body)(text.as_bytes()));
}

proptest! {
    #[test]
    fn specs(text in "[a-z@(){}\\[\\]/,:=*\"\\\\ #0-9KiB._-]{0,60}") {
        run(&["spec", "endpoint", "contact"], &text);
    }

    #[test]
    fn near_specs(a in "(queue|frame|tcp|null|void|pick|loop)(\\((depth|nodelay|early|high)(=[0-9a-zKiB]{1,6})?\\))?", b in "(/|\\{a: |, |\\}| @ )", c in "(tcp|loop|void|frame)(\\{|\\}|)?") {
        run(&["spec", "endpoint"], &format!("{a}{b}{c}"));
    }

    #[test]
    fn near_addresses(text in "[\\x00-\\x03]{2}[0-9a-f.:%\\[\\]*-]{0,30}") {
        run(&["address"], &text);
    }

    #[test]
    fn near_values(text in "[\\x00-\\x11][\\x00-\\x02]-?[0-9.e]{0,20}(B|kB|KiB|MiB|TB|/s|ms|us|s|h)?") {
        run(&["value"], &text);
    }
}

#[test]
fn bytes() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    for t in &TARGETS {
        let mut runner =
            TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
        let short = proptest::collection::vec(any::<u8>(), 0..400);
        runner
            .run(&short, |bytes| {
                (t.body)(&bytes);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{}: {e}", t.name));
    }
}
