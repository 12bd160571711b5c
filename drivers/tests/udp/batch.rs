//! Many datagrams in one op and in one system call: borders, lengths and senders survive it.

use bytes::{Bytes, BytesMut};
use xio_core::attr::{Peer, Segment};
use xio_core::{Contact, Engine, ErrorKind, Handle, LevelNode, Stack};
use xio_drivers::queue;
use xio_drivers::udp::Options;

use crate::fixture::*;

fn batches() -> Options {
    Options::default().with_batch(true)
}

fn pair(engine: &Engine, near: Options, far: Options) -> (Handle, Handle) {
    let far = open(engine, &stack_with(far), Contact::new("127.0.0.1:0"));
    (open(engine, &stack_with(near), local(&far)), far)
}

/// Datagrams until so many have come: their bytes one by one, and whether a read gave several.
fn read_batches(h: &Handle, count: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut all, mut several) = (Vec::new(), false);
    while all.len() < count {
        let done = h.take(65_536).attr(Segment(1)).deadline(SOON).wait().unwrap();
        let bytes = done.attrs.find::<Segment>().copied();
        assert!(done.attrs.find::<Peer>().is_some());
        let data: Vec<u8> = done.into_bytes().to_vec();
        match bytes {
            Some(Segment(n)) => {
                several = true;
                all.extend(data.chunks(n).map(<[u8]>::to_vec));
            }
            None => all.push(data),
        }
    }
    (all, several)
}

#[test]
fn one_op_carries_many_datagrams() {
    let engine = Engine::new().unwrap();
    for (near, far) in [(batches(), batches()), (batches(), Options::default()), (Options::default(), batches())] {
        let (near, far) = pair(&engine, near, far);
        for (len, each) in [(64 * 100, 64), (6000, 1400), (100, 100), (100, 500), (10, 1), (70_000, 1000), (0, 7)] {
            let data = noise(len);
            let done = near.write(Bytes::from(data.clone())).attr(Segment(each)).deadline(SOON).wait().unwrap();
            assert_eq!(done.n, len);
            let want: Vec<Vec<u8>> =
                if len == 0 { vec![Vec::new()] } else { data.chunks(each).map(<[u8]>::to_vec).collect() };
            let got: Vec<_> = (0..want.len()).map(|_| read_from(&far).0).collect();
            assert!(got == want, "{len} bytes by {each}");
        }
    }
}

#[test]
fn a_read_that_asks_gets_many_with_their_length_and_sender() {
    let engine = Engine::new().unwrap();
    let (near, far) = pair(&engine, batches(), batches());
    let data = noise(64 * 50 + 3);
    near.write(Bytes::from(data.clone())).attr(Segment(64)).deadline(SOON).wait().unwrap();
    let (got, several) = read_batches(&far, 51);
    assert!(several, "every datagram came alone");
    assert!(got.concat() == data && got[..50].iter().all(|d| d.len() == 64) && got[50].len() == 3);
    // What does not fit waits for the next read, whole.
    near.write(Bytes::from(data.clone())).attr(Segment(64)).deadline(SOON).wait().unwrap();
    let mut got = Vec::new();
    while got.len() < data.len() {
        let done = far.read(BytesMut::with_capacity(200)).attr(Segment(1)).deadline(SOON).wait().unwrap();
        assert!(matches!(done.n % 64, 0 | 3) && done.n <= 200, "{}", done.n);
        got.extend_from_slice(&done.buf);
    }
    assert!(got == data);
    // One that asks for one gets one, and is told what it cut off.
    near.write(Bytes::from(data)).attr(Segment(64)).deadline(SOON).wait().unwrap();
    assert_eq!(try_read(&far, 10).unwrap_err().kind(), ErrorKind::Truncated { len: 64 });
    assert_eq!(read(&far).len(), 64);
}

#[test]
fn a_queue_above_makes_one_op_of_many_writes() {
    let engine = Engine::new().unwrap();
    let far = open(&engine, &stack_with(batches()), Contact::new("127.0.0.1:0"));
    for early in [true, false] {
        let queue = LevelNode::new(queue::driver()).with_attr(Box::new(queue::Options::default().with_early(early)));
        let stack = Stack::new(queue.over(level(batches()))).unwrap();
        let near = open(&engine, &stack, local(&far));
        // Of all lengths, empty ones among them.
        let lens: Vec<usize> = (0..60).map(|i| if i % 20 < 12 { 64 } else { i * 7 % 41 }).collect();
        for (i, n) in lens.iter().enumerate() {
            near.write(Bytes::from(vec![i as u8; *n])).then(|r| assert!(r.is_ok()));
        }
        near.flush().deadline(SOON).wait().unwrap();
        let (got, _) = read_batches(&far, lens.len());
        let want: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, n)| vec![i as u8; *n]).collect();
        assert!(got == want, "early: {early}");
    }
}

#[test]
fn segments_have_bounds() {
    let engine = Engine::new().unwrap();
    let (near, _far) = pair(&engine, batches(), batches());
    let e = near.write(noise(10)).attr(Segment(0)).deadline(SOON).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    let e = near.write(noise(70_000)).attr(Segment(65_508)).deadline(SOON).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TooLong);
}
