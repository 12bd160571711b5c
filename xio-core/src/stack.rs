//! A stack: a checked tree of levels, each a driver with its attr and id. It stores ingredients;
//! handles and servers are made from it. Invariant: a [`Stack`] that exists fits together, so
//! opening it cannot fail for how it is composed.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::attr::Attr;
use crate::caps::{Branch, Caps};
use crate::cntl::{Cntl, Command};
use crate::driver::{Driver, Role, Shape};
use crate::error::{Error, ErrorKind, Place};
use crate::plan::Plan;

/// Most levels on a path from the top to a transport.
pub const MAX_DEPTH: usize = 32;
/// Most levels in a stack, all branches together.
pub const MAX_LEVELS: usize = 240;
/// Most branches of one level.
pub const MAX_BRANCHES: usize = 64;

/// A level before it is bound: a driver, its attr, what lies below.
#[derive(Clone)]
pub struct LevelNode {
    driver: Arc<dyn Driver>,
    attr: Attrs,
    id: Option<String>,
    below: Vec<(Option<String>, Self)>,
}

struct Attrs(Box<dyn Attr>);

impl Clone for Attrs {
    fn clone(&self) -> Self {
        Self(self.0.copy())
    }
}

impl LevelNode {
    /// A level with the driver's default attr.
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        let attr = Attrs(driver.attr());
        Self { driver, attr, id: None, below: Vec::new() }
    }

    /// Sets the attr. It must be the driver's own type; [`Stack::new`] checks that.
    #[must_use]
    pub fn with_attr(mut self, attr: Box<dyn Attr>) -> Self {
        self.attr = Attrs(attr);
        self
    }

    /// Names the level. Without it the driver's name behind the branch path is taken.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Puts this level over `below`.
    #[must_use]
    pub fn over(mut self, below: Self) -> Self {
        self.below.push((None, below));
        self
    }

    /// Adds a branch.
    #[must_use]
    pub fn branch(mut self, label: impl Into<String>, below: Self) -> Self {
        self.below.push((Some(label.into()), below));
        self
    }
}

/// Why levels cannot be bound into a stack. Levels are counted from 0 at the top, branch by branch,
/// each branch to its end before the next (preorder).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fault {
    /// The level it is about.
    pub level: usize,
    /// The other level, for two that do not fit.
    pub other: Option<usize>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with a tree of levels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// A transport with something below it.
    TransportNotLast,
    /// A level that needs one below, at the bottom.
    NothingBelow,
    /// A level that takes no branches has some.
    NoBranches,
    /// A branching level has none.
    BranchesMissing,
    /// The level below does not give what this one needs.
    Unfit {
        /// What is needed, as "a stream".
        wanted: String,
        /// What is given, as "a datagram".
        given: String,
    },
    /// The driver refuses its attr or its branches.
    Refused(Error),
    /// An id stands twice.
    DuplicateId(String),
    /// Two branches of the level have this label.
    DuplicateLabel(String),
    /// Longer than [`MAX_DEPTH`].
    TooDeep,
    /// More than [`MAX_LEVELS`] levels or [`MAX_BRANCHES`] branches.
    TooMany,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::TransportNotLast => f.write_str("a transport must be the lowest level"),
            FaultKind::NothingBelow => f.write_str("this level needs a level below it"),
            FaultKind::NoBranches => f.write_str("this level takes no branches"),
            FaultKind::BranchesMissing => f.write_str("this level needs branches"),
            FaultKind::Unfit { wanted, given } => write!(f, "it needs {wanted} below; this gives {given}"),
            FaultKind::Refused(e) => write!(f, "{e}"),
            FaultKind::DuplicateId(id) => write!(f, "the id `{id}` stands twice"),
            FaultKind::DuplicateLabel(l) => write!(f, "two branches have the label `{l}`"),
            FaultKind::TooDeep => write!(f, "more than {MAX_DEPTH} levels on one path"),
            FaultKind::TooMany => write!(f, "more than {MAX_LEVELS} levels or {MAX_BRANCHES} branches"),
        }
    }
}

