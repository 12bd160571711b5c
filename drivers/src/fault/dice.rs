//! What becomes of an op: a pure function of the seed, the kind of the op and its number.
//! Invariant: nothing here keeps state, so equal questions have equal answers in any order.

use std::time::Duration;

use xio_core::ErrorKind;
use xio_core::driver::OpKind;

use super::Options;

/// What happens to one op.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fate {
    pub(super) error: Option<ErrorKind>,
    pub(super) stalls: bool,
    pub(super) delay: Duration,
    pub(super) is_lost: bool,
    pub(super) is_doubled: bool,
    pub(super) is_overtaken: bool,
    /// Chooses the bit that is changed.
    pub(super) corrupts: Option<u64>,
    /// Chooses how much is left of it.
    pub(super) shortens: Option<u64>,
}

/// What a number is drawn for.
#[derive(Clone, Copy)]
#[repr(u64)]
enum For {
    Error,
    Stall,
    Delay,
    Loss,
    Dup,
    Reorder,
    Corrupt,
    Bit,
    Short,
    Length,
}

/// The fate of the op of this kind and number.
pub(super) fn fate(o: &Options, kind: OpKind, number: u64) -> Fate {
    if number < u64::from(o.after) {
        return Fate::default();
    }
    let draw =
        |what: For| mix(mix(mix(o.seed.cast_unsigned()) ^ (kind as u64)) ^ number).wrapping_add(mix(what as u64));
    let draw = |what| mix(draw(what));
    let hits = |what, part: f64| part > 0.0 && unit(draw(what)) < part;
    let (reads, writes) = (kind == OpKind::Read, kind == OpKind::Write);
    let data = (reads || writes) && o.falls_on(kind);
    let mut out = Fate::default();
    if o.falls_on(kind) {
        out.error = o.error().filter(|_| hits(For::Error, o.error_rate));
        out.stalls = hits(For::Stall, o.stall);
        if let Some((least, most)) = o.delays() {
            out.delay = least + most.saturating_sub(least).mul_f64(unit(draw(For::Delay)));
        }
    }
    out.is_lost = data && hits(For::Loss, o.loss);
    out.is_doubled = data && hits(For::Dup, o.dup);
    out.is_overtaken = data && writes && hits(For::Reorder, o.reorder);
    out.corrupts = (data && hits(For::Corrupt, o.corrupt)).then(|| draw(For::Bit));
    let short = if reads { o.short_read } else { o.short_write };
    out.shortens = ((reads || writes) && hits(For::Short, short)).then(|| draw(For::Length));
    out
}

/// A number from 0 to under 1.
fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1u64 << 53) as f64
}

/// The mixing step of splitmix64 (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let mut x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_of_the_ops_is_that_part(seed in 0i64..1000, part in 0.0f64..=1.0) {
            let o = Options::default().with_seed(seed).with_loss(part).with_stall(part).with_corrupt(part);
            for kind in [OpKind::Read, OpKind::Write] {
                let fates: Vec<_> = (0..4000).map(|i| fate(&o, kind, i)).collect();
                for count in [
                    fates.iter().filter(|f| f.is_lost).count(),
                    fates.iter().filter(|f| f.stalls).count(),
                    fates.iter().filter(|f| f.corrupts.is_some()).count(),
                ] {
                    // Six standard deviations of a fair draw.
                    let slack = 6.0 * (part * (1.0 - part) / 4000.0).sqrt() + 1e-9;
                    prop_assert!((count as f64 / 4000.0 - part).abs() <= slack, "{count} of 4000 for {part}");
                }
            }
        }
    }

    #[test]
    fn faults_are_independent_of_each_other() {
        let all = Options::default().with_seed(7).with_loss(0.5).with_dup(0.5).with_stall(0.5);
        let one = Options::default().with_seed(7).with_dup(0.5);
        let mut both = 0;
        for i in 0..4000 {
            let f = fate(&all, OpKind::Write, i);
            // Another option changes nothing about this one.
            assert_eq!(f.is_doubled, fate(&one, OpKind::Write, i).is_doubled);
            both += u32::from(f.is_lost && f.is_doubled && f.stalls);
        }
        assert!((400..600).contains(&both), "{both} of 4000 have all three, where an eighth should");
    }

    #[test]
    fn all_or_none_is_meant_literally() {
        let ms = Duration::from_millis;
        let o = Options::default()
            .with_loss(1.0)
            .with_error(Some("reset".into()))
            .with_delay(vec![ms(5), ms(20)])
            .with_after(3)
            .with_on(vec!["write".into()]);
        for i in 0..3 {
            assert_eq!(fate(&o, OpKind::Write, i), Fate::default());
        }
        for i in 3..500 {
            let f = fate(&o, OpKind::Write, i);
            assert!(f.is_lost && f.error == Some(ErrorKind::Reset) && (ms(5)..=ms(20)).contains(&f.delay));
            assert!(!f.is_doubled && !f.stalls && f.corrupts.is_none() && f.shortens.is_none());
            assert_eq!(fate(&o, OpKind::Read, i), Fate::default());
        }
    }
}
