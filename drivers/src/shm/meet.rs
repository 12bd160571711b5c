//! How two processes meet: a unix socket at a path, over which the one that opens sends the two rings. Invariant:
//! both are one user's processes, as the system says of either; whatever comes from the peer is checked before
//! it is used. An accept takes the connection, the open over its link what the peer says, so a peer that says
//! nothing keeps nobody but that open waiting.
//!
//! The socket stays: a byte on it wakes a sleeper, and its end is the peer's.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, fchmod, flock, lstat, stat, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, recvmsg, send, sendmsg, socket_with,
    sockopt,
};
use rustix::process::geteuid;
use xio_core::io::Sock;
use xio_core::{Contact, Error, ErrorKind};

use super::map::Map;

/// Longest path of a socket (`sun_path`), less its end.
const MAX_PATH: usize = 107;
/// What the first message begins with; the last byte is the version.
const MAGIC: [u8; 8] = *b"xio-shm\x01";
/// Magic, flags, and what has no meaning yet.
const HELLO: usize = 16;
/// How long an open waits for a place in the backlog, and a server for the directory.
const PATIENCE: Duration = Duration::from_secs(1);
pub(super) const PAUSE: Duration = Duration::from_millis(5);
/// How often that is looked at.
pub(super) const LOOKS: u128 = PATIENCE.as_millis() / PAUSE.as_millis();
/// Byte for: this end has no use for you.
pub(super) const REFUSED: u8 = 0;
/// Byte for: look again.
pub(super) const LOOK: u8 = 1;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Both directions of a connection, as one end sees them.
pub(super) struct Rings {
    pub(super) rx: Arc<Map>,
    pub(super) tx: Arc<Map>,
}

/// A connection that was accepted, whose peer has not been heard yet.
pub(super) struct Guest {
    pub(super) sock: Sock,
    pub(super) message: bool,
    pub(super) ends: Ends,
}

/// A connection that was opened: the peer has yet to hear of it.
pub(super) struct Met {
    pub(super) fd: OwnedFd,
    pub(super) rings: Rings,
    pub(super) ends: Ends,
}

/// What both ends of a connection are called.
#[derive(Clone)]
pub(super) struct Ends {
    pub(super) local: Contact,
    pub(super) peer: Contact,
}

/// Where a socket listens. The path goes with it.
pub(super) struct Meeting {
    pub(super) path: PathBuf,
    /// Device and inode: what lies at the path by then may be another's.
    node: (u64, u64),
    message: bool,
}

/// The path in a contact.
pub(super) fn path(contact: &Contact) -> Result<&Path, Error> {
    let bad = |text: String| Err(Error::new(ErrorKind::InvalidContact).detail(text));
    match contact.text() {
        None if contact.is_none() => bad("none is given; write the path of a socket, as `/run/app/socket`".into()),
        None => bad(format!("`{contact}`: a map of branches, but `shm` has none; write a path")),
        Some("") => bad("the path is empty".into()),
        Some(text) if text.len() > MAX_PATH => {
            bad(format!("the path of a socket has {MAX_PATH} bytes at most, and this one has {}", text.len()))
        }
        Some(text) if text.contains('\0') => bad("a path has no zero byte".into()),
        Some(text) => Ok(Path::new(text)),
    }
}

