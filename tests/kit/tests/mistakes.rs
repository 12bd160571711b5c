//! The five mistakes of a compression driver that was written for Globus XIO by somebody else: each breaks a
//! rule here that names it. `squeeze` codes runs of equal bytes; without a mistake it keeps the contract.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use xio_core::attr::{Attr, option_cntl};
use xio_core::buffer::{Chunk, Piece};
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::cntl::Cntl;
use xio_core::driver::{Driver, Info, Intercepts, Role, Shape};
use xio_core::op::{Read, Write};
use xio_core::schema::{OptionSpec, Value, ValueKind};
use xio_core::{Cx, Error, ErrorKind, Flow, Level, Op};
use xio_testkit::budget::Budget;
use xio_testkit::{Options, Report, Subject, Verdict, run};

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

/// What the driver does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// A write tells its owner how many coded bytes went.
    CountsCodedBytes,
    /// A read whose block cannot be decoded succeeds with nothing.
    SucceedsWithNothing,
    /// A write looks at its first piece alone.
    SeesOnePiece,
    /// Who asks for an option is told that all is well, and gets no value.
    TellsNoValue,
    /// A read waits for the bytes of a block without those of its header.
    ForgetsItsHeader,
}
use Mistake::{CountsCodedBytes, ForgetsItsHeader, SeesOnePiece, SucceedsWithNothing, TellsNoValue};

/// Each mistake, the rule whose test comes upon it, and the rule that is named.
const RULES: [(Mistake, &str, &str); 5] = [
    (CountsCodedBytes, "C6", "C6"),
    (SucceedsWithNothing, "H6", "A2"),
    (SeesOnePiece, "C4", "C4"),
    (TellsNoValue, "F5", "F5"),
    (ForgetsItsHeader, "C14", "C14"),
];

/// Plain bytes of a block, and so coded ones.
const BLOCK: usize = 16 * 1024;
/// How a block is coded, and how many coded bytes follow.
const HEADER: usize = 5;

xio_core::options! {
    /// Options of the driver.
    pub struct SqueezeOptions for "squeeze" {
        /// How hard it tries.
        effort, with_effort: u32 = 6, ValueKind::Int { min: 1, max: 9 };
    }
}

/// Options that never tell their values.
#[derive(Debug)]
struct Mute(SqueezeOptions);

impl Attr for Mute {
    fn copy(&self) -> Box<dyn Attr> {
        Box::new(Self(self.0.clone()))
    }
    fn driver(&self) -> &'static str {
        "squeeze"
    }
    fn specs(&self) -> &'static [OptionSpec] {
        self.0.specs()
    }
    fn set(&mut self, name: &str, value: Value) -> Result<(), Error> {
        self.0.set(name, value)
    }
    fn value(&self, _: &str) -> Option<Value> {
        None
    }
    fn cntl(&mut self, c: &mut Cntl<'_>) -> Result<(), Error> {
        option_cntl(self, c)
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

const INFO: Info =
    Info::new("squeeze", Shape::Transform, "codes runs of equal bytes").with_options(SqueezeOptions::SPECS);

struct Squeeze(&'static [Mistake]);

impl Driver for Squeeze {
    fn info(&self) -> &Info {
        &INFO
    }
    fn attr(&self) -> Box<dyn Attr> {
        let options = SqueezeOptions::default();
        if self.0.contains(&TellsNoValue) { Box::new(Mute(options)) } else { Box::new(options) }
    }
    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::STREAM
    }
    fn caps(&self, _: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        below.first().map(|b| b.caps.clone()).ok_or_else(|| ErrorKind::Misfit.into())
    }
    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::NONE,
            Role::Handle => Intercepts::READ | Intercepts::READ_DONE | Intercepts::WRITE | Intercepts::WRITE_DONE,
        }
    }
    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Coder { does: self.0, coded: BytesMut::new(), plain: Bytes::new(), dead: None }))
    }
}

