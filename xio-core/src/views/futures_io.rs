//! A handle as the `AsyncRead` and `AsyncWrite` of futures-io. Loses what [`super::StdIo`] loses.
//! Runs on any executor: the engine wakes the task.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::polled::Polled;
use crate::handle::Handle;

/// `AsyncRead` and `AsyncWrite` of futures-io over a handle. Closing it ends the write side.
///
/// # Cancel safety
/// A read that is dropped half way loses nothing: what had arrived is the start of the next. A write
/// that is dropped may have been written.
pub struct FuturesIo(Polled);

impl FuturesIo {
    /// Wraps a handle.
    pub fn new(handle: Handle) -> Self {
        Self(Polled::new(handle))
    }

    /// The handle.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }
}

impl AsyncRead for FuturesIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.get_mut().0.read(cx, buf.len()))?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }
}

impl AsyncWrite for FuturesIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().0.write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.shutdown(cx)
    }
}

impl std::fmt::Debug for FuturesIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FuturesIo({:?})", self.0.handle)
    }
}
