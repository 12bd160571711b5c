//! Plain sockets that put a header of four bytes before each message: what a frame costs without a
//! framework. Two things beside the bytes make it dearer than a plain `send`: `sendmsg` costs the system
//! more, and bodies no longer lie in the system's pages as they lie in the sender's, which some CPUs'
//! string copies punish by an order of magnitude where the two are 1 to 15 bytes apart modulo 4096.
//!
//! Invariant: pair, clock, warm-up and sink are those of [`crate::raw::stream`]; only the write differs.
//!
//! Does not: read headers.

use std::io::{self, IoSlice, Write as _};
use std::net::TcpStream;

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::buffer::{PAGE, PageBuf};
use crate::placement::Placement;
use crate::raw::sample_stream;
use crate::sample::Sample;

/// Bytes before each message.
pub const HEADER: usize = 4;

/// How header and body leave together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lead {
    /// As two pieces of one `sendmsg`.
    Pieces,
    /// Copied into one run of memory, for one `send`. The body lies half a page off the sender's.
    Copied,
}

impl Lead {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Pieces, Self::Copied];

    /// A name for output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pieces => "header, sendmsg",
            Self::Copied => "header, copy, send",
        }
    }
}

/// [`crate::raw::stream`] with a header before each message.
///
/// # Errors
///
/// Those of [`crate::raw::stream`].
pub fn stream(placement: Placement, size: usize, messages: usize, recv_size: usize, lead: Lead) -> io::Result<Sample> {
    sample_stream(placement, size, messages, recv_size, HEADER, || {
        let mut writer = Writer::new(size, lead);
        move |sock: &TcpStream, messages| (0..messages).try_for_each(|_| writer.write(sock))
    })
}

struct Writer {
    lead: Lead,
    body: PageBuf,
    run: PageBuf,
}

impl Writer {
    /// Where the run starts.
    const AT: usize = PAGE / 2 - HEADER;

    fn new(size: usize, lead: Lead) -> Self {
        Self { lead, body: PageBuf::new(size), run: PageBuf::new(Self::AT + HEADER + size) }
    }

    fn write(&mut self, mut sock: &TcpStream) -> io::Result<()> {
        // Longer bodies than four bytes can say are none of this measurement's.
        let header = u32::try_from(self.body.len()).unwrap_or(u32::MAX).to_be_bytes();
        if self.lead == Lead::Copied {
            let run = &mut self.run[Self::AT..];
            run[..HEADER].copy_from_slice(&header);
            run[HEADER..].copy_from_slice(&self.body);
            return sock.write_all(run);
        }
        let mut none = SendAncillaryBuffer::default();
        let parts = [IoSlice::new(&header), IoSlice::new(&self.body)];
        let sent = sendmsg(sock, &parts, &mut none, SendFlags::NOSIGNAL)?;
        // A blocking socket takes all but where a signal comes between.
        match sent.checked_sub(HEADER) {
            Some(n) => sock.write_all(&self.body[n..]),
            None => {
                sock.write_all(&header[sent..])?;
                sock.write_all(&self.body)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::loopback_pair;
    use std::io::Read as _;

    #[test]
    fn both_ways_send_the_same_bytes() {
        let sent = Lead::ALL.map(|lead| {
            let (a, mut b) = loopback_pair().unwrap();
            let mut writer = Writer::new(100, lead);
            writer.write(&a).unwrap();
            writer.write(&a).unwrap();
            drop(a);
            let mut all = Vec::new();
            b.read_to_end(&mut all).unwrap();
            all
        });
        assert_eq!(sent[0], sent[1]);
        assert_eq!((sent[0].len(), &sent[0][..5], sent[0][104]), (208, &[0, 0, 0, 100, 7][..], 0));
    }

    #[test]
    fn framed_streams_measure() {
        for lead in Lead::ALL {
            let s = stream(Placement::Unpinned, 64, 200, 65536, lead).unwrap();
            assert!(s.ns_per_op > 0.0 && s.cpu_ns_per_op > 0.0, "{lead:?}: {s:?}");
        }
    }
}
