//! Which levels fit, told apart from the drivers: from what their docs promise alone. A tree is drawn
//! here as it comes, whether it can be bound or not. Invariant: nothing here asks a driver.

use super::tree::{Draft, LABELS};

/// A level with what is below it.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    word: String,
    below: Vec<Self>,
}

/// What a level gives to the one above.
#[derive(Clone, Copy, Debug)]
struct Gives {
    messages: bool,
    reliable: bool,
    ordered: bool,
}

/// A tree as text, and where in it the levels stand that cannot be where they are. What lies above such
/// a level may be refused as well.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) spec: String,
    /// Where each misfit begins, and the words of the levels above it.
    pub(crate) misfits: Vec<(usize, Vec<usize>)>,
}

impl Raw {
    /// Levels from the top down, over a transport, which may be a path itself: `frame/tcp`.
    pub(crate) fn path(words: &[&str]) -> Self {
        let mut all = words.iter().flat_map(|w| w.split('/')).rev();
        let last = Self { word: all.next().unwrap_or_default().into(), below: Vec::new() };
        all.fold(last, |below, word| Self { word: word.into(), below: vec![below; branches(word)] })
    }

    /// A draft with nothing repaired.
    pub(crate) fn drawn(draft: &Draft) -> Self {
        let (levels, last) = match draft {
            Draft::Leaf(levels, bottom) => (levels, Self { word: (*bottom).into(), below: Vec::new() }),
            Draft::Pick(levels, _, below) => {
                (levels, Self { word: "pick".into(), below: below.iter().map(Self::drawn).collect() })
            }
        };
        levels.iter().rev().fold(last, |below, word| Self { word: (*word).into(), below: vec![below] })
    }

    pub(crate) fn text(&self) -> Text {
        let mut text = Text { spec: String::new(), misfits: Vec::new() };
        self.write(&mut text, &mut Vec::new());
        text
    }

    /// What it gives; nothing if that cannot be said, for something in it does not fit.
    fn write(&self, out: &mut Text, above: &mut Vec<usize>) -> Option<Gives> {
        let at = out.spec.len();
        out.spec += &self.word;
        above.push(at);
        let below: Vec<_> = match &self.below[..] {
            branches if self.word.starts_with("pick") => {
                let each = LABELS.iter().zip(branches).enumerate().map(|(i, (label, b))| {
                    out.spec += if i == 0 { "{" } else { ", " };
                    out.spec += &format!("{label}: ");
                    b.write(out, above)
                });
                let all = each.collect();
                out.spec.push('}');
                all
            }
            below => below
                .iter()
                .map(|b| {
                    out.spec.push('/');
                    b.write(out, above)
                })
                .collect(),
        };
        above.pop();
        // What stands over something that does not fit is not looked at.
        let below: Vec<Gives> = below.into_iter().collect::<Option<_>>()?;
        let gives = self.gives(&below);
        if gives.is_none() {
            out.misfits.push((at, above.clone()));
        }
        gives
    }

    /// `None` if the level does not fit over this.
    fn gives(&self, below: &[Gives]) -> Option<Gives> {
        let has = |option: &str| self.word.contains(option);
        let Some(first) = below.first() else {
            let sure = !self.word.starts_with("udp");
            return Some(Gives { messages: has("message") || !sure, reliable: sure, ordered: sure });
        };
        let all = |f: fn(&Gives) -> bool| below.iter().all(f);
        let name = self.word.split('(').next().unwrap_or_default();
        match name {
            "frame" if first.messages || !first.reliable || !first.ordered => None,
            "frame" => Some(Gives { messages: true, ..*first }),
            // Its faults are of messages or of streams.
            "fault" if has("loss") || has("dup") || has("reorder") => first.messages.then_some(Gives {
                reliable: first.reliable && !has("loss") && !has("dup"),
                ordered: first.ordered && !has("dup") && !has("reorder"),
                ..*first
            }),
            "fault" if has("short") && first.messages => None,
            "pick" if all(|b| b.messages) != first.messages || all(|b| !b.messages) == first.messages => None,
            // Bytes of several streams in one have no order.
            "pick" => Some(Gives {
                messages: first.messages,
                reliable: all(|b| b.reliable),
                ordered: all(|b| b.ordered) && (first.messages || below.len() == 1),
            }),
            _ => Some(*first),
        }
    }
}

/// How many branches a level of a path is given.
fn branches(word: &str) -> usize {
    if word.starts_with("pick") { 2 } else { 1 }
}
