//! The level at each end of a connection. Invariant: both rings' positions are the level's alone, under its
//! handle's lock; an op that has nothing to do waits outside of it for a moment, then it is held until the
//! socket says that the peer did something.

use std::sync::Arc;

use xio_core::attr::option_cntl;
use xio_core::cntl::{Borrow, Cntl, GetOption, Path, PathInfo, SetOption};
use xio_core::cx::Timer;
use xio_core::io::{Direction, Io, IoDone, Sock, SocketOptions};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{CloseMode, Contact, Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::Options;
use super::live::{DOOR, Found, Live};
use super::meet::{self, Ends, Guest, LOOKS, Met, PAUSE, Rings, path};
use super::post::{Call, Shared};
use super::put::Put;
use super::ring::{ENDED, RESET, Side};

/// How often a guest may be looked for in vain. Once is what there is between honest ends.
const MOST_LOOKS: u32 = 64;
/// Tag of the timer after which an open looks again.
const AGAIN: u32 = 0;

/// An end.
pub(super) struct Shm {
    options: Options,
    opening: Option<Box<Opening>>,
    live: Option<Box<Live>>,
}

/// An open that comes again when the server's backlog may have a place.
struct Knock {
    op: Held<Open>,
    looks: u128,
    _again: Timer,
}

/// A connection on its way to the end of an open.
enum Opening {
    /// The reactor takes the socket in.
    Met(Rings, Ends),
    /// The peer has yet to say what it wants; it was looked for in vain so often.
    Guest(Arc<Guest>, Arc<Call<Rings>>, u32),
    /// The server's backlog is full.
    Knock(Knock),
    /// It was, so often.
    Knocked(u128),
}

impl Shm {
    pub(super) fn new(options: Options) -> Self {
        Self { options, opening: None, live: None }
    }

    fn live(&mut self) -> Result<&mut Live, Error> {
        match &mut self.live {
            Some(live) if live.is_ours() => Ok(live),
            Some(_) => {
                let text = "the handle belongs to the process that opened it, not to its children";
                Err(Error::new(ErrorKind::Unsupported).detail(text))
            }
            None => Err(ErrorKind::Closed.into()),
        }
    }

    fn begin<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        if op.is_passive() {
            let Some(Ok(guest)) = op.link(cx).map(|part| part.downcast::<Guest>()) else {
                let text = "the accepted link has no connection of this level";
                return op.failed(Error::new(ErrorKind::InvalidInput).detail(text));
            };
            return self.listen_to(op, guest.into(), 0);
        }
        let path = match path(op.contact()) {
            Ok(p) => p.to_owned(),
            Err(e) => return op.failed(e),
        };
        let (message, size) = (self.options.message, self.options.size());
        op.io(Io::Blocking(Box::new(move || match meet::open(&path, message, size) {
            Ok(met) => Ok(Box::new(met)),
            Err(e) => Err(e.into()),
        })))
    }

    /// Hears what a guest wants.
    fn listen_to<'o>(&mut self, op: Op<'o, Open>, guest: Arc<Guest>, before: u32) -> Flow<'o> {
        if before >= MOST_LOOKS {
            let text = "the peer's socket says that there is something, and nothing of it can be read";
            return op.failed(Error::new(ErrorKind::Protocol).detail(text));
        }
        let speaker = guest.clone();
        let (call, io) = Call::new(guest.sock.clone(), move || speaker.greet());
        self.opening = Some(Box::new(Opening::Guest(guest, call, before + 1)));
        op.io(io)
    }

    fn opened<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>, sock: Sock, rings: Rings, ends: Ends) -> Flow<'o> {
        let shared = Arc::new(Shared::new(&rings, sock, self.options.spin));
        self.live = Some(Box::new(Live::new(cx, &self.options, ends, rings, shared)));
        op.finished()
    }
}