struct Coder {
    does: &'static [Mistake],
    /// Received, not decoded.
    coded: BytesMut,
    /// Decoded, not given out.
    plain: Bytes,
    dead: Option<Error>,
}

/// The blocks of some bytes; `None` where there is no memory for them.
fn encoded<'a>(pieces: impl Iterator<Item = &'a [u8]>, total: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(total + total.div_ceil(BLOCK) * HEADER + BLOCK).ok()?;
    let mut block = Vec::with_capacity(BLOCK);
    let mut put = |block: &mut Vec<u8>| {
        let runs: Vec<u8> =
            block.chunk_by(|a, b| a == b).flat_map(|r| r.chunks(255)).flat_map(|r| [r.len() as u8, r[0]]).collect();
        let (kind, body) = if runs.len() < block.len() { (1, &runs) } else { (0, &*block) };
        out.push(kind);
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(body);
        block.clear();
    };
    for byte in pieces.flatten() {
        block.push(*byte);
        if block.len() == BLOCK {
            put(&mut block);
        }
    }
    if !block.is_empty() {
        put(&mut block);
    }
    Some(out)
}

/// The bytes of a block.
fn decoded(kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    let runs = || body.chunks_exact(2).map(|r| (usize::from(r[0]), r[1]));
    match kind {
        0 => Some(body.to_vec()),
        1 if body.len().is_multiple_of(2)
            && runs().all(|(n, _)| n > 0)
            && runs().map(|(n, _)| n).sum::<usize>() <= BLOCK =>
        {
            Some(runs().flat_map(|(n, byte)| std::iter::repeat_n(byte, n)).collect())
        }
        _ => None,
    }
}

impl Coder {
    /// How many bytes the block under way lacks, header and all. `Err`: no block begins like this.
    fn lacks(&self) -> Result<usize, Error> {
        let Some(header) = self.coded.get(..HEADER) else { return Ok(HEADER - self.coded.len()) };
        let len = header[1..].iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
        if len == 0 || len > BLOCK {
            return Err(Error::new(ErrorKind::Protocol).detail(format!("a block of {len} bytes was announced")));
        }
        Ok((HEADER + len).saturating_sub(self.coded.len()))
    }

    /// Decodes the block whose bytes are all there. Says whether one was.
    fn decode(&mut self, all: bool) -> Result<bool, Error> {
        if self.coded.len() < HEADER || self.lacks()? > 0 && !all {
            return Ok(false);
        }
        let (len, lacks) = (self.coded[1..HEADER].iter().fold(0usize, |n, b| n << 8 | usize::from(*b)), self.lacks()?);
        let kind = self.coded.get_u8();
        self.coded.advance(HEADER - 1);
        let body = self.coded.split_to(len - lacks);
        let bad = || Error::new(ErrorKind::Protocol).detail("a block cannot be decoded");
        self.plain = decoded(kind, &body).ok_or_else(bad)?.into();
        Ok(true)
    }

    fn go<'o>(&mut self, mut op: Op<'o, Read>, all: bool) -> Flow<'o> {
        if self.plain.is_empty() && self.dead.is_none() {
            match self.decode(all) {
                Err(_) if self.does.contains(&SucceedsWithNothing) => return op.finished(),
                Err(e) => self.dead = Some(e),
                Ok(_) => {}
            }
        }
        if !self.plain.is_empty() {
            let mut chunk = Chunk::from(std::mem::take(&mut self.plain));
            op.put_chunk(&mut chunk);
            self.plain = chunk.into_bytes();
            return op.finished();
        }
        if let Some(e) = self.dead.clone() {
            return op.failed(e);
        }
        let lacks = self.lacks().unwrap_or(1);
        let forgets = self.does.contains(&ForgetsItsHeader) && self.coded.len() >= HEADER && lacks > HEADER;
        let wait = if forgets { lacks - HEADER } else { lacks };
        op.pass_take(wait, lacks.max(4096))
    }
}

impl Level for Coder {
    fn read<'o>(&mut self, _: &mut Cx<'_>, op: Op<'o, Read>) -> Flow<'o> {
        if op.room() == 0 || op.wanted() == 0 && self.plain.is_empty() {
            return op.finished();
        }
        self.go(op, false)
    }

