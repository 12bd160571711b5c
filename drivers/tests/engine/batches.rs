//! Writes of several messages, as levels make them: they go through in order and whole where only some of them
//! have room, and one that stops between two messages has broken nothing.

use xio_core::attr::OpAttrs;
use xio_core::caps::Caps;
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{OpId, Write};
use xio_core::{Cx, Engine, ErrorKind, Flow, Held, Level, Op};

use super::fixture::{LONG, Log, open, transform, transport};

/// Makes a message of each piece of a write and one write of them all; notes how that ended.
struct Joins(Log, Option<(Held<Write>, OpId)>);

impl Level for Joins {
    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        assert!(cx.takes_batches());
        let pieces = op.share();
        let ends = pieces.iter().scan(0, |at, p| {
            *at += p.len();
            Some(*at)
        });
        let ends = ends.collect();
        let own = cx.write_batch(pieces, ends, OpAttrs::new(), 0);
        let (held, flow) = op.hold(cx);
        self.1 = Some((held, own));
        flow
    }
    fn own_write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let kind = op.clear_error().map(|e| e.kind());
        self.0.note(format!("{kind:?} {}", op.moved()));
        if let Some((held, _)) = self.1.take() {
            cx.finish(held, kind.map_or(Ok(()), |k| Err(k.into())));
        }
        op.finished()
    }
    fn cancel(&mut self, cx: &mut Cx<'_>, _: OpId, _: Reason) -> Cancel {
        if let Some((_, own)) = &self.1 {
            cx.cancel(*own);
        }
        Cancel::Keep
    }
}

/// Takes so many bytes of its first write, then fails that.
struct Chokes(usize);

impl Level for Chokes {
    fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        match std::mem::take(&mut self.0) {
            0 if op.moved() == 0 => op.take_all(),
            0 => return op.failed(ErrorKind::Io),
            n => return op.finished_part(n),
        }
        op.finished()
    }
}

#[test]
fn a_batch_that_fails_between_two_messages_leaves_nothing_half_written() {
    let engine = Engine::new().unwrap();
    for (taken, is_torn) in [(2, false), (3, true), (4, true), (5, false), (6, false)] {
        let log = Log::default();
        let joins = log.clone();
        let sees = Intercepts::WRITE | Intercepts::BATCHES;
        let bottom = transport(Caps::message(), sees, move || Chokes(taken));
        let h = open(&engine, transform(Intercepts::WRITE, move || Joins(joins.clone(), None)).over(bottom));
        let write = |texts: &[&'static str]| {
            let pieces = texts.iter().map(|t| bytes::Bytes::from_static(t.as_bytes()).into());
            h.write(pieces.collect::<xio_core::buffer::Pieces>()).deadline(LONG).wait().map(drop).map_err(|f| f.kind())
        };
        assert_eq!(write(&["ab", "cde", "f", "g"]), Err(ErrorKind::Io));
        assert_eq!(log.take(), [format!("Some(Io) {taken}")]);
        let next = if is_torn { Err(ErrorKind::BrokenPipe) } else { Ok(()) };
        assert_eq!(write(&["h", "i"]), next, "after {taken} bytes");
    }
}

#[cfg(feature = "shm")]
mod over_shm {
    use bytes::Bytes;
    use xio_core::attr::Size;
    use xio_core::buffer::{Piece, Pieces};
    use xio_core::{Handle, LevelNode, Stack};
    use xio_drivers::shm;

    use super::*;
    use crate::fixture::{get, none, results, room};

    /// Footprint of a message less its bytes.
    const HEADER: usize = 8;
    const RING: usize = 4096;

    struct Pair {
        near: Handle,
        far: Handle,
        log: Log,
        _engine: Engine,
    }

    /// Both ends of the smallest rings, the near one with a level that joins.
    fn pair() -> Pair {
        let (engine, log) = (Engine::new().unwrap(), Log::default());
        let options = shm::Options::default().with_message(true).with_buffer(Size(RING as u64));
        let leaf = LevelNode::new(shm::driver()).with_attr(Box::new(options));
        let server = engine.listen(&Stack::new(leaf.clone()).unwrap(), ()).wait().unwrap();
        let notes = log.clone();
        let joins = transform(Intercepts::WRITE, move || Joins(notes.clone(), None)).over(leaf);
        let near = engine.open(&Stack::new(joins).unwrap(), server.contact()).deadline(LONG).wait().unwrap();
        let far = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
        Pair { near, far, log, _engine: engine }
    }

