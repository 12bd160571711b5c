//! The level that listens at a path. Invariant: one request is with the reactor at most, and only while somebody waits for a connection; one that nobody waits for any more goes to the next who asks.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use xio_core::cntl::{Cntl, LocalContact};
use xio_core::cx::{EventKind, Timer};
use xio_core::io::{Io, IoDone, Sock, SocketOptions};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Listen, OpId};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::Options;
use super::driver::Listening;
use super::meet::{Guest, Meeting, fresh, path};
use super::post::Call;

/// First and longest wait after descriptors or memory ran out.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A server.
pub(super) struct Listener {
    options: Options,
    listening: Arc<Listening>,
    meeting: Option<Arc<Meeting>>,
    /// The same socket, for the reactor to wait for.
    sock: Option<Sock>,
    waiting: VecDeque<Held<Accept>>,
    ready: VecDeque<Box<Guest>>,
    request: Option<(u32, OpId, Arc<Call<Guest>>)>,
    next_tag: u32,
    pause: Option<Timer>,
    backoff: Duration,
}

impl Listener {
    pub(super) fn new(options: Options, listening: Arc<Listening>) -> Self {
        Self {
            options,
            listening,
            meeting: None,
            sock: None,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            request: None,
            next_tag: 0,
            pause: None,
            backoff: BACKOFF.0,
        }
    }

    fn begin<'o>(&self, op: Op<'o, Listen>) -> Flow<'o> {
        let at = match op.contact() {
            Contact::None => fresh(),
            given => match path(given) {
                Ok(p) => p.to_owned(),
                Err(e) => return op.failed(e),
            },
        };
        let (message, backlog) = (self.options.message, self.options.backlog);
        op.io(Io::Blocking(Box::new(move || match Meeting::at(at, message, backlog) {
            Ok(meeting) => Ok(Box::new(meeting)),
            Err(e) => Err(e.into()),
        })))
    }

    fn stop(&mut self) {
        if let Some(meeting) = self.meeting.take() {
            let mut all = self.listening.lock();
            if let Some(i) = all.iter().position(|p| *p == meeting.path) {
                all.swap_remove(i);
            }
        }
    }

    /// Asks for a connection, if somebody waits for one.
    fn ask(&mut self, cx: &mut Cx<'_>) {
        let (Some(sock), Some(meeting)) = (&self.sock, &self.meeting) else { return };
        if self.waiting.is_empty() || self.request.is_some() || self.pause.is_some() {
            return;
        }
        self.next_tag = self.next_tag.wrapping_add(1);
        let meeting = meeting.clone();
        let (call, io) = Call::new(sock.clone(), move || meeting.accept());
        self.request = Some((self.next_tag, cx.io(io, self.next_tag), call));
    }
}

impl Level for Listener {
    fn listen<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => self.begin(op),
            IoDone::Value(v) => match v.downcast::<Meeting>() {
                Ok(meeting) => {
                    let fd = match meeting.fd.as_fd().try_clone_to_owned() {
                        Ok(fd) => fd,
                        Err(e) => return op.failed(e),
                    };
                    self.listening.lock().push(meeting.path.clone());
                    self.meeting = Some(Arc::new(*meeting));
                    op.io(Io::Adopt(Box::new((fd, SocketOptions::default()))))
                }
                Err(_) => op.failed(ErrorKind::Contract),
            },
            IoDone::Connected(c) => {
                self.sock = Some(c.sock);
                op.set_contact(self.meeting.as_ref().map_or(Contact::None, |m| m.contact()));
                op.finished()
            }
            IoDone::Failed(e) => {
                self.stop();
                op.failed(e)
            }
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn accept<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
        if self.sock.is_none() {
            return op.failed(ErrorKind::Closed);
        }
        if let Some(guest) = self.ready.pop_front() {
            op.set_contacts(guest.local.clone(), guest.peer.clone());
            op.set_link(cx, guest);
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
        self.pause = None;
        self.ready.clear();
        match self.sock.take() {
            Some(sock) => op.io(Io::Close(Box::new((sock, None)))),
            None => op.finished(),
        }
    }

    fn io_done(&mut self, cx: &mut Cx<'_>, tag: u32, _: IoDone) {
        let Some((_, _, call)) = self.request.take_if(|(t, ..)| *t == tag) else { return };
        // Nothing came of it where nobody waits any more.
        match call.take() {
            Some(Ok(guest)) => {
                self.backoff = BACKOFF.0;
                self.ready.push_back(Box::new(guest));
                if let Some(held) = self.waiting.pop_front() {
                    cx.retry(held);
                }
            }
            Some(Err(e)) => {
                if Error::from(e).kind() == ErrorKind::Exhausted {
                    cx.event(EventKind::Other("exhausted"));
                }
                self.pause = Some(cx.after(self.backoff, 0));
                self.backoff = (self.backoff * 2).min(BACKOFF.1);
            }
            None => {}
        }
        self.ask(cx);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        self.pause = None;
        self.ask(cx);
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        if let Some(i) = self.waiting.iter().position(|h| h.id() == id) {
            drop(self.waiting.remove(i));
        }
        if self.waiting.is_empty() {
            self.pause = None;
            if let Some((_, op, _)) = self.request {
                // Should it be done by now, its connection goes to the next accept.
                cx.cancel(op);
            }
        }
        Cancel::Take
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        match &self.meeting {
            Some(m) if c.command::<LocalContact>().is_some() => c.reply::<LocalContact>(m.contact()),
            _ => Err(c.unsupported()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}
