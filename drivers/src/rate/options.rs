//! What can be set on a `rate` level.

use xio_core::attr::{Rate, Size};
use xio_core::schema::ValueKind;
use xio_core::{Error, ErrorKind};

/// A bucket without `burst` holds what flows in in a second divided by this.
const BURSTS: u64 = 10;

xio_core::options! {
    /// Options of the `rate` driver.
    pub struct Options for "rate" {
        /// Bytes a second, in each direction.
        limit, with_limit: Option<Rate> = None, ValueKind::Rate, runtime;
        /// Bytes a second for reads, rather than `limit`.
        read_limit, with_read_limit: Option<Rate> = None, ValueKind::Rate, runtime;
        /// Bytes a second for writes, rather than `limit`.
        write_limit, with_write_limit: Option<Rate> = None, ValueKind::Rate, runtime;
        /// Bytes that may pass at once after a rest; unset: what flows in in 100 ms.
        burst, with_burst: Option<Size> = None, ValueKind::Size { min: 1, max: 1 << 50 }, runtime;
        check check;
    }
}

impl Options {
    /// Limit and bucket of reads.
    pub(super) fn reads(&self) -> Option<(u64, u64)> {
        self.side(self.read_limit)
    }

    /// Limit and bucket of writes.
    pub(super) fn writes(&self) -> Option<(u64, u64)> {
        self.side(self.write_limit)
    }

    fn side(&self, own: Option<Rate>) -> Option<(u64, u64)> {
        let limit = own.or(self.limit)?.0;
        let burst = self.burst.map_or_else(|| (limit / BURSTS).max(1), |s| s.0);
        Some((limit, burst))
    }
}

fn check(o: &Options) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::new(ErrorKind::InvalidInput).detail(text));
    let limits = [("limit", o.limit), ("read_limit", o.read_limit), ("write_limit", o.write_limit)];
    if let Some((name, _)) = limits.iter().find(|(_, l)| *l == Some(Rate(0))) {
        return wrong(format!("with `{name}=0/s` nothing would ever pass; write at least `1B/s`, or leave it out"));
    }
    if o.burst.is_some() && limits.iter().all(|(_, l)| l.is_none()) {
        return wrong("`burst` does nothing without a limit; add `limit=1MB/s`".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xio_core::attr::Attr;

    #[test]
    fn each_direction_has_its_own_limit_or_the_common_one() {
        let o = Options::default();
        assert_eq!((o.reads(), o.writes()), (None, None));
        let o = o.with_limit(Some(Rate(2_000_000))).with_read_limit(Some(Rate(5)));
        assert_eq!((o.reads(), o.writes()), (Some((5, 1)), Some((2_000_000, 200_000))));
        let o = o.with_burst(Some(Size(7)));
        assert_eq!((o.reads(), o.writes()), (Some((5, 7)), Some((2_000_000, 7))));
        o.check().unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let text = |o: Options| o.check().unwrap_err().to_string();
        let zero = || Some(Rate(0));
        assert!(text(Options::default().with_limit(zero())).contains("with `limit=0/s` nothing would ever pass"));
        assert!(text(Options::default().with_read_limit(zero())).contains("`read_limit=0/s`"));
        assert!(text(Options::default().with_write_limit(zero())).contains("`write_limit=0/s`"));
        assert!(text(Options::default().with_burst(Some(Size(1)))).contains("add `limit=1MB/s`"));
    }
}
