//! The level that has nothing below it and needs nothing.

use std::sync::Arc;

use bytes::Bytes;
use xio_core::attr::Attr;
use xio_core::buffer::Chunk;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::op::{Accept, Read, Ready, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};

use super::Options;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The `void` driver.
#[derive(Debug)]
pub struct Driver;

const INFO: Info = Info::new(Options::DRIVER, Shape::Transport, "swallows writes, reads zeros at once; for measuring")
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
        Needs::NOTHING
    }

    fn caps(&self, attr: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        let base = if options::<Options>(attr).message { Caps::message() } else { Caps::stream() };
        let mut caps = base;
        caps.accepts = false;
        Ok(caps)
    }

    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::READ
            | Intercepts::WRITE
            | Intercepts::READY
            | Intercepts::ACCEPT
            | Intercepts::CONCURRENT_READS
            | Intercepts::CONCURRENT_WRITES
            | Intercepts::BATCHES
    }

    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        let o = options::<Options>(attr);
        let size = usize::try_from(o.size.0).unwrap_or(usize::MAX);
        let message = if o.message { Some(zeros(size)?) } else { None };
        Ok(Box::new(Void { message }))
    }
}

/// So many bytes; the user says how many, so there may be no memory for them.
fn zeros(size: usize) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    let none = |_| Error::new(ErrorKind::Exhausted).detail(format!("no memory for messages of {size} bytes"));
    bytes.try_reserve_exact(size).map_err(none)?;
    bytes.resize(size, 0);
    Ok(bytes.into())
}

struct Void {
    /// What each read gets, on message stacks.
    message: Option<Bytes>,
}

impl Level for Void {
    fn read<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        match &self.message {
            None if op.is_take() => {
                let mut chunk = Chunk::from(Bytes::from_static(&ZEROS));
                op.put_chunk(&mut chunk);
            }
            None => while op.room() > 0 && op.put(&ZEROS) > 0 {},
            Some(m) => {
                let mut chunk = Chunk::from(m.clone());
                op.put_chunk(&mut chunk);
                if !chunk.is_empty() {
                    return op.failed(ErrorKind::Truncated { len: m.len() });
                }
            }
        }
        op.finished()
    }

    fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        op.take_all();
        op.finished()
    }

    fn ready<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Ready>) -> Flow<'o> {
        op.finished()
    }

    fn accept<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Accept>) -> Flow<'o> {
        op.failed(Error::new(ErrorKind::Unsupported).detail("nobody ever connects to `void`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_no_memory_holds_are_refused() {
        assert_eq!(zeros(usize::MAX).unwrap_err().kind(), ErrorKind::Exhausted);
        assert_eq!(zeros(3).unwrap(), [0; 3][..]);
    }
}
