//! Contenders that are heavy to build: tokio's runtime with its datagrams, iceoryx2. They are a program of a
//! workspace of its own, `beside/` next to this crate, which is started once a sample.
//!
//! Invariant: where the program is not built it is `None`, where it fails it is an error; the two are never
//! confused. Its samples come out of the same loops, with the same placements, as everybody's.
//!
//! Does not: build it, for that takes minutes. [`BUILD`] does.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child::output;
use crate::placement::Placement;
use crate::rings::Wait;
use crate::sample::Sample;

/// What builds the program, from the top of the project.
pub const BUILD: &str = "cargo build --release --manifest-path tests/peers/beside/Cargo.toml";

/// The built program.
#[derive(Clone, Debug)]
pub struct Beside(PathBuf);

impl Beside {
    /// The program where [`BUILD`] puts it, or none where it is not built.
    pub fn found() -> Option<Self> {
        Self::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("beside/target/release/xio-beside"))
    }

    /// The program at `path`, or none where nothing is there.
    pub fn at(path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        path.is_file().then_some(Self(path))
    }

    /// Where it is, for those who count what it does.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A flood over tokio's `UdpSocket`, as [`floods::plain`](crate::floods::plain).
    ///
    /// # Errors
    ///
    /// When the program fails, or prints something else than a sample.
    pub fn flood(&self, placement: Placement, size: usize, span: Duration) -> io::Result<Sample> {
        self.sample(&["flood", placement.name(), &size.to_string(), &span.as_millis().to_string()])
    }

    /// A ping-pong through iceoryx2, copied in and out, as [`rings::pingpong`](crate::rings::pingpong).
    ///
    /// # Errors
    ///
    /// As [`flood`](Self::flood).
    pub fn pingpong(&self, placement: Placement, size: usize, trips: usize, wait: Wait) -> io::Result<Sample> {
        let [size, trips] = [size, trips].map(|n| n.to_string());
        self.sample(&["pingpong", placement.name(), &size, &trips, wait.name()])
    }

    fn sample(&self, words: &[&str]) -> io::Result<Sample> {
        Sample::from_json(&output(Command::new(&self.0).args(words))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_none() {
        assert!(Beside::at("/nonexistent").is_none());
    }

    #[test]
    fn samples_where_it_is_built() {
        let Some(beside) = Beside::found() else {
            eprintln!("SKIP: not built: {BUILD}");
            return;
        };
        let free = Placement::Unpinned;
        let s = beside.flood(free, 64, Duration::from_millis(5)).unwrap();
        assert!(s.ns_per_op > 0.0 && s.p50_us.is_none(), "{s:?}");
        let s = beside.pingpong(free, 64, 50, Wait::Sleep).unwrap();
        assert!(s.p50_us.is_some_and(|p| p > 0.0), "{s:?}");
        assert!(beside.sample(&["nonsense"]).is_err());
    }
}
