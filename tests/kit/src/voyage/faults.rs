//! What goes wrong on a voyage, by name. Invariant: names and faults are one list.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use xio_core::reactor::{AcceptFault, Sim};

use super::HOST;
use super::book::Book;
use crate::dice::Dice;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Every transfer takes another time.
    Delay,
    /// Transfers move a part of what they could, or a byte at a time.
    Short,
    /// A socket that is ready says that it is not.
    Spurious,
    /// Connections hold few bytes, so that writes wait.
    Full,
    /// A connection is reset.
    Reset,
    /// Nothing passes for a while.
    Partition,
    /// The network takes few bytes a second for a while.
    Slow,
    /// The server has no descriptors left for a while.
    Descriptors,
    /// A connection is gone before it is accepted.
    Aborted,
    /// Reads are cancelled or have short deadlines.
    Cancel,
    /// Ends close in the middle.
    Close,
}

/// All faults, with their names.
const ALL: [(Fault, &str); 11] = [
    (Fault::Delay, "delay"),
    (Fault::Short, "short"),
    (Fault::Spurious, "spurious"),
    (Fault::Full, "full"),
    (Fault::Reset, "reset"),
    (Fault::Partition, "partition"),
    (Fault::Slow, "slow"),
    (Fault::Descriptors, "emfile"),
    (Fault::Aborted, "aborted"),
    (Fault::Cancel, "cancel"),
    (Fault::Close, "close"),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALL.iter().find(|(x, _)| x == self).map_or("?", |(_, name)| name))
    }
}

/// A set of faults. As text: names with commas, `all` or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Every fault there is.
    pub fn all() -> Self {
        Self(ALL.iter().map(|(f, _)| *f).collect())
    }

    /// None.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The names of all faults.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|(_, name)| *name)
    }

    /// Whether this one is in.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// One that strikes now, now and then.
    pub(super) fn pick(&self, dice: &mut Dice) -> Option<Fault> {
        if !dice.chance(20) || self.0.is_empty() {
            return None;
        }
        self.0.get(dice.between(0, self.0.len())).copied()
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::all()),
            "none" | "" => return Ok(Self::none()),
            _ => {}
        }
        text.split(',')
            .map(|name| {
                ALL.iter().find(|(_, n)| *n == name.trim()).map(|(f, _)| *f).ok_or_else(|| {
                    format!("there is no fault `{name}`; there are {}", Self::names().collect::<Vec<_>>().join(", "))
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Fault {
    /// Has it happen. Whether it does anything at this moment.
    pub(super) fn strike(self, sim: &Sim, dice: &mut Dice, book: &Book) -> bool {
        match self {
            Self::Reset => book.someone(dice).is_some_and(|who| sim.reset(who) > 0),
            Self::Partition => {
                sim.partition(HOST, HOST, Duration::from_micros(dice.between(100, 50_000) as u64));
                true
            }
            Self::Slow => {
                let rate = if dice.chance(70) { 0 } else { 1 << dice.between(14, 24) };
                sim.slow(HOST, rate);
                true
            }
            Self::Descriptors => {
                sim.fail_accepts(dice.between(1, 5), AcceptFault::TooManyFiles);
                true
            }
            Self::Aborted => {
                book.abort_one();
                sim.fail_accepts(1, AcceptFault::Aborted);
                true
            }
            // The network has these from the start; ends do those themselves.
            Self::Delay | Self::Short | Self::Spurious | Self::Full | Self::Cancel | Self::Close => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_printed() {
        for faults in [Faults::all(), Faults::none(), Faults(vec![Fault::Reset, Fault::Descriptors])] {
            assert_eq!(faults.to_string().parse::<Faults>().unwrap(), faults);
        }
        assert_eq!("all".parse::<Faults>().unwrap().0.len(), ALL.len());
        assert!("resets".parse::<Faults>().unwrap_err().contains("there are delay, short"));
    }
}
