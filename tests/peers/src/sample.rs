//! One measurement of one contender, the CPU clocks behind it, and its line of JSON.
//!
//! Invariant: an op is a round trip in a ping-pong and a message in a stream, and CPU time is
//! that of *both* ends over the measured ops, warm-up excluded. The C programs in `globus-xio`
//! print the same fields with the same meaning.
//!
//! Does not: measure. [`crate::raw`] does, and so may anyone else, with the constructors here.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One measurement of one contender.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Wall time an op: a round trip, or a message of a stream.
    pub ns_per_op: f64,
    /// Payload bytes a second; a ping-pong counts one direction.
    pub bytes_per_s: f64,
    /// Median round trip in microseconds; none for a stream.
    pub p50_us: Option<f64>,
    /// 99th percentile of the round trips in microseconds; none for a stream.
    pub p99_us: Option<f64>,
    /// CPU time (user and system, both ends) an op.
    pub cpu_ns_per_op: f64,
}

impl Sample {
    /// A sample of a ping-pong, from its round trips in nanoseconds (sorted in place) and the
    /// CPU time of both ends.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there are no round trips.
    pub fn from_round_trips(size: usize, round_trips: &mut [u32], cpu: Duration) -> io::Result<Self> {
        if round_trips.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a ping-pong without round trips"));
        }
        round_trips.sort_unstable();
        let n = round_trips.len();
        let at = |percent: usize| f64::from(round_trips[(n * percent / 100).min(n - 1)]) / 1e3;
        let ns_per_op = round_trips.iter().map(|t| f64::from(*t)).sum::<f64>() / n as f64;
        Ok(Self {
            ns_per_op,
            bytes_per_s: size as f64 * 1e9 / ns_per_op,
            p50_us: Some(at(50)),
            p99_us: Some(at(99)),
            cpu_ns_per_op: cpu.as_nanos() as f64 / n as f64,
        })
    }

    /// A sample of a stream of `messages` messages of `size` bytes that took `wall`, from the
    /// first byte offered to the last byte received, and `cpu` on both ends together.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there are no messages or no time has passed.
    pub fn from_stream(size: usize, messages: usize, wall: Duration, cpu: Duration) -> io::Result<Self> {
        if messages == 0 || wall.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a stream without messages or duration"));
        }
        let ns_per_op = wall.as_nanos() as f64 / messages as f64;
        Ok(Self {
            ns_per_op,
            bytes_per_s: size as f64 * 1e9 / ns_per_op,
            p50_us: None,
            p99_us: None,
            cpu_ns_per_op: cpu.as_nanos() as f64 / messages as f64,
        })
    }

    /// One line of JSON (no newline): `contender`, `mode` and `size` as given, then the fields
    /// of this sample. Names are written as they are: keep quotes and backslashes out of them.
    pub fn to_json(&self, contender: &str, mode: &str, size: usize) -> String {
        let mut line = format!("{{\"contender\":\"{contender}\",\"mode\":\"{mode}\",\"size\":{size}");
        for (key, value) in [
            ("ns_per_op", Some(self.ns_per_op)),
            ("bytes_per_s", Some(self.bytes_per_s)),
            ("cpu_ns_per_op", Some(self.cpu_ns_per_op)),
            ("p50_us", self.p50_us),
            ("p99_us", self.p99_us),
        ] {
            // Writing to a String cannot fail.
            let _ = match value {
                Some(v) => write!(line, ",\"{key}\":{v:.2}"),
                None => write!(line, ",\"{key}\":null"),
            };
        }
        line.push('}');
        line
    }

    /// The sample in a line as [`Sample::to_json`] and the C programs write it. Reads flat
    /// objects only, whose strings hold no commas, and ignores the fields it does not know.
    ///
    /// # Errors
    ///
    /// `InvalidData` when a field is absent or is no number.
    pub fn from_json(line: &str) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what} in `{}`", line.trim()));
        let body = line.trim().strip_prefix('{').and_then(|l| l.strip_suffix('}')).ok_or_else(|| bad("no object"))?;
        let field = |key: &str| -> io::Result<Option<f64>> {
            let value = body
                .split(',')
                .filter_map(|pair| pair.split_once(':'))
                .find(|(k, _)| k.trim().trim_matches('"') == key)
                .map(|(_, v)| v.trim())
                .ok_or_else(|| bad(&format!("no {key}")))?;
            if value == "null" {
                return Ok(None);
            }
            value.parse().map(Some).map_err(|_| bad(&format!("{key} is no number")))
        };
        let number = |key: &str| field(key)?.ok_or_else(|| bad(&format!("{key} is null")));
        Ok(Self {
            ns_per_op: number("ns_per_op")?,
            bytes_per_s: number("bytes_per_s")?,
            cpu_ns_per_op: number("cpu_ns_per_op")?,
            p50_us: field("p50_us")?,
            p99_us: field("p99_us")?,
        })
    }
}

/// CPU time (user and system) the calling thread has used so far.
pub fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// CPU time (user and system) all threads of this process have used so far.
pub fn process_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    // CPU clocks never run backwards below zero, so the conversion holds.
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_rates() {
        let mut trips: Vec<u32> = (1..=100).rev().map(|i| i * 1000).collect();
        let s = Sample::from_round_trips(64, &mut trips, Duration::from_micros(200)).unwrap();
        assert_eq!((s.p50_us, s.p99_us), (Some(51.0), Some(100.0)));
        assert_eq!((s.ns_per_op, s.cpu_ns_per_op), (50_500.0, 2000.0));
        let s = Sample::from_stream(1000, 10, Duration::from_micros(10), Duration::from_micros(20)).unwrap();
        assert_eq!((s.ns_per_op, s.bytes_per_s, s.cpu_ns_per_op), (1000.0, 1e9, 2000.0));
        assert!(Sample::from_round_trips(64, &mut [], Duration::ZERO).is_err());
        assert!(Sample::from_stream(64, 0, Duration::ZERO, Duration::ZERO).is_err());
    }

    #[test]
    fn json_round_trips() {
        let s = Sample { ns_per_op: 1.5, bytes_per_s: 2.25, p50_us: Some(3.5), p99_us: None, cpu_ns_per_op: 4.0 };
        let line = s.to_json("raw", "pingpong", 64);
        assert_eq!(
            line,
            r#"{"contender":"raw","mode":"pingpong","size":64,"ns_per_op":1.50,"bytes_per_s":2.25,"cpu_ns_per_op":4.00,"p50_us":3.50,"p99_us":null}"#
        );
        assert_eq!(Sample::from_json(&line).unwrap(), s);
        for bad in ["", "SKIP: absent", "{}", &line.replace("1.50", "x"), &line.replace("1.50", "null")] {
            assert_eq!(Sample::from_json(bad).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad}");
        }
    }
}
