//! The second process of the demo: listens, takes one connection, sends everything back.
//! It says on stdout, a JSON object a line, where it listens, then what it has seen, or what went
//! wrong; it ends when its stdin does.

use std::io::{self, Read, Write};

use bytes::Bytes;
use serde_json::{Value, json};
use xio_stacks::core::caps::Caps;
use xio_stacks::{Contact, Engine, Handle, Registry};

use crate::exit::{Failure, Outcome, failed};
use crate::relay;
use crate::stats::Levels;

use super::{LONG, SETUP_TIME, Sum};

/// The second process of the demo.
#[derive(clap::Args)]
pub(crate) struct Peer {
    spec: String,
    contact: String,
    /// Bytes that will come.
    len: u64,
}

impl Peer {
    pub(crate) fn run(&self) -> Outcome {
        // Whoever started this has gone when its end of the pipe has.
        std::thread::Builder::new()
            .spawn(|| {
                let _ = io::stdin().read(&mut [0]);
                std::process::exit(1);
            })
            .map_err(failed("cannot start a thread"))?;
        let end = self.serve();
        if let Err(f) = end {
            tell(&json!({ "error": f.to_string() }))?;
            return Err(Failure::Said);
        }
        Ok(())
    }

    fn serve(&self) -> Outcome {
        let stack = Registry::with_defaults().stack(&self.spec)?;
        let contact: Contact = self.contact.parse()?;
        let engine = Engine::new()?;
        let server = engine.listen(&stack, contact).deadline(SETUP_TIME).wait()?;
        tell(&json!({ "contact": server.contact().to_string() }))?;
        let link = server.accept().deadline(SETUP_TIME).wait()?;
        let handle = link.open().deadline(SETUP_TIME).with_stats().wait()?;
        let mut sum = Sum::default();
        let moved = back(&handle, &handle.caps(), self.len, &mut sum)?;
        tell(&json!({ "bytes": moved, "sha256": sum.text(), "levels": Levels::of(&handle).json() }))?;
        relay::close(&handle)
    }
}

/// Sends `len` bytes back as they come, uncopied; says how many came.
fn back(handle: &Handle, caps: &Caps, len: u64, sum: &mut Sum) -> Outcome<u64> {
    let most = if caps.unit.has_borders() { usize::MAX } else { LONG };
    let mut moved = 0;
    while moved < len {
        let done = handle.take(most).wait().map_err(|f| f.error)?;
        moved += done.n as u64;
        let pieces: Vec<Bytes> = done.chunks.into_iter().map(|c| c.into_bytes()).collect();
        pieces.iter().for_each(|p| sum.add(p));
        handle.write(pieces).wait().map_err(|f| f.error)?;
    }
    handle.flush().wait()?;
    Ok(moved)
}

fn tell(line: &Value) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
