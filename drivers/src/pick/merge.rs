//! Reads of several branches made one. Invariant: a branch that has not ended has one read of this
//! level's below it, unless as much as may be lies here unread; no read that waits could be served.

use std::collections::VecDeque;

use xio_core::attr::{Group, OpAttrs};
use xio_core::body::Below;
use xio_core::buffer::Chunk;
use xio_core::op::{OpId, Read, Ready};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Op};

use super::gather::labelled;

/// Most reads of a branch that lie unread.
const MAX_ITEMS: usize = 256;

/// What reads from above are served from.
pub(super) struct Merge {
    lanes: Vec<Lane>,
    waiting: VecDeque<Wait>,
    readable: Vec<Held<Ready>>,
    /// The lane whose turn it is.
    turn: usize,
    ahead: usize,
    borders: bool,
}

/// A branch.
struct Lane {
    branch: u8,
    label: String,
    items: VecDeque<Item>,
    bytes: usize,
    asked: bool,
    ended: bool,
}

/// What one read of a branch came to.
enum Item {
    Data { chunks: VecDeque<Chunk>, attrs: OpAttrs },
    Failed(Error),
}

/// A read from above.
struct Wait {
    held: Held<Read>,
    room: usize,
    /// Bytes it lacks before it is done.
    wanted: usize,
    /// The lane it has bytes of.
    from: Option<usize>,
}

/// How a read was served.
enum Served {
    Enough,
    /// The lane has no more just now.
    Short,
    Failed(Error),
}

impl Merge {
    pub(super) fn new(branches: impl Iterator<Item = (u8, String)>, ahead: usize, borders: bool) -> Self {
        let lane =
            |(branch, label)| Lane { branch, label, items: VecDeque::new(), bytes: 0, asked: false, ended: false };
        Self {
            lanes: branches.map(lane).collect(),
            waiting: VecDeque::new(),
            readable: Vec::new(),
            turn: 0,
            ahead,
            borders,
        }
    }

