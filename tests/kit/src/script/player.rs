//! The transport that plays a script. Invariant: a step is used once; an op that waits for its step is held, and
//! can be cancelled.

use std::time::Duration;

use bytes::Buf;
use xio_core::attr::Attr;
use xio_core::buffer::Chunk;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cx::Timer;
use xio_core::driver::{Info, Intercepts, OpKind, Role, Shape};
use xio_core::level::{Cancel, Reason};
use xio_core::op::{Close, Flush, Kind, OpId, Open, Read, Ready, Shutdown, Write};
use xio_core::{Cx, Error, ErrorKind, Flow, Held, Level, Op};

use super::{Answer, Played, Step};

xio_core::options! {
    /// What it does is in its script.
    pub struct ScriptOptions for "script" {}
}

const INFO: Info = Info::new("script", Shape::Transport, "answers as it is told");

pub(super) struct Scripted {
    pub(super) caps: Caps,
    pub(super) played: Played,
}

impl xio_core::Driver for Scripted {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        Box::new(ScriptOptions::default())
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::NOTHING
    }
    fn caps(&self, _: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        Ok(self.caps.clone())
    }
    fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
        Intercepts::OPEN
            | Intercepts::CLOSE
            | Intercepts::READ
            | Intercepts::WRITE
            | Intercepts::FLUSH
            | Intercepts::SHUTDOWN
            | Intercepts::READY
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Player {
            played: self.played.clone(),
            waits: Vec::new(),
            timers: 0,
            borders: self.caps.unit.has_borders(),
        }))
    }
}

/// An op that waits for its step's time, or for ever.
enum Token {
    Open(Held<Open>),
    Close(Held<Close>),
    Read(Held<Read>),
    Write(Held<Write>),
    Flush(Held<Flush>),
    Shutdown(Held<Shutdown>),
    Ready(Held<Ready>),
}

impl Token {
    fn id(&self) -> OpId {
        match self {
            Self::Open(h) => h.id(),
            Self::Close(h) => h.id(),
            Self::Read(h) => h.id(),
            Self::Write(h) => h.id(),
            Self::Flush(h) => h.id(),
            Self::Shutdown(h) => h.id(),
            Self::Ready(h) => h.id(),
        }
    }

    fn retry(self, cx: &mut Cx<'_>) {
        match self {
            Self::Open(h) => cx.retry(h),
            Self::Close(h) => cx.retry(h),
            Self::Read(h) => cx.retry(h),
            Self::Write(h) => cx.retry(h),
            Self::Flush(h) => cx.retry(h),
            Self::Shutdown(h) => cx.retry(h),
            Self::Ready(h) => cx.retry(h),
        }
    }
}

/// What an op meets.
enum Next {
    /// The script says nothing of it.
    None,
    /// Something is to be written first.
    Behind,
    /// Its step has a time of its own.
    After(Duration),
    Now(Answer),
}

struct Player {
    played: Played,
    waits: Vec<(Token, Option<(u32, Timer)>)>,
    /// Number of the last timer.
    timers: u32,
    borders: bool,
}

impl Player {
    fn step(&self, kind: OpKind) -> Next {
        let play = &mut *self.played.lock();
        let queue = &mut play.queues[kind as usize];
        let Some(first) = queue.front_mut() else { return Next::None };
        let written = if self.borders { play.writes } else { play.written.len() };
        if first.behind > written {
            return Next::Behind;
        }
        let after = std::mem::take(&mut first.after);
        if !after.is_zero() {
            return Next::After(after);
        }
        queue.pop_front().map_or(Next::None, |step| Next::Now(step.answer))
    }

    fn put_back(&self, kind: OpKind, answer: Answer) {
        self.played.lock().queues[kind as usize].push_front(Step { answer, after: Duration::ZERO, behind: 0 });
    }

    /// Writes brought something: reads that were to wait for it look again.
    fn written(&mut self, cx: &mut Cx<'_>, part: &[u8]) {
        {
            let mut play = self.played.lock();
            play.written.extend_from_slice(part);
            play.writes += 1;
        }
        for (token, _) in self.waits.extract_if(.., |(_, timer)| timer.is_none()) {
            token.retry(cx);
        }
    }

    /// Complains where a write brings something else than is said here.
    fn compare(&self, brought: &[u8], said: &[u8]) {
        let play = &mut *self.played.lock();
        let differs = brought.iter().zip(said).position(|(a, b)| a != b);
        let text = match differs {
            Some(i) => format!(
                "byte {} of what is written, counted from 0, is {:#04x}, and was {:#04x}",
                play.written.len() + i,
                brought[i],
                said[i]
            ),
            None if brought.len() != said.len() && self.borders => {
                format!("message {} of those written has {} bytes, and had {}", play.writes, brought.len(), said.len())
            }
            None => return,
        };
        play.unexpected.push(text);
    }

