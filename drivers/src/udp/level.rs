//! The level of a handle: one peer, whoever sends, or an accepted link. Invariant: `sock` is there from the
//! end of an open to the start of a close; what came and was not read yet is in `queue`, in order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::attr::{Peer, Segment};
use xio_core::buffer::Chunk;
use xio_core::cntl::{Cntl, LocalContact, RemoteContact, SetOption};
use xio_core::cx::Timer;
use xio_core::datagram::{Arrived, Envelope};
use xio_core::driver::options;
use xio_core::io::{Connected, Direction, Io, IoDone, Sock};
use xio_core::op::{Close, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Level, Op};

use super::cntl::{Live, not_open, option};
use super::hub::Link;
use super::open::{Way, choose, refused};
use super::{Counts, Options, Validated};
use crate::net::{Places, canonical, contact, numeric, unresolved};

/// Most receives of a server's socket that one open makes in search of its own peer's datagrams.
const MAX_DRAIN: u32 = 256;
/// Half idle times without a datagram after which a link ends.
const MAX_SILENCE: u8 = 2;

/// A datagram socket.
pub(super) struct Datagrams {
    sock: Option<Sock>,
    /// The only peer, canonical.
    peer: Option<SocketAddr>,
    /// Longest datagram that is sent.
    max: usize,
    queue: VecDeque<Arrived>,
    more: Option<Box<More>>,
}

/// What few handles have.
#[derive(Default)]
struct More {
    /// The options, once one was changed; the attr's until then.
    changed: Option<Live>,
    guest: Option<Guest>,
    places: Places,
    /// The open has looked a name up, or sends its greeting.
    step: Step,
}

#[derive(Default, PartialEq, Eq)]
enum Step {
    #[default]
    Socket,
    Lookup,
    Greeting,
    Drain(u32),
}

/// What an accepted handle knows.
struct Guest {
    link: Link,
    received: u64,
    sent: u64,
    /// How many times what was received may be sent; 0: no limit.
    amplify: u32,
    heard: bool,
    silence: u8,
    look: Option<Timer>,
    /// A wait for the socket while nobody reads.
    listens: Option<OpId>,
}

impl Guest {
    /// Counts what came.
    fn note(&mut self, came: &Arrived) {
        self.heard = true;
        self.received = self.received.saturating_add(came.len as u64);
    }

    /// Whether so many more bytes may go.
    fn may_send(&mut self, len: usize) -> Result<(), Error> {
        let sent = self.sent.saturating_add(len as u64);
        if self.amplify > 0 && sent > self.received.saturating_mul(self.amplify.into()) {
            let text = format!(
                "its peer has sent {} B and may be forged: no more than {} times that goes to it, and {} B have gone; \
                 tell the level that it is `Validated`, or set `amplify=0`",
                self.received, self.amplify, self.sent
            );
            return Err(Error::new(ErrorKind::Busy).detail(text));
        }
        self.sent = sent;
        Ok(())
    }
}

impl Datagrams {
    pub(super) fn new(max: usize) -> Self {
        Self { sock: None, peer: None, max, queue: VecDeque::new(), more: None }
    }

    fn guest(&mut self) -> Option<&mut Guest> {
        self.more.as_mut()?.guest.as_mut()
    }

    fn options(&self, cx: &Cx<'_>) -> Options {
        match self.more.as_ref().and_then(|m| m.changed.as_ref()) {
            Some(live) => live.lock().clone(),
            None => options::<Options>(cx.attr()).clone(),
        }
    }

