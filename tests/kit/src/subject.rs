//! What is tested: a driver, or any stack. Invariant: a subject is a recipe; every run builds its
//! levels anew, so nothing but what the driver itself shares reaches from one run to the next.

use std::fmt;
use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Caps, Unit};
use xio_core::driver::Shape;
use xio_core::{Contact, Driver, LevelNode, Stack};
use xio_drivers::{frame, loop_, tcp};

use crate::beds;
use crate::layout;
use crate::verdict::{Checked, Stop};

/// Where the kit's own bottoms listen.
const AT: &str = "127.0.0.1:0";

/// What is tested.
///
/// ```
/// use xio_testkit::Subject;
/// let s = Subject::transform(xio_drivers::frame::driver());
/// assert_eq!(s.name(), "frame");
/// assert_eq!(s.caps().unwrap().unit, xio_core::caps::Unit::Message);
/// ```
#[derive(Clone)]
pub struct Subject {
    name: String,
    /// The levels under test, without the bottom that the kit adds.
    top: LevelNode,
    bed: Bed,
    contact: Contact,
    holds: usize,
    known: Vec<&'static str>,
    real: bool,
}

/// What the kit calls the branches of a driver that has such.
const BRANCHES: [&str; 2] = ["a", "b"];

/// What the kit puts below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bed {
    /// Nothing: the stack has a transport.
    Own,
    Stream,
    Messages,
    Datagrams,
    /// Two streams, for a branching driver, or two of messages.
    Branches,
    MessageBranches,
}

impl Subject {
    /// A driver that stands at the bottom, and where it can listen; an open goes to where its server
    /// says it is. For one that does not accept, `contact` is where it opens to.
    pub fn transport(driver: Arc<dyn Driver>, contact: impl Into<Contact>) -> Self {
        let name = driver.info().name;
        Self::made(name, LevelNode::new(driver), Bed::Own, contact.into())
    }

    /// A driver that stands over others. The kit puts below it what it needs: `tcp` over the
    /// simulated network, with `frame` between for messages; two of these for one that branches.
    pub fn transform(driver: Arc<dyn Driver>) -> Self {
        let (name, shape) = (driver.info().name, driver.info().shape);
        let needs = driver.needs(&*driver.attr());
        let bed = match () {
            () if shape == Shape::Branching => Bed::Branches,
            () if needs.units.contains(&Unit::Stream) => Bed::Stream,
            () if needs.units.contains(&Unit::Message) => Bed::Messages,
            () => Bed::Datagrams,
        };
        Self::made(name, LevelNode::new(driver), bed, Contact::new(AT))
    }

    /// A whole stack, transport included. Where it listens is set with [`at`](Self::at).
    pub fn stack(top: LevelNode) -> Self {
        let name = Stack::new(top.clone()).map_or_else(|_| "a stack that does not fit".into(), |s| s.to_string());
        Self::made(name, top, Bed::Own, Contact::None)
    }

    /// A stack that is bound already, from a spec for example.
    pub fn of(stack: &Stack) -> Self {
        Self::made(stack.to_string(), layout::with_inserted(stack, &|_, level| level), Bed::Own, Contact::None)
    }

    fn made(name: impl Into<String>, top: LevelNode, bed: Bed, contact: Contact) -> Self {
        Self { name: name.into(), top, bed, contact, holds: 1 << 18, known: Vec::new(), real: false }
    }

    /// Names it in reports.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the attr of the driver under test.
    #[must_use]
    pub fn with_attr(mut self, attr: Box<dyn Attr>) -> Self {
        self.top = self.top.with_attr(attr);
        self
    }

    /// Puts a transform over messages, though it would take a stream as well.
    #[must_use]
    pub fn over_messages(mut self) -> Self {
        self.bed = if self.bed == Bed::Branches { Bed::MessageBranches } else { Bed::Messages };
        self
    }

    /// Says where it listens.
    #[must_use]
    pub fn at(mut self, contact: impl Into<Contact>) -> Self {
        self.contact = contact.into();
        self
    }

