//! A handle as tokio's `AsyncRead` and `AsyncWrite`. Loses what [`super::StdIo`] loses. Runs on any
//! executor: the engine wakes the task.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::polled::Polled;
use crate::handle::Handle;

/// `AsyncRead` and `AsyncWrite` of tokio over a handle.
///
/// # Cancel safety
/// A read that is dropped half way loses nothing: what had arrived is the start of the next. A write
/// that is dropped may have been written.
pub struct TokioIo(Polled);

impl TokioIo {
    /// Wraps a handle.
    pub fn new(handle: Handle) -> Self {
        Self(Polled::new(handle))
    }

    /// The handle.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }
}

impl AsyncRead for TokioIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let bytes = ready!(self.get_mut().0.read(cx, buf.remaining()))?;
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TokioIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().0.write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.shutdown(cx)
    }
}

impl std::fmt::Debug for TokioIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokioIo({:?})", self.0.handle)
    }
}