/// Connects, makes the rings and sends them. May block for a moment. `Busy`: the server's backlog is full.
pub(super) fn open(path: &Path, message: bool, size: usize) -> Result<Met, Error> {
    check_directory(path)?;
    let fd = connected(path)?;
    check_peer(fd.as_fd(), path)?;
    let (tx, tx_fd) = Map::create(size)?;
    let (rx, rx_fd) = Map::create(size)?;
    let mut hello = [0; HELLO];
    hello[..8].copy_from_slice(&MAGIC);
    hello[8] = message.into();
    let fds = [tx_fd.as_fd(), rx_fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    match sendmsg(&fd, &[io::IoSlice::new(&hello)], &mut control, SendFlags::NOSIGNAL) {
        Ok(HELLO) => {}
        Ok(_) => return Err(Error::new(ErrorKind::Io).detail("the socket took half a greeting")),
        // It was there when we came; that it is gone again the first op says.
        Err(Errno::PIPE | Errno::CONNRESET) => {}
        Err(e) => return Err(io::Error::from(e).into()),
    }
    let ends = Ends { local: process(std::process::id()), peer: contact(path) };
    Ok(Met { fd, rings: Rings { rx: Arc::new(rx), tx: Arc::new(tx) }, ends })
}

fn connected(path: &Path) -> Result<OwnedFd, Error> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(io::Error::from)?;
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    let failed = |kind, text: &str| Err(Error::new(kind).detail(format!("`{}`: {text}", path.display())));
    match connect(&fd, &address) {
        Ok(()) => Ok(fd),
        Err(Errno::AGAIN) => failed(ErrorKind::Busy, "too many wait to be accepted there"),
        Err(Errno::NOENT) => failed(ErrorKind::Refused, "nobody listens there: there is no such socket"),
        Err(Errno::CONNREFUSED) => failed(ErrorKind::Refused, "nobody listens there any more"),
        Err(e) => Err(Error::from(io::Error::from(e)).detail(format!("`{}`", path.display()))),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// What can rename or remove the socket decides who listens there.
fn check_directory(path: &Path) -> Result<(), Error> {
    let directory = directory(path);
    let denied = |text: &str| {
        let text = format!("`{}`: {text}", directory.display());
        Err(Error::new(ErrorKind::PermissionDenied).detail(text))
    };
    let found = match stat(directory) {
        Ok(s) => s,
        Err(e) => return Err(Error::from(io::Error::from(e)).detail(format!("`{}`", directory.display()))),
    };
    if found.st_uid != 0 && found.st_uid != geteuid().as_raw() {
        return denied("the directory belongs to another user, who could put a socket of his own there");
    }
    let mode = Mode::from_raw_mode(found.st_mode);
    if mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX) {
        return denied("others may rename what is in this directory; take one that only you can write");
    }
    Ok(())
}

/// The process at the other end, if it is one of ours.
fn check_peer(fd: BorrowedFd<'_>, path: &Path) -> Result<u32, Error> {
    let peer = sockopt::socket_peercred(fd).map_err(io::Error::from)?;
    if peer.uid != geteuid() {
        let text = format!("`{}`: the process there is another user's ({})", path.display(), peer.uid.as_raw());
        return Err(Error::new(ErrorKind::PermissionDenied).detail(text));
    }
    Ok(peer.pid.as_raw_nonzero().get().unsigned_abs())
}

fn descriptor(sock: &Sock) -> Result<BorrowedFd<'_>, Error> {
    let text = "the engine's reactor has sockets without descriptors, and memory is shared by descriptors only";
    sock.socket().descriptor().ok_or_else(|| Error::new(ErrorKind::Unsupported).detail(text))
}

/// An end that has no path is named by its process.
fn process(pid: u32) -> Contact {
    Contact::new(format!("pid:{pid}"))
}

fn contact(path: &Path) -> Contact {
    Contact::new(path.to_string_lossy())
}

