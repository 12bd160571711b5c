//! Floods of datagrams over loopback: what arrives in a second of what was sent in it, over plain sockets one
//! by one, with `sendmmsg`, with `quinn-udp`, and over ours, interleaved in the same rounds, both ends on one
//! CPU and on two. An op is a datagram that arrived. JSON on stdout, the same as a table on stderr.
//!
//! `cargo run --release -p xio-tests --bin datagrams [ROUNDS]`

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use xio_core::attr::Segment;
use xio_core::{Contact, Engine, Handle};
use xio_peers::datagrams::{BATCH, How, Sink, Source, flood, plain};
use xio_peers::placement::Placement;
use xio_peers::rounds::{Contender, interleave};
use xio_peers::sample::Sample;
use xio_tests::{report, stack};

/// How long a sample is.
const SPAN: Duration = Duration::from_millis(200);
/// Longest run of datagrams of one op.
const MAX_RUN: usize = 65_000;

/// How ours flood.
#[derive(Clone, Copy, PartialEq)]
enum Ours {
    /// A write a datagram.
    Single,
    /// A write of many, by the attr `Segment`.
    Batch,
}

struct Writes {
    _engine: Engine,
    handle: Handle,
    data: Bytes,
    size: usize,
    how: Ours,
}

impl Source for Writes {
    fn send(&mut self) -> io::Result<()> {
        let sent = match self.how {
            Ours::Single => self.handle.write_from(&self.data[..self.size]).wait().map(drop),
            Ours::Batch => {
                let call = self.handle.write(self.data.clone()).attr(Segment(self.size));
                call.wait().map(drop).map_err(|f| f.error)
            }
        };
        Ok(sent?)
    }

    fn mark(&mut self) -> io::Result<()> {
        self.handle.write_from(&[0]).wait()?;
        Ok(self.handle.flush().wait()?)
    }
}

struct Reads {
    _engine: Engine,
    handle: Handle,
    buf: Vec<u8>,
    how: Ours,
}

impl Sink for Reads {
    fn take(&mut self) -> io::Result<usize> {
        match self.how {
            Ours::Single => Ok(usize::from(self.handle.read_into(&mut self.buf).wait()? != 1)),
            Ours::Batch => {
                let done = self.handle.take(1 << 16).attr(Segment(1)).wait().map_err(|f| f.error)?;
                let each = done.attrs.find::<Segment>().map_or(done.n, |s| s.0);
                Ok(if done.n == 1 { 0 } else { done.n.div_ceil(each.max(1)).max(1) })
            }
        }
    }
}

fn ours(place: Placement, size: usize, near: &str, far: &str, how: Ours) -> io::Result<Sample> {
    let (tell, told) = mpsc::channel::<Contact>();
    let (near, far) = (stack(near), stack(far));
    let source = move || {
        let engine = Engine::new()?;
        let to = told.recv().map_err(|_| io::Error::other("the sink is gone"))?;
        let handle = engine.open(&near, to).wait()?;
        let count = (MAX_RUN / size).min(BATCH);
        Ok(Writes { _engine: engine, handle, data: vec![7; count * size].into(), size, how })
    };
    // A link, so that both ends have one peer, as the plain sockets have.
    let sink = move || {
        let engine = Engine::new()?;
        let server = engine.listen(&far, Contact::new("127.0.0.1:0")).wait()?;
        tell.send(server.contact().clone()).map_err(|_| io::Error::other("the source is gone"))?;
        let handle = server.accept().wait()?.open().wait()?;
        Ok(Reads { _engine: engine, handle, buf: vec![0; 1 << 16], how })
    };
    flood(place, size, SPAN, source, sink)
}

fn main() -> io::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(9);
    const BUFFERS: &str = "sndbuf=4MiB, rcvbuf=4MiB";
    let (one, batch) = (format!("udp({BUFFERS})"), format!("udp(batch, {BUFFERS})"));
    let queued = format!("queue(early, high=1MiB, batch=64KiB)/{batch}");
    for place in Placement::possible()?.into_iter().filter(|p| *p != Placement::Unpinned) {
        for size in [64, 1400] {
            let plain = |how| move || plain(place, size, SPAN, how);
            let mut all = vec![
                Contender::new("quinn-udp, GSO and GRO", plain(How::Segments)),
                Contender::new("plain, one by one", plain(How::One)),
                Contender::new("plain, sendmmsg", plain(How::Many)),
                Contender::new("udp, one by one", || ours(place, size, &one, &one, Ours::Single)),
                Contender::new("udp(batch), Segment", || ours(place, size, &batch, &batch, Ours::Batch)),
                Contender::new("queue/udp(batch), op each", || ours(place, size, &queued, &batch, Ours::Single)),
            ];
            let outcomes = interleave(rounds, 1, &mut all)?;
            report::rows(&format!("\"mode\": \"flood\", \"placement\": \"{place}\", \"size\": {size},"), &outcomes)?;
        }
    }
    Ok(())
}