impl Level for Shm {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => {
                if !matches!(self.opening.as_deref(), Some(Opening::Knocked(_))) {
                    self.opening = None;
                }
                self.live = None;
                self.begin(cx, op)
            }
            IoDone::Value(v) => match v.downcast::<Met>() {
                Ok(met) => {
                    self.opening = Some(Box::new(Opening::Met(met.rings, met.ends)));
                    op.io(Io::Adopt(Box::new((met.fd, SocketOptions::default()))))
                }
                Err(_) => op.failed(ErrorKind::Contract),
            },
            IoDone::Connected(c) => match self.opening.take().map(|o| *o) {
                Some(Opening::Met(rings, ends)) => self.opened(cx, op, c.sock, rings, ends),
                _ => op.failed(ErrorKind::Contract),
            },
            IoDone::Done => match self.opening.take().map(|o| *o) {
                Some(Opening::Guest(guest, call, looks)) => match call.take() {
                    Some(Ok(rings)) => self.opened(cx, op, guest.sock.clone(), rings, guest.ends.clone()),
                    Some(Err(e)) => op.failed(e),
                    // It came just after it was looked for.
                    None => self.listen_to(op, guest, looks),
                },
                _ => op.failed(ErrorKind::Contract),
            },
            IoDone::Failed(e) => {
                let (e, before) = (Error::from(e), self.opening.take().map(|o| *o));
                if e.kind() != ErrorKind::Busy {
                    return op.failed(e);
                }
                let looks = if let Some(Opening::Knocked(n)) = before { n } else { 0 };
                if looks >= LOOKS {
                    let text = format!("`{}`: too many wait to be accepted there", op.contact());
                    return op.failed(Error::new(ErrorKind::Refused).detail(text));
                }
                let _again = cx.after(PAUSE, AGAIN);
                let (op, flow) = op.hold(cx);
                self.opening = Some(Box::new(Opening::Knock(Knock { op, looks: looks + 1, _again })));
                flow
            }
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        self.opening = None;
        let Some(live) = self.live.as_mut().filter(|live| live.is_ours()) else {
            self.live = None;
            return op.finished();
        };
        if let IoDone::None = op.io_done() {
            let how = if op.mode() == CloseMode::Abort { RESET } else { ENDED };
            let (readers, writers) = (live.tx.end(how), live.rx.leave(how));
            live.shared.owe(Direction::Write, readers);
            live.shared.owe(Direction::Read, writers);
            return op.io(Io::Ready(live.posts.nudge.clone(), Direction::Write));
        }
        // The last owner of the socket and of the rings.
        let door = live.posts.door.clone();
        self.live = None;
        op.io(Io::Close(Box::new((door, None))))
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let live = match self.live() {
            Ok(live) => live,
            Err(e) => return op.failed(e),
        };
        let waited = !matches!(op.io_done(), IoDone::None);
        if !live.message && op.room() == 0 {
            return op.finished();
        }
        loop {
            match live.take(cx, &mut op) {
                Err(e) => return op.failed(e),
                Ok(Found::Bytes) => return op.finished(),
                Ok(Found::Longer(len)) => return op.failed(ErrorKind::Truncated { len }),
                Ok(Found::Nothing) if !live.message && op.wanted() == 0 => return op.finished(),
                Ok(Found::Nothing) if !waited => {
                    live.shared.note_seen(Direction::Read, live.rx.seen());
                    return op.io(Io::Ready(live.posts.wait.clone(), Direction::Read));
                }
                Ok(Found::Nothing) if live.sleeps(Side::Reader) => {
                    let (held, flow) = op.hold(cx);
                    live.reader = Some(held);
                    return flow;
                }
                Ok(Found::Nothing) => {}
            }
        }
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let live = match self.live() {
            Ok(live) => live,
            Err(e) => return op.failed(e),
        };
        let waited = !matches!(op.io_done(), IoDone::None);
        loop {
            if let Some(e) = live.refuses(cx) {
                return op.failed(e);
            }
            match live.put(cx, &mut op) {
                Err(e) => return op.failed(e),
                Ok(Put::Bytes(n)) => return op.finished_part(n),
                Ok(Put::Full) if !waited => {
                    live.shared.note_seen(Direction::Write, live.tx.seen());
                    return op.io(Io::Ready(live.posts.wait.clone(), Direction::Write));
                }
                Ok(Put::Full) if !live.sleeps(Side::Writer) => {}
                Ok(Put::Full | Put::Behind) => {
                    let (held, flow) = op.hold(cx);
                    live.writer = Some(held);
                    return flow;
                }
            }
        }
    }

    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        let live = match self.live() {
            Ok(live) => live,
            Err(e) => return op.failed(e),
        };
        let flags = live.tx.end(ENDED);
        live.wake(cx, Direction::Write, flags);
        op.finished()
    }

    fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        let live = match self.live() {
            Ok(live) => live,
            Err(e) => return op.failed(e),
        };
        loop {
            let (is_ready, side) = match op.direction() {
                Direction::Read => (live.is_readable(cx), Side::Reader),
                Direction::Write => (live.is_writable(cx), Side::Writer),
            };
            if is_ready {
                return op.finished();
            }
            if live.sleeps(side) {
                let (held, flow) = op.hold(cx);
                live.ready.push(held);
                return flow;
            }
        }
    }

    fn io_done(&mut self, cx: &mut Cx<'_>, tag: u32, done: IoDone) {
        let Some(live) = &mut self.live else { return };
        if tag != DOOR || matches!(done, IoDone::Failed(_)) {
            return;
        }
        live.look(cx);
        if !live.shared.is_dead() {
            cx.io(Io::Ready(live.posts.door.clone(), Direction::Read), DOOR);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        match self.opening.take().map(|o| *o) {
            Some(Opening::Knock(knock)) => {
                self.opening = Some(Box::new(Opening::Knocked(knock.looks)));
                cx.retry(knock.op);
            }
            other => self.opening = other.map(Box::new),
        }
    }

    fn woken(&mut self, cx: &mut Cx<'_>) {
        if let Some(live) = &mut self.live {
            live.nudge(cx);
            // It may have waited for a loan to be filled.
            live.writer.take().into_iter().for_each(|h| cx.retry(h));
        }
    }

    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        if matches!(self.opening.as_deref(), Some(Opening::Knock(k)) if k.op.id() == id) {
            self.opening = None;
        }
        if let Some(live) = &mut self.live {
            drop(live.reader.take_if(|h| h.id() == id));
            drop(live.writer.take_if(|h| h.id() == id));
            live.ready.retain(|h| h.id() != id);
        }
        Cancel::Take
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        let sets = matches!(c.command(), Some(SetOption(name, _)) if name == "spin");
        if sets || matches!(c.command(), Some(GetOption(name)) if name == "spin") {
            option_cntl(&mut self.options, c)?;
            if let Some(live) = &self.live {
                live.shared.set_spin(self.options.spin);
            }
            return Ok(());
        }
        let Some(live) = &mut self.live else { return Err(c.unsupported()) };
        if let Some(Borrow(room)) = c.command() {
            return c.reply::<Borrow>(live.lend(cx, *room));
        }
        if c.command::<PathInfo>().is_some() {
            let mut path = Path::default();
            // As far as the peer has read by now, or where its word is no good, by then.
            let _ = live.tx.room(usize::MAX);
            path.in_flight = Some(live.tx.unread());
            return c.reply::<PathInfo>(path);
        }
        live.ends.answer(c)
    }

    fn is_ours(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.is_ours())
    }

    /// An end that has no path is named by its process, which may have other connections.
    fn same_peer(&self, contact: &Contact) -> Option<bool> {
        let live = self.live.as_ref()?;
        let to = path(&live.ends.peer).ok()?;
        (path(contact).ok()? == to).then_some(true)
    }
}
