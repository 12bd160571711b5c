//! Where the two ends of a measurement run.
//!
//! Invariant: both ends of every contender in one comparison get the same [`Placement`]. Two
//! threads on two CPUs pay two cross-CPU wake-ups a round trip, two threads on one CPU pay two
//! context switches; either is most of a ping-pong figure.
//!
//! Does not: choose CPUs by topology. It takes the first one or two the process may use.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the two ends of a measurement run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Both ends on the first usable CPU (`1cpu`).
    SameCpu,
    /// The client on the first usable CPU, the server on the second (`2cpu`).
    TwoCpus,
    /// Wherever the scheduler puts them (`free`).
    Unpinned,
}

/// One of the two ends of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that starts and is timed.
    Client,
    /// The end that answers or swallows.
    Server,
}

impl Placement {
    /// Every placement.
    pub const ALL: [Self; 3] = [Self::SameCpu, Self::TwoCpus, Self::Unpinned];

    /// The short name used in output and on command lines: `1cpu`, `2cpu` or `free`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SameCpu => "1cpu",
            Self::TwoCpus => "2cpu",
            Self::Unpinned => "free",
        }
    }

    /// The placements this process can measure: all, or all but `2cpu` when it has one CPU.
    ///
    /// # Errors
    ///
    /// Those of [`usable_cpus`].
    pub fn possible() -> io::Result<Vec<Self>> {
        let two = usable_cpus()? >= 2;
        Ok(Self::ALL.into_iter().filter(|p| two || *p != Self::TwoCpus).collect())
    }

    /// Pins the calling thread for its `side`. `Unpinned` gives it every usable CPU back.
    ///
    /// # Errors
    ///
    /// `Unsupported` when two CPUs are wanted and the process may use only one; otherwise what
    /// the kernel answers.
    pub fn pin(self, side: Side) -> io::Result<()> {
        let cpus = usable()?;
        let index = match (self, side) {
            (Self::Unpinned, _) => None,
            (Self::SameCpu, _) | (Self::TwoCpus, Side::Client) => Some(0),
            (Self::TwoCpus, Side::Server) => Some(1),
        };
        let mut set = CpuSet::new();
        match index {
            None => cpus.iter().for_each(|cpu| set.set(*cpu)),
            Some(i) => set.set(*cpus.get(i).ok_or_else(|| {
                io::Error::new(io::ErrorKind::Unsupported, "placement 2cpu needs two usable CPUs, this process has one")
            })?),
        }
        Ok(sched_setaffinity(None, &set)?)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Placement {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("unknown placement `{text}`: 1cpu, 2cpu or free"))
        })
    }
}

/// How many CPUs this process may use, as it was at the first call in the process.
///
/// # Errors
///
/// What the kernel answers to `sched_getaffinity(2)`.
pub fn usable_cpus() -> io::Result<usize> {
    Ok(usable()?.len())
}

/// The usable CPUs in ascending order. Kept from the first call on, since a thread that was
/// pinned meanwhile would see only its own CPU.
fn usable() -> io::Result<&'static [usize]> {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    if let Some(cpus) = CPUS.get() {
        return Ok(cpus);
    }
    let set = sched_getaffinity(None)?;
    Ok(CPUS.get_or_init(|| (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for p in Placement::ALL {
            assert_eq!(p.name().parse::<Placement>().unwrap(), p);
        }
        assert_eq!("3cpu".parse::<Placement>().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn pins_and_gives_back() {
        let all = usable_cpus().unwrap();
        std::thread::spawn(move || {
            let now = || sched_getaffinity(None).unwrap();
            for p in Placement::possible().unwrap() {
                p.pin(Side::Client).unwrap();
                let client = now();
                p.pin(Side::Server).unwrap();
                let server = now();
                let count = if p == Placement::Unpinned { all } else { 1 };
                assert_eq!((client.count() as usize, server.count() as usize), (count, count));
                assert_eq!(client == server, p != Placement::TwoCpus);
            }
        })
        .join()
        .unwrap();
    }
}
