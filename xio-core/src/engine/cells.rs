//! Cells that were used before, kept by the thread that last used them: in steady state an op costs
//! no allocation, and an idle handle holds no cell it does not need. Invariant: a kept cell carries
//! nothing of its last op.

use std::cell::RefCell;

use crate::buffer::Target;
use crate::engine::end::End;
use crate::op::{AnyCell, Cell, Head, IoSlot, Kind, OpId, Read, Role, Write};
use crate::plan::USER;
use crate::time::Time;

/// Cells of each kind that a thread keeps.
const KEPT: usize = 256;

#[allow(clippy::vec_box, reason = "the boxes move between the stock and handles")]
mod stock {
    use super::*;
    use crate::sync::thread_local;

    thread_local! {
    pub(super) static READS: RefCell<Vec<Box<Cell<Read>>>> = const { RefCell::new(Vec::new()) };
    pub(super) static WRITES: RefCell<Vec<Box<Cell<Write>>>> = const { RefCell::new(Vec::new()) };
    }
}
use stock::{READS, WRITES};

/// A read cell, used before if there is one.
#[inline]
pub(crate) fn read() -> Box<Cell<Read>> {
    READS.try_with(|s| s.borrow_mut().pop()).ok().flatten().unwrap_or_else(Cell::boxed)
}

/// A write cell, used before if there is one.
#[inline]
pub(crate) fn write() -> Box<Cell<Write>> {
    WRITES.try_with(|s| s.borrow_mut().pop()).ok().flatten().unwrap_or_else(Cell::boxed)
}

/// Keeps a read cell for later.
#[inline]
pub(crate) fn keep_read(mut cell: Box<Cell<Read>>) {
    match &mut cell.body.target {
        Target::Lent(..) => {}
        Target::Take(c) if c.is_empty() => {}
        other => *other = Target::none(),
    }
    cell.body.clean();
    clean(&mut cell);
    let _ = READS.try_with(|s| {
        let mut s = s.borrow_mut();
        if s.len() < KEPT {
            s.push(cell);
        }
    });
}

/// Keeps a write cell for later.
#[inline]
pub(crate) fn keep_write(mut cell: Box<Cell<Write>>) {
    cell.body.clean();
    clean(&mut cell);
    let _ = WRITES.try_with(|s| {
        let mut s = s.borrow_mut();
        if s.len() < KEPT {
            s.push(cell);
        }
    });
}

/// Keeps a cell for later, if it is of a kind that is often needed.
pub(crate) fn keep(any: AnyCell) {
    match any {
        AnyCell::Read(c) => keep_read(c),
        AnyCell::Write(c) => keep_write(c),
        _ => {}
    }
}

#[inline]
fn clean<K: Kind>(cell: &mut Cell<K>) {
    if !matches!(cell.end, End::Own | End::Wait(None)) {
        cell.end = End::Own;
    }
    let head = &mut cell.head;
    if head.more_words.is_some() || !head.attrs.is_empty() || head.error.is_some() {
        *head = Head::new();
        return;
    }
    head.id = OpId::NONE;
    head.origin = USER;
    head.at = USER;
    head.role = Role::Plain;
    head.waits = true;
    head.charged = false;
    if !matches!(head.io, IoSlot::None) {
        head.io = IoSlot::None;
    }
    head.deadline = Time::NEVER;
    head.serves = OpId::NONE;
    head.tag = 0;
    head.word = 0;
}
