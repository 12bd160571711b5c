//! Commands: how a user asks a level, an attr, a link or a server something outside the op path.
//! Invariant: a command nobody knows ends in [`ErrorKind::UnsupportedCommand`], never in silence.
//!
//! A command is a type; its reply type is fixed by it, so there are no varargs to get wrong. A level
//! that does not know a command returns [`Cntl::unsupported`], which lets a query walk on to the
//! level below it.

use std::any::Any;
use std::time::Duration;

use crate::buffer::Loan;
use crate::caps;
use crate::contact::Contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorKind};
use crate::handle::cntl;
use crate::schema::Value;
use crate::stack::Stack;

/// A command with its reply.
///
/// ```
/// use xio_core::cntl::Command;
/// /// Asks a queue how many writes wait.
/// struct Waiting;
/// impl Command for Waiting {
///     type Reply = usize;
///     const NAME: &'static str = "Waiting";
/// }
/// ```
pub trait Command: Any + Send {
    /// What the answer is.
    type Reply: Any + Send;
    /// Name for errors.
    const NAME: &'static str;
}

enum Answer {
    None,
    Now(Box<dyn Any + Send>),
    Later(Later),
}

type Later = Box<dyn FnOnce() -> Result<Box<dyn Any + Send>, Error> + Send>;

/// A command on its way through the levels.
pub struct Cntl<'a> {
    command: &'a (dyn Any + Send),
    name: &'static str,
    answer: Answer,
}

impl<'a> Cntl<'a> {
    /// Wraps a command.
    pub fn new<C: Command>(command: &'a C) -> Self {
        Self { command, name: C::NAME, answer: Answer::None }
    }

    /// The command, if it is a `C`.
    pub fn command<C: Command>(&self) -> Option<&'a C> {
        self.command.downcast_ref()
    }

    /// Name of the command.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Answers. The type argument is the command being answered.
    ///
    /// # Errors
    /// None; the return type lets a level write `return c.reply::<Cmd>(value)`.
    pub fn reply<C: Command>(&mut self, reply: C::Reply) -> Result<(), Error> {
        self.answer = Answer::Now(Box::new(reply));
        Ok(())
    }

    /// Answers with the result of `f`, which runs after the handle's lock is released. For answers
    /// that need a system call.
    ///
    /// # Errors
    /// None here; `f`'s error becomes the command's.
    pub fn reply_later<C: Command>(
        &mut self,
        f: impl FnOnce() -> Result<C::Reply, Error> + Send + 'static,
    ) -> Result<(), Error> {
        self.answer = Answer::Later(Box::new(move || f().map(|r| Box::new(r) as Box<dyn Any + Send>)));
        Ok(())
    }

    /// Answers with what `join` makes of the answers of `branches` of the level, in their order. Each
    /// branch is asked level by level from its top, once the handle's lock is released; what happens
    /// between two of them may show.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedCommand`] where the command is not a `C`. `join`'s error becomes the
    /// command's.
    pub fn reply_by_branch<C: Command + Clone>(
        &mut self,
        cx: &Cx<'_>,
        branches: impl IntoIterator<Item = u8>,
        join: impl FnOnce(Vec<Result<C::Reply, Error>>) -> Result<C::Reply, Error> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(command) = self.command::<C>().cloned() else { return Err(self.unsupported()) };
        let (core, nobody) = (cx.inner.me.clone(), self.unsupported());
        let ids = |branch: u8| -> Vec<_> {
            let Some(top) = cx.plan.child(cx.node, branch) else { return Vec::new() };
            let within = cx.inner.stack.nodes().iter().zip(1u8..).filter(|(_, n)| cx.plan.within(*n, top));
            within.map(|(node, _)| node.place.level.clone()).collect()
        };
        let branches: Vec<_> = branches.into_iter().map(ids).collect();
        self.reply_later::<C>(move || {
            let core = core.upgrade().ok_or(ErrorKind::Closed)?;
            let is_answer = |r: &Result<_, Error>| !matches!(r, Err(e) if e.kind() == ErrorKind::UnsupportedCommand);
            let ask = |ids: Vec<std::sync::Arc<str>>| {
                let mut answers = ids.iter().map(|id| cntl(&core, Some(id), &command));
                answers.find(is_answer).unwrap_or_else(|| Err(nobody.clone()))
            };
            join(branches.into_iter().map(ask).collect())
        })
    }

    /// The error of a level that does not know the command.
    #[cold]
    pub fn unsupported(&self) -> Error {
        Error::new(ErrorKind::UnsupportedCommand).detail(format!("`{}`", self.name))
    }

    /// Takes the answer out.
    ///
    /// # Errors
    /// The error of a deferred answer, or [`ErrorKind::Contract`] where a level said it answered
    /// and did not, or with another type.
    pub fn into_reply<C: Command>(self) -> Result<C::Reply, Error> {
        let boxed = match self.answer {
            Answer::Now(b) => b,
            Answer::Later(f) => f()?,
            Answer::None => {
                return Err(Error::new(ErrorKind::Contract).detail("the command was taken but not answered"));
            }
        };
        boxed
            .downcast::<C::Reply>()
            .map(|b| *b)
            .map_err(|_| Error::new(ErrorKind::Contract).detail("the command was answered with another type"))
    }

    /// Lets the answer outlive the borrow of the command.
    pub(crate) fn detach(self) -> Cntl<'static> {
        const NOTHING: &(dyn Any + Send) = &();
        Cntl { command: NOTHING, name: self.name, answer: self.answer }
    }
}