impl Meeting {
    /// Listens, at a socket that is still to be taken in. May block for a moment.
    pub(super) fn at(path: PathBuf, message: bool, backlog: u32) -> Result<(Self, OwnedFd), Error> {
        check_directory(&path)?;
        let failed = |e: Errno| Error::from(io::Error::from(e)).detail(format!("`{}`", path.display()));
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(failed)?;
        // Before the bind, so that at no time somebody else could connect.
        fchmod(&fd, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let address = SocketAddrUnix::new(&path).map_err(failed)?;
        // Until it listens it looks like one that a process left behind. Without the lock nothing gives way.
        let alone = lock_directory(&path);
        match bind(&fd, &address) {
            Err(Errno::ADDRINUSE) => {
                alone.as_ref().map_err(Clone::clone)?;
                give_way(&path)?;
                bind(&fd, &address).map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        let found = lstat(&path).map_err(failed)?;
        let meeting = Self { path, node: (found.st_dev, found.st_ino), message };
        listen(&fd, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(io::Error::from)?;
        Ok((meeting, fd))
    }

    pub(super) fn contact(&self) -> Contact {
        contact(&self.path)
    }

    /// A peer that was accepted, if it is one of ours. Another user's is not worth an error.
    pub(super) fn guest(&self, sock: Sock) -> Result<Option<Guest>, Error> {
        let peer = check_peer(descriptor(&sock)?, &self.path).ok();
        Ok(peer.map(|pid| {
            let ends = Ends { local: self.contact(), peer: process(pid) };
            Guest { sock, message: self.message, ends }
        }))
    }
}

impl Guest {
    /// Reads the first message and takes the rings.
    ///
    /// # Errors
    /// `WouldBlock` where it has not come yet; `Protocol` where it is no good; `Refused`.
    pub(super) fn greet(&self) -> io::Result<Rings> {
        let foul = |text: &'static str| io::Error::from(Error::new(ErrorKind::Protocol).detail(text));
        let fd = descriptor(&self.sock)?;
        let mut hello = [0; HELLO];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(fd, &mut [io::IoSliceMut::new(&mut hello)], &mut control, flags)?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let (magic, rest) = hello.split_at(MAGIC.len());
        if got.bytes == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if got.bytes != HELLO || magic != MAGIC || rest[0] > 1 || rest[1..].iter().any(|b| *b != 0) {
            return Err(foul("the peer's first words are no greeting of this version"));
        }
        if (rest[0] == 1) != self.message {
            let _ = send(fd, &[REFUSED], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            let (ours, theirs) = if self.message { ("messages", "a stream") } else { ("a stream", "messages") };
            let text = format!("this end has {ours}, the peer {theirs}: set `message` at both ends or at neither");
            return Err(Error::new(ErrorKind::Refused).detail(text).into());
        }
        let [theirs, ours] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| foul("the peer sent no two rings"))?;
        Ok(Rings { rx: Arc::new(Map::open(theirs.as_fd())?), tx: Arc::new(Map::open(ours.as_fd())?) })
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        if lstat(&self.path).is_ok_and(|s| (s.st_dev, s.st_ino) == self.node) {
            let _ = unlink(&self.path);
        }
    }
}

/// Keeps other servers from taking this one's socket for a dead one, and the other way round, until it is dropped.
fn lock_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory(path), flags, Mode::empty()).map_err(io::Error::from)?;
    let mut left = LOOKS;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::WOULDBLOCK) if left > 0 => {
                left -= 1;
                std::thread::sleep(PAUSE);
            }
            Err(e) => return Err(Error::from(io::Error::from(e)).detail("the directory's lock")),
        }
    }
}

/// Removes a socket that a process left behind when it died.
fn give_way(path: &Path) -> Result<(), Error> {
    let taken = |text: &str| {
        Error::new(ErrorKind::AddrInUse).detail(format!("`{}`: {text}; take another path", path.display()))
    };
    let found = lstat(path).map_err(io::Error::from)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(taken("there is something else than a socket"));
    }
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(io::Error::from)?;
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    match connect(&fd, &address) {
        Err(Errno::CONNREFUSED) => Ok(unlink(path).map_err(io::Error::from)?),
        _ => Err(taken("somebody listens there")),
    }
}

/// A path that nobody has, for a server that was given none.
pub(super) fn fresh() -> PathBuf {
    let own = PathBuf::from(format!("/run/user/{}", geteuid().as_raw()));
    let directory = if check_directory(&own.join("x")).is_ok() { own } else { std::env::temp_dir() };
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    directory.join(format!("xio-{}-{random:016x}", std::process::id()))
}
