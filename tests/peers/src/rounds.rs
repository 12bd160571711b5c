//! Interleaved rounds and the ratios of their pairs.
//!
//! Invariant: a ratio is taken between samples of the *same* round, never between medians of
//! different ones, so that whatever loads the machine for a second weighs on both sides.
//!
//! A bar is missed only when even the best third of the rounds misses it: a busy machine makes
//! good code look bad now and then, but does not make bad code look good for a third of the time.
//!
//! Does not: discard outliers, or know what a sample is.

use std::fmt;
use std::io;

/// Something that can be measured again and again.
pub struct Contender<'a, S> {
    name: String,
    run: Box<dyn FnMut() -> io::Result<S> + 'a>,
}

impl<'a, S> Contender<'a, S> {
    /// A contender called `name`; each call of `run` takes one sample.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> io::Result<S> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// All samples of one contender, in the order of the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<S> {
    /// The contender's name.
    pub name: String,
    /// One sample a round.
    pub samples: Vec<S>,
}

impl<S> Outcome<S> {
    /// One figure of every sample, in the order of the rounds.
    pub fn figures(&self, figure: impl Fn(&S) -> f64) -> Vec<f64> {
        self.samples.iter().map(figure).collect()
    }
}

/// Takes one sample of each contender a round: `warm` rounds that are forgotten, then `rounds`
/// that are kept. Every round starts with another contender, so that none always follows the same one.
///
/// # Errors
///
/// The first error of a contender, with its name; its kind is kept.
pub fn interleave<S>(rounds: usize, warm: usize, contenders: &mut [Contender<'_, S>]) -> io::Result<Vec<Outcome<S>>> {
    let mut outcomes: Vec<Outcome<S>> =
        contenders.iter().map(|c| Outcome { name: c.name.clone(), samples: Vec::with_capacity(rounds) }).collect();
    let n = contenders.len();
    for round in 0..warm + rounds {
        for i in (0..n).map(|i| (i + round) % n) {
            let c = &mut contenders[i];
            let sample = (c.run)().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", c.name)))?;
            if round >= warm {
                outcomes[i].samples.push(sample);
            }
        }
    }
    Ok(outcomes)
}

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Time: less is better, a bar is an upper limit.
    Lower,
    /// Rate: more is better, a bar is a lower limit.
    Higher,
}

/// The ratios of a subject's figures to a baseline's, round by round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Median over the rounds.
    pub median: f64,
    /// The least ratio of any round.
    pub min: f64,
    /// The greatest ratio of any round.
    pub max: f64,
    /// Median of the best third of the rounds (a third rounded up): what a bar is held against.
    pub best_third: f64,
    /// How many rounds there were.
    pub rounds: usize,
    /// Which way the figures are good.
    pub better: Better,
}

impl Ratio {
    /// `subject / baseline` of every round. Both in the order of the rounds.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there are no rounds, the lengths differ, or a ratio is not finite.
    pub fn of(subject: &[f64], baseline: &[f64], better: Better) -> io::Result<Self> {
        let bad = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if subject.is_empty() || subject.len() != baseline.len() {
            return bad(format!("{} rounds cannot be paired with {}", subject.len(), baseline.len()));
        }
        let mut ratios: Vec<f64> = subject.iter().zip(baseline).map(|(s, b)| s / b).collect();
        if let Some(r) = ratios.iter().find(|r| !r.is_finite()) {
            return bad(format!("a round's ratio is {r}"));
        }
        ratios.sort_by(f64::total_cmp);
        let third = ratios.len().div_ceil(3);
        let best = match better {
            Better::Lower => &ratios[..third],
            Better::Higher => &ratios[ratios.len() - third..],
        };
        Ok(Self {
            median: median_of_sorted(&ratios),
            min: ratios[0],
            max: ratios[ratios.len() - 1],
            best_third: median_of_sorted(best),
            rounds: ratios.len(),
            better,
        })
    }

    /// Whether the best third of the rounds meets `bar`, which itself counts as met.
    pub fn meets(&self, bar: f64) -> bool {
        match self.better {
            Better::Lower => self.best_third <= bar,
            Better::Higher => self.best_third >= bar,
        }
    }
}

/// `1.07× (0.98..1.31, best third 1.01, 9 rounds)`.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3}× ({:.3}..{:.3}, best third {:.3}, {} rounds)",
            self.median, self.min, self.max, self.best_third, self.rounds
        )
    }
}

