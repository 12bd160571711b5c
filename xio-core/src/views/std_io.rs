//! A handle as `std::io::Read` and `Write`. Loses attrs, message borders on reads of small buffers
//! (the rest of a message is the next read), and the difference between an end of stream and zero
//! bytes.

use std::io;

use crate::error::{Error, ErrorKind};
use crate::handle::Handle;

/// Blocking `Read` and `Write` over a handle.
///
/// `flush` flushes every level. Dropping it does not close the handle while a clone lives.
#[derive(Clone, Debug)]
pub struct StdIo(Handle);

impl StdIo {
    /// Wraps a handle.
    pub fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// The handle.
    pub fn handle(&self) -> &Handle {
        &self.0
    }

    /// The handle again.
    pub fn into_inner(self) -> Handle {
        self.0
    }
}

impl io::Read for StdIo {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read_into(buf).wait() {
            Ok(n) => Ok(n),
            Err(e) => end_or_error(&e),
        }
    }
}

impl io::Write for StdIo {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(self.0.write_from(buf).wait()?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.0.flush().wait()?)
    }
}

/// What these traits make of an error: an end of stream is zero bytes, a message that did not fit
/// gives its first part.
pub(super) fn end_or_error(e: &Error) -> io::Result<usize> {
    match e.kind() {
        ErrorKind::Eof => Ok(usize::try_from(e.moved()).unwrap_or(0)),
        ErrorKind::Truncated { .. } if e.moved() > 0 => Ok(usize::try_from(e.moved()).unwrap_or(0)),
        _ => Err(e.clone().into()),
    }
}
