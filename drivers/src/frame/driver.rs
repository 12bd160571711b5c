//! The level that finds message borders in a stream. Invariant: `left` holds bytes that were
//! received and not given out; where a header is off, `need` says how many of the next ones belong to
//! its message.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use xio_core::attr::Attr;
use xio_core::buffer::{Chunk, Piece, Pieces};
use xio_core::caps::{Branch, Caps, Needs, Unit};
use xio_core::cntl::{Borrow, Cntl};
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::op::{Read, Ready, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op, planted};

use super::Options;

/// Most bytes one read from below asks for.
const AHEAD: usize = 64 * 1024;
/// The same where messages are long: only the header and a little more, the rest goes straight into
/// the reader's buffer.
const SHORT_AHEAD: usize = 512;
/// From this length on a message's rest is read straight into the reader's buffer.
const DIRECT: usize = 8 * 1024;
/// Batches up to this size are copied into one run of memory.
const GATHER: usize = 2048;

/// The `frame` driver.
#[derive(Debug)]
pub struct Driver;

const INFO: Info = Info::new(Options::DRIVER, Shape::Transform, "length-delimited messages over a stream")
    .with_options(Options::SPECS);

/// The driver, to register or to build stacks with.
pub fn driver() -> Arc<dyn xio_core::Driver> {
    Arc::new(Driver)
}

impl xio_core::Driver for Driver {
    fn info(&self) -> &Info {
        &INFO
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::STREAM
    }

    fn caps(&self, attr: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        let mut caps = below.first().map(|b| b.caps.clone()).ok_or(ErrorKind::Misfit)?;
        caps.unit = Unit::Message;
        caps.max_message = Some(limit(options::<Options>(attr)));
        Ok(caps)
    }

    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::NONE,
            Role::Handle => {
                Intercepts::READ
                    | Intercepts::READ_DONE
                    | Intercepts::WRITE
                    | Intercepts::READY
                    | Intercepts::CONCURRENT_WRITES
                    | Intercepts::BATCHES
            }
        }
    }

    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        let o = options::<Options>(attr);
        Ok(Box::new(Frame {
            max: limit(o),
            left: Bytes::new(),
            need: 0,
            stop: None,
            header: o.header,
            headed: false,
            direct: false,
            long: false,
        }))
    }
}

fn limit(o: &Options) -> usize {
    let by_header = if o.header >= 8 { u64::MAX } else { (1u64 << (8 * u32::from(o.header))) - 1 };
    usize::try_from(o.max.0.min(by_header)).unwrap_or(usize::MAX)
}

struct Frame {
    max: usize,
    /// Received, not given out.
    left: Bytes,
    /// Bytes of the message whose header is off; see [`Frame::need`].
    need: usize,
    /// Why the next read gets no message of its own.
    stop: Option<Box<Stop>>,
    /// Bytes of a header.
    header: u8,
    /// A header is off, and its message not yet given out.
    headed: bool,
    /// The read below goes straight into the reader's buffer.
    direct: bool,
    /// The last message was long.
    long: bool,
}

enum Stop {
    /// What did not fit the last reader's buffer, of a message that is otherwise given out.
    Rest(Chunk),
    /// The next border cannot be found.
    Dead(Error),
}

impl Frame {
    fn header_len(&self) -> usize {
        usize::from(self.header)
    }

    /// Bytes of the message under way, where its header is off.
    fn need(&self) -> Option<usize> {
        self.headed.then_some(self.need)
    }

    /// Takes a header off, if one is there.
    fn header(&mut self) -> Result<(), Error> {
        let header = self.header_len();
        if self.headed || self.left.len() < header {
            return Ok(());
        }
        let len = self.left[..header].iter().fold(0u64, |n, b| (n << 8) | u64::from(*b));
        self.left.advance(header);
        match usize::try_from(len) {
            Ok(len) if len <= self.max => {
                self.long = len >= DIRECT;
                (self.need, self.headed) = (len, true);
                Ok(())
            }
            _ => {
                let text = format!("a message of {len} bytes was announced, the limit is {}", self.max);
                let e = Error::new(ErrorKind::Protocol).detail(text);
                self.stop = Some(Box::new(Stop::Dead(e.clone())));
                Err(e)
            }
        }
    }

