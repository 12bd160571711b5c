//! What can be set on a `file` level, and what of it goes together. Invariant: options that passed
//! [`Attr::check`](xio_core::attr::Attr::check) name one way to open a file.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::attr::Size;
use xio_core::schema::ValueKind;
use xio_core::{Error, ErrorKind};

/// Largest offset of a file (`off_t`).
pub(super) const MAX_OFFSET: u64 = i64::MAX as u64;
const LENGTH: ValueKind = ValueKind::Size { min: 0, max: MAX_OFFSET };

xio_core::options! {
    /// Options of the `file` driver.
    pub struct Options for "file" {
        /// What the file is opened for: read, write (creates and empties it), append, read-write.
        mode, with_mode: String = "read".into(), ValueKind::Enum(&["read", "write", "append", "read-write"]);
        /// Create a file that is not there; unset: with `mode=write` and `mode=append`.
        create, with_create: Option<bool> = None, ValueKind::Bool;
        /// Empty a file that is there; unset: with `mode=write` that has no `offset` or `length`.
        truncate, with_truncate: Option<bool> = None, ValueKind::Bool;
        /// Refuse a file that is there already.
        exclusive, with_exclusive: bool = false, ValueKind::Bool;
        /// Permissions of a file that is created, octal; the system takes the umask off.
        perm, with_perm: String = "0666".into(), ValueKind::Text;
        /// Refuse a path whose last part is a symbolic link.
        nofollow, with_nofollow: bool = false, ValueKind::Bool;
        /// Where to start.
        offset, with_offset: Option<Size> = None, LENGTH;
        /// Cut or extend the file to this length when it is opened.
        length, with_length: Option<Size> = None, LENGTH;
        /// When written data is forced to the device: never, with the close, also with each flush, with each write.
        sync, with_sync: String = "never".into(), ValueKind::Enum(&["never", "close", "flush", "write"]), runtime;
        live {
            /// A descriptor made elsewhere. Opened with no contact.
            fd, with_fd: Option<Fd> = None;
        }
        check check;
        contact super::open::check_contact;
    }
}

/// A descriptor made elsewhere, as an option. Its flags stay as they are.
#[derive(Clone, Debug)]
pub struct Fd(Given);

#[derive(Clone, Debug)]
enum Given {
    Once(Arc<Mutex<Option<OwnedFd>>>),
    Shared(Arc<OwnedFd>),
}

impl Fd {
    /// Gives a descriptor away: a `File`, `PipeReader`, `OwnedFd`, … The first open takes it and its
    /// close closes it; copies are empty from then on.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self(Given::Once(Arc::new(Mutex::new(Some(fd.into())))))
    }

    /// Lends a descriptor to any number of opens. It closes with its last owner.
    pub fn shared(fd: Arc<OwnedFd>) -> Self {
        Self(Given::Shared(fd))
    }

    /// The descriptor. One that was given away is there once.
    pub(super) fn take(&self) -> Result<Arc<OwnedFd>, Error> {
        let text = "the descriptor (`fd`) was taken by an earlier open; give each open its own, or share it";
        match &self.0 {
            Given::Shared(fd) => Ok(fd.clone()),
            Given::Once(cell) => cell.lock().take().map(Arc::new).ok_or_else(|| wrong(text.into())),
        }
    }
}

/// When written data is forced to the device. A later word includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sync {
    Never,
    Close,
    Flush,
    Write,
}

impl Options {
    pub(super) fn reads(&self) -> bool {
        matches!(self.mode.as_str(), "read" | "read-write")
    }

    pub(super) fn writes(&self) -> bool {
        self.mode != "read"
    }

    pub(super) fn appends(&self) -> bool {
        self.mode == "append"
    }

    pub(super) fn creates(&self) -> bool {
        self.create.unwrap_or(matches!(self.mode.as_str(), "write" | "append"))
    }

    pub(super) fn truncates(&self) -> bool {
        self.truncate.unwrap_or_else(|| self.mode == "write" && self.offset.is_none() && self.length.is_none())
    }

    pub(super) fn permissions(&self) -> Option<u32> {
        let digits = self.perm.len();
        let bits = u32::from_str_radix(&self.perm, 8).ok()?;
        ((3..=4).contains(&digits) && bits <= 0o777 && self.perm.bytes().all(|b| b.is_ascii_digit())).then_some(bits)
    }

    pub(super) fn syncs(&self) -> Sync {
        match self.sync.as_str() {
            "close" => Sync::Close,
            "flush" => Sync::Flush,
            "write" => Sync::Write,
            _ => Sync::Never,
        }
    }

    /// The first option set that only has a meaning where a path is opened.
    pub(super) fn of_paths(&self) -> Option<&'static str> {
        let default = Self::default();
        [
            ("create", self.create.is_some()),
            ("truncate", self.truncate.is_some()),
            ("exclusive", self.exclusive),
            ("perm", self.perm != default.perm),
            ("nofollow", self.nofollow),
            ("length", self.length.is_some()),
        ]
        .iter()
        .find_map(|(name, set)| set.then_some(*name))
    }
}

