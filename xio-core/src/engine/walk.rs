//! The loop: moves one op down and up through the levels until it is finished or has to wait. Shape:
//! the op stays where it is, levels are called through two tight loops over the plan's tables.
//! Invariant: between two level calls nothing else runs but what the level asked for.

use crate::cx::Cx;
use crate::driver::OpKind;
use crate::engine::core::{Failed, Phase, Step, Tree};
use crate::error::{Error, ErrorKind};
use crate::op::{Act, Cell, IoSlot, Kind, Op, Role};
use crate::plan::{END, Plan, USER};
use crate::stats::Stats;
use crate::sync::planted;

/// How often an op may be sent down again in one go.
const MOST_TURNS: u32 = 1 << 22;

/// Why the loop let go of an op.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It reached the user.
    Finished,
    /// The level that made it is done with it.
    Freed,
    /// The gate of this level is shut.
    Gate(u8),
    Held(u8),
    Io,
    Work,
    Inbox(u8),
    /// What a level asked for runs first.
    Posted(Step),
    /// A close has to wait for other ops.
    Barrier(Step),
    /// An open failed over levels that are open.
    Unwind(u8),
}

enum Next {
    Enter(u8),
    /// Into the level it is in already.
    Again(u8),
    Leave(u8),
    Stop(Stop),
}

