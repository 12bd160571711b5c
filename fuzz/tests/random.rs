//! Drives every fuzz body with random text near the grammar.

use proptest::prelude::*;

proptest! {
    #[test]
    fn specs(text in "[a-z@(){}\\[\\]/,:=*\"\\\\ #0-9KiB._-]{0,60}") {
        xio_fuzz::spec(text.as_bytes());
        xio_fuzz::endpoint(text.as_bytes());
        xio_fuzz::contact(text.as_bytes());
    }

    #[test]
    fn near_specs(a in "(queue|frame|tcp|null|void|pick|loop)(\\((depth|nodelay|early|high)(=[0-9a-zKiB]{1,6})?\\))?", b in "(/|\\{a: |, |\\}| @ )", c in "(tcp|loop|void|frame)(\\{|\\}|)?") {
        let text = format!("{a}{b}{c}");
        xio_fuzz::spec(text.as_bytes());
        xio_fuzz::endpoint(text.as_bytes());
    }

    #[test]
    fn bytes(b in proptest::collection::vec(any::<u8>(), 0..64)) {
        xio_fuzz::spec(&b);
        xio_fuzz::contact(&b);
        xio_fuzz::endpoint(&b);
    }
}
