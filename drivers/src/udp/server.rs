//! The level of a server: receives from whoever is new, and hands links out. Invariant: one receive is with
//! the reactor at most, and only while somebody waits for a link; accept ops wait here in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use xio_core::cntl::{Cntl, LocalContact};
use xio_core::cx::Timer;
use xio_core::io::{Connected, Io, IoDone, Sock};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Listen, OpId};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::cntl::{Live, not_open, option};
use super::hub::Hub;
use super::open::refused;
use super::{Counts, Options};
use crate::net::{Listed, Listening, Places, canonical, unresolved, usable};

/// Receives that fail in a row before the next waits, and how long.
const MAX_STREAK: u32 = 16;
const PAUSE: Duration = Duration::from_millis(50);
/// Timers.
const GO_ON: u32 = 0;
const LOOK: u32 = 1;

/// A socket that listens.
pub(super) struct Listener {
    options: Live,
    listening: Listening,
    listed: Option<Listed>,
    sock: Option<Sock>,
    hub: Option<Arc<Hub>>,
    contact: Contact,
    places: Places,
    waiting: VecDeque<Held<Accept>>,
    /// The receive under way.
    request: Option<(u32, OpId)>,
    next_tag: u32,
    streak: u32,
    pause: Option<Timer>,
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
            waiting: VecDeque::new(),
            request: None,
            next_tag: 0,
            streak: 0,
            pause: None,
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
        if self.waiting.is_empty() || self.request.is_some() || self.pause.is_some() {
            return;
        }
        self.next_tag = self.next_tag.wrapping_add(1);
        self.request = Some((self.next_tag, cx.io(Io::RecvDatagrams(sock.clone()), self.next_tag)));
    }

    /// Lets as many accepts try again as links wait, and sees to it that none waits for ever.
    fn serve(&mut self, cx: &mut Cx<'_>) {
        let Some(hub) = &self.hub else { return };
        let mut links = hub.waiting();
        let idle = hub.options().idle;
        while links > 0
            && let Some(held) = self.waiting.pop_front()
        {
            links -= 1;
            cx.retry(held);
        }
        if links == 0 {
            self.look = None;
        } else if self.look.is_none() && !idle.is_zero() {
            self.look = Some(cx.after(idle / 2, LOOK));
        }
    }

    fn stop(&mut self) {
        self.listed = None;
        self.pause = None;
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
        let (held, flow) = op.hold(cx);
        self.waiting.push_back(held);
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
        if self.request.take_if(|(t, _)| *t == tag).is_none() {
            return;
        }
        match (done, &self.hub) {
            (IoDone::Datagrams(came), Some(hub)) => {
                self.streak = 0;
                hub.put(*came);
                self.serve(cx);
            }
            (IoDone::Failed(e), _) => {
                // A close, or nobody waits any more, is no failure.
                let stopped = Error::from(e).kind() == ErrorKind::Cancelled;
                self.streak = if stopped { 0 } else { self.streak.saturating_add(1) };
                if self.streak >= MAX_STREAK {
                    self.pause = Some(cx.after(PAUSE, GO_ON));
                }
            }
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
            self.pause = None;
            self.ask(cx);
        }
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
                // Should it be done by now, its link waits for the next accept.
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
