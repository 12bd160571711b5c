//! How bytes move: reads and writes, in turn or at an offset. Invariant: the position moves when bytes
//! are delivered or known to be written, and what the system gave for a reader who went is the start
//! of the next read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use xio_core::attr::Offset;
use xio_core::buffer::{Chunk, Piece};
use xio_core::io::Direction;
use xio_core::op::{Read, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Op, planted};

use super::job::{CHUNK, Done, End, Task};
use super::lane::{Put, Then};
use super::level::{File, outcome};
use super::options::{MAX_OFFSET, Sync, wrong};
use super::place::Side;

/// Lane of reads.
const READS: usize = 0;

/// What the system gave and nobody has read yet.
#[derive(Default)]
pub(super) struct Ahead {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// Behind the bytes came an end of stream.
    pub(super) end: bool,
}

impl Ahead {
    pub(super) fn push(&mut self, data: Vec<u8>, n: usize) {
        if n > 0 {
            self.len += n;
            self.chunks.push_back(chunk(data, n));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a read would finish at once.
    pub(super) fn is_something(&self) -> bool {
        self.len > 0 || self.end
    }

    fn give(&mut self, op: &mut Op<'_, Read>) {
        while let Some(front) = self.chunks.front_mut() {
            let n = op.put_chunk(front);
            self.len -= n;
            if !front.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
    }
}

/// The first `n` bytes, without much more memory than they need.
fn chunk(mut data: Vec<u8>, n: usize) -> Chunk {
    data.truncate(n);
    if n < data.capacity() / 2 {
        data.shrink_to_fit();
    }
    Bytes::from(data).into()
}

impl File {
    pub(super) fn read_op<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let back = match outcome(op.io_done()) {
            Some(Err(e)) => return op.failed(self.wrong(e)),
            Some(Ok(back)) => Some(back),
            None => None,
        };
        let Some(place) = &self.place else { return op.failed(ErrorKind::Closed) };
        let (input, position) = (place.input.clone(), place.position);
        let Some(side) = input else {
            if self.is_shut {
                return op.failed(ErrorKind::Eof);
            }
            let (held, flow) = op.hold(cx);
            self.silent.push(held);
            return flow;
        };
        if op.room() == 0 {
            return op.finished();
        }
        if let Some(Offset(at)) = op.attrs().find().copied() {
            return self.read_at(cx, op, &side, at, back.map(|(_, done)| done));
        }
        let me = match &back {
            Some((turn, _)) => turn.op,
            None => self.number(cx, &mut op, READS),
        };
        self.lanes[READS].back(me);
        if !self.lanes[READS].enter(me) {
            let (held, flow) = op.hold(cx);
            self.lanes[READS].queue(me, Put::Read(held));
            return flow;
        }
        let end = match back {
            None => None,
            // The position was set meanwhile: what came is from elsewhere.
            Some((turn, _)) if turn.epoch != self.epoch => None,
            Some((_, done)) if position.is_some() => {
                self.advance(done.moved);
                self.give(&mut op, done.data, done.moved);
                Some(done.end)
            }
            Some((_, done)) => {
                self.ahead.push(done.data, done.moved);
                Some(done.end)
            }
        };
        self.read_on(cx, op, me, &side, end)
    }

    /// Goes on with the read whose turn it is; `end` is why its last job stopped.
    fn read_on<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>, me: u64, side: &Side, end: Option<End>) -> Flow<'o> {
        let position = self.place.as_ref().and_then(|p| p.position);
        let lying = self.ahead.len();
        let lacks = op.wanted().saturating_sub(lying);
        let something = lying > 0 || op.got() > 0;
        if lacks == 0 && (something || matches!(end, Some(End::Blocked))) {
            return self.end_read(cx, op, me, None);
        }
        match end {
            Some(End::Eof) => return self.end_read(cx, op, me, Some(ErrorKind::Eof.into())),
            Some(End::Failed(e)) => {
                let e = self.wrong(e);
                return self.end_read(cx, op, me, Some(e));
            }
            Some(End::Blocked) => {
                let late = self.late(cx);
                return match self.watch.wait(&side.descriptor, Direction::Read, &late) {
                    Ok(waiting) => {
                        let (held, flow) = op.hold(cx);
                        self.lanes[READS].block(Put::Read(held), waiting);
                        flow
                    }
                    Err(e) => {
                        let e = self.wrong(e);
                        self.end_read(cx, op, me, Some(e))
                    }
                };
            }
            None if std::mem::take(&mut self.ahead.end) => {
                return self.end_read(cx, op, me, Some(ErrorKind::Eof.into()));
            }
            Some(End::Enough) | None => {}
        }
        let room = op.room() - lying;
        let buf = std::mem::take(&mut self.spare);
        let job = self.job(cx, READS, me, side, Task::Read { at: position, wanted: lacks, room, buf });
        op.io(job)
    }

