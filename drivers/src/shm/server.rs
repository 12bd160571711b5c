//! The level that listens at a path. Invariant: a connection that nobody waits for any more goes to the next who asks.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use xio_core::cntl::{Cntl, LocalContact};
use xio_core::io::{Io, IoDone, Sock, SocketOptions};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Listen, OpId};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Level, Op};

use super::Options;
use super::driver::Listening;
use super::meet::{Guest, Meeting, fresh, path};
use crate::waiting::Waiting;

/// A server.
pub(super) struct Listener {
    options: Options,
    listening: Arc<Listening>,
    meeting: Option<Meeting>,
    sock: Option<Sock>,
    waiting: Waiting,
    ready: VecDeque<Box<Guest>>,
}

impl Listener {
    pub(super) fn new(options: Options, listening: Arc<Listening>) -> Self {
        Self { options, listening, meeting: None, sock: None, waiting: Waiting::new(), ready: VecDeque::new() }
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
        let Some(sock) = &self.sock else { return };
        self.waiting.ask(cx, || Io::Accept(sock.clone(), Box::default()));
    }
}

impl Level for Listener {
    fn listen<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => self.begin(op),
            IoDone::Value(v) => match v.downcast::<(Meeting, OwnedFd)>() {
                Ok(met) => {
                    let (meeting, fd) = *met;
                    self.listening.lock().push(meeting.path.clone());
                    self.meeting = Some(meeting);
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
            op.set_contacts(guest.ends.local.clone(), guest.ends.peer.clone());
            op.set_link(cx, guest);
            return op.finished();
        }
        let flow = self.waiting.hold(cx, op);
        self.ask(cx);
        flow
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let _ = op.io_done();
        self.stop();
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
                match self.meeting.as_ref().map(|m| m.guest(c.sock)) {
                    Some(Ok(Some(guest))) => {
                        self.ready.push_back(Box::new(guest));
                        self.waiting.serve(cx);
                    }
                    Some(Err(e)) => self.waiting.fail_all(cx, &e),
                    Some(Ok(None)) | None => {}
                }
            }
            IoDone::Failed(e) => self.waiting.failed(cx, Error::from(e).kind()),
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
