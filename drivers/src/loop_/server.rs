//! The level that listens under a name. Invariant: the name is taken exactly while the level listens.

use std::sync::Arc;

use xio_core::cntl::{self, Cntl};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Listen, OpId};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};

use super::Options;
use super::driver::size;
use super::names::{Backlog, Names};

/// A server.
pub(super) struct Listener {
    names: Arc<Names>,
    options: Options,
    backlog: Option<Arc<Backlog>>,
}

impl Listener {
    pub(super) fn new(names: Arc<Names>, options: Options) -> Self {
        Self { names, options, backlog: None }
    }

    fn stop(&mut self) {
        if let Some(backlog) = self.backlog.take() {
            self.names.close(&backlog);
        }
    }
}

impl Level for Listener {
    fn listen<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        let o = &self.options;
        match self.names.listen(op.contact(), o.message, size(o.buffer), o.backlog as usize) {
            Ok(backlog) => {
                op.set_contact(backlog.contact());
                self.backlog = Some(backlog);
                op.finished()
            }
            Err(e) => op.failed(e),
        }
    }

    fn accept<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        let Some(backlog) = &self.backlog else { return op.failed(ErrorKind::Closed) };
        let mut w = backlog.lock();
        let Some(end) = w.links.pop_front() else {
            let (held, flow) = op.hold(cx);
            w.accepts.push(held);
            return flow;
        };
        let opens = std::mem::take(&mut w.opens);
        drop(w);
        opens.into_iter().for_each(|(_, h)| h.retry());
        op.set_contacts(end.local.clone(), end.peer.clone());
        op.set_link(cx, Box::new(end));
        op.finished()
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.stop();
        op.finished()
    }

    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        if let Some(backlog) = &self.backlog {
            let found = backlog.lock().forget_accept(id);
            drop(found);
        }
        Cancel::Take
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        match &self.backlog {
            Some(b) if c.command::<cntl::LocalContact>().is_some() => c.reply::<cntl::LocalContact>(b.contact()),
            _ => Err(c.unsupported()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}
