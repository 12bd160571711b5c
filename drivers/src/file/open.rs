//! Opening: from a contact and options to a [`Place`], in system calls that run on the engine's pool.
//! Invariant: an error says which path, what is wrong with it, and where one can tell, what to do.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use xio_core::{Contact, Error, ErrorKind};

use super::Options;
use super::options::wrong;
use super::place::{Descriptor, Place, Side};

/// What is to be opened.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Path(String),
    /// Standard input, output, or both.
    Standard,
    Given(Arc<std::os::fd::OwnedFd>),
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Opened {
    Place(Box<Place>),
    /// A pipe that nobody reads yet.
    NoReader,
    Failed(Error),
}

/// Finds out what a contact and options ask for.
pub(super) fn target(contact: &Contact, o: &Options) -> Result<Target, Error> {
    let bad = |text: String| Err(Error::new(ErrorKind::InvalidContact).detail(text));
    if let Some(fd) = &o.fd {
        return match contact {
            Contact::None => fd.take().map(Target::Given),
            other => bad(format!("`{other}`: the level was given a descriptor (`fd`); open it with no contact")),
        };
    }
    match contact {
        Contact::Text(t) if t.contains('\0') => bad("a path cannot contain a NUL character".into()),
        Contact::Text(t) if **t == *"-" => match o.of_paths() {
            Some(name) => Err(wrong(format!("`{name}` is about opening a path, and `-` is open; leave `{name}` out"))),
            None => Ok(Target::Standard),
        },
        Contact::Text(t) if !t.is_empty() => Ok(Target::Path(t.to_string())),
        Contact::None | Contact::Text(_) => bad("it needs a path, as in `file @ /tmp/x`, or `-`".into()),
        other => bad(format!("`{other}`: a file has no branches; write one path")),
    }
}

/// Whether a contact can name a file; nothing is looked at.
pub(super) fn check_contact(o: &Options, contact: &Contact) -> Result<(), Error> {
    // Where a descriptor is given, none is taken from its option: a contact is wrong there.
    target(contact, o).map(drop)
}

/// Opens. May block.
pub(super) fn open(target: Target, o: &Options) -> Opened {
    let place = match target {
        Target::Path(path) => match open_path(&path, o) {
            Ok(Some(place)) => Ok(place),
            Ok(None) => return Opened::NoReader,
            Err(e) => Err(e),
        },
        Target::Standard => {
            let side = |d, name| given(Arc::new(d), name, o.reads() && name == INPUT, o.writes() && name == OUTPUT);
            let input = o.reads().then(|| side(Descriptor::Stdin, INPUT)).transpose();
            let output = o.writes().then(|| side(Descriptor::Stdout, OUTPUT)).transpose();
            let name = if o.reads() && o.writes() {
                "standard input and output"
            } else if o.reads() {
                INPUT
            } else {
                OUTPUT
            };
            input.and_then(|input| {
                let place = Place { name: name.into(), input, output: output?, position: None };
                positioned(place, o)
            })
        }
        Target::Given(fd) => {
            let name = "the descriptor (`fd`)";
            given(Arc::new(Descriptor::Given(fd)), name, o.reads(), o.writes()).and_then(|side| {
                let place = Place {
                    name: name.into(),
                    input: o.reads().then(|| side.clone()),
                    output: o.writes().then_some(side),
                    position: None,
                };
                positioned(place, o)
            })
        }
    };
    match place {
        Ok(place) => Opened::Place(Box::new(place)),
        Err(e) => Opened::Failed(e),
    }
}

const INPUT: &str = "standard input";
const OUTPUT: &str = "standard output";