impl Stack {
    /// Whether a contact names a server of this process: what the driver of the highest level that
    /// can tell says, see [`Driver::is_self`](crate::Driver::is_self). Where the levels branch, every
    /// branch is asked for its part of the contact, and one that does is enough. `None`: cannot tell.
    pub fn is_self(&self, contact: &Contact) -> Option<bool> {
        self.is_self_at(0, contact)
    }

    fn is_self_at(&self, at: usize, contact: &Contact) -> Option<bool> {
        let node = self.nodes().get(at)?;
        node.driver.is_self(&*node.attr, contact).or_else(|| {
            any(node.children.iter().map(|child| {
                let at = usize::from(*child).checked_sub(1)?;
                let label = self.nodes().get(at)?.label.as_deref();
                self.is_self_at(at, label.map_or(Some(contact), |l| contact.branch(l))?)
            }))
        })
    }
}

/// What is true of one branch is true of all together; what cannot be told of one, neither.
fn any(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let (mut asked, mut unknown) = (false, false);
    for answer in answers {
        match answer {
            Some(true) => return answer,
            other => unknown |= other.is_none(),
        }
        asked = true;
    }
    (asked && !unknown).then_some(false)
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident $(($($field:ty),+))? -> $reply:ty;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name $(($(pub $field),+))?;
        impl Command for $name {
            type Reply = $reply;
            const NAME: &'static str = stringify!($name);
        }
    )+};
}

commands! {
    /// The address of this end, as the peer could use it.
    LocalContact -> Contact;
    /// The address of the peer.
    RemoteContact -> Contact;
    /// What the level gives above, as it is now.
    Caps -> caps::Caps;
    /// How the path to the peer does.
    PathInfo -> Path;
    /// Changes an option that its schema calls `runtime`.
    SetOption(String, Value) -> ();
    /// The present value of an option.
    GetOption(String) -> Option<Value>;
    /// Memory for a write of so many bytes that the level sends from where it is; see [`Handle::loan`](crate::Handle::loan).
    /// A transform that changes the bytes of a write, or puts others before them, is to answer with `None`: if it does
    /// not, loans are copied once more than without.
    Borrow(usize) -> Option<Loan>;
    /// Moves the offset at which the next op of a seekable level works; `None` only asks.
    Offset(Option<u64>) -> u64;
}

/// State of the path to the peer; a field is `None` where the level cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Path {
    /// Least round-trip time seen.
    pub min_rtt: Option<Duration>,
    /// Bytes a second the peer acknowledged lately.
    pub delivery_rate: Option<u64>,
    /// Bytes sent and not acknowledged.
    pub in_flight: Option<u64>,
    /// Bytes accepted and not sent.
    pub unsent: Option<u64>,
    /// Time since the last acknowledgement.
    pub last_ack: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_the_type_of_its_command() {
        let cmd = GetOption("depth".into());
        let mut c = Cntl::new(&cmd);
        assert_eq!(c.command::<GetOption>().unwrap().0, "depth");
        assert!(c.command::<LocalContact>().is_none());
        c.reply::<GetOption>(Some(Value::Int(3))).unwrap();
        assert_eq!(c.into_reply::<GetOption>().unwrap(), Some(Value::Int(3)));
    }

    #[test]
    fn an_answer_may_come_later_and_may_not_be_missing() {
        let cmd = LocalContact;
        let mut c = Cntl::new(&cmd);
        c.reply_later::<LocalContact>(|| Ok(Contact::new("x"))).unwrap();
        assert_eq!(c.into_reply::<LocalContact>().unwrap(), Contact::new("x"));
        let none = Cntl::new(&cmd);
        assert_eq!(none.unsupported().kind(), ErrorKind::UnsupportedCommand);
        assert_eq!(none.into_reply::<LocalContact>().unwrap_err().kind(), ErrorKind::Contract);
    }
}
