//! The commands of `udp`: its counts, that a peer is not forged, and options that may change. Invariant: an
//! option's new value is remembered only when the system has taken it.

use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::attr::{Attr, check_value};
use xio_core::cntl::{Cntl, Command, GetOption, SetOption};
use xio_core::io::{RuntimeOption, Sock};
use xio_core::{Error, ErrorKind};

use super::Options;
use super::options::size;

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
pub(super) type Live = Arc<Mutex<Options>>;

/// Answers `GetOption` and `SetOption` where the option is one of `udp`.
pub(super) fn option(options: &Live, sock: Option<&Sock>, c: &mut Cntl<'_>) -> Result<(), Error> {
    if let Some(GetOption(name)) = c.command()
        && Options::SPECS.iter().any(|s| s.name == name)
    {
        return c.reply::<GetOption>(options.lock().value(name));
    }
    let Some(SetOption(name, value)) = c.command() else { return Err(c.unsupported()) };
    let Some(spec) = Options::SPECS.iter().find(|s| s.name == name) else { return Err(c.unsupported()) };
    check_value(spec, value)?;
    let mut changed = options.lock().clone();
    changed.set(name, value.clone())?;
    changed.check()?;
    let Some(option) = runtime(name, &changed) else {
        let text = format!("`{name}` cannot change while the level is open; set it in the stack and open again");
        return Err(Error::new(ErrorKind::InvalidInput).detail(text));
    };
    let sock = sock.ok_or_else(not_open)?.clone();
    let (options, name, value) = (options.clone(), name.clone(), value.clone());
    c.reply_later::<SetOption>(move || {
        sock.socket().set_option(option)?;
        options.lock().set(&name, value)
    })
}

/// The error of a level that has no socket.
#[cold]
pub(super) fn not_open() -> Error {
    Error::new(ErrorKind::Closed).detail("the level has no socket: it was not opened, or it is closed")
}

/// What to tell the socket; `None` for an option that may not change.
fn runtime(name: &str, o: &Options) -> Option<RuntimeOption> {
    Some(match name {
        "sndbuf" => RuntimeOption::SendBuffer(size(o.sndbuf?)),
        "rcvbuf" => RuntimeOption::RecvBuffer(size(o.rcvbuf?)),
        "spin" => RuntimeOption::Spin(o.spin),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use xio_core::attr::Size;

    #[test]
    fn exactly_the_runtime_options_may_change() {
        let all = Options::default().with_sndbuf(Some(Size(1))).with_rcvbuf(Some(Size(1)));
        for spec in Options::SPECS {
            assert_eq!(runtime(spec.name, &all).is_some(), spec.runtime, "{}", spec.name);
        }
    }
}
