//! What an open level reads and writes: descriptors and what kind of thing is behind them.
//! Invariant: a descriptor that was not opened here keeps its flags and its shared position.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use xio_core::Error;

/// A descriptor and whose it is.
#[derive(Debug)]
pub(super) enum Descriptor {
    /// Opened here.
    Own(OwnedFd),
    /// Made elsewhere.
    Given(Arc<OwnedFd>),
    Stdin,
    Stdout,
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Given(fd) => fd.as_fd(),
            Self::Stdin => rustix::stdio::stdin(),
            Self::Stdout => rustix::stdio::stdout(),
        }
    }
}

/// One direction of a level.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) descriptor: Arc<Descriptor>,
    /// It has offsets: a regular file or block device.
    pub(super) seekable: bool,
    /// A read or write may have to wait for somebody else.
    pub(super) waits: bool,
    /// A call that would wait says so instead.
    pub(super) nonblocking: bool,
    /// Writes go to the end, wherever they are told to.
    pub(super) appends: bool,
}

impl Side {
    /// Looks at a descriptor.
    pub(super) fn new(descriptor: Arc<Descriptor>) -> std::io::Result<(Self, FileType, OFlags)> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&*descriptor)?.st_mode);
        let flags = rustix::fs::fcntl_getfl(&*descriptor)?;
        let seekable = matches!(kind, FileType::RegularFile | FileType::BlockDevice);
        let side = Self {
            descriptor,
            seekable,
            waits: !seekable,
            nonblocking: flags.contains(OFlags::NONBLOCK),
            appends: flags.contains(OFlags::APPEND),
        };
        Ok((side, kind, flags))
    }

    /// Whether a close of the level closes it, as far as the level can tell.
    pub(super) fn closes(&self) -> bool {
        matches!(*self.descriptor, Descriptor::Own(_) | Descriptor::Given(_))
    }
}

/// Everything an open level has.
#[derive(Debug)]
pub(super) struct Place {
    /// What texts call it.
    pub(super) name: String,
    pub(super) input: Option<Side>,
    pub(super) output: Option<Side>,
    /// The level's own position; `None`: the system's.
    pub(super) position: Option<u64>,
}

impl Place {
    /// Whether reads and writes share one position, so that one has to wait for the other.
    pub(super) fn is_shared_by_directions(&self) -> bool {
        match (&self.input, &self.output) {
            (Some(i), Some(o)) => i.seekable && Arc::ptr_eq(&i.descriptor, &o.descriptor),
            _ => false,
        }
    }

    /// An error with the name of the file.
    #[cold]
    pub(super) fn wrong(&self, e: std::io::Error) -> Error {
        Error::from(e).detail(self.name.clone())
    }
}