/// Runs an op from `step`. `S` counts what each level sees, where the handle was opened for that.
pub(crate) fn walk<K: Kind, S: Stats>(tree: &mut Tree, cell: &mut Cell<K>, step: Step) -> Stop {
    let Tree { levels, plan, inner } = tree;
    let plan: &Plan = plan;
    let table = plan.kind(K::KIND);
    let origin = cell.head.origin;
    let lifecycle = matches!(K::KIND, OpKind::Open | OpKind::Close | OpKind::Listen);
    let mut cx = Cx { inner, plan, node: USER };
    // An op that comes back into the level it is in holds that level's gate.
    let mut inside = matches!(step, Step::Again(_));
    let (mut at, down) = match step {
        Step::Enter(n) | Step::Again(n) => (n, true),
        Step::Leave(n) => (n, false),
        step => match resume::<K>(levels, &mut cx, cell, step) {
            Next::Enter(n) => (n, true),
            Next::Again(n) => {
                inside = true;
                (n, true)
            }
            Next::Leave(n) => (n, false),
            Next::Stop(s) => return s,
        },
    };
    // It failed below and goes on up from where it was put away: here nothing tears.
    let mut passing = !down && matches!(step, Step::Acted { phase: Phase::Up, .. });
    let mut down = down;
    let mut turns = 0;
    let mut failed = cx.inner.rare.as_ref().is_some_and(|r| !r.failed.is_empty());
    loop {
        if std::mem::replace(&mut down, true) {
            loop {
                if matches!(K::KIND, OpKind::Flush | OpKind::Shutdown)
                    && cx.inner.writes_ahead(plan, at, origin, cell.head.id)
                {
                    // Where it waits is behind the level it has passed: stopped there, it comes up through that.
                    cell.head.at = if at == END { bottom(&mut cx, cell) } else { at };
                    return Stop::Barrier(Step::Enter(at));
                }
                if K::KIND == OpKind::Close && origin == USER && !cx.inner.quiet_user() {
                    return Stop::Barrier(Step::Enter(at));
                }
                if at == END {
                    at = bottom(&mut cx, cell);
                    break;
                }
                if failed
                    && !lifecycle
                    && let Some((n, e)) = cx.inner.given_up(plan, K::KIND, at, origin)
                {
                    cx.inner.leave_gate(cell.head.id);
                    cell.head.error = Some(e);
                    at = n;
                    break;
                }
                if table.gate[usize::from(at)] && !inside && cx.inner.gate_shut(plan, K::KIND, at, cell.head.id) {
                    cell.head.at = at;
                    return Stop::Gate(at);
                }
                let anew = !std::mem::take(&mut inside);
                if K::KIND == OpKind::Close && !cx.inner.quiet(plan, at) {
                    return Stop::Barrier(Step::Enter(at));
                }
                cell.head.at = at;
                cx.node = at;
                S::down(&mut *cx.inner, plan, at, cell, anew);
                let act = K::down(&mut *levels[usize::from(at) - 1], &mut cx, Op::new(cell)).act;
                if cx.inner.q.get().is_some_and(|q| !q.posts.is_empty()) {
                    return Stop::Posted(Step::Acted { node: at, act, phase: Phase::Down });
                }
                if act == Act::Pass && K::KIND != OpKind::Close {
                    at = table.down[usize::from(at)];
                    continue;
                }
                match answered::<K>(&mut cx, cell, at, act, Phase::Down) {
                    Next::Enter(n) => at = n,
                    Next::Again(n) => {
                        inside = true;
                        at = n;
                    }
                    Next::Leave(n) => {
                        at = n;
                        break;
                    }
                    Next::Stop(s) => return s,
                }
            }
        }
        if !std::mem::take(&mut passing) && K::KIND == OpKind::Write && cell.head.error.is_some() {
            failed |= tear(&mut cx, cell, at);
        }
        loop {
            if lifecycle && let Some(stop) = leaving::<K>(&mut cx, cell, at) {
                return stop;
            }
            let above = table.up[usize::from(at)];
            S::left(&mut *cx.inner, plan, at, above.max(origin), cell);
            if above <= origin {
                if lifecycle {
                    mark_path::<K>(&mut cx, cell, at, origin);
                }
                cell.head.at = origin;
                if origin == USER {
                    return Stop::Finished;
                }
                match own::<K>(levels, &mut cx, cell, origin) {
                    Next::Enter(n) | Next::Again(n) => {
                        at = n;
                        break;
                    }
                    Next::Leave(_) => return Stop::Freed,
                    Next::Stop(s) => return s,
                }
            }
            if lifecycle {
                mark_path::<K>(&mut cx, cell, at, above);
            }
            at = above;
            cell.head.at = at;
            cx.node = at;
            K::come_up(&mut cell.body, at);
            S::up(&mut *cx.inner, at);
            let act = K::up(&mut *levels[usize::from(at) - 1], &mut cx, Op::new(cell)).act;
            if cx.inner.q.get().is_some_and(|q| !q.posts.is_empty()) {
                return Stop::Posted(Step::Acted { node: at, act, phase: Phase::Up });
            }
            if act == Act::Up {
                continue;
            }
            turns += 1;
            let next = match turns {
                // Whoever sends an op down as often as it comes up would hold the lock for ever.
                MOST_TURNS => fail(&mut cx, cell, at, Error::new(ErrorKind::NoProgress)),
                _ => answered::<K>(&mut cx, cell, at, act, Phase::Up),
            };
            match next {
                Next::Again(n) => {
                    inside = true;
                    at = n;
                    break;
                }
                Next::Enter(n) => {
                    at = n;
                    break;
                }
                Next::Leave(n) => at = n,
                Next::Stop(s) => return s,
            }
        }
    }
}

/// A write that fails half way leaves a part of a message, or of what a level made of it, on its way:
/// nothing may follow it there, neither its own rest, of which nobody knows where it begins, nor another
/// write. Whether it is so: one of several messages that stops between two of them leaves nothing half-done.
#[cold]
fn tear<K: Kind>(cx: &mut Cx<'_>, cell: &Cell<K>, at: u8) -> bool {
    let total = K::total(&cell.body);
    let moved = K::moved(&cell.body).map_or(0, |(_, n)| n);
    let whole = cx.plan.unit.has_borders() || K::is_dressed(&cell.body);
    if !whole || moved == 0 || moved >= total || K::is_at_border(&cell.body) {
        return false;
    }
    let place = cx.inner.place(at);
    let failed = &mut cx.inner.rare().failed;
    if !failed.iter().any(|f| f.node == at) {
        let cause = cell.head.error.as_ref();
        let stopped = cause.is_none_or(|e| {
            matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::TimedOut) && e.raw_os_error().is_none()
        });
        let what = if stopped { "stopped" } else { "failed" };
        let text = format!("a {what} write left {moved} of {total} bytes of a message sent");
        // A connection that broke says so to the writes that follow, too.
        let lasting = |k: &ErrorKind| matches!(k, ErrorKind::Reset | ErrorKind::TimedOut | ErrorKind::Unreachable);
        let kind = cause.filter(|_| !stopped).map(Error::kind).filter(lasting);
        let mut error = Error::new(kind.unwrap_or(ErrorKind::BrokenPipe)).detail(text);
        if let Some(cause) = cause.filter(|_| !stopped) {
            error = error.source_error(cause.clone());
        }
        let error = error.at(K::KIND, || place);
        failed.push(Failed { node: at, error, writes_only: true });
    }
    true
}