/// [`Ratio::of`], its best third alone.
///
/// # Errors
///
/// Those of [`Ratio::of`].
pub fn best_third_ratio(subject: &[f64], baseline: &[f64], better: Better) -> io::Result<f64> {
    Ok(Ratio::of(subject, baseline, better)?.best_third)
}

/// The median; of an even number, the mean of the middle two. None of nothing.
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| median_of_sorted(&sorted))
}

/// The slope of the least-squares line through `(x, y)` points: the cost of one more level,
/// from the cost of stacks of several heights. None when all `x` are equal or there is no point.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let (sx, sy) = points.iter().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mx, my) = (sx / n, sy / n);
    let (num, den) =
        points.iter().fold((0.0, 0.0), |(num, den), (x, y)| (num + (x - mx) * (y - my), den + (x - mx) * (x - mx)));
    (den > 0.0).then(|| num / den)
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    let mid = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[mid] } else { (sorted[mid - 1] + sorted[mid]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn rounds_interleave_and_rotate() {
        let log = RefCell::new(String::new());
        let contender = |name: &'static str| {
            let (log, mut calls) = (&log, 0);
            Contender::new(name, move || {
                log.borrow_mut().push_str(name);
                calls += 1;
                Ok(calls)
            })
        };
        let out = interleave(3, 1, &mut [contender("a"), contender("b"), contender("c")]).unwrap();
        assert_eq!(*log.borrow(), "abcbcacababc");
        for o in &out {
            assert_eq!(o.samples, [2, 3, 4], "the warm round is forgotten: {}", o.name);
        }
        assert_eq!(out[1].name, "b");
        assert_eq!(out[0].figures(|s| f64::from(*s) / 2.0), [1.0, 1.5, 2.0]);
        assert!(interleave::<f64>(3, 1, &mut []).unwrap().is_empty());
    }

    #[test]
    fn an_error_names_its_contender() {
        let mut c = [Contender::new("x", || Err::<(), _>(io::Error::new(io::ErrorKind::TimedOut, "late")))];
        let e = interleave(1, 0, &mut c).unwrap_err();
        assert_eq!((e.kind(), e.to_string().as_str()), (io::ErrorKind::TimedOut, "x: late"));
    }

    #[test]
    fn ratios_pair_rounds() {
        // The second round was slow for both: its pair is as good as the others.
        let r = Ratio::of(&[2.0, 200.0, 3.0], &[1.0, 100.0, 1.0], Better::Lower).unwrap();
        assert_eq!((r.median, r.min, r.max, r.best_third, r.rounds), (2.0, 2.0, 3.0, 2.0, 3));
    }

    #[test]
    fn best_third_follows_the_direction() {
        let subject: Vec<f64> = [9, 1, 8, 2, 7, 3, 6, 4, 5].map(f64::from).to_vec();
        let ones = [1.0; 9];
        assert_eq!(best_third_ratio(&subject, &ones, Better::Lower).unwrap(), 2.0);
        assert_eq!(best_third_ratio(&subject, &ones, Better::Higher).unwrap(), 8.0);
        let lower = Ratio::of(&subject, &ones, Better::Lower).unwrap();
        assert_eq!(lower.median, 5.0);
        assert!(lower.meets(2.0) && !lower.meets(1.9));
        let higher = Ratio::of(&subject, &ones, Better::Higher).unwrap();
        assert!(higher.meets(8.0) && !higher.meets(8.1));
        // A third of 4 rounds is 2 of them, of 1 round is that one.
        assert_eq!(best_third_ratio(&[4.0, 3.0, 2.0, 1.0], &ones[..4], Better::Lower).unwrap(), 1.5);
        assert_eq!(best_third_ratio(&[4.0], &ones[..1], Better::Higher).unwrap(), 4.0);
    }

    #[test]
    fn what_cannot_be_paired_is_refused() {
        for (s, b) in
            [(&[][..], &[][..]), (&[1.0][..], &[1.0, 2.0][..]), (&[1.0][..], &[0.0][..]), (&[f64::NAN][..], &[1.0][..])]
        {
            assert_eq!(Ratio::of(s, b, Better::Lower).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn medians_and_slopes() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 8.0), (4.0, 17.0)]), Some(3.0));
        assert_eq!(slope(&[(1.0, 5.0), (1.0, 8.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn ratio_prints() {
        let r = Ratio::of(&[1.0, 2.0, 3.0], &[1.0; 3], Better::Lower).unwrap();
        assert_eq!(r.to_string(), "2.000× (1.000..3.000, best third 1.000, 3 rounds)");
    }
}
