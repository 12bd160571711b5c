//! What is asked of a `pick` outside the op path. Invariant: an answer is that of the branches that
//! are open, whichever they are.

use xio_core::cntl::{Borrow, Cntl, Command, LocalContact, PathInfo, RemoteContact};
use xio_core::{Contact, Cx, Error, ErrorKind};

use super::again::Reopen;
use super::gather::labelled;
use super::level::Pick;

impl Pick {
    /// Answers a command.
    pub(super) fn command(&mut self, cx: &mut Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<LocalContact>().is_some() {
            return self.contacts::<LocalContact>(cx, c);
        }
        if c.command::<RemoteContact>().is_some() {
            return self.contacts::<RemoteContact>(cx, c);
        }
        if let Some(Reopen { label, contact }) = c.command() {
            self.reopen(cx, label, contact)?;
            return c.reply::<Reopen>(());
        }
        if c.command::<PathInfo>().is_some() {
            // There is one answer: that of the branch for writes which name none, as for loans.
            let nobody = c.unsupported();
            return c.reply_by_branch::<PathInfo>(cx, [self.default], |mut a| a.pop().unwrap_or(Err(nobody)));
        }
        if c.command::<Borrow>().is_some() {
            return c.reply_by_branch::<Borrow>(cx, [self.default], |mut a| a.pop().unwrap_or(Ok(None)));
        }
        Err(c.unsupported())
    }

    /// Answers with a map of what the open branches say.
    fn contacts<C: Command<Reply = Contact> + Clone>(&self, cx: &Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        let labels: Vec<_> = self.open_ones().into_iter().map(|b| self.label(b).to_owned()).collect();
        let nobody = c.unsupported();
        c.reply_by_branch::<C>(cx, self.open_ones(), move |answers| {
            let (mut map, mut why) = (Contact::None, nobody);
            for (label, answer) in labels.into_iter().zip(answers) {
                match answer {
                    Ok(contact) => map = map.with_branch(label, contact),
                    Err(e) if e.kind() == ErrorKind::UnsupportedCommand => {}
                    Err(e) => why = labelled(&label, e),
                }
            }
            if map.is_none() { Err(why) } else { Ok(map) }
        })
    }
}
