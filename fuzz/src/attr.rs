//! Options set and asked for by command, on a stack and on what is open of it, and the attrs of an op.

use std::collections::BTreeMap;
use std::time::Duration;

use xio_core::attr::{Group, Label, Offset, OpAttr, OpAttrs, Priority};
use xio_core::cntl::{Caps, Command, GetOption, LocalContact, PathInfo, RemoteContact, SetOption};
use xio_core::reactor::{Sim, SimConfig};
use xio_core::schema::Value;
use xio_core::{Contact, Engine, ErrorKind, Handle, Stack};

use crate::input::Input;
use crate::value::is_of;
use crate::{DRIVERS, Target};

pub(crate) const TARGET: Target = Target {
    name: "attr",
    body: run,
    covers: &["xio-core/src/attr.rs", "xio-core/src/cntl.rs"],
    fault: "a value over its bound is set",
};

const SPECS: [&str; 5] = [
    "queue/frame/tcp",
    "pick{a: rate(limit=1MB/s)/tcp, *: queue/loop}",
    "null/fault/queue(depth=3)/loop",
    "file(mode=write)",
    "rate(read_limit=1kB/s)/void",
];
/// Most steps of a run.
const STEPS: usize = 60;

/// A stack's options are what was set last and accepted; what is accepted is of its kind and in its bounds;
/// copies have their own. A handle takes what its schema calls `runtime` and nothing else. Whoever knows no
/// command says so.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let spec = input.one_of(&SPECS);
    let first = DRIVERS.stack(spec).unwrap_or_else(|e| panic!("{e}"));
    let mut stack = first.clone();
    let before = options(&first);
    let mut now = before.clone();
    let (_sim, _engine, handle) = open(&first, spec);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let level = level(&mut input, &first);
        match input.below(5) {
            0 | 1 => set(&mut input, &mut stack, &mut now, &level),
            2 => ask(&mut input, &stack, &now, &level),
            3 => handle.iter().for_each(|h| change(&mut input, h, &first, &level)),
            _ => query(&mut input, handle.as_ref(), &stack, &level),
        }
        assert_eq!(options(&stack), now);
    }
    assert_eq!(options(&first), before, "a copy was set, and the first one changed");
    op_attrs(&mut input);
}

type Known = BTreeMap<(String, &'static str), Option<Value>>;

fn options(stack: &Stack) -> Known {
    let of = |l: xio_core::stack::LevelView<'_>| -> Vec<_> {
        l.attr().specs().iter().map(|s| ((l.id().to_owned(), s.name), l.attr().copy().value(s.name))).collect()
    };
    stack.levels().flat_map(of).collect()
}

fn open(stack: &Stack, spec: &str) -> (std::sync::Arc<Sim>, Engine, Option<Handle>) {
    let sim = Sim::with_config(1, SimConfig::calm());
    let engine = Engine::builder().reactor(sim.clone()).build().expect("an engine");
    let to = if spec.contains("tcp") || spec.contains("loop") {
        let server = engine.listen(stack, Contact::new("10.0.0.1:0")).wait();
        server.map(|s| (s.contact().clone(), Some(s))).ok()
    } else {
        Some((Contact::None, None))
    };
    let handle = to.filter(|_| !spec.contains("file")).map(|(c, _server)| engine.open(stack, c).wait().unwrap());
    (sim, engine, handle)
}

/// A level of the stack, or none of it.
fn level(input: &mut Input<'_>, stack: &Stack) -> String {
    let ids: Vec<_> = stack.levels().map(|l| l.id().to_owned()).collect();
    let i = input.below(ids.len() + 1);
    ids.get(i).cloned().unwrap_or_else(|| input.text().to_owned())
}

/// An option of the level, or none of it.
fn name(input: &mut Input<'_>, stack: &Stack, level: &str) -> String {
    let specs = stack.level(level).map_or(&[][..], |l| l.attr().specs());
    let i = input.below(specs.len() + 1);
    specs.get(i).map_or_else(|| input.text().to_owned(), |s| s.name.to_owned())
}

fn value(input: &mut Input<'_>) -> Value {
    let number = match input.below(4) {
        0 => u64::from(input.byte()),
        1 => input.below(1 << 20) as u64,
        2 => input.one_of(&[0, 1 << 30, 1 << 50, i64::MAX as u64, u64::MAX]),
        _ => input.u64(),
    };
    match input.below(8) {
        0 => Value::Int(number as i64),
        1 => Value::Size(number),
        2 => Value::Bool(input.flag()),
        3 => Value::Duration(Duration::from_nanos(number)),
        4 => Value::Rate(number),
        5 => Value::Text(input.text().to_owned()),
        6 => Value::Float(f64::from_bits(number)),
        _ => Value::List((0..input.below(3)).map(|_| Value::Text(input.text().to_owned())).collect()),
    }
}

/// Whether the option may have this value, as far as its kind tells.
fn may(stack: &Stack, level: &str, name: &str, value: &Value) -> bool {
    let spec = stack.level(level).and_then(|l| l.attr().specs().iter().find(|s| s.name == name));
    spec.is_some_and(|s| is_of(&s.kind, value))
}

