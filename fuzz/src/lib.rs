//! What the fuzz targets check. A file each: a function that takes any bytes and panics where a promise is
//! broken, and the [`Target`] that says which files its corpus has to cover and which planted fault it has
//! to find. A fuzzer, the corpus and a plain random test all drive the same function. Invariant: nothing
//! here touches the network, and of the file system only a file of its own.

mod address;
mod attr;
mod contact;
mod endpoint;
mod file;
mod frame;
mod input;
mod ops;
mod pick;
mod shm;
mod spec;
mod stream;
mod udp;
mod value;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use xio_stacks::Registry;

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// A body with what is to be shown of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of the program, the dictionary and the folder of its corpus.
    pub name: &'static str,
    /// What it does with any bytes.
    pub body: fn(&[u8]),
    /// The files of which its corpus runs nine lines of ten, each.
    pub covers: &'static [&'static str],
    /// The fault that it finds where that is planted.
    pub fault: &'static str,
}

/// All of them.
pub const TARGETS: [Target; 13] = [
    spec::TARGET,
    endpoint::TARGET,
    contact::TARGET,
    address::TARGET,
    value::TARGET,
    attr::TARGET,
    frame::TARGET,
    stream::TARGET,
    pick::TARGET,
    file::TARGET,
    ops::TARGET,
    udp::TARGET,
    shm::TARGET,
];

impl Target {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|t| t.name == name)
    }

    /// The files of its corpus.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn corpus(&self) -> std::io::Result<Vec<PathBuf>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name);
        let mut all: Vec<_> = std::fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?;
        all.sort();
        Ok(all)
    }
}

/// Every driver there is; a run is too short to gather them each time.
static DRIVERS: LazyLock<Registry> = LazyLock::new(Registry::with_defaults);

/// What a target does where there is no fuzzer: runs the files it is given, else its corpus. With `--about`
/// it says what it covers and which fault it finds.
///
/// # Errors
/// A file that cannot be read.
///
/// # Panics
/// Where a promise is broken.
pub fn replay(target: &Target) -> std::io::Result<()> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    if given == ["--about"] {
        println!("{}\n{}", target.fault, target.covers.join("\n"));
        return Ok(());
    }
    let files = if given.is_empty() { target.corpus()? } else { given.into_iter().map(Into::into).collect() };
    for file in &files {
        let bytes =
            std::fs::read(file).map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
        println!("{}", file.display());
        (target.body)(&bytes);
    }
    println!("{}: {} files, nothing found", target.name, files.len());
    Ok(())
}

/// The program of a target: the fuzzer's under `cargo fuzz`, else [`replay`].
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(init: { let _ = target(); }, |bytes: &[u8]| { (target().body)(bytes) });

        fn target() -> &'static $crate::Target {
            $crate::Target::named($name).expect("a target of this name")
        }

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::replay(target())
        }
    };
}
