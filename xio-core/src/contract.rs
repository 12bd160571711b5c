//! The driver contract: the rules that a stack of levels keeps, numbered, each worded once. Trait
//! docs, the test kit (`xio-testkit`), fuzz oracles and messages name rules by these ids.
//! Invariant: an id never changes its meaning and is never used again. Nothing is checked here.
//!
//! # Who keeps a rule
//! Engine and driver keep the contract together. Some rules the types enforce: a double answer does
//! not compile. Many the engine keeps for every driver: waiting for enough bytes, the close barrier,
//! unwinding, deadlines. The rest is the driver's: not to lose a byte, not to hide an error, to let go
//! of what it was given. A rule says what is seen from outside, so that it can be tested on a driver
//! alone, on any stack, and on the engine.
//!
//! # Groups
//! | | about |
//! |---|---|
//! | A | the life of an op |
//! | B | open, unwinding, close |
//! | C | the data path |
//! | D | end of stream, half close |
//! | E | cancel, time, re-entrancy, threads |
//! | F | attrs and commands |
//! | G | servers and links |
//! | H | resources, errors, composition |
//!
//! # Where a rule applies
//! Everywhere, unless what the stack gives ([`Caps`](crate::caps::Caps)) rules it out: a stream has
//! no message borders to keep, a stack that does not accept has no server. "Not applicable" always
//! names the property that makes it so.
//!
//! ```
//! use xio_core::contract::{RULES, rule};
//! assert_eq!(RULES.len(), 79);
//! assert_eq!(rule("C15").unwrap().title, "one write, one message");
//! ```

use std::fmt;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Letter of the group and number in it: `A1`.
    pub id: &'static str,
    /// A few words, for lists.
    pub title: &'static str,
    /// What holds, in full.
    pub text: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.title)
    }
}

/// The rule of this id; letters in either case.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|r| r.id.eq_ignore_ascii_case(id))
}

macro_rules! rules {
    ($($id:literal $title:literal: $($text:literal)+;)+) => {
        &[$(Rule { id: $id, title: $title, text: concat!($($text),+) }),+]
    };
}