    fn wait<'o, K: Kind>(
        &mut self,
        cx: &mut Cx<'_>,
        op: Op<'o, K>,
        after: Option<Duration>,
        token: fn(Held<K>) -> Token,
    ) -> Flow<'o> {
        let (held, flow) = op.hold(cx);
        let timer = after.map(|d| {
            self.timers = self.timers.wrapping_add(1);
            (self.timers, cx.after(d, self.timers))
        });
        self.waits.push((token(held), timer));
        flow
    }
}

macro_rules! plain {
    ($($K:ident $down:ident;)+) => {$(
        fn $down<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, $K>) -> Flow<'o> {
            match self.step(OpKind::$K) {
                Next::After(after) => self.wait(cx, op, Some(after), Token::$K),
                Next::Now(Answer::Fails(kind)) => op.failed(kind),
                _ => op.finished(),
            }
        }
    )+};
}

impl Level for Player {
    plain! {
        Open open;
        Close close;
        Flush flush;
        Shutdown shutdown;
        Ready ready;
    }

    fn read<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        if op.room() == 0 && !self.borders {
            return op.finished();
        }
        let (bytes, error) = match self.step(OpKind::Read) {
            Next::None | Next::Behind => return self.wait(cx, op, None, Token::Read),
            Next::After(after) => return self.wait(cx, op, Some(after), Token::Read),
            Next::Now(Answer::Data(bytes, error)) => (bytes, error),
            Next::Now(Answer::Fails(kind)) => return op.failed(kind),
            Next::Now(_) => return op.failed(ErrorKind::Contract),
        };
        let len = bytes.len();
        let mut chunk = Chunk::from(bytes);
        op.put_chunk(&mut chunk);
        if !chunk.is_empty() {
            self.put_back(OpKind::Read, Answer::Data(chunk.into_bytes(), error));
            return if self.borders { op.failed(ErrorKind::Truncated { len }) } else { op.finished() };
        }
        match error {
            Some(kind) => op.failed(kind),
            None => op.finished(),
        }
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        let left = op.len() - op.moved();
        let (most, error, mut said) = match self.step(OpKind::Write) {
            // What brings nothing differs from nothing that was recorded.
            Next::None if left == 0 => return op.finished(),
            Next::None | Next::Behind => {
                let text = format!("the script says nothing of a write of {left} bytes");
                self.played.lock().unexpected.push(text);
                return op.failed(ErrorKind::Contract);
            }
            Next::After(after) => return self.wait(cx, op, Some(after), Token::Write),
            Next::Now(Answer::Takes(n, error)) => (n, error, None),
            Next::Now(Answer::Brings(bytes, error)) if self.borders && error.is_none() => (left, error, Some(bytes)),
            Next::Now(Answer::Brings(bytes, error)) => (bytes.len(), error, Some(bytes)),
            Next::Now(Answer::Fails(kind)) => return op.failed(kind),
            Next::Now(_) => return op.failed(ErrorKind::Contract),
        };
        let n = left.min(most);
        let all = op.pieces().iter().flat_map(|p| p.iter().copied());
        let part: Vec<u8> = all.skip(op.moved()).take(n).collect();
        if let Some(said) = &mut said {
            let end = if self.borders { said.len() } else { n };
            self.compare(&part, &said[..end]);
            said.advance(end);
        }
        self.written(cx, &part);
        if let Some(rest) = said.filter(|rest| !rest.is_empty()) {
            // The rest of it comes with the next write, and so does the error.
            self.put_back(OpKind::Write, Answer::Brings(rest, error));
            op.take_all();
            return op.finished();
        }
        match error {
            Some(kind) if n == 0 => return op.failed(kind),
            // What went is told first; the error meets the rest of this write, or the next one.
            Some(kind) if n == most => self.put_back(OpKind::Write, Answer::Fails(kind)),
            _ => {}
        }
        if n < left {
            return op.finished_part(n);
        }
        op.take_all();
        op.finished()
    }

    fn timer(&mut self, cx: &mut Cx<'_>, tag: u32) {
        if let Some(i) = self.waits.iter().position(|(_, t)| t.as_ref().is_some_and(|(n, _)| *n == tag)) {
            let (token, _) = self.waits.remove(i);
            token.retry(cx);
        }
    }

    fn cancel(&mut self, _: &mut Cx<'_>, id: OpId, _: Reason) -> Cancel {
        self.waits.retain(|(t, _)| t.id() != id);
        Cancel::Take
    }
}
