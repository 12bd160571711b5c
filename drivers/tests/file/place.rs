//! Positions: the level's own, the op's own, the one that is shared with others.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::BytesMut;
use xio_core::attr::{Offset, Size};
use xio_core::cntl::{self, GetOption, SetOption};
use xio_core::reactor::Sim;
use xio_core::schema::Value;
use xio_core::{Contact, Engine, Error, ErrorKind, Handle};
use xio_drivers::file::{Fd, Options};

use crate::fixture::{Dir, get, mode, noise, open, open_as, rest, results, stack};

fn tell(h: &Handle) -> u64 {
    h.query(cntl::Offset(None)).unwrap()
}

fn seek(h: &Handle, to: u64) -> Result<u64, Error> {
    h.query(cntl::Offset(Some(to)))
}

fn take(h: &Handle, n: usize) -> Vec<u8> {
    h.take(n).wait_for(n).wait().unwrap().into_bytes().to_vec()
}

fn given(engine: &Engine, options: Options, fd: Fd) -> Result<Handle, Error> {
    engine.open(&stack(options.with_fd(Some(fd))), Contact::None).wait()
}

#[test]
fn the_position_moves_by_what_was_delivered_and_can_be_set() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let path = dir.file("a", "0123456789");
    let h = open(&engine, "read-write", &path);
    assert_eq!((tell(&h), take(&h, 3), tell(&h)), (0, b"012".to_vec(), 3));
    h.write("abc").wait().unwrap();
    assert_eq!((take(&h, 1), tell(&h)), (b"6".to_vec(), 7));
    assert_eq!((seek(&h, 2).unwrap(), take(&h, 2)), (2, b"2a".to_vec()));
    // Two handles have nothing to do with each other.
    let other = open(&engine, "read", &path);
    assert_eq!((rest(&other), tell(&h)), (b"012abc6789".to_vec(), 4));
    // Beyond the end there is nothing, and a write makes a hole.
    seek(&h, 12).unwrap();
    assert_eq!(h.take(1).wait().unwrap_err().kind(), ErrorKind::Eof);
    h.write("z").wait().unwrap();
    assert_eq!(rest(&other), b"\0\0z");
    assert_eq!(seek(&h, u64::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(tell(&h), 13);
    h.close().wait().unwrap();
}

#[test]
fn an_op_with_an_offset_works_there_and_leaves_the_position_alone() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let data = noise(300_000);
    let path = dir.file("a", &data);
    let h = open(&engine, "read-write", &path);
    assert_eq!(take(&h, 10), data[..10]);
    let (tx, rx) = results();
    for i in 0..50usize {
        let tx = tx.clone();
        let at = i * 5999;
        h.read(BytesMut::with_capacity(4000))
            .wait_for(4000)
            .attr(Offset(at as u64))
            .then(move |r| tx.send((at, r.unwrap())).unwrap());
    }
    for _ in 0..50 {
        let (at, done) = get(&rx);
        assert_eq!(done.buf, data[at..at + 4000]);
        assert_eq!(done.attrs.find(), Some(&Offset(at as u64)));
    }
    assert_eq!((tell(&h), take(&h, 10)), (10, data[10..20].to_vec()));
    h.write("over").attr(Offset(100)).wait().unwrap();
    h.write_from(b"there").attr(Offset(400_000)).wait().unwrap();
    assert_eq!(tell(&h), 20);
    let mut buf = [0; 4];
    assert_eq!(h.read_into(&mut buf).attr(Offset(100)).wait().unwrap(), 4);
    assert_eq!(&buf, b"over");
    // The end of the file, with what there was before it.
    let e = h.take(10).wait_for(10).attr(Offset(399_999)).wait().unwrap_err();
    assert_eq!((e.kind(), e.back.n, e.back.into_bytes().to_vec()), (ErrorKind::Eof, 6, b"\0there".to_vec()));
    for at in [u64::MAX, 1 << 63] {
        assert_eq!(h.take(1).attr(Offset(at)).wait().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(h.write("x").attr(Offset(at)).wait().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(h.take(1).attr(Offset((1 << 63) - 1)).wait().unwrap_err().kind(), ErrorKind::Eof);
    assert!(h.write("xy").attr(Offset((1 << 63) - 1)).wait().is_err());
}

#[test]
fn an_end_is_not_final_where_the_file_grows() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let path = dir.file("a", "one");
    let h = open(&engine, "read", &path);
    assert_eq!(rest(&h), b"one");
    assert_eq!(rest(&h), b"");
    File::options().append(true).open(&path).unwrap().write_all(b"two").unwrap();
    assert_eq!(rest(&h), b"two");
    // Five were asked for and three are there: they come with the end, once.
    File::options().append(true).open(&path).unwrap().write_all(b"abc").unwrap();
    let e = h.take(8).wait_for(5).wait().unwrap_err();
    assert_eq!((e.kind(), e.error.moved(), e.back.into_bytes().to_vec()), (ErrorKind::Eof, 3, b"abc".to_vec()));
    assert_eq!(rest(&h), b"");
}

#[test]
fn long_reads_and_writes_go_in_several_steps() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let data = noise(9_000_001);
    let path = dir.path("a");
    let h = open(&engine, "write", &path);
    let (head, tail) = data.split_at(4_500_000);
    assert_eq!(h.write(head.to_vec()).wait().unwrap().n, head.len());
    assert_eq!(h.write_from(tail).wait().unwrap(), tail.len());
    h.close().wait().unwrap();
    assert!(std::fs::read(&path).unwrap() == data);
    let h = open(&engine, "read", &path);
    let mut buf = vec![0; data.len()];
    assert_eq!(h.read_into(&mut buf).wait_for(data.len()).wait().unwrap(), data.len());
    assert!(buf == data);
    seek(&h, 0).unwrap();
    assert!(take(&h, data.len()) == data);
    // Many pieces.
    let h = open(&engine, "write", &path);
    let pieces: Vec<bytes::Bytes> = data[..5000].chunks(2).map(bytes::Bytes::copy_from_slice).collect();
    h.write(pieces).wait().unwrap();
    assert!(std::fs::read(&path).unwrap() == data[..5000]);
}

#[test]
fn a_shared_position_moves_by_reading_and_by_nothing_else() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let path = dir.file("a", "0123456789");
    let mut mine = File::options().read(true).write(true).open(&path).unwrap();
    let fd: Arc<OwnedFd> = Arc::new(mine.try_clone().unwrap().into());
    let h = given(&engine, mode("read-write"), Fd::shared(fd.clone())).unwrap();
    assert_eq!(take(&h, 2), b"01");
    let mut one = [0];
    mine.read_exact(&mut one).unwrap();
    assert_eq!((one, take(&h, 1), tell(&h)), (*b"2", b"3".to_vec(), 4));
    // At an offset: it stays.
    assert_eq!(h.take(2).attr(Offset(8)).wait().unwrap().into_bytes(), "89");
    h.write("Z").attr(Offset(9)).wait().unwrap();
    assert_eq!(mine.stream_position().unwrap(), 4);
    // Once set, the handle has a position of its own.
    assert_eq!((seek(&h, 7).unwrap(), take(&h, 2)), (7, b"78".to_vec()));
    assert_eq!((mine.stream_position().unwrap(), tell(&h)), (4, 9));
    let at = given(&engine, mode("read").with_offset(Some(Size(5))), Fd::shared(fd.clone())).unwrap();
    assert_eq!((take(&at, 2), mine.stream_position().unwrap()), (b"56".to_vec(), 4));
    // Neither closes what was lent.
    h.close().wait().unwrap();
    at.close().wait().unwrap();
    mine.seek(SeekFrom::Start(9)).unwrap();
    mine.read_exact(&mut one).unwrap();
    assert_eq!(one, *b"Z");
    assert!(rustix::fs::fstat(&fd).is_ok());
}