/// Goes on where an op was put away in the middle of a turn.
#[cold]
fn resume<K: Kind>(
    levels: &mut [Box<dyn crate::level::Level>],
    cx: &mut Cx<'_>,
    cell: &mut Cell<K>,
    step: Step,
) -> Next {
    match step {
        Step::Enter(n) => Next::Enter(n),
        Step::Again(n) => Next::Again(n),
        Step::Leave(n) => Next::Leave(n),
        Step::Acted { node, act, phase: Phase::Own } => own_answered::<K>(cx, cell, node, act),
        Step::Acted { node, act, phase } => answered::<K>(cx, cell, node, act, phase),
        Step::Worked(node) => {
            cell.head.at = node;
            cx.node = node;
            let act = K::worked(&mut *levels[usize::from(node) - 1], cx, Op::new(cell)).act;
            if cx.inner.q.get().is_some_and(|q| !q.posts.is_empty()) {
                return Next::Stop(Stop::Posted(Step::Acted { node, act, phase: Phase::Down }));
            }
            answered::<K>(cx, cell, node, act, Phase::Down)
        }
    }
}

/// Turns an answer into the next step.
fn answered<K: Kind>(cx: &mut Cx<'_>, cell: &mut Cell<K>, node: u8, act: Act, phase: Phase) -> Next {
    match act {
        Act::Pass | Act::PassTo => {
            if K::KIND == OpKind::Close && !cx.inner.quiet_own(cx.plan, node) {
                return Next::Stop(Stop::Barrier(Step::Acted { node, act, phase }));
            }
            if act == Act::Pass {
                cell.head.error = None;
                return Next::Enter(cx.plan.kind(K::KIND).down[usize::from(node)]);
            }
            match cx.plan.branch_entry(K::KIND, node, cell.head.branch) {
                Some(n) => Next::Enter(n),
                None => {
                    let e = Error::new(ErrorKind::Contract)
                        .detail(format!("passed to branch {}, which there is not", cell.head.branch));
                    fail(cx, cell, node, e)
                }
            }
        }
        Act::Up if phase == Phase::Up => Next::Leave(node),
        Act::Up | Act::Done => match settle(cx, cell, node) {
            Settled::Enough => Next::Leave(node),
            Settled::More => Next::Again(node),
            Settled::Stuck(kind) => fail(cx, cell, node, Error::new(kind)),
        },
        Act::Fail => {
            let place = cx.inner.place(node);
            cell.head.error = cell.head.error.take().map(|e| e.at(K::KIND, || place));
            Next::Leave(node)
        }
        Act::Hold => Next::Stop(Stop::Held(node)),
        Act::Io => Next::Stop(Stop::Io),
        Act::Work => Next::Stop(Stop::Work),
        Act::Inbox => Next::Stop(Stop::Inbox(node)),
        Act::Joined => {
            // The link is somebody else's now; wait for the next one.
            cell.body = K::empty();
            Next::Enter(cx.plan.kind(K::KIND).top())
        }
    }
}

fn fail<K: Kind>(cx: &mut Cx<'_>, cell: &mut Cell<K>, node: u8, error: Error) -> Next {
    K::leave_level(&mut cell.body, node);
    let place = cx.inner.place(node);
    cell.head.error = Some(error.at(K::KIND, || place));
    Next::Leave(node)
}

pub(crate) enum Settled {
    Enough,
    More,
    Stuck(ErrorKind),
}

