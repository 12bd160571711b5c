//! "Did you mean": the name nearest to one that does not exist. Invariant: it answers only with
//! one of the names it was given, and costs little for hostile input.

/// Longest name that is compared; nobody mistypes a longer one.
const MAX_NAME: usize = 64;

/// The best of `names`: Damerau–Levenshtein distance at most `max(1, length / 3)`, or three letters
/// or more in common at the front, both compared without `_` and `-`. Edit distance alone would miss
/// `que` for `queue`.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let wanted = plain(name);
    let rated = names.into_iter().filter_map(|n| Some((rate(&wanted, &plain(n))?, n)));
    rated.min_by_key(|(rating, _)| *rating).map(|(_, n)| n)
}

/// How far apart two names are; `None` if too far.
fn rate(wanted: &str, name: &str) -> Option<usize> {
    if wanted.is_empty() {
        return None;
    }
    let distance = strsim::damerau_levenshtein(wanted, name);
    let common = wanted.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    (distance <= (wanted.len() / 3).max(1) || common >= 3).then_some(distance)
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typing_errors_find_their_name() {
        let drivers = ["frame", "loop", "queue", "shm", "tcp", "udp"];
        for (typed, meant) in [
            ("quene", Some("queue")),
            ("que", Some("queue")),
            ("shmem", Some("shm")),
            ("tpc", Some("tcp")),
            ("ucp", Some("tcp")),
            ("framing", Some("frame")),
            ("nosuch", None),
            ("x", None),
            ("_", None),
        ] {
            assert_eq!(nearest(typed, drivers), meant, "{typed}");
        }
        assert_eq!(nearest("no_delay", ["backlog", "nodelay"]), Some("nodelay"));
        assert_eq!(nearest(&"q".repeat(100_000), drivers), None);
    }
}
