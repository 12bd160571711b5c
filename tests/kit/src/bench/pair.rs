//! Both ends of a connection, and how a server takes in whoever comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use xio_core::{Contact, Error, Handle, Server, Stack, Ticket};

use super::{LONG, Tell};
use crate::verdict::Checked;

/// Whatever comes to a server while this is about, accepted and opened.
pub struct Guests(Arc<Door>);

struct Door {
    server: Server,
    came: Tell<(Contact, Result<Handle, Error>)>,
    /// All accepts so far: cancelling one that is over does nothing.
    waits: Mutex<Vec<Ticket>>,
    shut: AtomicBool,
}

impl Guests {
    /// Begins to accept.
    pub fn of(server: &Server) -> Self {
        let door =
            Door { server: server.clone(), came: Tell::new(), waits: Mutex::default(), shut: AtomicBool::new(false) };
        let door = Arc::new(door);
        wait(&door);
        Self(door)
    }

    /// How many are open, or failed to open.
    pub fn len(&self) -> usize {
        self.0.came.len()
    }

    /// Whether nobody came.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that came: first the branch that writes take where nothing is said, then the others.
    ///
    /// # Errors
    /// Where nobody came, or did not open.
    pub fn take(self, stack: &Stack, server: &Server) -> Checked<(Handle, Vec<Handle>)> {
        let mut came = self.0.came.take();
        ensure!(!came.is_empty(), "a handle opened, and its server accepted nothing");
        let first = server.contact();
        let first = first_labels(stack).into_iter().try_fold(first, |c, l| c.branch(l));
        let main = came.iter().position(|(local, _)| first == Some(local)).unwrap_or(0);
        let (_, main) = came.swap_remove(main);
        Ok((main?, came.into_iter().map(|(_, h)| h).collect::<Result<_, Error>>()?))
    }
}

/// The labels on the way to the first transport, from the top down.
fn first_labels(stack: &Stack) -> Vec<&str> {
    let views: Vec<_> = stack.levels().collect();
    // In preorder that is as far as each level is the one above the next.
    let way = (0..views.len()).take_while(|n| views[*n].above() == n.checked_sub(1));
    way.filter_map(|n| views[n].label()).collect()
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.0.shut.store(true, Ordering::Relaxed);
        let waits = std::mem::take(&mut *self.0.waits.lock().unwrap_or_else(PoisonError::into_inner));
        waits.iter().for_each(Ticket::cancel);
    }
}

fn wait(door: &Arc<Door>) {
    if door.shut.load(Ordering::Relaxed) {
        return;
    }
    let me = door.clone();
    let ticket = door.server.accept().then(move |link| {
        let Ok(link) = link else { return };
        wait(&me);
        let (local, tell) = (link.local().clone(), me.came.clone());
        let call = link.open().max_ops(1 << 20).max_bytes(1 << 40).deadline(LONG);
        call.then(move |r| tell.note((local, r)));
    });
    door.waits.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
}

/// Both ends of a connection.
pub struct Pair {
    /// The end that opened.
    pub near: Handle,
    /// The end that was accepted.
    pub far: Handle,
    /// What was accepted beside it: the other branches of a branching stack.
    pub rest: Vec<Handle>,
    /// Where it was accepted.
    pub server: Server,
}

impl Pair {
    /// Each end once as the first and once as the second.
    pub fn both_ways(&self) -> [(&Handle, &Handle); 2] {
        [(&self.near, &self.far), (&self.far, &self.near)]
    }

    /// Ends what the far end writes, on all branches.
    ///
    /// # Errors
    /// Where a branch refuses.
    pub fn end_far(&self) -> Checked {
        for h in std::iter::once(&self.far).chain(&self.rest) {
            h.shutdown().deadline(LONG).wait()?;
        }
        Ok(())
    }
}
