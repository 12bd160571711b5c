//! A folder that goes with its test, and short ways to open.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use xio_core::{Contact, Engine, Error, Handle, LevelNode, Stack};
use xio_drivers::file::{self, Options};

/// Long enough for anything that comes at all.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
pub(crate) const SHORT: Duration = Duration::from_millis(40);

/// A folder of a test's own.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("xio-file-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A file with this in it.
    pub(crate) fn file(&self, name: &str, data: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, data).unwrap();
        path
    }

    /// A named pipe.
    pub(crate) fn pipe(&self, name: &str) -> String {
        let path = self.path(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn mode(mode: &str) -> Options {
    Options::default().with_mode(mode.into())
}

pub(crate) fn stack(options: Options) -> Stack {
    Stack::new(LevelNode::new(file::driver()).with_attr(Box::new(options))).unwrap()
}

pub(crate) fn open_as(engine: &Engine, options: Options, path: &str) -> Result<Handle, Error> {
    engine.open(&stack(options), Contact::new(path)).deadline(LONG).wait()
}

pub(crate) fn open(engine: &Engine, with: &str, path: &str) -> Handle {
    open_as(engine, mode(with), path).unwrap()
}

/// Everything up to the end of the stream.
pub(crate) fn rest(h: &Handle) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = [0; 7000];
    loop {
        match h.read_into(&mut buf).deadline(LONG).wait() {
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(e) => {
                assert_eq!(e.kind(), xio_core::ErrorKind::Eof, "{e}");
                return all;
            }
        }
    }
}

/// Bytes that tell where they stand.
pub(crate) fn noise(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub(crate) fn results<T>() -> (Sender<T>, Receiver<T>) {
    mpsc::channel()
}

/// What a callback sent, which must come.
pub(crate) fn get<T>(rx: &Receiver<T>) -> T {
    rx.recv_timeout(LONG).expect("no outcome came")
}

/// Polls once.
pub(crate) fn poll<F: Future + Unpin>(f: &mut F) -> Poll<F::Output> {
    std::pin::pin!(f).poll(&mut Context::from_waker(Waker::noop()))
}

/// Waits until `f` holds.
pub(crate) fn until(mut f: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !f() {
        assert!(start.elapsed() < LONG, "it never came to be");
        std::thread::sleep(Duration::from_millis(1));
    }
}
