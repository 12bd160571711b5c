//! What a driver is: a kind of level. It describes itself ([`Info`]), checks and copies its attr,
//! says what it needs and gives, and makes levels. The level itself is [`crate::level::Level`].
//! Invariant: a driver holds no state of a handle; everything per handle lives in the level.

use std::any::Any;
use std::fmt;
use std::ops::BitOr;

use crate::attr::{Attr, OpAttrs};
use crate::caps::{Branch, Caps, Needs};
use crate::cntl::Cntl;
use crate::contact::Contact;
use crate::error::Error;
use crate::level::Level;
use crate::schema::OptionSpec;

/// The kinds of ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpKind {
    /// Opens the stack towards a contact or over a link.
    Open,
    /// Closes it.
    Close,
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Makes sure that what was written has left every level.
    Flush,
    /// Ends the write side.
    Shutdown,
    /// Waits until a read or write would move something (XIO's select mode).
    Ready,
    /// Waits for a link on a server.
    Accept,
    /// Starts a server: top to bottom XIO's `server_pre_init`, bottom to top its `server_init`.
    Listen,
}

impl OpKind {
    /// How many kinds there are.
    pub const COUNT: usize = 9;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Open,
        Self::Close,
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Shutdown,
        Self::Ready,
        Self::Accept,
        Self::Listen,
    ];

    /// The word used in texts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Shutdown => "shutdown",
            Self::Ready => "ready",
            Self::Accept => "accept",
            Self::Listen => "listen",
        }
    }
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which op kinds a level wants to see, going down and coming back up, and how.
///
/// A level that does not intercept a kind costs nothing for it: the engine never calls it.
///
/// ```
/// use xio_core::driver::{Intercepts, OpKind};
/// let i = Intercepts::READ | Intercepts::READ_DONE | Intercepts::CLOSE;
/// assert!(i.down(OpKind::Read) && i.up(OpKind::Read) && !i.up(OpKind::Close));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intercepts(u32);

macro_rules! intercepts {
    ($($kind:ident $down:ident $up:ident;)+) => {
        $(
            /// The kind of this name on its way down.
            pub const $down: Self = Self(1 << (OpKind::$kind as u32));
            /// The kind of this name on its way up.
            pub const $up: Self = Self(1 << (16 + OpKind::$kind as u32));
        )+
    };
}

impl Intercepts {
    intercepts! {
        Open OPEN OPEN_DONE;
        Close CLOSE CLOSE_DONE;
        Read READ READ_DONE;
        Write WRITE WRITE_DONE;
        Flush FLUSH FLUSH_DONE;
        Shutdown SHUTDOWN SHUTDOWN_DONE;
        Ready READY READY_DONE;
        Accept ACCEPT ACCEPT_DONE;
        Listen LISTEN LISTEN_DONE;
    }
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The level can have several reads from above in or below it at once. Without this the engine
    /// lets one in and keeps the others waiting, in order.
    pub const CONCURRENT_READS: Self = Self(1 << 12);
    /// The same for writes.
    pub const CONCURRENT_WRITES: Self = Self(1 << 13);
    /// The level wants a word of its own on every op (`Cx::word`).
    pub const WORD: Self = Self(1 << 14);
    /// The level understands writes that carry several messages.
    pub const BATCHES: Self = Self(1 << 11);
    /// The level wants events from below.
    pub const EVENT: Self = Self(1 << 15);

    /// Whether all of `other` is in `self`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether ops of this kind are seen on their way down.
    pub const fn down(self, kind: OpKind) -> bool {
        self.0 & (1 << (kind as u32)) != 0
    }

    /// Whether ops of this kind are seen on their way up.
    pub const fn up(self, kind: OpKind) -> bool {
        self.0 & (1 << (16 + kind as u32)) != 0
    }
}

impl BitOr for Intercepts {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Where in a stack a driver can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// At the bottom: nothing below.
    Transport,
    /// Over one level.
    Transform,
    /// Over one or more branches.
    Branching,
}

