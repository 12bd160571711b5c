//! A driver round another: every call of the levels it makes is counted, and the n-th fails before it
//! reaches them. Invariant: it has the name, the attr, the caps and the place of the driver inside, so
//! it can stand for it in any stack.

use std::sync::Arc;

use xio_core::attr::{Attr, OpAttrs};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::Cntl;
use xio_core::cx::Event;
use xio_core::driver::{Driver, Info, Intercepts, LinkPart, OpKind, Role};
use xio_core::io::IoDone;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Accept, Close, Flush, Kind, Listen, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{Contact, Cx, Error, Flow, Level, Op};

use super::{Fault, Faults};
use crate::canary::{Bird, Canary, Nest};

impl Faults {
    /// A driver that stands for `inner`. The n-th call of a method of its levels fails: with an error
    /// where the method answers an op (not a close), else only where the fault is a panic.
    pub fn around(&self, inner: Arc<dyn Driver>) -> Arc<dyn Driver> {
        Arc::new(Around { inner, faults: self.clone(), nest: Nest::default() })
    }
}

impl Nest {
    /// A driver that stands for `inner`, each level of which has a bird in this nest.
    pub fn around(&self, inner: Arc<dyn Driver>) -> Arc<dyn Driver> {
        Arc::new(Around { inner, faults: Faults::new(0, Fault::Panic), nest: self.clone() })
    }
}

struct Around {
    inner: Arc<dyn Driver>,
    faults: Faults,
    nest: Nest,
}

impl Driver for Around {
    fn info(&self) -> &Info {
        self.inner.info()
    }
    fn attr(&self) -> Box<dyn Attr> {
        self.inner.attr()
    }
    fn needs(&self, attr: &dyn Attr) -> Needs {
        self.inner.needs(attr)
    }
    fn caps(&self, attr: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        self.inner.caps(attr, below)
    }
    fn intercepts(&self, attr: &dyn Attr, role: Role) -> Intercepts {
        self.inner.intercepts(attr, role)
    }
    fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        let inner = self.inner.level(attr, role)?;
        let (bird, canary) = Canary::new();
        self.nest.add(canary);
        Ok(Box::new(Within { inner, faults: self.faults.clone(), _bird: bird }))
    }
    fn op_cntl(&self, attrs: &mut OpAttrs, c: &mut Cntl<'_>) -> Result<(), Error> {
        self.inner.op_cntl(attrs, c)
    }
    fn link_cntl(&self, part: &mut LinkPart, c: &mut Cntl<'_>) -> Result<(), Error> {
        self.inner.link_cntl(part, c)
    }
    fn is_self(&self, attr: &dyn Attr, contact: &Contact) -> Option<bool> {
        self.inner.is_self(attr, contact)
    }
}

struct Within {
    inner: Box<dyn Level>,
    faults: Faults,
    _bird: Bird,
}

impl Within {
    fn fault<K: Kind>(&self, cx: &Cx<'_>, op: &Op<'_, K>, method: &str) -> Option<Error> {
        if op.error().is_some() || K::KIND == OpKind::Close || method.starts_with("own_") {
            // Only a panic can hit these: a close that fails here would leave what is below open, and who
            // asked for an own op would never hear of it.
            self.panics(cx, Some(K::KIND), method);
            return None;
        }
        self.faults.call(Some(K::KIND), || format!("in `{method}` of `{}`", cx.id()))
    }

    fn panics(&self, cx: &Cx<'_>, kind: Option<OpKind>, method: &str) {
        if self.faults.is_panic() {
            let _ = self.faults.call(kind, || format!("in `{method}` of `{}`", cx.id()));
        }
    }
}

macro_rules! ops {
    ($($K:ident $method:ident;)+) => {$(
        fn $method<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            match self.fault(cx, &op, stringify!($method)) {
                Some(e) => op.failed(e),
                None => self.inner.$method(cx, op),
            }
        }
    )+};
}

impl Level for Within {
    ops! {
        Open open; Open open_done; Open own_open_done;
        Close close; Close close_done; Close own_close_done;
        Read read; Read read_done; Read read_worked; Read own_read_done;
        Write write; Write write_done; Write write_worked; Write own_write_done;
        Flush flush; Flush flush_done; Flush own_flush_done;
        Shutdown shutdown; Shutdown shutdown_done; Shutdown own_shutdown_done;
        Ready ready; Ready ready_done; Ready own_ready_done;
        Accept accept; Accept accept_done; Accept own_accept_done;
        Listen listen; Listen listen_done; Listen own_listen_done;
    }

    fn io_done(&mut self, cx: &mut Cx<'_>, tag: u32, done: IoDone) {
        self.panics(cx, None, "io_done");
        self.inner.io_done(cx, tag, done);
    }
    fn timer(&mut self, cx: &mut Cx<'_>, tag: u32) {
        self.panics(cx, None, "timer");
        self.inner.timer(cx, tag);
    }
    fn woken(&mut self, cx: &mut Cx<'_>) {
        self.panics(cx, None, "woken");
        self.inner.woken(cx);
    }
    fn event(&mut self, cx: &mut Cx<'_>, event: &Event) -> bool {
        self.panics(cx, None, "event");
        self.inner.event(cx, event)
    }
    fn cancel(&mut self, cx: &mut Cx<'_>, id: OpId, reason: Reason) -> Cancel {
        self.panics(cx, None, "cancel");
        self.inner.cancel(cx, id, reason)
    }
    fn cntl(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        self.inner.cntl(cx, c)
    }
    fn is_ours(&self) -> bool {
        self.inner.is_ours()
    }
    fn same_peer(&self, contact: &Contact) -> Option<bool> {
        self.inner.same_peer(contact)
    }
}
