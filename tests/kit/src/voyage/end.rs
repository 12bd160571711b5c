//! One end of a connection: writes what its seed says, reads what its peer's seed says, and looks that
//! it is so. Invariant: one write and one read of an end are under way at most, so what it checks needs
//! no order of callbacks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::buffer::WriteBuf;
use xio_core::cntl::{LocalContact, RemoteContact};
use xio_core::{CloseMode, Contact, Engine, Error, ErrorKind, Handle, Server, Stack};

use super::REST;
use super::book::Book;
use crate::dice::{Dice, pattern};

/// Bytes that begin what an end writes: its seed. A message has its number beside it.
const SEED: usize = 8;
const NUMBER: usize = 8;

struct End {
    handle: Handle,
    book: Arc<Book>,
    client: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    dice: Dice,
    seed: u64,
    /// Bytes (or messages) written so far, and bytes that are to be.
    sent: usize,
    budget: usize,
    writes_done: bool,
    reads_done: bool,
    closing: bool,
    /// What the peer writes.
    peer: Option<u64>,
    head: Vec<u8>,
    seen: usize,
    /// This end cut something short, so that its peer may see anything.
    cut: bool,
}

/// Opens one more connection, and uses it.
pub(super) fn connect(engine: &Engine, stack: &Stack, to: &Contact, book: &Arc<Book>) {
    book.set_out();
    book.begin_op();
    let mine = book.clone();
    engine.open(stack, to.clone()).deadline(REST).then(move |r| {
        mine.end_op();
        match r {
            Ok(handle) => {
                mine.connected(place(&handle));
                begin(handle, mine, true);
            }
            Err(e) => {
                if !excused(&e) {
                    mine.broke(format!("an open failed: {e}"));
                }
                mine.arrive();
            }
        }
    });
}

/// Serves whoever comes, until the server ends.
pub(super) fn serve(server: &Server, book: &Arc<Book>) {
    let (again, mine) = (server.clone(), book.clone());
    book.begin_op();
    server.accept().then(move |r| {
        mine.end_op();
        match r {
            Ok(link) => {
                serve(&again, &mine);
                mine.begin_op();
                let book = mine.clone();
                link.open().deadline(REST).then(move |r| {
                    book.end_op();
                    match r {
                        Ok(h) => begin(h, book, false),
                        Err(e) if excused(&e) => {}
                        Err(e) => book.broke(format!("an accepted link did not open: {e}")),
                    }
                });
            }
            Err(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Closed) => {}
            Err(e) => mine.broke(format!("an accept failed: {e}")),
        }
    });
}

/// What a network may do to a connection.
fn excused(e: &Error) -> bool {
    use ErrorKind as K;
    matches!(e.kind(), K::Reset | K::BrokenPipe | K::UnexpectedEof | K::TimedOut | K::Refused)
}

/// What tells a connection from others: its own address, or the path of its server where it has none.
fn place(handle: &Handle) -> Contact {
    let own = handle.query(LocalContact).unwrap_or_default();
    match own.text().is_some_and(|t| t.parse::<SocketAddr>().is_ok()) {
        true => own,
        false => handle.query(RemoteContact).unwrap_or_default(),
    }
}

fn begin(handle: Handle, book: Arc<Book>, client: bool) {
    let seed = book.seed();
    let mut dice = Dice::new(seed);
    let budget = dice.between(0, book.bytes_each);
    let inner = Inner {
        dice,
        seed,
        sent: 0,
        budget,
        writes_done: false,
        reads_done: false,
        closing: false,
        peer: None,
        head: Vec::new(),
        seen: 0,
        cut: false,
    };
    let end = Arc::new(End { handle, book, client, inner: Mutex::new(inner) });
    write(&end);
    read(&end);
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broke(&self, what: &str) {
        let who = if self.client { "client" } else { "server" };
        self.book.broke(format!("the {who} of {:016x}: {what}", self.lock().seed));
    }
}

/// What the end with this seed writes as its `i`-th message, or from byte `i` on.
fn unit(book: &Book, seed: u64, i: usize, dice: &mut Dice) -> Vec<u8> {
    if !book.borders {
        let n = dice.between(1, 3000);
        return if i == 0 { seed.to_le_bytes().to_vec() } else { pattern(seed, i - SEED, n) };
    }
    message(book, seed, i)
}

fn message(book: &Book, seed: u64, i: usize) -> Vec<u8> {
    let most = book.longest.saturating_sub(SEED + NUMBER);
    let n = Dice::new(seed ^ (i as u64).wrapping_mul(0x9E37)).between(0, most.min(1 << (i % 13)));
    let mut out = seed.to_le_bytes().to_vec();
    out.extend_from_slice(&(i as u64).to_le_bytes());
    out.extend_from_slice(&pattern(seed ^ i as u64, 0, n));
    out
}

fn write(end: &Arc<End>) {
    let data = {
        let mut i = end.lock();
        let i = &mut *i;
        if i.closing {
            return;
        }
        if i.budget == 0 || end.book.is_ending() {
            None
        } else {
            let data = unit(&end.book, i.seed, i.sent, &mut i.dice);
            i.budget = i.budget.saturating_sub(data.len());
            Some((data, i.dice.chance(30)))
        }
    };
    let Some((data, lends)) = data else { return end_writes(end) };
    let (mine, n) = (end.clone(), data.len());
    let data = if lends { lent(&end.handle, data) } else { data.into() };
    end.book.begin_op();
    end.handle.write(data).then(move |r| {
        mine.book.end_op();
        match r {
            Ok(done) if done.n != n => mine.broke(&format!("a write of {n} bytes says {}", done.n)),
            Ok(_) => {
                mine.lock().sent += if mine.book.borders { 1 } else { n };
                write(&mine);
            }
            Err(e) => failed(&mine, &e.error, "write"),
        }
    });
}

