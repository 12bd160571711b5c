//! A file under reads and writes at its position and at others, against a row of bytes.

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use xio_core::attr::{Attr, Offset, Size};
use xio_core::reactor::{Sim, SimConfig};
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Stack, cntl};
use xio_drivers::file::{self, Fd, Options};

use crate::Target;
use crate::input::{Input, noise};

pub(crate) const TARGET: Target = Target {
    name: "file",
    body: run,
    covers: &["drivers/src/file/options.rs"],
    fault: "an op at a place of its own moves the position",
};

/// Most steps of a run.
const STEPS: usize = 60;
/// Furthest place that is written to.
const FAR: usize = 200_000;

/// The file and where in it the handle is, as they should be.
struct Model {
    data: Vec<u8>,
    at: usize,
    mode: &'static str,
    shut: bool,
}

/// What is read is what was written there, an end is one, and afterwards the file holds what it should.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let scratch = Scratch::new();
    let path = &scratch.0;
    let is_there = !input.rarely(5);
    let data = noise(3, input.len(100_000));
    let _ = std::fs::remove_file(path);
    if is_there {
        std::fs::write(path, &data).expect("a file of one's own");
    }
    let mode = input.one_of(&["read-write", "read", "write", "append"]);
    let mut options = options(&mut input, mode);
    let given = is_there && mode.starts_with("read") && input.rarely(4);
    if given {
        let made = std::fs::File::options().read(true).write(mode == "read-write").open(path).expect("it is there");
        let fd = if input.flag() { Fd::new(made) } else { Fd::shared(std::sync::Arc::new(made.into())) };
        options = options.with_fd(Some(fd));
    }
    let checked = options.check();
    let stack = Stack::new(LevelNode::new(file::driver()).with_attr(Box::new(options.clone())));
    assert_eq!(stack.is_ok(), checked.is_ok());
    let Ok(stack) = stack else { return };
    let sim = Sim::with_config(1, SimConfig::calm());
    let engine = Engine::builder().reactor(sim).build().expect("an engine");
    let name = path.to_str().expect("a plain name");
    let contact = if input.rarely(16) { strange(&mut input) } else { name.to_owned() };
    let strange = contact != name;
    let strange = strange && !given;
    let opened = engine.open(&stack, if given { Contact::None } else { Contact::new(contact) }).wait();
    let creates = options.create.unwrap_or(matches!(mode, "write" | "append"));
    if strange || (!is_there && !creates) || (is_there && options.exclusive) {
        let e = opened.map(drop).expect_err("there is nothing to open");
        assert!(!matches!(e.kind(), ErrorKind::Contract | ErrorKind::Panicked), "{e}");
        return;
    }
    let handle = opened.unwrap();
    let mut model = Model { data, at: options.offset.map_or(0, |s| s.0 as usize), mode, shut: false };
    let unset = mode == "write" && options.offset.is_none() && options.length.is_none();
    if !is_there || options.truncate.unwrap_or(unset) {
        model.data.clear();
    }
    if let Some(Size(n)) = options.length {
        model.data.resize(n as usize, 0);
    }
    for n in 0..STEPS {
        if input.is_empty() {
            break;
        }
        model.step(&mut input, &handle, n, path);
    }
    handle.close().wait().unwrap();
    assert!(std::fs::read(path).expect("it is there") == model.data, "the file holds something else");
}

/// A file of the thread's own, gone with the run.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("xio-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A contact at which there is no file.
fn strange(input: &mut Input<'_>) -> String {
    format!("/nonexistent/{}", input.text())
}

fn options(input: &mut Input<'_>, mode: &str) -> Options {
    let mut o = Options::default().with_mode(mode.into());
    if input.flag() {
        return o;
    }
    let maybe = |input: &mut Input<'_>| input.rarely(4).then(|| input.flag());
    o = o.with_create(maybe(input)).with_truncate(maybe(input)).with_exclusive(input.rarely(5));
    let size = |input: &mut Input<'_>| input.rarely(4).then(|| Size(input.below(5000) as u64));
    o = o.with_offset(size(input)).with_length(size(input)).with_nofollow(input.rarely(5));
    if input.rarely(6) {
        o = o.with_perm(input.text().to_owned());
    }
    // A short name of a user that may not write is of no use to the next run.
    if o.perm != "0644" && input.flag() {
        o = o.with_perm("0644".into());
    }
    o.with_sync(input.one_of(&["never", "never", "never", "close", "flush", "write"]).into())
}

