//! The level of a server: receives from whoever is new, and hands links out. Invariant: it receives only while
//! somebody waits for a link.

use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::cntl::{Cntl, LocalContact};
use xio_core::cx::Timer;
use xio_core::io::{Connected, Io, IoDone, Sock};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Listen, OpId};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Level, Op};

use super::cntl::{Live, not_open, option};
use super::hub::Hub;
use super::open::refused;
use super::{Counts, Options};
use crate::net::{Listed, Listening, Places, canonical, unresolved, usable};
use crate::waiting::{GO_ON, Waiting};

/// Tag of the timer that looks after links nobody takes.
const LOOK: u32 = GO_ON + 1;

/// A socket that listens.
pub(super) struct Listener {
    options: Live,
    listening: Listening,
    listed: Option<Listed>,
    sock: Option<Sock>,
    hub: Option<Arc<Hub>>,
    contact: Contact,
    places: Places,
    waiting: Waiting,
    look: Option<Timer>,
}

impl Listener {
    pub(super) fn new(options: Options, listening: Listening) -> Self {
        Self {
            options: Arc::new(Mutex::new(options)),
            listening,
            listed: None,
            sock: None,
            hub: None,
            contact: Contact::None,
            places: Places::default(),
            waiting: Waiting::new(),
            look: None,
        }
    }

    fn begin<'o>(&mut self, op: Op<'o, Listen>) -> Flow<'o> {
        let place = self.options.lock().places(op.contact());
        match place {
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
        let Some(at) = self.places.next() else {
            let text = format!("`{}`: the name has no address", self.places.text);
            return op.failed(Error::new(ErrorKind::Resolve).detail(text));
        };
        let options = self.options.lock().at(at);
        match options {
            Ok(mut o) => {
                o.shared = true;
                op.io(Io::Datagram(Box::new(o)))
            }
            Err(e) => op.failed(e),
        }
    }

    fn listens<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Listen>, c: Connected) -> Flow<'o> {
        let Some(at) = c.local else { return op.failed(ErrorKind::Contract) };
        let options = self.options.lock().clone();
        let device = options.device.clone();
        let hub = Hub::new(at, options);
        hub.begin(c.sock.clone(), cx.waker());
        self.hub = Some(hub);
        self.sock = Some(c.sock);
        let bound = canonical(at);
        self.listed = Some(self.listening.list(bound));
        if !bound.ip().is_unspecified() {
            self.contact = bound.into();
            op.set_contact(self.contact.clone());
            return op.finished();
        }
        let v6_first = self.places.v6_first;
        op.io(Io::Blocking(Box::new(move || Ok(Box::new(usable(bound, v6_first, device.as_deref()))))))
    }

    /// Receives, if somebody waits for a link.
    fn ask(&mut self, cx: &mut Cx<'_>) {
        let Some(sock) = &self.sock else { return };
        self.waiting.ask(cx, || Io::RecvDatagrams(sock.clone()));
    }

    /// Lets as many accepts try again as links wait, and sees to it that none waits for ever.
    fn serve(&mut self, cx: &mut Cx<'_>) {
        let Some(hub) = &self.hub else { return };
        let mut links = hub.waiting();
        let idle = hub.options().idle;
        while links > 0 && self.waiting.serve(cx) {
            links -= 1;
        }
        if links == 0 {
            self.look = None;
        } else if self.look.is_none() && !idle.is_zero() {
            self.look = Some(cx.after(idle / 2, LOOK));
        }
    }

    fn stop(&mut self) {
        self.listed = None;
        self.waiting.end_pause();
        self.look = None;
        if let Some(hub) = self.hub.take() {
            hub.end();
        }
    }
}

impl Level for Listener {
    fn listen<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => self.begin(op),
            IoDone::Addresses(list) => {
                self.places.named(list);
                self.try_next(op)
            }
            IoDone::Connected(c) => self.listens(cx, op, *c),
            IoDone::Value(v) => match v.downcast::<std::net::SocketAddr>() {
                Ok(at) => {
                    self.contact = Contact::from(*at);
                    op.set_contact(self.contact.clone());
                    op.finished()
                }
                Err(_) => op.failed(ErrorKind::Contract),
            },
            IoDone::Failed(e) if self.places.hosts.is_empty() => {
                let e = unresolved(e).detail(format!("`{}`", self.places.text));
                op.failed(e)
            }
            IoDone::Failed(e) => {
                let e = Error::from(e);
                if self.places.goes_on_after(e.kind()) {
                    return self.try_next(op);
                }
                op.failed(refused(e, &self.places.text))
            }
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn accept<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        let Some(hub) = &self.hub else { return op.failed(not_open()) };
        if let Some(link) = hub.accept() {
            op.set_addresses(Some(canonical(hub.at())), Some(canonical(link.peer())));
            op.set_link(cx, Box::new(link));
            return op.finished();
        }
        let flow = self.waiting.hold(cx, op);
        self.ask(cx);
        flow
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let _ = op.io_done();
        self.stop();
        match self.sock.take() {
            Some(sock) => op.io(Io::Close(Box::new((sock, None)))),
            None => op.finished(),
        }
    }

    fn io_done(&mut self, cx: &mut Cx<'_>, tag: u32, done: IoDone) {
        if !self.waiting.is_answered(tag) {
            return;
        }
        match (done, &self.hub) {
            (IoDone::Datagrams(came), Some(hub)) => {
                self.waiting.came();
                hub.put(*came);
                self.serve(cx);
            }
            (IoDone::Failed(e), _) => self.waiting.failed(cx, Error::from(e).kind()),
            _ => {}
        }
        self.ask(cx);
    }

    fn woken(&mut self, cx: &mut Cx<'_>) {
        self.serve(cx);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, tag: u32) {
        if tag == LOOK {
            self.look = None;
            if let Some(hub) = &self.hub {
                hub.look();
            }
            self.serve(cx);
        } else {
            self.waiting.end_pause();
            self.ask(cx);
        }
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.waiting.cancel(cx, id)
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() {
            self.sock.as_ref().ok_or_else(not_open)?;
            return c.reply::<LocalContact>(self.contact.clone());
        }
        if c.command::<Counts>().is_some() {
            return c.reply::<Counts>(self.hub.as_ref().ok_or_else(not_open)?.tally());
        }
        option(&self.options, self.sock.as_ref(), c)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}
