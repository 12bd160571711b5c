//! Randomness and the trace of a simulation: splitmix64 (Steele, Lea, Flood, OOPSLA 2014) and a hash
//! over words that mixes alike. Invariant: both depend on nothing but what went in, on any machine.
//! Neither is of cryptographic use.

use std::time::Duration;

/// A seeded source of numbers.
#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number under `n`; 0 for 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        // Multiply and shift: the bias is far under what a test could see.
        u64::try_from((u128::from(self.next()) * u128::from(n)) >> 64).unwrap_or(0)
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
        ((self.next() >> 11) as f64) * UNIT < probability
    }

    /// A time from `least` to `most`, both included.
    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX - 1);
        least.saturating_add(Duration::from_nanos(self.below(span.saturating_add(1))))
    }

    /// A part of `most`, at least 1 of it. Every order of magnitude is as likely as the next, so that
    /// headers get cut as often as bodies.
    pub(super) fn part(&mut self, most: usize) -> usize {
        let bits = u64::from(most.max(1).ilog2()) + 1;
        let scale = 1u64 << self.below(bits);
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        usize::try_from(1 + self.below(most.min(scale.saturating_mul(2))))
            .unwrap_or(1)
            .min(usize::try_from(most).unwrap_or(1))
    }

    /// Puts `items` into a random order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = usize::try_from(self.below(i as u64 + 1)).unwrap_or(0);
            items.swap(i, j);
        }
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash over everything that happened, in order.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { hash: 0, events: 0 }
    }

    pub(super) fn note(&mut self, words: [u64; 4]) {
        self.events += 1;
        for word in words {
            self.hash = mix(self.hash.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ word);
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_within_their_bounds() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        for n in 1..2000 {
            let part = a.part(n);
            assert!((1..=n).contains(&part), "{part} of {n}");
            assert_eq!(part, b.part(n));
            assert!(a.below(10) < 10 && b.below(10) < 10);
        }
        assert_eq!((a.below(0), a.chance(0.0), a.chance(1.0)), (0, false, true));
        assert_eq!(a.between(Duration::from_nanos(5), Duration::from_nanos(5)), Duration::from_nanos(5));
    }

    #[test]
    fn short_and_long_parts_both_come_often() {
        let mut r = Rng::new(1);
        let parts: Vec<_> = (0..1000).map(|_| r.part(65_536)).collect();
        assert!(parts.iter().filter(|n| **n <= 16).count() > 100);
        assert!(parts.iter().filter(|n| **n > 16_384).count() > 50);
    }

    #[test]
    fn the_trace_tells_orders_apart() {
        let (mut a, mut b) = (Trace::new(), Trace::new());
        a.note([1, 2, 3, 4]);
        a.note([5, 6, 7, 8]);
        b.note([5, 6, 7, 8]);
        b.note([1, 2, 3, 4]);
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.events(), 2);
    }
}