/// A checked stack. Cheap to clone; immutable. Open it with [`crate::Engine::open`], listen on it
/// with [`crate::Engine::listen`].
#[derive(Clone)]
pub struct Stack(Arc<Inner>);

struct Inner {
    nodes: Vec<Node>,
    text: Arc<str>,
    handle: Arc<Plan>,
    server: Arc<Plan>,
}

/// One bound level.
pub(crate) struct Node {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) attr: Box<dyn Attr>,
    pub(crate) place: Place,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) caps: Caps,
    /// Preorder number of the level above, counted from 1; 0 is the user.
    pub(crate) parent: u8,
    pub(crate) children: Vec<u8>,
}

impl Stack {
    /// Binds a tree of levels.
    ///
    /// # Errors
    /// Everything that is wrong with it, not only the first.
    pub fn new(root: LevelNode) -> Result<Self, Vec<Fault>> {
        let mut b = Binder { nodes: Vec::new(), faults: Vec::new(), ids: HashSet::new() };
        let mut text = String::new();
        write_shape(&root, &mut text, 0);
        b.place(root, 0, None, "", 1);
        if b.faults.is_empty() {
            b.fit();
        }
        if !b.faults.is_empty() {
            return Err(b.faults);
        }
        let text: Arc<str> = text.into();
        for n in &mut b.nodes {
            n.place.stack = text.clone();
        }
        let handle = Arc::new(Plan::new(&b.nodes, Role::Handle));
        let server = Arc::new(Plan::new(&b.nodes, Role::Server));
        Ok(Self(Arc::new(Inner { nodes: b.nodes, text, handle, server })))
    }

    /// What the stack gives to its user.
    pub fn caps(&self) -> &Caps {
        &self.0.nodes[0].caps
    }

    /// The levels, in preorder.
    pub fn levels(&self) -> impl ExactSizeIterator<Item = LevelView<'_>> {
        self.0.nodes.iter().map(|node| LevelView { node })
    }

    /// The level with this id.
    pub fn level(&self, id: &str) -> Option<LevelView<'_>> {
        self.levels().find(|l| l.id() == id)
    }

    /// A copy of the stack in which `command` was applied to the attr of one level, and the answer.
    /// The stack itself and what is open from it stay as they are.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownLevel`]; [`ErrorKind::Misfit`] where the changed levels no longer fit;
    /// whatever the attr answers.
    pub fn attr_cntl<C: Command>(&self, level: &str, command: C) -> Result<(Self, C::Reply), Error> {
        let n = self.position(level)?;
        let mut root = self.node(0);
        let mut c = Cntl::new(&command);
        let mut at = n;
        let target = nth_mut(&mut root, &mut at).ok_or_else(|| Error::new(ErrorKind::UnknownLevel))?;
        target.attr.0.cntl(&mut c)?;
        target.attr.0.check()?;
        let reply = c.into_reply::<C>()?;
        let stack = Self::new(root).map_err(|faults| {
            let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
            Error::new(ErrorKind::Misfit).detail(text.join("; "))
        })?;
        Ok((stack, reply))
    }

    /// Applies a command to the attrs of an op, asking level by level from the top, or one level.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedCommand`] where no level knows it.
    pub fn op_cntl<C: Command>(
        &self,
        level: Option<&str>,
        attrs: &mut crate::attr::OpAttrs,
        command: C,
    ) -> Result<C::Reply, Error> {
        let mut c = Cntl::new(&command);
        for node in &self.0.nodes {
            if level.is_some_and(|l| *l != *node.place.level) {
                continue;
            }
            match node.driver.op_cntl(attrs, &mut c) {
                Ok(()) => return c.into_reply::<C>(),
                Err(e) if e.kind() == ErrorKind::UnsupportedCommand => {}
                Err(e) => return Err(e),
            }
        }
        Err(c.unsupported())
    }

    fn position(&self, id: &str) -> Result<usize, Error> {
        self.levels().position(|l| l.id() == id).ok_or_else(|| {
            let known: Vec<_> = self.levels().map(|l| l.id().to_owned()).collect();
            Error::new(ErrorKind::UnknownLevel).detail(format!("`{id}`; there are {}", known.join(", ")))
        })
    }

    /// The tree of levels again, to build on.
    pub fn root(&self) -> LevelNode {
        self.node(0)
    }

    /// The tree again, for a changed copy.
    fn node(&self, n: usize) -> LevelNode {
        let node = &self.0.nodes[n];
        LevelNode {
            driver: node.driver.clone(),
            attr: Attrs(node.attr.copy()),
            id: Some(node.place.level.to_string()),
            below: node
                .children
                .iter()
                .map(|c| {
                    let i = usize::from(*c) - 1;
                    (self.0.nodes[i].label.as_deref().map(str::to_owned), self.node(i))
                })
                .collect(),
        }
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.0.nodes
    }

    pub(crate) fn plan(&self, role: Role) -> &Arc<Plan> {
        match role {
            Role::Handle => &self.0.handle,
            Role::Server => &self.0.server,
        }
    }

    /// The shape as text, shared with every error.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.0.text
    }
}

