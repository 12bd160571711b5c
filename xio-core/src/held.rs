//! A token for an op that a level holds. Invariant: the op is finished exactly once, by the token,
//! by a cancel that overtook it, or by its drop.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Weak;

use crate::engine::core::Core;
use crate::engine::post::{Post, post};
use crate::error::Error;
use crate::op::{Kind, OpId};

/// An op held by a level. Owned and `Send`; consumed by finishing.
///
/// From inside the same handle use [`Cx::finish`](crate::Cx::finish), `pass_held` or
/// `finish_chunk`. From another handle or thread a token can only [`retry`](Held::retry) (the op
/// enters its level again, which then finds the data under its own lock) or [`fail`](Held::fail):
/// a token never carries data, so none can get lost when the op was cancelled meanwhile.
pub struct Held<K: Kind> {
    /// Which hold of the op it stands for: an op may come back to a level that holds it.
    inner: Option<(Weak<Core>, OpId, u8)>,
    kind: PhantomData<fn(K)>,
}

impl<K: Kind> Held<K> {
    pub(crate) fn new(core: Weak<Core>, id: OpId, hold: u8) -> Self {
        Self { inner: Some((core, id, hold)), kind: PhantomData }
    }

    /// Number of the op in its handle, as [`Level::cancel`](crate::Level::cancel) gives it. Tokens of other handles
    /// may have the same.
    pub fn id(&self) -> OpId {
        self.inner.as_ref().map_or(OpId::NONE, |(_, id, _)| *id)
    }

    /// Lets the op enter its level again. Any thread; nothing happens if it is gone.
    pub fn retry(mut self) {
        self.post(Post::Retry);
    }

    /// Fails the op. Any thread; nothing happens if it is gone.
    pub fn fail(mut self, error: impl Into<Error>) {
        let error = error.into();
        self.post(|id, hold| Post::Fail(id, hold, error));
    }

    fn post(&mut self, what: impl FnOnce(OpId, u8) -> Post) {
        if let Some((core, id, hold)) = self.inner.take()
            && let Some(core) = core.upgrade()
        {
            post(core, what(id, hold));
        }
    }

    /// Number of the op and of the hold.
    pub(crate) fn parts(&self) -> (OpId, u8) {
        self.inner.as_ref().map_or((OpId::NONE, 0), |(_, id, hold)| (*id, *hold))
    }

    /// Gives the token up for an in-handle answer.
    pub(crate) fn disarm(mut self) -> (OpId, u8) {
        let parts = self.parts();
        self.inner = None;
        parts
    }
}

impl<K: Kind> Drop for Held<K> {
    fn drop(&mut self) {
        self.post(Post::Dropped);
    }
}

impl<K: Kind> fmt::Debug for Held<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({} {})", K::KIND, self.id())
    }
}
