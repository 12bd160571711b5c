//! The level at each end of a connection. Invariant: both rings' positions are the level's alone, under its
//! handle's lock; an op that has nothing to do waits outside of it for a moment, then it is held until the
//! socket says that the peer did something.

use std::sync::Arc;

use bytes::BytesMut;
use smallvec::SmallVec;
use xio_core::buffer::{Chunk, Foreign};
use xio_core::cntl::{Cntl, Path, PathInfo, SetOption};
use xio_core::io::{Direction, Io, IoDone, Sock, SocketOptions};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{CloseMode, Contact, Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::Options;
use super::driver::contacts;
use super::map::Map;
use super::meet::{self, Guest, Rings, path};
use super::post::{Call, Posts, Shared};
use super::ring::{BELL, ENDED, Foul, HEADER, Memory, OPEN, RESET, Reader, Side, Writer, footprint, may_sleep};

/// Bytes copied between two words to the peer: it begins while the rest is copied.
const STRIDE: usize = 32 << 10;
/// What is shorter goes over the stack.
const SHORT: usize = 256;
const DOOR: u32 = 0;
const NUDGE: u32 = 1;

/// An end.
pub(super) struct Shm {
    options: Options,
    opening: Option<Box<Opening>>,
    live: Option<Box<Live>>,
}

/// A connection on its way to the end of an open.
struct Opening {
    guest: Arc<Guest>,
    /// Those of an end that opens; the other has yet to hear of them.
    rings: Option<Rings>,
    socket: Option<Sock>,
    call: Option<Arc<Call<Rings>>>,
}

/// A connection.
struct Live {
    rx: Reader<Arc<Map>>,
    tx: Writer<Arc<Map>>,
    message: bool,
    shared: Arc<Shared>,
    posts: Posts,
    /// What the peer did against the protocol.
    foul: Option<Foul>,
    reader: Option<Held<Read>>,
    writer: Option<Held<Write>>,
    ready: SmallVec<[Held<Ready>; 1]>,
    local: Contact,
    peer: Contact,
}

/// What a read found.
enum Found {
    Bytes,
    /// A message that is longer than the read has room for, by so much.
    Longer(usize),
    Nothing,
}

impl Shm {
    pub(super) fn new(options: Options) -> Self {
        Self { options, opening: None, live: None }
    }

    fn begin<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        if op.is_passive() {
            return match op.link(cx).map(|part| part.downcast::<Guest>()) {
                Some(Ok(guest)) => self.adopt(op, *guest, None),
                _ => op.failed(
                    Error::new(ErrorKind::InvalidInput).detail("the accepted link has no connection of this level"),
                ),
            };
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

    /// Has the reactor take the socket in.
    fn adopt<'o>(&mut self, op: Op<'o, Open>, guest: Guest, rings: Option<Rings>) -> Flow<'o> {
        let fd = match guest.fd.try_clone() {
            Ok(fd) => fd,
            Err(e) => return op.failed(e),
        };
        self.opening = Some(Box::new(Opening { guest: Arc::new(guest), rings, socket: None, call: None }));
        op.io(Io::Adopt(Box::new((fd, SocketOptions::default()))))
    }

    /// Goes on with what there is: the socket first, then the rings.
    fn go_on<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        let Some(opening) = &mut self.opening else { return op.failed(ErrorKind::Contract) };
        let Some(socket) = opening.socket.clone() else { return op.failed(ErrorKind::Contract) };
        match opening.call.as_ref().and_then(|c| c.take()) {
            Some(Ok(rings)) => opening.rings = Some(rings),
            Some(Err(e)) => {
                self.opening = None;
                return op.failed(e);
            }
            None => {}
        }
        let Some(rings) = opening.rings.take() else {
            let guest = opening.guest.clone();
            let (call, io) = Call::new(socket, move || guest.greet());
            opening.call = Some(call);
            return op.io(io);
        };
        let shared = Arc::new(Shared::new(&rings, socket, self.options.spin));
        let posts = Posts::new(&shared);
        cx.io(Io::Ready(posts.door.clone(), Direction::Read), DOOR);
        let guest = &opening.guest;
        self.live = Some(Box::new(Live {
            rx: Reader::new(rings.rx),
            tx: Writer::new(rings.tx),
            message: guest.message,
            shared,
            posts,
            foul: None,
            reader: None,
            writer: None,
            ready: SmallVec::new(),
            local: guest.local.clone(),
            peer: guest.peer.clone(),
        }));
        self.opening = None;
        op.finished()
    }
}

impl Live {
    /// Has the peer's sleepers woken.
    fn wake(&self, cx: &mut Cx<'_>, direction: Direction, flags: u32) {
        if self.shared.owe(direction, flags) {
            cx.io(Io::Ready(self.posts.nudge.clone(), direction), NUDGE);
        }
    }

    /// The peer broke the protocol: nothing it does counts any more, and it is told.
    #[cold]
    fn broken(&mut self, cx: &mut Cx<'_>, foul: Foul) -> Error {
        if self.foul.replace(foul).is_none() {
            self.wake(cx, Direction::Write, self.tx.end(RESET));
            self.wake(cx, Direction::Read, self.rx.leave(RESET));
        }
        Error::new(ErrorKind::Protocol).detail(foul.0)
    }

