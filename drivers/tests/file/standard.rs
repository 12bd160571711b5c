//! Standard input and output, in a process of their own: this program again, told by a variable which
//! part to play.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};

use rustix::fs::fcntl_getfl;
use xio_core::{Engine, ErrorKind};

use crate::fixture::{Dir, LONG, SHORT, mode, open, open_as, rest};

const PART: &str = "XIO_FILE_TEST_PART";
/// What the test harness never prints.
const MARK: &str = "<<";

/// Runs this program with one test, as a child with a part.
fn child(part: &str, out: &str) -> Command {
    let mut c = Command::new(std::env::current_exe().unwrap());
    c.args(["--exact", "standard::a_child_plays_its_part", "--nocapture", "--test-threads=1"]);
    c.env(PART, part).env("XIO_FILE_TEST_OUT", out).stdin(Stdio::null()).stdout(Stdio::null());
    c
}

#[test]
fn a_child_plays_its_part() {
    let Ok(part) = std::env::var(PART) else { return };
    let out = std::env::var("XIO_FILE_TEST_OUT").unwrap();
    let engine = Engine::new().unwrap();
    match part.as_str() {
        "read" => {
            let before = fcntl_getfl(rustix::stdio::stdin()).unwrap();
            let h = open(&engine, "read", "-");
            let late = h.take(1).deadline(SHORT).wait();
            let mut all = late.map_or_else(|_| Vec::new(), |d| d.into_bytes().to_vec());
            all.extend(rest(&h));
            h.close().wait().unwrap();
            assert_eq!(fcntl_getfl(rustix::stdio::stdin()).unwrap(), before);
            std::fs::write(out, all).unwrap();
        }
        "some" => {
            // Ten bytes and not one more: the next process reads on from there.
            let h = open(&engine, "read", "-");
            let ten = h.take(10).wait_for(10).wait().unwrap().into_bytes();
            h.close().wait().unwrap();
            std::fs::write(out, ten).unwrap();
        }
        "write" => {
            let h = open(&engine, "write", "-");
            h.write(format!("{MARK}one")).deadline(LONG).wait().unwrap();
            h.shutdown().wait().unwrap();
            h.close().wait().unwrap();
            // Standard output is still there.
            let h = open(&engine, "append", "-");
            h.write(format!("two{MARK}")).deadline(LONG).wait().unwrap();
            h.close().wait().unwrap();
        }
        "both" => {
            let h = open(&engine, "read-write", "-");
            h.write(MARK).wait().unwrap();
            while let Ok(d) = h.take(1000).deadline(LONG).wait() {
                h.write(d.into_bytes()).wait().unwrap();
            }
            h.write(MARK).wait().unwrap();
        }
        "wrong" => {
            let e = open_as(&engine, mode("read"), "-").unwrap_err();
            std::fs::write(out, format!("{:?} {e}", e.kind() == ErrorKind::InvalidInput)).unwrap();
        }
        other => panic!("no part `{other}`"),
    }
}

/// What stands between the marks.
fn marked(all: &[u8]) -> String {
    let text = String::from_utf8_lossy(all);
    text.split(MARK).nth(1).unwrap_or_else(|| panic!("no mark in {text:?}")).to_owned()
}

#[test]
fn a_dash_reads_standard_input_and_leaves_it_as_it_was() {
    let dir = Dir::new();
    let out = dir.path("out");
    let (r, mut w) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&r).unwrap();
    let mut c = child("read", &out).stdin(r.try_clone().unwrap()).spawn().unwrap();
    w.write_all(&vec![7; 100_000]).unwrap();
    drop(w);
    assert!(c.wait().unwrap().success());
    assert_eq!(std::fs::read(&out).unwrap(), vec![7; 100_000]);
    assert_eq!(fcntl_getfl(&r).unwrap(), flags);
    // From a file.
    let file = File::open(dir.file("in", "from a file")).unwrap();
    assert!(child("read", &out).stdin(file).status().unwrap().success());
    assert_eq!(std::fs::read(&out).unwrap(), b"from a file");
}

#[test]
fn standard_input_that_is_a_file_is_read_no_further_than_asked() {
    let dir = Dir::new();
    let out = dir.path("out");
    let mut file = File::open(dir.file("in", "0123456789abcdef")).unwrap();
    assert!(child("some", &out).stdin(file.try_clone().unwrap()).status().unwrap().success());
    assert_eq!(std::fs::read(&out).unwrap(), b"0123456789");
    assert_eq!(file.stream_position().unwrap(), 10);
    let mut next = String::new();
    file.read_to_string(&mut next).unwrap();
    assert_eq!(next, "abcdef");
}

#[test]
fn a_dash_writes_standard_output_and_does_not_close_it() {
    let dir = Dir::new();
    let out = child("write", "").stdout(Stdio::piped()).output().unwrap();
    assert!(out.status.success());
    assert_eq!(marked(&out.stdout), "onetwo");
    let path = dir.path("out");
    let file = File::create(&path).unwrap();
    assert!(child("write", "").stdout(file).status().unwrap().success());
    assert_eq!(marked(&std::fs::read(&path).unwrap()), "onetwo");
}

#[test]
fn a_dash_for_both_is_standard_input_and_output() {
    let mut c = child("both", "").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    c.stdin.take().unwrap().write_all(b"there and back").unwrap();
    let out = c.wait_with_output().unwrap();
    assert!(out.status.success());
    assert_eq!(marked(&out.stdout), "there and back");
}

#[test]
fn standard_input_that_cannot_be_read_is_refused() {
    let dir = Dir::new();
    let out = dir.path("out");
    let sink = File::create(dir.path("sink")).unwrap();
    assert!(child("wrong", &out).stdin(sink).status().unwrap().success());
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.starts_with("true") && text.contains("standard input is open for writing only"), "{text}");
}
