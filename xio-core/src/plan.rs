//! The static plan of a stack: for each op kind and level, who is next on the way down and on the
//! way up. Made once when a stack is bound. Invariant: levels are numbered in preorder from 1, so an
//! op has reached its origin exactly when the next level up has a number that is not greater.

use crate::caps::Unit;
use crate::driver::{Intercepts, OpKind, Role};
use crate::stack::Node;

/// No level: the user above the top, or the end below a leaf.
pub(crate) const USER: u8 = 0;
/// Below the last level that sees the op.
pub(crate) const END: u8 = u8::MAX;

type Table = [u8; 256];

pub(crate) struct Plan {
    kinds: [KindPlan; OpKind::COUNT],
    /// First leaf below each level, along first branches.
    leaf: Vec<u8>,
    parent: Vec<u8>,
    children: Vec<Vec<u8>>,
    /// One past the last level of the subtree.
    end: Vec<u8>,
    intercepts: Vec<Intercepts>,
    borders: Vec<bool>,
    batches: Vec<bool>,
    /// Index of the level's word, for levels that want one.
    words: Vec<u8>,
    pub(crate) word_count: usize,
    pub(crate) eof_resets: bool,
    pub(crate) unit: Unit,
    /// Transports that share memory with another process, as indices of levels.
    pub(crate) sharing: Vec<usize>,
}

pub(crate) struct KindPlan {
    /// From a level: the first level below it, along first branches, that sees the op; or END.
    pub(crate) down: Table,
    /// From a level: the nearest level above that sees the op coming back; or USER.
    pub(crate) up: Table,
    /// From a level: itself if it sees the op going down, else as `down`.
    enter: Table,
    /// The level lets one op in at a time.
    pub(crate) gate: [bool; 256],
    pub(crate) any_gate: bool,
}

impl Plan {
    pub(crate) fn new(nodes: &[Node], role: Role) -> Self {
        let count = nodes.len();
        let intercepts: Vec<_> = std::iter::once(Intercepts::NONE)
            .chain(nodes.iter().map(|n| n.driver.intercepts(&*n.attr, role)))
            .collect();
        let parent: Vec<u8> = std::iter::once(USER).chain(nodes.iter().map(|n| n.parent)).collect();
        let children: Vec<Vec<u8>> = std::iter::once(vec![1]).chain(nodes.iter().map(|n| n.children.clone())).collect();
        let mut end = vec![0u8; count + 1];
        let mut leaf = vec![0u8; count + 1];
        let mut batches = vec![true; count + 1];
        let borders: Vec<bool> =
            std::iter::once(false).chain(nodes.iter().map(|n| n.caps.unit.has_borders())).collect();
        for n in (0..=count).rev() {
            let me = u8::try_from(n).unwrap_or(END);
            end[n] = children[n].last().map_or_else(|| me.saturating_add(1), |c| end[usize::from(*c)]);
            leaf[n] = children[n].first().map_or(me, |c| leaf[usize::from(*c)]);
            // A batch can go below `n` as long as borders matter there and everyone who looks
            // understands it.
            batches[n] = children[n].iter().all(|c| {
                let c = usize::from(*c);
                let i = intercepts[c];
                let sees = i.down(OpKind::Write) || i.up(OpKind::Write);
                if !borders[c] {
                    true
                } else if sees {
                    i.contains(Intercepts::BATCHES) && batches[c]
                } else {
                    batches[c]
                }
            });
        }
        let mut words = vec![0u8; count + 1];
        let mut word_count = 0;
        for (n, i) in intercepts.iter().enumerate() {
            if i.contains(Intercepts::WORD) {
                words[n] = u8::try_from(word_count).unwrap_or(END);
                word_count += 1;
            }
        }
        let kinds = OpKind::ALL.map(|k| KindPlan::new(k, &intercepts, &parent, &children));
        let (eof_resets, unit) = nodes.first().map_or((false, Unit::Stream), |n| (n.caps.eof_resets, n.caps.unit));
        let shares = |n: &usize| nodes[*n].children.is_empty() && nodes[*n].caps.shared_memory;
        let sharing = (0..nodes.len()).filter(shares).collect();
        Self {
            kinds,
            leaf,
            parent,
            children,
            end,
            intercepts,
            borders,
            batches,
            words,
            word_count,
            eof_resets,
            unit,
            sharing,
        }
    }