/// What no single option can tell.
fn check(o: &Options) -> Result<(), Error> {
    if o.permissions().is_none() {
        let text = format!("`perm={}` is no file mode: write three or four octal digits up to `0777`", o.perm);
        return Err(wrong(text));
    }
    let reading = [("truncate", o.truncate == Some(true)), ("length", o.length.is_some())];
    if let (false, Some((name, _))) = (o.writes(), reading.iter().find(|(_, set)| *set)) {
        return Err(wrong(format!("`{name}` changes the file, and `mode=read` does not; set `mode=read-write`")));
    }
    if !o.writes() && o.creates() {
        return Err(wrong(
            "`create` makes an empty file, in which `mode=read` finds nothing; set `mode=read-write`".into(),
        ));
    }
    if o.exclusive && !o.creates() {
        return Err(wrong("`exclusive` is about creating the file; add `create`, or leave it out".into()));
    }
    if o.appends() && o.offset.is_some() {
        return Err(wrong("`mode=append` writes at the end; leave `offset` out, or set `mode=write`".into()));
    }
    if o.truncate == Some(true) && o.length.is_some() {
        return Err(wrong("`truncate` and `length` both say how long the file is; leave one of them out".into()));
    }
    if !o.writes() && o.syncs() != Sync::Never {
        return Err(wrong(format!("`sync={}` is about writing, and `mode=read` does not write", o.sync)));
    }
    if let (Some(_), Some(name)) = (&o.fd, o.of_paths()) {
        return Err(wrong(format!("`{name}` is about opening a path, and `fd` is open; leave one of them out")));
    }
    Ok(())
}

#[cold]
pub(super) fn wrong(text: String) -> Error {
    Error::new(ErrorKind::InvalidInput).detail(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xio_core::attr::Attr;

    fn refused(o: &Options, text: &str) {
        let e = o.check().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains(text), "{e}");
    }

    fn mode(mode: &str) -> Options {
        Options::default().with_mode(mode.into())
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for m in ["read", "write", "append", "read-write"] {
            mode(m).check().unwrap();
        }
        for perm in ["", "66", "0888", "1777", "7777", "+666", "rw-r--r--", "00644"] {
            refused(&mode("write").with_perm(perm.into()), "is no file mode: write three or four octal digits");
        }
        mode("write").with_perm("640".into()).check().unwrap();
        refused(&mode("read").with_truncate(Some(true)), "`truncate` changes the file, and `mode=read` does not");
        refused(&mode("read").with_length(Some(Size(0))), "`length` changes the file");
        refused(&mode("read").with_create(Some(true)), "set `mode=read-write`");
        mode("read").with_create(Some(false)).with_truncate(Some(false)).check().unwrap();
        refused(&mode("read-write").with_exclusive(true), "add `create`");
        refused(&mode("write").with_create(Some(false)).with_exclusive(true), "add `create`");
        mode("read-write").with_create(Some(true)).with_exclusive(true).check().unwrap();
        refused(&mode("append").with_offset(Some(Size(1))), "leave `offset` out");
        refused(&mode("write").with_truncate(Some(true)).with_length(Some(Size(1))), "leave one of them out");
        refused(&mode("read").with_sync("close".into()), "`sync=close` is about writing");
        let fd = Some(Fd::new(std::fs::File::open("/dev/null").unwrap()));
        refused(&mode("write").with_fd(fd.clone()).with_nofollow(true), "`nofollow` is about opening a path");
        mode("write").with_fd(fd).with_offset(Some(Size(1))).check().unwrap();
    }

    #[test]
    fn unset_options_follow_the_mode() {
        let all = ["read", "write", "append", "read-write"].map(mode);
        assert_eq!(all.each_ref().map(Options::creates), [false, true, true, false]);
        assert_eq!(all.each_ref().map(Options::truncates), [false, true, false, false]);
        assert!(!mode("write").with_offset(Some(Size(0))).truncates());
        assert!(!mode("write").with_length(Some(Size(9))).truncates());
        assert!(Sync::Never < Sync::Close && Sync::Close < Sync::Flush && Sync::Flush < Sync::Write);
    }

    #[test]
    fn a_descriptor_is_given_once_or_shared() {
        let file = || std::fs::File::open("/dev/null").unwrap();
        let fd = Fd::new(file());
        let copy = fd.clone();
        copy.take().unwrap();
        assert!(fd.take().unwrap_err().to_string().contains("taken by an earlier open"));
        let fd = Fd::shared(Arc::new(file().into()));
        assert_eq!(Arc::as_ptr(&fd.take().unwrap()), Arc::as_ptr(&fd.take().unwrap()));
    }
}