#[test]
fn what_was_read_for_one_who_went_is_read_next() {
    let (dir, engine) = (Dir::new(), Engine::builder().pool_threads(1).build().unwrap());
    let path = dir.file("a", noise(50_000));
    let fd = File::open(&path).unwrap();
    for h in [open(&engine, "read", &path), given(&engine, mode("read"), Fd::new(fd)).unwrap()] {
        let mut got = Vec::new();
        while got.len() < 50_000 {
            // Cancelled before, while and after it is on the pool, as it happens.
            let (tx, rx) = results();
            let ticket = h.take(1000).then(move |r| tx.send(r).unwrap());
            ticket.cancel();
            match get(&rx) {
                Ok(done) => got.extend_from_slice(&done.into_bytes()),
                Err(f) => {
                    assert_eq!((f.kind(), f.back.n), (ErrorKind::Cancelled, 0));
                    got.extend_from_slice(&take(&h, 10));
                }
            }
        }
        assert!(got == noise(50_000));
    }
}

#[test]
fn a_writer_at_the_end_has_no_offsets() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let path = dir.file("a", "abc");
    let h = open(&engine, "append", &path);
    assert_eq!(tell(&h), 3);
    h.write("d").wait().unwrap();
    assert_eq!(tell(&h), 4);
    assert_eq!(seek(&h, 0).unwrap_err().kind(), ErrorKind::Unsupported);
    let e = h.write("x").attr(Offset(0)).wait().unwrap_err().error;
    assert!(e.to_string().contains("is written at the end, wherever that is"), "{e}");
    // Also where somebody else asked for that.
    let fd = File::options().append(true).open(&path).unwrap();
    let h = given(&engine, mode("write"), Fd::new(fd)).unwrap();
    h.write("e").wait().unwrap();
    assert_eq!(h.write("x").attr(Offset(0)).wait().unwrap_err().kind(), ErrorKind::Unsupported);
    let fd = File::options().append(true).open(&path).unwrap();
    let e = given(&engine, mode("write").with_offset(Some(Size(0))), Fd::new(fd)).unwrap_err();
    assert!(e.to_string().contains("writes at the end; leave `offset` out"), "{e}");
    assert_eq!(std::fs::read(&path).unwrap(), b"abcde");
}

