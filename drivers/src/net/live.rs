//! Options that change while a socket is open, the same for handles and servers. Invariant: an option's new
//! value is remembered only when the system has taken it.

use std::sync::Arc;

use parking_lot::Mutex;
use xio_core::attr::{Attr, check_value};
use xio_core::cntl::{Cntl, GetOption, SetOption};
use xio_core::io::{RuntimeOption, Sock};
use xio_core::schema::OptionSpec;
use xio_core::{Error, ErrorKind};

/// Options that a driver over sockets lets change.
pub(crate) trait LiveOptions: Attr + Clone {
    /// All there are.
    const ALL: &'static [OptionSpec];

    /// What to tell the socket; `None` for an option that may not change.
    fn runtime(&self, name: &str) -> Option<RuntimeOption>;
}

/// The options of a level as they are now.
pub(crate) type Live<O> = Arc<Mutex<O>>;

/// Answers `GetOption` and `SetOption` where the option is one of the driver's.
pub(crate) fn option<O: LiveOptions>(options: &Live<O>, sock: Option<&Sock>, c: &mut Cntl<'_>) -> Result<(), Error> {
    if let Some(GetOption(name)) = c.command()
        && O::ALL.iter().any(|s| s.name == name)
    {
        return c.reply::<GetOption>(options.lock().value(name));
    }
    let Some(SetOption(name, value)) = c.command() else { return Err(c.unsupported()) };
    let Some(spec) = O::ALL.iter().find(|s| s.name == name) else { return Err(c.unsupported()) };
    check_value(spec, value)?;
    let mut changed = options.lock().clone();
    changed.set(name, value.clone())?;
    changed.check()?;
    let Some(option) = changed.runtime(name) else {
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
pub(crate) fn not_open() -> Error {
    Error::new(ErrorKind::Closed).detail("the level has no socket: it was not opened, or it is closed")
}
