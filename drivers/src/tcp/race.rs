//! Opening a name: look it up, then race its addresses ("happy eyeballs", RFC 8305). Invariant: the
//! open op is held from the beginning and answered once, with the first connection, or with the last
//! error when every address failed; the attempts that lost are cancelled and their sockets closed.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use xio_core::cx::Timer;
use xio_core::io::{Connected, Io, IoDone};
use xio_core::level::Reason;
use xio_core::op::{OpId, Open};
use xio_core::{Cx, Error, ErrorKind, Held};

use super::Options;
use crate::net::{HostPort, MAX_ADDRESSES, unresolved};

/// Time an attempt has before the next one starts (RFC 8305 §5, "Connection Attempt Delay").
pub(super) const DELAY: Duration = Duration::from_millis(250);
/// What a refusal means.
pub(super) const NOBODY: &str = ": nobody listens there";

/// A race under way.
pub(super) struct Race {
    held: Held<Open>,
    to: HostPort,
    lookup: Option<(u32, OpId)>,
    waiting: VecDeque<SocketAddr>,
    running: Vec<(u32, OpId, SocketAddr)>,
    failed: Vec<(SocketAddr, ErrorKind)>,
    last: Option<Error>,
    timer: Option<Timer>,
}

/// What a step of the race came to.
pub(super) enum Outcome {
    /// Not over.
    Running,
    /// This connection won; the op is to be finished with it.
    Won(Held<Open>, Box<Connected>),
    /// Nothing more to try; the op is to be finished with the error.
    Lost(Held<Open>, Error),
}

impl Race {
    /// Looks `host` up. `tag` names the request; tags of one level are never used twice in a row.
    pub(super) fn begin(cx: &mut Cx<'_>, held: Held<Open>, to: HostPort, host: &str, port: u16, tag: u32) -> Self {
        let lookup = cx.io(Io::Resolve { host: host.into(), port }, tag);
        Self {
            held,
            to,
            lookup: Some((tag, lookup)),
            waiting: VecDeque::new(),
            running: Vec::new(),
            failed: Vec::new(),
            last: None,
            timer: None,
        }
    }

    /// Whether this is the op it works for.
    pub(super) fn is_for(&self, id: OpId) -> bool {
        self.held.id() == id
    }

    /// A request is done.
    pub(super) fn done(
        mut self: Box<Self>,
        cx: &mut Cx<'_>,
        options: &Options,
        tag: u32,
        done: IoDone,
        next_tag: &mut u32,
    ) -> (Option<Box<Self>>, Outcome) {
        if self.lookup.as_ref().is_some_and(|(t, _)| *t == tag) {
            self.lookup = None;
            match done {
                IoDone::Addresses(list) => self.waiting = interleave(list),
                IoDone::Failed(e) => self.last = Some(unresolved(e)),
                _ => {}
            }
        } else {
            let Some(i) = self.running.iter().position(|(t, ..)| *t == tag) else {
                return (Some(self), Outcome::Running);
            };
            let (_, _, address) = self.running.swap_remove(i);
            match done {
                IoDone::Connected(c) => return (None, self.won(cx, c)),
                IoDone::Failed(e) => self.note(address, e.into()),
                _ => self.note(address, ErrorKind::Contract.into()),
            }
        }
        self.next(cx, options, next_tag)
    }

    /// Starts the next attempt; after an attempt failed, or had its time.
    pub(super) fn next(
        mut self: Box<Self>,
        cx: &mut Cx<'_>,
        options: &Options,
        next_tag: &mut u32,
    ) -> (Option<Box<Self>>, Outcome) {
        self.timer = None;
        while let Some(address) = self.waiting.pop_front() {
            match options.towards(address) {
                Err(e) => self.note(address, e),
                Ok(o) => {
                    *next_tag = next_tag.wrapping_add(1);
                    let op = cx.io(Io::Connect(Box::new((address, o))), *next_tag);
                    self.running.push((*next_tag, op, address));
                    break;
                }
            }
        }
        if !self.waiting.is_empty() {
            self.timer = Some(cx.after(DELAY, 0));
        }
        if self.running.is_empty() { (None, self.lost()) } else { (Some(self), Outcome::Running) }
    }

