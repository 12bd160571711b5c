//! Breaks the rules of group C: the data path.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use xio_core::buffer::{Chunk, Piece, Pieces};
use xio_core::caps::{Needs, Unit};
use xio_core::driver::Intercepts;
use xio_core::level::{Cancel, Reason};
use xio_core::op::{OpId, Read, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::{Proof, transform};
use crate::Subject;

/// The proofs of this group.
pub static PROOFS: &[(&str, Proof)] = &[
    ("C1", Proof::Driver { make: flips_a_bit, also: &[] }),
    ("C2", Proof::Driver { make: hides_that_it_is_late, also: &[] }),
    ("C3", Proof::Engine { fault: "a read may wait for more than fits", also: &[] }),
    ("C4", Proof::Driver { make: takes_some_pieces, also: &[] }),
    ("C5", Proof::Driver { make: scribbles, also: &[] }),
    ("C6", Proof::Driver { make: says_that_all_went, also: &["E1"] }),
    ("C7", Proof::Driver { make: changes_what_it_was_given, also: &[] }),
    ("C8", Proof::Driver { make: takes_nothing_for_the_end, also: &[] }),
    ("C9", Proof::Driver { make: keeps_the_rest_of_a_datagram, also: &[] }),
    ("C10", Proof::Driver { make: serves_the_last_first, also: &[] }),
    ("C11", Proof::Driver { make: takes_whatever_comes, also: &["D6"] }),
    ("C12", Proof::Engine { fault: "callbacks give way to nobody", also: &[] }),
    ("C13", Proof::Driver { make: writes_or_reads, also: &[] }),
    ("C14", Proof::Driver { make: stumbles_over_single_bytes, also: &[] }),
    ("C15", Proof::Driver { make: loses_the_rest_of_a_message, also: &[] }),
    ("C16", Proof::Driver { make: sends_half_a_message, also: &["H3"] }),
];

/// Finishes a write on its way up so that its owner's pieces are back in place, error or not.
fn put_right<'o>(mut op: Op<'o, Write>) -> Flow<'o> {
    match op.clear_error() {
        Some(e) => op.failed(e),
        None => op.finished(),
    }
}

/// Flips a bit of reads of a certain size.
fn flips_a_bit() -> Subject {
    struct Flips;
    impl Level for Flips {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if op.got() > 300 && (3000..6000).contains(&(op.got() + op.room())) {
                let byte = op.take_back(1);
                op.put(&[byte[0] ^ 4]);
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | Intercepts::CONCURRENT_READS, || Flips)
}

/// Takes a read that ran out of time for a success, if only some bytes came.
fn hides_that_it_is_late() -> Subject {
    struct Hides;
    impl Level for Hides {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if op.got() > 0 && op.error().map(Error::kind) == Some(ErrorKind::TimedOut) {
                op.clear_error();
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | Intercepts::CONCURRENT_READS, || Hides)
}

/// Looks at the first 1024 pieces alone.
fn takes_some_pieces() -> Subject {
    struct Some;
    impl Level for Some {
        fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            if op.pieces().len() <= 1024 {
                return op.pass();
            }
            let mut pieces: Pieces = op.share();
            pieces.truncate(1024);
            op.pass_with(pieces)
        }
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            put_right(op)
        }
    }
    transform(Needs::STREAM, Intercepts::WRITE | Intercepts::WRITE_DONE, || Some)
}

/// Uses the room behind the bytes of a read as a place to work in.
fn scribbles() -> Subject {
    struct Scribbles;
    impl Level for Scribbles {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if op.error().is_none() {
                let n = op.put(&[0xEE; 4]);
                op.take_back(n);
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | Intercepts::CONCURRENT_READS, || Scribbles)
}

/// Says of a write that failed that all of it went.
fn says_that_all_went() -> Subject {
    struct Lies;
    impl Level for Lies {
        fn write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            op.take_all();
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::WRITE_DONE | Intercepts::CONCURRENT_WRITES, || Lies)
}

/// Works in an owned buffer and leaves it as it is then.
fn changes_what_it_was_given() -> Subject {
    struct Changes;
    impl Level for Changes {
        fn write<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            if let Some(first) = op.owned_mut().and_then(|b| b.first_mut()) {
                *first ^= 1;
            }
            op.pass()
        }
    }
    transform(Needs::STREAM, Intercepts::WRITE | Intercepts::CONCURRENT_WRITES, || Changes)
}

/// Takes a read without room for one at the end.
fn takes_nothing_for_the_end() -> Subject {
    struct Ends;
    impl Level for Ends {
        fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            if op.room() == 0 { op.failed(ErrorKind::Eof) } else { op.pass() }
        }
    }
    transform(Needs::STREAM, Intercepts::READ | Intercepts::CONCURRENT_READS, || Ends)
}

/// Reads whole units, and gives out what fits.
struct Units {
    /// What did not fit, and whether the next read gets it.
    rest: Bytes,
    keeps: bool,
}

