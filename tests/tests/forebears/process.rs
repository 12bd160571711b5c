//! What a library may not do to the process it is in.

use std::fs::File;
use std::sync::mpsc;

use bytes::BytesMut;
use rustix::process::{Resource, getrlimit, setrlimit};
use xio_core::{Contact, Engine, LevelNode, Stack};
use xio_drivers::tcp;

use crate::fixture::LONG;
use crate::{root, sources};

/// What library code may not say, and the one place where it may: a blocking call whose buffer is still in use.
const FORBIDDEN: [(&str, Option<&str>); 7] = [
    ("process::exit", None),
    ("process::abort", Some("xio-core/src/engine/block.rs")),
    ("env::var", None),
    ("env::set_var", None),
    ("sigaction", None),
    ("libc::signal", None),
    ("static mut ", None),
];

/// The lines that are in a shipped build: no comments, and nothing that is for tests alone.
fn shipped(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter(|l| !l.trim_start().starts_with("//")).filter(move |l| {
        is_test |= l.starts_with("#[cfg(") && l.contains("test");
        let item_ends = *l == "}" || l.ends_with(';') && !l.starts_with(' ');
        let counts = !is_test;
        is_test &= !item_ends;
        counts
    })
}

#[test]
fn what_is_for_tests_alone_is_not_shipped() {
    let text = "a();\n#[cfg(test)]\nmod x;\n// b\nc();\n#[cfg(all(test, unix))]\nfn d() {\n    e();\n}\nf();\n";
    assert_eq!(shipped(text).collect::<Vec<_>>(), ["a();", "c();", "f();"]);
}

/// EVPath calls `exit` in 29 places; in Globus XIO environment variables choose threads and logging.
#[test]
fn no_library_code_ends_its_process_or_asks_its_environment() {
    let mut allowed = 0;
    for folder in ["xio-core/src", "drivers/src", "stacks/src"] {
        let files = sources(&root().join(folder));
        assert!(files.len() > 10, "{folder} is not where it was");
        for (path, text) in files {
            let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            // Models run their own tests over again, each in a process; planted faults are in no shipped build.
            if place.contains("/models") || place.ends_with("/planted.rs") {
                continue;
            }
            for line in shipped(&text) {
                let Some((word, exception)) = FORBIDDEN.iter().find(|(w, _)| line.contains(w)) else { continue };
                assert_eq!(*exception, Some(place.as_str()), "`{word}` in {place}: {line}");
                allowed += 1;
            }
        }
    }
    assert_eq!(allowed, 1, "the exception is gone; so should be its line here");
}

/// EVPath ignores SIGPIPE for the whole process, and keeps addresses in statics.
#[test]
fn an_engine_changes_nothing_of_its_process() {
    let state = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let signals: Vec<_> = status.lines().filter(|l| l.starts_with("SigIgn") || l.starts_with("SigCgt")).collect();
        let limit = getrlimit(Resource::Core);
        (signals.join(" "), std::env::current_dir().unwrap(), std::env::vars_os().count(), limit.current)
    };
    let before = state();
    for _ in 0..2 {
        let engine = Engine::new().unwrap();
        let stack = Stack::new(LevelNode::new(tcp::driver())).unwrap();
        let server = engine.listen(&stack, Contact::new("127.0.0.1:0")).wait().unwrap();
        let near = engine.open(&stack, server.contact().clone()).wait().unwrap();
        let far = server.accept().wait().unwrap().open().wait().unwrap();
        far.close().wait().unwrap();
        // Until nobody is there any more, which ends no process.
        while near.write("x").deadline(LONG).wait().is_ok() {}
        assert_eq!(state(), before);
    }
    assert_eq!(state(), before);
}

/// Globus XIO watches with `select`, whose sets end at 1024.
#[test]
fn descriptors_beyond_1024_are_watched_like_others() {
    const PAIRS: usize = 40;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(limit.maximum.unwrap_or(4096).min(4096));
    if limit.current < Some(2048) || setrlimit(Resource::Nofile, limit).is_err() {
        println!("SKIP: this process may not have 2048 descriptors");
        return;
    }
    let null = File::open("/dev/null").unwrap();
    let _low: Vec<File> = (0..1100).map(|_| null.try_clone().unwrap()).collect();
    let engine = Engine::new().unwrap();
    let stack = Stack::new(LevelNode::new(tcp::driver())).unwrap();
    let server = engine.listen(&stack, Contact::new("127.0.0.1:0")).wait().unwrap();
    let (tx, rx) = mpsc::channel();
    let ends: Vec<_> = (0..PAIRS)
        .map(|i| {
            let near = engine.open(&stack, server.contact().clone()).wait().unwrap();
            let far = server.accept().wait().unwrap().open().wait().unwrap();
            // It waits: nothing has been written.
            let tx = tx.clone();
            drop(near.read(BytesMut::with_capacity(9)).then(move |r| tx.send((i, r.unwrap().into_bytes())).unwrap()));
            (near, far)
        })
        .collect();
    // Other tests of this process may have given low numbers back, for a few of these.
    let is_high_socket = |e: std::io::Result<std::fs::DirEntry>| {
        let e = e.unwrap();
        let number: usize = e.file_name().to_str().unwrap().parse().unwrap();
        number > 1024 && std::fs::read_link(e.path()).is_ok_and(|l| l.to_string_lossy().starts_with("socket:"))
    };
    assert!(std::fs::read_dir("/proc/self/fd").unwrap().any(is_high_socket));
    for (i, (_, far)) in ends.iter().enumerate() {
        far.write(format!("to {i}")).deadline(LONG).wait().unwrap();
        assert_eq!(rx.recv_timeout(LONG).unwrap(), (i, format!("to {i}").into()));
    }
}
