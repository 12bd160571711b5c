//! Breaks the rules of group F: attrs and commands.

use super::Proof;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[];