impl Model {
    fn step(&mut self, input: &mut Input<'_>, h: &Handle, n: usize, path: &std::path::Path) {
        match input.below(8) {
            0 | 1 => {
                let place = input.flag().then(|| place(input));
                self.read(input, h, place);
            }
            2 | 3 => {
                let place = input.flag().then(|| place(input));
                self.write(input, h, n, place);
            }
            4 => self.seek(input, h),
            5 => {
                let r = h.flush().wait();
                assert!(r.is_ok(), "{r:?}");
            }
            6 if self.mode != "append" => {
                // Somebody else has something to add.
                use std::io::Write;
                let more = noise(n, input.len(1000));
                let mut file = std::fs::File::options().append(true).open(path).expect("it is there");
                file.write_all(&more).expect("it can be written");
                self.data.extend(more);
            }
            _ if input.rarely(4) && !self.shut => {
                h.shutdown().wait().unwrap();
                self.shut = true;
            }
            _ => {}
        }
    }

    fn read(&mut self, input: &mut Input<'_>, h: &Handle, place: Option<u64>) {
        let room = input.len(20_000);
        let wait_for = input.one_of(&[1, 1, room]).min(room);
        let mut call = if input.flag() { h.take(room) } else { h.read(BytesMut::with_capacity(room)) };
        call = call.wait_for(wait_for);
        if let Some(at) = place {
            call = call.attr(Offset(at));
        }
        let reads = matches!(self.mode, "read" | "read-write");
        if !reads {
            call = call.deadline(Duration::from_millis(1));
        }
        let (done, error) = match call.wait() {
            Ok(done) => (done, None),
            Err(f) => (f.back, Some(f.error.kind())),
        };
        let got = done.into_bytes();
        if !reads {
            assert!(got.is_empty());
            assert!(matches!(error, None | Some(ErrorKind::TimedOut | ErrorKind::Eof)), "{error:?}");
            return;
        }
        if place.is_some_and(|p| p > i64::MAX as u64) && room > 0 {
            assert_eq!(error, Some(ErrorKind::InvalidInput));
            return;
        }
        let at = place.map_or(self.at, |p| usize::try_from(p).unwrap_or(usize::MAX));
        let there = self.data.get(at..).unwrap_or_default();
        assert!(got.len() <= room && there.starts_with(&got), "{} bytes at {at} are others", got.len());
        match error {
            None => assert!(got.len() >= wait_for.min(room), "{} of {wait_for}", got.len()),
            Some(ErrorKind::Eof) => assert!(got.len() == there.len() && got.len() < wait_for.max(1), "no end at {at}"),
            Some(kind) => panic!("a read failed: {kind:?}"),
        }
        if place.is_none() {
            self.at += got.len();
        }
    }

    fn write(&mut self, input: &mut Input<'_>, h: &Handle, n: usize, place: Option<u64>) {
        let place = place.map(|p| if p > i64::MAX as u64 { p } else { p.min(FAR as u64) });
        let bytes = noise(n, input.len(20_000));
        let cut = input.below(bytes.len() + 1);
        let all = bytes::Bytes::from(bytes.clone());
        let mut call = h.write(vec![all.slice(..cut), all.slice(cut..)]);
        if let Some(at) = place {
            call = call.attr(Offset(at));
        }
        let r = call.wait().map_err(|f| f.error.kind());
        // At the end is no place of its own.
        let placed_at_end = self.mode == "append" && place.is_some();
        let refused = self.mode == "read" || self.shut || placed_at_end || place.is_some_and(|p| p > i64::MAX as u64);
        if refused {
            assert!(r.is_err() || bytes.is_empty(), "written where nothing may be");
            return;
        }
        assert_eq!(r.map(|d| d.n), Ok(bytes.len()));
        let at = match place {
            _ if self.mode == "append" => self.data.len(),
            Some(p) => p as usize,
            None => self.at,
        };
        if !bytes.is_empty() {
            let end = at + bytes.len();
            self.data.resize(self.data.len().max(end), 0);
            self.data[at..end].copy_from_slice(&bytes);
        }
        if place.is_none() && self.mode != "append" {
            self.at += bytes.len();
        }
    }

    fn seek(&mut self, input: &mut Input<'_>, h: &Handle) {
        let to = input.flag().then(|| place(input));
        let to = to.map(|p| if p > i64::MAX as u64 { p } else { p.min(FAR as u64) });
        match h.query(cntl::Offset(to)) {
            Ok(now) if self.mode != "append" => {
                self.at = to.map_or(self.at, |p| p as usize);
                assert_eq!(now, self.at as u64);
            }
            Ok(_) => {}
            Err(e) => {
                let closed = self.shut && e.kind() == ErrorKind::Closed;
                assert!(closed || to.is_some_and(|p| p > i64::MAX as u64) || self.mode == "append", "{e}");
            }
        }
    }
}

/// A place in the file mostly.
fn place(input: &mut Input<'_>) -> u64 {
    match input.below(8) {
        0 => input.u64(),
        1 => u64::MAX,
        2 => 1 << 63,
        _ => input.below(1 << 17) as u64,
    }
}
