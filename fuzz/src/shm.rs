//! A ring whose shared words and bytes anybody writes over at any moment, between two steps of one call too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use xio_core::buffer::Chunk;
use xio_drivers::shm::bare::{Access, HEAD, HEADER, Page, Reader, START, TAIL, WORDS, Writer};

use crate::Target;
use crate::input::{Input, noise};

pub(crate) const TARGET: Target = Target {
    name: "shm",
    body: run,
    covers: &["drivers/src/shm/ring.rs", "drivers/src/shm/kept.rs"],
    fault: "a peer says that more is written than fits",
};

/// Most times that something is written over.
const SCRIBBLES: usize = 24;
/// Most calls of a run.
const CALLS: usize = 400;
/// What a header's second half is made from.
const MARK: u32 = 0x584d_5347;

/// Whatever the peer writes: an end goes on, or says that the protocol is broken; it reads only bytes that were
/// shown to it and writes only where it has room, looks at a position once in a call, and shows positions that only
/// grow. As long as nobody has written over anything the ring is a queue, whoever sleeps is woken, and what is handed up
/// without a copy stays as it is until it is dropped.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let size = 16 << input.below(5);
    let messages = input.flag();
    let scribbles = (0..input.below(SCRIBBLES)).map(|_| Scribble::drawn(&mut input)).collect();
    let page = Page::new(size);
    let watch = Arc::new(Mutex::new(Watch::new(size, scribbles)));
    let seen = watch.clone();
    page.watch(move |page, access| seen.lock().unwrap().access(page, access));
    let mut play = Play {
        writer: Some(Writer::new(page.clone())),
        reader: Some(Reader::new(page.clone())),
        watch,
        page,
        size,
        most: input.below(size / 2 + 1),
        sent: VecDeque::new(),
        open: None,
        kept: Vec::new(),
        bell: Arc::default(),
        asleep: [false; 2],
        slept_at: START,
    };
    for n in 0..CALLS {
        if input.is_empty() {
            break;
        }
        play.call(&mut input, messages, n);
    }
    play.drain(messages);
}

/// Something that the peer writes.
#[derive(Clone, Copy, Debug)]
struct Scribble {
    /// Accesses to the memory before it.
    after: u8,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// A word, and what it is near to.
    Word(usize, Near, u64),
    /// Bytes somewhere.
    Bytes(usize, [u8; 8]),
    /// A header at the writer's position, and the position after it.
    Message(u32, u64),
    /// Zeroes everywhere.
    Hole,
}

#[derive(Clone, Copy, Debug)]
enum Near {
    Zero,
    Start,
    Head,
    Tail,
}

impl Scribble {
    fn drawn(input: &mut Input<'_>) -> Self {
        let after = input.byte();
        let what = match input.below(8) {
            0..=3 => {
                let word = input.below(WORDS);
                let near = input.one_of(&[Near::Head, Near::Tail, Near::Start, Near::Zero]);
                let by = match input.below(4) {
                    0 => u64::from(input.byte()),
                    1 => 0u64.wrapping_sub(input.byte().into()),
                    2 => input.u64(),
                    _ => 1 << input.below(64),
                };
                What::Word(word, near, by)
            }
            4 => What::Bytes(input.below(1024), input.u64().to_le_bytes()),
            5 | 6 => What::Message(input.below(1 << 20) as u32, input.byte().into()),
            _ => What::Hole,
        };
        Self { after, what }
    }

    fn write(self, page: &Page, size: usize) {
        match self.what {
            What::Word(word, near, by) => {
                let from = match near {
                    Near::Zero => 0,
                    Near::Start => START,
                    Near::Head => page.word(HEAD),
                    Near::Tail => page.word(TAIL),
                };
                page.set_word(word, from.wrapping_add(by));
            }
            What::Bytes(at, bytes) => page.set_bytes(at, &bytes),
            What::Message(len, further) => {
                let at = page.word(HEAD);
                page.set_bytes(at as usize % size, &len.to_le_bytes());
                page.set_bytes((at as usize + 4) % size, &(MARK ^ len ^ at as u32).to_le_bytes());
                page.set_word(HEAD, at.wrapping_add(further));
            }
            What::Hole => {
                (0..WORDS).for_each(|w| page.set_word(w, 0));
                page.set_bytes(0, &vec![0; size]);
            }
        }
    }
}

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Writer,
    Reader,
    /// Whoever holds what the reader handed up.
    Holder,
}

