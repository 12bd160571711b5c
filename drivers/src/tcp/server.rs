//! The level of a server: listens, and hands connections out. Invariant: a connection that nobody waits for any
//! more goes to the next who asks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::cntl::{Cntl, LocalContact};
use xio_core::io::{Connected, Io, IoDone, Sock};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Listen, OpId};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Level, Op};

use super::Options;
use super::cntl::{Live, not_open, option};
use crate::net::{Listed, Listening, Places, canonical, unresolved, usable};
use crate::waiting::Waiting;

/// A listening socket.
pub(super) struct Listener {
    options: Live,
    /// What the driver's servers listen on, and what of it is ours.
    listening: Listening,
    listed: Option<Listed>,
    sock: Option<Sock>,
    contact: Contact,
    places: Places,
    waiting: Waiting,
    ready: VecDeque<Box<Connected>>,
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
            waiting: Waiting::new(),
            ready: VecDeque::new(),
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
        self.waiting.ask(cx, || Io::Accept(sock.clone(), Box::new(self.options.lock().socket())));
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
        let flow = self.waiting.hold(cx, op);
        self.ask(cx);
        flow
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let _ = op.io_done();
        self.listed = None;
        self.waiting.end_pause();
        self.ready.clear();
        match self.sock.take() {
            Some(sock) => op.io(Io::Close(Box::new((sock, None)))),
            None => op.finished(),
        }
    }

    fn io_done(&mut self, cx: &mut Cx<'_>, tag: u32, done: IoDone) {
        if !self.waiting.is_answered(tag) {
            return;
        }
        match done {
            IoDone::Connected(c) => {
                self.waiting.came();
                self.ready.push_back(c);
                self.waiting.serve(cx);
            }
            IoDone::Failed(e) => match Error::from(e) {
                e if e.kind() == ErrorKind::InvalidInput => {
                    self.waiting.fail_all(cx, &e.detail("the socket does not listen"));
                }
                e => self.waiting.failed(cx, e.kind()),
            },
            _ => {}
        }
        self.ask(cx);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        self.waiting.end_pause();
        self.ask(cx);
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.waiting.cancel(cx, id)
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() {
            self.sock.as_ref().ok_or_else(not_open)?;
            return c.reply::<LocalContact>(self.contact.clone());
        }
        option(&self.options, self.sock.as_ref(), c)
    }
}
