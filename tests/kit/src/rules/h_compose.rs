//! Group H: composition.

use xio_core::caps::{Branch, Caps};
use xio_core::driver::Shape;
use xio_core::{ErrorKind, LevelNode, Stack};

use crate::bench::{Bench, LONG};
use crate::script::Script;
use crate::subject::bind;
use crate::verdict::{Checked, Stop};

xio_core::options! {
    /// Options of no driver.
    pub struct SubjectlessOptions for "nobody" {}
}

/// Levels compose: what fits opens, what does not is refused when it is bound.
///
/// # Errors
/// See the rule's text.
pub fn h8(bench: &mut Bench) -> Checked {
    let stack = bind(bench.subject().root())?;
    let views: Vec<_> = stack.levels().collect();
    for (n, l) in views.iter().enumerate() {
        let (driver, attr) = (l.driver(), l.attr());
        let below: Vec<_> = views.iter().filter(|v| v.above() == Some(n)).collect();
        let needs = driver.needs(attr);
        for b in &below {
            ensure!(needs.fit(b.caps()).is_ok(), "`{}` does not fit over `{}`, and was bound", l.id(), b.id());
        }
        let branches: Vec<_> = below.iter().map(|b| Branch::new(b.label(), b.caps())).collect();
        let caps = driver.caps(attr, &branches)?;
        ensure_eq!(&caps, l.caps(), "what `{}` gives, asked again", l.id());
        let node = || LevelNode::new(driver.clone()).with_attr(attr.copy());
        let over = |below: LevelNode| match driver.info().shape {
            Shape::Branching => node().branch("a", below.clone()).branch("b", below),
            _ => node().over(below),
        };
        if driver.info().shape == Shape::Transport {
            let under = Script::new(Caps::stream()).build().0;
            ensure!(Stack::new(over(under)).is_err(), "the transport `{}` was bound over another", l.id());
            continue;
        }
        ensure!(Stack::new(node()).is_err(), "`{}` was bound over nothing", l.id());
        let foreign = node().with_attr(Box::new(SubjectlessOptions::default()));
        let under = Script::new(Caps::stream()).build().0;
        ensure!(Stack::new(foreign.over(under)).is_err(), "`{}` took an attr of another driver", l.id());
        for given in kinds_of_caps() {
            let (script, _) = Script::new(given.clone()).build();
            let branch = |label| Branch::new(label, &given);
            let branches = match driver.info().shape {
                Shape::Branching => vec![branch(Some("a")), branch(Some("b"))],
                _ => vec![branch(None)],
            };
            let fits = needs.fit(&given).is_ok() && driver.caps(attr, &branches).is_ok();
            match Stack::new(over(script)) {
                Ok(s) => {
                    ensure!(fits, "`{}` was bound over {given}, which it does not fit", l.id());
                    opens(bench, &s).map_err(|e| e.at(format_args!("`{}` over {given}", l.id())))?;
                }
                Err(faults) => {
                    ensure!(!fits, "`{}` fits over {given}, and was refused: {faults:?}", l.id());
                    ensure!(faults.iter().all(|f| f.level == 0), "the fault names another level: {faults:?}");
                }
            }
        }
    }
    Ok(())
}

/// Streams, messages and datagrams, with and without what drivers most often rely on.
fn kinds_of_caps() -> Vec<Caps> {
    let mut all = Vec::new();
    for base in [Caps::stream(), Caps::message(), Caps::datagram(1400)] {
        for (reliable, ordered) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut caps = base.clone();
            (caps.reliable, caps.ordered) = (reliable, ordered);
            all.push(caps);
        }
    }
    all
}

/// A stack that was bound is not refused later for how it is composed.
fn opens(bench: &Bench, stack: &Stack) -> Checked {
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let world = bench.stage(seed).root(stack.root()).without_probes().build()?;
    world.run_rule(&mut |w| {
        let opened = w.open(bench.subject().contact().clone()).deadline(LONG).wait();
        let h = opened.map_err(|e| Stop::fail(format!("it was bound and does not open: {e}")))?;
        // A driver may have a reason of its own to refuse an op, but not this one.
        let flushed = h.flush().deadline(LONG).wait();
        ensure!(flushed.map_or_else(|e| e.kind() != ErrorKind::Misfit, |()| true), "it does not fit when it is open");
        Ok(())
    })
}
