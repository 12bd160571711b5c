//! The level of a server: listens, and hands connections out. Invariant: one accept request is with
//! the reactor at most, and only while somebody waits for a connection; accept ops wait here in
//! order, and a connection that nobody waits for any more goes to the next.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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
use super::driver::Listening;
use super::local::usable;
use super::race::unresolved;
use crate::net::{Host, HostPort, PortRange, address, bad, canonical, numeric, tidy};

/// First and longest wait after descriptors or memory ran out.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Accepts that fail in a row, for whatever reason, before the next waits as well.
const MAX_STREAK: u32 = 16;

/// A listening socket.
pub(super) struct Listener {
    options: Live,
    /// What the driver's servers listen on, and what of it is ours.
    listening: Arc<Listening>,
    listed: Option<SocketAddr>,
    sock: Option<Sock>,
    contact: Contact,
    places: Places,
    waiting: VecDeque<Held<Accept>>,
    ready: VecDeque<Connected>,
    /// The tag of the request under way.
    request: Option<(u32, OpId)>,
    next_tag: u32,
    pause: Option<Timer>,
    backoff: Duration,
    streak: u32,
}

/// Where to listen: each host with each port, until one is free.
#[derive(Default)]
struct Places {
    text: String,
    /// IPv4 stands in where the system has no IPv6.
    any: bool,
    v6_first: bool,
    hosts: VecDeque<(std::net::IpAddr, u32)>,
    ports: Option<PortRange>,
    port: u16,
    left: VecDeque<SocketAddr>,
}

