//! Which branch a group means, and what it leaves to branches further down. Invariant: a write with
//! the group that a read came with goes the way that read came.

use xio_core::attr::Group;
use xio_core::planted;

/// The branch for every name that no other branch has.
pub(super) const ANY: &str = "*";
/// Between the labels of branches that lie within each other, as in the ids of levels.
pub(super) const WITHIN: char = '.';

/// The branch that `group` leads to, by number, and the group for what lies below it. `a.x` is the
/// branch `x` somewhere below the branch `a`.
pub(super) fn find<'g>(labels: &[impl AsRef<str>], group: &'g str) -> Option<(u8, Option<&'g str>)> {
    let at = |wanted: &str| u8::try_from(labels.iter().position(|l| l.as_ref() == wanted)?).ok();
    if let Some(branch) = at(group) {
        return Some((branch, None));
    }
    let part = |(dot, _)| Some((at(group.get(..dot)?)?, group.get(dot + WITHIN.len_utf8()..)));
    if planted("the first part of a group decides") {
        return group.match_indices(WITHIN).find_map(part).or_else(|| Some((at(ANY)?, Some(group))));
    }
    group.rmatch_indices(WITHIN).find_map(part).or_else(|| Some((at(ANY)?, Some(group))))
}

/// The group of what comes from the branch `label`, and from `inner` further down.
pub(super) fn join(label: &str, inner: Option<&Group>) -> Group {
    Group(match inner {
        Some(Group(inner)) => format!("{label}{WITHIN}{inner}"),
        None => label.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_leads_to_its_branch_and_leaves_the_rest() {
        let labels = ["a", "b", "a.b", "*"];
        for (group, want) in [
            ("a", Some((0, None))),
            ("b.x.y", Some((1, Some("x.y")))),
            ("a.b", Some((2, None))),
            ("a.b.c", Some((2, Some("c")))),
            ("a.c", Some((0, Some("c")))),
            ("a.", Some((0, Some("")))),
            ("*", Some((3, None))),
            ("*.x", Some((3, Some("x")))),
            ("c", Some((3, Some("c")))),
            ("c.d", Some((3, Some("c.d")))),
            ("", Some((3, Some("")))),
        ] {
            assert_eq!(find(&labels, group), want, "{group}");
            assert_eq!(find(&labels[..3], group), want.filter(|(b, _)| *b < 3), "{group}");
        }
    }

    #[test]
    fn what_is_joined_is_found_again() {
        for label in ["a", "*"] {
            for inner in ["x", "*", "x.y"] {
                let Group(group) = join(label, Some(&Group(inner.into())));
                let (branch, rest) = find(&["a", "*"], &group).unwrap();
                assert_eq!((["a", "*"][usize::from(branch)], rest), (label, Some(inner)));
            }
            assert_eq!(join(label, None).0, label);
        }
    }
}
