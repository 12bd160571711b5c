//! What moves from an open connection into its reads, and what it waits for. Invariant: what the peer's words say is
//! looked at once in a call, the end before the bytes, so that what was written before an end is never passed over.
//! Writes: `put.rs`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use xio_core::buffer::{Chunk, Foreign};
use xio_core::io::{Direction, Io};
use xio_core::op::{Read, Ready, Write};
use xio_core::{Cx, Error, ErrorKind, Held, Op};

use super::Options;
use super::kept::Bell;
use super::map::{Map, Trusted};
use super::meet::{Ends, Rings};
use super::memory::Memory;
use super::post::{Posts, Shared};
use super::ring::{BELL, ENDED, Foul, HEADER, OPEN, RESET, Reader, Side, Writer, may_sleep};

/// Bytes copied between two words to the peer: it begins while the rest is copied.
pub(super) const STRIDE: usize = 32 << 10;
/// What is shorter is copied out of the ring in a take too: that takes less time than to keep account of it.
const KEEP: usize = 1 << 10;
/// What is not longer goes over the stack, with no more room than it takes.
const SHORT: usize = 64;
const SHORTISH: usize = 512;
/// Tag of the level's own request.
pub(super) const DOOR: u32 = 0;

/// A connection.
pub(super) struct Live {
    pub(super) rx: Reader<Arc<Map>>,
    pub(super) tx: Writer<Arc<Map>>,
    pub(super) message: bool,
    /// Bytes that takes may leave in the ring, and whether they are the reader's own then.
    held: usize,
    pub(super) trust: bool,
    pub(super) shared: Arc<Shared>,
    pub(super) posts: Posts,
    /// What the peer did against the protocol.
    pub(super) foul: Option<Foul>,
    pub(super) reader: Option<Held<Read>>,
    pub(super) writer: Option<Held<Write>>,
    pub(super) ready: SmallVec<[Held<Ready>; 1]>,
    pub(super) ends: Ends,
}

/// What a read found.
pub(super) enum Found {
    Bytes,
    /// A message that is longer than the read has room for, by so much.
    Longer(usize),
    Nothing,
}

impl Live {
    /// A connection whose socket the reactor has, and the request that hears of it.
    pub(super) fn new(cx: &mut Cx<'_>, options: &Options, ends: Ends, rings: Rings, shared: Arc<Shared>) -> Self {
        // Half the ring: with the other half a writer gets on.
        let held = usize::try_from(options.held.0).unwrap_or(usize::MAX).min(rings.rx.size() / 2);
        let posts = Posts::new(&shared);
        cx.io(Io::Ready(posts.door.clone(), Direction::Read), DOOR);
        Self {
            rx: Reader::new(rings.rx),
            tx: Writer::new(rings.tx),
            message: options.message,
            held,
            trust: options.trust == "peer",
            shared,
            posts,
            foul: None,
            reader: None,
            writer: None,
            ready: SmallVec::new(),
            ends,
        }
    }

    /// Whether this process opened it. A child that a fork made has the same memory, and would write over what
    /// its parent writes.
    pub(super) fn is_ours(&self) -> bool {
        self.rx.memory().is_ours()
    }

    /// Has the peer's sleepers woken.
    pub(super) fn wake(&self, cx: &mut Cx<'_>, direction: Direction, flags: u32) {
        if self.shared.owe(direction, flags) {
            cx.nudge(self.posts.nudge.clone());
        }
    }

    /// The peer broke the protocol: nothing it does counts any more, and it is told.
    #[cold]
    pub(super) fn broken(&mut self, cx: &mut Cx<'_>, foul: Foul) -> Error {
        if self.foul.replace(foul).is_none() {
            self.wake(cx, Direction::Write, self.tx.end(RESET));
            self.wake(cx, Direction::Read, self.rx.leave(RESET));
        }
        Error::new(ErrorKind::Protocol).detail(foul.0)
    }

    /// Where the socket has ended without a word in the ring.
    #[cold]
    pub(super) fn lost(&self) -> Error {
        if self.shared.is_refused() {
            let has = if self.message { "a stream" } else { "messages" };
            let text = format!("the server has {has}: set `message` at both ends or at neither");
            return Error::new(ErrorKind::Refused).detail(text);
        }
        Error::new(ErrorKind::Reset).detail("the peer is gone without a close")
    }