    fn end_read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>, me: u64, error: Option<Error>) -> Flow<'o> {
        self.ahead.give(&mut op);
        *cx.word(&mut op) = 0;
        self.lanes[READS].release(cx, me);
        match error {
            None => op.finished(),
            Some(e) => op.failed(e),
        }
    }

    /// A read at an offset of its own.
    fn read_at<'o>(
        &mut self,
        cx: &mut Cx<'_>,
        mut op: Op<'o, Read>,
        side: &Side,
        at: u64,
        back: Option<Done>,
    ) -> Flow<'o> {
        if let Some(e) = self.refuses(side, at, false) {
            return op.failed(e);
        }
        if let Some(done) = back {
            self.give(&mut op, done.data, done.moved);
            match done.end {
                End::Eof => return op.failed(ErrorKind::Eof),
                End::Failed(e) => return op.failed(self.wrong(e)),
                _ if op.wanted() == 0 => return op.finished(),
                _ => {}
            }
        }
        let at = at.saturating_add(op.got() as u64).min(MAX_OFFSET);
        let buf = std::mem::take(&mut self.spare);
        let task = Task::Read { at: Some(at), wanted: op.wanted(), room: op.room(), buf };
        let job = self.job(cx, READS, 0, side, task);
        op.io(job)
    }

    /// Delivers what a job read, and keeps its memory for the next one.
    fn give(&mut self, op: &mut Op<'_, Read>, data: Vec<u8>, n: usize) {
        if op.is_take() {
            op.put_chunk(&mut chunk(data, n));
            return;
        }
        op.put(&data[..n]);
        if data.len() <= CHUNK {
            self.spare = data;
        }
    }

    fn advance(&mut self, n: usize) {
        if let Some(p) = self.place.as_mut().and_then(|p| p.position.as_mut()) {
            *p += n as u64;
        }
    }

    /// Why an op with an offset of its own cannot be.
    fn refuses(&self, side: &Side, at: u64, writes: bool) -> Option<Error> {
        let name = self.place.as_ref().map_or("", |p| &p.name);
        if !side.seekable {
            let text = format!("{name} is no regular file, so it has no offsets; leave the attr `Offset` out");
            return Some(Error::new(ErrorKind::Unsupported).detail(text));
        }
        if writes && side.appends {
            let text = format!("{name} is written at the end, wherever that is; leave the attr `Offset` out");
            return Some(Error::new(ErrorKind::Unsupported).detail(text));
        }
        (at > MAX_OFFSET).then(|| wrong(format!("no file reaches offset {at}")))
    }

    pub(super) fn write_op<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let back = match outcome(op.io_done()) {
            Some(Err(e)) => return op.failed(self.wrong(e)),
            Some(Ok(back)) => Some(back),
            None => None,
        };
        let Some(place) = &self.place else { return op.failed(ErrorKind::Closed) };
        let position = place.position;
        let Some(side) = place.output.clone() else {
            let text = format!("{} is open for reading only; set `mode=write`, `append` or `read-write`", place.name);
            return op.failed(Error::new(ErrorKind::Unsupported).detail(text));
        };
        if op.is_empty() {
            op.take_all();
            return op.finished();
        }
        if let Some(Offset(at)) = op.attrs().find().copied() {
            return self.write_at(cx, op, &side, at, back.map(|(_, done)| done));
        }
        let lane = self.write_lane();
        let me = match &back {
            Some((turn, _)) => turn.op,
            None => self.number(cx, &mut op, lane),
        };
        self.lanes[lane].back(me);
        if !self.lanes[lane].enter(me) {
            let (held, flow) = op.hold(cx);
            self.lanes[lane].queue(me, Put::Write(held));
            return flow;
        }
        if let Some((turn, done)) = back {
            self.is_dirty |= done.moved > 0;
            if turn.epoch == self.epoch {
                self.advance(done.moved);
            }
            let is_all = op.moved() + done.moved >= op.len();
            let then = match done.end {
                End::Failed(e) if is_all => {
                    // It is in the file, but not on the device.
                    let e = self.wrong(e);
                    op.take_all();
                    return self.end_write(cx, op, me, e);
                }
                End::Failed(e) => Some(Then::Fail(self.wrong(e))),
                End::Blocked => Some(Then::Wait),
                End::Enough | End::Eof => None,
            };
            let lanes = &mut self.lanes[lane];
            lanes.at = lanes.at.map(|at| at + done.moved as u64);
            lanes.then = then;
            if done.moved > 0 {
                if is_all {
                    *cx.word(&mut op) = 0;
                    self.lanes[lane].release(cx, me);
                }
                return op.finished_part(done.moved);
            }
        }
        match self.lanes[lane].then.take() {
            Some(Then::Fail(e)) => return self.end_write(cx, op, me, e),
            Some(Then::Wait) => {
                let late = self.late(cx);
                return match self.watch.wait(&side.descriptor, Direction::Write, &late) {
                    Ok(waiting) => {
                        let (held, flow) = op.hold(cx);
                        self.lanes[lane].block(Put::Write(held), waiting);
                        flow
                    }
                    Err(e) => {
                        let e = self.wrong(e);
                        self.end_write(cx, op, me, e)
                    }
                };
            }
            None => {}
        }
        if self.lanes[lane].at.is_none() {
            self.lanes[lane].at = position;
        }
        let at = self.lanes[lane].at;
        let parts = self.lanes[lane].parts.get_or_insert_with(|| shared(&mut op)).clone();
        let durable = self.syncs(cx) == Sync::Write;
        let task = Task::Write { at, parts, skip: op.moved(), durable };
        let job = self.job(cx, lane, me, &side, task);
        op.io(job)
    }

    fn end_write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>, me: u64, e: Error) -> Flow<'o> {
        *cx.word(&mut op) = 0;
        let lane = self.write_lane();
        self.lanes[lane].release(cx, me);
        op.failed(e)
    }

    /// A write at an offset of its own.
    fn write_at<'o>(
        &mut self,
        cx: &mut Cx<'_>,
        mut op: Op<'o, Write>,
        side: &Side,
        at: u64,
        back: Option<Done>,
    ) -> Flow<'o> {
        if let Some(e) = self.refuses(side, at, true) {
            return op.failed(e);
        }
        if let Some(done) = back {
            self.is_dirty |= done.moved > 0;
            if planted("an op at a place of its own moves the position") {
                self.advance(done.moved);
            }
            if let End::Failed(e) = done.end {
                let e = self.wrong(e);
                if op.moved() + done.moved >= op.len() {
                    op.take_all();
                    return op.failed(e);
                }
                if done.moved == 0 {
                    return op.failed(e);
                }
                self.last += 1;
                *cx.word(&mut op) = self.last;
                self.failing.push((self.last, e));
            }
            return op.finished_part(done.moved);
        }
        let word = *cx.word(&mut op);
        if let Some(i) = self.failing.iter().position(|(n, _)| *n == word) {
            return op.failed(self.failing.swap_remove(i).1);
        }
        let at = at.saturating_add(op.moved() as u64).min(MAX_OFFSET);
        let durable = self.syncs(cx) == Sync::Write;
        let task = Task::Write { at: Some(at), parts: shared(&mut op), skip: op.moved(), durable };
        let job = self.job(cx, READS, 0, side, task);
        op.io(job)
    }
}

/// The bytes of a write, for a job; what a caller lent is copied.
fn shared(op: &mut Op<'_, Write>) -> Arc<[Bytes]> {
    op.share().into_iter().map(Piece::into_bytes).collect()
}