impl fmt::Display for Stack {
    /// The drivers' names, without options: `queue/frame/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stack({self})")
    }
}

/// One level of a bound stack, to look at.
#[derive(Clone, Copy)]
pub struct LevelView<'a> {
    node: &'a Node,
}

impl<'a> LevelView<'a> {
    /// Its id.
    pub fn id(&self) -> &'a str {
        &self.node.place.level
    }

    /// Its driver.
    pub fn driver(&self) -> &'a Arc<dyn Driver> {
        &self.node.driver
    }

    /// Its attr.
    pub fn attr(&self) -> &'a dyn Attr {
        &*self.node.attr
    }

    /// Label of the branch it starts, if it starts one.
    pub fn label(&self) -> Option<&'a str> {
        self.node.label.as_deref()
    }

    /// What it gives above.
    pub fn caps(&self) -> &'a Caps {
        &self.node.caps
    }

    /// Preorder number of the level above, counted from 0; `None` at the top.
    pub fn above(&self) -> Option<usize> {
        usize::from(self.node.parent).checked_sub(1)
    }
}

fn nth_mut<'a>(node: &'a mut LevelNode, n: &mut usize) -> Option<&'a mut LevelNode> {
    if *n == 0 {
        return Some(node);
    }
    *n -= 1;
    node.below.iter_mut().find_map(|(_, b)| nth_mut(b, n))
}

fn write_shape(node: &LevelNode, out: &mut String, depth: usize) {
    out.push_str(node.driver.info().name);
    if depth > MAX_DEPTH {
        return;
    }
    match &node.below[..] {
        [] => {}
        [(None, one)] => {
            out.push('/');
            write_shape(one, out, depth + 1);
        }
        branches => {
            for (i, (label, b)) in branches.iter().enumerate() {
                out.push_str(if i == 0 { "{" } else { ", " });
                out.push_str(label.as_deref().unwrap_or("*"));
                out.push_str(": ");
                write_shape(b, out, depth + 1);
            }
            out.push('}');
        }
    }
}

struct Binder {
    nodes: Vec<Node>,
    faults: Vec<Fault>,
    ids: HashSet<String>,
}

impl Binder {
    fn fault(&mut self, level: usize, kind: FaultKind) {
        self.faults.push(Fault { level, other: None, kind });
    }