    /// Where the socket has ended without a word in the ring.
    #[cold]
    fn lost(&self) -> Error {
        if self.shared.is_refused() {
            let has = if self.message { "a stream" } else { "messages" };
            let text = format!("the server has {has}: set `message` at both ends or at neither");
            return Error::new(ErrorKind::Refused).detail(text);
        }
        Error::new(ErrorKind::Reset).detail("the peer is gone without a close")
    }

    /// Moves into the read what is there.
    fn take(&mut self, cx: &mut Cx<'_>, op: &mut Op<'_, Read>) -> Result<Found, Error> {
        if let Some(foul) = self.foul {
            return Err(self.broken(cx, foul));
        }
        // In this order: what was written before an end is there once the end is seen.
        let dead = self.shared.is_dead();
        let end = self.rx.peer();
        if end == RESET {
            return Err(Error::new(ErrorKind::Reset).detail("the peer has aborted"));
        }
        let there = match self.message {
            true => self.rx.message(),
            false => {
                let most = op.room().min(self.rx.memory().size());
                self.rx.ready(most).map(|n| Some(n.min(most)).filter(|n| *n > 0))
            }
        };
        let Some(len) = there.map_err(|foul| self.broken(cx, foul))? else {
            return match end {
                OPEN if dead => Err(self.lost()),
                OPEN => Ok(Found::Nothing),
                ENDED => Err(ErrorKind::Eof.into()),
                _ => Err(self.broken(cx, Foul("the writer's end is no end that there is"))),
            };
        };
        let n = len.min(op.room());
        let mut left = n;
        loop {
            left -= copy(&mut self.rx, left, op);
            let flags = self.rx.release();
            self.wake(cx, Direction::Read, flags);
            if left == 0 {
                break;
            }
        }
        Ok(if n < len { Found::Longer(len) } else { Found::Bytes })
    }

    /// Why nothing can be written.
    fn refuses(&mut self, cx: &mut Cx<'_>) -> Option<Error> {
        if let Some(foul) = self.foul {
            return Some(self.broken(cx, foul));
        }
        let dead = self.shared.is_dead();
        Some(match self.tx.peer() {
            OPEN if dead => self.lost(),
            OPEN => return None,
            ENDED => Error::new(ErrorKind::BrokenPipe).detail("the peer has closed"),
            RESET => Error::new(ErrorKind::Reset).detail("the peer has aborted"),
            _ => self.broken(cx, Foul("the reader's end is no end that there is")),
        })
    }

    /// Writes what there is room for; says how many bytes of the op. `None`: there is none.
    fn put(&mut self, cx: &mut Cx<'_>, op: &Op<'_, Write>) -> Result<Option<usize>, Error> {
        if self.message {
            let need = footprint(op.len());
            if self.tx.room(need).map_err(|foul| self.broken(cx, foul))? < need {
                return Ok(None);
            }
            // A ring is far smaller than a length can say.
            self.tx.put_message(op.len() as u32, op.pieces().iter().map(|p| &**p));
            let flags = self.tx.publish();
            self.wake(cx, Direction::Write, flags);
            return Ok(Some(op.len()));
        }
        let left = op.len() - op.moved();
        let room = self.tx.room(left.min(self.tx.memory().size())).map_err(|foul| self.broken(cx, foul))?;
        let mut put = 0;
        let mut shown = 0;
        let mut skip = op.moved();
        for piece in op.pieces() {
            let mut rest = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            while !rest.is_empty() && put < room {
                let n = self.tx.put(&rest[..rest.len().min(STRIDE)]);
                rest = &rest[n..];
                put += n;
                if put - shown >= STRIDE {
                    shown = put;
                    let flags = self.tx.publish();
                    self.wake(cx, Direction::Write, flags);
                }
            }
        }
        if put > shown {
            let flags = self.tx.publish();
            self.wake(cx, Direction::Write, flags);
        }
        Ok(Some(put).filter(|n| *n > 0 || left == 0))
    }

    /// Whether nothing came for this end since it last looked; if so, the socket tells when something does.
    fn sleeps(&self, side: Side) -> bool {
        match side {
            Side::Reader => may_sleep(self.rx.memory(), side, self.rx.seen(), BELL),
            Side::Writer => may_sleep(self.tx.memory(), side, self.tx.seen(), BELL),
        }
    }

    /// Whether a read would end at once.
    fn is_readable(&mut self, cx: &mut Cx<'_>) -> bool {
        let least = if self.message { HEADER } else { 1 };
        let over = self.foul.is_some() || self.shared.is_dead() || self.rx.peer() != OPEN;
        let there = match self.rx.ready(least) {
            Ok(n) => n > 0,
            Err(foul) => {
                self.broken(cx, foul);
                true
            }
        };
        // The rest of a message, be it none, is there without a byte to take.
        over || there || self.message && matches!(self.rx.message(), Ok(Some(_)))
    }

