//! What is queued for a handle. Invariant: an idle handle has no queues; they are borrowed from its
//! thread's stock while they hold something.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::driver::OpKind;
use crate::engine::core::{Signal, Task};
use crate::level::Level;
use crate::op::{AnyCell, OpId};
use crate::sync::thread_local;

/// What is queued for a handle; nothing most of the time.
#[derive(Default)]
pub(crate) struct Queues {
    /// What a level asked for in the call under way.
    pub(crate) posts: Vec<Task>,
    pub(crate) runq: VecDeque<Task>,
    /// Ops whose requests are to be tried.
    pub(crate) ios: VecDeque<OpId>,
    pub(crate) gates: VecDeque<(u8, OpKind, OpId)>,
    pub(crate) barriers: Vec<OpId>,
    pub(crate) signals: SmallVec<[Signal; 1]>,
    pub(crate) calls: VecDeque<AnyCell>,
    /// Dropped once the lock is free.
    pub(crate) garbage: Vec<Box<dyn Level>>,
    /// Ops that wait to be admitted, by direction.
    pub(crate) waiting: [VecDeque<OpId>; 2],
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.posts.is_empty()
            && self.runq.is_empty()
            && self.ios.is_empty()
            && self.gates.is_empty()
            && self.barriers.is_empty()
            && self.signals.is_empty()
            && self.calls.is_empty()
            && self.garbage.is_empty()
            && self.waiting.iter().all(VecDeque::is_empty)
    }
}

/// The queues of a handle, borrowed from its thread's stock while they hold something, so that an
/// idle handle has none.
#[derive(Default)]
pub(crate) struct Lazy(Option<Box<Queues>>);

/// Empty queues that a thread keeps.
const QUEUES_KEPT: usize = 16;

thread_local! {
    #[allow(clippy::vec_box, reason = "the boxes move between the stock and handles")]
    static STOCK: std::cell::RefCell<Vec<Box<Queues>>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Lazy {
    #[inline]
    pub(crate) fn get(&self) -> Option<&Queues> {
        self.0.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut Queues> {
        self.0.as_deref_mut()
    }

    #[inline]
    pub(crate) fn make(&mut self) -> &mut Queues {
        self.0.get_or_insert_with(|| STOCK.try_with(|s| s.borrow_mut().pop()).ok().flatten().unwrap_or_default())
    }

    /// Gives the queues back if they are empty.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if self.0.is_some() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if self.0.as_ref().is_some_and(|q| q.is_empty())
            && let Some(q) = self.0.take()
        {
            let _ = STOCK.try_with(|s| {
                let mut s = s.borrow_mut();
                if s.len() < QUEUES_KEPT {
                    s.push(q);
                }
            });
        }
    }
}
