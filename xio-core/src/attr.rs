//! Attrs: what a level is set up with ([`Attr`], one a level) and what travels with one op
//! ([`OpAttrs`]). Invariant: a copy is independent of its source, and an open handle keeps the
//! attrs it was opened with.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;

use crate::cntl::{Cntl, GetOption, SetOption};
use crate::contact::Contact;
use crate::error::{Error, ErrorKind};
use crate::schema::{OptionSpec, Value};
use crate::sync::planted;

/// The attr of one level: its options, as typed values.
///
/// `Driver::attr()` makes one with the defaults (init), [`copy`](Attr::copy) copies,
/// [`cntl`](Attr::cntl) changes it, `Drop` destroys it. The [`options!`](crate::options) macro
/// writes an implementation.
pub trait Attr: Any + Send + Sync + fmt::Debug {
    /// An independent copy.
    fn copy(&self) -> Box<dyn Attr>;

    /// Name of the driver whose options these are.
    fn driver(&self) -> &'static str;

    /// The options and their kinds.
    fn specs(&self) -> &'static [OptionSpec];

    /// Sets an option. The value has already been checked against its kind.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an unknown name or a value of another kind; nothing changes.
    fn set(&mut self, name: &str, value: Value) -> Result<(), Error>;

    /// The value of an option; `None` where it is unset or unknown.
    fn value(&self, name: &str) -> Option<Value>;

    /// Checks what no single option can tell.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] with a sentence that says which options contradict each other.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Checks how a contact for a transport with these options is written: whether an open or a
    /// listen could take it. Called when an endpoint is bound, with what its text says for this
    /// level; never for none. Nothing is opened or looked up.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidContact`] with the sentence that an open would fail with.
    fn check_contact(&self, contact: &Contact) -> Result<(), Error> {
        let _ = contact;
        Ok(())
    }

