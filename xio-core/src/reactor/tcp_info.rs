//! Reads the state of a TCP path from the system (`TCP_INFO`, Linux `tcp(7)`). Invariant: fields
//! that the running kernel does not fill are left out.
#![allow(unsafe_code, reason = "getsockopt with a structure that neither rustix nor socket2 offers")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::cntl::Path;

/// Bytes of `struct tcp_info` that are read; the offsets below are those of linux/tcp.h.
const SIZE: usize = 232;
const LAST_ACK_RECV: usize = 56;
const UNACKED: usize = 24;
const SND_MSS: usize = 16;
const MIN_RTT: usize = 148;
const NOTSENT_BYTES: usize = 144;
const DELIVERY_RATE: usize = 160;

unsafe extern "C" {
    fn getsockopt(fd: i32, level: i32, name: i32, value: *mut core::ffi::c_void, len: *mut u32) -> i32;
}

pub(crate) fn read(fd: BorrowedFd<'_>) -> io::Result<Path> {
    const IPPROTO_TCP: i32 = 6;
    const TCP_INFO: i32 = 11;
    let mut info = [0u8; SIZE];
    let mut len = SIZE as u32;
    // SAFETY: `info` has room for `len` bytes, and the kernel writes no more than that.
    let r = unsafe { getsockopt(fd.as_raw_fd(), IPPROTO_TCP, TCP_INFO, info.as_mut_ptr().cast(), &mut len) };
    if r != 0 {
        return Err(io::Error::last_os_error());
    }
    let filled = info.get(..len as usize).unwrap_or(&info);
    let word = |at: usize| filled.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    let long = |at: usize| filled.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes);
    let in_flight = word(UNACKED).zip(word(SND_MSS)).map(|(n, mss)| u64::from(n) * u64::from(mss));
    Ok(Path {
        min_rtt: word(MIN_RTT).filter(|us| *us != u32::MAX && *us != 0).map(|us| Duration::from_micros(us.into())),
        delivery_rate: long(DELIVERY_RATE).filter(|r| *r != 0),
        in_flight,
        unsent: word(NOTSENT_BYTES).map(u64::from),
        last_ack: word(LAST_ACK_RECV).map(|ms| Duration::from_millis(ms.into())),
    })
}