/// All rules, in the order of their ids.
pub static RULES: &[Rule; 79] = rules! {
    // ---- A: the life of an op --------------------------------------------------------------------
    "A1" "every op finishes exactly once":
        "An op that was accepted, a user's or a level's own, comes back to its owner exactly once: with its \
         result, with an error, or as cancelled. None is lost, none comes twice.";
    "A2" "one call, one answer":
        "A level answers each call with the one flow that the op in hand makes: passed, finished, failed, held, \
         given to the reactor. Two answers, none, or the answer of another op do not compile. An answer means what \
         it says: the end of a stream is `failed(Eof)` and never a success that moved nothing.";
    "A3" "an op belongs to a level only during a call":
        "Once answered, an op is out of the level's reach; only a token of `hold` stands for it. What comes back up \
         through a level is an op that went down through it, of the same kind, with the level's own word in it.";
    "A4" "a stale number harms nobody":
        "Numbers of ops carry a generation. A cancel, a token, a timer or a socket's event for an op that is gone \
         does nothing, also where its place has been taken by another op. Data that a driver offers to a token that \
         is gone comes back to the driver, and goes to the next reader.";
    "A5" "results rise as they were finished":
        "What a level sees coming up is what the level below finished, with its error, bytes and attrs; the levels \
         are passed upwards in the reverse of their order downwards. Only a level itself changes what it passes \
         on, and it reports success only for what was done.";
    "A6" "a dropped op is reported, not lost":
        "A token that is dropped fails its op with `Dropped` and the driver's name, at once. A driver that keeps \
         the contract never lets it come to that.";
    "A7" "a panic stays in its handle":
        "A panic in a level's method, in its drop, in work or in a callback ends the ops of that handle with \
         `Panicked` and makes the handle unusable. Other handles, the engine and the peer go on; no lock stays \
         taken. (Under `panic = \"abort\"` the process ends.)";
    "A8" "callbacks come once, and before that of the close":
        "The callback of an op runs exactly once, and before the callback of a close of the same handle.";
    "A9" "ops of drivers are ops":
        "An op that a level makes obeys A1 to A8 like a user's, and a close of that level waits for it.";
    "A10" "a level that only passes is not seen":
        "Putting a level that passes everything between any two levels changes no result, no order, no byte and no \
         kind of error; only time.";

    // ---- B: open, unwinding, close ---------------------------------------------------------------
    "B1" "a failed open closes exactly what was open":
        "An open that fails at a level closes the levels below it that were open, each once, along every path in \
         the reverse of the order in which they opened. The levels above see the failure and never a close. A close of an open handle \
         reaches every open level once, from the top down.";
    "B2" "the error of an open is that of the level that failed":
        "It has the kind and the name of the level that refused; what goes wrong while the rest is closed does not \
         take its place.";
    "B3" "nothing before the open, nothing after the close":
        "No read, write, flush, shutdown or wait for readiness enters a level before its open has finished or after \
         its close has begun.";
    "B4" "a close waits until all ops have ended":
        "Everything outstanding ends before the close does: in a graceful close reads as `Cancelled` and writes with \
         their results, in an abort all as `Cancelled` or with what had come, with `Keep` all with their results.";
    "B5" "after a close nothing is left":
        "When a close has finished no callback comes any more, every use of the handle is an error, the levels are \
         dropped, and so is every buffer that was given to them.";
    "B6" "closing twice or from anywhere is harmless":
        "A second close fails with `Closed`. A close while the open is under way gives the open up. A close may be \
         asked for in any callback of the same handle. None of this deadlocks or takes time.";
    "B7" "a close cannot be cancelled":
        "Cancelling a close, or dropping its future, lets it go on. Cancelling what the close has already ended does \
         nothing.";
    "B8" "a dropped handle closes itself":
        "When the last clone goes, reads are cancelled, writes still go out, callbacks come, and the stack closes in \
         good order by itself. Buffers come back only when the driver has given them up, and then all of them.";
    "B9" "an open can be given up at any moment":
        "A deadline or a dropped future ends an open whatever it waits for, unwound as in B1. A transport that \
         succeeds too late is closed, not leaked.";
    "B10" "a close does as asked, in bounded time":
        "A graceful close delivers what was written and then the end of the stream; an abort resets where the \
         transport can. A close that is not done by its deadline turns into an abort, and half a second later it is \
         forced.";
    "B11" "after a failed open the next one works":
        "A stack whose open failed can be opened again; nothing of the failure is left.";
    "B12" "an engine that stops ends everything":
        "A shutdown of the engine ends every op with `Stopped`, at once, also where a level holds ops and never \
         answers.";

    // ---- C: the data path ------------------------------------------------------------------------
    "C1" "what is read is what was written":
        "On a reliable stack the bytes of the reads are the bytes of the writes, all, once, in order, however either \
         side cuts them up.";
    "C2" "a read gets as much as it waits for":
        "A read of a stream succeeds only with at least `wait_for` bytes and never with more than it has room for; \
         with less it ends in an error that says why, beside the bytes. No bytes is a success only where none were \
         asked for.";
    "C3" "a read that can never be satisfied is refused":
        "On a stream a `wait_for` beyond the buffer's room is `InvalidInput` at once, with the buffer; it never \
         hangs.";
    "C4" "any list of pieces can be written":
        "No piece, empty pieces anywhere, pieces of one byte, more pieces than the system takes in one call, a loan \
         filled before or while other writes go: all the bytes go, in order.";
    "C5" "a read writes only where it says":
        "Bytes of the buffer before and behind those that a successful read reports are as they were, and none \
         changes after the read has ended.";
    "C6" "a write says how much went":
        "A write never reports more than it was given. One that ends early reports the bytes that are on their way, \
         so that on a stream writing the rest loses and doubles nothing; where a level made something else of \
         the bytes, so that no count would be true, nothing more can be written.";
    "C7" "written buffers come back unchanged":
        "A write gives its pieces back as they were given, on every outcome, but for a loan that has gone. A level that works in an owned buffer puts it right again on the way up.";
    "C8" "nothing can be read and written":
        "On a stream a read without room or with `wait_for` of 0, and a write of no bytes, end without waiting for \
         the peer and are no end of stream. On a stack with borders an empty write is an empty message.";
    "C9" "datagrams keep their borders":
        "One write is one datagram. A read too small for it ends as `Truncated` with the real length and the first \
         part; the rest is gone, and the next read gets the next datagram.";
    "C10" "reads end in the order they began":
        "Outstanding reads of a stream end in the order they were submitted, and the bytes are spread over them in \
         that order.";
    "C11" "a slow peer stops the writer":
        "Where the peer does not read, the bytes taken stay within the stated limits of levels and network; further \
         writes wait, and memory does not grow.";
    "C12" "a busy handle starves nobody":
        "However busy one handle is, others of the same engine go on after a bounded number of its ops (64 requests \
         or 1 MiB in one go).";
    "C13" "reading and writing do not wait for each other":
        "A write that waits does not stop reads, nor the other way round. Two ends that both write without reading \
         wait, and go on when they read; no level makes that a deadlock.";
    "C14" "cutting does not change results":
        "However small the parts in which the level below moves bytes, the ops above end with the same results.";
    "C15" "one write, one message":
        "On a stack of messages each write arrives as one message, each read gets one. A read too small for it ends \
         as `Truncated` with the real length and the first part; the next read gets the rest.";
    "C16" "a half-written message is never passed over":
        "A write of a message that is stopped past its commit point is completed, or nothing can be written after \
         it and the next write says so. The peer reads whole messages or an error, never a part as a message, and \
         a stopped write says how many bytes had gone.";

    // ---- D: end of stream, half close --------------------------------------------------------------
    "D1" "every read that waits sees the end":
        "At an end of stream all outstanding reads end, in order: first with the data that is left, then with `Eof`.";
    "D2" "the end of a stream stays":
        "After `Eof` every read gives `Eof` at once, unless the stack declares that its end resets.";
    "D3" "data that comes with the end is not lost":
        "Where the last data and the end come as one, the data is delivered first.";
    "D4" "an end inside a message is no clean end":
        "A stream that ends inside a message, record or header is `UnexpectedEof`, at whatever byte it was cut.";
    "D5" "ending the write side leaves the other alone":
        "After a shutdown the peer gets all data and then the end, our reads go on, and our writes fail with \
         `BrokenPipe`. A second shutdown fails in the same way.";
    "D6" "a reset is not an end":
        "A connection that is reset is reported as such, not as `Eof`, to what waits in both directions.";

    // ---- E: cancel, time, re-entrancy, threads -----------------------------------------------------
    "E1" "a cancelled op ends once":
        "With `Cancelled` or with its real result, and the result says which and how many bytes moved.";
    "E2" "a cancel is prompt and loses nothing":
        "A cancelled op ends without waiting for the peer. Bytes that came for a cancelled read are the start of the \
         next one, or are told with the cancel; else the handle is unusable and says so.";
    "E3" "cancelling what is over does nothing":
        "So does cancelling twice, or cancelling an op of a handle that is gone.";
    "E4" "a cancel asks the level that holds the op":
        "That level is asked once, and no level that has passed the op up is asked at all.";
    "E5" "a deadline is a cancel that says so":
        "It ends its op with `TimedOut`, and no other op; one in the past moves no byte. The handle works on.";
    "E6" "timers are never early":
        "A timer or deadline fires once, not before its time and at most a tick after it, and never when what it \
         was for is over or its guard dropped.";
    "E7" "a callback may do anything that does not wait":
        "Read, write, close, cancel, open, command, drop, on any handle, to any depth: a million ops chained inline \
         need no stack. A blocking call on a thread of the engine is the error `InCallback`.";
    "E8" "callbacks run without locks":
        "No lock of the engine or of a driver is held while a callback runs.";
    "E9" "callbacks of a handle run one after the other":
        "Those of different handles may run at once.";
    "E10" "a callback is the last act of a submit or a turn":
        "The callback of an op that finishes inline may run before the submitting call returns, as its last act; \
         never inside another callback, and never before its op has ended.";
    "E11" "an engine may be dropped anywhere":
        "Also in a callback of its own, by the last handle, or inside a level.";
    "E12" "a handle does not cross a fork":
        "After a fork the child must leave the parent's handles alone; a driver that shares state between processes \
         notices and answers with an error.";

    // ---- F: attrs and commands -----------------------------------------------------------------------
    "F1" "a copied attr is independent":
        "Changes of a copy or of its source are not seen by the other; each is dropped once.";
    "F2" "an open keeps the attrs it was made with":
        "Changing an attr later does not change what is open.";
    "F3" "an unknown command is an error":
        "A command that nobody knows is `UnsupportedCommand` and changes nothing.";
    "F4" "a wrong value is an error":
        "A value of the wrong kind or out of bounds is `InvalidInput`, names the option and changes nothing.";
    "F5" "what was set is what is read":
        "An option reads back as it was set, or as the stated clamp of that; setting it again changes nothing.";
    "F6" "a command reaches its level":
        "A command for one level reaches that level alone. A query asks from the top down until one answers; a \
         level answers only for what it knows for certain.";
    "F7" "commands and ops do not disturb each other":
        "A command is safe while ops are on their way, and from several threads at once.";
    "F8" "attrs are made and dropped in pairs":
        "On every path, a failed open too, each attr and each copy is dropped once.";

    // ---- G: servers and links ------------------------------------------------------------------------
    "G1" "a server starts from both ends":
        "`listen` goes from the top down, `listen_done` from the bottom up; where one fails, what listens below it \
         is stopped, in reverse, once.";
    "G2" "a connection is one link":
        "Each connection gives one link, which is opened or dropped, once. Dropped unopened it releases everything \
         that the levels had put into it.";
    "G3" "a server's close ends its accepts":
        "Accepts that wait end with `Cancelled` before the close does. Links that were handed out stay good.";
    "G4" "a failed accept does not end a server":
        "What concerns one connection is passed over. Where descriptors or memory run out, accepts wait longer and \
         longer, say so by an event, do not spin, and go on by themselves.";
    "G5" "connections that are not open yet are bounded":
        "In number, bytes and time, at every level that greets its peer.";
    "G6" "a link can be asked before it is opened":
        "For the contacts of both ends and whatever levels know of it.";
    "G7" "handles outlive their server":
        "A handle that was accepted works on when the server is closed or dropped.";

    // ---- H: resources, errors, composition -----------------------------------------------------------
    "H1" "memory is bounded and comes back":
        "An idle handle and an op take no more than stated; after a close memory is where it was before the open.";
    "H2" "no descriptor, thread or timer is left":
        "Nor a shared segment or a file, after a handle, a server or an engine is gone.";
    "H3" "running out of memory is an error where it can be":
        "What allocates by a peer's size or a user's tries first, and fails the op where it cannot.";
    "H4" "an error says what happened and no more":
        "It names kind, op, level and driver, is at most 1 KiB of text, never panics when shown, and holds no byte \
         of payload.";
    "H5" "ops are accounted for":
        "At every level and at any time, what went down is what came back up and what is still below.";
    "H6" "hostile bytes do no harm":
        "Whatever comes from below is valid data or an error, never a panic, never memory beyond the limits. After \
         a protocol error nothing more is read.";
    "H7" "coding is the identity":
        "What a level encodes its peer decodes to the same; what it decodes and encodes again stays the same; \
         unknown versions are refused.";
    "H8" "levels compose":
        "Every stack whose levels fit keeps all rules; one whose levels do not fit is refused when it is bound.";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_every_rule_is_worded() {
        let counts = [('A', 10), ('B', 12), ('C', 16), ('D', 6), ('E', 12), ('F', 8), ('G', 7), ('H', 8)];
        let ids = counts.iter().flat_map(|(g, n)| (1..=*n).map(move |i| format!("{g}{i}")));
        assert!(ids.eq(RULES.iter().map(|r| r.id.to_owned())));
        for r in RULES {
            assert!(r.text.ends_with(['.', ')']) && !r.text.contains("  "), "{r}");
            assert!(r.title.len() <= 64 && !r.title.ends_with('.'), "{r}");
            assert_eq!(rule(&r.id.to_lowercase()), Some(r));
        }
        assert_eq!(rule("C17"), None);
    }
}
