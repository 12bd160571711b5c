//! The level: which op is held, and until when. Invariant: what is held is in exactly one of
//! `line`, `held`, `behind` and `parts`. How ops are judged is in `hold.rs`, what happens to bytes in
//! `data.rs`.

use std::collections::VecDeque;

use xio_core::attr::OpAttrs;
use xio_core::buffer::{Chunk, Pieces};
use xio_core::cntl::{Borrow, Cntl};
use xio_core::cx::Timer;
use xio_core::driver::OpKind;
use xio_core::io::Direction;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Flush, Listen, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::time::Time;
use xio_core::{CloseMode, Cx, Error, Flow, Held, Level, Op};

use super::Options;
use super::hold::Verdict;
use super::put::{Put, Single};
use crate::part::Parts;

/// Timer of the line of writes.
pub(super) const LINE: u32 = 0;
/// Timer of the message that is to be overtaken.
pub(super) const KEPT: u32 = 1;
/// The first number of the timers of single ops.
pub(super) const SINGLE: u32 = 2;
pub(super) struct Faulty {
    pub(super) options: Options,
    /// Ops so far, by kind.
    pub(super) counts: [u64; OpKind::COUNT],
    /// Writes that go down later, in order.
    pub(super) line: VecDeque<(Held<Write>, Time)>,
    pub(super) line_timer: Option<Timer>,
    pub(super) held: Vec<Single>,
    pub(super) last_timer: u32,
    /// A flush or shutdown behind the writes that are held.
    pub(super) behind: Vec<Put>,
    /// The message that is to be overtaken.
    pub(super) kept: Option<(Pieces, OpAttrs, Timer)>,
    /// The message that is to come again, or what of one did not fit.
    pub(super) again: Option<(Chunk, OpAttrs)>,
    pub(super) parts: Parts,
    /// Bytes until the reset, and reads and writes until then.
    pub(super) bytes_left: Option<u64>,
    pub(super) ops_left: Option<u32>,
    pub(super) borders: Option<bool>,
    /// Bytes that the read had when it went down.
    pub(super) had: usize,
    /// It went down for a part of its bytes.
    pub(super) is_part: bool,
    /// Messages lost in a row by the read under way.
    pub(super) lost: u32,
    close_error: Option<Error>,
}

impl Faulty {
    pub(super) fn new(options: Options) -> Self {
        Self {
            counts: [0; OpKind::COUNT],
            line: VecDeque::new(),
            line_timer: None,
            held: Vec::new(),
            last_timer: SINGLE,
            behind: Vec::new(),
            kept: None,
            again: None,
            parts: Parts::default(),
            bytes_left: options.reset_after.map(|s| s.0),
            ops_left: options.reset_after_ops,
            borders: None,
            had: 0,
            is_part: false,
            lost: 0,
            close_error: None,
            options,
        }
    }
}

/// The methods of the kinds that carry nothing a fault could change.
macro_rules! plain {
    ($($method:ident $K:ident;)+) => {$(
        fn $method<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            match self.admit(cx, op, Put::$K) {
                Verdict::Through(mut op) => {
                    *cx.word(&mut op) = 0;
                    op.pass()
                }
                Verdict::Fails(op, e) => op.failed(e),
                Verdict::Answered(flow) => flow,
            }
        }
    )+};
}

impl Level for Faulty {
    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        // Who knows what becomes of the bytes.
        if c.command::<Borrow>().is_some() { c.reply::<Borrow>(None) } else { Err(c.unsupported()) }
    }

    plain! {
        open Open;
        accept Accept;
        listen Listen;
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if !self.is_through(cx, &mut op)
            && let Some(e) = self.count_op(cx)
        {
            return op.failed(e);
        }
        match self.admit(cx, op, Put::Read) {
            Verdict::Through(op) => self.pass_read(cx, op),
            Verdict::Fails(op, e) => op.failed(e),
            Verdict::Answered(flow) => flow,
        }
    }

    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        self.came(cx, op)
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        match self.begin_write(cx, op) {
            Ok(op) => {
                let flow = self.pass_write(cx, op);
                self.written(cx);
                flow
            }
            Err(flow) => flow,
        }
    }

    fn write_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        // It has been overtaken.
        self.send_kept(cx);
        op.finished()
    }

    fn own_write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        if op.tag() == super::data::PART {
            self.parts.returned(cx, &mut op);
        } else {
            // Nobody waits for a copy, or for a message whose writer was told long ago.
            op.clear_error();
        }
        op.finished()
    }

    fn flush<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Flush>) -> Flow<'o> {
        match self.admit(cx, op, Put::Flush) {
            Verdict::Through(op) if self.holds_write() => {
                let (held, flow) = op.hold(cx);
                self.behind.push(Put::Flush(held));
                flow
            }
            Verdict::Through(mut op) => {
                *cx.word(&mut op) = 0;
                self.send_kept(cx);
                op.pass()
            }
            Verdict::Fails(op, e) => op.failed(e),
            Verdict::Answered(flow) => flow,
        }
    }

    fn shutdown<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Shutdown>) -> Flow<'o> {
        match self.admit(cx, op, Put::Shutdown) {
            Verdict::Through(op) if self.holds_write() => {
                let (held, flow) = op.hold(cx);
                self.behind.push(Put::Shutdown(held));
                flow
            }
            Verdict::Through(op) => {
                self.send_kept(cx);
                op.pass()
            }
            Verdict::Fails(op, e) => op.failed(e),
            Verdict::Answered(flow) => flow,
        }
    }

    fn close<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        let op = match self.admit(cx, op, Put::Close) {
            Verdict::Through(op) => op,
            // What is below is closed all the same.
            Verdict::Fails(op, e) => {
                self.close_error = Some(e);
                op
            }
            Verdict::Answered(flow) => return flow,
        };
        if op.mode() == CloseMode::Abort {
            self.kept = None;
        }
        self.send_kept(cx);
        op.pass()
    }

    fn close_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
        match self.close_error.take() {
            Some(e) if op.error().is_none() => op.failed(e),
            _ => op.finished(),
        }
    }

    fn ready<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        let is_here = op.direction() == Direction::Read && self.again.is_some();
        if is_here { op.finished() } else { op.pass() }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, tag: u32) {
        match tag {
            LINE => self.run_line(cx),
            KEPT => self.send_kept(cx),
            tag => {
                if let Some(i) = self.held.iter().position(|s| s.tag == tag) {
                    self.held.swap_remove(i).put.retry(cx);
                }
            }
        }
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        if let Some(keep) = self.parts.cancel(cx, id, reason) {
            return keep;
        }
        self.line.retain(|(h, _)| h.id() != id);
        self.held.retain(|s| s.put.id() != id);
        self.behind.retain(|p| p.id() != id);
        self.written(cx);
        Cancel::Take
    }
}