    /// Numbers the levels and checks what each can tell alone.
    fn place(&mut self, node: LevelNode, parent: u8, label: Option<&str>, path: &str, depth: usize) {
        let at = self.nodes.len();
        if at >= MAX_LEVELS || node.below.len() > MAX_BRANCHES {
            return self.fault(at.min(MAX_LEVELS), FaultKind::TooMany);
        }
        if depth > MAX_DEPTH {
            return self.fault(at, FaultKind::TooDeep);
        }
        let info = node.driver.info();
        let id = match node.id {
            Some(id) if !self.ids.insert(id.clone()) => {
                self.fault(at, FaultKind::DuplicateId(id.clone()));
                id
            }
            Some(id) => id,
            None => {
                let base = format!("{path}{}", info.name);
                let id = (1..)
                    .map(|i| if i == 1 { base.clone() } else { format!("{base}-{i}") })
                    .find(|id| !self.ids.contains(id))
                    .unwrap_or(base);
                self.ids.insert(id.clone());
                id
            }
        };
        if node.attr.0.driver() != info.name {
            let e = Error::new(ErrorKind::Misfit).detail(format!(
                "`{}` was given the attr of `{}`",
                info.name,
                node.attr.0.driver()
            ));
            self.fault(at, FaultKind::Refused(e));
        } else if let Err(e) = node.attr.0.check() {
            self.fault(at, FaultKind::Refused(e));
        }
        let branched = node.below.iter().any(|(l, _)| l.is_some()) || node.below.len() > 1;
        match (info.shape, node.below.len()) {
            (Shape::Transport, 1..) => self.fault(at, FaultKind::TransportNotLast),
            (Shape::Transform, 0) => self.fault(at, FaultKind::NothingBelow),
            (Shape::Transform, _) if branched => self.fault(at, FaultKind::NoBranches),
            (Shape::Branching, 0) => self.fault(at, FaultKind::BranchesMissing),
            _ => {}
        }
        let mut labels = HashSet::new();
        for twice in node.below.iter().filter_map(|(l, _)| l.as_ref()).filter(|l| !labels.insert(*l)) {
            self.fault(at, FaultKind::DuplicateLabel(twice.clone()));
        }
        self.nodes.push(Node {
            place: Place { level: id.into(), driver: info.name, stack: "".into() },
            driver: node.driver,
            attr: node.attr.0,
            label: label.map(Into::into),
            caps: Caps::stream(),
            parent,
            children: Vec::new(),
        });
        // `place` refuses numbers that do not fit: MAX_LEVELS < 255.
        let me = u8::try_from(at + 1).unwrap_or(u8::MAX);
        for (label, below) in node.below {
            let path = match label.as_deref() {
                Some("*") => format!("{path}default."),
                Some(l) => format!("{path}{l}."),
                None => path.to_owned(),
            };
            let child = u8::try_from(self.nodes.len() + 1).unwrap_or(u8::MAX);
            self.nodes[at].children.push(child);
            self.place(below, me, label.as_deref(), &path, depth + 1);
        }
    }

    /// Computes what each level gives, bottom up, and checks it against what the one above needs.
    fn fit(&mut self) {
        for i in (0..self.nodes.len()).rev() {
            let node = &self.nodes[i];
            let needs = node.driver.needs(&*node.attr);
            let mut unfit = Vec::new();
            let mut below = Vec::new();
            for c in &node.children {
                let j = usize::from(*c) - 1;
                let child = &self.nodes[j];
                below.push(Branch::new(child.label.as_deref(), &child.caps));
                if let Err(e) = needs.fit(&child.caps) {
                    unfit.push((j, e));
                }
            }
            match node.driver.caps(&*node.attr, &below) {
                Ok(caps) => self.nodes[i].caps = caps,
                Err(e) if unfit.is_empty() => self.fault(i, FaultKind::Refused(e)),
                Err(_) => {}
            }
            for (j, e) in unfit {
                let kind = FaultKind::Unfit { wanted: e.wanted, given: e.given };
                self.faults.push(Fault { level: i, other: Some(j), kind });
            }
        }
        self.faults.reverse();
    }
}
