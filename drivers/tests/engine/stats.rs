//! What a handle's statistics count: what a level did for the one above, once.

use std::collections::HashMap;

use xio_core::cx::EventKind;
use xio_core::driver::{Intercepts, OpKind};
use xio_core::op::Read;
use xio_core::{Contact, Cx, Engine, Flow, Handle, Level, LevelNode, Op, Stack};
use xio_drivers::{loop_, null};

use super::fixture::{LONG, poll, room, run, transform};

/// Asks the level below again until it has `want` bytes; what it puts in itself comes first.
struct Asks {
    first: &'static [u8],
    want: usize,
}

impl Level for Asks {
    fn read<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        op.put(std::mem::take(&mut self.first));
        op.pass()
    }
    fn read_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        // An op that is put away for what its level asked goes on from there.
        cx.event(EventKind::Drained);
        if op.got() < self.want { op.pass() } else { op.finished() }
    }
}

/// A near end with [`Asks`] over three levels that see reads in three ways, and its peer.
fn pair(engine: &Engine, message: bool, first: &'static [u8], want: usize) -> (Handle, Handle) {
    let null = |how: &str, id| {
        let options = null::Options::default().with_intercept(how.into());
        LevelNode::new(null::driver()).with_attr(Box::new(options)).with_id(id)
    };
    let options = Box::new(loop_::Options::default().with_message(message));
    let leaf = LevelNode::new(loop_::driver()).with_attr(options).with_id("end");
    let asks = transform(Intercepts::READ | Intercepts::READ_DONE, move || Asks { first, want }).with_id("asks");
    let near = asks.over(null("down", "down").over(null("up", "up").over(null("both", "both").over(leaf.clone()))));
    let server = engine.listen(&Stack::new(leaf).unwrap(), Contact::new("s")).wait().unwrap();
    let near = engine.open(&Stack::new(near).unwrap(), server.contact()).with_stats().wait().unwrap();
    (near, server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap())
}

/// Reads of each level and their bytes.
fn reads(h: &Handle) -> HashMap<String, (u64, u64)> {
    h.stats().into_iter().map(|(id, c)| (id, (c.ops[OpKind::Read as usize], c.read))).collect()
}

#[test]
fn a_read_passed_several_times_counts_once_where_it_came_from() {
    let engine = Engine::new().unwrap();
    let (near, far) = pair(&engine, true, b"", 6);
    let mut read = near.read(room(9)).into_future();
    for part in ["ab", "cd", "ef"] {
        assert!(poll(&mut read).is_pending());
        far.write(part).wait().unwrap();
    }
    assert_eq!(run(read).unwrap().buf, "abcdef");
    let reads = reads(&near);
    assert_eq!(reads["asks"], (1, 6));
    for id in ["down", "up", "both", "end"] {
        assert_eq!(reads[id], (3, 6), "{id}");
    }
}

#[test]
fn bytes_count_where_they_were_given_and_not_below() {
    let engine = Engine::new().unwrap();
    let (near, far) = pair(&engine, false, b"more than comes", 17);
    far.write("xy").wait().unwrap();
    assert_eq!(near.read(room(30)).wait().unwrap().buf, "more than comesxy");
    let counts = reads(&near);
    assert_eq!(counts["asks"], (1, 17));
    for id in ["down", "up", "both", "end"] {
        assert_eq!(counts[id], (1, 2), "{id}");
    }
    // And with bytes that came for a reader who went away.
    let (near, far) = pair(&engine, false, b"", 2);
    let mut gone = near.read(room(9)).into_future();
    assert!(poll(&mut gone).is_pending());
    far.write("ab").wait().unwrap();
    drop(gone);
    far.write("cd").wait().unwrap();
    assert_eq!(near.read(room(9)).wait_for(4).wait().unwrap().buf, "abcd");
    for (id, (_, bytes)) in reads(&near) {
        assert_eq!(bytes, 4, "{id}");
    }
}