    /// Gives the message out whose `need` bytes are all in `left`.
    fn give<'o>(&mut self, mut op: Op<'o, Read>, need: usize) -> Flow<'o> {
        self.headed = false;
        if op.is_take() || op.room() < need {
            let mut message = Chunk::from(self.left.split_to(need));
            op.put_chunk(&mut message);
            if !message.is_empty() {
                self.stop = Some(Box::new(Stop::Rest(message)));
                return op.failed(ErrorKind::Truncated { len: need });
            }
        } else {
            op.put(&self.left[..need]);
            self.left.advance(need);
            if self.left.is_empty() {
                // An empty end would keep the memory that it is the end of.
                self.left = Bytes::new();
            }
        }
        op.finished()
    }

    /// Goes on with a read: gives a message out, or asks for more.
    fn go<'o>(&mut self, mut op: Op<'o, Read>) -> Flow<'o> {
        if let Err(e) = self.header() {
            return op.failed(e);
        }
        let Some(need) = self.need() else {
            let most = if self.long { SHORT_AHEAD } else { AHEAD };
            return op.pass_take(self.header_len() - self.left.len(), most);
        };
        if self.left.len() >= need {
            return self.give(op, need);
        }
        let lacks = need - self.left.len();
        if op.room() >= need && lacks >= DIRECT {
            let mut have = Chunk::from(std::mem::take(&mut self.left));
            op.put_chunk(&mut have);
            self.direct = true;
            return op.pass_part(lacks, lacks);
        }
        // Never ask for the whole of a long message before its bytes are there: the memory of what
        // comes is bounded by what was sent.
        op.pass_take(lacks.min(AHEAD), lacks.max(AHEAD))
    }

    /// Puts received chunks behind what is left. Where there is no memory for them no border is found again.
    fn keep(&mut self, chunks: impl IntoIterator<Item = Chunk>) -> Result<(), Error> {
        for c in chunks {
            let bytes = c.into_bytes();
            if self.left.is_empty() {
                self.left = bytes;
                continue;
            }
            let lost =
                self.left.len() < self.header_len() && !self.headed && planted("a header in two pieces loses a byte");
            match joined(std::mem::take(&mut self.left), &bytes[usize::from(lost)..]) {
                Some(all) => self.left = all,
                None => {
                    let text = format!("no memory for a message of {} bytes", self.need().unwrap_or_default());
                    let e = Error::new(ErrorKind::Exhausted).detail(text);
                    self.stop = Some(Box::new(Stop::Dead(e.clone())));
                    return Err(e);
                }
            }
        }
        Ok(())
    }
}

impl Level for Frame {
    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        // What is sent begins with a header.
        if c.command::<Borrow>().is_some() { c.reply::<Borrow>(None) } else { Err(c.unsupported()) }
    }

    fn read<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        match self.stop.as_deref_mut() {
            None => self.go(op),
            Some(Stop::Dead(e)) => {
                let e = e.clone();
                op.failed(e)
            }
            Some(Stop::Rest(rest)) => {
                let len = rest.len();
                op.put_chunk(rest);
                if !rest.is_empty() {
                    return op.failed(ErrorKind::Truncated { len });
                }
                self.stop = None;
                op.finished()
            }
        }
    }

    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let error = op.clear_error();
        let below = op.below();
        if std::mem::take(&mut self.direct) {
            if error.is_none() {
                self.headed = false;
                return op.finished();
            }
            // Half a message is in the reader's buffer: it belongs to the next read.
            let had = op.got();
            self.left = op.take_back(had);
        } else {
            if let Err(e) = self.keep(below.chunks) {
                return op.failed(e);
            }
        }
        match error {
            None => self.go(op),
            Some(e) if e.kind() == ErrorKind::Eof && (self.headed || !self.left.is_empty()) => {
                // What arrived with the end may complete a message.
                if let Err(e) = self.header() {
                    return op.failed(e);
                }
                match self.need() {
                    Some(n) if self.left.len() >= n => self.give(op, n),
                    _ => op.failed(ErrorKind::UnexpectedEof),
                }
            }
            Some(e) => op.failed(e),
        }
    }

    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        if op.message_count() > 1 {
            return self.write_batch(op);
        }
        let len = op.len();
        if len > self.max {
            let text = format!("{len} bytes, the limit is {}", self.max);
            return op.failed(Error::new(ErrorKind::TooLong).detail(text));
        }
        let be = (len as u64).to_be_bytes();
        let lead = self.header_len();
        let header = &be[8 - lead..];
        match op.pieces() {
            // A short message and its header leave as one run of memory.
            [one] if len <= xio_core::buffer::MAX_INLINE - 8 => {
                let mut run = [0; xio_core::buffer::MAX_INLINE];
                run[..lead].copy_from_slice(header);
                run[lead..lead + len].copy_from_slice(one);
                op.pass_with(Pieces::from_iter([Piece::inline(&run[..lead + len])]))
            }
            _ => op.pass_lead(Piece::inline(header)),
        }
    }

    fn ready<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        let reads = op.direction() == xio_core::io::Direction::Read;
        let there = self.stop.is_some() || self.header().is_err() || self.need().is_some_and(|n| self.left.len() >= n);
        if reads && there { op.finished() } else { op.pass() }
    }
}