    /// Whether a write of a byte would end at once.
    fn is_writable(&mut self, cx: &mut Cx<'_>) -> bool {
        let need = if self.message { footprint(1) } else { 1 };
        self.refuses(cx).is_some()
            || match self.tx.room(need) {
                Ok(n) => n >= need,
                Err(foul) => {
                    self.broken(cx, foul);
                    true
                }
            }
    }

    /// Whatever is held looks again.
    fn look(&mut self, cx: &mut Cx<'_>) {
        self.reader.take().into_iter().for_each(|h| cx.retry(h));
        self.writer.take().into_iter().for_each(|h| cx.retry(h));
        self.ready.drain(..).for_each(|h| cx.retry(h));
    }
}

/// Copies from the ring into a read, straight where the read has a buffer; at most `n` bytes, which are there
/// and fit. Says how many.
fn copy(rx: &mut Reader<Arc<Map>>, n: usize, op: &mut Op<'_, Read>) -> usize {
    if n <= SHORT {
        let mut bytes = [0; SHORT];
        let n = rx.copy(&mut bytes[..n]);
        return op.put(&bytes[..n]);
    }
    let (at, run) = rx.run(n.min(STRIDE));
    if op.is_take() {
        let mut bytes = BytesMut::zeroed(run);
        rx.memory().read(at, &mut bytes);
        op.put_chunk(&mut bytes.freeze().into());
    } else {
        let mut chunk = Chunk::foreign(rx.memory().clone() as Arc<dyn Foreign>);
        chunk.advance(at);
        op.put_chunk(&mut chunk.split_to(run));
    }
    rx.skip(run);
    run
}

impl Level for Shm {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        match op.io_done() {
            IoDone::None => {
                (self.opening, self.live) = (None, None);
                self.begin(cx, op)
            }
            IoDone::Value(v) => match v.downcast::<(Guest, Rings)>() {
                Ok(met) => self.adopt(op, met.0, Some(met.1)),
                Err(_) => op.failed(ErrorKind::Contract),
            },
            IoDone::Connected(c) => {
                if let Some(opening) = &mut self.opening {
                    opening.socket = Some(c.sock);
                }
                self.go_on(cx, op)
            }
            IoDone::Done => self.go_on(cx, op),
            IoDone::Failed(e) => {
                self.opening = None;
                op.failed(e)
            }
            _ => op.failed(ErrorKind::Contract),
        }
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        self.opening = None;
        let Some(live) = &mut self.live else { return op.finished() };
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
        let Some(live) = &mut self.live else { return op.failed(ErrorKind::Closed) };
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
        let Some(live) = &mut self.live else { return op.failed(ErrorKind::Closed) };
        let waited = !matches!(op.io_done(), IoDone::None);
        let most = live.tx.memory().size() - HEADER;
        if live.message && op.len() > most {
            let text = format!("{} bytes, and a message has {most} at most: raise `buffer`", op.len());
            return op.failed(Error::new(ErrorKind::TooLong).detail(text));
        }
        loop {
            if let Some(e) = live.refuses(cx) {
                return op.failed(e);
            }
            match live.put(cx, &op) {
                Err(e) => return op.failed(e),
                Ok(Some(n)) => return op.finished_part(n),
                Ok(None) => {}
            }
            if !waited {
                live.shared.note_seen(Direction::Write, live.tx.seen());
                return op.io(Io::Ready(live.posts.wait.clone(), Direction::Write));
            }
            if live.sleeps(Side::Writer) {
                let (held, flow) = op.hold(cx);
                live.writer = Some(held);
                return flow;
            }
        }
    }

    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        let Some(live) = &mut self.live else { return op.failed(ErrorKind::Closed) };
        let flags = live.tx.end(ENDED);
        live.wake(cx, Direction::Write, flags);
        op.finished()
    }

    fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        let Some(live) = &mut self.live else { return op.failed(ErrorKind::Closed) };
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

    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        if let Some(live) = &mut self.live {
            drop(live.reader.take_if(|h| h.id() == id));
            drop(live.writer.take_if(|h| h.id() == id));
            live.ready.retain(|h| h.id() != id);
        }
        Cancel::Take
    }

    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if let Some(SetOption(name, value)) = c.command()
            && name == "spin"
        {
            let mut changed = self.options.clone();
            xio_core::attr::option_cntl(&mut changed, c)?;
            let _ = value;
            if let Some(live) = &self.live {
                live.shared.set_spin(changed.spin);
            }
            self.options = changed;
            return Ok(());
        }
        let Some(live) = &mut self.live else { return Err(c.unsupported()) };
        if c.command::<PathInfo>().is_some() {
            let mut path = Path::default();
            // As far as the peer has read by now, or where its word is no good, by then.
            let _ = live.tx.room(usize::MAX);
            path.in_flight = Some(live.tx.unread());
            return c.reply::<PathInfo>(path);
        }
        contacts(&live.local, &live.peer, c)
    }

    /// An end that has no path is named by its process, which may have other connections.
    fn same_peer(&self, contact: &Contact) -> Option<bool> {
        let live = self.live.as_ref()?;
        let to = path(&live.peer).ok()?;
        (path(contact).ok()? == to).then_some(true)
    }
}
