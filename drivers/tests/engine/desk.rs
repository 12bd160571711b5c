//! A transport that holds every op until the test says what becomes of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use xio_core::buffer::Chunk;
use xio_core::caps::Caps;
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, OpId, Open, Read, Write};
use xio_core::{Cx, Flow, Held, Level, LevelNode, Op};

use super::fixture::{Log, transport};

/// What the test and the level share. Its lock comes after the handle's: tokens are used without it.
#[derive(Clone, Default)]
pub(crate) struct Desk {
    pub(crate) log: Log,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    reads: VecDeque<Held<Read>>,
    writes: VecDeque<Held<Write>>,
    data: VecDeque<Bytes>,
    hold_writes: bool,
    keep: bool,
    wakers: Vec<xio_core::cx::LevelWaker>,
}

impl Desk {
    /// The level, at the bottom of a stream.
    pub(crate) fn node(&self, more: Intercepts) -> LevelNode {
        let desk = self.clone();
        let sees = Intercepts::OPEN | Intercepts::CLOSE | Intercepts::READ | Intercepts::WRITE | more;
        transport(Caps::stream(), sees, move || AtDesk { desk: desk.clone() })
    }

    /// Has the first held read find these bytes.
    pub(crate) fn give(&self, bytes: &'static str) {
        let held = {
            let mut i = self.inner.lock().unwrap();
            i.data.push_back(Bytes::from_static(bytes.as_bytes()));
            i.reads.pop_front()
        };
        held.into_iter().for_each(Held::retry);
    }

    /// The tokens of the reads that are held.
    pub(crate) fn reads(&self) -> VecDeque<Held<Read>> {
        std::mem::take(&mut self.inner.lock().unwrap().reads)
    }

    /// The tokens of the writes that are held.
    pub(crate) fn writes(&self) -> VecDeque<Held<Write>> {
        std::mem::take(&mut self.inner.lock().unwrap().writes)
    }

    /// How many reads are held.
    pub(crate) fn held(&self) -> usize {
        self.inner.lock().unwrap().reads.len()
    }

    pub(crate) fn hold_writes(&self, hold: bool) {
        self.inner.lock().unwrap().hold_writes = hold;
    }

    /// From now on a cancel is answered with `Keep`.
    pub(crate) fn keep(&self) {
        self.inner.lock().unwrap().keep = true;
    }

    /// Has the level finish all held reads itself, with an empty result or with what lies there.
    pub(crate) fn wake(&self) {
        let wakers = self.inner.lock().unwrap().wakers.clone();
        wakers.iter().for_each(xio_core::cx::LevelWaker::wake);
    }
}

struct AtDesk {
    desk: Desk,
}

impl Level for AtDesk {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
        self.desk.log.note("open");
        self.desk.inner.lock().unwrap().wakers.push(cx.waker());
        op.finished()
    }

    fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        self.desk.log.note("close");
        op.finished()
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let mut i = self.desk.inner.lock().unwrap();
        match i.data.pop_front() {
            Some(b) => {
                let mut c = Chunk::from(b);
                op.put_chunk(&mut c);
                if !c.is_empty() {
                    i.data.push_front(c.into_bytes());
                }
                op.finished()
            }
            None => {
                let (held, flow) = op.hold(cx);
                i.reads.push_back(held);
                flow
            }
        }
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let mut i = self.desk.inner.lock().unwrap();
        if i.hold_writes {
            let (held, flow) = op.hold(cx);
            i.writes.push_back(held);
            return flow;
        }
        let text: Vec<u8> = op.pieces().iter().flat_map(|p| p.to_vec()).collect();
        self.desk.log.note(format!("write {}", String::from_utf8_lossy(&text)));
        op.take_all();
        op.finished()
    }

    fn woken(&mut self, cx: &mut Cx<'_>) {
        let (reads, data) = {
            let mut i = self.desk.inner.lock().unwrap();
            (std::mem::take(&mut i.reads), std::mem::take(&mut i.data))
        };
        let mut data = data.into_iter().map(Chunk::from);
        for held in reads {
            match data.next() {
                Some(c) => drop(cx.finish_chunk(held, c)),
                None => cx.retry(held),
            }
        }
    }

    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        let mut i = self.desk.inner.lock().unwrap();
        self.desk.log.note(format!("cancel {reason:?}"));
        if i.keep {
            return Cancel::Keep;
        }
        i.reads.retain(|h| h.id() != id);
        i.writes.retain(|h| h.id() != id);
        Cancel::Take
    }
}
