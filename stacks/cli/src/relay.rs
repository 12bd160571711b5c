//! Bytes both ways between an open handle and this process: stdin out, what comes to stdout.
//!
//! Invariant: what was read from stdin is written or an error says that it was not; and the relay
//! ends when the peer has ended, though nobody can interrupt a read of stdin: that read has a
//! thread of its own, which nobody waits for.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use xio_stacks::core::caps::{Caps, Unit};
use xio_stacks::{Error, ErrorKind, Handle};

use crate::exit::{Failure, Outcome, failed};

/// Most bytes of one read of stdin, so of one message.
pub(crate) const CHUNK: usize = 64 * 1024;
/// After the peer has ended, how long stdin may stay silent before the relay ends too.
const GRACE: Duration = Duration::from_millis(500);

/// Bytes that went which way, so far.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Moved {
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn add_sent(&self, n: usize) {
        self.sent.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_received(&self, n: usize) {
        self.received.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// Moves bytes both ways until the peer has ended, then closes the handle. A peer of which nobody can know
/// that it has ended has so when stdin has and then nothing comes for a while.
pub(crate) fn relay(handle: &Handle, input: &Input, out: &mut File, moved: &Moved) -> Outcome {
    let over = AtomicBool::new(false);
    let all_sent = AtomicBool::new(false);
    let caps = handle.caps();
    let (sent, received) = std::thread::scope(|s| {
        let sender = s.spawn(|| {
            let sent = send(handle, &caps, input, &over, moved);
            all_sent.store(true, Ordering::SeqCst);
            // A peer that no longer reads may still send; any other error has to end the reads too.
            if sent.as_ref().is_err_and(|t| !t.is_gone_peer()) {
                abort(handle);
            }
            sent
        });
        let received = receive(handle, &caps, &all_sent, out, moved);
        if received.is_err() {
            abort(handle);
        }
        over.store(true, Ordering::SeqCst);
        input.wake();
        (sender.join(), received)
    });
    let sent = sent.unwrap_or_else(|_| Err(Failure::Failed("the sender panicked".into()).into()));
    match (sent, received) {
        (Ok(()), Ok(())) => close(handle),
        (Err(s), Err(r)) if r.is_from_abort() => Err(s.into()),
        (_, Err(t)) | (Err(t), Ok(_)) => {
            abort(handle);
            Err(t.into())
        }
    }
}

/// Closes in order.
pub(crate) fn close(handle: &Handle) -> Outcome {
    match handle.close().wait() {
        Err(e) if e.kind() != ErrorKind::Closed => Err(e.into()),
        _ => Ok(()),
    }
}

/// Tells the peer that nothing more comes, where the stack can; at least everything is on its way.
pub(crate) fn end_writes(handle: &Handle, caps: &Caps) -> Result<(), Error> {
    if caps.half_close { handle.shutdown().wait() } else { handle.flush().wait() }
}

/// Cancels what is under way and closes.
pub(crate) fn abort(handle: &Handle) {
    // Closed already is what is wanted.
    let _ = handle.close().abort().wait();
}

/// What ended one direction.
pub(crate) enum Trouble {
    /// An op on the handle.
    Op(Error),
    /// Stdin or stdout.
    Here(Failure),
}

impl Trouble {
    fn is_gone_peer(&self) -> bool {
        matches!(self, Self::Op(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::Reset))
    }

    /// Whether it only follows from what ended the other direction.
    pub(crate) fn is_from_abort(&self) -> bool {
        matches!(self, Self::Op(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Closed))
    }
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Self::Op(e)
    }
}

impl From<Failure> for Trouble {
    fn from(f: Failure) -> Self {
        Self::Here(f)
    }
}

impl From<Trouble> for Failure {
    fn from(t: Trouble) -> Self {
        match t {
            Trouble::Op(e) => e.into(),
            Trouble::Here(f) => f,
        }
    }
}

/// Stdin to the peer, then the end of this side.
fn send(handle: &Handle, caps: &Caps, input: &Input, over: &AtomicBool, moved: &Moved) -> Result<(), Trouble> {
    let most = if caps.unit.has_borders() { caps.max_message.unwrap_or(CHUNK).clamp(1, CHUNK) } else { CHUNK };
    loop {
        let mut data = match input.next(over) {
            Ok(Some(data)) => data,
            Ok(None) => break,
            Err(e) => return Err(failed("cannot read stdin")(e).into()),
        };
        while !data.is_empty() {
            let part = data.split_to(most.min(data.len()));
            let len = part.len();
            handle.write(part).wait().map_err(|f| f.error)?;
            moved.add_sent(len);
        }
    }
    Ok(end_writes(handle, caps)?)
}

/// The peer to stdout.
fn receive(handle: &Handle, caps: &Caps, all_sent: &AtomicBool, out: &mut File, moved: &Moved) -> Result<(), Trouble> {
    let mut buf = vec![0; CHUNK];
    loop {
        let ended = all_sent.load(Ordering::SeqCst);
        let call = handle.read_into(&mut buf);
        let call = if caps.connected { call } else { call.deadline(GRACE) };
        let began = Instant::now();
        let n = match call.wait() {
            Ok(n) => n,
            Err(e) => match (e.kind(), caps.unit) {
                (ErrorKind::Eof, _) => return Ok(()),
                (ErrorKind::TimedOut, _) if !caps.connected && ended => return Ok(()),
                // Earlier than that it is a level that gave up.
                (ErrorKind::TimedOut, _) if !caps.connected && began.elapsed() >= GRACE => continue,
                // The next read gets the rest of it.
                (ErrorKind::Truncated { .. }, Unit::Message) => usize::try_from(e.moved()).unwrap_or(0),
                _ => return Err(e.into()),
            },
        };
        out.write_all(buf.get(..n).unwrap_or_default()).map_err(Failure::from)?;
        moved.add_received(n);
    }
}

/// Stdout without a buffer.
pub(crate) fn stdout() -> Outcome<File> {
    let own = io::stdout().as_fd().try_clone_to_owned();
    own.map(File::from).map_err(failed("cannot use stdout"))
}

/// Stdin, read ahead by one chunk, for one relay after the other.
pub(crate) struct Input(Arc<Shared>);

struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
    grace: Duration,
}

