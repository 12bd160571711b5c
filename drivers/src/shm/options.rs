//! What can be set on a `shm` level.

use std::time::Duration;

use xio_core::attr::Size;
use xio_core::schema::ValueKind;
use xio_core::{Contact, Error};

use super::map::SIZES;

xio_core::options! {
    /// Options of the `shm` driver.
    pub struct Options for "shm" {
        /// Messages rather than a stream; the same at both ends.
        message, with_message: bool = false, ValueKind::Bool;
        /// Bytes of each ring, rounded up to a power of two. The end that opens decides.
        buffer, with_buffer: Size = Size(256 << 10), ValueKind::Size { min: *SIZES.start() as u64, max: *SIZES.end() as u64 };
        /// How long a blocking caller spins before it sleeps; nobody but the peer can end that.
        spin, with_spin: Duration = Duration::ZERO, ValueKind::Duration { max: Duration::from_millis(10) };
        /// Bytes that takes may leave in the ring until they are dropped, half of it at most; of more the oldest are
        /// copied out.
        held, with_held: Size = Size(128 << 10), ValueKind::Size { min: 0, max: *SIZES.end() as u64 / 2 };
        /// `peer`: what takes leave in the ring is theirs to look at, since the peer writes nothing that it has shown.
        trust, with_trust: String = String::from("none"), ValueKind::Enum(&["none", "peer"]);
        /// Connections that may wait to be accepted.
        backlog, with_backlog: u32 = 128, ValueKind::Int { min: 1, max: 4096 };
        contact check_contact;
    }
}

impl Options {
    /// Bytes of a ring.
    pub(super) fn size(&self) -> usize {
        usize::try_from(self.buffer.0).unwrap_or(*SIZES.end()).clamp(*SIZES.start(), *SIZES.end()).next_power_of_two()
    }
}

fn check_contact(_: &Options, contact: &Contact) -> Result<(), Error> {
    super::meet::path(contact).map(drop)
}
