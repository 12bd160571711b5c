//! Both ends of a flood of datagrams over our stacks, for the harness of `xio_peers::floods`. Invariant: each end
//! has one peer and the buffers that plain sockets have there; an end asks of a stack what a user would.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use xio_core::attr::Segment;
use xio_core::{Contact, Engine, Handle, Server};
use xio_peers::floods::{Sink, Source, flood, run};
use xio_peers::placement::Placement;
use xio_peers::sample::Sample;

use crate::stack;

/// Buffers of every socket, as [`BUFFER`](xio_peers::floods::BUFFER).
const BUFFERS: &str = "sndbuf=4MiB, rcvbuf=4MiB";

/// How ours flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// A write a datagram, a read a datagram.
    Single,
    /// A write of many, a read of many, by the attr `Segment`.
    Batch,
    /// A write a datagram into a queue that sends batches, a read a datagram.
    Queued,
}

impl Ours {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Single, Self::Batch, Self::Queued];

    /// The name in output and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "udp",
            Self::Batch => "udp(batch)+Segment",
            Self::Queued => "queue/udp(batch)",
        }
    }

    /// The stacks of the source and of the sink.
    fn specs(self) -> [String; 2] {
        // An open with `greet` sends something, which makes the server's link.
        let one = format!("udp(greet, {BUFFERS})");
        let batch = format!("udp(batch, greet, {BUFFERS})");
        match self {
            Self::Single => [one.clone(), one],
            Self::Batch => [batch.clone(), batch],
            Self::Queued => [format!("queue(early, high=1MiB, batch=60KiB, linger=1ms)/{batch}"), batch],
        }
    }

    /// A flood for so long. Each end's engine is of its own thread, pinned where that is.
    ///
    /// # Errors
    /// What the stacks say.
    pub fn flood(self, place: Placement, size: usize, span: Duration) -> io::Result<Sample> {
        let (tell, told) = mpsc::channel();
        let source = move || self.source(size, told.recv().map_err(|_| io::Error::other("the sink is gone"))?);
        let sink = move || {
            let listening = self.listen()?;
            tell.send(listening.at()).map_err(|_| io::Error::other("the source is gone"))?;
            listening.sink()
        };
        flood(place, size, span, source, sink)
    }

    /// Both ends of a flood of `size` bytes each, the source first.
    ///
    /// # Errors
    /// What the stacks say.
    pub fn ends(self, size: usize) -> io::Result<(Writes, Reads)> {
        let listening = self.listen()?;
        let source = self.source(size, listening.at())?;
        Ok((source, listening.sink()?))
    }

    fn source(self, size: usize, to: Contact) -> io::Result<Writes> {
        let engine = Engine::new()?;
        let [near, _] = self.specs();
        let handle = engine.open(&stack(&near), to).wait()?;
        Ok(Writes { _engine: engine, handle, data: vec![7; run(size) * size].into(), size, how: self })
    }

    fn listen(self) -> io::Result<Listening> {
        let engine = Engine::new()?;
        let [_, far] = self.specs();
        let server = engine.listen(&stack(&far), Contact::new("127.0.0.1:0")).wait()?;
        Ok(Listening { engine, server, how: self })
    }
}

struct Listening {
    engine: Engine,
    server: Server,
    how: Ours,
}

impl Listening {
    fn at(&self) -> Contact {
        self.server.contact().clone()
    }

    /// A link, so that this end has one peer, too, as plain sockets have.
    fn sink(self) -> io::Result<Reads> {
        let handle = self.server.accept().wait()?.open().wait()?;
        Ok(Reads { _engine: self.engine, handle, buf: vec![0; 1 << 16], how: self.how })
    }
}

/// Where a flood over ours comes from.
pub struct Writes {
    _engine: Engine,
    handle: Handle,
    data: Bytes,
    size: usize,
    how: Ours,
}

impl Source for Writes {
    fn send(&mut self) -> io::Result<()> {
        if self.how == Ours::Batch {
            let call = self.handle.write(self.data.clone()).attr(Segment(self.size));
            return Ok(call.wait().map(drop).map_err(|f| f.error)?);
        }
        Ok(self.handle.write_from(&self.data[..self.size]).wait().map(drop)?)
    }

    fn mark(&mut self) -> io::Result<()> {
        self.handle.write_from(&[0]).wait()?;
        self.flush()
    }
}

impl Writes {
    /// How many datagrams a [`send`](Source::send) is.
    pub fn each(&self) -> usize {
        if self.how == Ours::Batch { self.data.len() / self.size } else { 1 }
    }

    /// Waits until everything has been sent.
    ///
    /// # Errors
    /// What the stack says.
    pub fn flush(&self) -> io::Result<()> {
        Ok(self.handle.flush().wait()?)
    }
}

/// Where it arrives.
pub struct Reads {
    _engine: Engine,
    handle: Handle,
    buf: Vec<u8>,
    how: Ours,
}

impl Sink for Reads {
    fn take(&mut self) -> io::Result<usize> {
        if self.how != Ours::Batch {
            return Ok(usize::from(self.handle.read_into(&mut self.buf).wait()? != 1));
        }
        let done = self.handle.take(1 << 16).attr(Segment(1)).wait().map_err(|f| f.error)?;
        let each = done.attrs.find::<Segment>().map_or(done.n, |s| s.0);
        Ok(if done.n == 1 { 0 } else { done.n.div_ceil(each.max(1)).max(1) })
    }
}
