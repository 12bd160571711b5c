//! A driver of one's own: `xor`, which hides every byte with a key. It works over streams and
//! messages alike, since it never changes how many bytes there are.
//!
//! `cargo run -p xio-examples --example own_driver`

use std::sync::Arc;

use bytes::BytesMut;
use xio_stacks::core::attr::{Attr, Field};
use xio_stacks::core::buffer::{Piece, Pieces};
use xio_stacks::core::caps::{Branch, Caps, Needs};
use xio_stacks::core::driver::{Info, Intercepts, Role, Shape, options};
use xio_stacks::core::op::{Read, Write};
use xio_stacks::core::schema::ValueKind;
use xio_stacks::core::{Cx, Driver, Flow, Level, Op};
use xio_stacks::prelude::*;

xio_stacks::core::options! {
    /// Options of the `xor` driver.
    pub struct Options for "xor" {
        /// The byte that is mixed into every byte.
        key, with_key: u8 = 0x5a, ValueKind::Int { min: 0, max: 255 };
    }
}

struct Xor;

const INFO: Info = Info::new("xor", Shape::Transform, "hides every byte with a key").with_options(Options::SPECS);

impl Driver for Xor {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Handle => Intercepts::READ_DONE | Intercepts::WRITE | Intercepts::CONCURRENT_WRITES,
            Role::Server => Intercepts::NONE,
        }
    }
    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(XorLevel { key: options::<Options>(attr).key }))
    }
}

struct XorLevel {
    key: u8,
}

impl XorLevel {
    fn mix(&self, bytes: &[u8]) -> BytesMut {
        bytes.iter().map(|b| b ^ self.key).collect()
    }
}

impl Level for XorLevel {
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        // The caller's bytes stay as they are; mixed ones go down in their place.
        let mixed: Pieces = op.pieces().iter().map(|p| Piece::from(self.mix(p))).collect();
        op.pass_with(mixed)
    }

    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let got = op.got();
        let mixed = op.take_back(got);
        op.put(&self.mix(&mixed));
        op.finished()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut registry = Registry::with_defaults();
    registry.register(Arc::new(Xor))?;
    let stack = registry.stack("frame/xor(key=7)/loop")?;

    let engine = Engine::new()?;
    let server = engine.listen(&stack, Contact::new("secret")).wait()?;
    let client = engine.open(&stack, Contact::new("secret")).wait()?;
    let served = server.accept().wait()?.open().wait()?;

    client.write("nobody reads this on the way").wait()?;
    let got = served.take(1024).wait()?.into_bytes();
    println!("{got:?}");
    assert_eq!(got, "nobody reads this on the way");
    println!("key: {}", Options::default().key.to_value().expect("a key is always set"));
    Ok(())
}
