//! What each level of a handle has seen, as a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};
use xio_stacks::Handle;
use xio_stacks::core::driver::OpKind;
use xio_stacks::core::stats::Counts;

use crate::render::{Paint, Table, bytes, time};

/// The levels of a handle from the top, with their counts. Empty unless it was opened with stats.
pub(crate) struct Levels(Vec<(String, Counts)>);

impl Levels {
    pub(crate) fn of(handle: &Handle) -> Self {
        Self(handle.stats())
    }

    /// A line a level: ops and bytes that passed it, time that one call of it takes.
    pub(crate) fn table(&self, indent: &str, paint: Paint) -> String {
        let head = ["level", "writes", "bytes out", "reads", "bytes in", "a call takes"];
        let mut table = Table::new(b"<>>>>>", head);
        for (id, c) in &self.0 {
            table.row([
                id.clone(),
                c.ops[OpKind::Write as usize].to_string(),
                bytes(c.written as f64),
                c.ops[OpKind::Read as usize].to_string(),
                bytes(c.read as f64),
                each(c).map_or_else(|| "-".into(), time),
            ]);
        }
        table.render(indent, paint)
    }

    /// An object a level.
    pub(crate) fn json(&self) -> Value {
        let level = |(id, c): &(String, Counts)| {
            json!({
                "level": id,
                "writes": c.ops[OpKind::Write as usize],
                "written": c.written,
                "reads": c.ops[OpKind::Read as usize],
                "read": c.read,
                "sampled": c.sampled,
                "ns_per_call": each(c).map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)),
            })
        };
        self.0.iter().map(level).collect()
    }
}

/// Time of a sampled call; none was sampled where nothing is.
fn each(c: &Counts) -> Option<Duration> {
    u32::try_from(c.sampled).ok().filter(|n| *n > 0).map(|n| c.time / n)
}