/// What is seen of the ends at the memory.
struct Watch {
    size: usize,
    scribbles: VecDeque<Scribble>,
    steps: u8,
    /// Nobody has written over anything.
    clean: bool,
    who: Who,
    /// It only looks whether anything came, and takes the position for nothing more.
    looks: bool,
    /// Loads of the positions in this call.
    loads: [u32; 2],
    /// What an end that moves bytes was given last.
    loaded: [u64; 2],
    /// What the ends showed last.
    shown: [u64; 2],
}

impl Watch {
    fn new(size: usize, scribbles: VecDeque<Scribble>) -> Self {
        Self {
            size,
            scribbles,
            steps: 0,
            clean: true,
            who: Who::Writer,
            looks: false,
            loads: [0; 2],
            loaded: [START; 2],
            shown: [START; 2],
        }
    }

    fn begin(&mut self, who: Who, looks: bool) {
        (self.who, self.looks, self.loads) = (who, looks, [0; 2]);
    }

    fn access(&mut self, page: &Page, access: Access) {
        self.steps = self.steps.wrapping_add(1);
        while let Some(s) = self.scribbles.front().copied().filter(|s| s.after % 64 <= self.steps) {
            self.scribbles.pop_front();
            (self.clean, self.steps) = (false, 0);
            s.write(page, self.size);
        }
        match access {
            Access::Load(word) if word <= TAIL => {
                self.loads[word] += 1;
                if !self.looks {
                    self.loaded[word] = page.word(word);
                }
                assert_eq!(self.loads[word], 1, "a position is looked at twice");
            }
            Access::Load(_) => {}
            Access::Store(word, to) if word <= TAIL => {
                assert_eq!(word == HEAD, self.who == Who::Writer, "a position of the other's is written");
                let by = to.wrapping_sub(self.shown[word]);
                assert!(by <= self.size as u64, "from {:x} to {to:x}", self.shown[word]);
                self.shown[word] = to;
            }
            Access::Store(..) => {}
            Access::Read(at, n) => {
                assert_ne!(self.who, Who::Writer, "the writer reads bytes");
                match self.who {
                    Who::Reader => self.inside(at, n, self.shown[TAIL], self.loaded[HEAD]),
                    _ => assert!(at + n <= self.size),
                }
            }
            Access::Write(at, n) => {
                assert_eq!(self.who, Who::Writer, "the reader writes bytes");
                self.inside(at, n, self.shown[HEAD], self.loaded[TAIL].wrapping_add(self.size as u64));
            }
        }
    }

    /// Bytes at `at` of the ring are between two positions.
    fn inside(&self, at: usize, n: usize, from: u64, to: u64) {
        assert!(at + n <= self.size, "{n} bytes at {at} of {}", self.size);
        let before = at.wrapping_sub(from as usize) % self.size;
        let room = to.wrapping_sub(from);
        assert!(room <= self.size as u64, "from {from:x} to {to:x}");
        assert!(n == 0 || (before + n) as u64 <= room, "{n} bytes at {at}, {before} after {from:x}, but up to {to:x}");
    }
}

/// Both ends, and what a queue would do.
struct Play {
    /// None once it has found the protocol broken.
    writer: Option<Writer>,
    reader: Option<Reader>,
    watch: Arc<Mutex<Watch>>,
    page: Arc<Page>,
    size: usize,
    /// Bytes that the writer may have to do without.
    most: usize,
    /// Messages, or single bytes.
    sent: VecDeque<Vec<u8>>,
    /// What is left of the message begun.
    open: Option<Vec<u8>>,
    /// What is handed up without a copy, and what it was.
    kept: Vec<(Chunk, Vec<u8>)>,
    /// How the writer sleeps, as those that drop such a thing hear.
    bell: Arc<AtomicU32>,
    /// Reader, writer.
    asleep: [bool; 2],
    /// How far the reader was when the writer went to sleep.
    slept_at: u64,
}

impl Play {
    fn clean(&self) -> bool {
        self.watch.lock().unwrap().clean
    }

    fn begin(&self, who: Who) {
        self.watch.lock().unwrap().begin(who, false);
    }

    fn looks(&self, who: Who) {
        self.watch.lock().unwrap().begin(who, true);
    }

    /// An end says that the protocol is broken: that cannot be where nobody broke it.
    fn broken(&self, why: &str) {
        assert!(!self.clean(), "{why}");
    }

    fn used(&self, messages: bool) -> usize {
        let header = if messages { HEADER } else { 0 };
        let pad = |n: usize| if messages { n.next_multiple_of(HEADER) } else { n };
        self.sent.iter().map(|m| header + pad(m.len())).sum()
    }

