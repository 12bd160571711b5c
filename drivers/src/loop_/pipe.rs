//! What the two ends of a connection share: one [`Pipe`] for each direction. Invariant: `bytes` is
//! the sum of what is queued; tokens are only ever retried, and only after the lock is let go.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use xio_core::buffer::Chunk;
use xio_core::op::{OpId, Read, Ready, Write};
use xio_core::{Contact, Error, ErrorKind, Held};

/// Most units that lie unread, whatever their size.
const MAX_UNITS: usize = 1024;

/// A run of bytes of a stream, or a message.
pub(super) type Unit = SmallVec<[Chunk; 1]>;

/// One direction. The gates of the two levels let one read and one write in at a time.
pub(super) struct Pipe {
    state: Mutex<State>,
}

/// What lies in a pipe, and who waits for it.
pub(super) struct State {
    queue: VecDeque<Unit>,
    bytes: usize,
    limit: usize,
    message: bool,
    /// The writer writes no more.
    ended: bool,
    /// The reader reads no more.
    gone: bool,
    reset: bool,
    reader: Option<Held<Read>>,
    writer: Option<Held<Write>>,
    readable: SmallVec<[Held<Ready>; 1]>,
    writable: SmallVec<[Held<Ready>; 1]>,
}

/// What a read found.
pub(super) enum Taken {
    /// Bytes, no more than fit; of a longer message its length.
    Chunks(SmallVec<[Chunk; 2]>, Option<usize>),
    Nothing,
    End,
    Reset,
}

/// Tokens to retry once the pipe's lock is free.
#[derive(Default)]
#[must_use = "a token that is dropped fails its op"]
pub(super) struct Wake {
    reader: Option<Held<Read>>,
    writer: Option<Held<Write>>,
    ready: SmallVec<[Held<Ready>; 1]>,
}

impl Wake {
    pub(super) fn go(self) {
        self.reader.into_iter().for_each(Held::retry);
        self.writer.into_iter().for_each(Held::retry);
        self.ready.into_iter().for_each(Held::retry);
    }
}

