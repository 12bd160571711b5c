//! The names of one driver, and what waits behind each. Invariant: a name leads to a server that
//! listens; connections that nobody accepts go with it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use xio_core::op::{Accept, OpId, Open};
use xio_core::{Contact, Error, ErrorKind, Held};

use super::pipe::End;

/// What may stand before a name.
const PREFIX: &str = "loop:";

/// The servers of one driver, by name.
#[derive(Default)]
pub(super) struct Names {
    map: Mutex<HashMap<Arc<str>, Arc<Backlog>>>,
    next: AtomicU64,
}

/// A server, to its clients.
pub(super) struct Backlog {
    pub(super) name: Arc<str>,
    pub(super) message: bool,
    pub(super) buffer: usize,
    limit: usize,
    state: Mutex<Waiting>,
}

/// Who waits at a server.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) closed: bool,
    pub(super) links: VecDeque<End>,
    pub(super) accepts: SmallVec<[Held<Accept>; 1]>,
    /// Opens of several handles, whose numbers may be the same: each has a place.
    pub(super) opens: SmallVec<[(u64, Held<Open>); 1]>,
    next: u64,
}

impl Names {
    /// A contact nobody else has.
    pub(super) fn fresh(&self) -> Contact {
        contact(&self.fresh_name())
    }

    fn fresh_name(&self) -> Arc<str> {
        format!("#{}", self.next.fetch_add(1, Ordering::Relaxed) + 1).into()
    }

    /// Starts to listen.
    pub(super) fn listen(
        &self,
        at: &Contact,
        message: bool,
        buffer: usize,
        limit: usize,
    ) -> Result<Arc<Backlog>, Error> {
        let mut map = self.map.lock();
        let name: Arc<str> = match at {
            Contact::None => {
                std::iter::repeat_with(|| self.fresh_name()).find(|n| !map.contains_key(n)).unwrap_or_default()
            }
            at => name(at)?.into(),
        };
        if map.contains_key(&name) {
            return Err(Error::new(ErrorKind::AddrInUse).detail(format!("`{name}` has a server")));
        }
        let state = Mutex::new(Waiting::default());
        let backlog = Arc::new(Backlog { name: name.clone(), message, buffer, limit, state });
        map.insert(name, backlog.clone());
        Ok(backlog)
    }

    /// Stops listening: connections that nobody accepted are reset, opens that wait are refused.
    pub(super) fn close(&self, backlog: &Backlog) {
        self.map.lock().remove(&backlog.name);
        let waiting = {
            let mut w = backlog.lock();
            let waiting = std::mem::take(&mut *w);
            w.closed = true;
            waiting
        };
        waiting.opens.into_iter().for_each(|(_, h)| h.retry());
    }

    /// The server of a name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Backlog>> {
        self.map.lock().get(name).cloned()
    }
}

impl Backlog {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock()
    }

    pub(super) fn contact(&self) -> Contact {
        contact(&self.name)
    }

    pub(super) fn is_full(&self, w: &Waiting) -> bool {
        w.links.len() >= self.limit
    }
}

impl Waiting {
    /// Has an open wait; says its place.
    pub(super) fn hold_open(&mut self, held: Held<Open>) -> u64 {
        self.next += 1;
        self.opens.push((self.next, held));
        self.next
    }

    /// Takes the token of a cancelled open out.
    pub(super) fn forget_open(&mut self, place: u64) -> Option<Held<Open>> {
        self.opens.iter().position(|(p, _)| *p == place).map(|i| self.opens.remove(i).1)
    }

    /// Takes the token of a cancelled accept out.
    pub(super) fn forget_accept(&mut self, id: OpId) -> Option<Held<Accept>> {
        self.accepts.iter().position(|h| h.id() == id).map(|i| self.accepts.remove(i))
    }
}

/// The name in a contact.
pub(super) fn name(at: &Contact) -> Result<&str, Error> {
    let text = at.text().ok_or_else(|| {
        let what = if at.is_none() { "there is none" } else { "a map of branches was given" };
        Error::new(ErrorKind::InvalidContact).detail(format!("`loop` takes a name, as `echo`; {what}"))
    })?;
    match text.strip_prefix(PREFIX).unwrap_or(text) {
        "" => Err(Error::new(ErrorKind::InvalidContact).detail("the name is empty")),
        name => Ok(name),
    }
}

fn contact(name: &str) -> Contact {
    Contact::new(format!("{PREFIX}{name}"))
}
