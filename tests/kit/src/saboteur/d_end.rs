//! Breaks the rules of group D: end of stream, half close.

use super::Proof;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[];
