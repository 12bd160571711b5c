//! What came for an owner who had gone is read next, in its place: dropped reads and accepts.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use xio_core::attr::Size;
use xio_core::{Engine, ErrorKind, Handle, LevelNode, OpFuture, Stack, op};
use xio_drivers::{frame, loop_, null};

use super::fixture::{LONG, poll, room, run};

fn pair(engine: &Engine, framed: bool) -> (Handle, Handle) {
    let over = |n| if framed { LevelNode::new(frame::driver()).over(n) } else { n };
    let options = loop_::Options::default().with_buffer(Size(1 << 16));
    loop_::pair_of(engine, options, |n| LevelNode::new(null::driver()).over(over(n))).unwrap()
}

fn next(h: &Handle, n: usize) -> OpFuture<op::Read> {
    let mut f = h.read(room(n)).into_future();
    assert!(poll(&mut f).is_pending());
    f
}

fn bytes(f: OpFuture<op::Read>) -> Bytes {
    run(f).unwrap().into_bytes()
}

#[test]
fn bytes_of_a_dropped_read_go_to_the_read_after_it() {
    let engine = Engine::new().unwrap();
    for framed in [false, true] {
        let (a, b) = pair(&engine, framed);
        let (first, second, third) = (next(&b, 9), next(&b, 9), next(&b, 9));
        a.write("early").wait().unwrap();
        a.flush().wait().unwrap();
        drop(first);
        a.write("late").wait().unwrap();
        assert_eq!(bytes(second), "early");
        assert_eq!(bytes(third), "late");
        assert_eq!(b.outstanding(), (0, 0));
    }
}

#[test]
fn a_read_that_is_finished_and_not_fetched_is_called_back_too() {
    let engine = Engine::new().unwrap();
    let (a, b) = pair(&engine, true);
    let (first, second) = (next(&b, 9), next(&b, 9));
    a.write("early").wait().unwrap();
    a.write("late").wait().unwrap();
    // Both have their message by now.
    drop(first);
    assert_eq!(bytes(second), "early");
    assert_eq!(b.take(9).deadline(LONG).wait().unwrap().into_bytes(), "late");
    // In whatever order they are dropped.
    let (first, second) = (next(&b, 9), next(&b, 9));
    a.write("one").wait().unwrap();
    a.write("two").wait().unwrap();
    drop(second);
    drop(first);
    assert_eq!(b.take(9).deadline(LONG).wait().unwrap().into_bytes(), "one");
    assert_eq!(b.take(9).deadline(LONG).wait().unwrap().into_bytes(), "two");
}

