//! Random ops on a file against bytes in memory.

use proptest::prelude::*;
use xio_core::attr::Offset;
use xio_core::cntl;
use xio_core::{Engine, ErrorKind};

use crate::fixture::{Dir, open};

#[derive(Clone, Debug)]
enum Do {
    Read(usize, usize),
    ReadAt(u64, usize),
    Write(Vec<u8>),
    WriteAt(u64, Vec<u8>),
    Lend(Vec<u8>),
    Seek(u64),
    Cancel(usize),
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..400);
    let step = prop_oneof![
        (1usize..500, 0usize..500).prop_map(|(room, wants)| Do::Read(room, wants.min(room))),
        (0u64..2000, 1usize..500).prop_map(|(at, n)| Do::ReadAt(at, n)),
        bytes().prop_map(Do::Write),
        (0u64..2000, bytes()).prop_map(|(at, b)| Do::WriteAt(at, b)),
        bytes().prop_map(Do::Lend),
        (0u64..2000).prop_map(Do::Seek),
        (1usize..100).prop_map(Do::Cancel),
    ];
    prop::collection::vec(step, 1..40)
}

fn put(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    data.resize(data.len().max(at + bytes.len()), 0);
    data[at..at + bytes.len()].copy_from_slice(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_file_is_what_bytes_in_memory_are(start in prop::collection::vec(any::<u8>(), 0..1000), steps in steps()) {
        let (dir, engine) = (Dir::new(), Engine::new().unwrap());
        let path = dir.file("a", &start);
        let h = open(&engine, "read-write", &path);
        let (mut data, mut at) = (start, 0usize);
        for step in steps {
            match step {
                Do::Read(room, wants) => {
                    let left = data.len().saturating_sub(at);
                    match h.take(room).wait_for(wants).wait() {
                        Ok(done) => {
                            prop_assert!(done.n >= wants && done.n <= room && done.n <= left);
                            prop_assert_eq!(&done.into_bytes()[..], &data[at..at + room.min(left)]);
                            at += room.min(left);
                        }
                        Err(f) => {
                            prop_assert_eq!(f.kind(), ErrorKind::Eof);
                            prop_assert!(left < wants.max(1));
                            prop_assert_eq!(&f.back.into_bytes()[..], &data[at.min(data.len())..]);
                            at += left;
                        }
                    }
                }
                Do::ReadAt(from, n) => {
                    let from_here = (from as usize).min(data.len());
                    match h.take(n).attr(Offset(from)).wait() {
                        Ok(done) => prop_assert_eq!(&done.into_bytes()[..], &data[from_here..(from_here + n).min(data.len())]),
                        Err(f) => prop_assert!(f.kind() == ErrorKind::Eof && from_here == data.len()),
                    }
                }
                Do::Write(bytes) => {
                    put(&mut data, at, &bytes);
                    at += bytes.len();
                    h.write(bytes).wait().unwrap();
                }
                Do::Lend(bytes) => {
                    put(&mut data, at, &bytes);
                    at += bytes.len();
                    prop_assert_eq!(h.write_from(&bytes).wait().unwrap(), bytes.len());
                }
                Do::WriteAt(to, bytes) => {
                    put(&mut data, to as usize, &bytes);
                    h.write(bytes).attr(Offset(to)).wait().unwrap();
                }
                Do::Seek(to) => {
                    h.query(cntl::Offset(Some(to))).unwrap();
                    at = to as usize;
                }
                Do::Cancel(n) => {
                    let (tx, rx) = crate::fixture::results();
                    let ticket = h.take(n).then(move |r| tx.send(r.map_or(0, |d| d.n)).unwrap());
                    ticket.cancel();
                    at += crate::fixture::get(&rx);
                }
            }
            prop_assert_eq!(h.query(cntl::Offset(None)).unwrap(), at as u64);
        }
        h.close().wait().unwrap();
        prop_assert_eq!(std::fs::read(&path).unwrap(), data);
    }
}
