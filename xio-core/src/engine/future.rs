//! A future's owner: polls its op, and may go before it ends. Invariant: an op whose future was dropped is
//! stopped, and what had come for it is not lost.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::engine::cells;
use crate::engine::core::{Core, Tree};
use crate::engine::end::End;
use crate::engine::post::Lane;
use crate::engine::submit::{Started, start};
use crate::level::Reason;
use crate::op::{Cell, Kind, OpId};
use crate::sync::{Arc, planted};

type Setup<K> = Box<dyn FnOnce(&mut Tree) -> Box<Cell<K>> + Send>;

/// An op as a future. It starts when first polled.
///
/// # Cancel safety
/// Dropping it cancels the op. Bytes that had arrived for a read go back to the top of the stack,
/// and the next read gets them first.
#[must_use = "futures do nothing unless polled"]
pub struct OpFuture<K: Kind> {
    pub(crate) core: Arc<Core>,
    state: FutureState<K>,
}

enum FutureState<K: Kind> {
    New(Setup<K>, bool),
    Under(OpId),
    Over,
}

impl<K: Kind> OpFuture<K> {
    pub(crate) fn new(core: Arc<Core>, no_wait: bool, setup: Setup<K>) -> Self {
        Self { core, state: FutureState::New(setup, no_wait) }
    }
}

impl<K: Kind> Unpin for OpFuture<K> {}

impl<K: Kind> Future for OpFuture<K> {
    type Output = K::Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<K::Outcome> {
        let me = self.get_mut();
        let id = match std::mem::replace(&mut me.state, FutureState::Over) {
            FutureState::New(setup, no_wait) => {
                let mut lane = Lane::enter(&me.core);
                let mut cell = setup(&mut lane);
                cell.end = End::Task(Some(cx.waker().clone()));
                match start(&me.core, lane, cell, no_wait, None) {
                    Started::Done(mut cell) => {
                        let out = K::outcome(&mut cell);
                        cells::keep(K::wrap(cell));
                        return Poll::Ready(out);
                    }
                    Started::Parked(id) => id,
                }
            }
            FutureState::Under(id) => id,
            FutureState::Over => return Poll::Pending,
        };
        let mut lane = Lane::enter(&me.core);
        if let Some(mut cell) = lane.collect::<K>(id) {
            let out = K::outcome(&mut cell);
            cells::keep(K::wrap(cell));
            lane.leave();
            return Poll::Ready(out);
        }
        lane.set_waker::<K>(id, cx.waker());
        lane.leave();
        me.state = FutureState::Under(id);
        Poll::Pending
    }
}

impl<K: Kind> Drop for OpFuture<K> {
    fn drop(&mut self) {
        if let FutureState::Under(id) = self.state {
            let mut lane = Lane::enter(&self.core);
            // Its waker may own more than the lock allows to drop.
            let end = lane.desert::<K>(id);
            lane.leave();
            drop(end);
        }
    }
}

impl Tree {
    fn set_waker<K: Kind>(&mut self, id: OpId, waker: &std::task::Waker) {
        let Some(entry) = self.inner.entry(id) else { return };
        if let Some(more) = &mut entry.more {
            more.waker = None;
        }
        if let Some(any) = entry.cell.take() {
            if let Some(mut cell) = K::unwrap(any) {
                match &mut cell.end {
                    End::Task(Some(w)) if w.will_wake(waker) => {}
                    end => *end = End::Task(Some(waker.clone())),
                }
                if let Some(e) = self.inner.entry(id) {
                    e.cell = Some(K::wrap(cell));
                }
            }
        } else if !planted("a waker of an op that is out is forgotten") {
            entry.more().waker = Some(waker.clone());
        }
    }

    /// The owner of an op has gone.
    fn desert<K: Kind>(&mut self, id: OpId) -> Option<End<K>> {
        if let Some(cell) = self.collect::<K>(id) {
            self.abandon(id, K::wrap(cell));
            return None;
        }
        let mut old = None;
        if let Some(entry) = self.inner.entry(id) {
            entry.deserted = !planted("a desertion is forgotten");
            if let Some(any) = entry.cell.take()
                && let Some(mut cell) = K::unwrap(any)
            {
                old = Some(std::mem::replace(&mut cell.end, End::Gone));
                if let Some(e) = self.inner.entry(id) {
                    e.cell = Some(K::wrap(cell));
                }
            }
        }
        self.cancel(id, Reason::Cancelled);
        old
    }
}