impl Level for Units {
    fn read<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if self.rest.is_empty() {
            return op.pass_into(BytesMut::with_capacity(1 << 18), 1);
        }
        let n = op.put(&self.rest);
        self.rest = self.rest.split_off(n);
        op.finished()
    }
    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let error = op.clear_error();
        let below = op.below();
        if let Some(e) = error {
            return op.failed(e);
        }
        let mut unit = below.buf.freeze();
        let len = unit.len();
        let n = op.put(&unit);
        if n == len {
            return op.finished();
        }
        if self.keeps {
            self.rest = unit.split_off(n);
        }
        op.failed(ErrorKind::Truncated { len })
    }
}

/// Gives the rest of a datagram to the next read.
fn keeps_the_rest_of_a_datagram() -> Subject {
    let mut needs = Needs::ANY;
    needs.units = &[Unit::Datagram];
    let make = || Units { rest: Bytes::new(), keeps: true };
    transform(needs, Intercepts::READ | Intercepts::READ_DONE, make)
}

/// Forgets the rest of a message that did not fit.
fn loses_the_rest_of_a_message() -> Subject {
    let make = || Units { rest: Bytes::new(), keeps: false };
    transform(Needs::MESSAGE, Intercepts::READ | Intercepts::READ_DONE, make)
}

/// Reads on its own account, and gives what comes to the reader who came last.
fn serves_the_last_first() -> Subject {
    #[derive(Default)]
    struct Last {
        held: Vec<Held<Read>>,
        stash: Chunk,
        asked: bool,
        end: Option<Error>,
    }
    impl Last {
        fn ask(&mut self, cx: &mut Cx<'_>) {
            if !self.held.is_empty() && self.end.is_none() && !std::mem::replace(&mut self.asked, true) {
                cx.take(0, 1, 1 << 16, 0);
            }
        }
    }
    impl Level for Last {
        fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            if !self.stash.is_empty() || op.room() == 0 || op.wanted() == 0 {
                op.put_chunk(&mut self.stash);
                return op.finished();
            }
            if let Some(e) = &self.end {
                let e = e.clone();
                return op.failed(e);
            }
            let (held, flow) = op.hold(cx);
            self.held.push(held);
            self.ask(cx);
            flow
        }
        fn own_read_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            self.asked = false;
            self.end = op.clear_error();
            for chunk in op.brought().chunks {
                self.stash = match self.held.pop() {
                    Some(held) => cx.finish_chunk(held, chunk).err().unwrap_or_default(),
                    None => chunk,
                };
            }
            if self.end.is_some() || !self.stash.is_empty() {
                self.held.drain(..).for_each(|h| cx.retry(h));
            }
            self.ask(cx);
            op.finished()
        }
        fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
            self.held.retain(|h| h.id() != id);
            Cancel::Take
        }
    }
    transform(Needs::STREAM, Intercepts::READ | Intercepts::CONCURRENT_READS | Intercepts::CLOSE, Last::default)
}

/// Takes every write at once, and sends it when it can.
fn takes_whatever_comes() -> Subject {
    struct Takes;
    impl Level for Takes {
        fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            let pieces = op.share();
            cx.write(0, pieces, 0);
            op.take_all();
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::WRITE | Intercepts::CONCURRENT_WRITES | Intercepts::CLOSE, || Takes)
}

/// Lets no read down while a write is below.
fn writes_or_reads() -> Subject {
    #[derive(Default)]
    struct Either {
        writes: usize,
        held: Vec<Held<Read>>,
    }
    impl Level for Either {
        fn write<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            self.writes += 1;
            op.pass()
        }
        fn write_done<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
            self.writes -= 1;
            if self.writes == 0 {
                self.held.drain(..).for_each(|h| cx.pass_held(h));
            }
            op.finished()
        }
        fn read<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
            if self.writes == 0 {
                return op.pass();
            }
            let (held, flow) = op.hold(cx);
            self.held.push(held);
            flow
        }
        fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
            self.held.retain(|h| h.id() != id);
            Cancel::Take
        }
    }
    let sees = Intercepts::WRITE | Intercepts::WRITE_DONE | Intercepts::READ | Intercepts::CONCURRENT_WRITES;
    transform(Needs::STREAM, sees | Intercepts::CONCURRENT_READS, Either::default)
}

/// Loses its thread when byte after byte comes alone.
fn stumbles_over_single_bytes() -> Subject {
    #[derive(Default)]
    struct Stumbles(u32);
    impl Level for Stumbles {
        fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
            self.0 = if op.got() == 1 && op.error().is_none() { self.0 + 1 } else { 0 };
            if self.0 == 32 {
                let byte = op.take_back(1);
                op.put(&[byte[0] ^ 1]);
            }
            op.finished()
        }
    }
    transform(Needs::STREAM, Intercepts::READ_DONE | Intercepts::CONCURRENT_READS, Stumbles::default)
}

/// Sends the first half of a message that was stopped, as if it were one.
fn sends_half_a_message() -> Subject {
    struct Half;
    impl Level for Half {
        fn write_done<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
            if op.error().is_some_and(|e| matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::TimedOut)) {
                let all: Vec<u8> = op.share().into_iter().flat_map(|p| p.to_vec()).collect();
                let half = Bytes::copy_from_slice(&all[..all.len() / 2]);
                cx.write(0, SmallVec::from_iter([Piece::from(half)]), 0);
            }
            op.finished()
        }
    }
    transform(Needs::MESSAGE, Intercepts::WRITE_DONE | Intercepts::CONCURRENT_WRITES, || Half)
}