/// What a driver says of itself.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Info {
    /// Name in a spec: a lower-case letter, then lower-case letters, digits, `-` or `_`.
    pub name: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// Where it can stand.
    pub shape: Shape,
    /// Its options.
    pub options: &'static [OptionSpec],
    /// Branch labels that mean something to it; empty: any.
    pub labels: &'static [&'static str],
    /// How a contact for it is written; empty: it takes none.
    pub contact: &'static str,
}

impl Info {
    /// A description without options, labels or contact.
    pub const fn new(name: &'static str, shape: Shape, summary: &'static str) -> Self {
        Self { name, summary, shape, options: &[], labels: &[], contact: "" }
    }

    /// Sets the options.
    #[must_use]
    pub const fn with_options(mut self, options: &'static [OptionSpec]) -> Self {
        self.options = options;
        self
    }

    /// Sets the branch labels that have a meaning.
    #[must_use]
    pub const fn with_labels(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    /// Says how a contact is written.
    #[must_use]
    pub const fn with_contact(mut self, contact: &'static str) -> Self {
        self.contact = contact;
        self
    }
}

/// Which side of a stack a level is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A handle: open, read, write, close.
    Handle,
    /// A server: listen, accept, close.
    Server,
}

/// What one level knows of an accepted link, handed to the level that opens it.
pub type LinkPart = Box<dyn Any + Send>;

/// A kind of level.
///
/// # Implementing
/// The four attr functions of Globus XIO are `attr` (init), [`Attr::copy`], [`Attr::cntl`] and
/// `Drop` (destroy). The engine calls `caps`, `needs` and `intercepts` when a stack is bound, once
/// a level, and `level` once a handle or server. All of them are pure; none may block.
pub trait Driver: Send + Sync + 'static {
    /// What it is. Called from any thread.
    fn info(&self) -> &Info;

    /// A fresh attr with the defaults.
    fn attr(&self) -> Box<dyn Attr>;

    /// What it needs below, given its attr.
    fn needs(&self, attr: &dyn Attr) -> Needs;

    /// What it gives above, given its attr and the levels right below, with their labels, in their
    /// order: none for a transport, one for a transform. The place to refuse branches that do not fit
    /// the attr or each other; at run time a level finds the labels in [`Cx::label`](crate::Cx::label).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Misfit`] where it refuses them, from a [`NoBranch`](crate::caps::NoBranch)
    /// where an option names one that is not there.
    fn caps(&self, attr: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error>;

    /// Which ops its levels see.
    fn intercepts(&self, attr: &dyn Attr, role: Role) -> Intercepts;

    /// Makes a level. The attr is a snapshot that later changes do not reach.
    ///
    /// # Errors
    /// Whatever keeps it from being made; the open or listen fails with it.
    fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error>;

    /// Answers a command about the attrs of one op (XIO's data descriptor cntl).
    ///
    /// # Errors
    /// [`crate::ErrorKind::UnsupportedCommand`] for a command it does not know.
    fn op_cntl(&self, attrs: &mut OpAttrs, c: &mut Cntl<'_>) -> Result<(), Error> {
        let _ = attrs;
        Err(c.unsupported())
    }

    /// Answers a command about an accepted link that is not open yet.
    ///
    /// # Errors
    /// [`crate::ErrorKind::UnsupportedCommand`] for a command it does not know.
    fn link_cntl(&self, part: &mut LinkPart, c: &mut Cntl<'_>) -> Result<(), Error> {
        let _ = part;
        Err(c.unsupported())
    }

    /// Whether a contact names a server of this process (EVPath's `self_check`). `None`: cannot tell.
    fn is_self(&self, attr: &dyn Attr, contact: &Contact) -> Option<bool> {
        let _ = (attr, contact);
        None
    }
}

/// The options of a level as the driver's own type.
///
/// # Panics
/// If the attr is not an `O`: an attr made by another driver's `attr()`, which binding rules out.
pub fn options<O: Attr>(attr: &dyn Attr) -> &O {
    attr.as_any().downcast_ref().expect("an attr belongs to the driver that made it")
}
