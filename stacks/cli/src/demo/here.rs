//! The first process of the demo: starts the second, connects, sends, takes back, compares.
//!
//! Writes are handed over many at a time, so that levels have something to join: a queue makes one
//! write of dozens. What comes back is read meanwhile on the main thread. This file is also what the
//! demo sends, if nothing else is asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use xio_stacks::core::cntl::LocalContact;
use xio_stacks::core::handle::{MAX_BYTES, MAX_OPS};
use xio_stacks::core::io::Direction;
use xio_stacks::{Contact, Engine, Error, Handle, Stack};

use crate::exit::{Failure, Outcome, failed};
use crate::interrupt;
use crate::relay::{self, Trouble, abort};
use crate::render::{Ui, bytes, rate};
use crate::stats::Levels;

use super::{LONG, Room, SETUP_TIME, Source, Story, Sum};

/// Writes that are handed over together at most. As many again may be under way.
const BATCH: usize = 32;
/// Bytes of such a batch, unless one write has more: what a queue takes without being asked for more.
const BATCH_BYTES: usize = MAX_BYTES / 4;
/// How often progress is shown.
const STEP: Duration = Duration::from_millis(100);

/// What came of it.
pub(super) struct Run {
    pub(super) contact: String,
    pub(super) local: Option<String>,
    pub(super) peer_pid: u32,
    pub(super) bytes: u64,
    pub(super) messages: u64,
    pub(super) borders: bool,
    pub(super) took: Duration,
    pub(super) sent: String,
    pub(super) arrived: String,
    pub(super) back: String,
    pub(super) levels: Levels,
    pub(super) peer_levels: Value,
}

impl Run {
    pub(super) fn is_equal(&self) -> bool {
        self.sent == self.arrived && self.sent == self.back
    }
}

/// Runs the demo.
pub(super) fn run(
    stack: &Stack,
    spec: &str,
    contact: &str,
    source: &Source,
    message: usize,
    room: &Room,
    story: &mut Story<'_>,
) -> Outcome<Run> {
    let mut peer = Other::start(spec, contact, source.len)?;
    let contact = peer.word("contact")?;
    story.fact("listening", &format!("{contact}  {}", story.ui.out.dim(&format!("process {}", peer.pid()))))?;

    let engine = Engine::new()?;
    let where_to: Contact = contact.parse()?;
    let open = engine.open(stack, where_to).deadline(SETUP_TIME).with_stats();
    let handle = open.max_bytes(message.saturating_mul(2).max(MAX_BYTES)).wait()?;
    let theirs = handle.clone();
    let room_path = room.path("");
    interrupt::on_signal(move || {
        abort(&theirs);
        // The main thread does it too, if it still can.
        let _ = std::fs::remove_dir_all(&room_path);
    });
    let local = handle.query(LocalContact).ok().map(|c| c.to_string());
    let from = local.as_deref().unwrap_or("connected");
    let me = story.ui.out.dim(&format!("process {}", std::process::id()));
    story.fact("connected", &format!("{from}  {me}"))?;

    let start = Instant::now();
    let (sent, back) = exchange(&handle, source, message, room, story.ui)?;
    let took = start.elapsed();
    let levels = Levels::of(&handle);
    let arrived = peer.word("sha256")?;
    let peer_levels = peer.said("levels");
    relay::end_writes(&handle, &handle.caps())?;
    relay::close(&handle)?;
    Ok(Run {
        contact,
        local,
        peer_pid: peer.pid(),
        bytes: source.len,
        messages: source.len.div_ceil(message as u64),
        borders: handle.caps().unit.has_borders(),
        took,
        sent,
        arrived,
        back,
        levels,
        peer_levels,
    })
}

/// Sends and takes back at once; gives both digests.
fn exchange(handle: &Handle, source: &Source, message: usize, room: &Room, ui: &Ui) -> Outcome<(String, String)> {
    let (sent, back) = std::thread::scope(|s| {
        let sender = s.spawn(|| {
            let sent = send(handle, source, message);
            if sent.is_err() {
                abort(handle);
            }
            sent
        });
        let back = take_back(handle, source, room, ui);
        if back.is_err() {
            abort(handle);
        }
        (sender.join(), back)
    });
    let sent = sent.unwrap_or_else(|_| Err(Failure::Failed("the sender panicked".into()).into()));
    // Each ends the other by an abort; the one that did not follow says why.
    match (sent, back) {
        (Ok(sent), Ok(back)) => Ok((sent, back)),
        (Err(s), Err(b)) if b.is_from_abort() => Err(s.into()),
        (_, Err(t)) | (Err(t), Ok(_)) => Err(t.into()),
    }
}