#[test]
fn a_read_called_back_still_ends_with_its_handle_and_its_time() {
    let engine = Engine::new().unwrap();
    let (a, b) = pair(&engine, false);
    let first = next(&b, 9);
    let mut second = b.read(room(9)).wait_for(9).deadline(Duration::from_millis(30)).into_future();
    assert!(poll(&mut second).is_pending());
    let third = next(&b, 9);
    a.write("early").wait().unwrap();
    drop(first);
    let late = run(second).unwrap_err();
    assert_eq!((late.kind(), &late.back.buf[..]), (ErrorKind::TimedOut, &b"early"[..]));
    b.close().wait().unwrap();
    assert_eq!(run(third).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_link_that_came_for_a_dropped_accept_is_accepted_next() {
    let engine = Engine::new().unwrap();
    let stack = Stack::new(LevelNode::new(loop_::driver())).unwrap();
    let server = engine.listen(&stack, ()).wait().unwrap();
    for others in [0, 2] {
        let mut gone = server.accept().into_future();
        assert!(poll(&mut gone).is_pending());
        let mut waiting: Vec<_> = (0..others).map(|_| server.accept().into_future()).collect();
        for w in &mut waiting {
            assert!(poll(w).is_pending());
        }
        let near = engine.open(&stack, server.contact()).wait().unwrap();
        drop(gone);
        let link = match waiting.pop() {
            // The first of those that wait.
            Some(_) => run(waiting.remove(0)).unwrap(),
            None => server.accept().deadline(LONG).wait().unwrap(),
        };
        let far = link.open().wait().unwrap();
        near.write("x").wait().unwrap();
        assert_eq!(far.take(9).deadline(LONG).wait().unwrap().into_bytes(), "x");
    }
}

#[test]
fn a_link_that_nobody_accepts_goes_with_its_server() {
    let engine = Engine::new().unwrap();
    let stack = Stack::new(LevelNode::new(loop_::driver())).unwrap();
    let server = engine.listen(&stack, ()).wait().unwrap();
    let mut gone = server.accept().into_future();
    assert!(poll(&mut gone).is_pending());
    let near = engine.open(&stack, server.contact()).wait().unwrap();
    drop(gone);
    server.close().unwrap();
    assert_eq!(near.take(9).deadline(LONG).wait().unwrap_err().kind(), ErrorKind::Reset);
}

#[derive(Clone, Debug)]
enum Step {
    Read { room: usize, wait_for: usize },
    Write(usize),
    Drop(prop::sample::Index),
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..40, 1usize..20).prop_map(|(room, w)| Step::Read { room, wait_for: w.min(room) }),
        3 => (1usize..50).prop_map(Step::Write),
        2 => any::<prop::sample::Index>().prop_map(Step::Drop),
        2 => Just(Step::Poll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever reads are dropped when, those that are fetched in order get all bytes in order.
    #[test]
    fn fetched_in_order_reads_get_every_byte_in_order(steps in prop::collection::vec(step(), 1..60), framed: bool) {
        let engine = Engine::builder().owner_driven().build().unwrap();
        let (a, b) = pair(&engine, framed);
        let mut sent = 0u8;
        let mut seen = 0u8;
        let mut reads: VecDeque<(OpFuture<op::Read>, Option<BytesMut>)> = VecDeque::new();
        let mut check = |got: &[u8]| {
            for x in got {
                prop_assert_eq!(*x, seen);
                seen = seen.wrapping_add(1);
            }
            Ok(())
        };
        for s in steps {
            match s {
                Step::Read { room: n, wait_for } if reads.len() < 20 => {
                    // A message that does not fit would be cut.
                    let n = if framed { 100 } else { n };
                    let mut f = b.read(room(n)).wait_for(wait_for).into_future();
                    let got = match poll(&mut f) {
                        Poll::Ready(r) => Some(r.unwrap().buf),
                        Poll::Pending => None,
                    };
                    reads.push_back((f, got));
                }
                Step::Write(n) => {
                    let data: Vec<u8> = (0..n).map(|i| sent.wrapping_add(i as u8)).collect();
                    sent = sent.wrapping_add(n as u8);
                    a.write(data).no_wait().wait().unwrap();
                }
                // What has been fetched cannot fall back, nor can anything before it in its place.
                Step::Drop(i) => {
                    let fetched = reads.iter().rposition(|(_, got)| got.is_some()).map_or(0, |i| i + 1);
                    if fetched < reads.len() {
                        drop(reads.remove(fetched + i.index(reads.len() - fetched)));
                    }
                }
                Step::Poll => {
                    if let Some((f, got)) = reads.front_mut()
                        && got.is_none()
                        && let Poll::Ready(r) = poll(f)
                    {
                        *got = Some(r.unwrap().buf);
                    }
                }
                Step::Read { .. } => {}
            }
            engine.turn(Some(Duration::ZERO));
            while let Some((_, Some(got))) = reads.front() {
                check(got)?;
                reads.pop_front();
            }
        }
        while let Some(i) = reads.iter().rposition(|(_, got)| got.is_some()) {
            // Fetched out of turn: those before it are fetched too.
            for (f, got) in reads.drain(..=i) {
                match got {
                    Some(got) => check(&got)?,
                    None => check(&run(f).unwrap().buf)?,
                }
            }
        }
        reads.clear();
        a.close().wait().unwrap();
        loop {
            match b.take(1000).deadline(LONG).wait() {
                Ok(r) => check(&r.into_bytes())?,
                Err(e) => {
                    prop_assert_eq!(e.kind(), ErrorKind::Eof);
                    break;
                }
            }
        }
        prop_assert_eq!(seen, sent);
    }
}
