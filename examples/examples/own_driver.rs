//! A driver of one's own: `sum`, which puts a checksum behind each message and notices what was changed on
//! the way; under a hundred lines, then a program that shows it over a level which changes things.
//!
//! `cargo run -p xio-examples --example own_driver`

use std::sync::Arc;

use bytes::BytesMut;
use xio_stacks::core::attr::Attr;
use xio_stacks::core::buffer::{Chunk, Piece};
use xio_stacks::core::caps::{Branch, Caps, Needs};
use xio_stacks::core::driver::{Info, Intercepts, Role, Shape, options};
use xio_stacks::core::op::{Read, Write};
use xio_stacks::core::schema::ValueKind;
use xio_stacks::core::{Cx, Driver, Flow, Level, Op};
use xio_stacks::prelude::*;

// The options as a struct, with defaults and docs: what a spec may write and `xio drivers` shows.
xio_stacks::core::options! {
    /// Options of the `sum` driver.
    pub struct Options for "sum" {
        /// Throw a changed message away and wait for the next, rather than fail the read.
        skip, with_skip: bool = false, ValueKind::Bool;
    }
}
const INFO: Info = Info::new("sum", Shape::Transform, "a checksum behind each message").with_options(Options::SPECS);

/// The driver: one value for all stacks, without state.
struct Sum;
impl Driver for Sum {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }
    // Over a stream it is refused before anything is opened.
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::MESSAGE
    }
    // It gives what lies below, two bytes shorter, and not all of it where messages are thrown away.
    fn caps(&self, attr: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        let mut caps = below.first().map(|b| b.caps.clone()).ok_or(ErrorKind::Misfit)?;
        caps.max_message = caps.max_message.map(|n| n.saturating_sub(2));
        caps.reliable &= !options::<Options>(attr).skip;
        Ok(caps)
    }
    // Only what is named here is called, and costs. Several writes may be under way; reads wait in line.
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::WRITE | Intercepts::CONCURRENT_WRITES | Intercepts::READ | Intercepts::READ_DONE
    }
    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(SumLevel { skip: options::<Options>(attr).skip, rest: Chunk::default() }))
    }
}

/// The level: one for each open handle. Its methods run under the handle's lock and never block.
struct SumLevel {
    skip: bool,
    rest: Chunk, // what did not fit the last reader's buffer
}
impl Level for SumLevel {
    // Other pieces go down in place of the owner's, which count as written when these have gone.
    fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let sum = checksum(op.pieces().iter().flat_map(|p| p.iter()));
        let mut pieces = op.share();
        pieces.push(Piece::inline(&sum));
        op.pass_with(pieces)
    }
    // Down: take the message as the driver below has it, rather than fill the reader's buffer.
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if self.rest.is_empty() { op.pass_take(1, usize::MAX) } else { self.give(op) }
    }
    // Up: an error goes on as it is. Never index by what a peer sent: it may have sent less.
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if op.error().is_some() {
            return op.finished();
        }
        let mut all: BytesMut = op.below().chunks.into_iter().flat_map(Chunk::into_bytes).collect();
        let theirs = all.split_off(all.len().saturating_sub(2));
        if theirs[..] == checksum(all.iter()) {
            self.rest = all.freeze().into();
            return self.give(op);
        }
        // Down once more, or up with an error, to which the engine adds the level and the stack.
        if self.skip { op.pass_take(1, usize::MAX) } else { op.failed(ErrorKind::Protocol) }
    }
}
impl SumLevel {
    // What does not fit is told with the length, and stays for the next read.
    fn give<'o>(&mut self, mut op: Op<'o, Read>) -> Flow<'o> {
        let len = self.rest.len();
        op.put_chunk(&mut self.rest);
        if self.rest.is_empty() { op.finished() } else { op.failed(ErrorKind::Truncated { len }) }
    }
}
/// Fletcher's checksum (RFC 1146).
fn checksum<'a>(bytes: impl Iterator<Item = &'a u8>) -> [u8; 2] {
    bytes.fold([0, 0], |[a, b], x| {
        let a = (u16::from(a) + u16::from(*x)) % 255;
        [a as u8, ((u16::from(b) + a) % 255) as u8]
    })
}

// Ten messages, of which `fault` changes a bit of about every second one. No changed one arrives.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::with_defaults().with(Arc::new(Sum))?;
    let stack = registry.stack("sum(skip)/fault(corrupt=0.5, on=write)/loop(message)")?;
    let engine = Engine::new()?;
    let server = engine.listen(&stack, Contact::new("here")).wait()?;
    let client = engine.open(&stack, Contact::new("here")).wait()?;
    let served = server.accept().wait()?.open().wait()?;
    for i in 0..10 {
        client.write(format!("message {i}")).wait()?;
    }
    client.close().wait()?;
    while let Ok(message) = served.take(1024).wait() {
        let message = message.into_bytes();
        println!("{message:?} came through");
        assert!(message.starts_with(b"message "));
    }
    Ok(())
}