    /// Reads from each branch that has not ended and does not lie unread too far.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>) {
        for lane in &mut self.lanes {
            if lane.asked || lane.ended || lane.bytes >= self.ahead || lane.items.len() >= MAX_ITEMS {
                continue;
            }
            lane.asked = true;
            let most = if self.borders { usize::MAX } else { self.ahead - lane.bytes };
            cx.take(lane.branch, 1, most, u32::from(lane.branch));
        }
    }

    /// A read of a branch is back.
    pub(super) fn came(&mut self, cx: &mut Cx<'_>, branch: u8, below: Below, attrs: OpAttrs, error: Option<Error>) {
        let borders = self.borders;
        let Some(lane) = self.lanes.iter_mut().find(|l| l.branch == branch) else { return };
        lane.asked = false;
        if below.got > 0 || (borders && error.is_none()) {
            lane.bytes += below.got;
            lane.items.push_back(Item::Data { chunks: below.chunks.into_iter().collect(), attrs });
        }
        if let Some(e) = error {
            lane.ended = true;
            // Cancelled by the close that is under way: nobody is left to be told.
            if !matches!(e.kind(), ErrorKind::Eof | ErrorKind::Cancelled) {
                lane.items.push_back(Item::Failed(labelled(&lane.label, e)));
            }
        }
        self.serve(cx);
        self.ask(cx);
    }

    /// A read from above: served at once, or held.
    pub(super) fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if !self.borders && op.room() == 0 {
            return op.finished();
        }
        let mut wanted = op.wanted();
        let from = self.next();
        if let Some(i) = from {
            let (room, borders) = (op.room(), self.borders);
            let lane = &mut self.lanes[i];
            lane.mark(op.attrs_mut());
            let served = lane.serve(room, &mut wanted, borders, |c| {
                op.put_chunk(c);
            });
            self.ask(cx);
            match served {
                Served::Enough => return op.finished(),
                Served::Failed(e) => return op.failed(e),
                Served::Short if self.lanes[i].ended => return op.failed(self.lanes[i].cut()),
                Served::Short => {}
            }
        } else if !self.borders && wanted == 0 {
            return op.finished();
        } else if self.is_over() {
            return op.failed(ErrorKind::Eof);
        }
        let room = op.room();
        let (held, flow) = op.hold(cx);
        self.waiting.push_back(Wait { held, room, wanted, from });
        flow
    }

    /// A wait for something to read.
    pub(super) fn ready<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        if self.is_ready() {
            return op.finished();
        }
        let (held, flow) = op.hold(cx);
        self.readable.push(held);
        flow
    }

    /// Lets an op go that was cancelled.
    pub(super) fn forget(&mut self, id: OpId) {
        self.waiting.retain(|w| w.held.id() != id);
        self.readable.retain(|h| h.id() != id);
    }

    /// The next lane that has something, in turn.
    fn next(&mut self) -> Option<usize> {
        let n = self.lanes.len();
        let i = (0..n).map(|i| (self.turn + i) % n).find(|i| !self.lanes[*i].items.is_empty())?;
        self.turn = (i + 1) % n;
        Some(i)
    }

    /// Whether every branch has ended and nothing lies here.
    fn is_over(&self) -> bool {
        self.lanes.iter().all(|l| l.ended && l.items.is_empty())
    }

    /// Whether a read would not wait.
    fn is_ready(&self) -> bool {
        self.lanes.iter().any(|l| !l.items.is_empty()) || self.is_over()
    }

    /// Serves the reads that wait, in their order.
    fn serve(&mut self, cx: &mut Cx<'_>) {
        let mut i = 0;
        while let Some(bound) = self.waiting.get(i).map(|w| w.from) {
            let from = match bound {
                Some(l) => Some(l).filter(|l| !self.lanes[*l].items.is_empty() || self.lanes[*l].ended),
                None => self.next(),
            };
            let over = from.is_none() && bound.is_none() && self.is_over();
            let (Some(w), true) = (self.waiting.get_mut(i), over || from.is_some()) else {
                i += 1;
                continue;
            };
            let result = match from {
                None => Err(ErrorKind::Eof.into()),
                // A token whose op was ended by somebody else goes without taking anything.
                Some(_) if !cx.is_live(&w.held) => Ok(()),
                Some(l) => {
                    w.from = Some(l);
                    let lane = &mut self.lanes[l];
                    if let Some(attrs) = cx.held_attrs(&w.held) {
                        lane.mark(attrs);
                    }
                    let (held, room) = (&w.held, w.room);
                    let before = lane.bytes;
                    let served = lane.serve(room, &mut w.wanted, self.borders, |c| {
                        cx.fill(held, c);
                    });
                    w.room -= before - lane.bytes;
                    match served {
                        Served::Enough => Ok(()),
                        Served::Failed(e) => Err(e),
                        Served::Short if lane.ended => Err(lane.cut()),
                        Served::Short => {
                            i += 1;
                            continue;
                        }
                    }
                }
            };
            if let Some(w) = self.waiting.remove(i) {
                cx.finish(w.held, result);
            }
        }
        if self.is_ready() {
            self.readable.drain(..).for_each(|h| cx.finish(h, Ok(())));
        }
    }
}

impl Lane {
    /// Puts what came with the data, and the label, into the attrs of a read.
    fn mark(&self, attrs: &mut OpAttrs) {
        if let Some(Item::Data { attrs: own, .. }) = self.items.front()
            && !own.is_empty()
        {
            *attrs = own.clone();
        }
        attrs.set(Group(self.label.clone()));
    }

    /// Gives one message, or bytes until nothing fits or nothing is left.
    fn serve(&mut self, mut room: usize, wanted: &mut usize, borders: bool, mut put: impl FnMut(&mut Chunk)) -> Served {
        let mut any = false;
        while let Some(item) = self.items.front_mut() {
            let chunks = match item {
                Item::Data { chunks, .. } => chunks,
                Item::Failed(_) if any && *wanted == 0 => return Served::Enough,
                Item::Failed(e) => {
                    let e = e.clone();
                    self.items.pop_front();
                    return Served::Failed(e);
                }
            };
            let len: usize = chunks.iter().map(Chunk::len).sum();
            while let Some(chunk) = chunks.front_mut() {
                let before = chunk.len();
                put(chunk);
                let n = before - chunk.len();
                self.bytes -= n;
                room -= n;
                *wanted = wanted.saturating_sub(n);
                if !chunk.is_empty() {
                    return if borders { Served::Failed(ErrorKind::Truncated { len }.into()) } else { Served::Enough };
                }
                chunks.pop_front();
            }
            self.items.pop_front();
            any = true;
            if borders || room == 0 {
                return Served::Enough;
            }
        }
        if *wanted == 0 { Served::Enough } else { Served::Short }
    }

    /// The error of a read that has some bytes of a branch that ended.
    fn cut(&self) -> Error {
        Error::new(ErrorKind::UnexpectedEof).detail(format!("branch `{}` ended before the read had enough", self.label))
    }
}
