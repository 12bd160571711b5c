//! Group D: ends that come together with data, or inside a message. The others are in `d_end`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use xio_core::buffer::Chunk;
use xio_core::caps::{Needs, Unit};
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{OpId, Read};
use xio_core::reactor::SimConfig;
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::data::{room, same};
use crate::bench::{Bench, LONG, Tell};
use crate::dice::pattern;
use crate::saboteur;
use crate::verdict::{Checked, Stop};

/// A level over streams that gathers, once it is armed, and gives the last bytes together with the end.
struct Together {
    armed: Arc<AtomicUsize>,
    stream: bool,
    asked: bool,
    stash: Chunk,
    end: Option<Error>,
    held: Vec<Held<Read>>,
}

impl Level for Together {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        self.stream = cx.caps_below().is_some_and(|c| c.unit == Unit::Stream);
        if !self.stream || self.armed.load(Ordering::Relaxed) == 0 || op.room() == 0 || op.wanted() == 0 {
            return op.pass();
        }
        if let Some(end) = &self.end {
            let end = end.clone();
            op.put_chunk(&mut self.stash);
            return if self.stash.is_empty() { op.failed(end) } else { op.finished() };
        }
        let (held, flow) = op.hold(cx);
        self.held.push(held);
        self.ask(cx);
        flow
    }
    fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        self.asked = false;
        self.end = op.clear_error();
        let mut all = std::mem::take(&mut self.stash).into_bytes().to_vec();
        for chunk in op.brought().chunks {
            all.extend_from_slice(&chunk.into_bytes());
        }
        self.stash = Chunk::from(bytes::Bytes::from(all));
        self.ask(cx);
        if self.end.is_some() {
            self.held.drain(..).for_each(|h| cx.retry(h));
        }
        op.finished()
    }
    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.held.retain(|h| h.id() != id);
        Cancel::Take
    }
}

impl Together {
    fn ask(&mut self, cx: &mut Cx<'_>) {
        if self.end.is_none() && !std::mem::replace(&mut self.asked, true) {
            cx.take(0, 1, 1 << 16, 0);
        }
    }
}

/// Data that comes with the end is not lost.
///
/// # Errors
/// See the rule's text.
pub fn d3(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_half_close()?;
    bench.needs_order()?;
    for seed in bench.seeds() {
        for size in [1, 7, 1000] {
            let armed = Arc::new(AtomicUsize::new(0));
            let make = |armed: Arc<AtomicUsize>| Together {
                armed,
                stream: false,
                asked: false,
                stash: Chunk::default(),
                end: None,
                held: Vec::new(),
            };
            let sees = Intercepts::READ | Intercepts::CONCURRENT_READS;
            let insert = |n: usize, below| {
                let armed = armed.clone();
                saboteur::level(n, Needs::ANY, sees, move || make(armed.clone()), below)
            };
            bench.stage(seed).near(insert).build()?.run_rule(&mut |w| {
                let pair = w.pair()?;
                armed.store(1, Ordering::Relaxed);
                // The first goes to a read that a level may have made before.
                for n in 0..3 {
                    pair.far.write(pattern(seed, n * 20, 20)).deadline(LONG).wait()?;
                    w.run();
                }
                pair.end_far()?;
                w.run();
                let mut data = Vec::new();
                let end = loop {
                    let size = if w.caps().unit.has_borders() { size.max(20) } else { size };
                    match pair.near.read(room(size)).deadline(LONG).wait() {
                        Ok(d) => data.extend_from_slice(&d.buf),
                        Err(f) => {
                            data.extend_from_slice(&f.back.buf);
                            break f.kind();
                        }
                    }
                };
                same(&data, &pattern(seed, 0, 60))?;
                ensure_eq!(end, ErrorKind::Eof, "the end");
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Ends a stream after so many bytes.
struct Cut {
    left: Arc<AtomicUsize>,
    through: Arc<AtomicUsize>,
}

impl Level for Cut {
    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let left = self.left.load(Ordering::Relaxed);
        if left == usize::MAX || cx.caps_below().is_none_or(|c| c.unit != Unit::Stream) {
            return op.finished();
        }
        let (through, n) = (self.through.load(Ordering::Relaxed), op.got());
        let most = left.saturating_sub(through);
        self.through.store(through + n.min(most), Ordering::Relaxed);
        if n <= most && (n > 0 || op.error().is_some()) && through + n < left {
            return op.finished();
        }
        drop(op.take_back(n.saturating_sub(most)));
        op.clear_error();
        op.failed(ErrorKind::Eof)
    }
}

/// An end inside a message is no clean end.
///
/// # Errors
/// See the rule's text.
pub fn d4(bench: &mut Bench) -> Checked {
    /// No messages of these come to more on the wire.
    const MOST: usize = 400;
    if !bench.has_borders() {
        return crate::bench::unless("unit=stream");
    }
    bench.needs_peer()?;
    bench.needs_half_close()?;
    bench.needs_order()?;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let messages: Vec<_> = [3, 0, 17, 1].into_iter().map(|n| pattern(seed, n * 100, n)).collect();
    let mut before = None;
    for at in 0..MOST {
        let (left, through) = (Arc::new(AtomicUsize::new(usize::MAX)), Tell::new());
        let insert = |n: usize, below| {
            // Each boundary counts for itself; the lowest is the first to end.
            let seen = Arc::new(AtomicUsize::new(0));
            through.note(seen.clone());
            let left = left.clone();
            let make = move || Cut { left: left.clone(), through: seen.clone() };
            saboteur::level(n, Needs::ANY, Intercepts::READ_DONE | Intercepts::CONCURRENT_READS, make, below)
        };
        let mut came = (0, ErrorKind::Eof);
        bench.stage(seed).network(SimConfig::calm()).near(insert).build()?.run_rule(&mut |w| {
            let pair = w.pair()?;
            left.store(at, Ordering::Relaxed);
            for m in &messages {
                pair.far.write(m.clone()).deadline(LONG).wait()?;
            }
            pair.end_far()?;
            came = loop {
                match pair.near.read(room(100)).deadline(LONG).wait() {
                    Ok(d) => {
                        let want = messages.get(came.0).map(Vec::as_slice);
                        ensure_eq!(Some(&d.buf[..]), want, "message {}", came.0);
                        came.0 += 1;
                    }
                    Err(f) => break (came.0, f.kind()),
                }
            };
            Ok(())
        })?;
        let most = through.all().iter().map(|n| n.load(Ordering::Relaxed)).max().unwrap_or_default();
        if most == 0 && at > 0 {
            return crate::bench::unless("no stream below the messages");
        }
        // A message more than with a byte less: it was cut at a border.
        let border = before.is_none_or(|n| came.0 > n);
        let want = if border || most < at { ErrorKind::Eof } else { ErrorKind::UnexpectedEof };
        ensure_eq!(came.1, want, "the end of a stream cut after {at} bytes, behind {} messages", came.0);
        before = Some(came.0);
        if most < at {
            ensure_eq!(came.0, messages.len(), "messages of the whole stream");
            return Ok(());
        }
    }
    Err(Stop::fail(format!("more than {MOST} bytes went for four small messages")))
}
