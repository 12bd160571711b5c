//! The timers of an engine. Invariant: nothing fires before its time, and an entry that was taken
//! away never fires. Its lock is the last in the order: it is taken inside a handle's lock, and
//! nothing is called while it is held.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use crate::engine::core::Core;
use crate::op::OpId;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, planted};
use crate::time::Time;

pub(crate) enum Due {
    /// An op's deadline.
    Deadline(Weak<Core>, OpId),
    /// A level's timer.
    Level { core: Weak<Core>, node: u8, tag: u32, alive: Arc<AtomicBool>, every: Option<Duration> },
}

#[derive(Default)]
struct List {
    entries: BTreeMap<(Time, u64), Due>,
    next: u64,
}

pub(crate) struct Timers {
    list: Mutex<List>,
    /// The time of the first entry, to look at without the lock.
    first: AtomicU64,
    /// Until when the reactor sleeps at the moment; an earlier timer has to wake it.
    pub(crate) sleeping_until: AtomicU64,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { list: Mutex::new(List::default()), first: AtomicU64::new(u64::MAX), sleeping_until: AtomicU64::new(0) }
    }

    pub(crate) fn deadline(&self, at: Time, core: Weak<Core>, id: OpId) -> u64 {
        self.insert(at, Due::Deadline(core, id))
    }

    pub(crate) fn level(
        &self,
        at: Time,
        every: Option<Duration>,
        core: Weak<Core>,
        node: u8,
        tag: u32,
        alive: Arc<AtomicBool>,
    ) -> u64 {
        self.insert(at, Due::Level { core, node, tag, alive, every })
    }

    fn insert(&self, at: Time, due: Due) -> u64 {
        let mut list = self.list.lock();
        let key = list.next;
        list.next += 1;
        list.entries.insert((at, key), due);
        self.note_first(&list);
        key
    }

    pub(crate) fn remove(&self, at: Time, key: u64) {
        let mut list = self.list.lock();
        list.entries.remove(&(at, key));
        if !planted("a timer that is taken away stays first") {
            self.note_first(&list);
        }
    }

    fn note_first(&self, list: &List) {
        let first = list.entries.keys().next().map_or(u64::MAX, |(t, _)| t.as_nanos());
        self.first.store(first, Ordering::SeqCst);
    }

    /// The time of the first timer.
    pub(crate) fn first(&self) -> Time {
        Time::from_nanos(self.first.load(Ordering::SeqCst))
    }

    /// Whether a timer was set that the sleeping reactor does not know of. Whoever hears so wakes it: one does,
    /// and the others, of whom there may be one an op until the sleeper gets a CPU, make no system call. What
    /// they set meanwhile it finds when it looks, before it sleeps again.
    pub(crate) fn must_wake(&self) -> bool {
        let until = self.sleeping_until.load(Ordering::SeqCst);
        self.first.load(Ordering::SeqCst) < until
            && !planted("a new timer wakes nobody")
            && self.sleeping_until.compare_exchange(until, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Takes one timer that is due.
    pub(crate) fn pop(&self, now: Time) -> Option<Due> {
        if self.first() > now {
            return None;
        }
        let mut list = self.list.lock();
        let (&(at, key), _) = list.entries.first_key_value()?;
        if at > now {
            return None;
        }
        let due = list.entries.remove(&(at, key));
        if let Some(Due::Level { core, node, tag, alive, every: Some(d) }) = &due
            && (alive.load(Ordering::Relaxed) || planted("a repeating timer goes on"))
        {
            let key = list.next;
            list.next += 1;
            let again =
                Due::Level { core: core.clone(), node: *node, tag: *tag, alive: alive.clone(), every: Some(*d) };
            list.entries.insert((now + *d, key), again);
        }
        self.note_first(&list);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_never_early_and_can_be_taken_away() {
        let t = Timers::new();
        let id = |n| OpId { slot: n, generation: 1 };
        let k = t.deadline(Time::from_nanos(20), Weak::new(), id(2));
        t.deadline(Time::from_nanos(10), Weak::new(), id(1));
        t.deadline(Time::from_nanos(30), Weak::new(), id(3));
        assert!(t.pop(Time::from_nanos(9)).is_none());
        t.remove(Time::from_nanos(20), k);
        let mut got = Vec::new();
        while let Some(Due::Deadline(_, id)) = t.pop(Time::from_nanos(100)) {
            got.push(id.slot);
        }
        assert_eq!(got, [1, 3]);
        assert_eq!(t.first(), Time::NEVER);
    }

    #[test]
    fn a_repeating_timer_comes_again_until_it_is_dropped() {
        let t = Timers::new();
        let alive = Arc::new(AtomicBool::new(true));
        t.level(Time::from_nanos(5), Some(Duration::from_nanos(5)), Weak::new(), 1, 0, alive.clone());
        assert!(t.pop(Time::from_nanos(5)).is_some());
        assert!(t.pop(Time::from_nanos(9)).is_none());
        alive.store(false, Ordering::Relaxed);
        assert!(t.pop(Time::from_nanos(10)).is_some());
        assert_eq!(t.first(), Time::NEVER);
    }
}
