//! The level that sends each write to one branch, and everything else to all of them.

use std::sync::Arc;

use xio_core::attr::{Attr, Group, OpAttrs};
use xio_core::caps::{self, Caps, Needs, NoBranch, Unit};
use xio_core::cntl::{Cntl, Command, LocalContact, PathInfo, RemoteContact};
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::io::Direction;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Level, Op};

use super::Options;
use super::gather::{Gathers, branch_of, labelled};
use super::merge::Merge;
use super::route::{ANY, find, join};
use super::server::{LinkBranch, Server};

/// The `pick` driver.
#[derive(Debug)]
pub struct Driver;

const INFO: Info =
    Info::new(Options::DRIVER, Shape::Branching, "sends each op to the branch an attr names, reads from any")
        .with_options(Options::SPECS);

/// The driver, to register or to build stacks with.
pub fn driver() -> Arc<dyn xio_core::Driver> {
    Arc::new(Driver)
}

impl xio_core::Driver for Driver {
    fn info(&self) -> &Info {
        &INFO
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }

    fn caps(&self, attr: &dyn Attr, below: &[caps::Branch<'_>]) -> Result<Caps, Error> {
        let misfit = |text: String| Err(Error::new(ErrorKind::Misfit).detail(text));
        let labels: Vec<_> = below.iter().map(|b| b.label.unwrap_or(ANY)).collect();
        if below.len() > 1 && below.iter().any(|b| b.label.is_none()) {
            return misfit("each of several branches needs a label".into());
        }
        if let Some(default) = &options::<Options>(attr).default
            && !labels.iter().any(|l| l == default || *l == ANY)
        {
            let labels = labels.iter().map(|l| (*l).to_owned()).collect();
            return Err(NoBranch::new("default", default, labels).into());
        }
        let Some(mut caps) = Caps::common(below.iter().map(|b| b.caps)) else {
            let unit = |(l, b): (&&str, &caps::Branch<'_>)| format!("`{l}` a {}", b.caps.unit);
            let units: Vec<_> = labels.iter().zip(below).map(unit).collect();
            return misfit(format!("all branches must carry the same unit; here is {}", units.join(", ")));
        };
        // Bytes of several streams in one: what came between does not say where it belongs.
        caps.ordered &= below.len() == 1 || caps.unit != Unit::Stream;
        Ok(caps)
    }

    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::LISTEN | Intercepts::ACCEPT | Intercepts::CLOSE,
            Role::Handle => {
                Intercepts::OPEN
                    | Intercepts::OPEN_DONE
                    | Intercepts::CLOSE
                    | Intercepts::READ
                    | Intercepts::WRITE
                    | Intercepts::WRITE_DONE
                    | Intercepts::WORD
                    | Intercepts::FLUSH
                    | Intercepts::SHUTDOWN
                    | Intercepts::READY
                    | Intercepts::CONCURRENT_READS
                    | Intercepts::CONCURRENT_WRITES
                    | Intercepts::BATCHES
            }
        }
    }

    fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        let options = options::<Options>(attr).clone();
        Ok(match role {
            Role::Handle => Box::new(Pick {
                options,
                branches: Vec::new(),
                default: 0,
                merge: None,
                opens: Gathers::default(),
                flushes: Gathers::default(),
                shutdowns: Gathers::default(),
                closes: Gathers::default(),
            }),
            Role::Server => Box::<Server>::default(),
        })
    }
}

/// The labels of the branches; one without a label takes every name.
pub(super) fn labels(cx: &Cx<'_>) -> Vec<String> {
    (0..cx.branches()).map(|b| cx.label(b).unwrap_or(ANY).to_owned()).collect()
}

struct Branch {
    label: String,
    open: bool,
}

impl AsRef<str> for Branch {
    fn as_ref(&self) -> &str {
        &self.label
    }
}

struct Pick {
    options: Options,
    branches: Vec<Branch>,
    /// Where writes go that name no branch.
    default: u8,
    merge: Option<Merge>,
    opens: Gathers<Open>,
    flushes: Gathers<Flush>,
    shutdowns: Gathers<Shutdown>,
    closes: Gathers<Close>,
}

impl Pick {
    fn label(&self, branch: u8) -> &str {
        self.branches.get(usize::from(branch)).map_or(ANY, |b| &b.label)
    }

    /// The branches that are open.
    fn open_ones(&self) -> Vec<u8> {
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

    /// Answers with a map of what the open branches say.
    fn contacts<C: Command<Reply = Contact> + Clone>(&self, cx: &Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        let labels: Vec<_> = self.open_ones().into_iter().map(|b| self.label(b).to_owned()).collect();
        let nobody = c.unsupported();
        c.reply_by_branch::<C>(cx, self.open_ones(), move |answers| {
            let (mut map, mut why) = (Contact::None, nobody);
            for (label, answer) in labels.into_iter().zip(answers) {
                match answer {
                    Ok(contact) => map = map.with_branch(label, contact),
                    Err(e) if e.kind() == ErrorKind::UnsupportedCommand => {}
                    Err(e) => why = labelled(&label, e),
                }
            }
            if map.is_none() { Err(why) } else { Ok(map) }
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
        let borders = cx.caps_below().is_some_and(|c| c.unit.has_borders());
        let mut merge = Merge::new(lanes, ahead, borders);
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
        self.branches = labels(cx).into_iter().map(|label| Branch { label, open: false }).collect();
        if let Some(label) = &self.options.default {
            match self.find(label) {
                Ok((b, _)) => self.default = b,
                Err(e) => return op.failed(e),
            }
        }
        if op.is_passive() {
            return self.open_link(cx, op);
        }
        let mut contacts = Vec::new();
        for b in &self.branches {
            match op.contact().branch(&b.label) {
                Some(c) => contacts.push(c.clone()),
                None => return op.failed(no_contact(&b.label)),
            }
        }
        let (held, flow) = op.hold(cx);
        let mut contacts = contacts.into_iter();
        self.opens.start(cx, held, 0..cx.branches(), |cx, b, tag| cx.open(b, contacts.next().unwrap_or_default(), tag));
        flow
    }

    fn own_open_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
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
        Cancel::Take
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() {
            return self.contacts::<LocalContact>(cx, c);
        }
        if c.command::<RemoteContact>().is_some() {
            return self.contacts::<RemoteContact>(cx, c);
        }
        if c.command::<PathInfo>().is_some() {
            // There is one answer: that of the branch for writes which name none.
            let nobody = c.unsupported();
            return c.reply_by_branch::<PathInfo>(cx, [self.default], |mut a| a.pop().unwrap_or(Err(nobody)));
        }
        Err(c.unsupported())
    }
}

/// The error where a contact map lacks a branch.
pub(super) fn no_contact(label: &str) -> Error {
    Error::new(ErrorKind::InvalidContact).detail(format!("there is no contact for branch `{label}`"))
}