impl Listener {
    pub(super) fn new(options: Options, listening: Arc<Listening>) -> Self {
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
                let text = format!("`{}`: the level was given a ready-made socket (`fd`); listen with no contact", op.contact());
                return op.failed(Error::new(ErrorKind::InvalidContact).detail(text));
            }
            return match fd.take() {
                Ok(fd) => op.io(Io::Adopt(Box::new((fd, options.socket())))),
                Err(e) => op.failed(e),
            };
        }
        match Places::new(op.contact(), &options) {
            Ok((places, None)) => {
                self.places = places;
                self.try_next(op)
            }
            Ok((places, Some(host))) => {
                let port = places.port;
                self.places = places;
                op.io(Io::Resolve { host, port })
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
            None => op.failed(Error::new(ErrorKind::Resolve).detail(format!("`{}`: the name has no address", self.places.text))),
        }
    }

    fn listens<'o>(&mut self, mut op: Op<'o, Listen>, c: Connected) -> Flow<'o> {
        if !c.peer.is_none() {
            let text = "the ready-made socket (`fd`) is connected; a server needs a listening one";
            return op.failed(Error::new(ErrorKind::InvalidInput).detail(text));
        }
        self.sock = Some(c.sock);
        let Some(bound) = numeric(&c.local) else {
            // A ready-made socket of another family.
            self.contact = c.local;
            op.set_contact(self.contact.clone());
            return op.finished();
        };
        self.listing(Some(bound));
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

    /// Notes for the driver what this server listens on.
    fn listing(&mut self, bound: Option<SocketAddr>) {
        let mut all = self.listening.lock();
        if let Some(i) = self.listed.take().and_then(|old| all.iter().position(|a| *a == old)) {
            all.swap_remove(i);
        }
        all.extend(bound);
        self.listed = bound;
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
            IoDone::Connected(c) => self.listens(op, c),
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
        if let Some(mut c) = self.ready.pop_front() {
            c.local = tidy(c.local);
            c.peer = tidy(c.peer);
            op.set_contacts(c.local.clone(), c.peer.clone());
            op.set_link(cx, Box::new(c));
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.waiting.push_back(held);
        self.ask(cx);
        flow
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let _ = op.io_done();
        self.listing(None);
        self.pause = None;
        self.ready.clear();
        match self.sock.take() {
            Some(sock) => op.io(Io::Close(sock, None)),
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

impl Drop for Listener {
    fn drop(&mut self) {
        self.listing(None);
    }
}

impl Places {
    /// From the contact and the options; with the name that has to be looked up first.
    fn new(contact: &Contact, options: &Options) -> Result<(Self, Option<String>), Error> {
        let text = match contact {
            Contact::Text(t) => t,
            Contact::None => "*",
            Contact::Branches(_) => {
                let text = format!("`{contact}`: a map of branches, but `tcp` has none; write `host:port` or `:port`");
                return Err(Error::new(ErrorKind::InvalidContact).detail(text));
            }
        };
        let (at, bind) = (HostPort::parse(text)?, options.bind()?);
        if at.host != Host::Any && bind.host != Host::Any && at.host != bind.host {
            let help = format!("`bind={bind}` names one too; write `:port`, or leave `bind` out");
            return Err(bad(text, 0, "the contact names a local address", &help));
        }
        let given = at.port.filter(|p| *p > 0);
        if let (Some(a), Some(b)) = (given, bind.port.filter(|p| *p > 0 && Some(*p) != given)) {
            let what = format!("the contact names port {a}, and `bind` port {b}");
            return Err(bad(text, text.len(), &what, "leave one of them out"));
        }
        if at.port.is_none() && !matches!((&at.host, contact), (Host::Any, _)) {
            return Err(bad(text, text.len(), "the port is missing", "write `host:port`; port 0 takes a free one"));
        }
        let port = given.or(bind.port).unwrap_or(0);
        let ports = if port == 0 { options.ports()? } else { None };
        let shown = if contact.is_none() { bind.to_string() } else { text.to_owned() };
        let mut out = Self { text: shown, ports, port, ..Self::default() };
        let host = if at.host == Host::Any { bind.host } else { at.host };
        match host {
            Host::Any => {
                out.any = true;
                out.hosts.push_back((Ipv6Addr::UNSPECIFIED.into(), 0));
            }
            Host::Ip(ip, scope) => {
                out.v6_first = ip.is_ipv6();
                out.hosts.push_back((ip, scope));
            }
            Host::Name(name) => return Ok((out, Some(name))),
        }
        out.fill();
        Ok((out, None))
    }

    /// The addresses of the name are known. IPv4 first: clients of both kinds reach it.
    fn named(&mut self, mut list: Vec<SocketAddr>) {
        list.sort_by_key(SocketAddr::is_ipv6);
        list.truncate(super::race::MAX_ADDRESSES);
        let scope = |a: &SocketAddr| if let SocketAddr::V6(a) = a { a.scope_id() } else { 0 };
        self.hosts = list.iter().map(|a| (canonical(*a).ip(), scope(a))).collect();
        self.fill();
    }

    fn fill(&mut self) {
        let Some(&(ip, scope)) = self.hosts.front() else { return };
        self.left = match self.ports {
            Some(range) => range.ports().map(|p| address(ip, scope, p)).collect(),
            None => VecDeque::from([address(ip, scope, self.port)]),
        };
    }

    fn next(&mut self) -> Option<SocketAddr> {
        self.left.pop_front()
    }

    /// Whether there is another place to try after this failure.
    fn goes_on_after(&mut self, kind: ErrorKind) -> bool {
        if kind == ErrorKind::AddrInUse && !self.left.is_empty() {
            return true;
        }
        let lasting = !matches!(kind, ErrorKind::AddrInUse | ErrorKind::PermissionDenied | ErrorKind::Exhausted);
        if std::mem::take(&mut self.any) && lasting {
            self.hosts = VecDeque::from([(Ipv4Addr::UNSPECIFIED.into(), 0)]);
        } else if self.hosts.len() > 1 && kind == ErrorKind::AddrNotAvailable {
            self.hosts.pop_front();
        } else {
            return false;
        }
        self.fill();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(contact: &str, options: &Options) -> Result<Vec<String>, Error> {
        let contact = if contact.is_empty() { Contact::None } else { Contact::new(contact) };
        let (mut p, name) = Places::new(&contact, options)?;
        Ok(name.into_iter().chain(std::iter::from_fn(|| p.next().map(|a| a.to_string()))).collect())
    }

    #[test]
    fn contact_and_bind_make_one_place() {
        let o = Options::default();
        let bind = o.clone().with_bind(Some("127.0.0.1".into()));
        let port = o.clone().with_bind(Some(":5".into()));
        let range = o.clone().with_port_range(Some("5-6".into()));
        for (contact, options, want) in [
            ("", &o, &["[::]:0"][..]),
            ("*", &o, &["[::]:0"]),
            ("7000", &o, &["[::]:7000"]),
            ("127.0.0.1:7", &o, &["127.0.0.1:7"]),
            ("name:7", &o, &["name"]),
            ("", &bind, &["127.0.0.1:0"]),
            (":7", &bind, &["127.0.0.1:7"]),
            ("127.0.0.1:7", &bind, &["127.0.0.1:7"]),
            (":0", &port, &["[::]:5"]),
            (":0", &range, &["[::]:5", "[::]:6"]),
            (":9", &range, &["[::]:9"]),
            ("[::1]:0", &range, &["[::1]:5", "[::1]:6"]),
        ] {
            assert_eq!(places(contact, options).unwrap(), want, "{contact}");
        }
        for (contact, options, text) in [
            ("10.0.0.1:7", &bind, "`bind=127.0.0.1` names one too"),
            (":7", &port, "the contact names port 7, and `bind` port 5"),
            ("127.0.0.1", &o, "the port is missing (at byte 9); write `host:port`; port 0 takes a free one"),
            ("x y", &o, "cannot stand in a host name"),
        ] {
            let e = places(contact, options).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidContact);
            assert!(e.to_string().contains(text), "{contact}: {e}");
        }
        let map = Contact::None.with_branch("a", Contact::new("x:1"));
        assert!(Places::new(&map, &o).is_err_and(|e| e.to_string().contains("a map of branches")));
    }

    #[test]
    fn the_next_place_depends_on_why_the_last_failed() {
        let o = Options::default();
        let range = o.clone().with_port_range(Some("5-6".into()));
        let (mut p, _) = Places::new(&Contact::None, &range).unwrap();
        assert_eq!(p.next().unwrap().port(), 5);
        assert!(p.goes_on_after(ErrorKind::AddrInUse));
        assert_eq!(p.next().unwrap().to_string(), "[::]:6");
        assert!(!p.goes_on_after(ErrorKind::AddrInUse));
        let (mut p, _) = Places::new(&Contact::new(":7"), &o).unwrap();
        p.next();
        assert!(p.goes_on_after(ErrorKind::Io));
        assert_eq!(p.next().unwrap().to_string(), "0.0.0.0:7");
        assert!(!p.goes_on_after(ErrorKind::Io));
        let (mut p, _) = Places::new(&Contact::new("name:7"), &o).unwrap();
        p.named(["[::1]:7", "10.0.0.1:7"].map(|a| a.parse().unwrap()).into());
        assert_eq!(p.next().unwrap().to_string(), "10.0.0.1:7");
        assert!(p.goes_on_after(ErrorKind::AddrNotAvailable));
        assert_eq!(p.next().unwrap().to_string(), "[::1]:7");
        assert!(!p.goes_on_after(ErrorKind::AddrNotAvailable));
    }
}