    fn begin<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        self.clear();
        let o = self.options(cx);
        if op.is_passive() {
            let Some(Ok(link)) = op.link(cx).map(|part| part.downcast::<Link>()) else {
                let text = "the accepted link has no peer of this level";
                return op.failed(Error::new(ErrorKind::InvalidInput).detail(text));
            };
            return self.begin_link(op, *link);
        }
        match Way::of(op.contact()) {
            Ok(Way::Peer(to)) => self.connect(op, &o, to),
            Ok(Way::Name(host, port)) => {
                self.more.get_or_insert_default().step = Step::Lookup;
                op.io(Io::Resolve { host, port })
            }
            Ok(Way::Anybody) => match o.places(op.contact()) {
                Ok((places, _)) => {
                    self.more.get_or_insert_default().places = places;
                    self.try_next(op, &o)
                }
                Err(e) => op.failed(e),
            },
            Err(e) => op.failed(e),
        }
    }

    fn connect<'o>(&mut self, op: Op<'o, Open>, o: &Options, to: SocketAddr) -> Flow<'o> {
        self.peer = Some(to);
        match o.towards(to) {
            Ok(o) => op.io(Io::Datagram(Box::new(o))),
            Err(e) => op.failed(e),
        }
    }

    fn try_next<'o>(&mut self, op: Op<'o, Open>, o: &Options) -> Flow<'o> {
        let next = self.more.as_mut().and_then(|m| m.places.next());
        match next.map(|at| o.at(at)) {
            Some(Ok(o)) => op.io(Io::Datagram(Box::new(o))),
            Some(Err(e)) => op.failed(e),
            None => op.failed(ErrorKind::AddrNotAvailable),
        }
    }

    /// A socket of its own for the link's peer, beside the server's.
    fn begin_link<'o>(&mut self, op: Op<'o, Open>, link: Link) -> Flow<'o> {
        let hub = link.hub();
        let mut o = hub.options().socket();
        o.socket.bind = vec![hub.at()];
        o.to = Some(link.peer());
        o.shared = true;
        self.peer = Some(canonical(link.peer()));
        let guest = Guest {
            amplify: hub.options().amplify,
            link,
            received: 0,
            sent: 0,
            heard: true,
            silence: 0,
            look: None,
            listens: None,
        };
        self.more.get_or_insert_default().guest = Some(guest);
        op.io(Io::Datagram(Box::new(o)))
    }

    /// The socket is there.
    fn bound<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>, c: Connected) -> Flow<'o> {
        self.sock = Some(c.sock.clone());
        if self.guest().is_some() {
            return self.drain(cx, op, 0);
        }
        if self.peer.is_some() && options::<Options>(cx.attr()).greet {
            self.more.get_or_insert_default().step = Step::Greeting;
            return op.io(Io::SendDatagrams(c.sock, None));
        }
        op.finished()
    }

    /// What the peer sent to the server's socket before it had one of its own is still there.
    fn drain<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>, done: u32) -> Flow<'o> {
        let server = self.guest().and_then(|g| g.link.hub().sock());
        match server.filter(|_| done < MAX_DRAIN) {
            Some(sock) => {
                self.more.get_or_insert_default().step = Step::Drain(done + 1);
                op.io(Io::PollDatagrams(sock))
            }
            None => self.settle(cx, op),
        }
    }

    /// The link is open.
    fn settle<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.take_late();
        self.listen_on(cx);
        op.finished()
    }

    /// Takes what came for this link elsewhere.
    fn take_late(&mut self) {
        let Some(guest) = self.guest() else { return };
        let late = guest.link.take();
        late.iter().for_each(|a| guest.note(a));
        self.queue.extend(late);
    }

    /// Looks again after half the idle time.
    fn listen_on(&mut self, cx: &mut Cx<'_>) {
        if let Some(guest) = self.guest() {
            let idle = guest.link.hub().options().idle;
            guest.look = (!idle.is_zero()).then(|| cx.after(idle / 2, 0));
        }
    }

    fn clear(&mut self) {
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
        let Some(mut came) = self.queue.pop_front() else { return op.failed(ErrorKind::Contract) };
        if self.peer.is_none() {
            op.attrs_mut().set(Peer(contact(came.peer)));
        }
        let batch = op.attrs_mut().remove::<Segment>().is_some();
        let fit = op.room().checked_div(came.segment).unwrap_or(0).min(came.count());
        if batch && fit > 1 {
            let each = came.segment;
            let all = fit == came.count();
            let n = if all { came.bytes.len() } else { each.saturating_mul(fit) };
            let mut chunk = Chunk::from(came.bytes.split_to(n.min(came.bytes.len())));
            came.len = came.len.saturating_sub(n);
            op.attrs_mut().set(Segment(each));
            op.put_chunk(&mut chunk);
            if !all {
                self.queue.push_front(came);
            }
            return op.finished();
        }
        let (first, len) = came.split_first();
        if !came.bytes.is_empty() {
            self.queue.push_front(came);
        }
        let mut chunk = Chunk::from(first);
        if op.put_chunk(&mut chunk) < len {
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
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        let done = op.io_done();
        let step = self.more.as_mut().map(|m| std::mem::take(&mut m.step)).unwrap_or_default();
        match (done, step) {
            (IoDone::None, _) => self.begin(cx, op),
            (IoDone::Connected(c), _) => self.bound(cx, op, *c),
            (IoDone::Addresses(list), _) => {
                let o = self.options(cx);
                match choose(list, &o) {
                    Some(to) => self.connect(op, &o, to),
                    None => {
                        let text = format!("`{}`: the name has no address", op.contact());
                        op.failed(Error::new(ErrorKind::Resolve).detail(text))
                    }
                }
            }
            (IoDone::Failed(e), Step::Lookup) => {
                let e = unresolved(e).detail(format!("`{}`", op.contact()));
                op.failed(e)
            }
            (IoDone::Datagrams(came), Step::Drain(n)) => {
                if let Some(guest) = self.guest() {
                    guest.link.hub().put(*came);
                }
                self.drain(cx, op, n)
            }
            (IoDone::Failed(_), Step::Drain(_)) => self.settle(cx, op),
            // A greeting that does not go is as one that is lost.
            (IoDone::Done | IoDone::Failed(_), Step::Greeting) => op.finished(),
            (IoDone::Failed(e), _) => {
                let e = Error::from(e);
                let goes_on =
                    self.peer.is_none() && self.more.as_mut().is_some_and(|m| m.places.goes_on_after(e.kind()));
                if goes_on {
                    let o = self.options(cx);
                    return self.try_next(op, &o);
                }
                let text = op.contact().to_string();
                op.failed(refused(e, &text))
            }
            _ => op.failed(ErrorKind::Contract),
        }
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
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let Some(sock) = self.sock.clone() else { return op.failed(not_open()) };
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
        let _ = cx;
        op.io(Io::RecvDatagrams(sock))
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
            guest.listens = None;
            // Something lies there that nobody reads.
            guest.heard |= matches!(done, IoDone::Done);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        let sock = self.sock.clone();
        let Some(guest) = self.guest() else { return };
        guest.silence = if std::mem::take(&mut guest.heard) { 0 } else { guest.silence + 1 };
        if guest.silence >= MAX_SILENCE {
            let idle = guest.link.hub().options().idle;
            guest.link.hub().expire();
            guest.look = None;
            let text = format!("the peer was silent for {idle:?} (`idle`)");
            return cx.fail(Error::new(ErrorKind::TimedOut).detail(text));
        }
        if let (None, Some(sock)) = (guest.listens, sock) {
            guest.listens = Some(cx.io(Io::Ready(sock, Direction::Read), 0));
        }
        self.listen_on(cx);
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
            guest.amplify = 0;
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
