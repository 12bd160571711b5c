//! How much a user may have outstanding, a handle and direction. Invariant: what is over the limit waits
//! in the order in which it was asked, and nothing overtakes it.

use crate::driver::OpKind;
use crate::engine::core::{Inner, State, Task};
use crate::op::{Cell, Kind, OpId};
use crate::sync::planted;

impl Inner {
    /// Counts a user's op among the outstanding ones.
    pub(crate) fn charge<K: Kind>(&mut self, cell: &mut Cell<K>) {
        if cell.head.charged {
            return;
        }
        if let Some(side) = side_of(K::KIND) {
            cell.head.charged = true;
            self.sides[side].ops += 1;
            self.sides[side].bytes += cell.head.charge;
        }
    }

    pub(crate) fn uncharge(&mut self, kind: OpKind, bytes: usize) {
        let Some(i) = side_of(kind) else { return };
        self.sides[i].ops = self.sides[i].ops.saturating_sub(1);
        self.sides[i].bytes = self.sides[i].bytes.saturating_sub(bytes);
        if self.q.get().is_some() && !planted("what waits in line is not let in") {
            self.admit_waiting(i);
        }
    }

    #[inline]
    pub(super) fn admit_waiting(&mut self, side: usize) {
        if side == 0 && self.recalls() {
            return;
        }
        while let Some(id) = self.q.get().and_then(|q| q.waiting[side].front().copied()) {
            let Some(e) = self.entry(id) else {
                self.q.make().waiting[side].pop_front();
                continue;
            };
            let (step, charge) = match (&e.state, e.cell.as_ref()) {
                (State::Admission(step), Some(c)) => (*step, c.head().charge),
                _ => {
                    self.q.make().waiting[side].pop_front();
                    continue;
                }
            };
            let s = &self.sides[side];
            if s.ops > 0 && (s.ops >= self.limits.ops || s.bytes.saturating_add(charge) > self.limits.bytes) {
                return;
            }
            self.q.make().waiting[side].pop_front();
            self.sides[side].ops += 1;
            self.sides[side].bytes += charge;
            if let Some(e) = self.entry(id) {
                e.state = State::Ready(step);
                if let Some(c) = &mut e.cell {
                    c.head_mut().charged = true;
                }
            }
            self.q.make().runq.push_back(Task::Op(id));
        }
    }

    /// Whether reads are on their way back to the top, so that none may start before them.
    pub(crate) fn recalls(&self) -> bool {
        self.rare.as_ref().is_some_and(|r| r.recalling > 0)
    }

    /// Whether a user's op may start now.
    #[inline]
    pub(crate) fn may_start(&self, side: usize, charge: usize) -> bool {
        let s = &self.sides[side];
        let nobody = self.q.get().is_none_or(|q| q.waiting[side].is_empty());
        s.ops == 0
            || (nobody
                && !(side == 0 && self.recalls())
                && s.ops < self.limits.ops
                && s.bytes.saturating_add(charge) <= self.limits.bytes)
    }

    pub(crate) fn unqueue(&mut self, id: OpId) {
        if let Some(q) = self.q.get_mut() {
            q.waiting.iter_mut().for_each(|w| w.retain(|i| *i != id));
        }
    }
}

pub(crate) fn side_of(kind: OpKind) -> Option<usize> {
    match kind {
        OpKind::Read => Some(0),
        OpKind::Write => Some(1),
        _ => None,
    }
}