    /// Moves into the read what is there.
    pub(super) fn take(&mut self, cx: &mut Cx<'_>, op: &mut Op<'_, Read>) -> Result<Found, Error> {
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
                OPEN => {
                    self.let_go(cx);
                    Ok(Found::Nothing)
                }
                ENDED => Err(ErrorKind::Eof.into()),
                _ => Err(self.broken(cx, Foul("the writer's end is no end that there is"))),
            };
        };
        let n = len.min(op.room());
        let mut left = n;
        loop {
            left -= self.copy(cx, left, op);
            let flags = self.rx.release();
            self.wake(cx, Direction::Read, flags);
            if left == 0 {
                break;
            }
        }
        Ok(if n < len { Found::Longer(len) } else { Found::Bytes })
    }

    /// Copies from the ring into a read, straight where the read has a buffer, or hands up where the bytes lie; at
    /// most `n` bytes, which are there and fit. Says how many.
    fn copy(&mut self, cx: &Cx<'_>, n: usize, op: &mut Op<'_, Read>) -> usize {
        if n <= SHORT {
            return over_the_stack::<SHORT>(&mut self.rx, n, op);
        } else if n <= SHORTISH {
            return over_the_stack::<SHORTISH>(&mut self.rx, n, op);
        }
        if op.is_take() && self.held > KEEP {
            let (_, run) = self.rx.run(n.min(self.held));
            if run > KEEP {
                // For good only what ends a user's read: whoever waits for more while it has such a part might wait
                // for the room of that part.
                let fixed = self.trust && op.is_users() && op.got() == 0 && op.wanted() <= run;
                op.put_chunk(&mut self.keep(cx, run, fixed));
                return run;
            }
        }
        let (at, run) = self.rx.run(n.min(STRIDE));
        if op.is_take() {
            let mut bytes = BytesMut::zeroed(run);
            self.rx.memory().read(at, &mut bytes);
            op.put_chunk(&mut bytes.freeze().into());
        } else {
            let mut chunk = Chunk::foreign(self.rx.memory().clone() as Arc<dyn Foreign>);
            chunk.advance(at);
            op.put_chunk(&mut chunk.split_to(run));
        }
        self.rx.skip(run);
        run
    }

    /// The next bytes as they lie in the ring, perhaps for good.
    fn keep(&mut self, cx: &Cx<'_>, n: usize, fixed: bool) -> Chunk {
        let shared = &self.shared;
        let bell = || -> Bell {
            // Nobody waits for the room of a connection that is closed; its socket is not to be kept for it.
            let (shared, waker) = (Arc::downgrade(shared), cx.waker());
            Box::new(move |flags| {
                if shared.upgrade().is_some_and(|s| s.owe(Direction::Read, flags)) {
                    waker.wake();
                }
            })
        };
        let run = self.rx.keep(n, self.held, fixed, bell);
        if fixed { Bytes::from_owner(Trusted::new(run)).into() } else { Chunk::foreign(Arc::new(run)) }
    }

    /// A reader that waits for a whole message keeps nothing from its writer.
    fn let_go(&mut self, cx: &mut Cx<'_>) {
        if self.message && self.rx.keeps() {
            let flags = self.rx.release_all();
            self.wake(cx, Direction::Read, flags);
        }
    }

    /// Has the writer woken that a chunk made room for when it was dropped.
    pub(super) fn nudge(&self, cx: &mut Cx<'_>) {
        cx.nudge(self.posts.nudge.clone());
    }

    /// Whether nothing came for this end since it last looked; if so, the socket tells when something does.
    pub(super) fn sleeps(&self, side: Side) -> bool {
        match side {
            Side::Reader => may_sleep(self.rx.memory(), side, self.rx.seen(), BELL),
            Side::Writer => may_sleep(self.tx.memory(), side, self.tx.seen(), BELL),
        }
    }

    /// Whether a read would end at once.
    pub(super) fn is_readable(&mut self, cx: &mut Cx<'_>) -> bool {
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
        let is_readable = over || there || self.message && matches!(self.rx.message(), Ok(Some(_)));
        if !is_readable {
            self.let_go(cx);
        }
        is_readable
    }

    /// Whatever is held looks again.
    pub(super) fn look(&mut self, cx: &mut Cx<'_>) {
        self.reader.take().into_iter().for_each(|h| cx.retry(h));
        self.writer.take().into_iter().for_each(|h| cx.retry(h));
        self.ready.drain(..).for_each(|h| cx.retry(h));
    }
}

fn over_the_stack<const MOST: usize>(rx: &mut Reader<Arc<Map>>, n: usize, op: &mut Op<'_, Read>) -> usize {
    let mut bytes = [0; MOST];
    let n = rx.copy(&mut bytes[..n]);
    op.put(&bytes[..n])
}
