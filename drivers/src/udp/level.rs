//! The level of a handle: one peer, whoever sends, or an accepted link. Invariant: `sock` is there from the
//! end of an open to the start of a close; what came and was not read yet is in `queue`, in order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::attr::{Peer, Segment};
use xio_core::buffer::Chunk;
use xio_core::cntl::{Cntl, LocalContact, RemoteContact, SetOption};
use xio_core::datagram::{Arrived, Envelope};
use xio_core::driver::options;
use xio_core::io::{Direction, Io, IoDone, Sock};
use xio_core::op::{Close, Open, Read, Ready, Shutdown, Write};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Level, Op};

use super::cntl::{Live, not_open, option};
use super::guest::Guest;
use super::{Counts, Options, Validated};
use crate::net::{Places, canonical, contact, numeric};

/// A datagram socket.
pub(super) struct Datagrams {
    pub(super) sock: Option<Sock>,
    /// The only peer, canonical.
    pub(super) peer: Option<SocketAddr>,
    /// Longest datagram that is sent.
    max: usize,
    queue: VecDeque<Arrived>,
    pub(super) more: Option<Box<More>>,
}

/// What few handles have.
#[derive(Default)]
pub(super) struct More {
    /// The options, once one was changed; the attr's until then.
    changed: Option<Live>,
    pub(super) guest: Option<Guest>,
    pub(super) places: Places,
    pub(super) step: Step,
    /// The last sender, written out.
    last: Option<(SocketAddr, Contact)>,
}

/// Where an open is.
#[derive(Default, PartialEq, Eq)]
pub(super) enum Step {
    #[default]
    Socket,
    Lookup,
    Greeting,
    Drain(u32),
}

impl Datagrams {
    pub(super) fn new(max: usize) -> Self {
        Self { sock: None, peer: None, max, queue: VecDeque::new(), more: None }
    }

    pub(super) fn guest(&mut self) -> Option<&mut Guest> {
        self.more.as_mut()?.guest.as_mut()
    }

    pub(super) fn options(&self, cx: &Cx<'_>) -> Options {
        match self.more.as_ref().and_then(|m| m.changed.as_ref()) {
            Some(live) => live.lock().clone(),
            None => options::<Options>(cx.attr()).clone(),
        }
    }

    /// Takes what came for this link elsewhere.
    pub(super) fn take_late(&mut self) {
        let Some(guest) = self.guest() else { return };
        let late = guest.link.take();
        late.iter().for_each(|a| guest.note(a));
        self.queue.extend(late);
    }

    pub(super) fn clear(&mut self) {
        self.sock = None;
        self.peer = None;
        self.queue.clear();
        if let Some(more) = &mut self.more {
            more.guest = None;
            more.step = Step::Socket;
        }
    }

    /// Whether this came from the peer. What came from others before the socket had its peer is theirs.
    fn is_ours(&mut self, came: &Arrived) -> bool {
        let ours = self.peer.is_none() || came.peer.is_none_or(|p| Some(canonical(p)) == self.peer);
        if !ours && let Some(guest) = self.guest() {
            guest.link.hub().put(came.clone());
        }
        ours
    }

    /// Ends a read with what is in front of the queue; there is something.
    fn serve<'o>(&mut self, mut op: Op<'o, Read>) -> Flow<'o> {
        let Some(came) = self.queue.front_mut() else { return op.failed(ErrorKind::Contract) };
        if self.peer.is_none() {
            let last = &mut self.more.get_or_insert_default().last;
            // Who sends much is not written out for each datagram.
            if last.as_ref().is_none_or(|(a, _)| Some(*a) != came.peer) {
                *last = came.peer.map(|a| (a, contact(Some(a))));
            }
            op.attrs_mut().set(Peer(last.as_ref().map(|(_, c)| c.clone()).unwrap_or_default()));
        }
        let batch = op.attrs().find::<Segment>().is_some();
        let whole = op.room() >= came.bytes.len();
        let fit = if whole { came.count() } else { op.room().checked_div(came.segment).unwrap_or(0) };
        if batch && fit > 1 {
            let each = came.segment;
            let n = if whole { came.bytes.len() } else { each.saturating_mul(fit) };
            let mut chunk = Chunk::from(came.bytes.split_to(n.min(came.bytes.len())));
            came.len = came.len.saturating_sub(n);
            if whole {
                self.queue.pop_front();
            }
            op.attrs_mut().set(Segment(each));
            op.put_chunk(&mut chunk);
            return op.finished();
        }
        if batch {
            let _ = op.attrs_mut().remove::<Segment>();
        }
        let (put, len) = if op.is_take() {
            let (first, len) = came.split_first();
            (op.put_chunk(&mut Chunk::from(first)), len)
        } else {
            // Copied into the reader's own memory; what it lies in needs no second owner for that.
            (op.put(came.first()), came.skip_first())
        };
        if came.bytes.is_empty() {
            self.queue.pop_front();
        }
        if put < len {
            return op.failed(ErrorKind::Truncated { len });
        }
        op.finished()
    }

    /// Where a write goes, and how it is cut.
    fn envelope(&mut self, op: &Op<'_, Write>) -> Result<Option<Box<Envelope>>, Error> {
        let wrong = |text: String| Err(Error::new(ErrorKind::InvalidInput).detail(text));
        let to = match (op.attrs().find::<Peer>(), self.peer) {
            (None, Some(_)) => None,
            (Some(Peer(c)), None) => match numeric(c).filter(|a| a.port() > 0) {
                Some(a) => Some(a),
                None => return wrong(format!("`{c}` is no numeric address with a port; names are not looked up here")),
            },
            (Some(Peer(c)), Some(p)) if numeric(c) == Some(p) => None,
            (Some(Peer(c)), Some(p)) => return wrong(format!("`{c}` is not {p}, the one peer of this handle")),
            (None, None) => return wrong("a write of this handle needs the attr `Peer`".into()),
        };
        let segment = match op.attrs().find::<Segment>() {
            Some(Segment(0)) => return wrong("a segment has at least one byte".into()),
            Some(Segment(n)) => *n,
            None => 0,
        };
        let longest =
            if segment > 0 { segment.min(op.len()) } else { op.messages().map(|m| m.len()).max().unwrap_or(0) };
        if longest > self.max {
            let text = format!("a datagram of {longest} B, the limit is {} B", self.max);
            return Err(Error::new(ErrorKind::TooLong).detail(text));
        }
        if let Some(guest) = self.guest() {
            guest.may_send(op.len())?;
        }
        Ok((to.is_some() || segment > 0).then(|| Box::new(Envelope::new(to, segment))))
    }
}

