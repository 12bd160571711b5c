//! A level that keeps its accounts where other processes reach them: what the rule about forks runs on in
//! simulation. Invariant: each write is entered once, in a file without a name that children of this process
//! have as well; who is not the one who opened it is refused.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{pread, pwrite};
use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape};
use xio_core::op::{Read, Write};
use xio_core::{Cx, Driver, Error, ErrorKind, Flow, Level, Op};

xio_core::options! {
    /// It has none.
    pub struct LedgerOptions for "ledger" {}
}

const INFO: Info = Info::new("ledger", Shape::Transform, "enters each write in memory that processes share");

/// The driver.
pub fn ledger() -> Arc<dyn Driver> {
    Arc::new(Ledger { trusts: false })
}

/// One that trusts whoever comes: what E12 must find.
pub(crate) fn trusting() -> Arc<dyn Driver> {
    Arc::new(Ledger { trusts: true })
}

struct Ledger {
    trusts: bool,
}

impl Driver for Ledger {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(LedgerOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::STREAM
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        let mut caps = below.first().map(|b| b.caps.clone()).ok_or(ErrorKind::Misfit)?;
        caps.shared_memory = true;
        Ok(caps)
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::NONE,
            Role::Handle => {
                Intercepts::READ | Intercepts::WRITE | Intercepts::CONCURRENT_READS | Intercepts::CONCURRENT_WRITES
            }
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        let book = memfd_create("ledger", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        Ok(Box::new(Clerk { book, owner: std::process::id(), entries: 0, trusts: self.trusts }))
    }
}

struct Clerk {
    book: OwnedFd,
    owner: u32,
    /// What it has entered itself.
    entries: u64,
    trusts: bool,
}

impl Clerk {
    fn ask(&self) -> Result<(), Error> {
        let me = std::process::id();
        if me == self.owner || self.trusts {
            return Ok(());
        }
        let text = format!("the handle belongs to process {}, this is process {me}", self.owner);
        Err(Error::new(ErrorKind::Unsupported).detail(text))
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.ask()?;
        let mut count = [0; 8];
        pread(&self.book, &mut count, 0).map_err(std::io::Error::from)?;
        let entries = u64::from_be_bytes(count);
        if entries != self.entries {
            let text = format!("{entries} entries, {} of them its own", self.entries);
            return Err(Error::new(ErrorKind::Contract).detail(text));
        }
        self.entries += 1;
        pwrite(&self.book, &self.entries.to_be_bytes(), 0).map_err(std::io::Error::from)?;
        Ok(())
    }
}

impl Level for Clerk {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        match self.ask() {
            Ok(()) => op.pass(),
            Err(e) => op.failed(e),
        }
    }

    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        match self.enter() {
            Ok(()) => op.pass(),
            Err(e) => op.failed(e),
        }
    }
}
