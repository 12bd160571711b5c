//! The driver, and the level at each end of a pair.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use xio_core::attr::{Attr, Size};
use xio_core::buffer::{Chunk, Piece, Pieces};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{self, Cntl};
use xio_core::driver::{Info, Intercepts, LinkPart, Role, Shape, options};
use xio_core::io::Direction;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{Contact, Cx, Engine, Error, ErrorKind, Flow, Handle, Held, Level, LevelNode, Op, Stack};

use super::Options;
use super::names::{Backlog, Names, name};
use super::pipe::{End, Taken, Unit};
use super::server::Listener;

/// The `loop` driver, with names of its own.
#[derive(Default)]
pub struct Driver {
    names: Arc<Names>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Driver")
    }
}

const INFO: Info = Info::new(Options::DRIVER, Shape::Transport, "pairs inside one process")
    .with_options(Options::SPECS)
    .with_contact("a name: `echo` or `loop:echo`");

/// A driver with names of its own, to register or to build stacks with.
pub fn driver() -> Arc<dyn xio_core::Driver> {
    Arc::new(Driver::default())
}

/// Two connected handles.
///
/// # Errors
/// Where `options` are out of range, or the engine was stopped.
pub fn pair(engine: &Engine, options: Options) -> Result<(Handle, Handle), Error> {
    pair_of(engine, options, |bottom| bottom)
}

/// Two connected handles with the levels that `over` puts over each end. The first end is opened
/// before the second: it may not have to wait for the peer.
///
/// # Errors
/// [`ErrorKind::Misfit`] where the levels do not fit; whatever keeps an end from being opened.
pub fn pair_of(
    engine: &Engine,
    options: Options,
    over: impl FnOnce(LevelNode) -> LevelNode,
) -> Result<(Handle, Handle), Error> {
    let bottom = LevelNode::new(driver()).with_attr(Box::new(options));
    let stack = Stack::new(over(bottom)).map_err(|faults| {
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Error::new(ErrorKind::Misfit).detail(text.join("; "))
    })?;
    let server = engine.listen(&stack, ()).wait()?;
    let near = engine.open(&stack, server.contact()).wait()?;
    let far = server.accept().wait()?.open().wait()?;
    Ok((near, far))
}

impl xio_core::Driver for Driver {
    fn info(&self) -> &Info {
        &INFO
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::NOTHING
    }

    fn caps(&self, attr: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(if options::<Options>(attr).message { Caps::message() } else { Caps::stream() })
    }

    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::LISTEN | Intercepts::ACCEPT | Intercepts::CLOSE,
            Role::Handle => {
                Intercepts::OPEN
                    | Intercepts::CLOSE
                    | Intercepts::READ
                    | Intercepts::WRITE
                    | Intercepts::FLUSH
                    | Intercepts::SHUTDOWN
                    | Intercepts::READY
                    | Intercepts::BATCHES
            }
        }
    }

    fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        let options = options::<Options>(attr).clone();
        let names = self.names.clone();
        Ok(match role {
            Role::Handle => Box::new(Loop {
                names,
                options,
                end: None,
                waits: None,
                writing: None,
                rest: VecDeque::new(),
                after: Vec::new(),
            }),
            Role::Server => Box::new(Listener::new(names, options)),
        })
    }

    fn link_cntl(&self, part: &mut LinkPart, c: &mut Cntl<'_>) -> Result<(), Error> {
        match part.downcast_ref::<End>() {
            Some(end) => contacts(end, c),
            None => Err(c.unsupported()),
        }
    }

    fn is_self(&self, _: &dyn Attr, contact: &Contact) -> Option<bool> {
        Some(self.names.find(name(contact).ok()?).is_some())
    }
}

fn contacts(end: &End, c: &mut Cntl<'_>) -> Result<(), Error> {
    if c.command::<cntl::LocalContact>().is_some() {
        return c.reply::<cntl::LocalContact>(end.local.clone());
    }
    if c.command::<cntl::RemoteContact>().is_some() {
        return c.reply::<cntl::RemoteContact>(end.peer.clone());
    }
    Err(c.unsupported())
}

/// Bytes of a size option.
pub(super) fn size(s: Size) -> usize {
    usize::try_from(s.0).unwrap_or(usize::MAX)
}

