//! What rules do with a pair: write units, read them back, drain an end. Invariant: everything here
//! waits in virtual time only, and gives up after [`LONG`].

use bytes::{Bytes, BytesMut};
use xio_core::{ErrorKind, Failed, Handle, ReadDone};

use crate::bench::{LONG, Tell, World};
use crate::dice::{Dice, pattern};
use crate::verdict::{Checked, Stop};

/// What a write came to: bytes, or why not and how many had gone.
pub type Wrote = Result<usize, (ErrorKind, usize)>;

/// An empty buffer with room for `n` bytes.
pub fn room(n: usize) -> BytesMut {
    BytesMut::with_capacity(n)
}

/// Bytes of a write that does not go at once: more than a narrow network holds, or than a transport
/// without one.
pub fn much(w: &World) -> usize {
    let networked = w.sim.as_ref().is_some_and(|s| s.sockets() > 0);
    let much = if networked { 20_000 } else { 150_000 };
    w.caps().max_message.unwrap_or(much).min(much)
}

/// Cuts bytes into pieces at random places, some of them empty.
pub fn cut(bytes: &[u8], dice: &mut Dice) -> Vec<Bytes> {
    let all = Bytes::copy_from_slice(bytes);
    let mut out = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let n = dice.between(0, 1 + (all.len() - at).min(1 + all.len() / 3));
        out.push(all.slice(at..at + n));
        at += n;
    }
    if out.is_empty() {
        out.push(Bytes::new());
    }
    out
}

/// Units of random lengths, none longer than `most`; together they are one run of a pattern.
pub fn units(seed: u64, count: usize, most: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice::new(seed);
    let mut at = 0;
    let one = |_| {
        let len = if dice.chance(30) { dice.between(0, most.min(8) + 1) } else { dice.between(0, most + 1) };
        let unit = pattern(seed, at, len);
        at += len;
        unit
    };
    (0..count).map(one).collect()
}

/// Submits a write of each unit, in order, without waiting.
pub fn write_all(h: &Handle, units: &[Vec<u8>], dice: &mut Dice) -> Tell<(usize, Wrote)> {
    let told = Tell::new();
    for (i, unit) in units.iter().enumerate() {
        let tell = told.clone();
        h.write(cut(unit, dice)).then(move |r| tell.note((i, wrote(r))));
    }
    told
}

/// What a write came to.
pub fn wrote(r: Result<xio_core::WriteDone, Failed<xio_core::WriteDone>>) -> Wrote {
    r.map(|d| d.n).map_err(|f| (f.kind(), f.back.n))
}

/// Reads one message, however long, in one of the ways to read; a stream gives what is there.
pub fn read_unit(h: &Handle, most: usize, dice: &mut Dice) -> Result<Vec<u8>, Failed<ReadDone>> {
    match dice.between(0, 3) {
        0 => h.take(most).deadline(LONG).wait().map(|d| d.into_bytes().to_vec()),
        1 => h.read(room(most)).deadline(LONG).wait().map(|d| d.buf.to_vec()),
        _ => {
            let mut lent = vec![0xA5; most];
            match h.read_into(&mut lent).deadline(LONG).wait() {
                Ok(n) => {
                    lent.truncate(n);
                    Ok(lent)
                }
                // The same call again, for an error that has a place for the bytes.
                Err(e) if e.moved() == 0 => {
                    h.read(room(1)).deadline(LONG).wait().map(|d| d.buf.to_vec()).map_err(|mut f| {
                        f.error = e;
                        f
                    })
                }
                Err(e) => panic!("a read failed after {} bytes: {e}", e.moved()),
            }
        }
    }
}

/// Reads `total` bytes of a stream in parts of random sizes.
///
/// # Errors
/// Where a read fails.
pub fn read_bytes(h: &Handle, total: usize, most: usize, dice: &mut Dice) -> Checked<Vec<u8>> {
    let mut all = Vec::with_capacity(total);
    while all.len() < total {
        let n = dice.between(1, most + 1).min(total - all.len());
        let part = read_unit(h, n, dice).map_err(|f| Stop::from(f).at(format_args!("after {} bytes", all.len())))?;
        ensure!(!part.is_empty(), "a read of {n} bytes gave none after {} bytes", all.len());
        all.extend_from_slice(&part);
    }
    Ok(all)
}

/// Writes units at one end and reads them at the other: as messages, or as one run of bytes.
///
/// # Errors
/// Where an op fails, or what was read is not what was written.
pub fn transfer(w: &World, from: &Handle, to: &Handle, units: &[Vec<u8>], dice: &mut Dice) -> Checked {
    let written = write_all(from, units, dice);
    if w.caps().unit.has_borders() {
        for (i, unit) in units.iter().enumerate() {
            let most = unit.len() + dice.between(0, 100);
            let got = read_unit(to, most.max(1), dice).map_err(|f| Stop::from(f).at(format_args!("message {i}")))?;
            same(&got, unit).map_err(|s| s.at(format_args!("message {i}")))?;
        }
    } else {
        let all = units.concat();
        let got = read_bytes(to, all.len(), 5000, dice)?;
        same(&got, &all)?;
    }
    w.run_until(|| written.len() == units.len());
    for (i, r) in written.all() {
        ensure_eq!(r, Ok(units[i].len()), "write {i}");
    }
    ensure_eq!(written.len(), units.len(), "writes that ended");
    Ok(())
}

/// Whether bytes are those expected; says where they differ.
///
/// # Errors
/// Where they do.
pub fn same(got: &[u8], want: &[u8]) -> Checked {
    if got == want {
        return Ok(());
    }
    let at = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or_else(|| got.len().min(want.len()));
    Err(Stop::fail(format!("{} bytes came for {}, and they differ from byte {at} on", got.len(), want.len())))
}

/// Reads and throws away until the end, in the background. What came is told.
pub fn drain(h: &Handle) -> Tell<Result<Vec<u8>, ErrorKind>> {
    let told = Tell::new();
    drain_on(h.clone(), told.clone());
    told
}

fn drain_on(h: Handle, tell: Tell<Result<Vec<u8>, ErrorKind>>) {
    let again = h.clone();
    h.take(1 << 20).then(move |r| match r {
        Ok(done) => {
            tell.note(Ok(done.into_bytes().to_vec()));
            drain_on(again, tell);
        }
        Err(f) => tell.note(Err(f.kind())),
    });
}
