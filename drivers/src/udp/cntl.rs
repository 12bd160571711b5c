//! The commands of `udp`: its counts, that a peer is not forged; and which of its options may change while a level
//! is open.

use xio_core::cntl::Command;
use xio_core::io::RuntimeOption;
use xio_core::schema::OptionSpec;

use super::Options;
use super::options::size;
use crate::net::{self, LiveOptions};

pub(super) use crate::net::{not_open, option};

/// Asks a server, or a handle it accepted, what the server has counted.
///
/// ```
/// use xio_core::cntl::Command;
/// assert_eq!(xio_drivers::udp::Counts::NAME, "Counts");
/// ```
#[derive(Clone, Debug)]
pub struct Counts;

impl Command for Counts {
    type Reply = Tally;
    const NAME: &'static str = "Counts";
}

/// What a server has seen since it began to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Links made.
    pub links: u64,
    /// Links that are open or wait now.
    pub live: u64,
    /// Bytes that wait in links which are not open; a short datagram counts 64.
    pub bytes: u64,
    /// Datagrams of new peers dropped because too many links wait or are open.
    pub refused: u64,
    /// Datagrams dropped because too much waits in a link that is not open.
    pub overflowed: u64,
    /// Links given up because nobody accepted and opened them in time, or their peer was silent.
    pub expired: u64,
}

/// Tells an accepted handle that its peer's address is not forged: it answered something that only it could
/// know. From then on there is no limit to what is sent to it.
#[derive(Clone, Debug)]
pub struct Validated;

impl Command for Validated {
    type Reply = ();
    const NAME: &'static str = "Validated";
}

/// The options of a level as they are now.
pub(super) type Live = net::Live<Options>;

impl LiveOptions for Options {
    const ALL: &'static [OptionSpec] = Self::SPECS;

    fn runtime(&self, name: &str) -> Option<RuntimeOption> {
        Some(match name {
            "sndbuf" => RuntimeOption::SendBuffer(size(self.sndbuf?)),
            "rcvbuf" => RuntimeOption::RecvBuffer(size(self.rcvbuf?)),
            "spin" => RuntimeOption::Spin(self.spin),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xio_core::attr::Size;

    #[test]
    fn exactly_the_runtime_options_may_change() {
        let all = Options::default().with_sndbuf(Some(Size(1))).with_rcvbuf(Some(Size(1)));
        for spec in Options::SPECS {
            assert_eq!(all.runtime(spec.name).is_some(), spec.runtime, "{}", spec.name);
        }
    }
}
