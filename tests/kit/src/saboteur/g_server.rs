//! Breaks the rules of group G: servers and links.

use super::Proof;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[];
