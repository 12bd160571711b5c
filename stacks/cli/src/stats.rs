//! What each level of a handle has seen, as a table and as JSON.
//! Invariant: what a level has no way to see is a dash or null, not 0.

use std::time::Duration;

use serde_json::{Value, json};
use xio_stacks::Handle;
use xio_stacks::core::driver::{Intercepts, OpKind, Role};
use xio_stacks::core::stats::Counts;

use crate::render::{Paint, Table, bytes, time};

/// The levels of a handle from the top, with their counts. Empty unless it was opened with stats.
pub(crate) struct Levels(Vec<Level>);

struct Level {
    id: String,
    counts: Counts,
    intercepts: Intercepts,
}

impl Levels {
    pub(crate) fn of(handle: &Handle) -> Self {
        let stack = handle.stack();
        let level = |(id, counts): (String, Counts)| {
            let intercepts =
                stack.level(&id).map(|l| l.driver().intercepts(l.attr(), Role::Handle)).unwrap_or_default();
            Level { id, counts, intercepts }
        };
        Self(handle.stats().into_iter().map(level).collect())
    }

    /// A line a level: ops and bytes that passed it, time that one call of it takes.
    pub(crate) fn table(&self, indent: &str, paint: Paint) -> String {
        let head = ["level", "writes", "bytes out", "reads", "bytes in", "a call takes"];
        let mut table = Table::new(b"<>>>>>", head);
        let or = |n: Option<u64>, f: fn(u64) -> String| n.map_or_else(|| "-".into(), f);
        let size = |n| bytes(n as f64);
        let number = |n: u64| n.to_string();
        for l in &self.0 {
            table.row([
                l.id.clone(),
                or(l.ops(OpKind::Write), number),
                or(l.moved(OpKind::Write), size),
                or(l.ops(OpKind::Read), number),
                or(l.moved(OpKind::Read), size),
                l.each().map_or_else(|| "-".into(), time),
            ]);
        }
        table.render(indent, paint)
    }

    /// An object a level.
    pub(crate) fn json(&self) -> Value {
        let level = |l: &Level| {
            json!({
                "level": l.id,
                "writes": l.ops(OpKind::Write),
                "written": l.moved(OpKind::Write),
                "reads": l.ops(OpKind::Read),
                "read": l.moved(OpKind::Read),
                "sampled": l.counts.sampled,
                "ns_per_call": l.each().map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)),
            })
        };
        self.0.iter().map(level).collect()
    }
}

impl Level {
    /// Ops of a kind that it saw.
    fn ops(&self, kind: OpKind) -> Option<u64> {
        let n = self.counts.ops[kind as usize];
        (n > 0 || self.sees(kind)).then_some(n)
    }

    /// Bytes of a kind that it saw.
    fn moved(&self, kind: OpKind) -> Option<u64> {
        let n = if kind == OpKind::Read { self.counts.read } else { self.counts.written };
        (n > 0 || self.sees(kind)).then_some(n)
    }

    fn sees(&self, kind: OpKind) -> bool {
        self.intercepts.down(kind) || self.intercepts.up(kind)
    }

    /// Time of a sampled call; none was sampled where nothing is.
    fn each(&self) -> Option<Duration> {
        u32::try_from(self.counts.sampled).ok().filter(|n| *n > 0).map(|n| self.counts.time / n)
    }
}
