//! Choices, read from the bytes that a fuzzer makes. Invariant: there is always a next choice; where the
//! bytes have run out it is the first one.

use std::time::Duration;

/// What is left of the bytes.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((b, rest)) => {
                self.0 = rest;
                *b
            }
            None => 0,
        }
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let mut x = usize::from(self.byte());
        if n > 256 {
            x = x << 8 | usize::from(self.byte());
        }
        if n > 1 << 16 {
            x = x << 8 | usize::from(self.byte());
        }
        x % n
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Once in so many times.
    pub(crate) fn rarely(&mut self, times: u8) -> bool {
        self.byte() % times == times - 1
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A length: short mostly, up to `most`.
    pub(crate) fn len(&mut self, most: usize) -> usize {
        let n = match self.byte() {
            b @ 0..=199 => usize::from(b),
            _ => self.below(1 << 16),
        };
        n.min(most)
    }

    pub(crate) fn u64(&mut self) -> u64 {
        (0..8).fold(0, |n, _| n << 8 | u64::from(self.byte()))
    }

    pub(crate) fn micros(&mut self) -> Duration {
        Duration::from_micros(self.below(5000) as u64)
    }

    /// So many bytes, or what is left.
    pub(crate) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// A text of at most 255 bytes; nothing where the bytes are none.
    pub(crate) fn text(&mut self) -> &'a str {
        let n = usize::from(self.byte());
        std::str::from_utf8(self.bytes(n)).unwrap_or_default()
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// `n` bytes that are like no others near them.
pub(crate) fn noise(seed: usize, n: usize) -> Vec<u8> {
    (0..n).map(|k| (seed * 31 + k * 7 + k / 251) as u8).collect()
}