/// Whether an op that a level finished itself has moved enough.
#[inline]
fn settle<K: Kind>(cx: &Cx<'_>, cell: &mut Cell<K>, node: u8) -> Settled {
    if cell.head.error.is_some() {
        return Settled::Enough;
    }
    K::settle(&mut cell.body, cx.plan.has_borders(node))
}

/// An op came to the level that made it.
fn own<K: Kind>(levels: &mut [Box<dyn crate::level::Level>], cx: &mut Cx<'_>, cell: &mut Cell<K>, node: u8) -> Next {
    if cell.head.role == Role::Unwind {
        return Next::Leave(node);
    }
    if planted("a level does not hear of its own op") {
        return Next::Stop(Stop::Freed);
    }
    cx.node = node;
    K::come_up(&mut cell.body, node);
    let act = K::own(&mut *levels[usize::from(node) - 1], cx, Op::new(cell)).act;
    if cx.inner.q.get().is_some_and(|q| !q.posts.is_empty()) {
        return Next::Stop(Stop::Posted(Step::Acted { node, act, phase: Phase::Own }));
    }
    own_answered::<K>(cx, cell, node, act)
}

fn own_answered<K: Kind>(cx: &mut Cx<'_>, cell: &mut Cell<K>, node: u8, act: Act) -> Next {
    let branch = match act {
        Act::Pass => cell.head.own_branch,
        Act::PassTo => {
            cell.head.own_branch = cell.head.branch;
            cell.head.branch
        }
        Act::Hold => return Next::Stop(Stop::Held(node)),
        _ => return Next::Stop(Stop::Freed),
    };
    // It goes once more: what stopped it the last time does not stop it again.
    if let Some(e) = cx.inner.entry(cell.head.id) {
        e.cancel = None;
    }
    cell.head.error = None;
    cell.head.io = IoSlot::None;
    match cx.plan.branch_entry(K::KIND, node, branch) {
        Some(n) => Next::Enter(n),
        None => Next::Stop(Stop::Freed),
    }
}

/// Below the last level that sees this kind of op: what nobody handles.
#[cold]
fn bottom<K: Kind>(cx: &mut Cx<'_>, cell: &mut Cell<K>) -> u8 {
    let from = if cell.head.at == USER { 1 } else { cell.head.at };
    let from = if cell.head.at == cell.head.origin && cell.head.origin != USER {
        cx.plan.child(cell.head.origin, cell.head.own_branch).unwrap_or(from)
    } else {
        from
    };
    let leaf = cx.plan.leaf(from);
    if matches!(K::KIND, OpKind::Read | OpKind::Write | OpKind::Accept | OpKind::Listen) {
        let place = cx.inner.place(leaf);
        let e = Error::new(ErrorKind::Unsupported).at(K::KIND, || place);
        cell.head.error = Some(e);
    }
    leaf
}

/// Bookkeeping of opens and closes as they leave a level upwards.
fn leaving<K: Kind>(cx: &mut Cx<'_>, cell: &mut Cell<K>, at: u8) -> Option<Stop> {
    if matches!(K::KIND, OpKind::Open | OpKind::Listen)
        && cell.head.error.is_some()
        && cx.inner.opened_below(cx.plan, at).is_some()
    {
        cell.head.at = at;
        return Some(Stop::Unwind(at));
    }
    None
}

/// The levels between `at` and `above` are open now, or closed.
fn mark_path<K: Kind>(cx: &mut Cx<'_>, cell: &Cell<K>, at: u8, above: u8) {
    let opened = match K::KIND {
        OpKind::Open | OpKind::Listen if cell.head.error.is_none() => true,
        OpKind::Close => false,
        _ => return,
    };
    let mut n = at;
    while n > above {
        cx.inner.nodes[usize::from(n)].opened = opened;
        // A branch that is open again is a new one.
        if opened && let Some(rare) = &mut cx.inner.rare {
            rare.broken.retain(|(node, _)| *node != n);
            rare.failed.retain(|f| f.node != n);
        }
        n = cx.plan.parent(n);
    }
}