/// Writes everything, a batch of writes at a time.
fn send(handle: &Handle, source: &Source, message: usize) -> Result<String, Trouble> {
    const { assert!(2 * BATCH <= MAX_OPS as usize) };
    let mut from = source.open()?;
    let mut sum = Sum::default();
    let flow = Arc::new(Flow::default());
    let most = (BATCH_BYTES / message).clamp(1, BATCH);
    let mut left = source.len;
    while left > 0 {
        let mut batch = Vec::with_capacity(most);
        while left > 0 && batch.len() < most {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(message);
            let mut part = vec![0; n];
            from.read_exact(&mut part).map_err(failed("cannot read what is to be sent"))?;
            sum.add(&part);
            batch.push(Bytes::from(part));
            left -= n as u64;
        }
        flow.wait(most)?;
        flow.begin(batch.len());
        let (writer, done) = (handle.clone(), flow.clone());
        // Writes begun inside a callback go down together when it has returned.
        handle.ready(Direction::Write).then(move |ready| match ready {
            Ok(()) => {
                for part in batch {
                    let done = done.clone();
                    writer.write(part).then(move |r| done.end(1, r.err().map(|f| f.error)));
                }
                done.handed_over();
            }
            Err(e) => done.end(batch.len(), Some(e)),
        });
    }
    flow.wait(0)?;
    handle.flush().wait()?;
    Ok(sum.text())
}

/// Reads until everything is back, into a file where a file was sent.
fn take_back(handle: &Handle, source: &Source, room: &Room, ui: &Ui) -> Result<String, Trouble> {
    let path = room.path("came-back");
    let file = source.path.as_ref().map(|_| File::create(&path)).transpose();
    let mut file = file.map_err(failed(format!("cannot write `{}`", path.display())))?;
    let most = if handle.caps().unit.has_borders() { usize::MAX } else { LONG };
    let mut sum = Sum::default();
    let mut progress = Progress::new(source.len, ui);
    let mut back = 0;
    while back < source.len {
        let done = handle.take(most).wait().map_err(|f| f.error)?;
        back += done.n as u64;
        for chunk in done.chunks {
            let bytes = chunk.into_bytes();
            sum.add(&bytes);
            if let Some(f) = &mut file {
                f.write_all(&bytes).map_err(failed(format!("cannot write `{}`", path.display())))?;
            }
        }
        progress.at(back);
    }
    Ok(sum.text())
}

/// How many writes are under way, and what went wrong with one.
#[derive(Default)]
struct Flow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    under_way: usize,
    /// A batch waits to be handed over; a second one could overtake it.
    is_handing: bool,
    error: Option<Error>,
}

impl Flow {
    fn begin(&self, n: usize) {
        let mut state = self.lock();
        state.under_way += n;
        state.is_handing = true;
    }

    fn handed_over(&self) {
        self.lock().is_handing = false;
        self.changed.notify_all();
    }

    fn end(&self, n: usize, error: Option<Error>) {
        let mut state = self.lock();
        state.under_way -= n;
        if state.error.is_none() {
            state.error = error;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until at most `most` are under way.
    fn wait(&self, most: usize) -> Result<(), Error> {
        let mut state = self.lock();
        while (state.under_way > most || state.is_handing) && state.error.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.error.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line on a terminal that says how far it is, when that takes longer than a moment.
struct Progress<'a> {
    all: u64,
    start: Instant,
    next: Duration,
    ui: &'a Ui,
    shown: bool,
}

impl<'a> Progress<'a> {
    fn new(all: u64, ui: &'a Ui) -> Self {
        Self { all, start: Instant::now(), next: STEP, ui, shown: false }
    }

    fn at(&mut self, back: u64) {
        let so_far = self.start.elapsed();
        if !self.ui.live || so_far < self.next {
            return;
        }
        self.next = so_far + STEP;
        self.shown = true;
        let percent = back.saturating_mul(100) / self.all.max(1);
        let speed = rate(back as f64 / so_far.as_secs_f64());
        let text = format!("  {percent:>3}%        {} back, {speed}", bytes(back as f64));
        let _ = write!(std::io::stderr(), "\r{text}\x1b[K");
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// The second process. Dropped, it is ended.
struct Other {
    child: Child,
    lines: BufReader<ChildStdout>,
    last: Value,
}

impl Other {
    fn start(spec: &str, contact: &str, len: u64) -> Outcome<Self> {
        let cannot = "cannot start this program a second time";
        let program = std::env::current_exe().map_err(failed(cannot))?;
        let mut command = Command::new(program);
        command.args(["demo-peer", "--", spec, contact, &len.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed(cannot))?;
        let out = child.stdout.take().ok_or_else(|| Failure::Failed(format!("{cannot}: it has no stdout")))?;
        Ok(Self { child, lines: BufReader::new(out), last: Value::Null })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A text of the next line it says.
    fn word(&mut self, key: &str) -> Outcome<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).map_err(failed("cannot hear the other process"))?;
        self.last = serde_json::from_str(&line).unwrap_or_default();
        match (self.last[key].as_str(), self.last["error"].as_str()) {
            (Some(word), _) => Ok(word.to_owned()),
            (None, Some(error)) => Err(Failure::Failed(format!("in the other process: {error}"))),
            (None, None) => Err(Failure::Failed("the other process ended too soon".into())),
        }
    }

    /// More of the last line.
    fn said(&mut self, key: &str) -> Value {
        self.last[key].take()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // The end of its stdin ends it, if it has not ended by itself.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