fn set(input: &mut Input<'_>, stack: &mut Stack, now: &mut Known, level: &str) {
    let (name, value) = (name(input, stack, level), value(input));
    match stack.attr_cntl(level, SetOption(name.clone(), value.clone())) {
        Ok((changed, ())) => {
            assert!(may(stack, level, &name, &value), "`{name}` of {level} took {value:?}");
            let (_, slot) =
                now.iter_mut().find(|((l, n), _)| l == level && *n == name).expect("an option that is there");
            // An empty list is none.
            *slot = Some(value).filter(|v| !matches!(v, Value::List(items) if items.is_empty()));
            *stack = changed;
        }
        Err(e) => {
            let known = [ErrorKind::InvalidInput, ErrorKind::UnknownLevel, ErrorKind::Misfit];
            assert!(known.contains(&e.kind()), "{e}");
            assert_eq!(e.kind() == ErrorKind::UnknownLevel, stack.level(level).is_none());
        }
    }
}

fn ask(input: &mut Input<'_>, stack: &Stack, now: &Known, level: &str) {
    let name = name(input, stack, level);
    if let Some(l) = stack.level(level) {
        // A copy is nobody else's, and takes no name or kind that it does not have.
        let mut copy = l.attr().copy();
        let value = value(input);
        let set = copy.set(&name, value.clone());
        assert!(set.is_err() || copy.value(&name).is_some() || matches!(value, Value::List(_)), "`{name}` of {level}");
        assert_eq!(copy.as_any_mut().type_id(), l.attr().as_any().type_id());
        let _ = copy.check_contact(&Contact::new(input.text()));
        let e = stack.attr_cntl(level, Unheard).map(drop).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnsupportedCommand);
    }
    let known = now.iter().find(|((l, n), _)| l == level && *n == name).map(|(_, v)| v.clone());
    match stack.attr_cntl(level, GetOption(name)) {
        Ok((_, value)) => assert_eq!(Some(value), known),
        Err(e) => {
            assert!(known.is_none(), "{e}");
            assert!(matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::UnknownLevel), "{e}");
        }
    }
}

fn change(input: &mut Input<'_>, handle: &Handle, stack: &Stack, level: &str) {
    let (name, value) = (name(input, stack, level), value(input));
    let runtime =
        stack.level(level).and_then(|l| l.attr().specs().iter().find(|s| s.name == name)).is_some_and(|s| s.runtime);
    match handle.cntl(level, SetOption(name.clone(), value.clone())) {
        Ok(()) => {
            assert!(runtime && may(stack, level, &name, &value), "`{name}` of the open {level} took {value:?}");
            if let Ok(there) = handle.cntl(level, GetOption(name.clone())) {
                assert_eq!(there, Some(value), "`{name}` of {level}");
            }
        }
        Err(e) => {
            let known = [
                ErrorKind::InvalidInput,
                ErrorKind::UnknownLevel,
                ErrorKind::UnsupportedCommand,
                ErrorKind::Unsupported,
            ];
            assert!(known.contains(&e.kind()), "{e}");
        }
    }
}

/// A command that no level knows.
struct Unheard;
impl Command for Unheard {
    type Reply = ();
    const NAME: &'static str = "Unheard";
}

fn query(input: &mut Input<'_>, handle: Option<&Handle>, stack: &Stack, level: &str) {
    let e = stack.op_cntl(Some(level), &mut OpAttrs::new(), Unheard).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::UnsupportedCommand);
    let _ = stack.is_self(&Contact::None);
    let _ = stack.is_self(&Contact::new("127.0.0.1:9").with_branch("a", Contact::None));
    let Some(h) = handle else { return };
    let unknown = |k: ErrorKind| matches!(k, ErrorKind::UnknownLevel | ErrorKind::UnsupportedCommand);
    assert!(h.cntl(level, Unheard).is_err_and(|e| unknown(e.kind())));
    assert!(h.query(Unheard).is_err_and(|e| e.kind() == ErrorKind::UnsupportedCommand));
    match input.below(4) {
        0 => drop(h.query(LocalContact).map(|c| assert_eq!(Contact::parse(&c.to_string()).ok(), Some(c)))),
        1 => drop(h.query(RemoteContact).map(|c| assert_eq!(Contact::parse(&c.to_string()).ok(), Some(c)))),
        2 => drop(h.query(PathInfo)),
        _ => drop(h.query(Caps)),
    }
}

/// The attrs of an op hold one value of each type, the last that was set.
fn op_attrs(input: &mut Input<'_>) {
    let mut attrs = OpAttrs::new();
    let (mut label, mut offset, mut group, mut priority) = (None, None, None, None);
    while !input.is_empty() {
        let removes = input.rarely(3);
        let x = u32::from(input.byte());
        match input.below(4) {
            0 => put(&mut attrs, &mut label, Label(x) | Label::SMALL, removes),
            1 => put(&mut attrs, &mut offset, Offset(u64::from(x)), removes),
            2 => put(&mut attrs, &mut group, Group(x.to_string()), removes),
            _ => put(&mut attrs, &mut priority, Priority(x as _), removes),
        }
        let copy = attrs.clone();
        assert!(copy == attrs && attrs.find() == label.as_ref() && attrs.find() == offset.as_ref());
        assert!(attrs.find() == group.as_ref() && attrs.find() == priority.as_ref());
        let count = [label.is_some(), offset.is_some(), group.is_some(), priority.is_some()];
        assert_eq!(attrs.is_empty(), count == [false; 4]);
        assert_ne!(copy.with(Label(u32::MAX)), attrs);
        assert_eq!(format!("{attrs:?}") == "[]", attrs.is_empty());
    }
}

fn put<T: OpAttr>(attrs: &mut OpAttrs, slot: &mut Option<T>, value: T, removes: bool) {
    if removes {
        assert_eq!(attrs.remove::<T>(), slot.take());
    } else {
        attrs.set(value.clone());
        *slot = Some(value);
    }
}
