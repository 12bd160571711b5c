//! The bucket itself: arithmetic on bytes and time, exact to the nanosecond. Invariant: what was taken
//! out up to a moment is at most `burst + limit * t` plus what it is still owed.

use std::time::Duration;

use xio_core::time::Time;

const SECOND: i128 = 1_000_000_000;
/// The least part of a stream is what flows in in a second divided by this.
const STEPS: u64 = 100;

/// A token bucket. What it holds is counted in bytes times nanoseconds, so nothing is ever rounded.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    limit: u64,
    burst: u64,
    holds: i128,
    at: Time,
}

impl Bucket {
    /// A full one.
    pub(super) fn new((limit, burst): (u64, u64), now: Time) -> Self {
        Self { limit, burst, holds: i128::from(burst) * SECOND, at: now }
    }

    /// Changes limit and size from now on.
    pub(super) fn change(&mut self, (limit, burst): (u64, u64), now: Time) {
        self.fill(now);
        (self.limit, self.burst) = (limit, burst);
        self.fill(now);
    }

    fn fill(&mut self, now: Time) {
        let ns = i128::try_from(now.since(self.at).as_nanos()).unwrap_or(i128::MAX);
        self.at = self.at.max(now);
        let holds = self.holds.saturating_add(ns.saturating_mul(self.limit.into()));
        self.holds = holds.min(i128::from(self.burst) * SECOND);
    }

    /// How long until it holds `n` bytes, or is full where `n` is more; zero: it does.
    pub(super) fn wait(&mut self, n: usize, now: Time) -> Duration {
        self.fill(now);
        let wanted = i128::from(self.burst.min(n as u64)) * SECOND;
        let lacks = wanted - self.holds;
        if lacks <= 0 {
            return Duration::ZERO;
        }
        let limit = i128::from(self.limit.max(1));
        Duration::from_nanos(u64::try_from((lacks + limit - 1) / limit).unwrap_or(u64::MAX))
    }

    /// Whole bytes that it holds.
    pub(super) fn holds(&self) -> usize {
        usize::try_from(self.holds / SECOND).unwrap_or(if self.holds < 0 { 0 } else { usize::MAX })
    }

    /// The least part of `n` bytes worth sending alone.
    pub(super) fn part(&self, n: usize) -> usize {
        let step = usize::try_from(self.limit / STEPS).unwrap_or(usize::MAX).max(1);
        n.min(step)
    }

    /// Takes bytes out, also more than it holds.
    pub(super) fn take(&mut self, n: usize) {
        self.holds = self.holds.saturating_sub((n as i128).saturating_mul(SECOND));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_starts_full_and_owes_what_was_taken_too_much() {
        let mut b = Bucket::new((100, 10), Time::ZERO);
        assert_eq!((b.holds(), b.wait(10, Time::ZERO)), (10, Duration::ZERO));
        b.take(25);
        assert_eq!(b.holds(), 0);
        // 15 owed and one wanted.
        assert_eq!(b.wait(1, Time::ZERO), Duration::from_millis(160));
        // It is never asked for more than it can hold.
        assert_eq!(b.wait(1000, Time::ZERO), Duration::from_millis(250));
        let later = Time::ZERO + Duration::from_secs(10);
        assert_eq!((b.wait(1000, later), b.holds()), (Duration::ZERO, 10));
    }

    #[test]
    fn extremes_neither_overflow_nor_round_to_nothing() {
        for limit in [1, 7, u64::MAX] {
            for burst in [1, 1 << 50] {
                let mut b = Bucket::new((limit, burst), Time::ZERO);
                b.take(usize::MAX);
                assert!(b.wait(1, Time::ZERO) > Duration::ZERO);
                assert!(b.wait(usize::MAX, Time::from_nanos(u64::MAX - 1)) < Duration::MAX);
                assert!(b.part(usize::MAX) >= 1);
            }
        }
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_than_the_limit_and_a_bucket_passes(
            limit in 1u64..10_000_000,
            burst in 1u64..100_000,
            asks in prop::collection::vec((1usize..50_000, 0u64..1_000_000_000), 1..50),
        ) {
            let mut b = Bucket::new((limit, burst), Time::ZERO);
            let mut now = Time::ZERO;
            let mut passed = 0u128;
            for (n, pause) in asks {
                now = now + Duration::from_nanos(pause);
                let n = n.min(usize::try_from(burst).unwrap());
                let d = b.wait(n, now);
                // Not a nanosecond too early, nor one too late.
                if !d.is_zero() {
                    prop_assert!(b.clone().wait(n, now + (d - Duration::from_nanos(1))) > Duration::ZERO);
                }
                now = now + d;
                prop_assert_eq!(b.wait(n, now), Duration::ZERO);
                b.take(n);
                passed += n as u128;
                let most = u128::from(burst) * 1_000_000_000 + u128::from(limit) * u128::from(now.as_nanos());
                prop_assert!(passed * 1_000_000_000 <= most);
            }
        }
    }
}
