//! The level of a probe. Invariant: it passes every op as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs, Unit};
use xio_core::driver::{Info, Intercepts, OpKind, Role, Shape};
use xio_core::op::{Accept, Close, Flush, Kind, Listen, Open, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};

use super::{Event, MAX_EVENTS, Mark, Probes, Side};

xio_core::options! {
    /// A probe has none.
    pub struct ProbeOptions for "probe" {}
}

/// Name of its driver.
pub(crate) const NAME: &str = "probe";

const INFO: Info = Info::new(NAME, Shape::Transform, "checks how ops pass between two levels");

pub(super) struct ProbeDriver {
    pub(super) probes: Probes,
    pub(super) side: Side,
    pub(super) above: usize,
    pub(super) name: Arc<str>,
}

impl xio_core::Driver for ProbeDriver {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(ProbeOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::WORD | crate::nop::everything()
    }
    fn level(&self, _: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Probe {
            probes: self.probes.clone(),
            side: self.side,
            above: self.above,
            name: self.name.clone(),
            role,
            borders: false,
            resets: false,
            open: false,
            closing: false,
            eof: false,
            next: 0,
            last_read: 0,
            below: BTreeMap::new(),
        }))
    }
}

/// An op below the boundary.
struct Below {
    kind: OpKind,
    room: usize,
    wanted: usize,
    got: usize,
    len: usize,
    sum: u64,
}

struct Probe {
    probes: Probes,
    side: Side,
    above: usize,
    name: Arc<str>,
    role: Role,
    borders: bool,
    resets: bool,
    open: bool,
    closing: bool,
    eof: bool,
    next: u64,
    last_read: u64,
    below: BTreeMap<u64, Below>,
}

impl Probe {
    fn complain(&self, rule: &'static str, text: &str) {
        let role = if self.role == Role::Server { " of the server" } else { "" };
        self.probes.complain(rule, format!("above `{}` ({:?} end{role}): {text}", self.name, self.side));
    }

    /// An op goes down.
    fn down<K: Kind>(&mut self, cx: &Cx<'_>, op: &mut Op<'_, K>, mut what: Below) {
        let old = std::mem::take(cx.word(op));
        if self.below.contains_key(&old) {
            // A link that joined an open handle sends its accept down again.
            if K::KIND != OpKind::Accept {
                self.complain("A3", &format!("a {} that had gone down came down again", K::KIND));
            }
            self.below.remove(&old);
        }
        self.may_enter(K::KIND);
        self.next += 1;
        let number = self.next;
        *cx.word(op) = number;
        what.kind = K::KIND;
        let bytes = if K::KIND == OpKind::Read { what.room } else { what.len };
        self.below.insert(number, what);
        self.note(op, false, number, None, bytes);
    }

    /// Whether an op of this kind may go down now.
    fn may_enter(&mut self, kind: OpKind) {
        match kind {
            OpKind::Open | OpKind::Listen => {
                if self.open {
                    self.complain("B3", &format!("a second {kind} came to a level that is open"));
                }
                self.closing = false;
                self.eof = false;
            }
            OpKind::Close => {
                if !self.open {
                    self.complain("B1", "a close came to a level that is not open");
                }
                if self.closing {
                    self.complain("B1", "a second close came");
                }
                let others = self.below.values().map(|b| b.kind.name()).collect::<Vec<_>>();
                if !others.is_empty() {
                    self.complain("B4", &format!("a close came while these were below: {}", others.join(", ")));
                }
                self.closing = true;
            }
            _ => {
                if self.closing {
                    self.complain("B3", &format!("a {kind} came after the close had begun"));
                } else if !self.open {
                    self.complain("B3", &format!("a {kind} came before the open had finished"));
                }
            }
        }
    }

    /// An op comes up.
    fn up<K: Kind>(&mut self, cx: &Cx<'_>, op: &mut Op<'_, K>) -> Option<(u64, Below)> {
        let number = std::mem::take(cx.word(op));
        let Some(was) = self.below.remove(&number) else {
            self.complain("A3", &format!("a {} came up that had not gone down", K::KIND));
            return None;
        };
        if was.kind != K::KIND {
            self.complain("A3", &format!("a {} came up as a {}", was.kind, K::KIND));
        }
        let error = op.error().map(Error::kind);
        if let Some(kind @ (ErrorKind::NoProgress | ErrorKind::Contract)) = error {
            let text = format!("a {} came up as {kind:?}: {}", K::KIND, op.error().map_or("", Error::what));
            self.complain("A2", &text);
        }
        if error == Some(ErrorKind::Dropped) {
            self.complain("A6", &format!("a {} came up dropped by {:?}", K::KIND, op.error().and_then(Error::driver)));
        }
        Some((number, was))
    }

    fn note<K: Kind>(&self, op: &Op<'_, K>, up: bool, number: u64, error: Option<ErrorKind>, bytes: usize) {
        let mut seen = self.probes.lock();
        let counts = if up { &mut seen.up } else { &mut seen.down };
        counts[K::KIND as usize] += 1;
        if seen.record && seen.events.len() < MAX_EVENTS {
            let mark = op.attrs().find::<Mark>().map(|m| m.0);
            seen.events.push(Event {
                side: self.side,
                above: self.above,
                kind: K::KIND,
                up,
                number,
                mark,
                error,
                bytes,
            });
        }
    }