    fn call(&mut self, input: &mut Input<'_>, messages: bool, n: usize) {
        match input.below(14) {
            10 | 11 => self.take(input.len(self.size), messages),
            12 => {
                let Some(i) = self.kept.len().checked_sub(1).map(|last| input.below(last + 1)) else { return };
                self.begin(Who::Holder);
                let (chunk, was) = self.kept.swap_remove(i);
                self.hold(chunk, &was, input.flag());
            }
            13 => {
                self.looks(Who::Reader);
                let Some(r) = &mut self.reader else { return };
                let flags = r.release_all();
                self.released(flags);
            }
            0..=2 => {
                let bytes = noise(n, input.len(self.size + 9));
                if messages { self.send(&bytes) } else { self.put(&bytes) }
            }
            3..=5 => {
                let part = input.len(self.size + 9);
                if messages { self.receive(part) } else { self.copy(part, part.is_multiple_of(3)) }
            }
            6 => {
                self.looks(Who::Reader);
                self.asleep[0] = self.reader.as_ref().is_some_and(Reader::may_sleep);
            }
            7 => {
                self.looks(Who::Writer);
                self.asleep[1] = self.writer.as_ref().is_some_and(Writer::may_sleep);
                self.slept_at = self.page.word(TAIL);
            }
            8 => {
                self.looks(Who::Writer);
                let in_order = input.flag();
                let Some(w) = self.writer.as_ref().filter(|_| input.rarely(8)) else { return };
                let flags = w.end(in_order);
                let heard = self.reader.as_ref().is_none_or(|r| r.peer() != 0 && !r.may_sleep());
                let woken = flags != 0 || !self.asleep[0];
                assert!(heard && woken || !self.clean(), "the end is not heard of");
                self.asleep[0] = false;
            }
            _ => {
                self.looks(Who::Reader);
                let in_order = input.flag();
                let Some(r) = self.reader.as_ref().filter(|_| input.rarely(8)) else { return };
                let flags = r.leave(in_order);
                let heard = self.writer.as_ref().is_none_or(|w| w.peer() != 0 && !w.may_sleep());
                let woken = flags != 0 || !self.asleep[1];
                assert!(heard && woken || !self.clean(), "the end is not heard of");
                self.asleep[1] = false;
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.begin(Who::Writer);
        let Some(w) = &mut self.writer else { return };
        let room = match w.room(bytes.len()) {
            Ok(n) => n,
            Err(why) => {
                self.writer = None;
                return self.broken(why);
            }
        };
        assert!(room <= self.size);
        let (n, flags) = w.put(bytes);
        assert!(n == bytes.len().min(room) && w.unread() <= self.size as u64);
        if self.clean() {
            let kept = if self.kept.is_empty() { 0 } else { self.most };
            let free = (self.size - self.used(false)).saturating_sub(kept);
            assert!(room >= bytes.len().min(free), "{room} bytes of room");
            assert!(n == 0 || flags != 0 || !self.asleep[0], "the reader sleeps on");
        }
        self.asleep[0] &= flags == 0;
        self.sent.extend(bytes[..n].iter().map(|b| vec![*b]));
    }

    fn send(&mut self, message: &[u8]) {
        self.begin(Who::Writer);
        let Some(w) = &mut self.writer else { return };
        let fits = match w.send(message) {
            Ok(fits) => fits,
            Err(why) => {
                self.writer = None;
                return self.broken(why);
            }
        };
        assert!(w.unread() <= self.size as u64 && (!fits || message.len() + HEADER <= self.size));
        if self.clean() && self.open.is_none() && self.kept.is_empty() {
            let need = HEADER + message.len().next_multiple_of(HEADER);
            assert_eq!(fits, need + self.used(true) <= self.size);
        }
        if fits {
            self.asleep[0] = false;
            self.sent.push_back(message.to_vec());
        }
    }

    fn copy(&mut self, n: usize, passes_over: bool) {
        self.begin(Who::Reader);
        let Some(r) = &mut self.reader else { return };
        let ready = match r.ready(n) {
            Ok(ready) => ready,
            Err(why) => {
                self.reader = None;
                return self.broken(why);
            }
        };
        assert!(ready <= self.size, "{ready} bytes of {}", self.size);
        let mut to = vec![0; n];
        let got = r.copy(&mut to);
        assert_eq!(got, n.min(ready));
        let mut skipped = 0;
        if passes_over {
            let (at, run) = r.run(ready);
            assert!(at + run <= self.size && run <= ready - got);
            r.skip(run);
            skipped = run;
        }
        let flags = r.release();
        if self.clean() {
            assert!(ready >= n.min(self.sent.len()) && ready <= self.sent.len());
            let want: Vec<u8> = self.sent.drain(..got).flatten().collect();
            assert!(to[..got] == want, "other bytes than were written");
            self.sent.drain(..skipped);
        }
        self.released(flags);
    }

    /// The reader, or whoever holds what it handed up, gave room back; a writer that sleeps is woken if half of the
    /// ring is free by that.
    fn released(&mut self, flags: u32) {
        self.asleep[1] &= flags == 0;
        let (head, tail) = (self.page.word(HEAD), self.page.word(TAIL));
        let half = head.wrapping_sub(tail) <= self.size as u64 / 2;
        assert!(!self.clean() || !self.asleep[1] || tail == self.slept_at || !half, "the writer sleeps on");
    }

    /// Hands up what lies there.
    fn take(&mut self, n: usize, messages: bool) {
        self.begin(Who::Reader);
        let Some(r) = &mut self.reader else { return };
        let there = if messages { r.message() } else { r.ready(n).map(Some) };
        let there = match there {
            Ok(there) => there,
            Err(why) => {
                self.reader = None;
                return self.broken(why);
            }
        };
        let (at, run) = r.run(n.min(there.unwrap_or(0)).min(self.most));
        assert!(at + run <= self.size);
        if run == 0 {
            if messages && there.is_some() && self.open.is_none() {
                // It is begun.
                self.open = self.sent.pop_front();
            }
            return;
        }
        let bell = self.bell.clone();
        let chunk = r.keep(run, self.most, move |flags| bell.store(flags, Ordering::Relaxed));
        let flags = r.release();
        let was = if !self.clean() {
            Vec::new()
        } else if messages {
            let mut message = self.open.take().or_else(|| self.sent.pop_front()).expect("a message that nobody sent");
            let rest = message.split_off(run);
            self.open = Some(rest).filter(|m| !m.is_empty());
            message
        } else {
            let was = self.sent.drain(..run).flatten().collect();
            let at = self.page.word(HEAD).wrapping_sub(self.sent.len() as u64);
            assert!(at.wrapping_sub(self.page.word(TAIL)) <= self.most as u64, "the writer does without too much");
            was
        };
        self.released(flags);
        self.kept.push((chunk, was));
    }

    /// Looks at what was handed up, and keeps it or lets go.
    fn hold(&mut self, mut chunk: Chunk, was: &[u8], keeps: bool) {
        let mut bytes = vec![0; chunk.len()];
        assert_eq!(chunk.copy_to(&mut bytes), chunk.len());
        assert!(bytes == was || !self.clean(), "what was handed up has changed");
        if keeps {
            chunk.advance(1);
            let rest = was.get(1..).unwrap_or_default().to_vec();
            return self.kept.push((chunk, rest));
        }
        drop(chunk);
        let flags = self.bell.swap(0, Ordering::Relaxed);
        self.released(flags);
    }

    fn receive(&mut self, n: usize) {
        self.begin(Who::Reader);
        let Some(r) = &mut self.reader else { return };
        let len = match r.message() {
            Ok(len) => len,
            Err(why) => {
                self.reader = None;
                return self.broken(why);
            }
        };
        assert!(len.is_none_or(|n| n + HEADER <= self.size), "{len:?} of {}", self.size);
        let Some(len) = len else {
            return assert!(!self.clean() || self.sent.is_empty() && self.open.is_none(), "a message is not found");
        };
        let mut to = vec![0; n];
        let got = r.copy(&mut to);
        assert_eq!(got, n.min(len));
        let flags = r.release();
        if self.clean() {
            let mut message = self.open.take().or_else(|| self.sent.pop_front()).expect("a message that nobody sent");
            assert_eq!(message.len(), len);
            assert!(to[..got] == message[..got], "another message than was sent");
            message.drain(..got);
            self.open = Some(message).filter(|m| !m.is_empty());
        }
        self.released(flags);
    }

    /// What was sent comes, all of it.
    fn drain(mut self, messages: bool) {
        for _ in 0..self.size {
            if messages { self.receive(self.size) } else { self.copy(self.size, false) }
        }
        assert!(!self.clean() || self.sent.is_empty() && self.open.is_none());
        self.reader = None;
        self.begin(Who::Holder);
        for (chunk, was) in std::mem::take(&mut self.kept) {
            self.hold(chunk, &was, false);
        }
    }
}