impl Level for Datagrams {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.go_on(cx, op)
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        // The socket is gone when the request is back, and there is no request without one.
        let _ = op.io_done();
        let sock = self.sock.take();
        self.clear();
        match sock {
            Some(sock) => op.io(Io::Close(Box::new((sock, None)))),
            None => op.finished(),
        }
    }

    #[inline]
    fn read<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => {}
            IoDone::Datagrams(came) => {
                if self.is_ours(&came) {
                    if let Some(guest) = self.guest() {
                        guest.note(&came);
                    }
                    self.queue.push_back(*came);
                }
            }
            IoDone::Failed(e) => {
                let e = Error::from(e);
                if e.kind() == ErrorKind::Refused {
                    let who = self.peer.map(|p| format!(": nobody listens at {p}")).unwrap_or_default();
                    return op.failed(e.detail(format!("an earlier datagram came back{who}")));
                }
                return op.failed(e);
            }
            _ => return op.failed(ErrorKind::Contract),
        }
        if self.queue.is_empty() {
            self.take_late();
        }
        if !self.queue.is_empty() {
            return self.serve(op);
        }
        match &self.sock {
            Some(sock) => op.io(Io::RecvDatagrams(sock.clone())),
            None => op.failed(not_open()),
        }
    }

    #[inline]
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let Some(sock) = self.sock.clone() else { return op.failed(not_open()) };
        match self.envelope(&op) {
            Ok(envelope) => op.io(Io::SendDatagrams(sock, envelope)),
            Err(e) => op.failed(e),
        }
    }

    fn shutdown<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        let text = "a datagram socket has no write side to end";
        op.failed(Error::new(ErrorKind::Unsupported).detail(text))
    }

    fn ready<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Ready>) -> Flow<'o> {
        match (op.io_done(), self.sock.clone()) {
            (IoDone::None, Some(sock)) => {
                let direction = op.direction();
                if direction == Direction::Read {
                    if self.queue.is_empty() {
                        self.take_late();
                    }
                    if !self.queue.is_empty() {
                        return op.finished();
                    }
                }
                op.io(Io::Ready(sock, direction))
            }
            (IoDone::None, None) => op.failed(not_open()),
            (IoDone::Failed(e), _) => op.failed(e),
            _ => op.finished(),
        }
    }

    fn io_done(&mut self, _: &mut Cx<'_>, _: u32, done: IoDone) {
        if let Some(guest) = self.guest() {
            guest.listened(matches!(done, IoDone::Done));
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        let sock = self.sock.clone();
        if let Some(guest) = self.guest() {
            guest.look(cx, sock);
        }
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() {
            let sock = self.sock.as_ref().ok_or_else(not_open)?.clone();
            return c.reply_later::<LocalContact>(move || Ok(contact(sock.socket().local())));
        }
        if c.command::<RemoteContact>().is_some() {
            self.sock.as_ref().ok_or_else(not_open)?;
            return c.reply::<RemoteContact>(contact(self.peer));
        }
        if let (Some(_), Some(guest)) = (c.command::<Validated>(), self.guest()) {
            guest.vouch();
            return c.reply::<Validated>(());
        }
        if let (Some(_), Some(guest)) = (c.command::<Counts>(), self.guest()) {
            return c.reply::<Counts>(guest.link.hub().tally());
        }
        let changed = self.more.as_ref().is_some_and(|m| m.changed.is_some());
        if c.command::<SetOption>().is_none() && !changed {
            // The engine answers from the attr.
            return Err(c.unsupported());
        }
        let now = self.options(cx);
        let more = self.more.get_or_insert_default();
        let live = more.changed.get_or_insert_with(|| Arc::new(Mutex::new(now)));
        option(live, self.sock.as_ref(), c)
    }

    /// An accepted handle has the peer's passing port: only another host can be told.
    fn same_peer(&self, contact: &Contact) -> Option<bool> {
        self.sock.as_ref()?;
        let (peer, asked) = (self.peer?, numeric(contact)?);
        match self.more.as_ref().is_some_and(|m| m.guest.is_some()) {
            true => (asked.ip() != peer.ip()).then_some(false),
            false => Some(asked == peer),
        }
    }
}
