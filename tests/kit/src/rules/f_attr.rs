//! Group F: attrs and commands.

use std::sync::Arc;
use std::time::Duration;

use xio_core::attr::{Attr, Label, OpAttrs};
use xio_core::cntl::{Command, GetOption, LocalContact, PathInfo, RemoteContact, SetOption};
use xio_core::schema::{OptionSpec, Value};
use xio_core::{Error, ErrorKind, Handle};

use super::counted::{Census, counted};
use super::data::{drain, room, same, transfer, units};
use super::teller::{Deepest, Heard, Unanswered, WhoAreYou, teller};
use super::values::{bad, get, good, of_attr, of_handle, of_stack, set};
use crate::bench::{Bench, LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::nth_fault::{Fault, Faults, every_of};
use crate::subject::bind;
use crate::verdict::{Checked, Stop};

/// A command that nobody knows.
struct Unheard;
impl Command for Unheard {
    type Reply = ();
    const NAME: &'static str = "Unheard";
}

/// Runs `f` for a fresh attr of each level, and one as the subject has it.
fn each_attr(bench: &Bench, mut f: impl FnMut(Box<dyn Attr>) -> Checked) -> Checked {
    let stack = bind(bench.subject().root())?;
    if stack.levels().all(|l| l.attr().specs().is_empty()) {
        return crate::bench::unless("no level has options");
    }
    for l in stack.levels() {
        for attr in [l.driver().attr(), l.attr().copy()] {
            f(attr).map_err(|s| s.at(format_args!("attr of `{}`", l.id())))?;
        }
    }
    Ok(())
}

/// A copied attr is independent. Attrs are changed and copied at random beside a model.
///
/// # Errors
/// See the rule's text.
pub fn f1(bench: &mut Bench) -> Checked {
    for seed in bench.seeds() {
        let mut dice = Dice::new(seed);
        each_attr(bench, |attr| {
            let specs: &[OptionSpec] = attr.specs();
            let mut all = vec![(of_attr(&*attr), attr)];
            for _ in 0..60 {
                let i = dice.between(0, all.len());
                if specs.is_empty() || dice.chance(20) {
                    let copy = all[i].1.copy();
                    let want = all[i].0.clone();
                    ensure_eq!(of_attr(&*copy), want, "a fresh copy");
                    all.push((want, copy));
                } else if dice.chance(20) && all.len() > 1 {
                    drop(all.swap_remove(i));
                } else {
                    let spec = &specs[dice.between(0, specs.len())];
                    let values = good(&spec.kind, &mut dice);
                    let value = &values[dice.between(0, values.len())];
                    let (seen, attr) = &mut all[i];
                    // What was refused is seen to change nothing below.
                    if set(&mut **attr, spec.name, value).is_ok() {
                        *seen = of_attr(&**attr);
                    }
                }
                for (want, attr) in &all {
                    ensure_eq!(of_attr(&**attr), *want, "an attr after another was changed");
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// An open keeps the attrs it was made with.
///
/// # Errors
/// See the rule's text.
pub fn f2(bench: &mut Bench) -> Checked {
    bench.each(|w| {
        let h = w.alone()?;
        let (open, bound) = (of_handle(&h)?, of_stack(&w.near));
        let mut dice = Dice::new(w.seed);
        let mut changed = 0;
        for l in w.near.levels() {
            for spec in l.attr().specs() {
                for value in good(&spec.kind, &mut dice) {
                    // Some do not fit the others, or the levels beside.
                    let made = w.near.attr_cntl(l.id(), SetOption(spec.name.into(), value));
                    changed += usize::from(made.is_ok_and(|(s, ())| of_stack(&s) != bound));
                    ensure_eq!(of_stack(&w.near), bound, "attrs of the stack that was changed in a copy");
                    ensure_eq!(of_handle(&h)?, open, "options of a handle after `{}` was changed", spec.name);
                }
            }
        }
        ensure!(changed > 0 || bound.is_empty(), "no option of any level could be changed");
        Ok(())
    })
}

/// An unknown command is an error and changes nothing.
///
/// # Errors
/// See the rule's text.
pub fn f3(bench: &mut Bench) -> Checked {
    fn unknown<T>(r: Result<T, Error>, to: &str) -> Checked {
        ensure_eq!(r.map(drop).map_err(|e| e.kind()), Err(ErrorKind::UnsupportedCommand), "an unknown command to {to}");
        Ok(())
    }
    bench.each(|w| {
        let pair = if w.caps().accepts { Some(w.pair()?) } else { None };
        let near = match &pair {
            Some(p) => p.near.clone(),
            None => w.alone()?,
        };
        let before = (of_handle(&near)?, of_stack(&w.near));
        let mut attrs = OpAttrs::new().with(Label::SMALL);
        for l in w.near.levels() {
            let id = l.id();
            unknown(near.cntl(id, Unheard), id)?;
            unknown(w.near.attr_cntl(id, Unheard), &format!("the attr of {id}"))?;
            unknown(w.near.op_cntl(Some(id), &mut attrs, Unheard), &format!("the op attrs of {id}"))?;
            if let Some(p) = &pair {
                unknown(p.server.cntl(id, Unheard), &format!("{id} of the server"))?;
            }
        }
        unknown(near.query(Unheard), "all levels")?;
        unknown(w.near.op_cntl(None, &mut attrs, Unheard), "all op attrs")?;
        ensure_eq!(attrs, OpAttrs::new().with(Label::SMALL), "attrs of an op");
        ensure_eq!((of_handle(&near)?, of_stack(&w.near)), before, "options");
        let Some(p) = pair else { return Ok(()) };
        unknown(p.server.query(Unheard), "all levels of the server")?;
        if w.caps().reliable && w.caps().ordered {
            transfer(w, &p.near, &p.far, &units(w.seed, 3, 200), &mut Dice::new(w.seed))?;
        }
        Ok(())
    })
}

/// A wrong value is an error that names the option, and changes nothing.
///
/// # Errors
/// See the rule's text.
pub fn f4(bench: &mut Bench) -> Checked {
    fn refused(r: Result<(), Error>, name: &str, value: &Value) -> Checked {
        let Err(e) = r else { return Err(Stop::fail(format!("`{name}` took `{value:?}`"))) };
        ensure_eq!(e.kind(), ErrorKind::InvalidInput, "the error of `{name}` for `{value:?}`: {e}");
        ensure!(e.to_string().contains(name), "the error does not name `{name}`: {e}");
        Ok(())
    }
    each_attr(bench, |mut attr| {
        let before = of_attr(&*attr);
        for spec in attr.specs() {
            for value in bad(&spec.kind) {
                refused(set(&mut *attr, spec.name, &value), spec.name, &value)?;
                ensure_eq!(of_attr(&*attr), before, "the attr after a wrong value");
            }
        }
        refused(set(&mut *attr, "no-such-option", &Value::Bool(true)), "no-such-option", &Value::Bool(true))?;
        ensure_eq!(of_attr(&*attr), before, "the attr after an unknown option");
        Ok(())
    })?;
    let one = |w: &World| {
        let h = w.alone()?;
        let before = of_handle(&h)?;
        for l in w.near.levels() {
            for spec in l.attr().specs() {
                for value in bad(&spec.kind) {
                    match h.cntl(l.id(), SetOption(spec.name.into(), value.clone())) {
                        // The level changes nothing while it is open, and need not look at the value.
                        Err(e) if e.kind() == ErrorKind::UnsupportedCommand && !spec.runtime => {}
                        r => refused(r, spec.name, &value).map_err(|s| s.at(format_args!("open `{}`", l.id())))?,
                    }
                }
            }
        }
        ensure_eq!(of_handle(&h)?, before, "options of a handle after wrong values");
        Ok(())
    };
    bench.each(one)
}

/// What was set is what is read, and setting it again changes nothing.
///
/// # Errors
/// See the rule's text.
pub fn f5(bench: &mut Bench) -> Checked {
    for seed in bench.seeds() {
        let mut dice = Dice::new(seed);
        each_attr(bench, |mut attr| {
            for spec in attr.specs() {
                for value in good(&spec.kind, &mut dice) {
                    if set(&mut *attr, spec.name, &value).is_err() {
                        continue;
                    }
                    let read = get(&mut *attr, spec.name)?;
                    // A clamp must be stated, and stay where it is.
                    if !spec.doc.contains("clamp") {
                        ensure_eq!(read, Some(value), "`{}` as it reads back", spec.name);
                    }
                    let all = of_attr(&*attr);
                    if let Some(read) = read {
                        set(&mut *attr, spec.name, &read)?;
                    }
                    ensure_eq!(of_attr(&*attr), all, "the attr after `{}` was set again", spec.name);
                }
            }
            Ok(())
        })?;
    }
    bench.each(|w| {
        let h = w.alone()?;
        let mut dice = Dice::new(w.seed);
        for l in w.near.levels() {
            for spec in l.attr().specs().iter().filter(|s| s.runtime) {
                for value in good(&spec.kind, &mut dice) {
                    let set = || h.cntl(l.id(), SetOption(spec.name.into(), value.clone()));
                    match set() {
                        Ok(()) => {}
                        Err(e) if e.kind() == ErrorKind::UnsupportedCommand => return Err(e.into()),
                        // It contradicts another, or the system refuses it.
                        Err(_) => continue,
                    }
                    let all = of_handle(&h)?;
                    let read = all.get(&(l.id().to_owned(), spec.name)).cloned().flatten();
                    ensure_eq!(read, Some(value.clone()), "`{}` of the open `{}`", spec.name, l.id());
                    set()?;
                    ensure_eq!(of_handle(&h)?, all, "options after `{}` was set again", spec.name);
                }
            }
        }
        Ok(())
    })
}

/// A command reaches its level. Levels that answer a command of the kit stand between all others.
///
/// # Errors
/// See the rule's text.
pub fn f6(bench: &mut Bench) -> Checked {
    let heard = Heard::new();
    let levels = bind(bench.subject().root())?.levels().len();
    bench.each_on(
        |s| s.near(|n, below| teller(n, levels - 1, &heard, below)),
        |w| {
            let (near, far) = if w.caps().accepts {
                let p = w.pair()?;
                w.keep((p.rest, p.server));
                (p.near, Some(p.far))
            } else {
                (w.alone()?, None)
            };
            heard.take();
            for n in 0..levels {
                let id = format!("teller-{n}");
                ensure_eq!(near.cntl(&id, WhoAreYou)?, n, "the answer of `{id}`");
                ensure_eq!(heard.take(), [n], "those that heard what `{id}` was asked");
            }
            ensure_eq!(near.query(WhoAreYou)?, 0, "the answer to all");
            ensure_eq!(heard.take(), [0], "those that heard a query that the first answers");
            ensure_eq!(near.query(Deepest)?, levels - 1, "the answer of the last");
            ensure_eq!(heard.take(), (0..levels).collect::<Vec<_>>(), "those that heard a query for the last");
            ensure!(near.query(Unanswered).is_err(), "a command nobody knows was answered");
            ensure_eq!(heard.take(), (0..levels).collect::<Vec<_>>(), "those that heard a query for nobody");
            for l in w.near.levels() {
                let caps = near.cntl(l.id(), xio_core::cntl::Caps)?;
                ensure_eq!(&caps, l.caps(), "what `{}` says it gives", l.id());
            }
            ensure_eq!(near.cntl("nobody", WhoAreYou).map_err(|e| e.kind()), Err(ErrorKind::UnknownLevel), "no level");
            // What both ends say for certain is the same.
            let Some(far) = far.filter(|_| w.near.levels().all(|l| l.label().is_none())) else { return Ok(()) };
            for (a, b) in [(&near, &far), (&far, &near)] {
                if let (Ok(local), Ok(remote)) = (a.query(LocalContact), b.query(RemoteContact)) {
                    ensure_eq!(remote, local, "where the peer is");
                }
            }
            Ok(())
        },
    )
}

/// Commands and ops do not disturb each other.
///
/// # Errors
/// See the rule's text.
pub fn f7(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.each(|w| {
        let pair = w.pair()?;
        w.keep(pair.rest);
        let (got, ended) = (drain(&pair.near), drain(&pair.far));
        let wrote = Tell::new();
        let mut sent = [Vec::new(), Vec::new()];
        for i in 0..20 {
            for (h, sent) in [&pair.near, &pair.far].into_iter().zip(&mut sent) {
                let unit = pattern(w.seed, i * 100, 90);
                let tell = wrote.clone();
                h.write(unit.clone()).then(move |r| tell.note(r.map_err(|f| f.kind()).map(|d| d.n)));
                sent.extend(unit);
                ask_all(h);
            }
            w.engine.turn(Some(Duration::ZERO));
            // From two threads at once, of which this one runs the engine as well.
            std::thread::scope(|s| {
                let (a, b) = (&pair.near, &pair.near);
                s.spawn(move || ask_all(a));
                s.spawn(move || ask_all(b));
                w.engine.turn(Some(Duration::ZERO));
            });
        }
        w.run_until(|| wrote.len() == 40);
        w.run();
        for r in wrote.take() {
            ensure_eq!(r, Ok(90), "a write while commands came");
        }
        for (got, sent) in [got, ended].into_iter().zip(sent.into_iter().rev()) {
            let bytes: Vec<u8> = got.take().into_iter().flatten().flatten().collect();
            same(&bytes, &sent)?;
        }
        pair.near.read(room(1)).then(drop).cancel();
        Ok(())
    })
}

/// Every command that changes nothing, to each level and to all.
fn ask_all(h: &Handle) {
    let stack = h.stack();
    let _ = (h.query(LocalContact), h.query(PathInfo), h.query(Unheard));
    for l in stack.levels() {
        let _ = (h.cntl(l.id(), RemoteContact), h.cntl(l.id(), xio_core::cntl::Caps));
        for s in l.attr().specs() {
            let _ = h.cntl(l.id(), GetOption(s.name.into()));
        }
    }
}

/// Attrs are made and dropped in pairs.
///
/// # Errors
/// See the rule's text.
pub fn f8(bench: &mut Bench) -> Checked {
    let seed = bench.seeds().first().copied().unwrap_or_default();
    let plain = bind(bench.subject().root())?;
    let census = Arc::new(Census::default());
    let plan = |n| Faults::new(n, Fault::Error(ErrorKind::Protocol)).only(&[xio_core::driver::OpKind::Open]);
    every_of(plan, |faults| {
        let root = counted(&plain, &census);
        ensure!(census.alive() > 0, "nothing is counted");
        let stage = bench.stage(seed).root(root).near(|_, below| faults.level(below));
        let world = stage.build()?;
        world.run_rule(&mut |w| {
            for l in w.near.levels() {
                for s in l.attr().specs() {
                    let _ = w.near.attr_cntl(l.id(), SetOption(s.name.into(), Value::Bool(true)));
                }
                let _ = w.near.attr_cntl(l.id(), Unheard);
            }
            if w.caps().accepts {
                let server = w.listen()?;
                let opened = w.open(server.contact().clone()).deadline(LONG).wait();
                opened.and_then(|h| h.close().deadline(LONG).wait()).or_else(|e| faults.hit().map(drop).ok_or(e))?;
            } else {
                let opened = w.alone();
                opened.map(drop).or_else(|e| faults.hit().map(drop).ok_or(e))?;
            }
            w.run();
            Ok(())
        })?;
        drop(world);
        ensure_eq!(census.alive(), 0, "attrs that were made and not dropped");
        Ok(())
    })?;
    Ok(())
}