    fn read(h: &Handle) -> Bytes {
        h.read(room(2 * RING)).deadline(LONG).wait().unwrap().into_bytes()
    }

    fn batch(messages: impl IntoIterator<Item = Bytes>) -> Pieces {
        messages.into_iter().map(Piece::from).collect()
    }

    fn of(len: usize, n: usize) -> Bytes {
        vec![n as u8; len].into()
    }

    /// Of all lengths a ring has, many of them empty.
    fn nth(n: usize) -> Bytes {
        of(if n.is_multiple_of(3) { 0 } else { n * 7919 % (RING - HEADER + 1) }, n)
    }

    #[test]
    fn a_batch_far_longer_than_the_ring_comes_out_whole_and_in_order() {
        let p = pair();
        let far = p.far.clone();
        let reader = std::thread::spawn(move || (0..300).map(|_| read(&far)).collect::<Vec<_>>());
        p.near.write(batch((0..300).map(nth))).deadline(LONG).wait().unwrap();
        let came = reader.join().unwrap();
        (0..300).for_each(|n| assert!(came[n] == nth(n), "message {n}"));
        assert_eq!(p.log.take().len(), 1);
    }

    #[test]
    fn empty_messages_that_have_no_room_wait_for_it() {
        let p = pair();
        let full = (0..4).map(|n| of(RING / 4 - HEADER, n));
        let (reply, rx) = results();
        let r = reply();
        let empty = std::iter::repeat_n(Bytes::new(), 600);
        p.near.write(batch(full.chain(empty))).then(move |x| r.send(x.map(|d| d.n).map_err(|f| f.kind())));
        // Every byte is in the ring, and no more fits: the batch is not through.
        none(&rx);
        (0..4).for_each(|n| assert!(read(&p.far) == of(RING / 4 - HEADER, n)));
        (0..600).for_each(|_| assert!(read(&p.far).is_empty()));
        assert_eq!(get(&rx), Ok(RING - 4 * HEADER));
        p.near.write("more").wait().unwrap();
        assert_eq!(read(&p.far), "more");
    }

    #[test]
    fn what_is_before_one_that_is_too_long_goes() {
        let p = pair();
        let texts = [Bytes::from("one"), Bytes::new(), of(RING - HEADER + 1, 0), Bytes::from("four")];
        let e = p.near.write(batch(texts)).deadline(LONG).wait().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TooLong);
        assert_eq!(p.log.take(), ["Some(TooLong) 3"]);
        p.near.write(batch([of(0, 0), Bytes::from("after")])).deadline(LONG).wait().unwrap();
        assert_eq!([(); 4].map(|()| read(&p.far)), ["one", "", "", "after"]);
    }

    #[test]
    fn a_batch_that_is_cancelled_stops_between_two_messages() {
        let p = pair();
        let (reply, rx) = results();
        let r = reply();
        let call = p.near.write(batch((0..9).map(|n| of(1000, n))));
        let ticket = call.then(move |x| r.send(x.map(drop).map_err(|f| f.kind())));
        // Four of them and their headers fit.
        none(&rx);
        ticket.cancel();
        assert_eq!(get(&rx), Err(ErrorKind::Cancelled));
        assert_eq!(p.log.take(), ["Some(Cancelled) 4000"]);
        (0..4).for_each(|n| assert!(read(&p.far) == of(1000, n)));
        p.near.write("next").deadline(LONG).wait().unwrap();
        assert_eq!(read(&p.far), "next");
    }

    #[test]
    fn a_batch_whose_peer_closes_ends() {
        let p = pair();
        let (reply, rx) = results();
        let r = reply();
        p.near.write(batch((0..9).map(|n| of(1000, n)))).then(move |x| r.send(x.map(drop).map_err(|f| f.kind())));
        assert!(read(&p.far) == of(1000, 0));
        p.far.close().wait().unwrap();
        assert_eq!(get(&rx), Err(ErrorKind::BrokenPipe));
    }
}
