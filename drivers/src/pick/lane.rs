//! What came from one branch and is not read yet. Invariant: what is of one branch further down is
//! given out in the order it came.

use std::collections::VecDeque;

use xio_core::attr::{Group, OpAttrs};
use xio_core::body::Below;
use xio_core::buffer::Chunk;
use xio_core::caps::Unit;
use xio_core::{Error, ErrorKind};

use super::gather::labelled;
use super::route::{WITHIN, join};

/// Most reads of a branch that lie unread.
const MAX_ITEMS: usize = 256;

/// A branch.
pub(super) struct Lane {
    pub(super) branch: u8,
    pub(super) label: String,
    items: VecDeque<Item>,
    bytes: usize,
    /// A read of this level's is below.
    pub(super) asked: bool,
    /// Nothing more comes.
    pub(super) ended: bool,
    /// What ended it, where that was no clean end.
    pub(super) broke: Option<Error>,
    /// But perhaps it does: the branch is being opened again.
    pub(super) expected: bool,
}

/// What one read of the branch came to. The group among its attrs says of which branch further down
/// it is.
struct Item {
    what: Result<VecDeque<Chunk>, Error>,
    attrs: OpAttrs,
}

/// How a read was served.
pub(super) enum Served {
    Enough,
    /// There is no more just now.
    Short,
    Failed(Error),
}

impl Lane {
    pub(super) fn new(branch: u8, label: String) -> Self {
        Self {
            branch,
            label,
            items: VecDeque::new(),
            bytes: 0,
            asked: false,
            ended: false,
            broke: None,
            expected: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The branch further down that the next read here is of.
    pub(super) fn front(&self) -> Option<Group> {
        self.items.front()?.attrs.find().cloned()
    }

    /// Bytes that may still be asked for, or `None` where nothing may.
    pub(super) fn room(&self, ahead: usize) -> Option<usize> {
        let may = !(self.asked || self.ended || self.is_full(ahead));
        may.then(|| ahead.saturating_sub(self.bytes))
    }

    /// Whether as much as may be lies unread.
    pub(super) fn is_full(&self, ahead: usize) -> bool {
        self.bytes >= ahead || self.items.len() >= MAX_ITEMS
    }

    /// A read of the branch is back.
    pub(super) fn came(&mut self, below: Below, attrs: OpAttrs, error: Option<Error>, borders: bool) {
        self.asked = false;
        let inner = attrs.find::<Group>().cloned();
        if below.got > 0 || (borders && error.is_none()) {
            self.bytes += below.got;
            self.items.push_back(Item { what: Ok(below.chunks.into_iter().collect()), attrs });
        }
        let Some(e) = error else { return };
        // Cancelled by the close that is under way: nobody is left to be told.
        let is_quiet = matches!(e.kind(), ErrorKind::Eof | ErrorKind::Cancelled);
        // What befell a branch further down is not the end of those beside it.
        self.ended = is_quiet || inner.is_none() || matches!(e.kind(), ErrorKind::Closed | ErrorKind::Stopped);
        if !is_quiet {
            let attrs = inner.map(|g| OpAttrs::new().with(g)).unwrap_or_default();
            let e = labelled(&self.label, e);
            self.broke = self.ended.then(|| e.clone());
            self.items.push_back(Item { what: Err(e), attrs });
        }
    }

    /// The branch was opened again, or was not.
    pub(super) fn reopened(&mut self, error: Option<Error>) {
        (self.expected, self.ended) = (false, error.is_some());
        let error = error.filter(|e| e.kind() != ErrorKind::Cancelled);
        self.broke = error.clone();
        if let Some(e) = error {
            self.items.push_back(Item { what: Err(e), attrs: OpAttrs::new() });
        }
    }

    /// Puts what came with the data of `inner`, and where it came from, into the attrs of a read.
    pub(super) fn mark(&self, inner: Option<&Group>, attrs: &mut OpAttrs) {
        let own = self.items.iter().find(|i| i.what.is_ok() && i.is_of(inner));
        if let Some(own) = own.filter(|i| !i.attrs.is_empty()) {
            *attrs = own.attrs.clone();
        }
        attrs.set(join(&self.label, inner));
    }

    /// Gives one message or datagram of `inner`, or bytes until nothing fits or nothing of it is left.
    pub(super) fn serve(
        &mut self,
        inner: Option<&Group>,
        (room, wanted): (&mut usize, &mut usize),
        unit: Unit,
        mut put: impl FnMut(&mut Chunk),
    ) -> Served {
        let (mut any, mut i) = (false, 0);
        while let Some(item) = self.items.get_mut(i) {
            if !item.is_of(inner) {
                i += 1;
                continue;
            }
            let chunks = match &mut item.what {
                Ok(chunks) => chunks,
                Err(_) if any && *wanted == 0 => return Served::Enough,
                Err(e) => {
                    let e = e.clone();
                    self.items.remove(i);
                    return Served::Failed(e);
                }
            };
            let len: usize = chunks.iter().map(Chunk::len).sum();
            while let Some(chunk) = chunks.front_mut() {
                let before = chunk.len();
                put(chunk);
                let n = before - chunk.len();
                self.bytes -= n;
                *room -= n;
                *wanted = wanted.saturating_sub(n);
                if !chunk.is_empty() {
                    if unit == Unit::Datagram {
                        // What does not fit is gone.
                        self.bytes -= chunks.iter().map(Chunk::len).sum::<usize>();
                        self.items.remove(i);
                    }
                    let cut = unit.has_borders();
                    return if cut { Served::Failed(ErrorKind::Truncated { len }.into()) } else { Served::Enough };
                }
                chunks.pop_front();
            }
            self.items.remove(i);
            any = true;
            if unit.has_borders() || *room == 0 {
                return Served::Enough;
            }
        }
        if *wanted == 0 { Served::Enough } else { Served::Short }
    }

    /// Why a read that lacks bytes never gets them: its branch has ended, or those of branches beside
    /// it further down lie here and nobody reads them.
    pub(super) fn fails(&self, ahead: usize) -> Option<Error> {
        let of = |kind, text| Some(Error::new(kind).detail(format!("branch `{}` {text}", self.label)));
        if self.ended {
            of(ErrorKind::UnexpectedEof, "ended before the read had enough")
        } else if self.is_full(ahead) {
            of(ErrorKind::Busy, "is full of what the read did not ask for: read that first")
        } else {
            None
        }
    }
}

impl Item {
    /// Whether a reader of `inner` is to get it; an error is for everyone who reads what lies within.
    fn is_of(&self, inner: Option<&Group>) -> bool {
        let own = self.attrs.find::<Group>();
        own == inner || (self.what.is_err() && is_within(inner, own))
    }
}

/// Whether what comes from `inner` comes from `outer`; everything does from no group at all.
fn is_within(inner: Option<&Group>, outer: Option<&Group>) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(Group(i)), Some(Group(o))) => {
            i.strip_prefix(o.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(WITHIN))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_a_branch_comes_from_those_around_it() {
        let g = |text: &str| Some(Group(text.to_owned()));
        for (inner, outer, want) in [
            (g("a.b"), None, true),
            (None, None, true),
            (None, g("a"), false),
            (g("a.b"), g("a"), true),
            (g("a.b"), g("a.b"), true),
            (g("a.bc"), g("a.b"), false),
            (g("a"), g("a.b"), false),
        ] {
            assert_eq!(is_within(inner.as_ref(), outer.as_ref()), want, "{inner:?} in {outer:?}");
        }
    }
}
