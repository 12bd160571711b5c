//! A ring's two ends without a process, for whoever plays the peer of either: memory inside this process that
//! tells of each access to it, before which anything may be written over it. Invariant: it checks nothing; what an
//! end does with what it finds is the end's own. Not for users: `fuzz/src/shm.rs` is what it is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use xio_core::buffer::Chunk;

use super::memory::{Memory, Note, Place};
use super::ring::{self, Foul, prepare};

/// Where both positions start, and bytes before a message.
pub const START: u64 = ring::START;
/// Bytes before each message.
pub const HEADER: usize = ring::HEADER;

/// What an end is about to do to the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads a word.
    Load(usize),
    /// It changes a word; this is the new value, where that does not depend on the old one.
    Store(usize, u64),
    /// It reads bytes: where, and how many.
    Read(usize, usize),
    /// It writes bytes.
    Write(usize, usize),
}

/// How far is written.
pub const HEAD: usize = 0;
/// How far is free again.
pub const TAIL: usize = 1;
/// How many words there are; the others are how the ends are and how they sleep.
pub const WORDS: usize = 6;

type Hook = Box<dyn FnMut(&Page, Access) + Send>;

/// The memory.
pub struct Page {
    positions: [AtomicU64; 2],
    notes: [AtomicU32; 4],
    bytes: Mutex<Vec<u8>>,
    hook: Mutex<Option<Hook>>,
}

impl Page {
    /// A ring of so many bytes, a power of two.
    pub fn new(size: usize) -> Arc<Self> {
        let page = Self {
            positions: [const { AtomicU64::new(0) }; 2],
            notes: [const { AtomicU32::new(0) }; 4],
            bytes: Mutex::new(vec![0; size]),
            hook: Mutex::new(None),
        };
        prepare(&page);
        Arc::new(page)
    }

    /// Has this called before each access of an end.
    pub fn watch(&self, hook: impl FnMut(&Self, Access) + Send + 'static) {
        *self.hook.lock() = Some(Box::new(hook));
    }

    /// Writes over a word, as a peer that keeps to nothing does.
    pub fn set_word(&self, word: usize, value: u64) {
        match self.positions.get(word) {
            Some(p) => p.store(value, Ordering::Relaxed),
            None => self.notes[(word - 2) % 4].store(value as u32, Ordering::Relaxed),
        }
    }

    /// What a word says.
    pub fn word(&self, word: usize) -> u64 {
        match self.positions.get(word) {
            Some(p) => p.load(Ordering::Relaxed),
            None => self.notes[(word - 2) % 4].load(Ordering::Relaxed).into(),
        }
    }

    /// Writes over bytes, round the ring's end.
    pub fn set_bytes(&self, at: usize, from: &[u8]) {
        let mut bytes = self.bytes.lock();
        let size = bytes.len();
        from.iter().enumerate().for_each(|(i, b)| bytes[(at + i) % size] = *b);
    }

    /// What lies there, round the ring's end.
    pub fn bytes(&self, at: usize, n: usize) -> Vec<u8> {
        let bytes = self.bytes.lock();
        (0..n).map(|i| bytes[(at + i) % bytes.len()]).collect()
    }

    fn tell(&self, access: Access) {
        // Taken out for its call, so that it may write here itself.
        let hook = self.hook.lock().take();
        if let Some(mut hook) = hook {
            hook(self, access);
            *self.hook.lock() = Some(hook);
        }
    }
}

fn number(note: Note) -> usize {
    2 + note as usize
}

impl Memory for Page {
    fn size(&self) -> usize {
        self.bytes.lock().len()
    }
    fn load(&self, place: Place) -> u64 {
        self.tell(Access::Load(place as usize));
        self.word(place as usize)
    }
    fn store(&self, place: Place, value: u64) {
        self.tell(Access::Store(place as usize, value));
        self.set_word(place as usize, value);
    }
    fn note(&self, note: Note) -> u32 {
        self.tell(Access::Load(number(note)));
        self.notes[note as usize].load(Ordering::Relaxed)
    }
    fn set(&self, note: Note, value: u32) {
        self.tell(Access::Store(number(note), value.into()));
        self.set_word(number(note), value.into());
    }
    fn raise(&self, note: Note, bits: u32) {
        self.tell(Access::Load(number(note)));
        self.notes[note as usize].fetch_or(bits, Ordering::Relaxed);
    }
    fn lower(&self, note: Note, bits: u32) {
        self.tell(Access::Load(number(note)));
        self.notes[note as usize].fetch_and(!bits, Ordering::Relaxed);
    }
    fn take(&self, note: Note) -> u32 {
        self.tell(Access::Load(number(note)));
        self.notes[note as usize].swap(0, Ordering::Relaxed)
    }
    fn fence(&self) {}
    fn write(&self, at: usize, from: &[u8]) {
        self.tell(Access::Write(at, from.len()));
        self.bytes.lock()[at..at + from.len()].copy_from_slice(from);
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        self.tell(Access::Read(at, to.len()));
        to.copy_from_slice(&self.bytes.lock()[at..at + to.len()]);
    }
}

