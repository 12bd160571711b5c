//! One direction of one leaf: what was written, with how far each write came, and what was read.
//! Invariant: it knows nothing of levels, only of bytes and borders.

use std::collections::BTreeSet;

use xio_core::ErrorKind;

/// One direction of one leaf.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) sent: Vec<Sent>,
    /// Whole messages, or runs of bytes.
    pub(crate) got: Vec<Vec<u8>>,
    /// What was read of a message whose rest is to come.
    pub(crate) part: Vec<u8>,
    /// Something befell it after which data may be missing at its end.
    pub(crate) hurt: bool,
    /// Writes may be missing whole, whatever was told of them.
    pub(crate) lossy: bool,
    /// Its writer said that there is no more.
    pub(crate) shut: bool,
    /// How its reading ended.
    pub(crate) end: Option<ErrorKind>,
}

pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    /// Bytes that went, and why no more.
    pub(crate) outcome: Option<(usize, Option<ErrorKind>)>,
    /// Nothing was to be written any more.
    pub(crate) is_late: bool,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?}", self.bytes.len(), self.outcome)
    }
}

impl Line {
    /// A read brought this; whole, or the rest of a message is to come.
    pub(crate) fn take(&mut self, bytes: &[u8], whole: bool) {
        self.part.extend_from_slice(bytes);
        if whole {
            self.got.push(std::mem::take(&mut self.part));
        }
    }

    /// That what was read is what was written.
    pub(crate) fn check(&self, borders: bool, which: &str) {
        let is_right = if borders {
            let got: Vec<_> = self.got.iter().collect();
            let is_whole = |s: &Sent| matches!(s.outcome, Some((_, None)));
            self.fits(&got, |s| is_whole(s).then_some(&s.bytes).into_iter().collect(), |s| vec![&s.bytes])
        } else {
            let got = self.got.concat();
            let got: Vec<_> = got.iter().collect();
            self.fits(
                &got,
                |s| s.bytes[..s.outcome.map_or(0, |(n, _)| n)].iter().collect(),
                |s| s.bytes.iter().collect(),
            )
        };
        let got: Vec<_> = self.got.iter().map(Vec::len).collect();
        assert!(is_right, "{which}: {got:?} read of {self:?}");
        assert!(self.hurt || self.part.is_empty(), "{which}: a message without its rest");
    }

    /// Whether `got` is what `went` of each write, or of one that timed out perhaps `all` of it; where
    /// something was hurt, or the beginning of that.
    fn fits<'a, T: PartialEq>(
        &'a self,
        got: &[T],
        went: impl Fn(&'a Sent) -> Vec<T>,
        all: impl Fn(&'a Sent) -> Vec<T>,
    ) -> bool {
        // How much of it can have been read when a write was over.
        let mut at = BTreeSet::from([0]);
        for s in &self.sent {
            let mut parts = vec![went(s)];
            if s.may_have_gone() {
                parts.push(all(s));
            }
            if self.lossy {
                parts.push(Vec::new());
            }
            let mut next = BTreeSet::new();
            for from in &at {
                let rest = &got[*from..];
                for part in &parts {
                    if rest.starts_with(part) {
                        next.insert(from + part.len());
                    } else if self.hurt && part.starts_with(rest) {
                        return true;
                    }
                }
            }
            at = next;
        }
        at.contains(&got.len())
    }
}

impl Sent {
    /// Its bytes were joined with those of other writes when its time was up, or when some of them
    /// did not go.
    fn may_have_gone(&self) -> bool {
        matches!(self.outcome, Some((0, Some(e))) if e != ErrorKind::Cancelled) && !self.is_late
    }
}
