//! Takes a bound stack apart and puts it together again with something between its levels, or in
//! place of its drivers. Invariant: ids, attrs, labels and order of the levels stay.

use std::sync::Arc;

use xio_core::{Driver, LevelNode, Stack};

/// Makes a level over the one given, which has this number in preorder; or gives it back as it is.
pub type Insert<'f> = dyn Fn(usize, LevelNode) -> LevelNode + 'f;
/// Makes a driver that stands for the one given, or gives it back.
pub type Replace<'f> = dyn Fn(usize, Arc<dyn Driver>) -> Arc<dyn Driver> + 'f;

/// The tree of a stack, with `insert` asked at every boundary, the one above the top included.
pub fn with_inserted(stack: &Stack, insert: &Insert<'_>) -> LevelNode {
    rebuild(stack, insert, &|_, d| d)
}

/// The tree of a stack with other drivers.
pub fn with_replaced(stack: &Stack, replace: &Replace<'_>) -> LevelNode {
    rebuild(stack, &|_, n| n, replace)
}

fn rebuild(stack: &Stack, insert: &Insert<'_>, replace: &Replace<'_>) -> LevelNode {
    node(stack, 0, insert, replace)
}

fn node(stack: &Stack, n: usize, insert: &Insert<'_>, replace: &Replace<'_>) -> LevelNode {
    let views: Vec<_> = stack.levels().collect();
    let view = views[n];
    let driver = replace(n, view.driver().clone());
    let mut out = LevelNode::new(driver).with_attr(view.attr().copy()).with_id(view.id());
    for (i, child) in views.iter().enumerate().filter(|(_, v)| v.above() == Some(n)) {
        let below = node(stack, i, insert, replace);
        out = match child.label() {
            Some(label) => out.branch(label, below),
            None => out.over(below),
        };
    }
    insert(n, out)
}
