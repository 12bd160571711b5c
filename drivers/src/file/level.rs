//! The level of an open file: its life, and who waits for what. Invariant: `place` is there from the
//! end of an open to the start of a close; without it every op gets an error. How bytes move is in
//! `data.rs`.

use std::sync::Arc;
use std::time::Duration;

use xio_core::cntl::Cntl;
use xio_core::cx::Timer;
use xio_core::driver::options;
use xio_core::io::{Direction, Io, IoDone};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, Kind, Listen, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{CloseMode, Contact, Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::Options;
use super::data::Ahead;
use super::job::{Done, End, Event, Late, Task, Ticket, Turn, request, sync};
use super::lane::Lane;
use super::open::{Opened, Target, open, target};
use super::options::Sync;
use super::place::{Place, Side};
use super::watch::{Waiting, Watch};

/// First and longest wait between two looks whether a pipe has a reader.
const NO_READER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));

/// A file.
pub(super) struct File {
    pub(super) watch: Arc<Watch>,
    pub(super) place: Option<Place>,
    pub(super) late: Option<Arc<Late>>,
    opening: Option<Opening>,
    pub(super) contact: Contact,
    /// The options as they are now, once one was changed.
    pub(super) changed: Option<Options>,
    pub(super) lanes: [Lane; 2],
    /// Number of the last op that was given one.
    pub(super) last: u64,
    /// How often the position was set.
    pub(super) epoch: u32,
    pub(super) ahead: Ahead,
    /// Positioned writes whose bytes have been counted and that fail when they come in again.
    pub(super) failing: Vec<(u64, Error)>,
    /// Memory of the last read.
    pub(super) spare: Vec<u8>,
    /// Those who read where there is nothing to read.
    pub(super) silent: Vec<Held<Read>>,
    /// Waits for readiness; without a wait of the system's where nothing will ever be ready.
    pub(super) waits: Vec<(Held<Ready>, Option<Waiting>)>,
    pub(super) is_dirty: bool,
    pub(super) is_shut: bool,
}

/// An open that goes on.
struct Opening {
    target: Target,
    pause: Duration,
    held: Option<(Held<Open>, Timer)>,
    /// It is this open that comes in again.
    again: bool,
}

impl File {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Self {
            watch,
            place: None,
            late: None,
            opening: None,
            contact: Contact::None,
            changed: None,
            lanes: Default::default(),
            last: 0,
            epoch: 0,
            ahead: Ahead::default(),
            failing: Vec::new(),
            spare: Vec::new(),
            silent: Vec::new(),
            waits: Vec::new(),
            is_dirty: false,
            is_shut: false,
        }
    }

    pub(super) fn options(&self, cx: &Cx<'_>) -> Options {
        self.changed.clone().unwrap_or_else(|| options::<Options>(cx.attr()).clone())
    }

    pub(super) fn syncs(&self, cx: &Cx<'_>) -> Sync {
        self.changed.as_ref().unwrap_or_else(|| options::<Options>(cx.attr())).syncs()
    }

    /// The lane of writes; that of reads is the first.
    pub(super) fn write_lane(&self) -> usize {
        usize::from(!self.place.as_ref().is_some_and(Place::is_shared_by_directions))
    }

    pub(super) fn late(&mut self, cx: &Cx<'_>) -> Arc<Late> {
        self.late.get_or_insert_with(|| Late::new(cx.waker())).clone()
    }

    /// A request for a turn in a lane.
    pub(super) fn job(&mut self, cx: &Cx<'_>, lane: usize, op: u64, side: &Side, task: Task) -> Io {
        let direction = if matches!(task, Task::Read { .. }) { Direction::Read } else { Direction::Write };
        if op != 0 {
            self.lanes[lane].send();
        }
        request(side, task, Turn { op, direction, epoch: self.epoch }, &self.late(cx))
    }

    fn opened<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>, opened: Opened) -> Flow<'o> {
        match opened {
            Opened::Place(place) => {
                self.opening = None;
                self.place = Some(*place);
                op.finished()
            }
            Opened::Failed(e) => {
                self.opening = None;
                op.failed(e)
            }
            Opened::NoReader => {
                let Some(opening) = &mut self.opening else { return op.failed(ErrorKind::Cancelled) };
                let (held, flow) = op.hold(cx);
                opening.held = Some((held, cx.after(opening.pause, 0)));
                opening.pause = (opening.pause * 2).min(NO_READER.1);
                flow
            }
        }
    }

    fn try_open<'o>(&self, cx: &Cx<'_>, op: Op<'o, Open>, target: Target) -> Flow<'o> {
        let options = self.options(cx);
        op.io(Io::Blocking(Box::new(move || Ok(Box::new(open(target, &options)) as _))))
    }

    /// What happened since the level was last called.
    fn events(&mut self, cx: &mut Cx<'_>) {
        let Some(late) = &self.late else { return };
        let events = std::mem::take(&mut *late.list.lock());
        for event in events {
            match event {
                Event::Ready(key) => {
                    self.lanes.iter_mut().for_each(|l| l.fired(cx, key));
                    let fired = |w: &(Held<Ready>, Option<Waiting>)| w.1.as_ref().is_some_and(|w| w.key() == key);
                    if let Some(i) = self.waits.iter().position(fired) {
                        cx.retry(self.waits.swap_remove(i).0);
                    }
                }
                Event::Orphan { turn, done } => {
                    if let Some(done) = done {
                        self.adopt(turn, done);
                    }
                    self.lanes.iter_mut().for_each(|l| l.release(cx, turn.op));
                }
            }
        }
    }

    /// Sees to the outcome of a job whose op was stopped.
    fn adopt(&mut self, turn: Turn, done: Done) {
        let Some(place) = &mut self.place else { return };
        match turn.direction {
            Direction::Read if place.position.is_none() && turn.epoch == self.epoch => {
                self.ahead.push(done.data, done.moved);
                if matches!(done.end, End::Eof) {
                    self.ahead.end = true;
                }
            }
            // Nobody got the bytes, so the position stays.
            Direction::Read => {}
            Direction::Write => {
                self.is_dirty |= done.moved > 0;
                if turn.epoch == self.epoch {
                    place.position = place.position.map(|p| p + done.moved as u64);
                }
            }
        }
    }

    /// The number of an op in a lane: the one it has, where it comes back, or a fresh one.
    pub(super) fn number<K: Kind>(&mut self, cx: &Cx<'_>, op: &mut Op<'_, K>, lane: usize) -> u64 {
        let word = cx.word(op);
        if *word == 0 || !self.lanes[lane].goes_on(*word) {
            self.last += 1;
            *word = self.last;
        }
        *word
    }

    #[cold]
    pub(super) fn wrong(&self, e: std::io::Error) -> Error {
        match &self.place {
            Some(place) => place.wrong(e),
            None => e.into(),
        }
    }
}

