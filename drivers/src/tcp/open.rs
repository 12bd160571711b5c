//! The level of a handle: opens one connection and moves its bytes. Invariant: `sock` is there from
//! the end of an open to the start of a close; without it every op gets an error.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::cntl::{Cntl, LocalContact, PathInfo, RemoteContact, SetOption};
use xio_core::driver::options;
use xio_core::io::{Connected, Io, IoDone, Sock};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{CloseMode, Contact, Cx, Error, ErrorKind, Flow, Level, Op};

use super::Options;
use super::cntl::{Live, not_open, option};
use super::peer::Peer;
use super::race::{NOBODY, Outcome, Race};
use crate::net::{Host, HostPort, bad, canonical, contact, numeric};

/// A connection.
pub(super) struct Stream {
    sock: Option<Sock>,
    peer: Peer,
    more: Option<Box<More>>,
}

/// What few connections have.
#[derive(Default)]
struct More {
    /// The options, once one was changed; the attr's until then.
    changed: Option<Live>,
    /// The name it was opened to.
    to: Option<HostPort>,
    race: Option<Box<Race>>,
    next_tag: u32,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self { sock: None, peer: Peer::NONE, more: None }
    }

    fn begin<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        self.sock = None;
        if let Some(more) = &mut self.more {
            more.to = None;
        }
        if op.is_passive() {
            return match op.link(cx).map(|part| part.downcast::<Connected>()) {
                Some(Ok(c)) => {
                    self.connected(*c, true);
                    op.finished()
                }
                _ => op.failed(
                    Error::new(ErrorKind::InvalidInput).detail("the accepted link has no connection of this level"),
                ),
            };
        }
        let options = self.options(cx);
        if let Some(fd) = &options.fd {
            if !op.contact().is_none() {
                let text = format!(
                    "`{}`: the level was given a ready-made socket (`fd`); open it with no contact",
                    op.contact()
                );
                return op.failed(Error::new(ErrorKind::InvalidContact).detail(text));
            }
            return match fd.take() {
                Ok(fd) => op.io(Io::Adopt(Box::new((fd, options.socket())))),
                Err(e) => op.failed(e),
            };
        }
        let (to, port) = match destination(op.contact()) {
            Ok(d) => d,
            Err(e) => return op.failed(e),
        };
        match &to.host {
            Host::Name(name) => {
                let (held, flow) = op.hold(cx);
                let more = self.more.get_or_insert_default();
                more.next_tag = more.next_tag.wrapping_add(1);
                more.race = Some(Box::new(Race::begin(cx, held, to.clone(), name, port, more.next_tag)));
                more.to = Some(to);
                flow
            }
            _ => match to.address().map(|a| options.towards(a).map(|o| (a, o))) {
                Some(Ok(what)) => op.io(Io::Connect(Box::new(what))),
                Some(Err(e)) => op.failed(e),
                None => op.failed(ErrorKind::InvalidContact),
            },
        }
    }

    fn options(&self, cx: &Cx<'_>) -> Options {
        match self.more.as_ref().and_then(|m| m.changed.as_ref()) {
            Some(live) => live.lock().clone(),
            None => options::<Options>(cx.attr()).clone(),
        }
    }

    fn connected(&mut self, c: Connected, passing: bool) {
        self.sock = Some(c.sock);
        self.peer = Peer::new(c.peer, passing);
    }

    fn take_race(&mut self) -> Option<Box<Race>> {
        self.more.as_mut()?.race.take()
    }

    /// Answers the op when the race is over.
    fn race_on(&mut self, cx: &mut Cx<'_>, (race, outcome): (Option<Box<Race>>, Outcome)) {
        self.more.get_or_insert_default().race = race;
        match outcome {
            Outcome::Running => {}
            Outcome::Won(held, c) => {
                self.connected(*c, false);
                cx.finish(held, Ok(()));
            }
            Outcome::Lost(held, e) => cx.finish(held, Err(e)),
        }
    }

    /// The error of a connection attempt, with where it went.
    #[cold]
    fn refused(cx: &Cx<'_>, contact: &Contact, e: std::io::Error) -> Error {
        let e = Error::from(e);
        let Ok((to, _)) = destination(contact) else { return e.detail("the ready-made socket (`fd`) is of no use") };
        let local = matches!(e.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable);
        let o = options::<Options>(cx.attr());
        let from = match (&o.bind, &o.port_range) {
            (Some(b), None) if local => format!(" from `bind={b}`"),
            (None, Some(r)) if local => format!(" from a port of `port_range={r}`"),
            (Some(b), Some(r)) if local => format!(" from `bind={b}`, a port of `port_range={r}`"),
            _ => String::new(),
        };
        let why = match (e.kind(), &o.device) {
            (ErrorKind::Refused, _) => NOBODY.to_owned(),
            // The system does not say which.
            (ErrorKind::Io, Some(d)) => format!(": the level has `device={d}`"),
            _ => String::new(),
        };
        e.detail(format!("`{to}`{from}{why}"))
    }
}