/// One end.
struct Loop {
    names: Arc<Names>,
    options: Options,
    end: Option<End>,
    /// The server whose backlog an open waits for, and its place there.
    waits: Option<(Arc<Backlog>, u64)>,
    /// The write that waits for room.
    writing: Option<OpId>,
    /// What it has not put into the pipe yet.
    rest: VecDeque<Chunk>,
    /// What waits until it is through.
    after: Vec<After>,
}

/// An op that stays behind the write before it.
enum After {
    Flush(Held<Flush>),
    Shutdown(Held<Shutdown>),
}

impl Loop {
    fn connect<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        let backlog = match name(op.contact()) {
            Ok(name) => self.names.find(name),
            Err(e) => return op.failed(e),
        };
        let Some(backlog) = backlog else {
            let text = format!("nobody listens as `{}`", op.contact());
            return op.failed(Error::new(ErrorKind::Refused).detail(text));
        };
        let message = self.options.message;
        if backlog.message != message {
            let has = if backlog.message { "messages" } else { "a stream" };
            let text = format!("`{}` has {has}: set `message` at both ends or at neither", backlog.name);
            return op.failed(Error::new(ErrorKind::Refused).detail(text));
        }
        let mut w = backlog.lock();
        if w.closed {
            drop(w);
            return op.failed(ErrorKind::Refused);
        }
        if backlog.is_full(&w) {
            let (held, flow) = op.hold(cx);
            let place = w.hold_open(held);
            drop(w);
            self.waits = Some((backlog, place));
            return flow;
        }
        let near = (self.names.fresh(), size(self.options.buffer));
        let (near, far) = End::pair(near, (backlog.contact(), backlog.buffer), message);
        w.links.push_back(far);
        // All of them: one that was woken and cancelled at once must not take the link's wake with it.
        let accepts = std::mem::take(&mut w.accepts);
        drop(w);
        accepts.into_iter().for_each(Held::retry);
        self.end = Some(near);
        op.finished()
    }

    fn write_messages<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let Some(end) = &self.end else { return op.failed(ErrorKind::Closed) };
        let mut tx = end.tx.lock();
        if let Some(e) = tx.refuses() {
            drop(tx);
            self.written(cx);
            return op.failed(e);
        }
        if !tx.fits(op.message_count(), op.len()) {
            let (held, flow) = op.hold(cx);
            self.writing = Some(held.id());
            tx.hold_writer(held);
            return flow;
        }
        drop(tx);
        // What is shared may have to be copied. Nobody else writes meanwhile: the gate is shut.
        let lengths: SmallVec<[usize; 4]> = op.messages().map(|r| r.len()).collect();
        let units = split(op.share(), &lengths);
        let mut tx = end.tx.lock();
        units.into_iter().for_each(|u| tx.push(u));
        let wake = tx.wake_readers();
        drop(tx);
        wake.go();
        self.written(cx);
        op.take_all();
        op.finished()
    }

    /// No write waits any more.
    fn written(&mut self, cx: &mut Cx<'_>) {
        self.writing = None;
        self.rest.clear();
        for after in self.after.drain(..) {
            match after {
                After::Flush(h) => cx.retry(h),
                After::Shutdown(h) => cx.retry(h),
            }
        }
    }
}

/// Makes a unit of each message.
fn split(pieces: Pieces, lengths: &[usize]) -> SmallVec<[Unit; 1]> {
    let mut pieces = pieces.into_iter().map(Piece::into_bytes);
    let mut rest = Bytes::new();
    let unit = |len: &usize| {
        let mut lacks = *len;
        let mut unit = Unit::new();
        while lacks > 0 {
            if rest.is_empty() {
                let Some(next) = pieces.next() else { break };
                rest = next;
                continue;
            }
            let part = rest.split_to(lacks.min(rest.len()));
            lacks -= part.len();
            unit.push(part.into());
        }
        unit
    };
    lengths.iter().map(unit).collect()
}

