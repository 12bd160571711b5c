//! `xio cat`: one connection, stdin out, what comes to stdout.

use std::time::{Duration, Instant};

use serde_json::json;
use xio_stacks::core::schema::{Raw, Value, ValueKind, duration_text};
use xio_stacks::{Engine, Error, ErrorKind};

use crate::exit::{Failure, Outcome, say};
use crate::interrupt;
use crate::relay::{self, Input, Moved, abort};
use crate::render::{Ui, bytes, time};
use crate::stats::Levels;
use crate::target::TargetArgs;

/// Connect: stdin goes out, what comes goes to stdout.
///
/// Both directions at once. The end of stdin ends this side (half close); cat ends when the peer
/// has ended. On a stack with messages each read of stdin, up to 64 KiB, is one message, and what
/// comes is written one message after the other.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Cat {
    #[command(flatten)]
    target: TargetArgs,
    /// Give up connecting after so long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    connect_timeout: Duration,
    /// At the end, say on stderr what each level has seen
    #[arg(long)]
    stats: bool,
    /// With --stats: as one JSON object
    #[arg(long, requires = "stats")]
    json: bool,
}

const HELP: &str = "\
Examples:
  xio cat tcp example.org:80 <request
  xio cat 'frame/tcp @ 127.0.0.1:7000' --stats
  tar c . | xio cat 'queue(early)/tcp' backup:7000

The other end: xio listen frame/tcp 127.0.0.1:7000";

impl Cat {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        let target = self.target.bind(ui)?;
        if !target.stack.caps().connects {
            return Err(Failure::Usage(format!("the stack `{}` cannot connect", target.spec)));
        }
        target.has_contact("cat")?;
        let engine = Engine::new()?;
        interrupt::watch()?;
        let to = target.contact.to_string();
        let mut open = engine.open(&target.stack, target.contact).deadline(self.connect_timeout);
        if self.stats {
            open = open.with_stats();
        }
        let handle = open.wait().map_err(|e| late(e, &to, self.connect_timeout))?;
        let theirs = handle.clone();
        interrupt::on_signal(move || abort(&theirs));
        let start = Instant::now();
        let moved = Moved::default();
        let end = relay::relay(&handle, &Input::new()?, &mut relay::stdout()?, &moved);
        if self.stats {
            say(&summary(ui, &moved, start.elapsed(), &Levels::of(&handle), self.json));
        }
        end
    }
}

/// An open that took too long: where to, for no level may have come to say it, and what may help.
fn late(e: Error, to: &str, limit: Duration) -> Error {
    match e.kind() {
        ErrorKind::TimedOut if e.what().is_empty() => {
            let limit = duration_text(limit);
            e.detail(format!("`{to}` did not answer within {limit}; --connect-timeout gives it longer"))
        }
        _ => e,
    }
}

/// What `--stats` says.
pub(crate) fn summary(ui: &Ui, moved: &Moved, took: Duration, levels: &Levels, as_json: bool) -> String {
    if as_json {
        let (sent, received) = (moved.sent(), moved.received());
        return json!({ "sent": sent, "received": received, "seconds": took.as_secs_f64(), "levels": levels.json() })
            .to_string();
    }
    let (sent, received) = (bytes(moved.sent() as f64), bytes(moved.received() as f64));
    let table = levels.table("", ui.err);
    format!("sent {sent}, received {received} in {}\n{}", time(took), table.trim_end())
}

/// A span of time, written as in a spec.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match ValueKind::ANY_DURATION.parse(&Raw::Bare(text)) {
        Ok(Value::Duration(d)) if !d.is_zero() => Ok(d),
        Ok(_) => Err("it must be longer than 0".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// A size, written as in a spec; bare digits are bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    if let Ok(n) = text.parse() {
        return Ok(n);
    }
    match ValueKind::ANY_SIZE.parse(&Raw::Bare(text)) {
        Ok(Value::Size(n)) => Ok(n),
        Ok(other) => Err(format!("`{other}` is no size")),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_that_took_too_long_says_where_to_and_how_long() {
        let limit = Duration::from_millis(300);
        let e = late(Error::new(ErrorKind::TimedOut), "10.0.0.1:9", limit);
        let text = "timed out: `10.0.0.1:9` did not answer within 300ms; --connect-timeout gives it longer";
        assert_eq!(e.to_string(), text);
        // A level that said more is not talked over.
        let own = Error::new(ErrorKind::TimedOut).detail("no answer from [::1]:9");
        assert_eq!(late(own, "svc:9", limit).what(), "no answer from [::1]:9");
    }
}