/// Bytes behind others, in their memory where that is large enough; `None` where there is none to be had.
fn joined(left: Bytes, more: &[u8]) -> Option<Bytes> {
    let (old, need) = (left.len(), left.len() + more.len());
    let mut all = match left.try_into_mut() {
        Ok(own) if own.capacity() >= need => own,
        // Only a `Vec` can try. Twice as much, so that many parts are not copied again for each.
        other => {
            let mut run = Vec::new();
            run.try_reserve_exact(need.max(2 * old)).ok()?;
            match &other {
                Ok(own) => run.extend_from_slice(own),
                Err(shared) => run.extend_from_slice(shared),
            }
            Bytes::from(run).try_into_mut().ok()?
        }
    };
    all.extend_from_slice(more);
    Some(all.freeze())
}

impl Frame {
    /// Several messages in one write: a header before each.
    fn write_batch<'o>(&mut self, mut op: Op<'o, Write>) -> Flow<'o> {
        let (count, total, lead) = (op.message_count(), op.len(), self.header_len());
        let long = op.messages().map(|r| r.len()).find(|n| *n > self.max);
        if let Some(long) = long {
            let text = format!("{long} bytes, the limit is {}", self.max);
            return op.failed(Error::new(ErrorKind::TooLong).detail(text));
        }
        if total / count <= GATHER {
            let mut run = BytesMut::with_capacity(total + count * lead);
            match op.pieces() {
                [one] => {
                    for r in op.messages() {
                        run.extend_from_slice(&(r.len() as u64).to_be_bytes()[8 - lead..]);
                        run.extend_from_slice(&one[r]);
                    }
                }
                many => {
                    let mut flat = BytesMut::with_capacity(total);
                    many.iter().for_each(|p| flat.extend_from_slice(p));
                    for r in op.messages() {
                        run.extend_from_slice(&(r.len() as u64).to_be_bytes()[8 - lead..]);
                        run.extend_from_slice(&flat[r]);
                    }
                }
            }
            return op.pass_with(Pieces::from_iter([Piece::from(run.freeze())]));
        }
        let ends: Vec<_> = op.messages().collect();
        let mut out = Pieces::new();
        let mut pieces = op.share().into_iter().map(Piece::into_bytes);
        let mut rest = Bytes::new();
        for r in ends {
            out.push(Piece::inline(&(r.len() as u64).to_be_bytes()[8 - lead..]));
            let mut lacks = r.len();
            while lacks > 0 {
                if rest.is_empty() {
                    let Some(next) = pieces.next() else { break };
                    rest = next;
                    continue;
                }
                let part = rest.split_to(lacks.min(rest.len()));
                lacks -= part.len();
                out.push(Piece::from(part));
            }
        }
        op.pass_with(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_between_messages_is_small() {
        assert!(size_of::<Frame>() <= 64, "{}", size_of::<Frame>());
    }
}