impl Level for Loop {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        self.waits = None;
        match op.link(cx) {
            Some(part) => match part.downcast::<End>() {
                Ok(end) => {
                    self.end = Some(*end);
                    op.finished()
                }
                Err(_) => op.failed(Error::new(ErrorKind::Contract).detail("the link is not one of `loop`")),
            },
            None => self.connect(cx, op),
        }
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        if let Some(mut end) = self.end.take() {
            end.close(op.mode() == xio_core::CloseMode::Abort);
        }
        op.finished()
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let Some(end) = &self.end else { return op.failed(ErrorKind::Closed) };
        if !end.message && op.room() == 0 {
            return op.finished();
        }
        let mut rx = end.rx.lock();
        let taken = rx.take(op.room());
        let (chunks, longer) = match taken {
            Taken::Chunks(chunks, longer) => (chunks, longer),
            Taken::End => {
                drop(rx);
                return op.failed(ErrorKind::Eof);
            }
            Taken::Reset => {
                drop(rx);
                return op.failed(ErrorKind::Reset);
            }
            Taken::Nothing if !end.message && op.wanted() == 0 => return op.finished(),
            Taken::Nothing => {
                let (held, flow) = op.hold(cx);
                rx.hold_reader(held);
                return flow;
            }
        };
        let wake = rx.wake_writers();
        drop(rx);
        for mut c in chunks {
            op.put_chunk(&mut c);
        }
        wake.go();
        match longer {
            Some(len) => op.failed(ErrorKind::Truncated { len }),
            None => op.finished(),
        }
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let Some(end) = &self.end else { return op.failed(ErrorKind::Closed) };
        if end.message {
            return self.write_messages(cx, op);
        }
        let left = op.len() - op.moved();
        if op.moved() == 0 || self.rest.iter().map(Chunk::len).sum::<usize>() != left {
            // Shared once a write, not once a try: borrowed bytes are copied here.
            let mut skip = op.moved();
            self.rest.clear();
            self.rest.extend(op.share().into_iter().map(|p| Chunk::from(p.into_bytes())));
            self.rest.retain_mut(|c| {
                let n = skip.min(c.len());
                c.advance(n);
                skip -= n;
                !c.is_empty()
            });
        }
        let mut tx = end.tx.lock();
        if let Some(e) = tx.refuses() {
            drop(tx);
            self.written(cx);
            return op.failed(e);
        }
        let mut moved = 0;
        while let (Some(front), room @ 1..) = (self.rest.front_mut(), tx.room()) {
            let part = front.split_to(room);
            moved += part.len();
            tx.push(Unit::from_iter([part]));
            if front.is_empty() {
                self.rest.pop_front();
            }
        }
        if moved == 0 && left > 0 {
            let (held, flow) = op.hold(cx);
            self.writing = Some(held.id());
            tx.hold_writer(held);
            return flow;
        }
        let wake = tx.wake_readers();
        drop(tx);
        wake.go();
        if self.rest.is_empty() {
            self.written(cx);
        }
        op.finished_part(moved)
    }

    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        if self.writing.is_none() {
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.after.push(After::Flush(held));
        flow
    }

    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        if self.writing.is_some() {
            let (held, flow) = op.hold(cx);
            self.after.push(After::Shutdown(held));
            return flow;
        }
        let Some(end) = &self.end else { return op.failed(ErrorKind::Closed) };
        let wake = end.tx.lock().end();
        wake.go();
        op.finished()
    }

    fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        let Some(end) = &self.end else { return op.failed(ErrorKind::Closed) };
        let reads = op.direction() == Direction::Read;
        let mut pipe = if reads { end.rx.lock() } else { end.tx.lock() };
        if if reads { pipe.is_readable() } else { pipe.is_writable() } {
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        if reads {
            pipe.hold_readable(held)
        } else {
            pipe.hold_writable(held)
        }
        flow
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.after.retain(|a| match a {
            After::Flush(h) => h.id() != id,
            After::Shutdown(h) => h.id() != id,
        });
        if let Some(end) = &self.end {
            // One lock after the other: the peer's are these two the other way round.
            let read = end.rx.lock().forget_reader(id);
            let written = end.tx.lock().forget_writer(id);
            drop((read, written));
        }
        if self.writing == Some(id) {
            self.written(cx);
        }
        if let Some((backlog, place)) = self.waits.take() {
            let found = backlog.lock().forget_open(place);
            drop(found);
        }
        Cancel::Take
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        let Some(end) = &self.end else { return Err(c.unsupported()) };
        if c.command::<cntl::PathInfo>().is_some() {
            let mut path = cntl::Path::default();
            path.in_flight = Some(end.tx.lock().bytes() as u64);
            return c.reply::<cntl::PathInfo>(path);
        }
        contacts(end, c)
    }

    fn same_peer(&self, contact: &Contact) -> Option<bool> {
        let end = self.end.as_ref()?;
        Some(name(contact).ok()? == name(&end.peer).ok()?)
    }
}