/// Looks at a descriptor made elsewhere, and changes nothing.
fn given(descriptor: Arc<Descriptor>, name: &str, reads: bool, writes: bool) -> Result<Side, Error> {
    let (side, kind, flags) = Side::new(descriptor).map_err(|e| match Errno::from_io_error(&e) {
        Some(Errno::BADF) => Error::new(ErrorKind::Closed).detail(format!("{name} is closed")),
        _ => Error::from(e).detail(name.to_owned()),
    })?;
    if kind == FileType::Directory {
        return Err(wrong(format!("{name} is a directory; a file is needed")));
    }
    let access = flags & OFlags::RWMODE;
    if reads && access == OFlags::WRONLY {
        return Err(wrong(format!("{name} is open for writing only; set `mode=write`")));
    }
    if writes && access == OFlags::RDONLY {
        return Err(wrong(format!("{name} is open for reading only; set `mode=read`")));
    }
    Ok(side)
}

/// Gives a descriptor made elsewhere a position of its own, where the options ask for one.
fn positioned(mut place: Place, o: &Options) -> Result<Place, Error> {
    let Some(offset) = o.offset else { return Ok(place) };
    let sides = [&place.input, &place.output];
    if sides.iter().any(|s| s.as_ref().is_some_and(|s| !s.seekable)) {
        return Err(wrong(format!("{} is no regular file, so it has no offsets; leave `offset` out", place.name)));
    }
    if place.output.as_ref().is_some_and(|s| s.appends) {
        return Err(wrong(format!("{} writes at the end; leave `offset` out", place.name)));
    }
    place.position = Some(offset.0);
    Ok(place)
}

/// `None`: a pipe that nobody reads yet.
fn open_path(path: &str, o: &Options) -> Result<Option<Place>, Error> {
    let access = match (o.reads(), o.writes()) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    // Neither a pipe nor a terminal may keep a thread of the pool.
    let mut flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let more = [
        (o.appends(), OFlags::APPEND),
        (o.creates(), OFlags::CREATE),
        (o.exclusive, OFlags::EXCL),
        (o.truncates(), OFlags::TRUNC),
        (o.nofollow, OFlags::NOFOLLOW),
    ];
    more.iter().filter(|(on, _)| *on).for_each(|(_, flag)| flags |= *flag);
    let mode = Mode::from_raw_mode(o.permissions().unwrap_or(0o666));
    let fd = loop {
        match rustix::fs::open(path, flags, mode) {
            Ok(fd) => break fd,
            Err(Errno::INTR) => {}
            Err(Errno::NXIO) if is_pipe(path) => return Ok(None),
            Err(e) => return Err(refused(path, o, e)),
        }
    };
    let name = format!("`{path}`");
    let named = |e: std::io::Error| Error::from(e).detail(name.clone());
    let (side, kind, _) = Side::new(Arc::new(Descriptor::Own(fd))).map_err(named)?;
    if kind == FileType::Directory {
        return Err(directory(path));
    }
    if let (false, Some(name)) = (side.seekable, needs_offsets(o)) {
        return Err(wrong(format!("`{path}` is no regular file, so it has no offsets; leave `{name}` out")));
    }
    if let Some(length) = o.length {
        rustix::fs::ftruncate(&*side.descriptor, length.0).map_err(|e| named(e.into()))?;
    }
    let position = (side.seekable && !side.appends).then(|| o.offset.map_or(0, |s| s.0));
    Ok(Some(Place { input: o.reads().then(|| side.clone()), output: o.writes().then_some(side), position, name }))
}

fn needs_offsets(o: &Options) -> Option<&'static str> {
    let needs = [("offset", o.offset.is_some()), ("length", o.length.is_some())];
    needs.iter().find_map(|(name, set)| set.then_some(*name))
}

fn is_pipe(path: &str) -> bool {
    rustix::fs::stat(path).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo)
}

#[cold]
fn directory(path: &str) -> Error {
    Error::new(ErrorKind::InvalidContact).detail(format!("`{path}` is a directory; a file is needed"))
}

