//! Random numbers that a seed repeats, and bytes that tell where they belong.

/// A small generator (splitmix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5EED_5EED_5EED_5EED)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number in `from..to`; `from` where the range is empty.
    pub fn between(&mut self, from: usize, to: usize) -> usize {
        let span = to.saturating_sub(from).max(1) as u64;
        from + usize::try_from(self.roll() % span).unwrap_or(0)
    }

    /// Whether something of this probability, in percent, happens.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Bytes of a stream from `at` on: each run of eight tells its place, so that what is lost, doubled
/// or swapped shows.
pub fn pattern(seed: u64, at: usize, len: usize) -> Vec<u8> {
    let word = |i: usize| mix(seed ^ (i as u64).wrapping_mul(0x9E37)).to_le_bytes();
    let mut out = Vec::with_capacity(len + 8);
    (at / 8..(at + len).div_ceil(8)).for_each(|i| out.extend_from_slice(&word(i)));
    out.drain(..(at % 8).min(out.len()));
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_continues_where_it_was_left() {
        let all = pattern(7, 0, 100);
        assert_eq!([pattern(7, 0, 33), pattern(7, 33, 67)].concat(), all);
        assert_ne!(pattern(8, 0, 100), all);
        let mut d = Dice::new(1);
        assert!((0..100).all(|_| (3..9).contains(&d.between(3, 9))));
        assert_eq!(d.between(5, 5), 5);
    }
}
