//! The level that sends each write to one branch, and everything else to all of them. Invariant: a
//! branch that is not open gets no op but its open.

use xio_core::attr::{Group, OpAttrs};
use xio_core::caps::Unit;
use xio_core::cntl::Cntl;
use xio_core::io::Direction;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::Options;
use super::again::Again;
use super::driver::{labels, no_contact};
use super::gather::{Gathers, branch_of, is_again, labelled};
use super::merge::Merge;
use super::route::{ANY, find, join};
use super::server::LinkBranch;

pub(super) struct Branch {
    pub(super) label: String,
    pub(super) open: bool,
    /// Where it was opened towards.
    pub(super) contact: Option<Contact>,
    pub(super) again: Option<Again>,
}

impl AsRef<str> for Branch {
    fn as_ref(&self) -> &str {
        &self.label
    }
}

pub(super) struct Pick {
    options: Options,
    pub(super) branches: Vec<Branch>,
    /// Where writes go that name no branch.
    pub(super) default: u8,
    pub(super) merge: Option<Merge>,
    /// The write side was ended: of a branch that is opened later, too.
    pub(super) shut: bool,
    /// A close that waits for that of a branch.
    pub(super) closing: Option<Held<Close>>,
    opens: Gathers<Open>,
    flushes: Gathers<Flush>,
    shutdowns: Gathers<Shutdown>,
    closes: Gathers<Close>,
}

impl Pick {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            branches: Vec::new(),
            default: 0,
            merge: None,
            shut: false,
            closing: None,
            opens: Gathers::default(),
            flushes: Gathers::default(),
            shutdowns: Gathers::default(),
            closes: Gathers::default(),
        }
    }

    pub(super) fn label(&self, branch: u8) -> &str {
        self.branches.get(usize::from(branch)).map_or(ANY, |b| &b.label)
    }

    /// The branches that are open.
    pub(super) fn open_ones(&self) -> Vec<u8> {
        let number = |(i, b): (usize, &Branch)| b.open.then(|| u8::try_from(i).unwrap_or(u8::MAX));
        self.branches.iter().enumerate().filter_map(number).collect()
    }

    /// The branch that a group leads to, and the group for what lies below it.
    fn find<'g>(&self, group: &'g str) -> Result<(u8, Option<&'g str>), Error> {
        find(&self.branches, group).ok_or_else(|| {
            let known: Vec<_> = self.branches.iter().map(|b| b.label.as_str()).collect();
            let text = format!("there is no branch `{group}`; there are {}", known.join(", "));
            Error::new(ErrorKind::InvalidInput).detail(text)
        })
    }

    /// These branches are open now: reads from them begin.
    fn opened(&mut self, cx: &mut Cx<'_>, branches: &[u8]) {
        for b in branches {
            if let Some(branch) = self.branches.get_mut(usize::from(*b)) {
                branch.open = true;
            }
        }
        let lanes = branches.iter().map(|b| (*b, self.label(*b).to_owned()));
        let ahead = usize::try_from(self.options.ahead.0).unwrap_or(usize::MAX);
        let unit = cx.caps_below().map_or(Unit::Stream, |c| c.unit);
        let mut merge = Merge::new(lanes, ahead, unit);
        merge.ask(cx);
        self.merge = Some(merge);
    }

    fn open_link<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        match op.link(cx).and_then(|p| p.downcast::<LinkBranch>().ok()) {
            Some(part) if part.0 < cx.branches() => {
                self.default = part.0;
                op.pass_to(part.0)
            }
            _ => op.failed(Error::new(ErrorKind::Contract).detail("the link is not one of `pick`")),
        }
    }
}