/// The error of an open, in the words of whoever wrote the path.
#[cold]
fn refused(path: &str, o: &Options, e: Errno) -> Error {
    let (kind, text) = match e {
        Errno::NOENT => (ErrorKind::NotFound, not_found(path, o)),
        Errno::NOTDIR => (ErrorKind::NotFound, format!("`{path}`: a part of the path is no directory")),
        Errno::ISDIR => return directory(path),
        Errno::EXIST => (
            ErrorKind::InvalidContact,
            format!("`{path}` is there already; leave `exclusive` out, or choose another name"),
        ),
        Errno::LOOP if o.nofollow => {
            (ErrorKind::InvalidContact, format!("`{path}` is a symbolic link, and `nofollow` refuses those"))
        }
        Errno::NXIO => (
            ErrorKind::InvalidContact,
            format!("`{path}` is a socket or a device that is not there; `file` opens neither"),
        ),
        Errno::ACCESS | Errno::PERM => {
            let what = match (o.reads(), o.writes()) {
                (true, false) => "read",
                (false, true) => "write",
                _ => "read and write",
            };
            (ErrorKind::PermissionDenied, format!("`{path}`: no permission to {what} it"))
        }
        Errno::ROFS => (ErrorKind::PermissionDenied, format!("`{path}` is on a file system that is read only")),
        Errno::NAMETOOLONG => {
            (ErrorKind::InvalidContact, format!("a part of the path is too long: `{}`…", start(path)))
        }
        other => return Error::from(std::io::Error::from(other)).detail(format!("`{path}`")),
    };
    Error::new(kind).detail(text)
}

fn not_found(path: &str, o: &Options) -> String {
    let parent = Path::new(path).parent().filter(|p| !p.as_os_str().is_empty());
    match parent {
        Some(p) if !p.exists() => {
            let home = if path.starts_with('~') { "; `~` means nothing here" } else { "" };
            format!("`{path}`: there is no directory `{}`{home}", p.display())
        }
        _ if o.writes() && !o.creates() => format!("`{path}`; add `create` to make it"),
        _ => format!("`{path}`"),
    }
}

/// As much of a path as an error repeats.
fn start(path: &str) -> &str {
    path.char_indices().nth(60).map_or(path, |(at, _)| path.get(..at).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::super::Fd;
    use super::*;

    #[test]
    fn a_contact_is_a_path_or_a_dash_and_nothing_else() {
        let o = Options::default();
        assert!(matches!(target(&Contact::new("-"), &o), Ok(Target::Standard)));
        for path in ["./-", "a:b", "file:x", "a b", "x@y", "~"] {
            assert!(matches!(target(&Contact::new(path), &o), Ok(Target::Path(p)) if p == path));
        }
        let text = |c: &Contact, o: &Options| target(c, o).unwrap_err().to_string();
        assert!(text(&Contact::None, &o).contains("needs a path, as in `file @ /tmp/x`"));
        assert!(text(&Contact::new("a\0b"), &o).contains("NUL"));
        assert!(text(&"{a: x}".parse().unwrap(), &o).contains("has no branches"));
        let w = Options::default().with_mode("write".into());
        for (o, name) in [
            (w.clone().with_truncate(Some(false)), "truncate"),
            (w.clone().with_create(Some(true)), "create"),
            (w.clone().with_exclusive(true), "exclusive"),
            (w.clone().with_perm("0600".into()), "perm"),
            (w.clone().with_nofollow(true), "nofollow"),
            (w.clone().with_length(Some(xio_core::attr::Size(1))), "length"),
        ] {
            assert!(text(&Contact::new("-"), &o).contains(&format!("leave `{name}` out")));
        }
        let fd = w.with_fd(Some(Fd::new(std::fs::File::open("/dev/null").unwrap())));
        assert!(text(&Contact::new("x"), &fd).contains("open it with no contact"));
        assert!(target(&Contact::None, &fd).is_ok());
        assert!(text(&Contact::None, &fd).contains("taken by an earlier open"));
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        assert_eq!(start("short"), "short");
        assert_eq!(start(&"é".repeat(100)).chars().count(), 60);
    }
}
