//! What runs on the engine's pool: one read, write or sync each, and how its outcome comes back.
//! Invariant: every job gives exactly one [`Ticket`] back, to the op it ran for or, where that op was
//! stopped meanwhile, to the level; so no byte that the system gave is lost and no turn is kept.

use std::any::Any;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;
use xio_core::cx::LevelWaker;
use xio_core::io::{Direction, Io};

use super::options::MAX_OFFSET;
use super::place::Side;
use super::watch::interest;

/// Bytes of one read that wants no more than it can get.
pub(super) const CHUNK: usize = 256 * 1024;
/// Most bytes of one job, so that a long op does not keep a thread of the pool to itself.
const MOST: usize = 4 << 20;
/// Most pieces of one system call (`IOV_MAX`).
const PIECES: usize = 1024;
/// Bytes that a pipe which says it can be written takes without a wait (`PIPE_BUF`).
const PIPE: usize = 4096;

/// What one job is to do.
pub(super) enum Task {
    /// Read at least `wanted` bytes and at most `room`; into `buf`, if it is long enough.
    Read { at: Option<u64>, wanted: usize, room: usize, buf: Vec<u8> },
    /// Write these but for the first `skip` bytes; perhaps force them to the device.
    Write { at: Option<u64>, parts: Arc<[Bytes]>, skip: usize, durable: bool },
    /// Force what was written to the device.
    Sync,
    /// Nothing but let the descriptor go.
    Leave,
}

/// What it came to.
pub(super) struct Done {
    /// Where the bytes of a read are, at the front.
    pub(super) data: Vec<u8>,
    /// How many bytes were read or written.
    pub(super) moved: usize,
    pub(super) end: End,
}

/// Why it stopped.
#[derive(Debug)]
pub(super) enum End {
    /// There was enough, or a job may do no more.
    Enough,
    /// It would have had to wait.
    Blocked,
    Eof,
    Failed(io::Error),
}

/// What levels are told from outside.
pub(super) struct Late {
    pub(super) list: Mutex<Vec<Event>>,
    waker: LevelWaker,
}

/// Something that happened without an op of the level's.
pub(super) enum Event {
    /// A wait for readiness is over.
    Ready(u64),
    /// A job is done whose op was stopped.
    Orphan { turn: Turn, done: Option<Done> },
}

impl Late {
    pub(super) fn new(waker: LevelWaker) -> Arc<Self> {
        Arc::new(Self { list: Mutex::new(Vec::new()), waker })
    }

    pub(super) fn fired(&self, key: u64) {
        self.tell(Event::Ready(key));
    }

    fn tell(&self, event: Event) {
        self.list.lock().push(event);
        self.waker.wake();
    }
}

/// Whose turn a job uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Number of the op; 0 for one that keeps no other waiting.
    pub(super) op: u64,
    pub(super) direction: Direction,
    /// Number of position changes when it began.
    pub(super) epoch: u32,
}

/// The outcome of a job on its way back.
pub(super) struct Ticket {
    pub(super) turn: Turn,
    done: Option<Done>,
    /// Where it goes if nobody takes it.
    late: Option<Arc<Late>>,
}

impl Ticket {
    /// Takes the outcome for the op it is for.
    pub(super) fn take(mut self) -> Option<(Turn, Done)> {
        self.late = None;
        self.done.take().map(|done| (self.turn, done))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // What keeps nobody waiting and moves no position concerns nobody.
        if let Some(late) = self.late.take()
            && self.turn.op != 0
        {
            late.tell(Event::Orphan { turn: self.turn, done: self.done.take() });
        }
    }
}

/// The request that runs a task.
pub(super) fn request(side: &Side, task: Task, turn: Turn, late: &Arc<Late>) -> Io {
    let side = side.clone();
    let ticket = Ticket { turn, done: None, late: Some(late.clone()) };
    Io::Blocking(Box::new(move || {
        let mut ticket = ticket;
        ticket.done = Some(run(&side, task));
        // It may be the last owner, and a close may wait.
        drop(side);
        Ok(Box::new(ticket) as Box<dyn Any + Send>)
    }))
}

fn run(side: &Side, task: Task) -> Done {
    match task {
        Task::Read { at, wanted, room, buf } => read(side, at, wanted, room, buf),
        Task::Write { at, parts, skip, durable } => {
            let (written, mut end) = write(side, at, &parts, skip);
            if durable
                && written > 0
                && let Err(e) = sync(side)
            {
                end = End::Failed(e);
            }
            Done { data: Vec::new(), moved: written, end }
        }
        Task::Sync => {
            let end = match sync(side) {
                Ok(()) => End::Enough,
                Err(e) => End::Failed(e),
            };
            Done { data: Vec::new(), moved: 0, end }
        }
        Task::Leave => Done { data: Vec::new(), moved: 0, end: End::Enough },
    }
}

