//! The loops of a caller that waits for each op.

use std::io;
use std::time::Instant;

use xio_peers::buffer::PageBuf;
use xio_peers::raw::warm_up;
use xio_stacks::{Error, ErrorKind, Handle};

use super::Which;
use super::plan::{Moment, Plan, Shot};

/// Whole ops of one handle.
pub(super) fn ops(plan: &Plan, handle: &Handle, ops: usize) -> io::Result<Shot> {
    let mut buf = PageBuf::new(plan.size);
    let mut run = |ops: usize| -> Result<(), Error> {
        for _ in 0..ops {
            let n = match plan.which {
                Which::Read => handle.read_into(&mut buf).wait()?,
                Which::Write => handle.write_from(&buf).wait()?,
            };
            expect(plan, n)?;
        }
        Ok(())
    };
    run(warm_up(ops))?;
    let start = Moment::now();
    run(ops)?;
    start.row(Moment::now(), plan.size, ops, None)
}

/// Round trips.
pub(super) fn ping(plan: &Plan, handle: &Handle, trips: usize, took: &mut Vec<u32>) -> Result<(), Error> {
    let mut buf = PageBuf::new(plan.size);
    let mut last = Instant::now();
    for _ in 0..trips {
        handle.write_from(&buf).wait()?;
        read_message(plan, handle, &mut buf)?;
        let now = Instant::now();
        took.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
        last = now;
    }
    Ok(())
}

/// Answers.
pub(super) fn pong(plan: &Plan, handle: &Handle, trips: usize) -> Result<(), Error> {
    let mut buf = PageBuf::new(plan.size);
    for _ in 0..trips {
        read_message(plan, handle, &mut buf)?;
        handle.write_from(&buf).wait()?;
    }
    handle.flush().wait()
}

/// Writes messages.
pub(super) fn pour(plan: &Plan, handle: &Handle, messages: usize) -> Result<Option<f64>, Error> {
    let buf = PageBuf::new(plan.size);
    for _ in 0..messages {
        handle.write_from(&buf).wait()?;
    }
    Ok(None)
}

/// Reads as many messages.
pub(super) fn drain(plan: &Plan, handle: &Handle, messages: usize) -> Result<(), Error> {
    if plan.borders {
        let mut buf = PageBuf::new(plan.size);
        return (0..messages).try_for_each(|_| read_message(plan, handle, &mut buf));
    }
    let mut left = plan.size as u64 * messages as u64;
    let mut buf = PageBuf::new(plan.recv);
    while left > 0 {
        left = left.saturating_sub(handle.read_into(&mut buf).wait()? as u64);
    }
    Ok(())
}

fn read_message(plan: &Plan, handle: &Handle, buf: &mut [u8]) -> Result<(), Error> {
    let call = handle.read_into(buf);
    let call = if plan.borders { call } else { call.wait_for(plan.size) };
    expect(plan, call.wait()?)
}

/// Whether an op moved a whole message.
pub(super) fn expect(plan: &Plan, n: usize) -> Result<(), Error> {
    if n == plan.size {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Protocol).detail(format!("{n} bytes instead of {}", plan.size)))
}