    #[inline]
    pub(crate) fn kind(&self, kind: OpKind) -> &KindPlan {
        &self.kinds[kind as usize]
    }

    /// The first level that sees the op in the branch of `node`; END if there is none. A leaf has
    /// no branch.
    pub(crate) fn branch_entry(&self, kind: OpKind, node: u8, branch: u8) -> Option<u8> {
        let child = *self.children[usize::from(node)].get(usize::from(branch))?;
        Some(self.kinds[kind as usize].enter[usize::from(child)])
    }

    /// The level that starts a branch.
    pub(crate) fn child(&self, node: u8, branch: u8) -> Option<u8> {
        self.children[usize::from(node)].get(usize::from(branch)).copied()
    }

    pub(crate) fn branches(&self, node: u8) -> usize {
        self.children[usize::from(node)].len()
    }

    /// Which branch of `node` the level `below` is in.
    pub(crate) fn branch_of(&self, node: u8, below: u8) -> Option<u8> {
        let i =
            self.children[usize::from(node)].iter().position(|c| (*c..self.end[usize::from(*c)]).contains(&below))?;
        u8::try_from(i).ok()
    }

    pub(crate) fn leaf(&self, node: u8) -> u8 {
        self.leaf[usize::from(node)]
    }

    pub(crate) fn parent(&self, node: u8) -> u8 {
        self.parent[usize::from(node)]
    }

    /// Whether `node` lies in the subtree of `top`.
    pub(crate) fn within(&self, node: u8, top: u8) -> bool {
        (top..self.end[usize::from(top)]).contains(&node)
    }

    pub(crate) fn count(&self) -> usize {
        self.parent.len() - 1
    }

    #[inline]
    pub(crate) fn intercepts(&self, node: u8) -> Intercepts {
        self.intercepts[usize::from(node)]
    }

    /// Whether reads and writes that the level finishes have borders.
    #[inline]
    pub(crate) fn has_borders(&self, node: u8) -> bool {
        self.borders[usize::from(node)]
    }

    /// Whether the level below takes writes of many messages.
    pub(crate) fn takes_batches(&self, node: u8) -> bool {
        self.batches[usize::from(node)]
    }

    pub(crate) fn word(&self, node: u8) -> usize {
        usize::from(self.words[usize::from(node)])
    }
}

impl KindPlan {
    /// The first level that sees an op of the user's.
    pub(crate) fn top(&self) -> u8 {
        self.enter[1]
    }

    fn new(kind: OpKind, intercepts: &[Intercepts], parent: &[u8], children: &[Vec<u8>]) -> Self {
        let mut plan =
            Self { down: [END; 256], up: [USER; 256], enter: [END; 256], gate: [false; 256], any_gate: false };
        for n in (0..parent.len()).rev() {
            plan.down[n] = children[n].first().map_or(END, |c| plan.enter[usize::from(*c)]);
            let me = u8::try_from(n).unwrap_or(END);
            plan.enter[n] = if intercepts[n].down(kind) { me } else { plan.down[n] };
        }
        for n in 1..parent.len() {
            let above = parent[n];
            plan.up[n] = if above == USER || intercepts[usize::from(above)].up(kind) {
                above
            } else {
                plan.up[usize::from(above)]
            };
            let concurrent = match kind {
                OpKind::Read => intercepts[n].contains(Intercepts::CONCURRENT_READS),
                OpKind::Write => intercepts[n].contains(Intercepts::CONCURRENT_WRITES),
                _ => true,
            };
            plan.gate[n] = !concurrent && intercepts[n].down(kind);
            plan.any_gate |= plan.gate[n];
        }
        plan
    }
}