impl Level for Pick {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        let branch = |label| Branch { label, open: false, contact: None, again: None };
        self.branches = labels(cx).into_iter().map(branch).collect();
        if let Some(label) = &self.options.default {
            match self.find(label) {
                Ok((b, _)) => self.default = b,
                Err(e) => return op.failed(e),
            }
        }
        if op.is_passive() {
            return self.open_link(cx, op);
        }
        for b in &mut self.branches {
            b.contact = op.contact().branch(&b.label).cloned();
            if b.contact.is_none() {
                return op.failed(no_contact(&b.label));
            }
        }
        let (held, flow) = op.hold(cx);
        let mut contacts = self.branches.iter().filter_map(|b| b.contact.clone());
        self.opens.start(cx, held, 0..cx.branches(), |cx, b, tag| cx.open(b, contacts.next().unwrap_or_default(), tag));
        flow
    }

    fn own_open_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        if is_again(op.tag()) {
            let error = op.clear_error();
            self.reopened(cx, branch_of(op.tag()), error);
            return op.finished();
        }
        let error = op.clear_error().map(|e| labelled(self.label(branch_of(op.tag())), e));
        if error.is_some() {
            self.opens.stop_rest(cx, op.tag());
        }
        if let Some((held, result)) = self.opens.back(op.tag(), error) {
            if result.is_ok() {
                let all: Vec<_> = (0..cx.branches()).collect();
                self.opened(cx, &all);
            }
            cx.finish(held, result);
        }
        op.finished()
    }

    fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        if op.error().is_none() {
            self.opened(cx, &[self.default]);
        }
        op.finished()
    }

    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        if self.branches.iter().any(|b| b.again.is_some()) {
            let (held, flow) = op.hold(cx);
            self.closing = Some(held);
            return flow;
        }
        let open = self.open_ones();
        if open.is_empty() {
            return op.finished();
        }
        let mode = op.mode();
        let (held, flow) = op.hold(cx);
        self.closes.start(cx, held, open.into_iter().rev(), |cx, b, tag| cx.close(b, mode, tag));
        flow
    }

    fn own_close_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let branch = branch_of(op.tag());
        if is_again(op.tag()) {
            // Whatever it came to: the branch is closed.
            let _ = op.clear_error();
            self.reclosed(cx, branch);
            return op.finished();
        }
        let error = op.clear_error().map(|e| labelled(self.label(branch), e));
        if let Some(b) = self.branches.get_mut(usize::from(branch)) {
            b.open = false;
        }
        if let Some((held, result)) = self.closes.back(op.tag(), error) {
            cx.finish(held, result);
        }
        op.finished()
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        match &mut self.merge {
            Some(m) => m.read(cx, op),
            None => op.failed(ErrorKind::Closed),
        }
    }

    fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let (below, error) = (op.brought(), op.clear_error());
        let attrs: OpAttrs = std::mem::take(op.attrs_mut());
        if let Some(m) = &mut self.merge {
            m.came(cx, branch_of(op.tag()), below, attrs, error);
        }
        op.finished()
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let (branch, below) = match op.attrs().find::<Group>() {
            None => (self.default, None),
            Some(Group(group)) => match self.find(group) {
                Ok((b, rest)) if rest == Some(group) => (b, None),
                Ok((b, rest)) => (b, Some(rest.map(|r| Group(r.to_owned())))),
                Err(e) => return op.failed(e),
            },
        };
        if let Some(again) = self.branches.get_mut(usize::from(branch)).and_then(|b| b.again.as_mut()) {
            let (held, flow) = op.hold(cx);
            again.writes.push(held);
            return flow;
        }
        if !self.branches.get(usize::from(branch)).is_some_and(|b| b.open) {
            let text = format!("branch `{}` is not open", self.label(branch));
            return op.failed(Error::new(ErrorKind::BrokenPipe).detail(text));
        }
        if let Some(group) = below {
            match group {
                Some(g) => op.attrs_mut().set(g),
                None => drop(op.attrs_mut().remove::<Group>()),
            }
            *cx.word(&mut op) = u64::from(branch) + 1;
        }
        op.pass_to(branch)
    }

    /// The owner gets the attrs back as they were.
    fn write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let word = std::mem::take(cx.word(&mut op));
        if let Some(branch) = word.checked_sub(1).and_then(|b| u8::try_from(b).ok()) {
            let group = join(self.label(branch), op.attrs().find());
            op.attrs_mut().set(group);
        }
        op.finished()
    }

    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        let open = self.open_ones();
        if open.is_empty() {
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.flushes.start(cx, held, open.into_iter(), |cx, b, tag| cx.flush(b, tag));
        flow
    }

    fn own_flush_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Flush>) -> Flow<'o> {
        let error = op.clear_error().map(|e| labelled(self.label(branch_of(op.tag())), e));
        if let Some((held, result)) = self.flushes.back(op.tag(), error) {
            cx.finish(held, result);
        }
        op.finished()
    }

    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        self.shut = true;
        let open = self.open_ones();
        if open.is_empty() {
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.shutdowns.start(cx, held, open.into_iter(), |cx, b, tag| cx.shutdown(b, tag));
        flow
    }

    fn own_shutdown_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Shutdown>) -> Flow<'o> {
        let error = op.clear_error().map(|e| labelled(self.label(branch_of(op.tag())), e));
        if let Some((held, result)) = self.shutdowns.back(op.tag(), error) {
            cx.finish(held, result);
        }
        op.finished()
    }

    fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        match &mut self.merge {
            Some(m) if op.direction() == Direction::Read => m.ready(cx, op),
            _ => op.pass_to(self.default),
        }
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        let gathered =
            self.opens.stop(cx, id, reason) || self.flushes.stop(cx, id, reason) || self.shutdowns.stop(cx, id, reason);
        if gathered {
            // It is answered when the branches' ops are back.
            return Cancel::Keep;
        }
        if let Some(m) = &mut self.merge {
            m.forget(id);
        }
        for again in self.branches.iter_mut().filter_map(|b| b.again.as_mut()) {
            again.writes.retain(|w| w.id() != id);
        }
        Cancel::Take
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        self.command(cx, c)
    }
}