impl Pipe {
    fn new(limit: usize, message: bool) -> Arc<Self> {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            limit,
            message,
            ended: false,
            gone: false,
            reset: false,
            reader: None,
            writer: None,
            readable: SmallVec::new(),
            writable: SmallVec::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Takes what is there, at most `room` bytes and one message.
    pub(super) fn take(&mut self, room: usize) -> Taken {
        if self.reset {
            return Taken::Reset;
        }
        let mut out = SmallVec::new();
        let mut left = room;
        let mut more = None;
        let mut any = false;
        while let Some(unit) = self.queue.front_mut() {
            any = true;
            let len = unit.iter().map(Chunk::len).sum();
            let n = take_front(unit, left, &mut out);
            self.bytes -= n;
            left -= n;
            if n < len {
                more = self.message.then_some(len);
                break;
            }
            self.queue.pop_front();
            if self.message || left == 0 {
                break;
            }
        }
        match any {
            true => Taken::Chunks(out, more),
            false if self.ended => Taken::End,
            false => Taken::Nothing,
        }
    }

    /// Why nothing can be written.
    pub(super) fn refuses(&self) -> Option<Error> {
        if self.reset {
            return Some(ErrorKind::Reset.into());
        }
        let text = match (self.ended, self.gone) {
            (true, _) => "the write side was shut down",
            (_, true) => "the peer has closed",
            _ => return None,
        };
        Some(Error::new(ErrorKind::BrokenPipe).detail(text))
    }

    /// Bytes that a stream takes now.
    pub(super) fn room(&self) -> usize {
        if self.queue.len() < MAX_UNITS { self.limit.saturating_sub(self.bytes) } else { 0 }
    }

    /// Whether so many messages of so many bytes in all can go in now.
    pub(super) fn fits(&self, count: usize, bytes: usize) -> bool {
        let units = self.queue.len();
        units == 0 || (units.saturating_add(count) <= MAX_UNITS && self.bytes.saturating_add(bytes) <= self.limit)
    }

    pub(super) fn push(&mut self, unit: Unit) {
        self.bytes += unit.iter().map(Chunk::len).sum::<usize>();
        self.queue.push_back(unit);
    }

    /// Bytes that lie unread.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a read would not wait.
    pub(super) fn is_readable(&self) -> bool {
        !self.queue.is_empty() || self.ended || self.reset
    }

    /// Whether a write would not wait.
    pub(super) fn is_writable(&self) -> bool {
        self.refuses().is_some() || if self.message { self.fits(1, 1) } else { self.room() > 0 }
    }

    pub(super) fn hold_reader(&mut self, held: Held<Read>) {
        self.reader = Some(held);
    }

    pub(super) fn hold_writer(&mut self, held: Held<Write>) {
        self.writer = Some(held);
    }

    pub(super) fn hold_readable(&mut self, held: Held<Ready>) {
        self.readable.push(held);
    }

    pub(super) fn hold_writable(&mut self, held: Held<Ready>) {
        self.writable.push(held);
    }

    /// Who waits for data or an end.
    pub(super) fn wake_readers(&mut self) -> Wake {
        Wake { reader: self.reader.take(), writer: None, ready: std::mem::take(&mut self.readable) }
    }

    /// Who waits for room.
    pub(super) fn wake_writers(&mut self) -> Wake {
        Wake { reader: None, writer: self.writer.take(), ready: std::mem::take(&mut self.writable) }
    }

    /// Takes the token of a cancelled op of the reading end out, to be dropped once the lock is free. The
    /// writing end may have an op of the same number.
    pub(super) fn forget_reader(&mut self, id: OpId) -> Wake {
        let reader = self.reader.take_if(|h| h.id() == id);
        Wake { reader, writer: None, ready: take_ready(&mut self.readable, id) }
    }

    /// The same for the writing end.
    pub(super) fn forget_writer(&mut self, id: OpId) -> Wake {
        let writer = self.writer.take_if(|h| h.id() == id);
        Wake { reader: None, writer, ready: take_ready(&mut self.writable, id) }
    }

    /// Takes out whatever lies unread, to be dropped once the lock is free.
    fn clear(&mut self) -> VecDeque<Unit> {
        self.bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// The writer writes no more.
    pub(super) fn end(&mut self) -> Wake {
        self.ended = true;
        self.wake_readers()
    }
}

/// Takes the wait of this number out.
fn take_ready(list: &mut SmallVec<[Held<Ready>; 1]>, id: OpId) -> SmallVec<[Held<Ready>; 1]> {
    list.iter().position(|h| h.id() == id).map(|i| list.remove(i)).into_iter().collect()
}

/// Moves at most `room` bytes from the front of `unit` to `out`; says how many.
fn take_front(unit: &mut Unit, room: usize, out: &mut SmallVec<[Chunk; 2]>) -> usize {
    let mut left = room;
    while let Some(front) = unit.first_mut() {
        if front.len() <= left {
            left -= front.len();
            out.push(unit.remove(0));
            continue;
        }
        if left > 0 {
            out.push(front.split_to(left));
            left = 0;
        }
        break;
    }
    room - left
}

/// One end of a connection. Dropped without a close, it resets the connection.
pub(super) struct End {
    pub(super) rx: Arc<Pipe>,
    pub(super) tx: Arc<Pipe>,
    pub(super) message: bool,
    pub(super) local: Contact,
    pub(super) peer: Contact,
    left: bool,
}

impl End {
    /// A connection; each end has its contact and the bytes that may lie unread there.
    pub(super) fn pair(near: (Contact, usize), far: (Contact, usize), message: bool) -> (Self, Self) {
        let ((near, near_limit), (far, far_limit)) = (near, far);
        let (to_near, to_far) = (Pipe::new(near_limit, message), Pipe::new(far_limit, message));
        let (rx, tx) = (to_near.clone(), to_far.clone());
        let first = Self { rx, tx, message, local: near.clone(), peer: far.clone(), left: false };
        let second = Self { rx: to_far, tx: to_near, message, local: far, peer: near, left: false };
        (first, second)
    }

    /// Leaves the connection: in order, or with a reset.
    pub(super) fn close(&mut self, abort: bool) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        // What this end itself still waits for is stale, and dropped; the peer's ops are woken.
        let mut tx = self.tx.lock();
        tx.reset |= abort;
        let unsent = if abort { tx.clear() } else { VecDeque::new() };
        let (readers, stale_writers) = (tx.end(), tx.wake_writers());
        drop(tx);
        let mut rx = self.rx.lock();
        rx.reset |= abort;
        rx.gone = true;
        let unread = rx.clear();
        let (writers, stale_readers) = (rx.wake_writers(), rx.wake_readers());
        drop(rx);
        readers.go();
        writers.go();
        drop((unsent, unread, stale_readers, stale_writers));
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close(true);
    }
}
