//! Drivers that do what Globus XIO lets pass, crashes on, or passes on to the user.

use std::thread;

use bytes::{Bytes, BytesMut};
use xio_core::buffer::{Piece, Pieces};
use xio_core::driver::{Intercepts, Shape};
use xio_core::op::{Read, Write};
use xio_core::{Cx, Engine, ErrorKind, Flow, Level, Op};

use crate::fixture::{LONG, level, open};

/// Writes down the same 108 bytes however little is asked for.
struct Generous;

impl Level for Generous {
    fn read<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        op.put(&[7; 108]);
        op.finished()
    }
}

/// Globus XIO hands a count beyond the buffer on to the user.
#[test]
fn a_driver_cannot_give_more_than_there_is_room_for() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, level(Shape::Transport, Intercepts::READ, || Generous));
    let mut buf = [1; 16];
    assert_eq!(h.read_into(&mut buf[..8]).wait().unwrap(), 8);
    assert_eq!(buf, [[7; 8], [1; 8]].concat()[..]);
    let done = h.read(BytesMut::with_capacity(8)).wait().unwrap();
    assert_eq!((done.n, &done.buf[..]), (8, &[7; 8][..]));
    assert_eq!(h.take(8).wait().unwrap().into_bytes(), [7; 8][..]);
}

struct PassesDown;

impl Level for PassesDown {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        op.pass()
    }
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        op.pass()
    }
}

/// Globus XIO aborts on an assertion, where the build has any.
#[test]
fn a_transport_that_passes_down_fails_its_op() {
    let engine = Engine::new().unwrap();
    let h = open(&engine, level(Shape::Transport, Intercepts::READ | Intercepts::WRITE, || PassesDown));
    let read = h.take(9).deadline(LONG).wait().unwrap_err().error;
    assert_eq!((read.kind(), read.level()), (ErrorKind::Unsupported, Some("fixture")));
    assert_eq!(h.write("x").deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Unsupported);
    h.close().wait().unwrap();
}

struct Dribbles;

impl Level for Dribbles {
    fn read<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        op.put(b"x");
        op.finished()
    }
}

/// Globus XIO recurses once a byte, and crashes on what its contract allows.
#[test]
fn reads_of_one_byte_that_finish_at_once_need_no_stack() {
    const MUCH: usize = 1 << 20;
    let engine = Engine::new().unwrap();
    let h = open(&engine, level(Shape::Transport, Intercepts::READ, || Dribbles));
    let small = thread::Builder::new().stack_size(64 * 1024);
    let read = move || h.read(BytesMut::with_capacity(MUCH)).wait_for(MUCH).wait().unwrap().n;
    assert_eq!(small.spawn(read).unwrap().join().unwrap(), MUCH);
}

/// Passes on one byte of ten, as a compressor might.
struct Shrinks;

impl Level for Shrinks {
    fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        let bytes: Vec<u8> = op.pieces().iter().flat_map(|p| p.iter().copied()).step_by(10).collect();
        op.pass_with(Pieces::from_iter([Piece::from(Bytes::from(bytes))]))
    }
}

/// A compressor for Globus XIO tells its writer the length of what it made, and the rest is written once more.
#[test]
fn a_level_that_shrinks_its_bytes_reports_those_of_its_writer() {
    let engine = Engine::new().unwrap();
    let script = xio_testkit::script::Script::new(xio_core::caps::Caps::stream()).writes(3).writes(1).writes_all();
    let (node, played) = script.build();
    let h = open(&engine, level(Shape::Transform, Intercepts::WRITE, || Shrinks).over(node));
    let data: Vec<u8> = (0..100).collect();
    let done = h.write(data.clone()).wait().unwrap();
    assert_eq!((done.n, &done.pieces[0][..]), (100, &data[..]));
    // Once, though it went down in three parts.
    assert_eq!(played.written(), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    played.finish().unwrap();
}
