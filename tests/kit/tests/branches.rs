//! Rules that put scripts below a driver do so below each of its branches: they find what a branch does wrong,
//! whichever it is.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::buffer::{Piece, Pieces};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::{Read, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};
use xio_drivers::pick;
use xio_testkit::budget::Budget;
use xio_testkit::{Options, Subject, Verdict};

#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

xio_core::options! {
    /// None.
    pub struct NoOptions for "forks" {}
}

/// What a branching level does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// Writes another byte than it should.
    Codes,
    /// Fails what it reads from its second branch as nobody may.
    Reads,
}

struct Forks(Wrong);

impl Driver for Forks {
    fn info(&self) -> &Info {
        const INFO: Info = Info::new("forks", Shape::Branching, "for tests");
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(NoOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::READ | Intercepts::READ_DONE | Intercepts::WRITE
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Fork { wrong: self.0, opened: false }))
    }
}

/// Everything goes by the first branch; of one that does wrong reads come by the second.
struct Fork {
    wrong: Wrong,
    opened: bool,
}

impl Level for Fork {
    fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if self.wrong != Wrong::Reads {
            return op.pass();
        }
        if !std::mem::replace(&mut self.opened, true) {
            cx.open(1, xio_core::Contact::None, 0);
        }
        op.pass_to(1)
    }
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if self.wrong == Wrong::Reads && op.got() > 0 { op.failed(ErrorKind::Contract) } else { op.finished() }
    }
    fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        if self.wrong != Wrong::Codes {
            return op.pass();
        }
        let mut bytes: Vec<u8> = op.share().iter().flat_map(|p| p.iter().copied()).collect();
        bytes.iter_mut().take(1).for_each(|b| *b ^= 1);
        op.pass_with(Pieces::from_iter([Piece::from(bytes::Bytes::from(bytes))]))
    }
}

fn verdicts(subject: &Subject) -> Vec<(&'static str, Verdict)> {
    let options = Options::default().with_rules(["H6", "H7"]).with_seeds([1, 2]);
    xio_testkit::run(subject, &options).rows.into_iter().map(|r| (r.rule.id, r.verdict)).collect()
}

#[test]
fn scripts_stand_below_each_branch() {
    for wrong in [Wrong::Nothing, Wrong::Codes, Wrong::Reads] {
        for messages in [false, true] {
            let subject = Subject::transform(Arc::new(Forks(wrong)));
            let subject = if messages { subject.over_messages() } else { subject };
            let broken: Vec<_> = verdicts(&subject)
                .into_iter()
                .filter_map(|(id, v)| match v {
                    Verdict::Pass => None,
                    Verdict::Fail { .. } => Some(id),
                    other => panic!("{id}: {other}"),
                })
                .collect();
            let want: &[&str] = match wrong {
                Wrong::Nothing => &[],
                Wrong::Codes => &["H7"],
                Wrong::Reads => &["H6", "H7"],
            };
            assert_eq!(broken, want, "over messages: {messages}");
        }
    }
}

#[test]
fn pick_keeps_them() {
    for subject in [Subject::transform(pick::driver()), Subject::transform(pick::driver()).over_messages()] {
        assert_eq!(subject.bottoms(), 2);
        for (id, verdict) in verdicts(&subject) {
            assert!(matches!(verdict, Verdict::Pass), "{}: {id}: {verdict}", subject.name());
        }
    }
}
