//! tokio's `UdpSocket`, an op a datagram. Invariant: each end has a runtime of its own on its own thread, which
//! enters it once for many datagrams, as a program of tokio's would.

use std::io;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Runtime};
use xio_peers::buffer::PageBuf;
use xio_peers::floods::{self, Sink};
use xio_peers::placement::Placement;
use xio_peers::sample::Sample;

/// Datagrams that are sent, and at most received, before the runtime is left.
const TURN: usize = 64;

struct End {
    runtime: Runtime,
    sock: UdpSocket,
    buf: PageBuf,
}

impl End {
    fn new(sock: std::net::UdpSocket, size: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        sock.set_nonblocking(true)?;
        let sock = {
            let _inside = runtime.enter();
            UdpSocket::from_std(sock)?
        };
        Ok(Self { runtime, sock, buf: PageBuf::new(size) })
    }
}

impl floods::Source for End {
    fn send(&mut self) -> io::Result<()> {
        self.runtime.block_on(async {
            for _ in 0..TURN {
                self.sock.send(&self.buf).await?;
            }
            Ok(())
        })
    }

    fn mark(&mut self) -> io::Result<()> {
        match self.runtime.block_on(self.sock.send(&[0])) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            sent => sent.map(drop),
        }
    }
}

impl Sink for End {
    fn take(&mut self) -> io::Result<usize> {
        self.runtime.block_on(async {
            let mut n = self.sock.recv(&mut self.buf).await?;
            for came in 0..TURN {
                if n == 1 {
                    return Ok(0);
                }
                n = match self.sock.try_recv(&mut self.buf) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(came + 1),
                    came => came?,
                };
            }
            // One more than was asked for; the mark comes again.
            Ok(TURN + usize::from(n != 1))
        })
    }
}

/// A flood for so long.
pub fn flood(placement: Placement, size: usize, span: Duration) -> io::Result<Sample> {
    let (a, b) = floods::pair()?;
    floods::flood(placement, size, span, move || End::new(a, size), move || End::new(b, 1 << 16))
}

/// So many datagrams sent and received, one after the other, on one thread.
pub fn count(size: usize, ops: usize) -> io::Result<()> {
    let (a, b) = floods::pair()?;
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        a.set_nonblocking(true)?;
        b.set_nonblocking(true)?;
        let (a, b) = (UdpSocket::from_std(a)?, UdpSocket::from_std(b)?);
        let (from, mut to) = (PageBuf::new(size), PageBuf::new(size));
        for _ in 0..ops {
            a.send(&from).await?;
            b.recv(&mut to).await?;
        }
        Ok(())
    })
}
