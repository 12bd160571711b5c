//! Which options of `tcp` may change while a level is open, the same for handles and servers.

use xio_core::io::RuntimeOption;
use xio_core::schema::OptionSpec;

use super::Options;
use crate::net::{self, LiveOptions};

pub(super) use crate::net::{not_open, option};

/// The options of a level as they are now.
pub(super) type Live = net::Live<Options>;

impl LiveOptions for Options {
    const ALL: &'static [OptionSpec] = Self::SPECS;

    fn runtime(&self, name: &str) -> Option<RuntimeOption> {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Some(match name {
            "nodelay" => RuntimeOption::Nodelay(self.nodelay),
            "sndbuf" => RuntimeOption::SendBuffer(size(self.sndbuf?.0)),
            "rcvbuf" => RuntimeOption::RecvBuffer(size(self.rcvbuf?.0)),
            "notsent_lowat" => RuntimeOption::NotsentLowat(u32::try_from(self.notsent_lowat?.0).unwrap_or(u32::MAX)),
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
        let all =
            Options::default().with_sndbuf(Some(Size(1))).with_rcvbuf(Some(Size(1))).with_notsent_lowat(Some(Size(1)));
        for spec in Options::SPECS {
            assert_eq!(all.runtime(spec.name).is_some(), spec.runtime, "{}", spec.name);
        }
    }
}
