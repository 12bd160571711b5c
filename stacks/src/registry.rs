//! Names to drivers. Invariant: every driver in a [`Registry`] has a name and options that a spec
//! can write, and no name stands twice. Nothing registers itself: no global table, no life before
//! `main`. Limits for strings from outside are in [`Allow`](crate::Allow).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use xio_core::driver::Driver;
use xio_core::{Contact, Error, ErrorKind, Stack};

use crate::allow::Allow;
use crate::bind;
use crate::diagnostic::Diagnostics;
use crate::spec::{self, is_name};

/// The drivers a spec may name.
///
/// ```
/// use xio_stacks::Registry;
/// let registry = Registry::with_defaults();
/// let stack = registry.stack("queue(depth=8)/frame/tcp").unwrap();
/// assert_eq!(stack.to_string(), "queue/frame/tcp");
/// let wrong = registry.stack("quene/frame/tcp").unwrap_err();
/// assert!(wrong.to_string().contains("did you mean `queue`?"));
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    drivers: BTreeMap<&'static str, Arc<dyn Driver>>,
    allow: Vec<Arc<Allow>>,
}

impl Registry {
    /// No drivers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every driver of `xio-drivers` that was compiled in.
    pub fn with_defaults() -> Self {
        let mut out = Self::new();
        for driver in xio_drivers::all() {
            out.register(driver).expect("the names of the shipped drivers are valid and distinct");
        }
        out
    }

    /// Adds a driver, your own or a third party's.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] where its name stands already, or its name or an option's cannot
    /// be written in a spec.
    pub fn register(&mut self, driver: Arc<dyn Driver>) -> Result<(), Error> {
        let info = *driver.info();
        let bad =
            |why: String| Err(Error::new(ErrorKind::InvalidInput).detail(format!("driver `{}`: {why}", info.name)));
        if !is_name(info.name) {
            return bad("a name is a lower-case letter, then lower-case letters, digits, `-` or `_`".into());
        }
        for (i, option) in info.options.iter().enumerate() {
            if !is_name(option.name) || option.name == spec::ID {
                return bad(format!("no spec can set an option `{}`", option.name));
            }
            if info.options[..i].iter().any(|o| o.name == option.name) {
                return bad(format!("the option `{}` stands twice", option.name));
            }
        }
        if self.drivers.contains_key(info.name) {
            return bad("the name is registered already".into());
        }
        self.drivers.insert(info.name, driver);
        Ok(())
    }

    /// [`register`](Self::register), for chains.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn with(mut self, driver: Arc<dyn Driver>) -> Result<Self, Error> {
        self.register(driver)?;
        Ok(self)
    }

    /// Limits what a spec or an endpoint may name: for strings from outside. A second call limits
    /// further, it never adds.
    ///
    /// ```
    /// use xio_stacks::{Allow, Registry};
    /// let outside = Registry::with_defaults()
    ///     .only(Allow::drivers(["frame", "tcp"]).options("tcp", ["nodelay"]).contacts(["127.0.0.1:"]));
    /// assert!(outside.stack("frame/tcp(nodelay)").is_ok());
    /// assert!(outside.stack("queue/frame/tcp").is_err());
    /// ```
    #[must_use]
    pub fn only(mut self, allow: impl Into<Allow>) -> Self {
        self.allow.push(Arc::new(allow.into()));
        self
    }

    /// The driver of this name, allowed or not.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Driver>> {
        self.drivers.get(name)
    }

    /// The allowed drivers, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Driver>> {
        self.drivers.iter().filter(|(name, _)| self.allows_driver(name)).map(|(_, d)| d)
    }

    /// Names of the allowed drivers, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.drivers.keys().copied().filter(|name| self.allows_driver(name))
    }

    /// Reads a spec and binds it: every finding in one report.
    ///
    /// # Errors
    /// All that is wrong with the text, its names and values, and how the levels fit.
    pub fn stack(&self, text: &str) -> Result<Stack, Diagnostics> {
        bind::finish(self.check(text))
    }

    /// Like [`stack`](Self::stack), with the warnings. The stack is there if there was no error.
    pub fn check(&self, text: &str) -> (Option<Stack>, Diagnostics) {
        match spec::spec(text) {
            Ok(parsed) => bind::check(&parsed.stack, parsed.soft, self, None, &mut |_, _| ()),
            Err(fatal) => (None, fatal),
        }
    }

    /// Whether a contact is allowed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidContact`] that names the first leaf that is not.
    pub fn allows_contact(&self, contact: &Contact) -> Result<(), Error> {
        match contact {
            Contact::None => Ok(()),
            Contact::Text(t) if self.allow.iter().all(|a| a.permits_contact(t)) => Ok(()),
            Contact::Text(t) => Err(Error::new(ErrorKind::InvalidContact)
                .detail(format!("the contact {} is not allowed here", spec::shown(t)))),
            Contact::Branches(map) => map.values().try_for_each(|c| self.allows_contact(c)),
        }
    }

    pub(crate) fn allows_driver(&self, name: &str) -> bool {
        self.allow.iter().all(|a| a.permits_driver(name))
    }

    pub(crate) fn allows_option(&self, driver: &str, option: &str) -> bool {
        self.allow.iter().all(|a| a.permits_option(driver, option))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("drivers", &self.names().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// Why a name that is not registered may be meant all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shipped {
    /// The project has no such driver.
    No,
    /// It has, and this build left it out.
    NotCompiled,
    /// It is compiled in, and nobody registered it.
    NotRegistered,
}

/// Whether the project ships a driver of this name.
pub(crate) fn shipped(name: &str) -> Shipped {
    match SHIPPED.iter().find(|(n, _)| *n == name) {
        None => Shipped::No,
        Some((_, false)) => Shipped::NotCompiled,
        Some((_, true)) => Shipped::NotRegistered,
    }
}

/// Names of the drivers the project ships, for suggestions.
pub(crate) fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(n, _)| *n)
}

/// Every driver the project ships, and whether this build has it. The feature has the same name.
const SHIPPED: [(&str, bool); 21] = [
    ("checksum", false),
    ("fault", cfg!(feature = "fault")),
    ("file", cfg!(feature = "file")),
    ("filter", false),
    ("frame", cfg!(feature = "frame")),
    ("loop", cfg!(feature = "loop")),
    ("lz4", false),
    ("mux", false),
    ("null", cfg!(feature = "null")),
    ("pick", cfg!(feature = "pick")),
    ("queue", cfg!(feature = "queue")),
    ("rate", cfg!(feature = "rate")),
    ("shm", cfg!(feature = "shm")),
    ("tap", false),
    ("tcp", cfg!(feature = "tcp")),
    ("tls", false),
    ("trace", cfg!(feature = "trace")),
    ("typed", false),
    ("udp", cfg!(feature = "udp")),
    ("void", cfg!(feature = "void")),
    ("zstd", false),
];
