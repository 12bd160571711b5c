//! Globus XIO as a contender: one child process a sample.
//!
//! The programs are built from `globus-xio/` beside this crate (`globus-xio/run.sh build`) and
//! print one line of JSON a call.
//!
//! Invariant: an absent library or program is `None`, a program that fails is an error; the two
//! are never confused.
//!
//! Does not: link anything of Globus. Every child ends itself by `alarm(2)` after a minute.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::output;
use crate::placement::Placement;
use crate::sample::Sample;

/// The built programs.
#[derive(Clone, Debug)]
pub struct Globus {
    dir: PathBuf,
}

impl Globus {
    /// The programs in `dir`, or none when they are not there.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Option<Self> {
        let dir = dir.into();
        let there = |name: &str| dir.join(name).is_file();
        (there("xio_tcp_bench") && there("xio_stack_bench")).then_some(Self { dir })
    }

    /// Builds the programs with `run.sh build` and gives them; none where Globus XIO's
    /// development files are not installed.
    ///
    /// # Errors
    ///
    /// When the script cannot be run or the build fails.
    pub fn build() -> io::Result<Option<Self>> {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("globus-xio");
        let out = output(Command::new(home.join("run.sh")).arg("build"))?;
        if out.starts_with("SKIP") {
            return Ok(None);
        }
        Ok(Self::in_dir(out.lines().last().unwrap_or_default()))
    }

    /// One sample over loopback tcp. `contender` is `raw`, `xioblock` or `xioasync`, `mode` is
    /// `pingpong` or `stream`. `raw` is plain sockets between the same two processes.
    ///
    /// # Errors
    ///
    /// When the program fails, or prints something else than a sample.
    pub fn tcp(
        &self,
        contender: &str,
        mode: &str,
        size: usize,
        ops: usize,
        placement: Placement,
    ) -> io::Result<Sample> {
        let numbers = [size.to_string(), ops.to_string()];
        let line = output(
            Command::new(self.dir.join("xio_tcp_bench")).args([contender, mode]).args(&numbers).arg(placement.name()),
        )?;
        Sample::from_json(&line)
    }

    /// One sample of 64-byte ops in process, over `levels` pass-through levels. `contender` is
    /// `xioblock` or `xioasync`, `mode` is `read` or `write`, `form` is `cb` (levels that see the
    /// op finish) or `absent` (levels that do not intercept it). Compare the CPU time.
    ///
    /// # Errors
    ///
    /// As [`Globus::tcp`].
    pub fn stack(&self, contender: &str, mode: &str, form: &str, levels: usize, ops: usize) -> io::Result<Sample> {
        let numbers = [levels.to_string(), ops.to_string()];
        let line = output(Command::new(self.dir.join("xio_stack_bench")).args([contender, mode, form]).args(&numbers))?;
        Sample::from_json(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_none() {
        assert!(Globus::in_dir("/nonexistent").is_none());
    }

    #[test]
    fn samples_where_it_is_installed() {
        let Some(globus) = Globus::build().unwrap() else {
            eprintln!("SKIP: Globus XIO's development files are not installed");
            return;
        };
        for contender in ["raw", "xioblock", "xioasync"] {
            for mode in ["pingpong", "stream"] {
                let s = globus.tcp(contender, mode, 64, 50, Placement::Unpinned).unwrap();
                assert!(s.ns_per_op > 0.0 && s.cpu_ns_per_op > 0.0, "{contender} {mode}: {s:?}");
                assert_eq!(s.p50_us.is_some(), mode == "pingpong");
            }
        }
        for form in ["cb", "absent"] {
            assert!(globus.stack("xioblock", "read", form, 2, 100).unwrap().cpu_ns_per_op > 0.0);
        }
        assert!(globus.tcp("nonsense", "stream", 64, 50, Placement::Unpinned).is_err());
    }
}
