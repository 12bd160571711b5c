//! Branches that are opened again, or later than the others, while the handle lives. Invariant: a
//! write to a branch that is being opened waits for what comes of it.

use xio_core::cntl::Command;
use xio_core::cx::EventKind;
use xio_core::op::Write;
use xio_core::{CloseMode, Contact, Cx, Error, ErrorKind, Held};

use super::driver::no_contact;
use super::gather::labelled;
use super::level::Pick;

/// Opens one branch again, closing it first if it is open; what is on its way there is lost, what was
/// read ahead is not. The answer comes at once: writes to the branch wait for it from then on, the
/// event [`PathUp`](xio_core::cx::EventKind::PathUp) says that it is there, a read fails where it is
/// not. All that while the others go on.
///
/// The levels below the branch see an open after a close, as often as that: they have to be made for
/// it. A handle whose reader has seen the end of the stream stays at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reopen {
    /// Which branch.
    pub label: String,
    /// Where to; where it led before if there is none.
    pub contact: Contact,
}

impl Reopen {
    /// To where it led before.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), contact: Contact::None }
    }

    /// Sets where to.
    #[must_use]
    pub fn with_contact(mut self, contact: impl Into<Contact>) -> Self {
        self.contact = contact.into();
        self
    }
}

impl Command for Reopen {
    type Reply = ();
    const NAME: &'static str = "Reopen";
}

/// A branch that is being opened again.
#[derive(Default)]
pub(super) struct Again {
    contact: Contact,
    /// Writes that wait for it.
    pub(super) writes: Vec<Held<Write>>,
}

impl Pick {
    /// Begins to open a branch again.
    pub(super) fn reopen(&mut self, cx: &mut Cx<'_>, label: &str, contact: &Contact) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::new(ErrorKind::InvalidInput).detail(text));
        let Some(at) = self.branches.iter().position(|b| b.label == label) else {
            let known: Vec<_> = self.branches.iter().map(|b| b.label.as_str()).collect();
            return invalid(format!("there is no branch `{label}`; there are {}", known.join(", ")));
        };
        let (Ok(number), Some(branch)) = (u8::try_from(at), self.branches.get_mut(at)) else {
            return invalid(format!("there is no branch `{label}`"));
        };
        if branch.again.is_some() {
            return Err(Error::new(ErrorKind::Busy).detail(format!("branch `{label}` is being opened")));
        }
        let contact = if contact.is_none() { branch.contact.clone() } else { Some(contact.clone()) };
        let contact = contact.ok_or_else(|| no_contact(label))?;
        let was_open = std::mem::replace(&mut branch.open, false);
        branch.again = Some(Again { contact: contact.clone(), writes: Vec::new() });
        if let Some(m) = &mut self.merge {
            m.expect(number, label);
        }
        if was_open {
            cx.close(number, CloseMode::Abort, u32::from(number));
        } else {
            cx.open(number, contact, u32::from(number));
        }
        Ok(())
    }

    /// The branch is closed, and may be opened.
    pub(super) fn reclosed(&mut self, cx: &mut Cx<'_>, number: u8) {
        if let Some(held) = self.closing.take() {
            // The handle closes: nothing is opened any more.
            self.reopened(cx, number, Some(ErrorKind::Cancelled.into()));
            return cx.retry(held);
        }
        if let Some(again) = self.branches.get(usize::from(number)).and_then(|b| b.again.as_ref()) {
            cx.open(number, again.contact.clone(), u32::from(number));
        }
    }

    /// The branch is open, or is not.
    pub(super) fn reopened(&mut self, cx: &mut Cx<'_>, number: u8, error: Option<Error>) {
        let Some(branch) = self.branches.get_mut(usize::from(number)) else { return };
        let Some(again) = branch.again.take() else { return };
        branch.open = error.is_none();
        branch.contact = Some(again.contact);
        again.writes.into_iter().for_each(|w| cx.retry(w));
        let error = error.map(|e| labelled(&branch.label, e));
        if error.is_none() {
            cx.event(EventKind::PathUp);
            if self.shut {
                cx.shutdown(number, u32::from(number));
            }
        }
        if let Some(m) = &mut self.merge {
            m.reopened(cx, number, error);
        }
    }
}
