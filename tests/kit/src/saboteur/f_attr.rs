//! Breaks the rules of group F: attrs and commands.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use xio_core::attr::{Attr, option_cntl};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::{Cntl, GetOption, RemoteContact, SetOption};
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::Read;
use xio_core::schema::{OptionSpec, Value, ValueKind};
use xio_core::{Contact, Cx, Error, ErrorKind, Flow, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    ("F1", Proof::Driver { make: shares_its_attr, also: &["F2"] }),
    ("F2", Proof::Driver { make: looks_at_the_latest_attr, also: &[] }),
    ("F3", Proof::Driver { make: has_its_own_word_for_it, also: &[] }),
    ("F4", Proof::Driver { make: takes_any_value, also: &[] }),
    ("F5", Proof::Driver { make: likes_even_numbers, also: &[] }),
    ("F6", Proof::Driver { make: guesses_where_the_peer_is, also: &[] }),
    ("F7", Proof::Driver { make: is_disturbed_by_commands, also: &[] }),
    ("F8", Proof::Driver { make: keeps_its_attrs, also: &["H1"] }),
];

/// What is wrong with an attr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Nothing,
    /// Copies share the value.
    Shared,
    /// Open levels see the value that was set last.
    Latest,
    /// Values are not checked.
    Unchecked,
    /// Odd numbers are made even.
    Even,
}

/// An attr of one option, done by hand.
#[derive(Debug)]
struct OneOption {
    depth: Arc<Mutex<i64>>,
    latest: Arc<Mutex<i64>>,
    flaw: Flaw,
}

const SPECS: &[OptionSpec] =
    &[OptionSpec::new("depth", ValueKind::Int { min: 1, max: 99 }, || Some(Value::Int(64)), "How many.", false, false)];

fn read(cell: &Mutex<i64>) -> i64 {
    *cell.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(cell: &Mutex<i64>, n: i64) {
    *cell.lock().unwrap_or_else(PoisonError::into_inner) = n;
}

impl Attr for OneOption {
    fn copy(&self) -> Box<dyn Attr> {
        let depth = match self.flaw {
            Flaw::Shared => self.depth.clone(),
            _ => Arc::new(Mutex::new(read(&self.depth))),
        };
        Box::new(Self { depth, latest: self.latest.clone(), flaw: self.flaw })
    }
    fn driver(&self) -> &'static str {
        INFO.name
    }
    fn specs(&self) -> &'static [OptionSpec] {
        SPECS
    }
    fn set(&mut self, _: &str, value: Value) -> Result<(), Error> {
        let n = match value {
            Value::Int(n) if self.flaw == Flaw::Even => n & !1,
            Value::Int(n) => n,
            _ => return Err(xio_core::attr::wrong_value("depth", &value, false)),
        };
        put(&self.depth, n);
        put(&self.latest, n);
        Ok(())
    }
    fn value(&self, name: &str) -> Option<Value> {
        (name == "depth").then(|| Value::Int(read(&self.depth)))
    }
    fn cntl(&mut self, c: &mut Cntl<'_>) -> Result<(), Error> {
        match c.command::<SetOption>() {
            Some(SetOption(name, value)) if self.flaw == Flaw::Unchecked && name == "depth" => {
                self.set(name, value.clone())?;
                c.reply::<SetOption>(())
            }
            _ => option_cntl(self, c),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

const INFO: Info = Info::new("saboteur", Shape::Transform, "breaks a rule about attrs").with_options(SPECS);

struct WithOption {
    flaw: Flaw,
    latest: Arc<Mutex<i64>>,
    /// Copies of attrs, where it keeps them.
    kept: Option<Mutex<Vec<Box<dyn Attr>>>>,
}

fn with_option(flaw: Flaw, keeps: bool) -> Subject {
    let kept = keeps.then(Mutex::default);
    Subject::transform(Arc::new(WithOption { flaw, latest: Arc::new(Mutex::new(64)), kept }))
}

impl Driver for WithOption {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        let depth = Arc::new(Mutex::new(64));
        Box::new(OneOption { depth, latest: self.latest.clone(), flaw: self.flaw })
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::STREAM
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::NONE
    }
    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        if let Some(kept) = &self.kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(attr.copy());
        }
        let latest = (self.flaw == Flaw::Latest).then(|| self.latest.clone());
        Ok(Box::new(Answers(latest)))
    }
}

/// Answers with what was set last, by whomever.
struct Answers(Option<Arc<Mutex<i64>>>);

impl Level for Answers {
    fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        match (&self.0, c.command::<GetOption>()) {
            (Some(latest), Some(GetOption(name))) if name == "depth" => {
                c.reply::<GetOption>(Some(Value::Int(read(latest))))
            }
            _ => Err(c.unsupported()),
        }
    }
}

/// Copies of its attr are the same attr. What is open has a copy.
fn shares_its_attr() -> Subject {
    with_option(Flaw::Shared, false)
}

/// An open level answers with what was set last in any attr.
fn looks_at_the_latest_attr() -> Subject {
    with_option(Flaw::Latest, false)
}

/// Does not look at bounds.
fn takes_any_value() -> Subject {
    with_option(Flaw::Unchecked, false)
}

/// Takes an odd number for the even one below, and says so nowhere.
fn likes_even_numbers() -> Subject {
    with_option(Flaw::Even, false)
}

/// Keeps a copy of each attr for ever.
fn keeps_its_attrs() -> Subject {
    with_option(Flaw::Nothing, true)
}

/// Says something else to what it does not know.
fn has_its_own_word_for_it() -> Subject {
    struct Own;
    impl Level for Own {
        fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
            Err(if c.name() == "Unheard" { ErrorKind::Unsupported.into() } else { c.unsupported() })
        }
    }
    transform(Needs::STREAM, Intercepts::NONE, || Own)
}

/// Answers what the level below knows and it does not.
fn guesses_where_the_peer_is() -> Subject {
    struct Guesses;
    impl Level for Guesses {
        fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
            if c.command::<RemoteContact>().is_some() {
                return c.reply::<RemoteContact>(Contact::new("192.0.2.1:7"));
            }
            Err(c.unsupported())
        }
    }
    transform(Needs::STREAM, Intercepts::NONE, || Guesses)
}

/// A command that comes while a read is below flips a bit of what the read brings.
fn is_disturbed_by_commands() -> Subject {
    #[derive(Default)]
    struct Disturbed(bool, bool);
    impl Level for Disturbed {
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            self.0 = true;
            op.pass()
        }
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            self.0 = false;
            if std::mem::take(&mut self.1) && op.got() > 0 {
                let byte = op.take_back(1);
                op.put(&[byte[0] ^ 4]);
            }
            op.finished()
        }
        fn cntl(&mut self, _: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
            self.1 |= self.0;
            Err(c.unsupported())
        }
    }
    transform(Needs::STREAM, Intercepts::READ | Intercepts::READ_DONE, Disturbed::default)
}
