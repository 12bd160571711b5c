//! What an error says: where, which op, what went wrong, and what to do. Invariant: nothing stands
//! twice, and a number of the operating system stays in the text.

use std::fmt;
use std::io;

use super::{Error, ErrorKind, Inner, MAX_TEXT, Place};

impl fmt::Display for Error {
    /// `level (driver) in `stack`: op: what went wrong (os error n): which one, and what to do`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        self.0.say(&mut parts, None);
        f.write_str(clip(&parts.join(": ")))
    }
}

impl Inner {
    /// Adds the parts of the text. `above` is the error this one caused: what that has said is not
    /// said again.
    fn say(&self, parts: &mut Vec<String>, above: Option<&Self>) {
        if let Some(p) = self.place.as_ref().filter(|p| above.is_none_or(|a| a.place.as_ref() != Some(*p))) {
            parts.push(p.text(above.and_then(|a| a.place.as_ref())));
        }
        if let Some(op) = self.op.filter(|op| above.is_none_or(|a| a.op != Some(*op))) {
            parts.push(op.name().into());
        }
        let below = self.source.as_ref().and_then(|s| s.downcast_ref::<Error>());
        let cause = match (&self.source, below) {
            (Some(s), None) => cause(&**s, self.kind).filter(|c| *c != self.detail && c != self.kind.text()),
            _ => None,
        };
        let os = match below {
            Some(_) => None,
            None => self.source.as_ref().and_then(|s| os_error(&**s)),
        };
        // "I/O error" says nothing beside what the system says.
        let (kind, cause) = match (self.kind, cause) {
            (ErrorKind::Truncated { len }, c) => {
                (Some(format!("the message has {len} bytes and did not fit the buffer")), c)
            }
            (ErrorKind::Io, Some(c)) => (Some(c), None),
            (ErrorKind::Io, None) if below.is_some() => (None, None),
            (k, c) => (Some(k.text().to_owned()), c),
        };
        // The error below says its kind itself, with its number.
        if let Some(kind) = kind.filter(|_| below.is_none_or(|b| b.0.kind != self.kind)) {
            parts.push(if let Some(n) = os { format!("{kind} (os error {n})") } else { kind });
        }
        parts.extend((!self.detail.is_empty()).then(|| self.detail.clone().into_owned()));
        parts.extend(cause);
        if let Some(below) = below {
            below.0.say(parts, Some(self));
        }
    }
}

impl Place {
    /// Which level; and of which stack, unless `above` has said so.
    fn text(&self, above: Option<&Self>) -> String {
        let mut text = self.level.to_string();
        if text != self.driver {
            text.push_str(&format!(" ({})", self.driver));
        }
        if *self.stack != *self.level && above.is_none_or(|a| a.stack != self.stack) {
            text.push_str(&format!(" in `{}`", self.stack));
        }
        text
    }
}

/// What a cause from outside says beyond its number and `kind`.
fn cause(source: &(dyn std::error::Error + Send + Sync + 'static), kind: ErrorKind) -> Option<String> {
    let text = source.to_string();
    let Some(io) = source.downcast_ref::<io::Error>() else { return Some(text) };
    match io.raw_os_error() {
        Some(n) if kind == ErrorKind::Io => Some(text.replace(&format!(" (os error {n})"), "")),
        Some(_) => None,
        // One without words of its own.
        None if io.get_ref().is_none() && kind != ErrorKind::Io => None,
        // The standard library's words for what the kind says.
        None => Some(text.replace("failed to lookup address information: ", "")),
    }
}

/// The number the operating system gave, wherever in the chain of causes it stands.
pub(super) fn os_error(source: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(source);
    while let Some(e) = next {
        if let Some(n) = e.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(n);
        }
        next = e.source();
    }
    None
}

/// The longest prefix of at most [`MAX_TEXT`] bytes that ends between two characters.
fn clip(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::OpKind;

    #[test]
    fn the_text_names_level_stack_and_op_and_is_clipped_between_characters() {
        let place = || Some(Place { level: "tx".into(), driver: "tcp", stack: "queue/tcp".into() });
        let e = Error::new(ErrorKind::Reset).at(OpKind::Read, place);
        assert_eq!(e.to_string(), "tx (tcp) in `queue/tcp`: read: connection reset by the peer");
        let long = Error::new(ErrorKind::Io).detail("é".repeat(2000));
        assert!(long.to_string().len() <= MAX_TEXT);
    }

    #[test]
    fn nothing_is_said_twice_and_the_os_number_stays() {
        let os = |e: rustix::io::Errno| Error::from(io::Error::from_raw_os_error(e.raw_os_error()));
        let at = |level: &str, driver| Place { level: level.into(), driver, stack: "pick{a: tcp}".into() };
        let refused = os(rustix::io::Errno::CONNREFUSED).detail("`a:1`");
        assert_eq!(refused.to_string(), "connection refused (os error 111): `a:1`");
        // What has no word of its own is said in the system's.
        let odd = os(rustix::io::Errno::NODEV).detail("`device=x`");
        assert_eq!(odd.to_string(), "No such device (os error 19): `device=x`");
        // A level that reports an error of one below it.
        let low = refused.at(OpKind::Open, || Some(at("a.tcp", "tcp")));
        let high = Error::new(ErrorKind::Refused).detail("branch `a`").source_error(low);
        let high = high.at(OpKind::Open, || Some(at("pick", "pick")));
        let text = "pick in `pick{a: tcp}`: open: branch `a`: a.tcp (tcp): connection refused (os error 111): `a:1`";
        assert_eq!(high.to_string(), text);
        for e in [high.clone(), Error::from(io::Error::from(high))] {
            assert_eq!((e.raw_os_error(), e.to_string().as_str()), (Some(111), text));
        }
        // A cause that adds something, and one that does not.
        let lookup = io::Error::other("failed to lookup address information: Name or service not known");
        let e = Error::new(ErrorKind::Resolve).detail("`x`").source_error(Error::from(lookup));
        assert_eq!(e.to_string(), "the name could not be resolved: `x`: Name or service not known");
        let e = Error::new(ErrorKind::Protocol).detail("a bad tag").source_error(io::Error::other("a bad tag"));
        assert_eq!((e.to_string().as_str(), e.raw_os_error()), ("the peer broke the protocol: a bad tag", None));
        let e = Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(e.to_string(), "the peer no longer reads");
        assert_eq!(Error::new(ErrorKind::Io).to_string(), "I/O error");
    }
}
