//! Gates: a level that has one is passed by one op of a direction at a time, the others wait there in the
//! order they came. Invariant: an op counts in the gates it has come through while it is put away, and in
//! none while the loop moves it or a thread tries it, which [`Try`](crate::engine::core::Try) says.
//! Does not: move an op; whoever may go through is queued to run.

use smallvec::SmallVec;

use crate::driver::OpKind;
use crate::engine::core::{Inner, State, Step, Task};
use crate::op::OpId;
use crate::plan::{Plan, USER};
use crate::sync::planted;

impl Inner {
    /// Counts an op that is put away in the gates it has come through.
    pub(crate) fn hold_gates(&mut self, plan: &Plan, id: OpId, kind: OpKind, at: u8, origin: u8) {
        let kp = plan.kind(kind);
        if !kp.any_gate {
            return;
        }
        let Some(entry) = self.entry(id) else { return };
        if entry.gated != 0 {
            return;
        }
        let waits_at = matches!(entry.state, State::Gate(n) if n == at);
        let side = usize::from(kind == OpKind::Write);
        let mut n = if waits_at { plan.parent(at) } else { at };
        entry.gated = n;
        while n > origin {
            if kp.gate[usize::from(n)] {
                self.nodes[usize::from(n)].busy[side] += 1;
            }
            n = plan.parent(n);
        }
    }

    pub(crate) fn release_gates(&mut self, plan: &Plan, id: OpId) {
        let Some(entry) = self.entry(id) else { return };
        let mut n = std::mem::take(&mut entry.gated);
        let (kind, origin) = (entry.kind, entry.origin);
        let kp = plan.kind(kind);
        let side = usize::from(kind == OpKind::Write);
        while n > origin {
            if kp.gate[usize::from(n)] {
                let busy = &mut self.nodes[usize::from(n)].busy[side];
                *busy = busy.saturating_sub(1);
            }
            n = plan.parent(n);
        }
    }

    /// Whether an op must wait before it enters this level.
    #[inline]
    pub(crate) fn gate_shut(&mut self, plan: &Plan, kind: OpKind, node: u8, mine: OpId) -> bool {
        let side = usize::from(kind == OpKind::Write);
        self.nodes[usize::from(node)].busy[side] > 0
            || (self.is_tried(plan, side, node) && !planted("a gate sees no try"))
            || (self.q.get().is_some_and(|q| !q.gates.is_empty()) && !self.is_next(kind, node, mine))
    }

    /// Whether a read or write that is tried has come through this level.
    #[inline]
    fn is_tried(&self, plan: &Plan, side: usize, node: u8) -> bool {
        let at = self.tries[side].at;
        at != USER && plan.within(at, node)
    }

    /// Whether nobody else stands at the gate before `mine`, which goes through then.
    #[cold]
    fn is_next(&mut self, kind: OpKind, node: u8, mine: OpId) -> bool {
        let gates = &mut self.q.make().gates;
        match gates.iter().position(|(n, k, _)| *n == node && *k == kind) {
            Some(i) if gates[i].2 == mine => gates.remove(i).is_some(),
            Some(_) => false,
            None => true,
        }
    }

    /// An op goes through no gate any more: whoever stood behind it is first.
    #[cold]
    pub(crate) fn leave_gate(&mut self, id: OpId) {
        if let Some(q) = self.q.get_mut() {
            q.gates.retain(|(_, _, i)| *i != id);
        }
    }

    /// Has the first waiter of each open gate run. It keeps its place until it is through, so that
    /// nobody gets in before it.
    pub(crate) fn open_gates(&mut self, plan: &Plan) {
        if self.q.get().is_none_or(|q| q.gates.is_empty()) || planted("a gate that opens lets nobody in") {
            return;
        }
        let mut seen: SmallVec<[(u8, OpKind); 4]> = SmallVec::new();
        let mut i = 0;
        while let Some((node, kind, id)) = self.q.get().and_then(|q| q.gates.get(i).copied()) {
            i += 1;
            let side = usize::from(kind == OpKind::Write);
            let shut = self.nodes[usize::from(node)].busy[side] > 0 || self.is_tried(plan, side, node);
            if shut || seen.contains(&(node, kind)) {
                continue;
            }
            seen.push((node, kind));
            if let Some(e) = self.entry(id).filter(|e| matches!(e.state, State::Gate(_))) {
                e.state = State::Ready(Step::Enter(node));
                self.q.make().runq.push_back(Task::Op(id));
            }
        }
    }
}
