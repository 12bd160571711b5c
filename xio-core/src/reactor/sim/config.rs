//! How a simulated network behaves from the start. Invariant: everything here is data; two
//! simulations with equal seed and config run alike.

use std::time::Duration;

/// The behaviour of a simulated network. Faults that come and go are methods of
/// [`Sim`](super::Sim).
///
/// ```
/// use std::time::Duration;
/// use xio_core::reactor::{Sim, SimConfig};
/// let sim = Sim::with_config(7, SimConfig::default().with_latency(Duration::ZERO, Duration::from_millis(3)));
/// assert_eq!(sim.time(), xio_core::time::Time::ZERO);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SimConfig {
    /// Least and most time that anything is on its way in one direction.
    pub latency: (Duration, Duration),
    /// Bytes of one direction of a connection that may be on their way or unread; then sends wait.
    pub buffer: usize,
    /// Probability, 0 to 1, that a transfer moves only a random part of what it could.
    pub short: f64,
    /// Every transfer moves one byte.
    pub one_byte: bool,
    /// Probability, 0 to under 1, that a transfer which could move bytes says `WouldBlock` first.
    pub spurious: f64,
    /// Probability, 0 to 1, that a datagram is lost on its way.
    pub loss: f64,
    /// Probability, 0 to 1, that a datagram arrives twice.
    pub duplicates: f64,
    /// Probability, 0 to 1, that a datagram may overtake those sent before it.
    pub reorder: f64,
    /// Probability, 0 to 1, that the end of a datagram is cut off where it is received; its real length is
    /// told.
    pub cut: f64,
    /// Turns in a row without anything to wait for after which the simulation is stuck. The second
    /// half of them sleeps a little in real time, for threads outside.
    pub idle_turns: u32,
    /// Virtual time at which the simulation ends: whatever still runs then never comes to rest.
    pub horizon: Duration,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(100), Duration::from_millis(1)),
            buffer: 64 * 1024,
            short: 0.5,
            one_byte: false,
            spurious: 0.1,
            loss: 0.0,
            duplicates: 0.0,
            reorder: 0.0,
            cut: 0.0,
            idle_turns: 2000,
            horizon: Duration::from_secs(24 * 3600),
        }
    }
}

impl SimConfig {
    /// A network without surprises: fixed latency, transfers as large as they can be.
    pub fn calm() -> Self {
        let latency = Duration::from_millis(1);
        Self { latency: (latency, latency), short: 0.0, spurious: 0.0, ..Self::default() }
    }

    /// Sets the least and most time on the way.
    #[must_use]
    pub fn with_latency(mut self, least: Duration, most: Duration) -> Self {
        self.latency = (least, most.max(least));
        self
    }

    /// Sets the bytes one direction of a connection holds, at least 1.
    #[must_use]
    pub fn with_buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes.max(1);
        self
    }

    /// Sets how often transfers are short.
    #[must_use]
    pub fn with_short(mut self, probability: f64) -> Self {
        self.short = probability;
        self
    }

    /// Has every transfer move one byte.
    #[must_use]
    pub fn with_one_byte(mut self) -> Self {
        self.one_byte = true;
        self
    }

    /// Sets how often transfers say `WouldBlock` without need; at most 0.9, or nothing would move.
    #[must_use]
    pub fn with_spurious(mut self, probability: f64) -> Self {
        self.spurious = probability.min(0.9);
        self
    }

    /// Sets how often datagrams are lost, arrive twice, and overtake others. Without this they do neither:
    /// as on a short wire, though nobody is promised that.
    #[must_use]
    pub fn with_datagrams(mut self, loss: f64, duplicates: f64, reorder: f64) -> Self {
        (self.loss, self.duplicates, self.reorder) = (loss, duplicates, reorder);
        self
    }

    /// Sets how often the end of a datagram is cut off.
    #[must_use]
    pub fn with_cut(mut self, probability: f64) -> Self {
        self.cut = probability;
        self
    }

    /// Sets after how many idle turns the simulation is stuck.
    #[must_use]
    pub fn with_idle_turns(mut self, turns: u32) -> Self {
        self.idle_turns = turns;
        self
    }

    /// Sets the virtual time at which the simulation ends.
    #[must_use]
    pub fn with_horizon(mut self, horizon: Duration) -> Self {
        self.horizon = horizon;
        self
    }
}
