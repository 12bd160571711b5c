//! Reads of several branches made one. Invariant: a branch that has not ended has one read of this
//! level's below it, unless as much as may be lies here unread; no read that waits could be served;
//! no read has bytes of two branches, here or further down.

use std::collections::VecDeque;

use xio_core::attr::{Group, OpAttrs};
use xio_core::body::Below;
use xio_core::caps::Unit;
use xio_core::op::{OpId, Read, Ready};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Op, planted};

use super::lane::{Lane, Served};
use super::route::find;

/// What reads from above are served from.
pub(super) struct Merge {
    lanes: Vec<Lane>,
    waiting: VecDeque<Wait>,
    readable: Vec<Held<Ready>>,
    /// The lane whose turn it is.
    turn: usize,
    ahead: usize,
    unit: Unit,
    /// What ended the last branch, where that was no clean end.
    broke: Option<Error>,
}

/// A read from above.
struct Wait {
    held: Held<Read>,
    room: usize,
    /// Bytes it lacks before it is done.
    wanted: usize,
    /// What it has bytes of.
    from: Option<Source>,
}

/// A lane, and the branch further down in it.
struct Source {
    lane: usize,
    inner: Option<Group>,
}

impl Merge {
    pub(super) fn new(branches: impl Iterator<Item = (u8, String)>, ahead: usize, unit: Unit) -> Self {
        Self {
            lanes: branches.map(|(branch, label)| Lane::new(branch, label)).collect(),
            waiting: VecDeque::new(),
            readable: Vec::new(),
            turn: 0,
            ahead,
            unit,
            broke: None,
        }
    }

    /// Reads from each branch that has not ended and does not lie unread too far.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>) {
        for lane in &mut self.lanes {
            let Some(room) = lane.room(self.ahead) else { continue };
            lane.asked = true;
            let most = if self.unit.has_borders() { usize::MAX } else { room };
            cx.take(lane.branch, 1, most, u32::from(lane.branch));
        }
    }

    /// A branch is being opened again: the end of the others is not the end.
    pub(super) fn expect(&mut self, branch: u8, label: &str) {
        match self.lanes.iter_mut().find(|l| l.branch == branch) {
            Some(lane) => lane.expected = true,
            None => {
                let mut lane = Lane::new(branch, label.to_owned());
                (lane.expected, lane.ended) = (true, true);
                self.lanes.push(lane);
            }
        }
    }

    /// It is open again, or is not.
    pub(super) fn reopened(&mut self, cx: &mut Cx<'_>, branch: u8, error: Option<Error>) {
        let Some(lane) = self.lanes.iter_mut().find(|l| l.branch == branch) else { return };
        // A reopen that was cancelled changes nothing.
        let counts = error.as_ref().is_none_or(|e| e.kind() != ErrorKind::Cancelled);
        lane.reopened(error);
        if counts {
            self.broke.clone_from(&lane.broke);
        }
        self.serve(cx);
        self.ask(cx);
    }

    /// A read of a branch is back.
    pub(super) fn came(&mut self, cx: &mut Cx<'_>, branch: u8, below: Below, attrs: OpAttrs, error: Option<Error>) {
        let Some(lane) = self.lanes.iter_mut().find(|l| l.branch == branch) else { return };
        lane.came(below, attrs, error, self.unit.has_borders());
        self.broke.clone_from(&lane.broke);
        self.serve(cx);
        self.ask(cx);
    }

    /// A read from above: served at once, or held.
    pub(super) fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let (mut room, mut wanted) = (op.room(), op.wanted());
        if !self.unit.has_borders() && room == 0 {
            return op.finished();
        }
        let from = self.begun(&op).or_else(|| self.next());
        if let Some(Source { lane: at, inner }) = &from {
            let lane = &mut self.lanes[*at];
            lane.mark(inner.as_ref(), op.attrs_mut());
            let served = lane.serve(inner.as_ref(), (&mut room, &mut wanted), self.unit, |c| {
                op.put_chunk(c);
            });
            let failed = match served {
                Served::Enough => {
                    self.ask(cx);
                    return op.finished();
                }
                Served::Failed(e) => Some(e),
                Served::Short => lane.fails(self.ahead),
            };
            self.ask(cx);
            if let Some(e) = failed {
                self.stay(*at, &e);
                return op.failed(e);
            }
        } else if !self.unit.has_borders() && wanted == 0 {
            return op.finished();
        } else if let Some(e) = self.over() {
            return op.failed(e);
        }
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

    /// What a read is of that has bytes already: of a part of it, or of a reader who went away.
    fn begun(&self, op: &Op<'_, Read>) -> Option<Source> {
        let Group(group) = op.attrs().find().filter(|_| op.has_begun())?;
        let labels: Vec<_> = self.lanes.iter().map(|l| &l.label).collect();
        let (lane, inner) = find(&labels, group)?;
        Some(Source { lane: lane.into(), inner: inner.map(|g| Group(g.to_owned())) })
    }

    /// The next lane that has something, in turn.
    fn next(&mut self) -> Option<Source> {
        let n = self.lanes.len();
        let lane = (0..n).map(|i| (self.turn + i) % n).find(|i| !self.lanes[*i].is_empty())?;
        self.turn = (lane + 1) % n;
        Some(Source { lane, inner: self.lanes[lane].front() })
    }

    /// The rest of a message is read before those of other branches.
    fn stay(&mut self, lane: usize, e: &Error) {
        if matches!(e.kind(), ErrorKind::Truncated { .. }) && !planted("the rest of a message waits its turn") {
            self.turn = lane;
        }
    }

    /// How it ended, where every branch has ended and nothing lies here: as the last branch did.
    fn over(&self) -> Option<Error> {
        let over = self.lanes.iter().all(|l| l.ended && !l.expected && l.is_empty());
        over.then(|| self.broke.clone().unwrap_or_else(|| ErrorKind::Eof.into()))
    }

    /// Whether a read would not wait.
    fn is_ready(&self) -> bool {
        self.lanes.iter().any(|l| !l.is_empty()) || self.over().is_some()
    }

    /// Serves the reads that wait, in their order.
    fn serve(&mut self, cx: &mut Cx<'_>) {
        let mut i = 0;
        while let Some(bound) = self.waiting.get_mut(i).map(|w| w.from.take()) {
            let is_bound = bound.is_some();
            let from = bound.or_else(|| self.next());
            let over = self.over().filter(|_| from.is_none());
            let Some(w) = self.waiting.get_mut(i) else { return };
            let result = match &from {
                None => match over {
                    Some(e) => Err(e),
                    None => {
                        i += 1;
                        continue;
                    }
                },
                // A token whose op was ended by somebody else goes without taking anything.
                Some(_) if !cx.is_live(&w.held) => Ok(()),
                Some(Source { lane: at, inner }) => {
                    let lane = &mut self.lanes[*at];
                    if let Some(attrs) = cx.held_attrs(&w.held).filter(|_| !is_bound) {
                        lane.mark(inner.as_ref(), attrs);
                    }
                    let held = &w.held;
                    let served = lane.serve(inner.as_ref(), (&mut w.room, &mut w.wanted), self.unit, |c| {
                        cx.fill(held, c);
                    });
                    match served {
                        Served::Enough => Ok(()),
                        Served::Failed(e) => {
                            self.stay(*at, &e);
                            Err(e)
                        }
                        Served::Short => match lane.fails(self.ahead) {
                            Some(e) => Err(e),
                            None => {
                                w.from = from;
                                i += 1;
                                continue;
                            }
                        },
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
