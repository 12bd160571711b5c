//! A handle over branches and the peers of each.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::attr::Group;
use xio_core::driver::Driver;
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, ReadDone, Server, Stack};
use xio_drivers::{loop_, pick};

/// Long enough for anything that comes at all.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
pub(crate) const SHORT: Duration = Duration::from_millis(30);

/// A handle over `pick{a: loop, b: loop}`, and the peers of its branches.
pub(crate) struct Bed {
    pub(crate) engine: Engine,
    pub(crate) stack: Stack,
    pub(crate) servers: Vec<Server>,
    pub(crate) contact: Contact,
}

pub(crate) fn leaf(driver: &Arc<dyn Driver>, options: &loop_::Options) -> LevelNode {
    LevelNode::new(driver.clone()).with_attr(Box::new(options.clone()))
}

impl Bed {
    pub(crate) fn new(labels: &[&str], leaf_options: loop_::Options, options: pick::Options) -> Self {
        let engine = Engine::new().unwrap();
        let driver = loop_::driver();
        let mut top = LevelNode::new(pick::driver()).with_attr(Box::new(options));
        let mut contact = Contact::None;
        let mut servers = Vec::new();
        for l in labels {
            top = top.branch(*l, leaf(&driver, &leaf_options));
            let one = Stack::new(leaf(&driver, &leaf_options)).unwrap();
            servers.push(engine.listen(&one, Contact::new(format!("peer-{l}"))).wait().unwrap());
            contact = contact.with_branch(*l, Contact::new(format!("peer-{l}")));
        }
        Self { engine, stack: Stack::new(top).unwrap(), servers, contact }
    }

    pub(crate) fn messages() -> Self {
        Self::new(&["a", "b"], loop_::Options::default().with_message(true), pick::Options::default())
    }

    pub(crate) fn open(&self) -> (Handle, Vec<Handle>) {
        let h = self.engine.open(&self.stack, self.contact.clone()).deadline(LONG).wait().unwrap();
        let far = |s: &Server| s.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
        (h, self.servers.iter().map(far).collect())
    }
}

pub(crate) fn read(h: &Handle, room: usize) -> Result<(Bytes, Option<String>), ErrorKind> {
    let done = h.read(BytesMut::with_capacity(room)).deadline(LONG).wait().map_err(|f| f.kind())?;
    let label = label(&done);
    Ok((done.into_bytes(), label))
}

pub(crate) fn label(done: &ReadDone) -> Option<String> {
    done.attrs.find::<Group>().map(|g| g.0.clone())
}

pub(crate) fn group(l: &str) -> Group {
    Group(l.into())
}

pub(crate) fn got(text: &'static str, label: &str) -> Result<(Bytes, Option<String>), ErrorKind> {
    Ok((Bytes::from_static(text.as_bytes()), Some(label.into())))
}
