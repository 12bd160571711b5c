//! What a user holds of an open stack: [`Handle`]. Its ops are in `calls`, how it comes to be in
//! `opening`. Invariant: one submission type a kind of op, three endings each: `.wait()`, `.await`,
//! `.then(f)`.

mod calls;
mod opening;

use std::fmt;
use std::time::Duration;

use crate::caps::Caps;
use crate::cntl::{Cntl, Command};
use crate::contact::Contact;
use crate::cx::{Cx, Event};
use crate::driver::OpKind;
use crate::engine::Engine;
use crate::engine::core::{Core, Tree};
use crate::engine::end::End;
use crate::engine::post::{Lane, Post, post};
use crate::engine::submit::start;
use crate::error::{Error, ErrorKind};
use crate::op::{Cell, Close};
use crate::stack::Stack;
use crate::stats::Counts;
use crate::sync::Arc;

pub use calls::{CloseCall, PlainCall, ReadCall, ReadInto, WriteCall, WriteFrom};
pub use opening::{ListenCall, OpenCall};

/// Outstanding ops a handle and direction, unless the open says otherwise.
pub const MAX_OPS: u32 = 64;
/// Outstanding bytes a handle and direction, unless the open says otherwise.
pub const MAX_BYTES: usize = 1 << 20;
/// Time an orderly close has before it is forced, unless the close says otherwise.
pub const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How to close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseMode {
    /// Outstanding reads are cancelled, writes still go out.
    #[default]
    Graceful,
    /// Everything outstanding is cancelled; a transport that can resets the connection.
    Abort,
    /// Waits for everything outstanding.
    Keep,
}

/// How a handle is set up, beside its stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) max_ops: u32,
    pub(crate) max_bytes: usize,
    pub(crate) idle: [Option<Duration>; 2],
    pub(crate) stats: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { max_ops: MAX_OPS, max_bytes: MAX_BYTES, idle: [None, None], stats: false }
    }
}

/// An open stack. Cheap to clone, `Send` and `Sync`; with the last clone it closes by itself.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Owner>);

/// The users' hold on a handle or server.
pub(crate) struct Owner {
    pub(crate) core: Arc<Core>,
    pub(crate) engine: Engine,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.shared.keep(self.core.clone());
        post(self.core.clone(), Post::LastUser);
    }
}

/// Closes a handle nobody holds any more.
pub(crate) fn close_unheld(core: &Arc<Core>) {
    let lane = Lane::enter(core);
    if lane.levels.is_empty() {
        let kept = lane.inner.shared.release(core.key);
        lane.leave();
        drop(kept);
        return;
    }
    let mut cell = Cell::<Close>::boxed();
    cell.end = End::Gone;
    cell.head.deadline = lane.inner.shared.now() + CLOSE_TIME;
    // Already closing: the close under way lets it go.
    let _ = start(core, lane, cell, false, None);
}

impl Handle {
    /// What the stack gives.
    pub fn caps(&self) -> Caps {
        self.stack().caps().clone()
    }

    /// The stack it was opened from.
    pub fn stack(&self) -> Stack {
        let lane = Lane::enter(&self.0.core);
        let stack = lane.inner.stack.clone();
        lane.leave_quiet();
        stack
    }

    /// The engine it runs on.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Gives one level a command.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownLevel`], [`ErrorKind::UnsupportedCommand`], [`ErrorKind::Closed`], or what
    /// the level says.
    pub fn cntl<C: Command>(&self, level: &str, command: C) -> Result<C::Reply, Error> {
        cntl(&self.0.core, Some(level), &command)
    }

    /// Asks level by level from the top, until one knows the command.
    ///
    /// # Errors
    /// As [`cntl`](Self::cntl).
    pub fn query<C: Command>(&self, command: C) -> Result<C::Reply, Error> {
        cntl(&self.0.core, None, &command)
    }

    /// Whether `contact` would reach the peer of this handle. `None`: no level can tell.
    pub fn same_peer(&self, contact: &Contact) -> Option<bool> {
        let lane = Lane::enter(&self.0.core);
        let answer = lane.levels.iter().find_map(|l| l.same_peer(contact));
        lane.leave_quiet();
        answer
    }

    /// What each level has seen so far, from the top; empty unless the open asked for it.
    pub fn stats(&self) -> Vec<(String, Counts)> {
        stats(&self.0.core)
    }

    /// Asks all outstanding ops of these kinds to stop.
    pub fn cancel_all(&self, kinds: &[OpKind]) {
        let mut lane = Lane::enter(&self.0.core);
        lane.cancel_kinds(kinds);
        lane.leave();
    }

