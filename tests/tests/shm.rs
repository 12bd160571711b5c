//! Shared memory between two processes: this one and `shm_peer`, which is killed at any moment, or keeps to
//! nothing. `XIO_KILLS`, `XIO_HOSTILE` and `XIO_FLIPS` say how often.

use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use xio_core::buffer::Chunk;
use xio_core::{Contact, Engine, ErrorKind, Handle, Server};
use xio_tests::shm::{is_message, length, message, rounds, stack};

/// Long enough for anything that comes at all.
const LONG: Duration = Duration::from_secs(20);
/// How soon after a peer's death every op has ended.
const SOON: Duration = Duration::from_millis(100);

/// A server, and the directory of its socket.
struct Place {
    directory: PathBuf,
    engine: Engine,
}

impl Place {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("xio-shm-kill-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        Self { directory, engine: Engine::new().unwrap() }
    }

    fn server(&self, borders: bool, spin: bool) -> Server {
        let at = Contact::new(self.directory.join("s").to_str().unwrap());
        self.engine.listen(&stack(borders, spin), at).wait().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left: Vec<_> = std::fs::read_dir(&self.directory).unwrap().collect();
        let _ = std::fs::remove_dir_all(&self.directory);
        if !std::thread::panicking() {
            assert!(left.is_empty(), "{left:?} is left");
        }
    }
}