    /// What a read came to.
    fn check_read(&mut self, op: &Op<'_, Read>, number: u64, was: &Below) -> usize {
        let n = op.got().saturating_sub(was.got);
        let error = op.error().map(Error::kind);
        if n > was.room {
            self.complain("C2", &format!("a read with room for {} has {n} bytes", was.room));
        }
        if error.is_none() && !self.borders && n < was.wanted.min(was.room) {
            // A success that moved nothing at all is not even an answer.
            let rule = if n == 0 { "A2" } else { "C2" };
            self.complain(rule, &format!("a read that waits for {} succeeded with {n} bytes", was.wanted));
        }
        if self.eof && !self.resets && (n > 0 || error.is_none() && was.room > 0 && was.wanted > 0) {
            self.complain("D2", &format!("a read of {n} bytes came after an end of stream"));
        }
        if error == Some(ErrorKind::Eof) {
            self.eof = true;
        }
        if error.is_none() && !self.borders && n > 0 {
            if number < self.last_read {
                self.complain("C10", &format!("read {number} ended after read {}", self.last_read));
            }
            self.last_read = number;
        }
        n
    }

    /// What a write came to.
    fn check_write(&mut self, op: &Op<'_, Write>, was: &Below) -> usize {
        let (n, len) = (op.moved(), op.len());
        if (len, sum(op)) != (was.len, was.sum) {
            let text =
                if len == was.len { "other bytes".into() } else { format!("{len} bytes instead of {}", was.len) };
            self.complain("C7", &format!("a write came up with {text}"));
        } else if n > len || op.error().is_none() && n < len {
            self.complain("C6", &format!("a write of {len} bytes came up as {n}"));
        }
        n
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let left: Vec<_> = self.below.values().map(|b| b.kind.name()).collect();
        let orderly = !self.probes.lock().may_kill && !std::thread::panicking();
        if orderly && !left.is_empty() {
            self.complain("A1", &format!("these never came up: {}", left.join(", ")));
        }
    }
}

fn plain() -> Below {
    Below { kind: OpKind::Open, room: 0, wanted: 0, got: 0, len: 0, sum: 0 }
}

/// Fingerprint of all pieces of a write (FNV-1a).
fn sum(op: &Op<'_, Write>) -> u64 {
    let bytes = op.pieces().iter().flat_map(|p| p.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

macro_rules! plain {
    ($($K:ident $down:ident $done:ident;)+) => {$(
        fn $down<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, $K>) -> Flow<'o> {
            self.down(cx, &mut op, plain());
            op.pass()
        }
        fn $done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, $K>) -> Flow<'o> {
            if let Some((number, _)) = self.up(cx, &mut op) {
                let error = op.error().map(Error::kind);
                self.note(&op, true, number, error, 0);
            }
            op.finished()
        }
    )+};
}

impl Level for Probe {
    fn open<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        if let Some(c) = cx.caps_below() {
            self.borders = c.unit != Unit::Stream;
            self.resets = c.eof_resets;
        }
        self.down(cx, &mut op, plain());
        op.pass()
    }
    fn open_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Open>) -> Flow<'o> {
        let error = op.error().map(Error::kind);
        self.open = error.is_none();
        if let Some((number, _)) = self.up(cx, &mut op) {
            self.note(&op, true, number, error, 0);
        }
        op.finished()
    }
    fn listen<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        self.down(cx, &mut op, plain());
        op.pass()
    }
    fn listen_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
        let error = op.error().map(Error::kind);
        self.open = error.is_none();
        if let Some((number, _)) = self.up(cx, &mut op) {
            self.note(&op, true, number, error, 0);
        }
        op.finished()
    }
    fn close<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        let what = Below { len: op.mode() as usize, ..plain() };
        self.down(cx, &mut op, what);
        op.pass()
    }
    fn close_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Close>) -> Flow<'o> {
        self.open = false;
        if let Some((number, _)) = self.up(cx, &mut op) {
            let error = op.error().map(Error::kind);
            self.note(&op, true, number, error, 0);
        }
        op.finished()
    }
    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let what = Below { room: op.room(), wanted: op.wanted(), got: op.got(), ..plain() };
        self.down(cx, &mut op, what);
        op.pass()
    }
    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if let Some((number, was)) = self.up(cx, &mut op) {
            let n = self.check_read(&op, number, &was);
            let error = op.error().map(Error::kind);
            self.note(&op, true, number, error, n);
        }
        op.finished()
    }
    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let what = Below { len: op.len(), sum: sum(&op), ..plain() };
        self.down(cx, &mut op, what);
        op.pass()
    }
    fn write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        if let Some((number, was)) = self.up(cx, &mut op) {
            let n = self.check_write(&op, &was);
            let error = op.error().map(Error::kind);
            self.note(&op, true, number, error, n);
        }
        op.finished()
    }
    plain! {
        Flush flush flush_done;
        Shutdown shutdown shutdown_done;
        Ready ready ready_done;
        Accept accept accept_done;
    }
}