impl Level for Stream {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => self.begin(cx, op),
            IoDone::Connected(c) if op.contact().is_none() && c.peer.is_none() && c.local.is_some() => {
                let text = "the ready-made socket (`fd`) is not connected; a listening one belongs to a server";
                op.failed(Error::new(ErrorKind::InvalidInput).detail(text))
            }
            IoDone::Connected(c) => {
                self.connected(*c, op.contact().is_none());
                op.finished()
            }
            IoDone::Failed(e) => {
                let e = Self::refused(cx, op.contact(), e);
                op.failed(e)
            }
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn close<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        // The socket is gone when the request is back, and there is no request without one.
        let _ = op.io_done();
        match self.sock.take() {
            Some(sock) => {
                let linger = match op.mode() {
                    CloseMode::Abort => Some(std::time::Duration::ZERO),
                    _ => options::<Options>(cx.attr()).linger,
                };
                op.io(Io::Close(Box::new((sock, linger))))
            }
            None => op.finished(),
        }
    }

    #[inline]
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        match &self.sock {
            Some(sock) => op.io(Io::Recv(sock.clone())),
            None => op.failed(not_open()),
        }
    }

    #[inline]
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        match &self.sock {
            Some(sock) => op.io(Io::Send(sock.clone())),
            None => op.failed(not_open()),
        }
    }

    fn shutdown<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Shutdown>) -> Flow<'o> {
        match (op.io_done(), &self.sock) {
            (IoDone::None, Some(sock)) => op.io(Io::ShutdownWrite(sock.clone())),
            (IoDone::None, None) => op.failed(not_open()),
            (IoDone::Failed(e), _) => op.failed(e),
            _ => op.finished(),
        }
    }

    fn ready<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Ready>) -> Flow<'o> {
        match (op.io_done(), &self.sock) {
            (IoDone::None, Some(sock)) => {
                let request = Io::Ready(sock.clone(), op.direction());
                op.io(request)
            }
            (IoDone::None, None) => op.failed(not_open()),
            (IoDone::Failed(e), _) => op.failed(e),
            _ => op.finished(),
        }
    }

    fn io_done(&mut self, cx: &mut Cx<'_>, tag: u32, done: IoDone) {
        // Attempts that lost come back too: whatever socket they bring closes here.
        let Some(race) = self.take_race() else { return };
        let options = self.options(cx);
        let step = race.done(cx, &options, tag, done, &mut self.more.get_or_insert_default().next_tag);
        self.race_on(cx, step);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        let Some(race) = self.take_race() else { return };
        let options = self.options(cx);
        let step = race.next(cx, &options, &mut self.more.get_or_insert_default().next_tag);
        self.race_on(cx, step);
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        match self.more.as_mut().and_then(|m| m.race.take_if(|r| r.is_for(id))) {
            Some(race) => {
                race.stop(cx, reason);
                Cancel::Keep
            }
            None => Cancel::Take,
        }
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() {
            let sock = self.sock.as_ref().ok_or_else(not_open)?.clone();
            return c.reply_later::<LocalContact>(move || Ok(contact(sock.socket().local())));
        }
        if c.command::<RemoteContact>().is_some() {
            self.sock.as_ref().ok_or_else(not_open)?;
            return c.reply::<RemoteContact>(contact(self.peer.address()));
        }
        if c.command::<PathInfo>().is_some() {
            let sock = self.sock.as_ref().ok_or_else(not_open)?.clone();
            return c.reply_later::<PathInfo>(move || sock.socket().path().map_err(Error::from));
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

    /// A connection that was accepted has the peer's passing port: only another host can be told.
    fn same_peer(&self, contact: &Contact) -> Option<bool> {
        self.sock.as_ref()?;
        let peer = self.peer.address()?;
        let asked = numeric(contact);
        if self.peer.passing {
            return asked.filter(|a| a.ip() != peer.ip()).map(|_| false);
        }
        if let Some(a) = asked {
            return Some(a == peer);
        }
        let to = self.more.as_ref()?.to.as_ref()?;
        (HostPort::parse(contact.text()?).ok()? == *to).then_some(true)
    }
}

/// Whether an open or a listen can take this contact.
pub(super) fn check_contact(o: &Options, contact: &Contact) -> Result<(), Error> {
    let open = destination(contact).and_then(|(to, _)| match to.address() {
        Some(a) => o.towards(a).map(drop),
        None => Ok(()),
    });
    // What only a server can take is right too.
    open.or_else(|e| o.places(contact).map(drop).map_err(|_| e))
}

/// Where to, and the port of it.
fn destination(contact: &Contact) -> Result<(HostPort, u16), Error> {
    let text = match contact {
        Contact::Text(t) => t,
        Contact::None => {
            return Err(Error::new(ErrorKind::InvalidContact).detail("none is given; write `host:port`"));
        }
        Contact::Branches(_) => {
            let text = format!("`{contact}`: a map of branches, but `tcp` has none; write `host:port`");
            return Err(Error::new(ErrorKind::InvalidContact).detail(text));
        }
    };
    let to = HostPort::parse(text)?;
    match (&to.host, to.port) {
        (Host::Any, _) => Err(bad(text, 0, "the host is missing", "write `host:port`; only a server needs no host")),
        (Host::Ip(std::net::IpAddr::V6(ip), _), None) => {
            Err(bad(text, text.len(), "the port is missing", &format!("write `[{ip}]:port`")))
        }
        (_, None) => Err(bad(text, text.len(), "the port is missing", "write `host:port`")),
        (_, Some(0)) => Err(bad(text, text.len() - 1, "nobody listens on port 0", "write the port of the server")),
        (_, Some(port)) => {
            // An address in disguise would fight with `bind` about the family.
            let plain = to.address().map(canonical);
            Ok((plain.map_or(to, from_address), port))
        }
    }
}

fn from_address(a: SocketAddr) -> HostPort {
    let scope = match a {
        SocketAddr::V6(a) => a.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    HostPort { host: Host::Ip(a.ip(), scope), port: Some(a.port()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Stream>() <= 48, "{}", size_of::<Stream>());
    }

    #[test]
    fn a_destination_needs_host_and_port() {
        let (to, port) = destination(&Contact::new("[::ffff:10.0.0.1]:7")).unwrap();
        assert_eq!((to.to_string().as_str(), port), ("10.0.0.1:7", 7));
        let map = Contact::None.with_branch("a", Contact::new("x:1"));
        for (contact, text) in [
            (Contact::None, "invalid contact: none is given; write `host:port`"),
            (Contact::new(":7000"), "the host is missing"),
            (Contact::new("7000"), "the host is missing"),
            (Contact::new("example.org"), "the port is missing (at byte 11); write `host:port`"),
            (Contact::new("::1"), "write `[::1]:port`"),
            (Contact::new("localhost:0"), "nobody listens on port 0 (at byte 10)"),
            (Contact::new("a b:1"), "cannot stand in a host name (at byte 1)"),
            (map, "a map of branches, but `tcp` has none"),
        ] {
            let e = destination(&contact).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidContact, "{contact}");
            assert!(e.to_string().contains(text), "{contact}: {e}");
        }
    }

    #[test]
    fn a_contact_is_right_that_a_client_or_a_server_takes() {
        let o = Options::default();
        let v4 = o.clone().with_bind(Some("10.0.0.5".into()));
        for text in ["10.0.0.1:7", "svc:7", "[::1]:7", ":7000", "7000", "*:0", "localhost:0"] {
            check_contact(&o, &Contact::new(text)).unwrap();
        }
        for (o, text, why) in [
            (&o, "][", "cannot stand in a host name (at byte 0)"),
            (&o, "svc", "the port is missing"),
            (&o, "svc:99999", "this is no port"),
            (&v4, "[::1]:7", "one is IPv4, the other IPv6"),
        ] {
            let e = check_contact(o, &Contact::new(text)).unwrap_err();
            assert!(e.to_string().contains(why), "{text}: {e}");
        }
    }
}
