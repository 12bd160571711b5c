//! Breaks the rules of group G: servers and links.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xio_core::attr::Attr;
use xio_core::buffer::Piece;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cx::Event;
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::{Accept, Close, Listen, Open, Read, Write};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::{Proof, SaboteurOptions};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    ("G1", Proof::Driver { make: starts_twice, also: &[] }),
    ("G2", Proof::Driver { make: loses_every_fifth_connection, also: &[] }),
    ("G3", Proof::Driver { make: has_its_own_word_for_cancelled, also: &[] }),
    ("G4", Proof::Driver { make: keeps_it_from_the_user, also: &[] }),
    ("G5", Proof::Driver { make: waits_for_a_greeting, also: &[] }),
    ("G6", Proof::Driver { make: forgets_who_came, also: &[] }),
    ("G7", Proof::Driver { make: ends_with_its_server, also: &[] }),
];

const INFO: Info = Info::new("saboteur", Shape::Transform, "breaks a rule about servers");

struct Serves<H, S> {
    sees: [Intercepts; 2],
    handle: H,
    server: S,
}

/// A transform over streams with a level for each role.
fn serves<A: Level + 'static, B: Level + 'static>(
    sees: [Intercepts; 2],
    handle: impl Fn() -> A + Send + Sync + 'static,
    server: impl Fn() -> B + Send + Sync + 'static,
) -> Subject {
    Subject::transform(Arc::new(Serves { sees, handle, server }))
}

impl<A, B, H, S> Driver for Serves<H, S>
where
    A: Level + 'static,
    B: Level + 'static,
    H: Fn() -> A + Send + Sync + 'static,
    S: Fn() -> B + Send + Sync + 'static,
{
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(SaboteurOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::STREAM
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Handle => self.sees[0],
            Role::Server => self.sees[1],
        }
    }
    fn level(&self, _: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        Ok(match role {
            Role::Handle => Box::new((self.handle)()),
            Role::Server => Box::new((self.server)()),
        })
    }
}

/// Sees nothing.
struct Idle;
impl Level for Idle {}

/// Starts again, once, where what is below was refused.
fn starts_twice() -> Subject {
    #[derive(Default)]
    struct Twice(bool);
    impl Level for Twice {
        fn listen_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Listen>) -> Flow<'o> {
            if op.error().is_some_and(|e| e.kind() == ErrorKind::Protocol) && !std::mem::replace(&mut self.0, true) {
                op.clear_error();
                return op.pass();
            }
            op.finished()
        }
    }
    serves([Intercepts::NONE, Intercepts::LISTEN_DONE], || Idle, Twice::default)
}

/// Drops every fifth connection, and waits for the next.
fn loses_every_fifth_connection() -> Subject {
    #[derive(Default)]
    struct Loses(u32);
    impl Level for Loses {
        fn accept_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
            self.0 += u32::from(op.error().is_none());
            if op.error().is_none() && self.0.is_multiple_of(5) {
                *op = xio_core::body::AcceptBody::default();
                return op.pass();
            }
            op.finished()
        }
    }
    serves([Intercepts::NONE, Intercepts::ACCEPT_DONE], || Idle, Loses::default)
}

/// Accepts that are cancelled end as something else.
fn has_its_own_word_for_cancelled() -> Subject {
    struct Own;
    impl Level for Own {
        fn accept_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
            match op.clear_error() {
                Some(e) if e.kind() == ErrorKind::Cancelled => op.failed(ErrorKind::Closed),
                Some(e) => op.failed(e),
                None => op.finished(),
            }
        }
    }
    serves([Intercepts::NONE, Intercepts::ACCEPT_DONE], || Idle, || Own)
}

/// Keeps events from whoever is above.
fn keeps_it_from_the_user() -> Subject {
    struct Keeps;
    impl Level for Keeps {
        fn event(&mut self, _: &mut Cx<'_>, _: &Event) -> bool {
            true
        }
    }
    serves([Intercepts::NONE, Intercepts::EVENT], || Idle, || Keeps)
}

/// An end that was accepted waits for a byte of the other, for ever.
fn waits_for_a_greeting() -> Subject {
    #[derive(Default)]
    struct Waits {
        passive: bool,
        held: Option<Held<Open>>,
    }
    impl Level for Waits {
        fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            self.passive = op.is_passive();
            op.pass()
        }
        fn open_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            if op.error().is_some() {
                return op.finished();
            }
            if !self.passive {
                cx.write(0, std::iter::once(Piece::inline(b"!")).collect(), 0);
                return op.finished();
            }
            let (held, flow) = op.hold(cx);
            self.held = Some(held);
            cx.take(0, 1, 1, 0);
            flow
        }
        fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            let result = op.clear_error().map_or(Ok(()), Err);
            if let Some(held) = self.held.take() {
                cx.finish(held, result);
            }
            op.finished()
        }
        fn own_write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            op.clear_error();
            op.finished()
        }
    }
    serves([Intercepts::OPEN | Intercepts::OPEN_DONE, Intercepts::NONE], Waits::default, || Idle)
}

/// Does not tell who the peer of a link is.
fn forgets_who_came() -> Subject {
    struct Forgets;
    impl Level for Forgets {
        fn accept_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Accept>) -> Flow<'o> {
            if op.error().is_none() {
                op.set_contacts(Contact::None, Contact::None);
            }
            op.finished()
        }
    }
    serves([Intercepts::NONE, Intercepts::ACCEPT_DONE], || Idle, || Forgets)
}

/// Handles that were accepted and open when a server closed write no more.
fn ends_with_its_server() -> Subject {
    struct Mortal(Arc<AtomicU64>, Option<u64>);
    impl Level for Mortal {
        fn open<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Open>) -> Flow<'o> {
            self.1 = op.is_passive().then(|| self.0.load(Ordering::Relaxed));
            op.pass()
        }
        fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            let now = self.0.load(Ordering::Relaxed);
            if self.1.is_none_or(|then| then == now) { op.pass() } else { op.failed(ErrorKind::Reset) }
        }
    }
    struct Counts(Arc<AtomicU64>);
    impl Level for Counts {
        fn close<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Close>) -> Flow<'o> {
            self.0.fetch_add(1, Ordering::Relaxed);
            op.pass()
        }
    }
    let closed = Arc::new(AtomicU64::new(0));
    let (a, b) = (closed.clone(), closed);
    serves(
        [Intercepts::OPEN | Intercepts::WRITE | Intercepts::CONCURRENT_WRITES, Intercepts::CLOSE],
        move || Mortal(a.clone(), None),
        move || Counts(b.clone()),
    )
}