/// What a job came back with.
pub(super) fn outcome(done: IoDone) -> Option<Result<(Turn, Done), std::io::Error>> {
    match done {
        IoDone::Value(v) => v.downcast::<Ticket>().ok().and_then(|t| t.take()).map(Ok),
        IoDone::Failed(e) => Some(Err(e)),
        _ => None,
    }
}

impl Level for File {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        match op.io_done() {
            IoDone::Value(v) => match v.downcast::<Opened>() {
                Ok(opened) => self.opened(cx, op, *opened),
                Err(_) => op.failed(ErrorKind::Contract),
            },
            IoDone::Failed(e) => op.failed(e),
            _ => {
                if let Some(o) = self.opening.as_mut().filter(|o| o.again) {
                    o.again = false;
                    let target = o.target.clone();
                    return self.try_open(cx, op, target);
                }
                // What jobs of an earlier open still bring is theirs.
                *self = Self { changed: self.changed.take(), ..Self::new(self.watch.clone()) };
                let target = match target(op.contact(), &self.options(cx)) {
                    Ok(t) => t,
                    Err(e) => return op.failed(e),
                };
                self.contact = op.contact().clone();
                self.opening = Some(Opening { target: target.clone(), pause: NO_READER.0, held: None, again: false });
                self.try_open(cx, op, target)
            }
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        if let Some(o) = &mut self.opening
            && let Some((held, _)) = o.held.take()
        {
            o.again = true;
            cx.retry(held);
        }
    }

    fn close<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        match op.io_done() {
            IoDone::Failed(e) => return op.failed(e),
            IoDone::None => {}
            _ => return op.finished(),
        }
        let sync_now = self.to_sync(cx, Sync::Close).filter(|_| op.mode() != CloseMode::Abort);
        self.silent.clear();
        self.waits.clear();
        self.lanes = Default::default();
        let Some(place) = self.place.take() else { return op.finished() };
        let owns = [&place.input, &place.output].iter().any(|s| s.as_ref().is_some_and(Side::closes));
        if sync_now.is_none() && !owns {
            return op.finished();
        }
        // A close may have to wait for the device, so it is the pool's as well.
        op.io(Io::Blocking(Box::new(move || {
            let synced = sync_now.as_ref().map_or(Ok(()), sync).map_err(|e| std::io::Error::from(place.wrong(e)));
            drop((sync_now, place));
            synced.map(|()| Box::new(()) as _)
        })))
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.read_op(cx, op)
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        self.write_op(cx, op)
    }

    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        self.flush_op(cx, op)
    }

    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        self.shutdown_op(cx, op)
    }

    fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        self.ready_op(cx, op)
    }

    fn listen<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Listen>) -> Flow<'o> {
        op.failed(Error::new(ErrorKind::Unsupported).detail("a file cannot listen; open it"))
    }

    fn woken(&mut self, cx: &mut Cx<'_>) {
        self.events(cx);
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.lanes.iter_mut().for_each(|l| l.cancel(cx, id));
        self.silent.retain(|h| h.id() != id);
        self.waits.retain(|(h, _)| h.id() != id);
        if self.opening.as_ref().is_some_and(|o| o.held.as_ref().is_some_and(|(h, _)| h.id() == id)) {
            self.opening = None;
        }
        Cancel::Take
    }

    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        self.answer(cx, c)
    }
}