    /// The op is to stop.
    pub(super) fn stop(self, cx: &mut Cx<'_>, reason: Reason) {
        let kind = match reason {
            Reason::Cancelled => ErrorKind::Cancelled,
            Reason::TimedOut => ErrorKind::TimedOut,
        };
        let mut text = format!("`{}`: ", self.to);
        if self.lookup.is_some() {
            text.push_str("the name was being looked up");
        } else {
            let running: Vec<_> = self.running.iter().map(|(_, _, a)| a.to_string()).collect();
            let _ = write!(text, "no answer from {}{}", running.join(", "), self.failures("; failed: "));
        }
        for op in self.lookup.iter().map(|(_, op)| *op).chain(self.running.iter().map(|(_, op, _)| *op)) {
            cx.cancel(op);
        }
        cx.finish(self.held, Err(Error::new(kind).detail(text)));
    }

    fn won(self, cx: &mut Cx<'_>, c: Box<Connected>) -> Outcome {
        for (_, op, _) in &self.running {
            cx.cancel(*op);
        }
        Outcome::Won(self.held, c)
    }

    fn lost(self) -> Outcome {
        let text = match &self.failed[..] {
            [] if self.last.is_none() => format!("`{}`: the name has no address", self.to),
            [] => format!("`{}`", self.to),
            [(_, kind), rest @ ..] if rest.iter().all(|(_, k)| k == kind) => {
                let tried: Vec<_> = self.failed.iter().map(|(a, _)| a.to_string()).collect();
                let why = if *kind == ErrorKind::Refused { NOBODY } else { "" };
                format!("`{}` ({}){why}", self.to, tried.join(", "))
            }
            _ => format!("`{}`{}", self.to, self.failures(": ")),
        };
        let error = self.last.unwrap_or_else(|| Error::new(ErrorKind::Resolve));
        Outcome::Lost(self.held, error.detail(text))
    }

    fn note(&mut self, address: SocketAddr, e: Error) {
        self.failed.push((address, e.kind()));
        self.last = Some(e);
    }

    fn failures(&self, lead: &str) -> String {
        let list: Vec<_> = self.failed.iter().map(|(a, k)| format!("{a} ({})", k.text())).collect();
        if list.is_empty() { String::new() } else { format!("{lead}{}", list.join(", ")) }
    }
}

/// Alternates the families, beginning with that of the first address; each family keeps its order.
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut a, mut b): (VecDeque<_>, VecDeque<_>) = addresses.into_iter().partition(|x| x.is_ipv4() == first_is_v4);
    let mut out = VecDeque::new();
    while out.len() < MAX_ADDRESSES {
        let before = out.len();
        for x in a.pop_front().into_iter().chain(b.pop_front()) {
            if !out.contains(&x) {
                out.push_back(x);
            }
        }
        if out.len() == before && a.is_empty() && b.is_empty() {
            break;
        }
    }
    out.truncate(MAX_ADDRESSES);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_nothing_comes_twice() {
        let list = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let got = interleave(list(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "[::1]:1"]));
        assert_eq!(got, list(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        assert_eq!(interleave(list(&["1.1.1.1:1", "[::1]:1"])), list(&["1.1.1.1:1", "[::1]:1"]));
        assert!(interleave(Vec::new()).is_empty());
        let many: Vec<_> = (0..100u8).map(|i| SocketAddr::from(([10, 0, 0, i], 1))).collect();
        assert_eq!(interleave(many).len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_failed_lookup_keeps_its_cause() {
        let e = unresolved(std::io::Error::other("no such name"));
        assert_eq!(e.kind(), ErrorKind::Resolve);
        assert!(e.to_string().contains("no such name"));
        let e = unresolved(Error::new(ErrorKind::Cancelled).into());
        assert_eq!(e.kind(), ErrorKind::Cancelled);
    }
}
