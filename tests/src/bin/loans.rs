//! What a loan saves: messages made of rows of 64 bytes, over `shm`, filled where they are sent from, filled in memory
//! that is kept for it and then written, or in fresh memory for each. Interleaved rounds, both ends asleep between
//! messages where they have to be; ratios of times to the kept memory. JSON on stdout, a table on stderr.
//!
//! `cargo run --release -p xio-tests --bin loans [ROUNDS]`

use std::io;

use bytes::BytesMut;
use xio_core::{Engine, Error};
use xio_peers::placement::Placement;
use xio_peers::rounds::{Contender, interleave};
use xio_tests::{report, stack, stream_of};

/// Bytes of a row.
const ROW: usize = 64;
/// Bytes of a stream in one round.
const STREAM: usize = 128 << 20;

/// The row of this number.
fn row(i: usize) -> [u8; ROW] {
    let mut row = [i as u8; ROW];
    row[..8].copy_from_slice(&(i as u64).to_le_bytes());
    row
}

fn main() -> io::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(9);
    let engine = Engine::new()?;
    let messages = stack("shm(message, buffer=1MiB, trust=peer)");
    for place in Placement::possible()?.into_iter().filter(|p| *p != Placement::Unpinned) {
        for size in [4096, 64 << 10, 256 << 10] {
            let (ops, rows) = (STREAM / size, size / ROW);
            let kept = |engine: &Engine| {
                let mut all = vec![0; size];
                stream_of(engine, &messages, place, size, ops, move |h| {
                    all.chunks_exact_mut(ROW).enumerate().for_each(|(i, to)| to.copy_from_slice(&row(i)));
                    Ok(h.write_from(&all).wait().map(drop)?)
                })
            };
            let fresh = |engine: &Engine| {
                stream_of(engine, &messages, place, size, ops, move |h| {
                    let mut all = BytesMut::with_capacity(size);
                    (0..rows).for_each(|i| all.extend_from_slice(&row(i)));
                    h.write(all).wait().map(drop).map_err(|f| Error::from(f).into())
                })
            };
            let loan = |engine: &Engine| {
                stream_of(engine, &messages, place, size, ops, move |h| {
                    let mut loan = h.loan(size)?;
                    loan.fill(|room| {
                        room.chunks_exact_mut(ROW).enumerate().for_each(|(i, to)| to.copy_from_slice(&row(i)));
                        size
                    });
                    h.write(loan).wait().map(drop).map_err(|f| Error::from(f).into())
                })
            };
            let mut all = vec![
                Contender::new("kept memory", || kept(&engine)),
                Contender::new("fresh memory", || fresh(&engine)),
                Contender::new("loan", || loan(&engine)),
            ];
            let keys = format!("\"mode\": \"loans\", \"placement\": \"{place}\", \"size\": {size},");
            report::rows(&keys, &interleave(rounds, 1, &mut all)?)?;
        }
    }
    Ok(())
}