    /// Answers a command. Called by the owner of the stack, never by the engine.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedCommand`] for a command it does not know; nothing changes.
    fn cntl(&mut self, c: &mut Cntl<'_>) -> Result<(), Error>;

    /// For downcasts to the driver's own options.
    fn as_any(&self) -> &dyn Any;

    /// For downcasts to the driver's own options.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// The part of [`Attr::cntl`] that is the same for every set of options.
///
/// # Errors
/// As [`Attr::cntl`].
pub fn option_cntl(attr: &mut dyn Attr, c: &mut Cntl<'_>) -> Result<(), Error> {
    if let Some(GetOption(name)) = c.command() {
        if !attr.specs().iter().any(|s| s.name == name) {
            return Err(unknown_option(name));
        }
        return c.reply::<GetOption>(attr.value(name));
    }
    if let Some(SetOption(name, value)) = c.command() {
        let Some(spec) = attr.specs().iter().find(|s| s.name == name) else {
            return Err(unknown_option(name));
        };
        check_value(spec, value)?;
        attr.set(name, value.clone())?;
        return c.reply::<SetOption>(());
    }
    Err(c.unsupported())
}

/// Checks a typed value against an option's kind and bounds.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] that says what the option takes.
pub fn check_value(spec: &OptionSpec, value: &Value) -> Result<(), Error> {
    use crate::schema::{Raw, ValueKind};
    match (spec.kind, value) {
        (ValueKind::Text | ValueKind::Path, Value::Text(_)) => return Ok(()),
        (ValueKind::List(inner), Value::List(items)) => {
            let item = OptionSpec { kind: *inner, ..*spec };
            return items.iter().try_for_each(|v| check_value(&item, v));
        }
        _ => {}
    }
    match spec.kind.parse(&Raw::Bare(&value.to_string())) {
        Ok(v) if v == *value => Ok(()),
        Ok(_) => Err(wrong_value(spec.name, value, spec.secret)),
        Err(_) if planted("a value over its bound is set") && matches!(value, Value::Size(_)) => Ok(()),
        Err(_) if spec.secret => Err(wrong_value(spec.name, value, true)),
        Err(e) => Err(Error::new(ErrorKind::InvalidInput).detail(format!("option `{}` {e}", spec.name))),
    }
}

/// The error for an option that does not exist.
#[cold]
pub fn unknown_option(name: &str) -> Error {
    Error::new(ErrorKind::InvalidInput).detail(format!("there is no option `{name}`"))
}

/// The error for a value of another kind, which does not show it where it is secret.
#[cold]
pub fn wrong_value(name: &str, value: &Value, secret: bool) -> Error {
    let shown = if secret { "the secret it was given".into() } else { format!("`{value}`") };
    Error::new(ErrorKind::InvalidInput).detail(format!("option `{name}` does not take {shown}"))
}

/// A Rust type that stands for an option's value.
pub trait Field: Sized {
    /// From the typed value; `None` where it is of another kind or out of range.
    fn from_value(v: Value) -> Option<Self>;
    /// To the typed value; `None` where unset.
    fn to_value(&self) -> Option<Value>;
}

/// Bytes, as an option's type: prints and reads as a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size(pub u64);

/// Bytes a second, as an option's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate(pub u64);

macro_rules! fields {
    ($($t:ty, $pat:pat => $from:expr, $s:ident => $to:expr;)+) => {$(
        impl Field for $t {
            fn from_value(v: Value) -> Option<Self> {
                match v { $pat => $from, _ => None }
            }
            fn to_value(&self) -> Option<Value> { let $s = self; Some($to) }
        }
    )+};
}
fields! {
    bool, Value::Bool(b) => Some(b), s => Value::Bool(*s);
    u8, Value::Int(i) => Self::try_from(i).ok(), s => Value::Int(i64::from(*s));
    u16, Value::Int(i) => Self::try_from(i).ok(), s => Value::Int(i64::from(*s));
    u32, Value::Int(i) => Self::try_from(i).ok(), s => Value::Int(i64::from(*s));
    i64, Value::Int(i) => Some(i), s => Value::Int(*s);
    f64, Value::Float(x) => Some(x), s => Value::Float(*s);
    Size, Value::Size(n) => Some(Self(n)), s => Value::Size(s.0);
    Rate, Value::Rate(n) => Some(Self(n)), s => Value::Rate(s.0);
    Duration, Value::Duration(d) => Some(d), s => Value::Duration(*s);
    String, Value::Text(t) => Some(t), s => Value::Text(s.clone());
}
impl<T: Field> Field for Option<T> {
    fn from_value(v: Value) -> Option<Self> {
        T::from_value(v).map(Some)
    }
    fn to_value(&self) -> Option<Value> {
        self.as_ref().and_then(Field::to_value)
    }
}
impl<T: Field> Field for Vec<T> {
    fn from_value(v: Value) -> Option<Self> {
        match v {
            Value::List(items) => items.into_iter().map(T::from_value).collect(),
            _ => None,
        }
    }
    fn to_value(&self) -> Option<Value> {
        if self.is_empty() { None } else { Some(Value::List(self.iter().filter_map(Field::to_value).collect())) }
    }
}

/// Declares a driver's options: the struct, its defaults, `with_*` setters, the schema and [`Attr`].
///
/// A field is `name, setter: Type = default, Kind;` under the docs that people read in
/// `xio drivers NAME`. After the kind may stand `runtime` (changeable on an open handle) or
/// `secret`. Fields in `live { … }` exist in code only: descriptors and other things that no text
/// can name. `check path;` names a function `fn(&Options) -> Result<(), Error>` for what no single
/// option can tell, `contact path;` behind it a `fn(&Options, &Contact) -> Result<(), Error>` for
/// [`Attr::check_contact`].
///
/// ```
/// use xio_core::schema::ValueKind;
/// use xio_core::attr::{Attr, Size};
/// xio_core::options! {
///     /// Options of the `demo` driver.
///     pub struct Options for "demo" {
///         /// How many.
///         depth, with_depth: u32 = 64, ValueKind::Int { min: 1, max: 65_536 };
///         /// How much.
///         high, with_high: Size = Size(256 * 1024), ValueKind::ANY_SIZE, runtime;
///     }
/// }
/// let o = Options::default().with_depth(8);
/// assert_eq!(o.depth, 8);
/// assert_eq!(o.value("high").unwrap().to_string(), "256KiB");
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $Options:ident for $driver:literal {
            $( $(#[doc = $doc:literal])+ $name:ident, $with:ident : $ty:ty = $default:expr, $kind:expr $(, $flag:ident)*; )*
            $( live { $( $(#[doc = $ldoc:literal])+ $lname:ident, $lwith:ident : $lty:ty = $ldefault:expr; )* } )?
            $( check $check:path; )?
            $( contact $contact:path; )?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone)]
        #[non_exhaustive]
        pub struct $Options {
            $( $(#[doc = $doc])+ pub $name: $ty, )*
            $( $( $(#[doc = $ldoc])+ pub $lname: $lty, )* )?
        }

        impl ::std::default::Default for $Options {
            fn default() -> Self {
                Self { $( $name: $default, )* $( $( $lname: $ldefault, )* )? }
            }
        }

        impl ::std::fmt::Debug for $Options {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let mut s = f.debug_struct(concat!($driver, "::Options"));
                $( s.field(stringify!($name), if $crate::options!(@flag secret $($flag)*) { &"***" } else { &self.$name }); )*
                $( $( s.field(stringify!($lname), &self.$lname); )* )?
                s.finish()
            }
        }

        impl $Options {
            /// Name of the driver these are the options of.
            pub const DRIVER: &'static str = $driver;

            /// The options as a schema.
            pub const SPECS: &'static [$crate::schema::OptionSpec] = &[
                $( $crate::schema::OptionSpec::new(
                    stringify!($name),
                    $kind,
                    || { let d: $ty = $default; $crate::attr::Field::to_value(&d) },
                    concat!($($doc, "\n"),+),
                    $crate::options!(@flag secret $($flag)*),
                    $crate::options!(@flag runtime $($flag)*),
                ), )*
            ];

            $( $(#[doc = $doc])+ #[must_use] pub fn $with(mut self, $name: $ty) -> Self { self.$name = $name; self } )*
            $( $( $(#[doc = $ldoc])+ #[must_use] pub fn $lwith(mut self, $lname: $lty) -> Self { self.$lname = $lname; self } )* )?
        }

        impl $crate::attr::Attr for $Options {
            fn copy(&self) -> ::std::boxed::Box<dyn $crate::attr::Attr> {
                ::std::boxed::Box::new(self.clone())
            }
            fn driver(&self) -> &'static str {
                $driver
            }
            fn specs(&self) -> &'static [$crate::schema::OptionSpec] {
                Self::SPECS
            }
            #[allow(unused_variables, reason = "a driver may have no options")]
            fn set(&mut self, name: &str, value: $crate::schema::Value) -> ::std::result::Result<(), $crate::Error> {
                $( if name == stringify!($name) {
                    return match $crate::attr::Field::from_value(value.clone()) {
                        Some(v) => { self.$name = v; Ok(()) }
                        None => {
                            Err($crate::attr::wrong_value(name, &value, $crate::options!(@flag secret $($flag)*)))
                        }
                    };
                } )*
                Err($crate::attr::unknown_option(name))
            }
            #[allow(unused_variables, reason = "a driver may have no options")]
            fn value(&self, name: &str) -> ::std::option::Option<$crate::schema::Value> {
                $( if name == stringify!($name) { return $crate::attr::Field::to_value(&self.$name); } )*
                None
            }
            fn cntl(&mut self, c: &mut $crate::cntl::Cntl<'_>) -> ::std::result::Result<(), $crate::Error> {
                $crate::attr::option_cntl(self, c)
            }
            $( fn check(&self) -> ::std::result::Result<(), $crate::Error> { $check(self) } )?
            $( fn check_contact(&self, contact: &$crate::Contact) -> ::std::result::Result<(), $crate::Error> {
                $contact(self, contact)
            } )?
            fn as_any(&self) -> &dyn ::std::any::Any { self }
            fn as_any_mut(&mut self) -> &mut dyn ::std::any::Any { self }
        }
    };
    (@flag secret secret $($rest:ident)*) => { true };
    (@flag runtime runtime $($rest:ident)*) => { true };
    (@flag $want:ident $other:ident $($rest:ident)*) => { $crate::options!(@flag $want $($rest)*) };
    (@flag $want:ident) => { false };
}

/// A typed value that travels with one op: down with a write, up with a read. Third parties may
/// define their own.
pub trait OpAttr: Any + Clone + PartialEq + fmt::Debug + Send + Sync {}

trait AnyAttr: Any + Send + Sync {
    fn copy(&self) -> Box<dyn AnyAttr>;
    fn same(&self, other: &dyn AnyAttr) -> bool;
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: OpAttr> AnyAttr for T {
    fn copy(&self) -> Box<dyn AnyAttr> {
        Box::new(self.clone())
    }
    fn same(&self, other: &dyn AnyAttr) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The attrs of one op: at most one value of each type. Empty costs one pointer.
///
/// ```
/// use xio_core::attr::{Label, OpAttrs};
/// let attrs = OpAttrs::new().with(Label::ONDEMAND);
/// assert_eq!(attrs.find::<Label>(), Some(&Label::ONDEMAND));
/// assert_ne!(attrs, OpAttrs::new());
/// ```
#[derive(Default)]
pub struct OpAttrs(Option<Box<List>>);

/// Ops have few attrs; one of them is two allocations: the list, and the value.
type List = SmallVec<[Box<dyn AnyAttr>; 2]>;

impl OpAttrs {
    /// No attrs.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Sets the value of type `T`.
    pub fn set<T: OpAttr>(&mut self, value: T) {
        let list = self.0.get_or_insert_default();
        match list.iter_mut().find_map(|a| (**a).as_any_mut().downcast_mut()) {
            Some(slot) => *slot = value,
            None => list.push(Box::new(value)),
        }
    }

    /// Sets the value of type `T`, for chains.
    #[must_use]
    pub fn with<T: OpAttr>(mut self, value: T) -> Self {
        self.set(value);
        self
    }

    /// The value of type `T`.
    pub fn find<T: OpAttr>(&self) -> Option<&T> {
        self.0.as_ref()?.iter().find_map(|a| (**a).as_any().downcast_ref())
    }

    /// Takes the value of type `T` out.
    pub fn remove<T: OpAttr>(&mut self) -> Option<T> {
        let list = self.0.as_mut()?;
        let i = list.iter().position(|a| (**a).as_any().is::<T>())?;
        let boxed = list.swap_remove(i);
        if list.is_empty() {
            self.0 = None;
        }
        boxed.into_any().downcast().ok().map(|b| *b)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Clone for OpAttrs {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().map(|l| Box::new(l.iter().map(|a| (**a).copy()).collect())))
    }
}

impl PartialEq for OpAttrs {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().all(|x| b.iter().any(|y| (**x).same(&**y))),
            _ => false,
        }
    }
}

impl fmt::Debug for OpAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Show<'a>(&'a dyn AnyAttr);
        impl fmt::Debug for Show<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.show(f)
            }
        }
        f.debug_list().entries(self.0.iter().flat_map(|l| l.iter()).map(|a| Show(&**a))).finish()
    }
}

/// What an op is for, as libcmm's labels: bits that may be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Label(pub u32);

impl Label {
    /// Somebody waits for it.
    pub const ONDEMAND: Self = Self(0x4);
    /// Nobody waits for it.
    pub const BACKGROUND: Self = Self(0x8);
    /// It is short.
    pub const SMALL: Self = Self(0x10);
    /// It is long.
    pub const LARGE: Self = Self(0x20);
}

impl std::ops::BitOr for Label {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The peer of one datagram: where to for a write, where from for a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(pub Contact);

/// The file offset of one op, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(pub u64);

/// One op carries many datagrams of this many bytes each; the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment(pub usize);

/// Type and subtype of a typed buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// At most 8 bytes of ASCII.
    pub name: String,
    /// At most 16 bytes of ASCII.
    pub sub: Option<String>,
}

/// The branch of a branching level this op is for, by label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group(pub String);

/// How urgent the op is; higher goes first where a level looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub i8);

impl OpAttr for Label {}
impl OpAttr for Peer {}
impl OpAttr for Offset {}
impl OpAttr for Segment {}
impl OpAttr for Type {}
impl OpAttr for Group {}
impl OpAttr for Priority {}

#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "the tests use a part of what the macro writes")]
mod tests {
    use super::*;
    use crate::schema::ValueKind;

    options! {
        /// Options of a driver that exists for these tests.
        pub struct Sample for "sample" {
            /// How many.
            depth, with_depth: u32 = 64, ValueKind::Int { min: 1, max: 100 };
            /// How long.
            wait, with_wait: Option<Duration> = None, ValueKind::ANY_DURATION, runtime;
            /// Words.
            words, with_words: Vec<String> = Vec::new(), ValueKind::List(&ValueKind::Text), secret;
            live {
                /// Something no text can name.
                thing, with_thing: Option<std::sync::Arc<()>> = None;
            }
            check even;
        }
    }

    fn even(o: &Sample) -> Result<(), Error> {
        if o.depth & 1 == 0 { Ok(()) } else { Err(ErrorKind::InvalidInput.into()) }
    }

    #[test]
    fn options_are_set_read_and_checked_by_name() {
        let mut o = Sample::default().with_wait(Some(Duration::from_secs(1)));
        assert_eq!(o.value("wait"), Some(Value::Duration(Duration::from_secs(1))));
        assert_eq!((Sample::SPECS[0].default)(), Some(Value::Int(64)));
        assert_eq!((Sample::SPECS[1].default)(), None);
        assert!(Sample::SPECS[1].runtime && Sample::SPECS[2].secret && !Sample::SPECS[0].runtime);
        o.set("depth", Value::Int(7)).unwrap();
        assert!(o.check().is_err());
        assert!(o.set("depth", Value::Bool(true)).is_err());
        assert!(o.set("nope", Value::Bool(true)).is_err());
        assert_eq!(o.depth, 7);
    }

    #[test]
    fn a_list_is_checked_item_by_item_and_a_secret_is_not_shown() {
        let (words, mut o) = (&Sample::SPECS[2], Sample::default());
        let list = |items: &[Value]| Value::List(items.to_vec());
        check_value(words, &list(&[])).unwrap();
        check_value(words, &list(&[Value::Text("a, [b]".into())])).unwrap();
        let wrong = list(&[Value::Text("hush".into()), Value::Int(7373)]);
        for e in [check_value(words, &wrong).unwrap_err(), o.set("words", wrong).unwrap_err()] {
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
            assert!(e.to_string().contains("`words`") && !e.to_string().contains("7373"), "{e}");
            assert!(!e.to_string().contains("hush"), "{e}");
        }
        o.set("words", list(&[Value::Text("hush".into())])).unwrap();
        assert!(!format!("{o:?}").contains("hush"), "{o:?}");
    }

    #[test]
    fn commands_on_an_attr_check_bounds_and_change_nothing_on_error() {
        let mut o = Sample::default();
        let cmd = SetOption("depth".into(), Value::Int(101));
        assert!(o.cntl(&mut Cntl::new(&cmd)).unwrap_err().to_string().contains("1..=100"));
        assert_eq!(o.depth, 64);
        let copy = o.copy();
        o.set("depth", Value::Int(2)).unwrap();
        assert_eq!(copy.value("depth"), Some(Value::Int(64)));
        let cmd = crate::cntl::LocalContact;
        assert_eq!(o.cntl(&mut Cntl::new(&cmd)).unwrap_err().kind(), ErrorKind::UnsupportedCommand);
    }

    #[test]
    fn op_attrs_hold_one_of_each_type() {
        let mut a = OpAttrs::new().with(Label::SMALL).with(Offset(3));
        a.set(Label::LARGE);
        assert_eq!(a.find::<Label>(), Some(&Label::LARGE));
        assert_eq!(a, OpAttrs::new().with(Offset(3)).with(Label::LARGE));
        assert_eq!(a.clone(), a);
        assert_eq!(a.remove::<Offset>(), Some(Offset(3)));
        assert_eq!(a.remove::<Offset>(), None);
        assert_eq!(a.remove::<Label>(), Some(Label::LARGE));
        assert!(a.is_empty());
    }
}
