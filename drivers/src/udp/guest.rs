//! What an accepted handle knows of its peer: its place with the server, what went and came, how long it has
//! been silent. Invariant: until its owner vouches for it, a peer is sent no more than its share.

use xio_core::cx::Timer;
use xio_core::datagram::Arrived;
use xio_core::io::{Direction, Io, Sock};
use xio_core::op::OpId;
use xio_core::{Cx, Error, ErrorKind};

use super::hub::Link;

/// Half idle times without a datagram after which a link ends.
const MAX_SILENCE: u8 = 2;

/// What an accepted handle knows.
pub(super) struct Guest {
    pub(super) link: Link,
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
    pub(super) fn new(link: Link) -> Self {
        let amplify = link.hub().options().amplify;
        Self { link, received: 0, sent: 0, amplify, heard: true, silence: 0, look: None, listens: None }
    }

    /// Its owner says that it is no forged one.
    pub(super) fn vouch(&mut self) {
        self.amplify = 0;
    }

    /// Looks again after half the idle time.
    pub(super) fn look_later(&mut self, cx: &mut Cx<'_>) {
        let idle = self.link.hub().options().idle;
        self.look = (!idle.is_zero()).then(|| cx.after(idle / 2, 0));
    }

    /// Half the idle time has passed: gives the level up where the peer was silent for all of it.
    pub(super) fn look(&mut self, cx: &mut Cx<'_>, sock: Option<Sock>) {
        self.silence = if std::mem::take(&mut self.heard) { 0 } else { self.silence + 1 };
        if self.silence >= MAX_SILENCE {
            self.link.hub().expire();
            self.look = None;
            let text = format!("the peer was silent for {:?} (`idle`)", self.link.hub().options().idle);
            return cx.fail(Error::new(ErrorKind::TimedOut).detail(text));
        }
        if let (None, Some(sock)) = (self.listens, sock) {
            self.listens = Some(cx.io(Io::Ready(sock, Direction::Read), 0));
        }
        self.look_later(cx);
    }

    /// The wait for the socket is over; `lies`: something lies there that nobody reads.
    pub(super) fn listened(&mut self, lies: bool) {
        self.listens = None;
        self.heard |= lies;
    }

    /// Counts what came.
    pub(super) fn note(&mut self, came: &Arrived) {
        self.heard = true;
        self.received = self.received.saturating_add(came.len as u64);
    }

    /// Whether so many more bytes may go.
    pub(super) fn may_send(&mut self, len: usize) -> Result<(), Error> {
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
