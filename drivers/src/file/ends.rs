//! Flush, shutdown and waits for readiness. Invariant: a flush or shutdown takes its turn behind the
//! writes before it.

use xio_core::io::{Direction, Io, IoDone};
use xio_core::op::{Flush, Ready, Shutdown};
use xio_core::{Cx, ErrorKind, Flow, Op};

use super::job::{End, Task, is_ready};
use super::lane::Put;
use super::level::{File, outcome};
use super::options::Sync;
use super::place::Side;

impl File {
    /// What is to be forced to the device now, if anything.
    pub(super) fn to_sync(&self, cx: &Cx<'_>, now: Sync) -> Option<Side> {
        if !self.is_dirty || self.syncs(cx) < now {
            return None;
        }
        self.place.as_ref()?.output.clone()
    }

    /// Nothing more is written: whoever reads where there is nothing to read has come to the end.
    fn shut(&mut self, cx: &mut Cx<'_>) {
        self.is_shut = true;
        self.silent.drain(..).for_each(|h| cx.retry(h));
        while let Some(i) = self.waits.iter().position(|(_, w)| w.is_none()) {
            cx.retry(self.waits.swap_remove(i).0);
        }
    }

    pub(super) fn flush_op<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Flush>) -> Flow<'o> {
        let lane = self.write_lane();
        match outcome(op.io_done()) {
            Some(Ok((turn, done))) => {
                *cx.word(&mut op) = 0;
                self.lanes[lane].release(cx, turn.op);
                return match done.end {
                    End::Failed(e) => op.failed(self.wrong(e)),
                    _ => {
                        self.is_dirty = false;
                        op.finished()
                    }
                };
            }
            Some(Err(e)) => return op.failed(self.wrong(e)),
            None => {}
        }
        let me = self.number(cx, &mut op, lane);
        if !self.lanes[lane].enter(me) {
            let (held, flow) = op.hold(cx);
            self.lanes[lane].queue(me, Put::Flush(held));
            return flow;
        }
        match self.to_sync(cx, Sync::Flush) {
            Some(side) => {
                let job = self.job(cx, lane, me, &side, Task::Sync);
                op.io(job)
            }
            None => {
                *cx.word(&mut op) = 0;
                self.lanes[lane].release(cx, me);
                op.finished()
            }
        }
    }

    pub(super) fn shutdown_op<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Shutdown>) -> Flow<'o> {
        let lane = self.write_lane();
        match outcome(op.io_done()) {
            Some(Ok((turn, done))) => {
                self.lanes[lane].release(cx, turn.op);
                self.shut(cx);
                return match done.end {
                    End::Failed(e) => op.failed(self.wrong(e)),
                    _ => {
                        self.is_dirty = false;
                        op.finished()
                    }
                };
            }
            Some(Err(e)) => return op.failed(self.wrong(e)),
            None => {}
        }
        let me = self.number(cx, &mut op, lane);
        if !self.lanes[lane].enter(me) {
            let (held, flow) = op.hold(cx);
            self.lanes[lane].queue(me, Put::Shutdown(held));
            return flow;
        }
        let syncs = self.to_sync(cx, Sync::Close).is_some();
        let output = match &mut self.place {
            Some(p) if p.input.is_none() && p.output.as_ref().is_some_and(Side::closes) => p.output.take(),
            Some(p) if syncs => p.output.clone(),
            _ => None,
        };
        match output {
            // The last owner of a file for writing only is the job.
            Some(side) => {
                let task = if syncs { Task::Sync } else { Task::Leave };
                let job = self.job(cx, lane, me, &side, task);
                op.io(job)
            }
            None => {
                self.lanes[lane].release(cx, me);
                self.shut(cx);
                op.finished()
            }
        }
    }

    pub(super) fn ready_op<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Ready>) -> Flow<'o> {
        let direction = op.direction();
        let Some(place) = &self.place else { return op.failed(ErrorKind::Closed) };
        let side = match direction {
            Direction::Read => place.input.clone(),
            Direction::Write => place.output.clone(),
        };
        let Some(side) = side else {
            if direction == Direction::Write || self.is_shut {
                // The write would fail at once.
                return op.finished();
            }
            let (held, flow) = op.hold(cx);
            self.waits.push((held, None));
            return flow;
        };
        let reads_ahead = direction == Direction::Read && self.ahead.is_something();
        match op.io_done() {
            _ if !side.waits || reads_ahead => op.finished(),
            // Asked on the pool, so that no callback ever runs on the thread that waits.
            IoDone::None => op.io(Io::Blocking(Box::new(move || Ok(Box::new(is_ready(&side, direction)) as _)))),
            IoDone::Value(v) if v.downcast_ref() == Some(&false) => {
                let late = self.late(cx);
                match self.watch.wait(&side.descriptor, direction, &late) {
                    Ok(waiting) => {
                        let (held, flow) = op.hold(cx);
                        self.waits.push((held, Some(waiting)));
                        flow
                    }
                    Err(e) => op.failed(self.wrong(e)),
                }
            }
            IoDone::Failed(e) => op.failed(self.wrong(e)),
            _ => op.finished(),
        }
    }
}
