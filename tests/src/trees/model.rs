//! The reference: two lines for each leaf, and what becomes of them. Invariant: an op that began is
//! over once.

use std::collections::BTreeSet;

use xio_core::ErrorKind;

use super::line::{Line, Sent};
use super::script::Who;
use super::tree::Tree;

/// Every line, and the ops that are not over.
#[derive(Debug)]
pub(crate) struct Model {
    tree: Tree,
    /// From the near end to each leaf, and from each leaf.
    pub(crate) out: Vec<Line>,
    pub(crate) back: Vec<Line>,
    pub(crate) outstanding: usize,
    /// How many outcomes there were.
    pub(crate) outcomes: usize,
    /// How the near end's reading ended.
    pub(crate) end: Option<ErrorKind>,
    /// The leaf of a message whose rest is read next.
    half: Option<usize>,
    gone: Vec<Who>,
    /// Flushes and the like that failed.
    pub(crate) failures: Vec<(Who, &'static str, ErrorKind)>,
}

/// What a read came to.
pub(crate) struct Brought<'a> {
    pub(crate) group: Option<&'a str>,
    pub(crate) bytes: &'a [u8],
    pub(crate) error: Option<ErrorKind>,
}

impl Model {
    pub(crate) fn new(tree: &Tree) -> Self {
        let lines = || tree.leaves.iter().map(|_| Line::default()).collect();
        Self {
            tree: tree.clone(),
            out: lines(),
            back: lines(),
            outstanding: 0,
            outcomes: 0,
            end: None,
            half: None,
            gone: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn over(&mut self) {
        self.outstanding -= 1;
        self.outcomes += 1;
    }

    fn line(&mut self, leaf: usize, near: bool) -> &mut Line {
        if near { &mut self.out[leaf] } else { &mut self.back[leaf] }
    }

    /// A write begins; gives its bytes, which are those of no other, and its number.
    pub(crate) fn writes(&mut self, leaf: usize, near: bool, len: usize) -> (Vec<u8>, usize) {
        self.outstanding += 1;
        let seed = leaf * 101 + usize::from(near) * 53;
        let Line { sent, shut, .. } = self.line(leaf, near);
        let n = sent.len();
        let bytes: Vec<u8> = (0..len).map(|k| (seed + n * 31 + k * 7 + k / 251) as u8).collect();
        sent.push(Sent { bytes: bytes.clone(), outcome: None, is_late: *shut });
        (bytes, n)
    }

    pub(crate) fn wrote(&mut self, leaf: usize, near: bool, number: usize, n: usize, error: Option<ErrorKind>) {
        self.over();
        let borders = self.tree.borders;
        let line = self.line(leaf, near);
        let sent = &mut line.sent[number];
        assert!(n <= sent.bytes.len() && (error.is_some() || n == sent.bytes.len()), "{n} bytes written: {error:?}");
        assert!(sent.outcome.replace((n, error)).is_none());
        // Half a message tears the line; an error of the transport may have taken more with it.
        let torn = borders && error.is_some() && n > 0;
        let is_late = line.shut && n == 0;
        line.hurt |= torn || !(is_late || matches!(error, None | Some(ErrorKind::Cancelled | ErrorKind::TimedOut)));
        if near && line.hurt {
            self.lose();
        }
    }

    /// Writes that were told too early of their success take those after them along, into whatever
    /// branch.
    fn lose(&mut self) {
        let early = self.tree.spec.contains("early");
        for line in self.out.iter_mut().filter(|_| early) {
            line.hurt = true;
            line.lossy = true;
        }
    }

    /// How many writes this end has begun, line by line.
    pub(crate) fn begun(&self, who: Who) -> Vec<usize> {
        self.lines(who).iter().map(|l| l.sent.len()).collect()
    }

    /// A flush or a shutdown is over that began after so many writes.
    pub(crate) fn flushed(&self, who: Who, begun: &[usize]) {
        let all = self.lines(who).iter().zip(begun).all(|(l, n)| l.sent[..*n].iter().all(|s| s.outcome.is_some()));
        assert!(all, "a flush before the writes it waits for: {self:?}");
    }

    fn lines(&self, who: Who) -> &[Line] {
        match who {
            Who::Near => &self.out,
            Who::Far(leaf) => &self.back[leaf..=leaf],
        }
    }

    /// A flush, a shutdown or a close is over.
    pub(crate) fn did(&mut self, who: Who, what: &'static str, error: Option<ErrorKind>) {
        self.over();
        let told = error.filter(|e| !matches!(e, ErrorKind::Cancelled | ErrorKind::TimedOut));
        self.failures.extend(told.map(|e| (who, what, e)));
    }

    pub(crate) fn tears(&self, leaf: usize) -> bool {
        self.tree.leaves[leaf].tears
    }

    /// A shutdown is to begin; whether it is the first.
    pub(crate) fn shuts(&mut self, who: Who) -> bool {
        let lines = match who {
            Who::Near => &mut self.out[..],
            Who::Far(leaf) => std::slice::from_mut(&mut self.back[leaf]),
        };
        let is_first = lines.iter().any(|l| !l.shut);
        lines.iter_mut().for_each(|l| l.shut = true);
        self.outstanding += usize::from(is_first);
        is_first
    }

    /// The peer of a leaf goes. What it had written comes, but over a socket unread bytes at the peer
    /// take that with them.
    pub(crate) fn leaves(&mut self, leaf: usize, abort: bool) {
        self.gone.push(Who::Far(leaf));
        self.out[leaf].hurt = true;
        self.lose();
        self.back[leaf].shut = true;
        self.back[leaf].hurt |= abort || self.tree.leaves[leaf].is_tcp;
    }

    /// The near end goes.
    pub(crate) fn closes(&mut self, abort: bool) {
        self.gone.push(Who::Near);
        for (leaf, (out, back)) in self.tree.leaves.iter().zip(self.out.iter_mut().zip(&mut self.back)) {
            back.hurt = true;
            out.shut = true;
            out.hurt |= abort || (leaf.is_tcp && !back.sent.is_empty());
        }
    }

    pub(crate) fn read(&mut self, who: Who, b: &Brought<'_>) {
        self.over();
        let borders = self.tree.borders;
        match who {
            Who::Far(leaf) => {
                assert!(self.out[leaf].end.is_none() || b.bytes.is_empty(), "data behind the end of leaf {leaf}");
                self.out[leaf].take(b.bytes, !borders || b.error.is_none());
                self.out[leaf].end = self.out[leaf].end.or_else(|| b.error.filter(|e| is_end(*e)));
            }
            Who::Near => {
                assert!(self.end.is_none() || b.bytes.is_empty(), "data behind the end");
                let is_data = !b.bytes.is_empty() || (borders && b.error.is_none());
                let origin = self.tree.origin(b.group);
                if is_data {
                    let leaf = origin.unwrap_or_else(|| panic!("data from nowhere: {:?}", b.group));
                    assert!(self.back[leaf].end.is_none(), "data behind the end of leaf {leaf}");
                    assert!(self.half.is_none_or(|l| l == leaf), "a message between two parts of another");
                    self.half = matches!(b.error, Some(ErrorKind::Truncated { .. })).then_some(leaf);
                    self.back[leaf].take(b.bytes, !borders || b.error.is_none());
                }
                match (b.error, b.group) {
                    // It wanted more of a branch than there was.
                    (Some(ErrorKind::UnexpectedEof), Some(_)) | (None, _) => {}
                    // Something of one branch only; with the group of one that was begun, of all.
                    (Some(e), Some(group)) if is_end(e) && e != ErrorKind::Eof => self.lost(group, e),
                    (Some(e), _) if is_end(e) => self.end = self.end.or(Some(e)),
                    _ => {}
                }
            }
        }
    }

    /// What comes from below this group has ended with an error: a leaf, or all of a `pick`, which ends as
    /// the last of its branches did.
    fn lost(&mut self, group: &str, e: ErrorKind) {
        let all = self.tree.within(Some(group));
        assert!(!all.is_empty(), "{e:?} from `{group}`, where there is nothing");
        for leaf in all {
            self.back[leaf].end = self.back[leaf].end.or(Some(e));
        }
    }

    /// How many reads were of this leaf.
    pub(crate) fn received(&self, leaf: usize) -> usize {
        self.back[leaf].got.len()
    }

    /// Bytes or messages that are written and not read. Only of writes that succeeded.
    pub(crate) fn unread(&self, leaf: usize) -> usize {
        let line = &self.back[leaf];
        let done = line.sent.iter().filter(|s| matches!(s.outcome, Some((_, None))));
        let sent = if self.tree.borders { done.count() } else { done.map(|s| s.bytes.len()).sum() };
        let got = if self.tree.borders { line.got.len() } else { line.got.iter().map(Vec::len).sum() };
        sent.saturating_sub(got)
    }

    /// The ends that can neither end their writing nor read on, each once.
    pub(crate) fn stuck(&mut self) -> Vec<Who> {
        let cannot_end = self.failures.iter().filter(|(_, what, _)| *what == "shutdown").map(|(who, ..)| *who);
        let ends = self.out.iter().zip((0..).map(Who::Far)).map(|(l, who)| (who, l.end)).chain([(Who::Near, self.end)]);
        let cannot_read = ends.filter(|(_, e)| !matches!(e, None | Some(ErrorKind::Eof))).map(|(who, _)| who);
        let new: BTreeSet<_> = cannot_end.chain(cannot_read).filter(|w| !self.gone.contains(w)).collect();
        self.gone.extend(&new);
        new.into_iter().collect()
    }

    /// Whether this end has nothing more to read.
    pub(crate) fn has_ended(&self, who: Who) -> bool {
        match who {
            Who::Near => self.end.is_some(),
            Who::Far(leaf) => self.out[leaf].end.is_some(),
        }
    }

    /// That everything is over, and came to what it should.
    pub(crate) fn check(&self) {
        assert_eq!(self.outstanding, 0);
        for (leaf, (out, back)) in self.out.iter().zip(&self.back).enumerate() {
            out.check(self.tree.borders, &format!("to leaf {leaf}"));
            back.check(self.tree.borders, &format!("from leaf {leaf}"));
        }
        let unhurt = |leaf: usize| !self.out[leaf].hurt && !self.back[leaf].hurt;
        let all = (0..self.out.len()).all(unhurt);
        for (who, what, e) in &self.failures {
            let is_fine = match who {
                Who::Near => all,
                Who::Far(leaf) => unhurt(*leaf),
            };
            assert!(!is_fine, "{who:?}: {what} failed with {e:?}, though nothing was wrong");
        }
        assert!(!all || self.end == Some(ErrorKind::Eof), "the end was {:?}", self.end);
    }
}

/// Whether nothing can be read after such an error.
fn is_end(e: ErrorKind) -> bool {
    !matches!(e, ErrorKind::Truncated { .. } | ErrorKind::TimedOut | ErrorKind::Cancelled | ErrorKind::Busy)
}