/// What an end says where the peer broke the protocol.
pub type Refusal = &'static str;

fn text(foul: Foul) -> Refusal {
    foul.0
}

/// The end that writes.
pub struct Writer(ring::Writer<Arc<Page>>);

impl Writer {
    /// One end of `page`.
    pub fn new(page: Arc<Page>) -> Self {
        Self(ring::Writer::new(page))
    }

    /// Bytes that can be put in.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub fn room(&mut self, least: usize) -> Result<usize, Refusal> {
        self.0.room(least).map_err(text)
    }

    /// Puts bytes in and shows them; how many, and how the reader sleeps.
    pub fn put(&mut self, from: &[u8]) -> (usize, u32) {
        (self.0.put(from), self.0.publish())
    }

    /// Puts a message in, in two pieces, if there is room, and shows it.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub fn send(&mut self, message: &[u8]) -> Result<bool, Refusal> {
        let need = ring::footprint(message.len());
        if self.0.room(need).map_err(text)? < need {
            return Ok(false);
        }
        let (a, b) = message.split_at(message.len() / 2);
        self.0.put_message(message.len() as u32, [a, b].into_iter());
        let _ = self.0.publish();
        Ok(true)
    }

    /// Bytes that are not read yet, as far as is known.
    pub fn unread(&self) -> u64 {
        self.0.unread()
    }

    /// Ends, in order or not; how the reader sleeps.
    pub fn end(&self, in_order: bool) -> u32 {
        self.0.end(if in_order { ring::ENDED } else { ring::RESET })
    }

    /// How the reader is.
    pub fn peer(&self) -> u32 {
        self.0.peer()
    }

    /// Says that it is about to sleep; whether it may.
    pub fn may_sleep(&self) -> bool {
        ring::may_sleep(self.0.memory(), ring::Side::Writer, self.0.seen(), ring::BELL)
    }
}

/// The end that reads.
pub struct Reader(ring::Reader<Arc<Page>>);

impl Reader {
    /// One end of `page`.
    pub fn new(page: Arc<Page>) -> Self {
        Self(ring::Reader::new(page))
    }

    /// Bytes that can be taken out.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub fn ready(&mut self, least: usize) -> Result<usize, Refusal> {
        self.0.ready(least).map_err(text)
    }

    /// Bytes left of the message begun, or of the next.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub fn message(&mut self) -> Result<Option<usize>, Refusal> {
        self.0.message().map_err(text)
    }

    /// Takes bytes out; how many.
    pub fn copy(&mut self, to: &mut [u8]) -> usize {
        self.0.copy(to)
    }

    /// Where the next bytes lie, before the ring's end.
    pub fn run(&self, n: usize) -> (usize, usize) {
        self.0.run(n)
    }

    /// Passes over bytes.
    pub fn skip(&mut self, n: usize) {
        self.0.skip(n);
    }

    /// Takes bytes out as they lie, which [`run`](Self::run) gave, and leaves them there until they are dropped or the
    /// writer has to do without more than `most`. `bell` hears how the writer sleeps.
    pub fn keep(&mut self, n: usize, most: usize, bell: impl Fn(u32) + Send + Sync + 'static) -> Chunk {
        Chunk::foreign(Arc::new(self.0.keep(n, most, false, || Box::new(bell))))
    }

    /// [`release`](Self::release) for an end that keeps nothing from its writer.
    pub fn release_all(&mut self) -> u32 {
        self.0.release_all()
    }

    /// Gives the room of what was taken out back; how the writer sleeps.
    pub fn release(&mut self) -> u32 {
        self.0.release()
    }

    /// Leaves, in order or not; how the writer sleeps.
    pub fn leave(&self, in_order: bool) -> u32 {
        self.0.leave(if in_order { ring::ENDED } else { ring::RESET })
    }

    /// How the writer is.
    pub fn peer(&self) -> u32 {
        self.0.peer()
    }

    /// Says that it is about to sleep; whether it may.
    pub fn may_sleep(&self) -> bool {
        ring::may_sleep(self.0.memory(), ring::Side::Reader, self.0.seen(), ring::BELL)
    }
}
