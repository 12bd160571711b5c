//! A handle as tokio's `AsyncRead` and `AsyncWrite`. Loses what [`super::StdIo`] loses. Runs on any
//! executor: the engine wakes the task.

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::std_io::end_or_error;
use crate::engine::submit::OpFuture;
use crate::handle::Handle;
use crate::op::{Flush, Read, Shutdown, Write};

/// Most bytes one read or write moves.
const BLOCK: usize = 64 * 1024;

/// `AsyncRead` and `AsyncWrite` over a handle.
///
/// # Cancel safety
/// A read that is dropped half way loses nothing: what had arrived is the start of the next. A write
/// that is dropped may have been written.
pub struct TokioIo {
    handle: Handle,
    read: Option<OpFuture<Read>>,
    write: Option<(OpFuture<Write>, usize)>,
    flush: Option<OpFuture<Flush>>,
    shutdown: Option<OpFuture<Shutdown>>,
}

impl TokioIo {
    /// Wraps a handle.
    pub fn new(handle: Handle) -> Self {
        Self { handle, read: None, write: None, flush: None, shutdown: None }
    }

    /// The handle.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl AsyncRead for TokioIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let room = buf.remaining().min(BLOCK);
        let f = me.read.get_or_insert_with(|| {
            let call = me.handle.read(BytesMut::with_capacity(room));
            IntoFuture::into_future(call)
        });
        let done = ready!(Pin::new(f).poll(cx));
        me.read = None;
        let (data, end) = match done {
            Ok(d) => (d, Ok(0)),
            Err(f) => (f.back, end_or_error(&f.error)),
        };
        let n = data.buf.len().min(buf.remaining());
        buf.put_slice(&data.buf[..n]);
        // The reader came back with a smaller buffer than it left with: keep the rest for it.
        if n < data.buf.len() {
            me.handle.unread(data.buf.freeze().slice(n..));
        }
        Poll::Ready(if n > 0 { Ok(()) } else { end.map(|_| ()) })
    }
}

impl AsyncWrite for TokioIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let n = buf.len().min(BLOCK);
        let (f, n) = me.write.get_or_insert_with(|| {
            let call = me.handle.write(BytesMut::from(&buf[..n]));
            (IntoFuture::into_future(call), n)
        });
        let done = ready!(Pin::new(f).poll(cx));
        let n = *n;
        me.write = None;
        Poll::Ready(match done {
            Ok(_) => Ok(n),
            Err(f) => Err(f.error.into()),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let f = me.flush.get_or_insert_with(|| IntoFuture::into_future(me.handle.flush()));
        let done = ready!(Pin::new(f).poll(cx));
        me.flush = None;
        Poll::Ready(done.map_err(Into::into))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let f = me.shutdown.get_or_insert_with(|| IntoFuture::into_future(me.handle.shutdown()));
        let done = ready!(Pin::new(f).poll(cx));
        me.shutdown = None;
        Poll::Ready(done.map_err(Into::into))
    }
}

impl std::fmt::Debug for TokioIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokioIo({:?})", self.handle)
    }
}
