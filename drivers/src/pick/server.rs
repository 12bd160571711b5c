//! The server side: listens on all branches, accepts from any. Invariant: a branch has at most one
//! accept of this level's below it or one link here.

use std::collections::VecDeque;

use xio_core::body::AcceptBody;
use xio_core::cntl::{Cntl, LocalContact};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Listen, OpId};
use xio_core::{Contact, Cx, Error, Flow, Held, Level, Op};

use super::driver::{labels, no_contact};
use super::gather::{Gathers, branch_of, labelled};

/// What this level knows of a link: the branch it came by.
pub(super) struct LinkBranch(pub(super) u8);

#[derive(Default)]
pub(super) struct Server {
    branches: Vec<Branch>,
    listens: Gathers<Listen>,
    closes: Gathers<Close>,
    /// All branches listen.
    ready: bool,
    waiting: VecDeque<Held<Accept>>,
    /// The branch whose turn it is.
    turn: usize,
    failed: VecDeque<Error>,
}

struct Branch {
    label: String,
    contact: Contact,
    listens: bool,
    /// An accept is on its way or its link is here.
    asked: bool,
    link: Option<AcceptBody>,
}

impl Server {
    fn branch(&mut self, tag: u32) -> Option<&mut Branch> {
        self.branches.get_mut(usize::from(branch_of(tag)))
    }

    /// Where a client connects to.
    fn contact(&self) -> Contact {
        let all = |c: Contact, b: &Branch| c.with_branch(b.label.clone(), b.contact.clone());
        self.branches.iter().fold(Contact::None, all)
    }

    fn label(&self, tag: u32) -> &str {
        self.branches.get(usize::from(branch_of(tag))).map_or("*", |b| &b.label)
    }

    /// A link that is here, from the branches in turn.
    fn next(&mut self) -> Option<(u8, AcceptBody)> {
        let n = self.branches.len();
        let i = (0..n).map(|i| (self.turn + i) % n).find(|i| self.branches[*i].link.is_some())?;
        self.turn = (i + 1) % n;
        self.branches[i].asked = false;
        Some((u8::try_from(i).ok()?, self.branches[i].link.take()?))
    }

    /// Asks every branch for a link that has none and was not asked yet.
    fn ask(&mut self, cx: &mut Cx<'_>) {
        for (b, n) in self.branches.iter_mut().zip(0u8..) {
            if b.listens && !std::mem::replace(&mut b.asked, true) {
                cx.accept(n, u32::from(n));
            }
        }
    }
}

impl Level for Server {
    fn listen<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        if self.ready {
            op.set_contact(self.contact());
            return op.finished();
        }
        for label in labels(cx) {
            let contact = match op.contact().branch(&label) {
                Some(c) => c.clone(),
                None => return op.failed(no_contact(&label)),
            };
            self.branches.push(Branch { label, contact, listens: false, asked: false, link: None });
        }
        let mut contacts = self.branches.iter().map(|b| b.contact.clone()).collect::<Vec<_>>().into_iter();
        let (held, flow) = op.hold(cx);
        let issue = |cx: &mut Cx<'_>, b, tag| cx.listen(b, contacts.next().unwrap_or_default(), tag);
        self.listens.start(cx, held, 0..cx.branches(), issue);
        flow
    }

    fn own_listen_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        let tag = op.tag();
        let error = op.clear_error().map(|e| labelled(self.label(tag), e));
        if error.is_some() {
            self.listens.stop_rest(cx, tag);
        } else if let Some(b) = self.branch(tag) {
            b.contact = op.contact().clone();
            b.listens = true;
        }
        match self.listens.back(tag, error) {
            None => {}
            Some((held, Ok(()))) => {
                self.ready = true;
                cx.retry(held);
            }
            Some((held, failed)) => cx.finish(held, failed),
        }
        op.finished()
    }

    fn accept<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        let link = self.next();
        let error = if link.is_none() { self.failed.pop_front() } else { None };
        let waits = link.is_none() && error.is_none();
        if waits || !self.waiting.is_empty() {
            self.ask(cx);
        }
        if let Some((branch, body)) = link {
            *op = body;
            op.set_link(cx, Box::new(LinkBranch(branch)));
            return op.finished();
        }
        if let Some(e) = error {
            return op.failed(e);
        }
        let (held, flow) = op.hold(cx);
        self.waiting.push_back(held);
        flow
    }

    fn own_accept_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        let tag = op.tag();
        let error = op.clear_error().map(|e| labelled(self.label(tag), e));
        let body = std::mem::take(&mut *op);
        let cancelled = error.as_ref().is_some_and(|e| e.kind() == xio_core::ErrorKind::Cancelled);
        if let Some(b) = self.branch(tag) {
            b.asked = error.is_none();
            b.link = error.is_none().then_some(body);
        }
        if cancelled {
            return op.finished();
        }
        self.failed.extend(error);
        if let Some(held) = self.waiting.pop_front() {
            cx.retry(held);
        }
        op.finished()
    }

    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        let open: Vec<u8> = (0..cx.branches()).filter(|b| self.branches[usize::from(*b)].listens).collect();
        if open.is_empty() {
            return op.finished();
        }
        let mode = op.mode();
        let (held, flow) = op.hold(cx);
        self.closes.start(cx, held, open.into_iter().rev(), |cx, b, tag| cx.close(b, mode, tag));
        flow
    }

    fn own_close_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let error = op.clear_error().map(|e| labelled(self.label(op.tag()), e));
        if let Some(b) = self.branch(op.tag()) {
            b.listens = false;
        }
        if let Some((held, result)) = self.closes.back(op.tag(), error) {
            cx.finish(held, result);
        }
        op.finished()
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        if self.listens.stop(cx, id, reason) {
            return Cancel::Keep;
        }
        self.waiting.retain(|h| h.id() != id);
        Cancel::Take
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() && self.ready {
            return c.reply::<LocalContact>(self.contact());
        }
        Err(c.unsupported())
    }
}
