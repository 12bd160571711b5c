//! What stacks are measured beside: blocking sockets over tcp and udp, a bare ring over shm, a mutex around a
//! copy over void.

use std::hint::black_box;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use xio_peers::buffer::PageBuf;
use xio_peers::placement::Placement;
use xio_peers::{datagrams, raw, rings};
use xio_stacks::core::schema::Value;

use super::Mode;
use super::plan::{Moment, Plan, Shot};
use crate::words::bottoms;

/// What a stack is measured beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    /// Blocking sockets.
    Sockets,
    /// Blocking datagram sockets.
    Datagrams,
    /// Two rings of so many bytes.
    Rings(rings::Wait, usize),
    /// A mutex around a copy.
    Mutex,
}

impl Baseline {
    /// The baseline of a plan; some have none.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let bottoms = bottoms(&plan.stack);
        let all = |name| bottoms.iter().all(|b| *b == name);
        match plan.mode {
            Mode::Op => Some(Self::Mutex),
            _ if all("tcp") => Some(Self::Sockets),
            _ if all("udp") => Some(Self::Datagrams),
            _ if all("shm") => Self::rings(plan),
            _ => None,
        }
    }

    /// Rings of the same size whose ends spin where the stack's do and can.
    fn rings(plan: &Plan) -> Option<Self> {
        let level = plan.stack.levels().find(|l| l.driver().info().name == "shm")?;
        let spins = level.attr().value("spin") != Some(Value::Duration(Duration::ZERO));
        let wait = if spins && plan.placement != Placement::SameCpu { rings::Wait::Spin } else { rings::Wait::Sleep };
        let Some(Value::Size(size)) = level.attr().value("buffer") else { return None };
        Some(Self::Rings(wait, usize::try_from(size).ok()?))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sockets => "raw blocking sockets",
            Self::Datagrams => "raw blocking datagram sockets",
            Self::Rings(rings::Wait::Spin, _) => "bare ring, spinning",
            Self::Rings(rings::Wait::Sleep, _) => "bare ring, futex",
            Self::Mutex => "mutex and copy",
        }
    }

    pub(super) fn shoot(self, plan: &Plan, ops: usize) -> io::Result<Shot> {
        let sample = match (self, plan.mode) {
            (Self::Sockets, Mode::Pingpong) => raw::pingpong(plan.placement, plan.size, ops)?,
            (Self::Sockets, _) => raw::stream(plan.placement, plan.size, ops, plan.recv)?,
            (Self::Datagrams, Mode::Pingpong) => datagrams::pingpong(plan.placement, plan.size, ops)?,
            (Self::Datagrams, _) => datagrams::stream(plan.placement, plan.size, ops)?,
            (Self::Rings(wait, ring), Mode::Pingpong) => rings::pingpong(plan.placement, plan.size, ops, ring, wait)?,
            (Self::Rings(wait, ring), _) => rings::stream(plan.placement, plan.size, ops, plan.recv, ring, wait)?,
            (Self::Mutex, _) => return copies(plan, ops),
        };
        Ok(Shot { sample, allocs: 0.0, outstanding: None })
    }
}

/// Locks, copies, unlocks.
fn copies(plan: &Plan, ops: usize) -> io::Result<Shot> {
    plan.alone(|| {
        let from = Mutex::new(PageBuf::new(plan.size));
        let mut to = PageBuf::new(plan.size);
        let mut run = |ops| {
            for _ in 0..ops {
                if let Ok(from) = from.lock() {
                    black_box(&mut *to).copy_from_slice(black_box(&from));
                }
            }
        };
        run(raw::warm_up(ops));
        let start = Moment::now();
        run(ops);
        start.row(Moment::now(), plan.size, ops, None)
    })
}
