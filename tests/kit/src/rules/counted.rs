//! Attrs that are counted. Invariant: a counted attr answers everything as the one inside does, and each
//! copy of it is counted as well.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use xio_core::attr::Attr;
use xio_core::cntl::Cntl;
use xio_core::schema::{OptionSpec, Value};
use xio_core::{Contact, Error, LevelNode, Stack};

/// How many there are.
#[derive(Debug, Default)]
pub struct Census(AtomicUsize);

impl Census {
    /// Attrs that were made and not dropped.
    pub fn alive(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The tree of a stack with all its attrs counted.
pub fn counted(stack: &Stack, census: &Arc<Census>) -> LevelNode {
    node(stack, 0, census)
}

fn node(stack: &Stack, n: usize, census: &Arc<Census>) -> LevelNode {
    let views: Vec<_> = stack.levels().collect();
    let attr = Counted::new(views[n].attr().copy(), census);
    let mut out = LevelNode::new(views[n].driver().clone()).with_attr(Box::new(attr)).with_id(views[n].id());
    for (i, child) in views.iter().enumerate().filter(|(_, v)| v.above() == Some(n)) {
        let below = node(stack, i, census);
        out = match child.label() {
            Some(label) => out.branch(label, below),
            None => out.over(below),
        };
    }
    out
}

#[derive(Debug)]
struct Counted {
    inner: Box<dyn Attr>,
    census: Arc<Census>,
}

impl Counted {
    fn new(inner: Box<dyn Attr>, census: &Arc<Census>) -> Self {
        census.0.fetch_add(1, Ordering::Relaxed);
        Self { inner, census: census.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.census.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Attr for Counted {
    fn copy(&self) -> Box<dyn Attr> {
        Box::new(Self::new(self.inner.copy(), &self.census))
    }
    fn driver(&self) -> &'static str {
        self.inner.driver()
    }
    fn specs(&self) -> &'static [OptionSpec] {
        self.inner.specs()
    }
    fn set(&mut self, name: &str, value: Value) -> Result<(), Error> {
        self.inner.set(name, value)
    }
    fn value(&self, name: &str) -> Option<Value> {
        self.inner.value(name)
    }
    fn check(&self) -> Result<(), Error> {
        self.inner.check()
    }
    fn check_contact(&self, contact: &Contact) -> Result<(), Error> {
        self.inner.check_contact(contact)
    }
    fn cntl(&mut self, c: &mut Cntl<'_>) -> Result<(), Error> {
        self.inner.cntl(c)
    }
    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self.inner.as_any_mut()
    }
}