fn peer(role: &str, server: &Server, borders: bool, spin: bool, seed: u64) -> Child {
    let kind = if borders { "message" } else { "stream" };
    Command::new(env!("CARGO_BIN_EXE_shm_peer"))
        .args([role, server.contact().text().unwrap(), kind, if spin { "spin" } else { "sleep" }, &seed.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn accept(server: &Server) -> Handle {
    server.accept().deadline(LONG).wait().unwrap().open().deadline(LONG).wait().unwrap()
}

/// What a process that is gone had told, and what it complained of.
fn told(child: &mut Child) -> (u64, String) {
    let (mut out, mut err) = (Vec::new(), String::new());
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    ((out.len() / 8) as u64, err)
}

/// Descriptors and mapped rings of this process.
fn held() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (fds, maps.lines().filter(|l| l.contains("xio-shm") || l.contains("hostile")).count())
}

/// One after the other: what is left at the end is counted.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Reads messages until the end; how many came, and what the end was.
fn read_all(handle: &Handle, borders: bool, after: u64, mut at: impl FnMut()) -> (u64, ErrorKind) {
    let mut buf = vec![0; 4096];
    for number in 0.. {
        if number == after {
            at();
        }
        let result = match borders {
            true => handle.read_into(&mut buf).deadline(LONG).wait(),
            false => {
                let n = length(number);
                handle.read_into(&mut buf[..n]).wait_for(n).deadline(LONG).wait()
            }
        };
        match result {
            Ok(n) => assert!(is_message(&buf[..n], number), "message {number} is torn"),
            Err(e) => return (number, e.kind()),
        }
    }
    unreachable!()
}

/// Messages as chunks that stay where they lie, the last dozen of them; then the end.
fn take_all(
    handle: &Handle,
    borders: bool,
    after: u64,
    mut at: impl FnMut(),
) -> (u64, ErrorKind, Vec<(u64, Vec<Chunk>)>) {
    let mut kept = std::collections::VecDeque::new();
    for number in 0.. {
        if number == after {
            at();
        }
        let n = if borders { 4096 } else { length(number) };
        match handle.take(n).wait_for(n).deadline(LONG).wait() {
            Ok(done) => kept.push_back((number, done.chunks.into_vec())),
            Err(f) => return (number, f.kind(), kept.into()),
        }
        if kept.len() > 12 {
            let (number, chunks) = kept.pop_front().unwrap();
            assert!(is_message(&gathered(chunks), number), "message {number} is torn");
        }
    }
    unreachable!()
}

fn gathered(chunks: Vec<Chunk>) -> Vec<u8> {
    chunks.into_iter().flat_map(Chunk::into_bytes).collect()
}

#[test]
fn what_is_kept_outlives_the_peer_and_the_connection() {
    let _alone = alone();
    let place = Place::new("kept");
    let mut before = None;
    let mut moved = 0;
    for round in 0..rounds("XIO_KILLS", 300) / 3 {
        let (borders, spin) = (round % 2 == 0, round % 3 == 0);
        let server = place.server(borders, spin);
        let mut child = peer("write", &server, borders, spin, round);
        let handle = accept(&server);
        let (count, kind, kept) = take_all(&handle, borders, round % 29, || {
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let (acknowledged, complaint) = told(&mut child);
        assert_eq!((kind, complaint.as_str()), (ErrorKind::Reset, ""), "round {round}");
        assert!(count >= acknowledged, "round {round}: {acknowledged} were through, {count} came");
        drop((handle, server));
        for (number, chunks) in kept {
            assert!(is_message(&gathered(chunks), number), "round {round}: message {number} is torn");
        }
        moved += count;
        before.get_or_insert_with(held_at_rest);
    }
    println!("{moved} messages");
    settle(before.unwrap());
}

#[test]
fn a_killed_peer_is_noticed_and_nothing_acknowledged_is_lost() {
    let _alone = alone();
    let place = Place::new("kill");
    let mut before = None;
    let (mut slowest, mut moved) = (Duration::ZERO, 0);
    let rounds = rounds("XIO_KILLS", 300);
    for round in 0..rounds {
        let (borders, spin, writes) = (round % 2 == 0, round % 3 == 0, round % 4 < 2);
        let server = place.server(borders, spin);
        let mut child = peer(if writes { "write" } else { "read" }, &server, borders, spin, round);
        let handle = accept(&server);
        // Somewhere in a message, or while one side sleeps.
        let pause = Duration::from_micros(round.wrapping_mul(0x9e37_79b9) >> 7 & 0x3ff);
        let after = round % 29;
        let killed = std::sync::OnceLock::new();
        let mut kill = || {
            std::thread::sleep(pause);
            child.kill().unwrap();
            child.wait().unwrap();
            killed.set(Instant::now()).unwrap();
        };
        let (count, kind) = if writes {
            // Reads go on after the kill: what was acknowledged is there.
            read_all(&handle, borders, after, &mut kill)
        } else {
            std::thread::scope(|s| {
                // Another op that is outstanding: it ends, too.
                let waits = s.spawn(|| handle.read_into(&mut [0; 9]).deadline(LONG).wait().unwrap_err().kind());
                let mut ended = None;
                for number in 0.. {
                    if number == after {
                        kill();
                    }
                    match handle.write(message(number)).deadline(LONG).wait() {
                        Ok(_) => {}
                        Err(f) => {
                            ended = Some((number, f.kind()));
                            break;
                        }
                    }
                }
                assert_eq!(waits.join().unwrap(), ErrorKind::Reset, "round {round}");
                ended.unwrap()
            })
        };
        let late = killed.get().unwrap().elapsed();
        let (acknowledged, complaint) = told(&mut child);
        assert_eq!(kind, ErrorKind::Reset, "round {round}: {complaint}");
        assert!(complaint.is_empty(), "round {round}: {complaint}");
        if writes {
            assert!(count >= acknowledged, "round {round}: {acknowledged} were through, {count} came");
        } else {
            assert!(acknowledged <= count, "round {round}: {acknowledged} came of {count}");
        }
        moved += count;
        slowest = slowest.max(late);
        assert_eq!(handle.write(&b"x"[..]).wait().unwrap_err().kind(), ErrorKind::Reset);
        drop((handle, server));
        // A thread that waited once keeps what it waits with.
        before.get_or_insert_with(held_at_rest);
    }
    println!("{rounds} kills, {moved} messages, the last op ended within {slowest:?} of the kill");
    settle(before.unwrap());
}

/// What is held when nothing moves any more.
fn held_at_rest() -> (usize, usize) {
    std::thread::sleep(SOON);
    held()
}

/// What was held before is held again.
fn settle(before: (usize, usize)) {
    let until = Instant::now() + LONG;
    while held() != before && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(held(), before, "descriptors and rings that are left");
}

#[test]
fn a_close_and_a_half_close_are_no_deaths() {
    let _alone = alone();
    let place = Place::new("close");
    for round in 0..6 {
        let (borders, spin) = (round % 2 == 0, round % 3 == 0);
        let server = place.server(borders, spin);
        let mut child = peer("close", &server, borders, spin, 0);
        let handle = accept(&server);
        assert_eq!(read_all(&handle, borders, u64::MAX, || ()), (50, ErrorKind::Eof));
        handle.write("it reads on").wait().unwrap();
        handle.shutdown().wait().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{}", told(&mut child).1);
        assert_eq!(handle.read_into(&mut [0; 9]).wait().unwrap_err().kind(), ErrorKind::Eof);
    }
}

#[test]
fn batches_that_no_ring_holds_come_out_message_by_message() {
    const MESSAGES: u64 = 2000;
    let _alone = alone();
    let place = Place::new("batch");
    for (borders, spin) in [(true, false), (true, true), (false, false)] {
        let server = place.server(borders, spin);
        let mut child = peer("batch", &server, borders, spin, MESSAGES);
        let handle = accept(&server);
        assert_eq!(read_all(&handle, borders, u64::MAX, || ()), (MESSAGES, ErrorKind::Eof));
        assert!(child.wait().unwrap().success(), "{}", told(&mut child).1);
    }
}

#[test]
fn an_echo_comes_back_through_two_rings() {
    let _alone = alone();
    let place = Place::new("echo");
    for spin in [false, true] {
        let server = place.server(false, spin);
        let mut child = peer("echo", &server, false, spin, 0);
        let handle = accept(&server);
        std::thread::scope(|s| {
            s.spawn(|| {
                (0..300).for_each(|number| {
                    handle.write(message(number)).deadline(LONG).wait().unwrap();
                });
                handle.shutdown().wait().unwrap();
            });
            assert_eq!(read_all(&handle, false, u64::MAX, || ()), (300, ErrorKind::Eof));
        });
        assert!(child.wait().unwrap().success(), "{}", told(&mut child).1);
    }
}

#[test]
fn a_peer_that_keeps_to_nothing_gets_errors_at_most() {
    let _alone = alone();
    let place = Place::new("hostile");
    let mut before = None;
    let mut ends = std::collections::BTreeMap::new();
    // A thousand words each.
    for round in 0..rounds("XIO_HOSTILE", 100) {
        let borders = round % 2 == 0;
        let server = place.server(borders, false);
        let mut child = peer("hostile", &server, borders, false, round + 1);
        let handle = accept(&server);
        let until = Duration::from_millis(40);
        std::thread::scope(|s| {
            let ends = s.spawn(|| {
                let mut buf = BytesMut::with_capacity(8192);
                loop {
                    match handle.read(buf).deadline(until).wait() {
                        Ok(done) => buf = done.buf,
                        Err(f) if matches!(f.kind(), ErrorKind::Truncated { .. }) => {
                            buf = BytesMut::with_capacity(8192)
                        }
                        Err(f) => break f.kind(),
                    }
                    assert!(buf.len() <= 8192);
                    buf.clear();
                }
            });
            let written = loop {
                match handle.write(message(7)).deadline(until).wait() {
                    Ok(_) => {}
                    Err(f) => break f.kind(),
                }
            };
            let read = ends.join().unwrap();
            for kind in [written, read] {
                use ErrorKind::{BrokenPipe, Eof, Protocol, Reset, TimedOut};
                assert!(
                    matches!(kind, BrokenPipe | Eof | Protocol | Reset | TimedOut | ErrorKind::Refused),
                    "{kind:?}"
                );
            }
        });
        let _ = child.kill();
        child.wait().unwrap();
        let (_, complaint) = told(&mut child);
        assert!(complaint.is_empty(), "round {round}: {complaint}");
        *ends
            .entry(format!("{:?}", handle.read_into(&mut [0; 9]).deadline(until).wait().map_err(|e| e.kind())))
            .or_insert(0) += 1;
        drop((handle, server));
        before.get_or_insert_with(held_at_rest);
    }
    println!("{ends:?}");
    assert!(ends.keys().any(|k| k.contains("Protocol")), "{ends:?}");
    settle(before.unwrap());
}

#[test]
fn a_peer_that_writes_over_all_but_the_positions_stops_nobody() {
    let _alone = alone();
    let place = Place::new("scribble");
    let server = place.server(false, true);
    let flips = rounds("XIO_FLIPS", 100_000);
    let mut child = peer("scribble", &server, false, true, flips);
    let handle = accept(&server);
    let (read, written) = std::thread::scope(|s| {
        let reads = s.spawn(|| {
            let (mut n, mut kept) = (0, std::collections::VecDeque::new());
            loop {
                match handle.take(4096).deadline(LONG).wait() {
                    Ok(done) => kept.push_back(done.chunks),
                    Err(f) => return (n, f.kind()),
                }
                if kept.len() > 3 {
                    n += gathered(kept.pop_front().unwrap().into_vec()).len();
                }
            }
        });
        let mut n = 0;
        let written = loop {
            match handle.write(vec![7; 1500]).deadline(LONG).wait() {
                Ok(_) => n += 1500,
                Err(f) => break (n, f.kind()),
            }
        };
        (reads.join().unwrap(), written)
    });
    assert!(child.wait().unwrap().success());
    let (whole, complaint) = told(&mut child);
    assert_eq!((whole, complaint.as_str()), (1, ""));
    println!("{flips} words written over, {read:?} read, {written:?} written");
    assert!(read.0 > 0 && written.0 > 0);
    assert_eq!((read.1, written.1), (ErrorKind::Reset, ErrorKind::Reset));
}

/// The user and group of nobody, who owns nothing.
const NOBODY: u32 = 65534;

/// A peer that is another user's. Its program is where that user may run it.
fn strangers(role: &str, place: &Place, at: &Path) -> Child {
    let program = place.directory.join("program");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_shm_peer"), &program).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    }
    Command::new(program)
        .args([role, at.to_str().unwrap(), "stream", "sleep", "7"])
        .uid(NOBODY)
        .gid(NOBODY)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn another_user_is_refused_on_either_side() {
    let _alone = alone();
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: only root can be two users: nothing here was looked at for another user's processes");
        return;
    }
    let place = Place::new("stranger");
    std::fs::set_permissions(&place.directory, Permissions::from_mode(0o755)).unwrap();
    let server = place.server(false, false);
    let at = PathBuf::from(server.contact().text().unwrap());
    let refused = |text: &str| {
        let mut child = strangers("read", &place, &at);
        assert!(!child.wait().unwrap().success());
        let (_, complaint) = told(&mut child);
        assert!(complaint.contains("PermissionDenied") && complaint.contains(text), "{complaint}");
    };
    // By the socket's mode; where that is gone, by who listens there.
    refused("ermission denied");
    std::fs::set_permissions(&at, Permissions::from_mode(0o777)).unwrap();
    refused("another user's (0)");
    // One that looks at nothing is passed over, and the next comes in.
    let mut stranger = strangers("hostile", &place, &at);
    stranger.wait().unwrap();
    assert!(told(&mut stranger).0 > 0, "it was connected");
    let mut child = peer("write", &server, false, false, 0);
    let handle = accept(&server);
    let n = length(0);
    let mut buf = vec![0; n];
    assert_eq!(handle.read_into(&mut buf).wait_for(n).deadline(LONG).wait().unwrap(), n);
    assert!(is_message(&buf, 0));
    child.kill().unwrap();
    child.wait().unwrap();

    // The other way round: in a directory of the stranger's, and in one that everybody has.
    for (name, owner, mode, text) in
        [("theirs", NOBODY, 0o755, "belongs to another user"), ("all", 0, 0o1777, "another user's (65534)")]
    {
        let directory = place.directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&directory, Some(owner), Some(owner)).unwrap();
        let at = directory.join("s");
        let mut child = strangers("serve", &place, &at);
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
        let to = Contact::new(at.to_str().unwrap());
        let e = place.engine.open(&stack(false, false), to).deadline(LONG).wait().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
        assert!(e.to_string().contains(text), "{e}");
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }
    std::fs::remove_file(place.directory.join("program")).unwrap();
}
