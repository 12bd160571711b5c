//! What the poll-based views share: at most one op of each kind under way, kept across polls.
//! Invariant: bytes that were received and did not fit the caller go back to the top of the stack.

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::std_io::end_or_error;
use crate::engine::future::OpFuture;
use crate::handle::Handle;
use crate::op::{Flush, Read, Shutdown, Write};

/// Most bytes one read or write moves.
const BLOCK: usize = 64 * 1024;

pub(super) struct Polled {
    pub(super) handle: Handle,
    read: Option<OpFuture<Read>>,
    write: Option<(OpFuture<Write>, usize)>,
    flush: Option<OpFuture<Flush>>,
    shutdown: Option<OpFuture<Shutdown>>,
}

impl Polled {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, read: None, write: None, flush: None, shutdown: None }
    }

    /// At most `room` bytes; none at the end of the stream.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<Bytes>> {
        let f =
            self.read.get_or_insert_with(|| self.handle.read(BytesMut::with_capacity(room.min(BLOCK))).into_future());
        let done = ready!(Pin::new(f).poll(cx));
        self.read = None;
        let (mut bytes, end) = match done {
            Ok(d) => (d.buf.freeze(), Ok(0)),
            Err(f) => (f.back.buf.freeze(), end_or_error(&f.error)),
        };
        if bytes.is_empty() {
            return Poll::Ready(end.map(|_| bytes));
        }
        if bytes.len() > room {
            // The caller came back with less room than it left with.
            self.handle.unread(bytes.split_off(room));
        }
        Poll::Ready(Ok(bytes))
    }

    pub(super) fn write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let (f, n) = self.write.get_or_insert_with(|| {
            let n = buf.len().min(BLOCK);
            (self.handle.write(BytesMut::from(&buf[..n])).into_future(), n)
        });
        let done = ready!(Pin::new(f).poll(cx));
        let n = *n;
        self.write = None;
        Poll::Ready(done.map(|_| n).map_err(|f| f.error.into()))
    }

    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let f = self.flush.get_or_insert_with(|| self.handle.flush().into_future());
        let done = ready!(Pin::new(f).poll(cx));
        self.flush = None;
        Poll::Ready(done.map_err(Into::into))
    }

    pub(super) fn shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let f = self.shutdown.get_or_insert_with(|| self.handle.shutdown().into_future());
        let done = ready!(Pin::new(f).poll(cx));
        self.shutdown = None;
        Poll::Ready(done.map_err(Into::into))
    }
}
