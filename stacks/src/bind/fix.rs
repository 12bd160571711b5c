//! Looks for the stack that was meant: another order, a level between two, a transport below.
//! Invariant: what it proposes was bound before it is proposed.

use std::sync::Arc;

use xio_core::driver::{Driver, Shape};
use xio_core::{LevelNode, Stack};

use super::Binder;
use crate::spec::{LevelSpec, StackSpec};

/// Longest spec in a message; a longer one is cut down to its names.
const MAX_TEXT: usize = 120;
/// The transport to propose if it fits.
const FAVOURITE: &str = "tcp";

impl Binder<'_> {
    /// The levels of `chain` in an order that binds: turned round, or with its transport last; if
    /// `may_add`, with a registered transform over the transport where that is what is missing.
    pub(super) fn reordered(&self, chain: &[usize], may_add: bool) -> Option<String> {
        if chain.iter().any(|i| self.levels[*i].is_unknown || !self.levels[*i].spec.branches().is_empty()) {
            return None;
        }
        let reversed: Vec<usize> = chain.iter().rev().copied().collect();
        let is_transport = |i: &usize| self.levels[*i].driver.info().shape == Shape::Transport;
        let (transports, mut others): (Vec<usize>, Vec<usize>) = chain.iter().partition(|i| is_transport(i));
        others.extend(transports);
        [reversed, others].iter().filter(|order| **order != *chain).find_map(|order| {
            let (last, above) = order.split_last()?;
            let bottom = || self.bare_node(*last);
            let added = if self.binds_over(above, bottom()) {
                None
            } else {
                let tried = may_add.then(|| self.transforms()).into_iter().flatten();
                Some(tried.into_iter().find(|d| self.binds_over(above, extra(d).over(bottom())))?)
            };
            let mut levels: Vec<_> = above.iter().map(|i| self.shown_level(*i)).collect();
            levels.extend(added.map(|d| LevelSpec::new(d.info().name)));
            levels.push(self.shown_level(*last));
            Some(text(levels))
        })
    }

    /// Names of the registered transforms that, put between two levels, make them fit.
    pub(super) fn converters(&self, above: usize, below: usize) -> Vec<&'static str> {
        let above = &self.levels[above];
        let needs = above.driver.needs(&*above.attr);
        let fits = |node: LevelNode| Stack::new(node).is_ok_and(|s| needs.fit(s.caps()).is_ok());
        let tried = self.transforms().filter(|d| fits(extra(d).over(self.node(below))));
        tried.map(|d| d.info().name).collect()
    }

    /// The chain that ends with `last`, with a registered transport below it, and a transform over
    /// that where it is needed.
    pub(super) fn with_transport(&self, last: usize) -> Option<String> {
        let chain = &self.chains[self.levels[last].chain];
        if chain.iter().any(|i| self.levels[*i].is_unknown) {
            return None;
        }
        let mut bottoms: Vec<_> = self.registry.iter().filter(|d| d.info().shape == Shape::Transport).collect();
        bottoms.sort_by_key(|d| d.info().name != FAVOURITE);
        let direct = bottoms.iter().copied().find(|b| self.binds_over(chain, extra(b))).map(|b| vec![b]);
        let added = direct.or_else(|| {
            let pairs = bottoms.iter().flat_map(|b| self.transforms().map(move |t| vec![t, *b]));
            let named = |pair: &[&Arc<dyn Driver>]| LevelNode::new(pair[1].clone()).with_id("?below");
            pairs.into_iter().find(|pair| self.binds_over(chain, extra(pair[0]).over(named(pair))))
        })?;
        let levels = chain.iter().map(|i| self.shown_level(*i));
        Some(text(levels.chain(added.iter().map(|d| LevelSpec::new(d.info().name))).collect()))
    }

    fn transforms(&self) -> impl Iterator<Item = &Arc<dyn Driver>> {
        self.registry.iter().filter(|d| d.info().shape == Shape::Transform)
    }

    fn binds_over(&self, above: &[usize], bottom: LevelNode) -> bool {
        Stack::new(above.iter().rev().fold(bottom, |node, i| self.bare_node(*i).over(node))).is_ok()
    }
}

/// A level that is only tried out. Its id cannot clash: no level's id holds a `?`.
fn extra(driver: &Arc<dyn Driver>) -> LevelNode {
    LevelNode::new(driver.clone()).with_id("?")
}

/// The levels as a spec, or as names alone if that gets long.
fn text(levels: Vec<LevelSpec>) -> String {
    let full = StackSpec::new(levels);
    let text = full.to_string();
    if text.len() <= MAX_TEXT {
        return text;
    }
    full.levels().iter().map(LevelSpec::name).collect::<Vec<_>>().join("/")
}
