//! What can be set on a `trace` level. Which lines are wanted at run time is the subscriber's to say.

use xio_core::driver::{Intercepts, OpKind, Role};
use xio_core::schema::ValueKind;
use xio_core::{Error, ErrorKind};

/// All that can be logged.
const ALL: [&str; 11] =
    ["open", "close", "read", "write", "flush", "shutdown", "ready", "accept", "listen", "cntl", "event"];
const WORD: ValueKind = ValueKind::Enum(&ALL);

xio_core::options! {
    /// Options of the `trace` driver.
    pub struct Options for "trace" {
        /// How important the lines are: `error`, `warn`, `info`, `debug` or `trace`.
        level, with_level: String = String::from("debug"), ValueKind::Enum(&["error", "warn", "info", "debug", "trace"]);
        /// What the lines call this level, rather than its id.
        name, with_name: Option<String> = None, ValueKind::Text;
        /// What is logged: kinds of ops, commands (`cntl`), events.
        on, with_on: Vec<String> = ALL.map(String::from).to_vec(), ValueKind::List(&WORD);
        /// When ops are logged: on their way `down`, on their way `up`, or `both`.
        ways, with_ways: String = String::from("both"), ValueKind::Enum(&["down", "up", "both"]);
        /// Say how long each op was below: two looks at the clock.
        time, with_time: bool = false, ValueKind::Bool;
        check check;
    }
}

impl Options {
    pub(super) fn has(&self, word: &str) -> bool {
        self.on.iter().any(|w| w == word)
    }

    pub(super) fn logs_down(&self) -> bool {
        self.ways != "up"
    }

    pub(super) fn logs_up(&self) -> bool {
        self.ways != "down"
    }

    /// How important the lines are.
    pub(super) fn severity(&self) -> tracing::Level {
        match self.level.as_str() {
            "error" => tracing::Level::ERROR,
            "warn" => tracing::Level::WARN,
            "info" => tracing::Level::INFO,
            "trace" => tracing::Level::TRACE,
            _ => tracing::Level::DEBUG,
        }
    }

    /// What must be seen for it. A line on the way up says what was asked, too, so that way takes both.
    pub(super) fn intercepts(&self, role: Role) -> Intercepts {
        let handle = [
            (OpKind::Open, Intercepts::OPEN, Intercepts::OPEN_DONE),
            (OpKind::Close, Intercepts::CLOSE, Intercepts::CLOSE_DONE),
            (OpKind::Read, Intercepts::READ, Intercepts::READ_DONE),
            (OpKind::Write, Intercepts::WRITE, Intercepts::WRITE_DONE),
            (OpKind::Flush, Intercepts::FLUSH, Intercepts::FLUSH_DONE),
            (OpKind::Shutdown, Intercepts::SHUTDOWN, Intercepts::SHUTDOWN_DONE),
            (OpKind::Ready, Intercepts::READY, Intercepts::READY_DONE),
        ];
        let server = [
            (OpKind::Listen, Intercepts::LISTEN, Intercepts::LISTEN_DONE),
            (OpKind::Accept, Intercepts::ACCEPT, Intercepts::ACCEPT_DONE),
            (OpKind::Close, Intercepts::CLOSE, Intercepts::CLOSE_DONE),
        ];
        let kinds = if role == Role::Handle { &handle[..] } else { &server[..] };
        let free = Intercepts::CONCURRENT_READS | Intercepts::CONCURRENT_WRITES | Intercepts::BATCHES;
        let mut out = free | Intercepts::WORD;
        for (_, down, up) in kinds.iter().filter(|(kind, ..)| self.has(kind.name())) {
            out = out | *down;
            if self.logs_up() {
                out = out | *up;
            }
        }
        if self.has("event") {
            out = out | Intercepts::EVENT;
        }
        out
    }
}

fn check(o: &Options) -> Result<(), Error> {
    let wrong = |text: &'static str| Err(Error::new(ErrorKind::InvalidInput).detail(text));
    if o.on.is_empty() {
        return wrong("`on` names nothing, so nothing would be logged; write `on=[open, close]` or leave it out");
    }
    if o.time && !o.logs_up() {
        return wrong("`time` is known when an op comes up; write `ways=up` or leave `ways` out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xio_core::attr::Attr;

    #[test]
    fn what_would_log_nothing_is_refused() {
        Options::default().with_time(true).check().unwrap();
        let text = |o: Options| o.check().unwrap_err().to_string();
        assert!(text(Options::default().with_on(Vec::new())).contains("`on` names nothing"));
        assert!(text(Options::default().with_ways("down".into()).with_time(true)).contains("write `ways=up`"));
    }

    #[test]
    fn what_is_not_logged_is_not_intercepted() {
        for (role, kinds) in [
            (Role::Handle, ["open", "close", "read", "write", "flush", "shutdown", "ready"].as_slice()),
            (Role::Server, ["listen", "accept", "close"].as_slice()),
        ] {
            for ways in ["down", "up", "both"] {
                for word in ALL {
                    let o = Options::default().with_on(vec![word.into()]).with_ways(ways.into());
                    let i = o.intercepts(role);
                    for kind in OpKind::ALL {
                        let seen = kind.name() == word && kinds.contains(&word);
                        assert_eq!((i.down(kind), i.up(kind)), (seen, seen && ways != "down"), "{word} {ways} {kind}");
                    }
                    assert_eq!(i.contains(Intercepts::EVENT), word == "event");
                }
            }
        }
    }
}