    fn read_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Read>) -> Flow<'o> {
        let error = op.clear_error();
        let waited = self.coded.len() >= HEADER;
        for chunk in op.below().chunks {
            self.coded.extend_from_slice(&chunk.into_bytes());
        }
        let ready = self.coded.len() >= HEADER && self.lacks().map_or(true, |n| n == 0);
        match error {
            Some(e) if !ready || e.kind() != ErrorKind::Eof => {
                let cut = e.kind() == ErrorKind::Eof && !self.coded.is_empty();
                op.failed(if cut { ErrorKind::UnexpectedEof.into() } else { e })
            }
            _ => self.go(op, waited && self.does.contains(&ForgetsItsHeader)),
        }
    }

    fn write<'o>(&mut self, cx: &mut Cx<'_>, op: Op<'o, Write>) -> Flow<'o> {
        if op.is_empty() {
            return op.finished();
        }
        let most = if self.does.contains(&SeesOnePiece) { 1 } else { usize::MAX };
        let total = op.len();
        match encoded(op.pieces().iter().take(most).map(|p| &p[..]), total) {
            Some(coded) => {
                let (went, coded) = (coded.len(), Bytes::from(coded));
                if self.does.contains(&CountsCodedBytes) && !coded.is_empty() {
                    cx.write(0, std::iter::once(Piece::from(coded)).collect(), 0);
                    return op.finished_part(went);
                }
                op.pass_with(std::iter::once(Piece::from(coded)).collect())
            }
            None => op.failed(Error::new(ErrorKind::Exhausted).detail(format!("no memory to code {total} bytes"))),
        }
    }

    fn write_done<'o>(&mut self, _: &mut Cx<'_>, mut op: Op<'o, Write>) -> Flow<'o> {
        match op.clear_error() {
            Some(e) => op.failed(e),
            None => op.finished(),
        }
    }
}

fn judged(does: &'static [Mistake], rules: &[&str]) -> Report {
    let subject = Subject::transform(Arc::new(Squeeze(does)));
    run(&subject, &Options::default().with_seeds([1]).with_rules(rules.iter().copied()))
}

/// The rules that were found broken, with what was said.
fn broken(report: &Report) -> Vec<(&'static str, &str)> {
    let found = report.rows.iter().filter_map(|r| match &r.verdict {
        Verdict::Fail { rule, message } => Some((*rule, message.as_str())),
        _ => None,
    });
    found.collect()
}

#[test]
fn without_a_mistake_it_keeps_the_contract() {
    let report = judged(&[], &[]);
    assert!(report.is_good(), "{report}");
}

#[test]
fn each_mistake_breaks_the_rule_that_names_it() {
    const ALONE: [&[Mistake]; 5] =
        [&[CountsCodedBytes], &[SucceedsWithNothing], &[SeesOnePiece], &[TellsNoValue], &[ForgetsItsHeader]];
    for (does, (mistake, test, rule)) in ALONE.into_iter().zip(RULES) {
        assert_eq!(does, [mistake]);
        let report = judged(does, &[test]);
        let found: Vec<_> = broken(&report).into_iter().map(|(id, _)| id).collect();
        assert_eq!(found, [rule], "{mistake:?}: {report}");
    }
}

#[test]
fn all_five_mistakes_together_are_five_messages() {
    const ALL: &[Mistake] = &[CountsCodedBytes, SucceedsWithNothing, SeesOnePiece, TellsNoValue, ForgetsItsHeader];
    let report = judged(ALL, &RULES.map(|(_, test, _)| test));
    println!("{report}");
    let found = broken(&report);
    let rules: BTreeSet<_> = found.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(rules, RULES.map(|(_, _, rule)| rule).into(), "{report}");
    let messages: BTreeSet<_> = found.iter().map(|(_, message)| *message).collect();
    assert_eq!(messages.len(), RULES.len(), "{report}");
}