    /// States how many bytes its levels may hold a direction, where that is more than 256 KiB.
    #[must_use]
    pub fn holds(mut self, bytes: usize) -> Self {
        self.holds = bytes;
        self
    }

    /// Names rules that it is known to break. The tests of these rules fail when it keeps them, so
    /// that the list never outlives its reasons.
    #[must_use]
    pub fn known(mut self, rules: &[&'static str]) -> Self {
        self.known.extend_from_slice(rules);
        self
    }

    /// Runs it on real sockets and in real time, for what a simulation leaves out: how threads wait.
    #[must_use]
    pub fn on_real_sockets(mut self) -> Self {
        self.real = true;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole tree of levels, with what the kit adds below.
    pub fn root(&self) -> LevelNode {
        match self.bed {
            Bed::Own => self.top.clone(),
            Bed::Stream => self.top.clone().over(stream()),
            Bed::Messages => self.top.clone().over(messages()),
            Bed::Datagrams => self.top.clone().over(beds::datagrams()),
            Bed::Branches => BRANCHES.into_iter().fold(self.top.clone(), |top, l| top.branch(l, stream())),
            Bed::MessageBranches => BRANCHES.into_iter().fold(self.top.clone(), |top, l| top.branch(l, messages())),
        }
    }

    /// How many bottoms the kit puts below the levels under test, one a branch; none where they have transports
    /// of their own.
    pub fn bottoms(&self) -> usize {
        match self.bed {
            Bed::Own => 0,
            Bed::Stream | Bed::Messages | Bed::Datagrams => 1,
            Bed::Branches | Bed::MessageBranches => BRANCHES.len(),
        }
    }

    /// The levels under test over other bottoms, in the order of their branches; `None` where there are not as
    /// many as [`bottoms`](Self::bottoms).
    pub fn over(&self, bottoms: impl IntoIterator<Item = LevelNode>) -> Option<LevelNode> {
        let bottoms: Vec<_> = bottoms.into_iter().collect();
        let top = self.top.clone();
        match (bottoms.len() == self.bottoms(), self.bed) {
            (false, _) | (_, Bed::Own) => None,
            (true, Bed::Stream | Bed::Messages | Bed::Datagrams) => bottoms.into_iter().next().map(|b| top.over(b)),
            (true, Bed::Branches | Bed::MessageBranches) => {
                Some(BRANCHES.into_iter().zip(bottoms).fold(top, |top, (label, b)| top.branch(label, b)))
            }
        }
    }

    /// What the stack gives.
    ///
    /// # Errors
    /// Where its levels do not fit.
    pub fn caps(&self) -> Checked<Caps> {
        Ok(bind(self.root())?.caps().clone())
    }

    /// Where it listens, or opens to.
    pub fn contact(&self) -> &Contact {
        match self.bed {
            Bed::Datagrams => &Contact::None,
            _ => &self.contact,
        }
    }

    /// How many bytes its levels may hold a direction.
    pub fn holds_bytes(&self) -> usize {
        self.holds
    }

    /// Whether it is listed as breaking this rule.
    pub fn is_known(&self, rule: &str) -> bool {
        self.known.contains(&rule)
    }

    pub(crate) fn is_real(&self) -> bool {
        self.real
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.name)
    }
}

/// A stream over the reactor's sockets.
pub(crate) fn stream() -> LevelNode {
    LevelNode::new(tcp::driver())
}

/// Messages over that.
pub(crate) fn messages() -> LevelNode {
    LevelNode::new(frame::driver()).over(stream())
}

/// A pair inside the process, of streams or of messages.
pub(crate) fn in_process(message: bool) -> LevelNode {
    LevelNode::new(loop_::driver()).with_attr(Box::new(loop_::Options::default().with_message(message)))
}

/// Binds a tree of levels.
pub(crate) fn bind(root: LevelNode) -> Checked<Stack> {
    Stack::new(root).map_err(|faults| {
        let text: Vec<_> = faults.iter().map(|f| format!("level {}: {f}", f.level)).collect();
        Stop::fail(format!("the levels do not fit: {}", text.join("; ")))
    })
}
