//! What an open makes of a path and of options, and what it says where it cannot.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use xio_core::attr::Size;
use xio_core::caps::Unit;
use xio_core::cntl::RemoteContact;
use xio_core::{Contact, Engine, ErrorKind};

use crate::fixture::{Dir, mode, open, open_as, rest, stack, until};

#[test]
fn each_mode_does_what_the_shell_does() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let path = dir.path("a");
    assert_eq!(open_as(&engine, mode("read"), &path).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(open_as(&engine, mode("read-write"), &path).unwrap_err().kind(), ErrorKind::NotFound);
    for (with, text, then) in [
        ("write", "hello", "hello"),
        ("append", " world", "hello world"),
        ("read-write", "J", "Jello world"),
        ("write", "x", "x"),
        ("append", "", "x"),
    ] {
        let h = open(&engine, with, &path);
        assert_eq!(h.write(text).wait().unwrap().n, text.len());
        assert_eq!(h.query(RemoteContact).unwrap(), Contact::new(&*path));
        h.close().wait().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), then, "{with}");
    }
    let h = open(&engine, "read", &path);
    let e = h.write("y").wait().unwrap_err().error;
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("is open for reading only; set `mode=write`"), "{e}");
    assert_eq!(rest(&h), b"x");
    h.flush().wait().unwrap();
    h.shutdown().wait().unwrap();
}

#[test]
fn options_change_what_is_created_and_emptied() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let write = |o, path: &str, text: &'static str| {
        let h = open_as(&engine, o, path).unwrap();
        h.write(text).wait().unwrap();
        h.close().wait().unwrap();
        std::fs::read_to_string(path).unwrap()
    };
    let path = dir.file("a", "0123456789");
    assert_eq!(write(mode("write").with_truncate(Some(false)), &path, "ab"), "ab23456789");
    assert_eq!(write(mode("write").with_offset(Some(Size(4))), &path, "cd"), "ab23cd6789");
    assert_eq!(write(mode("write").with_length(Some(Size(5))), &path, "ef"), "ef23c");
    assert_eq!(write(mode("read-write").with_length(Some(Size(7))), &path, "g"), "gf23c\0\0");
    assert_eq!(write(mode("append").with_truncate(Some(true)), &path, "h"), "h");
    let beyond = mode("write").with_offset(Some(Size(3)));
    assert_eq!(write(beyond, &path, "i"), "h\0\0i");
    let h = open_as(&engine, mode("read").with_offset(Some(Size(2))), &path).unwrap();
    assert_eq!(rest(&h), b"\0i");
    let new = dir.path("new");
    assert_eq!(write(mode("read-write").with_create(Some(true)), &new, "j"), "j");
    let e = open_as(&engine, mode("write").with_create(Some(false)), &dir.path("no")).unwrap_err();
    assert!(e.to_string().contains("add `create` to make it"), "{e}");
    let e = open_as(&engine, mode("write").with_exclusive(true), &new).unwrap_err();
    assert!(e.to_string().ends_with("is there already; leave `exclusive` out, or choose another name"), "{e}");
    let fresh = dir.path("fresh");
    assert_eq!(write(mode("write").with_exclusive(true).with_perm("0600".into()), &fresh, "k"), "k");
    assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_cannot_be_opened_is_named_in_one_line() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let file = dir.file("file", "");
    let link = dir.path("link");
    symlink(&file, &link).unwrap();
    let loops = dir.path("loops");
    symlink(&loops, &loops).unwrap();
    let socket = dir.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let pipe = dir.pipe("pipe");
    let folder = dir.path("");
    let missing = dir.path("missing");
    let long = dir.path(&"x".repeat(300));
    let under = format!("{file}/x");
    let at = || Some(Size(0));
    for (o, path, kind, text) in [
        (mode("read"), missing.as_str(), ErrorKind::NotFound, format!("file: open: not found: `{missing}`")),
        (mode("write"), "/no/where/x", ErrorKind::NotFound, "there is no directory `/no/where`".into()),
        (mode("read"), "~/x", ErrorKind::NotFound, "there is no directory `~`; `~` means nothing here".into()),
        (mode("read"), &under, ErrorKind::NotFound, "a part of the path is no directory".into()),
        (mode("read"), &folder, ErrorKind::InvalidContact, "is a directory; a file is needed".into()),
        (mode("write"), &folder, ErrorKind::InvalidContact, "is a directory; a file is needed".into()),
        (mode("read"), &socket, ErrorKind::InvalidContact, "is a socket or a device that is not there".into()),
        (mode("read").with_nofollow(true), &link, ErrorKind::InvalidContact, "is a symbolic link".into()),
        (mode("read"), &loops, ErrorKind::Io, loops.clone()),
        (mode("read"), &long, ErrorKind::InvalidContact, "a part of the path is too long".into()),
        (
            mode("read").with_offset(at()),
            &pipe,
            ErrorKind::InvalidInput,
            "no regular file, so it has no offsets".into(),
        ),
        (mode("read-write").with_length(at()), &pipe, ErrorKind::InvalidInput, "leave `length` out".into()),
        (mode("read"), "", ErrorKind::InvalidContact, "it needs a path, as in `file @ /tmp/x`, or `-`".into()),
        (mode("write").with_create(Some(true)), "-", ErrorKind::InvalidInput, "leave `create` out".into()),
    ] {
        let e = open_as(&engine, o, path).unwrap_err();
        let shown = e.to_string();
        assert_eq!(e.kind(), kind, "{shown}");
        assert!(shown.contains(&text) && !shown.contains('\n'), "{shown}");
        assert_eq!((e.level(), e.driver()), (Some("file"), Some("file")));
    }
    assert_eq!(rest(&open_as(&engine, mode("read"), &link).unwrap()), b"");
    until(|| engine.handles() == 0);
}

#[test]
fn a_file_does_not_listen_and_says_so() {
    let engine = Engine::new().unwrap();
    let caps = stack(mode("read")).caps().clone();
    assert!(!caps.accepts && caps.connects && !caps.duplex && caps.eof_resets && caps.reliable);
    assert_eq!(caps.unit, Unit::Stream);
    assert!(stack(mode("read-write")).caps().duplex);
    let e = engine.listen(&stack(mode("read")), Contact::new("/tmp/x")).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("a file cannot listen; open it"), "{e}");
}

#[test]
fn no_descriptor_is_left_behind() {
    let dir = Dir::new();
    let path = dir.file("a", "x");
    let mine = || {
        let list = std::fs::read_dir("/proc/self/fd").unwrap();
        list.filter(|e| e.as_ref().is_ok_and(|e| std::fs::read_link(e.path()).is_ok_and(|t| t.starts_with(&path))))
            .count()
    };
    let engine = Engine::new().unwrap();
    for closes in [true, false] {
        let h = open(&engine, "read-write", &path);
        assert_eq!(mine(), 1);
        h.take(1).wait().unwrap();
        if closes {
            h.close().wait().unwrap();
        }
        drop(h);
        until(|| mine() == 0);
    }
    // An open that fails after the file was opened.
    assert!(open_as(&engine, mode("read"), &dir.path("")).is_err());
    assert_eq!(mine(), 0);
}
