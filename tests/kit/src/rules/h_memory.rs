//! Group H: memory that is not to be had. In a child process, since what does not try ends its process.

use std::time::Duration;

use xio_core::{Error, ErrorKind};

use super::data::{room, same};
use super::h_resources::needs_budget;
use crate::bench::{Bench, LONG, Tell, World};
use crate::dice::pattern;
use crate::verdict::Checked;
use crate::{budget, child};

/// Real time for one child.
const LIMIT: Duration = Duration::from_secs(15);
/// Larger allocations fail: more than levels and reactor take for themselves, far less than what is moved.
const MOST: usize = 256 * 1024;
/// What a user writes in one go, and so what a peer announces.
const MUCH: usize = 1024 * 1024;

/// How the peer reads what came.
#[derive(Clone, Copy, Debug)]
enum Reads {
    Into,
    Takes,
    /// Into a buffer that is too small.
    Less,
}

/// Running out of memory is an error where it can be.
///
/// # Errors
/// See the rule's text.
pub fn h3(bench: &mut Bench) -> Checked {
    needs_budget()?;
    bench.needs_virtual_time()?;
    let seed = bench.seeds().first().copied().unwrap_or_default();
    child::run(LIMIT, || {
        for reads in [Reads::Into, Reads::Takes, Reads::Less] {
            let run = bench.stage(seed).build()?.run_rule(&mut |w| moves_much(w, reads));
            run.map_err(|s| s.at(format_args!("{reads:?}, without memory")))?;
        }
        Ok(())
    })
}

fn moves_much(w: &World, reads: Reads) -> Checked {
    let size = w.caps().max_message.unwrap_or(MUCH).min(MUCH);
    let (near, far) = if w.caps().accepts {
        let p = w.pair()?;
        w.keep((p.rest, p.server));
        (p.near, p.far)
    } else {
        let h = w.alone()?;
        (h.clone(), h)
    };
    // What users bring themselves is there before.
    let (data, whole, less) = (pattern(w.seed, 0, size), room(size), room(size / 2));
    let sent = data.clone();
    let (wrote, read) = (Tell::new(), Tell::new());
    let (a, b) = (wrote.clone(), read.clone());
    let wait = if w.caps().unit.has_borders() { 1 } else { size };
    let fails = budget::fail_over(MOST);
    near.write(sent).deadline(LONG).then(move |r| a.note(r.map(drop).map_err(|f| f.error)));
    // What is read goes out of the callback as it is: joining it would take memory.
    match reads {
        Reads::Into => far.read(whole).wait_for(wait).deadline(LONG).then(move |r| b.note(r)),
        Reads::Takes => far.take(size).wait_for(wait).deadline(LONG).then(move |r| b.note(r)),
        Reads::Less => far.read(less).wait_for(wait.min(size / 2)).deadline(LONG).then(move |r| b.note(r)),
    };
    w.run();
    drop(fails);
    ensure_eq!((wrote.len(), read.len()), (1, 1), "ends of the write and of the read");
    let mut none_came = false;
    for error in wrote.take().into_iter().filter_map(Result::err) {
        none_came = true;
        says_why(&error, &[ErrorKind::Exhausted, ErrorKind::TimedOut, ErrorKind::BrokenPipe])?;
    }
    for done in read.take() {
        match done {
            Ok(done) if w.caps().accepts => {
                let bytes = done.into_bytes();
                same(&bytes, &data[..bytes.len().min(size)])?;
            }
            Ok(_) => {}
            Err(f) if reads_less(reads, f.kind()) => {}
            // What has no peer, such as a file, ends where nothing was written, or behind what was just written.
            Err(f) if !w.caps().accepts => {
                let ends = [ErrorKind::Exhausted, ErrorKind::TimedOut, ErrorKind::Eof, ErrorKind::UnexpectedEof];
                says_why(&f.error, &ends)?;
            }
            Err(f) if none_came => says_why(&f.error, &[ErrorKind::Exhausted, ErrorKind::TimedOut])?,
            Err(f) => says_why(&f.error, &[ErrorKind::Exhausted])?,
        }
    }
    Ok(())
}

/// A message that does not fit is cut, memory or not.
fn reads_less(reads: Reads, kind: ErrorKind) -> bool {
    matches!((reads, kind), (Reads::Less, ErrorKind::Truncated { .. }))
}

/// An end whose peer has no memory waits for it in vain.
fn says_why(e: &Error, kinds: &[ErrorKind]) -> Checked {
    ensure!(kinds.contains(&e.kind()), "without memory an op ended with {e}");
    Ok(())
}
