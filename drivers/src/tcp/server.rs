//! The level of a server: listens, and hands connections out. Invariant: one accept request is with
//! the reactor at most, and only while somebody waits for a connection; accept ops wait here in
//! order, and a connection that nobody waits for any more goes to the next.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use xio_core::cntl::{Cntl, LocalContact};
use xio_core::cx::{EventKind, Timer};
use xio_core::io::{Connected, Io, IoDone, Sock};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Listen, OpId};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::Options;
use super::cntl::{Live, not_open, option};
use crate::net::{Listed, Listening, Places, canonical, unresolved, usable};

/// First and longest wait after descriptors or memory ran out.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Accepts that fail in a row, for whatever reason, before the next waits as well.
const MAX_STREAK: u32 = 16;

/// A listening socket.
pub(super) struct Listener {
    options: Live,
    /// What the driver's servers listen on, and what of it is ours.
    listening: Listening,
    listed: Option<Listed>,
    sock: Option<Sock>,
    contact: Contact,
    places: Places,
    waiting: VecDeque<Held<Accept>>,
    ready: VecDeque<Box<Connected>>,
    /// The tag of the request under way.
    request: Option<(u32, OpId)>,
    next_tag: u32,
    pause: Option<Timer>,
    backoff: Duration,
    streak: u32,
}

impl Listener {
    pub(super) fn new(options: Options, listening: Listening) -> Self {
        Self {
            options: Arc::new(Mutex::new(options)),
            listening,
            listed: None,
            sock: None,
            contact: Contact::None,
            places: Places::default(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            request: None,
            next_tag: 0,
            pause: None,
            backoff: BACKOFF.0,
            streak: 0,
        }
    }

    fn begin<'o>(&mut self, op: Op<'o, Listen>) -> Flow<'o> {
        let options = self.options.lock().clone();
        if let Some(fd) = &options.fd {
            if !op.contact().is_none() {
                let text = format!(
                    "`{}`: the level was given a ready-made socket (`fd`); listen with no contact",
                    op.contact()
                );
                return op.failed(Error::new(ErrorKind::InvalidContact).detail(text));
            }
            return match fd.take() {
                Ok(fd) => op.io(Io::Adopt(Box::new((fd, options.socket())))),
                Err(e) => op.failed(e),
            };
        }
        match options.places(op.contact()) {
            Ok((places, None)) => {
                self.places = places;
                self.try_next(op)
            }
            Ok((places, Some(host))) => {
                let port = places.port;
                self.places = places;
                op.io(Io::Resolve { host: host.into(), port })
            }
            Err(e) => op.failed(e),
        }
    }

    fn try_next<'o>(&mut self, op: Op<'o, Listen>) -> Flow<'o> {
        match self.places.next() {
            Some(at) => {
                let options = self.options.lock().socket();
                op.io(Io::Listen(Box::new((at, options))))
            }
            None => op.failed(
                Error::new(ErrorKind::Resolve).detail(format!("`{}`: the name has no address", self.places.text)),
            ),
        }
    }

    fn listens<'o>(&mut self, mut op: Op<'o, Listen>, c: Connected) -> Flow<'o> {
        if c.peer.is_some() {
            let text = "the ready-made socket (`fd`) is connected; a server needs a listening one";
            return op.failed(Error::new(ErrorKind::InvalidInput).detail(text));
        }
        self.sock = Some(c.sock);
        let Some(bound) = c.local.map(canonical) else {
            // A ready-made socket of another family.
            self.contact = Contact::None;
            op.set_contact(Contact::None);
            return op.finished();
        };
        self.listed = Some(self.listening.list(bound));
        if !bound.ip().is_unspecified() {
            self.contact = bound.into();
            op.set_contact(self.contact.clone());
            return op.finished();
        }
        let (v6_first, device) = (self.places.v6_first, self.options.lock().device.clone());
        op.io(Io::Blocking(Box::new(move || Ok(Box::new(usable(bound, v6_first, device.as_deref()))))))
    }

    fn refused<'o>(&mut self, op: Op<'o, Listen>, e: std::io::Error) -> Flow<'o> {
        let e = Error::from(e);
        if self.places.text.is_empty() {
            return op.failed(e.detail("the ready-made socket (`fd`) is of no use"));
        }
        if self.places.goes_on_after(e.kind()) {
            return self.try_next(op);
        }
        let help = match (e.kind(), self.places.ports) {
            (ErrorKind::AddrInUse, Some(r)) => format!("no port of {r} is free"),
            (ErrorKind::AddrInUse, None) => "somebody listens there; take another port, or 0 for a free one".into(),
            (ErrorKind::AddrNotAvailable, _) => "listen on an address of this host, or on `:port` for all".into(),
            (ErrorKind::PermissionDenied, _) => "ports below 1024 need privileges".into(),
            _ => return op.failed(e.detail(format!("`{}`", self.places.text))),
        };
        op.failed(e.detail(format!("`{}`: {help}", self.places.text)))
    }

    /// Asks for a connection, if somebody waits for one.
    fn ask(&mut self, cx: &mut Cx<'_>) {
        let Some(sock) = &self.sock else { return };
        if self.waiting.is_empty() || self.request.is_some() || self.pause.is_some() {
            return;
        }
        self.next_tag = self.next_tag.wrapping_add(1);
        let options = Box::new(self.options.lock().socket());
        let op = cx.io(Io::Accept(sock.clone(), options), self.next_tag);
        self.request = Some((self.next_tag, op));
    }

    /// An accept failed: what of it concerns one connection only never ends an accept op.
    fn failed(&mut self, cx: &mut Cx<'_>, e: Error) {
        self.streak = self.streak.saturating_add(1);
        match e.kind() {
            // A close, or nobody waited any more.
            ErrorKind::Cancelled => {}
            // The socket does not listen.
            ErrorKind::InvalidInput => {
                for held in self.waiting.drain(..) {
                    cx.finish(held, Err(e.clone().detail("the socket does not listen")));
                }
            }
            ErrorKind::Exhausted => {
                cx.event(EventKind::Other("exhausted"));
                self.rest(cx);
            }
            _ if self.streak >= MAX_STREAK => self.rest(cx),
            _ => {}
        }
    }

    fn rest(&mut self, cx: &mut Cx<'_>) {
        self.pause = Some(cx.after(self.backoff, 0));
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }
}