/// The same bytes as a loan, where the handle still gives one.
fn lent(handle: &Handle, data: Vec<u8>) -> WriteBuf {
    let Ok(mut loan) = handle.loan(data.len()) else { return data.into() };
    let (a, b) = data.split_at(data.len() / 2);
    loan.put(a);
    loan.put(b);
    loan.into()
}

/// All is written: the side ends, or the whole end closes in the middle of things.
fn end_writes(end: &Arc<End>) {
    let leaves = {
        let mut i = end.lock();
        i.writes_done = true;
        let leaves = end.book.closes && i.dice.chance(10);
        i.cut |= leaves;
        leaves
    };
    if leaves {
        return close(end, CloseMode::Abort);
    }
    if !end.book.half_close {
        return rest(end);
    }
    let mine = end.clone();
    end.book.begin_op();
    end.handle.shutdown().then(move |r| {
        mine.book.end_op();
        match r {
            Ok(()) => rest(&mine),
            Err(e) => failed(&mine, &e, "shutdown"),
        }
    });
}

fn read(end: &Arc<End>) {
    let (room, wait_for, deadline, take) = {
        let mut i = end.lock();
        if i.closing {
            return;
        }
        let cut = end.book.cancels && i.dice.chance(10);
        let room = if end.book.borders { end.book.longest.saturating_add(64) } else { i.dice.between(1, 5000) };
        let wait_for = if i.dice.chance(20) { i.dice.between(1, room + 1) } else { 1 };
        let deadline = cut.then(|| Duration::from_micros(i.dice.between(1, 3000) as u64));
        (room, wait_for, deadline, i.dice.chance(50))
    };
    let call = if take { end.handle.take(room) } else { end.handle.read(BytesMut::with_capacity(room)) };
    let call = call.wait_for(wait_for).deadline(deadline.unwrap_or(REST));
    let mine = end.clone();
    end.book.begin_op();
    call.then(move |r| {
        mine.book.end_op();
        match r {
            Ok(done) => {
                let got = done.into_bytes();
                if got.is_empty() && !mine.book.borders {
                    return mine.broke("a read ended with nothing");
                }
                if check(&mine, &got) {
                    read(&mine);
                }
            }
            Err(f) => {
                let (error, back) = (f.error, f.back);
                let whole = !mine.book.borders && check(&mine, &back.into_bytes());
                match error.kind() {
                    ErrorKind::TimedOut if deadline.is_some() && (whole || mine.book.borders) => read(&mine),
                    ErrorKind::Eof => {
                        mine.lock().reads_done = true;
                        rest(&mine);
                    }
                    _ => failed(&mine, &error, "read"),
                }
            }
        }
    });
}

/// Whether what was read is what the peer wrote.
fn check(end: &Arc<End>, got: &Bytes) -> bool {
    end.book.got(got.len());
    let wrong = {
        let mut i = end.lock();
        if end.book.borders { check_message(&end.book, &mut i, got) } else { check_bytes(&mut i, got) }
    };
    if let Some(what) = &wrong {
        end.broke(what);
        close(end, CloseMode::Abort);
    }
    wrong.is_none()
}

fn check_bytes(i: &mut Inner, got: &[u8]) -> Option<String> {
    let head = got.len().min(SEED - i.head.len());
    i.head.extend_from_slice(got.get(..head).unwrap_or_default());
    if i.peer.is_none() {
        i.peer = <[u8; SEED]>::try_from(&i.head[..]).ok().map(u64::from_le_bytes);
    }
    let rest = got.get(head..).unwrap_or_default();
    let wanted = i.peer.map(|seed| pattern(seed, i.seen, rest.len())).unwrap_or_default();
    if rest != wanted {
        return Some(format!("{} bytes from byte {} on are not what was written", rest.len(), i.seen));
    }
    i.seen += rest.len();
    None
}

fn check_message(book: &Book, i: &mut Inner, got: &[u8]) -> Option<String> {
    let word = |at: usize| got.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let (Some(seed), Some(number)) = (word(0), word(SEED)) else {
        return Some(format!("a message of {} bytes is too short for its head", got.len()));
    };
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    if *i.peer.get_or_insert(seed) != seed {
        return Some("a message of another connection".into());
    }
    if book.exact && number != i.seen {
        return Some(format!("message {number} came where {} was due", i.seen));
    }
    if message(book, seed, number) != got {
        return Some(format!("message {number} of {} bytes is not what was written", got.len()));
    }
    i.seen += 1;
    None
}

/// An op failed: with a reason, the end closes.
fn failed(end: &Arc<End>, e: &Error, what: &str) {
    let closing = end.lock().closing;
    let ours = closing && matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Closed);
    if !ours && !excused(e) {
        end.broke(&format!("a {what} failed: {e}"));
    }
    close(end, CloseMode::Abort);
}

/// Both sides are done: the end closes.
fn rest(end: &Arc<End>) {
    let done = {
        let i = end.lock();
        i.writes_done && (i.reads_done || (!end.book.half_close && end.client))
    };
    if done {
        close(end, CloseMode::Graceful);
    }
}

fn close(end: &Arc<End>, mode: CloseMode) {
    if std::mem::replace(&mut end.lock().closing, true) {
        return;
    }
    let mine = end.clone();
    end.book.begin_op();
    end.handle.close().mode(mode).deadline(REST).then(move |r| {
        mine.book.end_op();
        if let Err(e) = r
            && mode == CloseMode::Graceful
            && !excused(&e)
        {
            mine.broke(&format!("a close failed: {e}"));
        }
        if mine.client {
            mine.book.arrive();
        }
    });
}