    /// Calls `f` for every event that rises to the top. One listener; the last one set stays. At most 64
    /// events wait for a listener that is busy; those that come then are lost.
    pub fn on_event(&self, f: impl FnMut(&Event) + Send + 'static) {
        let mut lane = Lane::enter(&self.0.core);
        lane.inner.rare().on_event = Some(Box::new(f));
        lane.leave_quiet();
    }

    /// Outstanding reads and writes.
    pub fn outstanding(&self) -> (u32, u32) {
        let lane = Lane::enter(&self.0.core);
        let n = (lane.inner.sides[0].ops, lane.inner.sides[1].ops);
        lane.leave_quiet();
        n
    }

    /// Puts bytes back that were read and not used; the next read gets them first.
    pub fn unread(&self, bytes: bytes::Bytes) {
        let mut lane = Lane::enter(&self.0.core);
        lane.unread(bytes.into());
        lane.leave();
    }

    /// A half for reading and a half for writing; both are this handle.
    pub fn split(self) -> (Self, Self) {
        (self.clone(), self)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.stack())
    }
}

/// Gives a command to one level, or to each from the top until one knows it.
pub(crate) fn cntl<C: Command>(core: &Arc<Core>, level: Option<&str>, command: &C) -> Result<C::Reply, Error> {
    let mut lane = Lane::enter(core);
    let mut c = Cntl::new(command);
    let result = lane.cntl(level, &mut c);
    let c = c.detach();
    lane.leave();
    result?;
    // Deferred answers make their system call here, with the lock released.
    c.into_reply::<C>()
}

pub(crate) fn stats(core: &Arc<Core>) -> Vec<(String, Counts)> {
    let lane = Lane::enter(core);
    let counts = lane.inner.rare.as_ref().and_then(|r| r.counts.clone());
    let ids = lane.inner.stack.nodes().iter().map(|n| n.place.level.to_string());
    let out = counts.map(|c| ids.zip(c.iter().copied()).collect()).unwrap_or_default();
    lane.leave_quiet();
    out
}

impl Tree {
    fn cntl(&mut self, level: Option<&str>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if self.levels.is_empty() {
            return Err(self.inner.dead());
        }
        let stack = self.inner.stack.clone();
        let mut found = false;
        for (i, node) in stack.nodes().iter().enumerate() {
            if level.is_some_and(|l| *l != *node.place.level) {
                continue;
            }
            found = true;
            let Self { levels, plan, inner } = self;
            let n = u8::try_from(i + 1).unwrap_or(u8::MAX);
            let mut cx = Cx { inner, plan, node: n };
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| levels[i].cntl(&mut cx, c)));
            self.queue_posts();
            match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(e)) if e.kind() == ErrorKind::UnsupportedCommand => {
                    if let Some(result) = generic(node, c) {
                        return result;
                    }
                }
                Ok(Err(e)) => return Err(e.at_level(node.place.clone())),
                Err(_) => {
                    self.poison_at(n);
                    return Err(self.inner.dead());
                }
            }
        }
        if found {
            return Err(c.unsupported());
        }
        let known: Vec<_> = stack.levels().map(|l| l.id().to_owned()).collect();
        Err(Error::new(ErrorKind::UnknownLevel).detail(format!(
            "`{}`; there are {}",
            level.unwrap_or_default(),
            known.join(", ")
        )))
    }

    fn cancel_kinds(&mut self, kinds: &[OpKind]) {
        let ids: Vec<_> = self.inner.ids(|e| e.origin == 0 && kinds.contains(&e.kind)).collect();
        for id in ids {
            self.cancel(id, crate::level::Reason::Cancelled);
        }
        for (side, kind) in [OpKind::Read, OpKind::Write].into_iter().enumerate() {
            let t = &mut self.inner.tries[side];
            t.stop |= t.at != crate::plan::USER && kinds.contains(&kind);
        }
    }
}

/// Commands the engine answers where a level does not.
fn generic(node: &crate::stack::Node, c: &mut Cntl<'_>) -> Option<Result<(), Error>> {
    use crate::cntl;
    if c.command::<cntl::Caps>().is_some() {
        return Some(c.reply::<cntl::Caps>(node.caps.clone()));
    }
    if let Some(cntl::GetOption(name)) = c.command()
        && node.attr.specs().iter().any(|s| s.name == name)
    {
        return Some(c.reply::<cntl::GetOption>(node.attr.value(name)));
    }
    None
}