enum Slot {
    Empty,
    Full(Bytes),
    End,
    Failed(io::Error),
}

impl Input {
    /// Begins to read.
    pub(crate) fn new() -> Outcome<Self> {
        // At a terminal nothing is on its way that the user could miss.
        let grace = if io::stdin().is_terminal() { Duration::ZERO } else { GRACE };
        let shared = Arc::new(Shared { slot: Mutex::new(Slot::Empty), changed: Condvar::new(), grace });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("xio-stdin".into()).spawn(move || theirs.fill());
        thread.map_err(failed("cannot start a thread"))?;
        Ok(Self(shared))
    }

    /// The next chunk; `None` at the end, or where nothing comes although the peer has ended.
    fn next(&self, over: &AtomicBool) -> io::Result<Option<Bytes>> {
        let mut slot = self.0.lock();
        loop {
            match std::mem::replace(&mut *slot, Slot::Empty) {
                Slot::Full(data) => {
                    self.0.changed.notify_all();
                    return Ok(Some(data));
                }
                Slot::End => {
                    *slot = Slot::End;
                    return Ok(None);
                }
                Slot::Failed(e) => {
                    *slot = Slot::End;
                    return Err(e);
                }
                Slot::Empty => {}
            }
            let wait = if over.load(Ordering::SeqCst) { self.0.grace } else { Duration::MAX };
            let (back, late) = self.0.changed.wait_timeout(slot, wait).unwrap_or_else(PoisonError::into_inner);
            slot = back;
            if late.timed_out() && matches!(*slot, Slot::Empty) {
                return Ok(None);
            }
        }
    }

    /// Has a waiting relay look whether its peer has ended.
    fn wake(&self) {
        let _slot = self.0.lock();
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads to the end, a chunk at a time.
    fn fill(&self) {
        let mut stdin = io::stdin().lock();
        let mut buf = BytesMut::new();
        loop {
            buf.resize(CHUNK, 0);
            let next = match stdin.read(&mut buf) {
                Ok(0) => Slot::End,
                Ok(n) => Slot::Full(buf.split_to(n).freeze()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Slot::Failed(e),
            };
            let last = !matches!(next, Slot::Full(_));
            let mut slot = self.lock();
            while matches!(*slot, Slot::Full(_)) {
                slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
            }
            *slot = next;
            drop(slot);
            self.changed.notify_all();
            if last {
                return;
            }
        }
    }
}