impl Level for Listener {
    fn listen<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => self.begin(op),
            IoDone::Addresses(list) => {
                self.places.named(list);
                self.try_next(op)
            }
            IoDone::Connected(c) => self.listens(op, *c),
            IoDone::Value(v) => match v.downcast::<SocketAddr>() {
                Ok(at) => {
                    self.contact = Contact::from(*at);
                    op.set_contact(self.contact.clone());
                    op.finished()
                }
                Err(_) => op.failed(ErrorKind::Contract),
            },
            IoDone::Failed(e) if self.places.hosts.is_empty() && !self.places.text.is_empty() => {
                let e = unresolved(e).detail(format!("`{}`", self.places.text));
                op.failed(e)
            }
            IoDone::Failed(e) => self.refused(op, e),
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn accept<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        if self.sock.is_none() {
            return op.failed(not_open());
        }
        if let Some(c) = self.ready.pop_front() {
            op.set_addresses(c.local.map(canonical), c.peer.map(canonical));
            op.set_link(cx, c);
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.waiting.push_back(held);
        self.ask(cx);
        flow
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let _ = op.io_done();
        self.listed = None;
        self.pause = None;
        self.ready.clear();
        match self.sock.take() {
            Some(sock) => op.io(Io::Close(Box::new((sock, None)))),
            None => op.finished(),
        }
    }

    fn io_done(&mut self, cx: &mut Cx<'_>, tag: u32, done: IoDone) {
        if self.request.take_if(|(t, _)| *t == tag).is_none() {
            return;
        }
        match done {
            IoDone::Connected(c) => {
                self.streak = 0;
                self.backoff = BACKOFF.0;
                self.ready.push_back(c);
                if let Some(held) = self.waiting.pop_front() {
                    cx.retry(held);
                }
            }
            IoDone::Failed(e) => self.failed(cx, e.into()),
            _ => {}
        }
        self.ask(cx);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        self.pause = None;
        self.ask(cx);
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        let Some(held) = self.waiting.iter().position(|h| h.id() == id).and_then(|i| self.waiting.remove(i)) else {
            return Cancel::Take;
        };
        let kind = match reason {
            Reason::Cancelled => ErrorKind::Cancelled,
            Reason::TimedOut => ErrorKind::TimedOut,
        };
        cx.finish(held, Err(kind.into()));
        if self.waiting.is_empty() {
            self.pause = None;
            if let Some((_, op)) = self.request {
                // Should it be done by now, its connection goes to the next accept.
                cx.cancel(op);
            }
        }
        Cancel::Keep
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() {
            self.sock.as_ref().ok_or_else(not_open)?;
            return c.reply::<LocalContact>(self.contact.clone());
        }
        option(&self.options, self.sock.as_ref(), c)
    }
}
