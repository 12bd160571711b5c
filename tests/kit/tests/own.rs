//! The contract on a driver of somebody else: a transform that puts bytes of its own in place of the
//! owner's, both ways, as a cipher does. One line is all it takes.

use std::sync::Arc;

use bytes::Bytes;
use xio_core::attr::Attr;
use xio_core::buffer::{Chunk, Piece, Pieces};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::{Read, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};
use xio_testkit::{Options, Subject, driver_contract, run};

xio_core::options! {
    /// It has none.
    pub struct MaskOptions for "mask" {}
}

const INFO: Info = Info::new("mask", Shape::Transform, "turns every bit over");

struct Mask;

fn driver() -> Arc<dyn Driver> {
    Arc::new(Mask)
}

impl Driver for Mask {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(MaskOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::STREAM
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::NONE,
            Role::Handle => Intercepts::READ | Intercepts::READ_DONE | Intercepts::WRITE | Intercepts::WRITE_DONE,
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Self))
    }
}

fn turned(bytes: &[u8]) -> Bytes {
    bytes.iter().map(|b| !b).collect::<Vec<_>>().into()
}

impl Level for Mask {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if op.room() == 0 {
            return op.finished();
        }
        let (room, wanted) = (op.room(), op.wanted());
        op.pass_take(wanted, room)
    }

    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let error = op.clear_error();
        for chunk in op.below().chunks {
            op.put_chunk(&mut Chunk::from(turned(&chunk.into_bytes())));
        }
        match error {
            Some(e) => op.failed(e),
            None => op.finished(),
        }
    }

    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let pieces: Pieces = op.pieces().iter().map(|p| Piece::from(turned(p))).collect();
        op.pass_with(pieces)
    }

    fn write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        match op.clear_error() {
            Some(e) => op.failed(e),
            None => op.finished(),
        }
    }
}

/// E1: a stopped write whose pieces were replaced says that nothing moved, though part of them is on its way.
const BROKEN: &[&str] = &["E1"];

driver_contract!(mask, Subject::transform(driver()).known(BROKEN));

#[test]
fn a_report_tells_every_rule_and_why_one_does_not_apply() {
    let report = run(&Subject::transform(driver()), &Options::default().with_seeds([1]).with_rules(["a1", "C9", "C3"]));
    let rows: Vec<_> = report.rows.iter().map(|r| (r.rule.id, r.verdict.to_string())).collect();
    let want = [("A1", "pass"), ("C3", "pass"), ("C9", "not applicable: unit=stream")];
    assert_eq!(rows, want.map(|(id, v)| (id, v.to_owned())));
    assert!(report.is_good());
}

#[test]
fn levels_that_do_not_fit_fail_every_rule_in_words() {
    let misfit = xio_core::LevelNode::new(driver());
    let report = run(&Subject::stack(misfit), &Options::default().with_rules(["A1"]));
    assert!(report.to_string().contains("this level needs a level below it"), "{report}");
}

#[test]
fn what_needs_no_turned_clock_runs_on_real_sockets_too() {
    let tcp = Subject::transport(xio_drivers::tcp::driver(), xio_core::Contact::new("127.0.0.1:0"));
    let options = Options::default().with_rules(["A2", "A9", "B1", "B11", "C1", "C3", "C4", "C8", "C11"]);
    let report = run(&tcp.on_real_sockets(), &options);
    assert!(report.is_good(), "{report}");
    assert_eq!(report.counts(), (8, 1, 0), "{report}");
}