fn read(side: &Side, at: Option<u64>, wanted: usize, room: usize, buf: Vec<u8>) -> Done {
    let most = room.min(wanted.max(CHUNK)).min(MOST);
    let mut data = buf;
    if data.len() < most {
        // As much as a reader asks for, which there may be no memory for.
        data = Vec::new();
        if data.try_reserve_exact(most).is_err() {
            return Done { data, moved: 0, end: End::Failed(io::ErrorKind::OutOfMemory.into()) };
        }
        data.resize(most, 0);
    }
    let mut got = 0usize;
    let end = loop {
        // A pipe that was never written to looks like one at its end to those who only read.
        if side.waits && !is_ready(side, Direction::Read) {
            break End::Blocked;
        }
        let read = match at.map(|at| at + got as u64) {
            // The system refuses a read that only might go beyond the last byte a file can have.
            Some(at) => {
                let most = most.min(got.saturating_add(usize::try_from(MAX_OFFSET - at).unwrap_or(usize::MAX)));
                if most == got { Ok(0) } else { rustix::io::pread(&*side.descriptor, &mut data[got..most], at) }
            }
            None => rustix::io::read(&*side.descriptor, &mut data[got..most]),
        };
        match read {
            Ok(0) => break End::Eof,
            Ok(n) => {
                got += n;
                if got >= wanted.min(most) {
                    break End::Enough;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break End::Blocked,
            Err(e) => break End::Failed(e.into()),
        }
    };
    Done { data, moved: got, end }
}

/// Writes what of `parts` lies behind `skip` bytes; says how many bytes went.
fn write(side: &Side, at: Option<u64>, parts: &[Bytes], skip: usize) -> (usize, End) {
    let total = parts.iter().map(Bytes::len).sum::<usize>();
    let mut written = 0;
    while skip + written < total {
        if written >= MOST {
            return (written, End::Enough);
        }
        let asks = side.waits && !side.nonblocking;
        if asks && !is_ready(side, Direction::Write) {
            return (written, End::Blocked);
        }
        let slices = slices(parts, skip + written, if asks { PIPE } else { MOST });
        let sent = match at {
            Some(at) => rustix::io::pwritev(&*side.descriptor, &slices, at + written as u64),
            None => rustix::io::writev(&*side.descriptor, &slices),
        };
        match sent {
            Ok(0) => return (written, End::Failed(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return (written, End::Blocked),
            Err(e) => return (written, End::Failed(e.into())),
        }
    }
    (written, End::Enough)
}

/// What of `parts` lies behind the first `skip` bytes, `most` bytes of it.
fn slices(parts: &[Bytes], mut skip: usize, mut most: usize) -> Vec<io::IoSlice<'_>> {
    let mut out = Vec::new();
    for part in parts {
        let from = skip.min(part.len());
        skip -= from;
        let rest = &part[from..];
        let n = rest.len().min(most);
        most -= n;
        if n > 0 {
            out.push(io::IoSlice::new(&rest[..n]));
        }
        if most == 0 || out.len() == PIECES {
            break;
        }
    }
    out
}

/// Whether a read or write would not wait, as far as the system can tell.
pub(super) fn is_ready(side: &Side, direction: Direction) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(side.descriptor.as_fd(), interest(direction))];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A failure is told by the call itself.
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

/// Forces what was written to the device, where there is one.
pub(super) fn sync(side: &Side) -> io::Result<()> {
    if !side.seekable {
        return Ok(());
    }
    loop {
        match rustix::fs::fsync(&*side.descriptor) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slices_are_the_bytes_behind_what_was_written(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..10),
            skip in 0usize..250,
            most in 1usize..250,
        ) {
            let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
            let flat: Vec<u8> = parts.iter().flatten().copied().collect();
            let got: Vec<u8> = slices(&parts, skip, most).iter().flat_map(|s| s.to_vec()).collect();
            let from = skip.min(flat.len());
            let to = (from + most).min(flat.len());
            prop_assert_eq!(&got[..], &flat[from..to]);
        }
    }

    #[test]
    fn a_call_takes_no_more_pieces_than_the_system_does() {
        let parts = vec![Bytes::from_static(b"x"); PIECES + 7];
        assert_eq!(slices(&parts, 0, MOST).len(), PIECES);
        assert_eq!(slices(&parts, PIECES, MOST).len(), 7);
    }
}