#[test]
fn a_descriptor_that_does_not_fit_is_refused() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let path = dir.file("a", "");
    let fd = |f: File| Fd::new(f);
    for (options, given_fd, text) in [
        (mode("write"), fd(File::open(&path).unwrap()), "is open for reading only; set `mode=read`"),
        (mode("read"), fd(File::options().write(true).open(&path).unwrap()), "for writing only; set `mode=write`"),
        (mode("read-write"), fd(File::open(&path).unwrap()), "is open for reading only"),
        (mode("read"), fd(File::open(dir.path("")).unwrap()), "is a directory; a file is needed"),
    ] {
        let e = given(&engine, options, given_fd).unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidInput && e.to_string().contains(text), "{e}");
    }
    let (r, _w) = std::io::pipe().unwrap();
    let e = given(&engine, mode("read").with_offset(Some(Size(1))), Fd::new(r)).unwrap_err();
    assert!(e.to_string().contains("so it has no offsets; leave `offset` out"), "{e}");
}

#[test]
fn only_sync_changes_while_a_file_is_open() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let h = open(&engine, "write", &dir.path("a"));
    let set = |name: &str, v: &str| h.query(SetOption(name.into(), Value::Text(v.into())));
    let now = || h.query(GetOption("sync".into())).unwrap().unwrap().to_string();
    assert_eq!(now(), "never");
    set("sync", "flush").unwrap();
    assert_eq!(now(), "flush");
    assert!(set("sync", "sometimes").unwrap_err().to_string().contains("one of never, close, flush, write"));
    assert!(set("mode", "read").unwrap_err().to_string().contains("cannot change while the file is open"));
    assert_eq!(set("nope", "x").unwrap_err().kind(), ErrorKind::UnsupportedCommand);
    assert_eq!(now(), "flush");
    h.write("x").wait().unwrap();
    h.flush().wait().unwrap();
}

#[test]
fn files_take_no_simulated_time() {
    let dir = Dir::new();
    let sim = Sim::new(1);
    let engine = Engine::builder().reactor(sim.clone()).build().unwrap();
    let path = dir.path("a");
    let data = noise(1_000_000);
    let h = open_as(&engine, mode("write").with_sync("close".into()), &path).unwrap();
    h.write(data.clone()).wait().unwrap();
    h.close().wait().unwrap();
    let h = open(&engine, "read", &path);
    assert!(rest(&h) == data);
    assert_eq!(sim.time(), xio_core::time::Time::ZERO);
}

#[test]
fn what_was_read_at_a_place_is_not_what_comes_next() {
    let (dir, engine) = (Dir::new(), Engine::new().unwrap());
    let h = open(&engine, "read", &dir.file("a", "0123456789"));
    let mut f = IntoFuture::into_future(h.take(2).attr(Offset(8)));
    assert!(crate::fixture::poll(&mut f).is_pending());
    crate::fixture::until(|| h.outstanding().0 == 0);
    drop(f);
    assert_eq!(take(&h, 2), b"01");
}
