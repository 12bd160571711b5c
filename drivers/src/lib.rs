//! Drivers for the xio framework. One folder and one feature each; the same files inside: `mod.rs`
//! with wire format, options and contract notes, `options.rs`, `driver.rs`.
//!
//! | driver | unit | what it is for |
//! |---|---|---|
//! | [`tcp`] | stream | TCP client and server |
//! | [`udp`] | datagram | UDP: one peer or many, server, groups, batches |
//! | [`loop_`] | stream, message | pairs inside one process |
//! | [`void`] | stream, message | swallows writes, finishes reads at once; for measuring |
//! | [`null`] | as below | does nothing; for measuring and testing |
//! | [`pick`] | as its branches | sends each op to the branch an attr names, reads from any |
//! | [`frame`] | stream to message | length-delimited messages |
//! | [`queue`] | as below | bounded write queue |
//! | [`mod@file`] | stream | files, standard input and output, inherited descriptors |
//! | [`fault`] | as below | seeded faults |
//! | [`rate`] | as below | token bucket |
//! | [`trace`] | as below | logs each op through `tracing` |
//! | [`shm`] | stream, message | shared memory between two processes of one user |

use std::sync::Arc;

use xio_core::Driver;

#[cfg(feature = "fault")]
pub mod fault;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "frame")]
pub mod frame;
#[cfg(feature = "loop")]
pub mod loop_;
#[cfg(any(feature = "tcp", feature = "udp"))]
mod net;
#[cfg(feature = "null")]
pub mod null;
#[cfg(any(feature = "fault", feature = "rate"))]
mod part;
#[cfg(feature = "pick")]
pub mod pick;
#[cfg(feature = "queue")]
pub mod queue;
#[cfg(feature = "rate")]
pub mod rate;
#[cfg(feature = "shm")]
pub mod shm;
#[cfg(feature = "tcp")]
pub mod tcp;
#[cfg(feature = "trace")]
pub mod trace;
#[cfg(feature = "udp")]
pub mod udp;
#[cfg(feature = "void")]
pub mod void;
#[cfg(any(feature = "shm", feature = "tcp", feature = "udp"))]
mod waiting;

/// Every driver that was compiled in, in the order of their names.
pub fn all() -> Vec<Arc<dyn Driver>> {
    vec![
        #[cfg(feature = "fault")]
        fault::driver(),
        #[cfg(feature = "file")]
        file::driver(),
        #[cfg(feature = "frame")]
        frame::driver(),
        #[cfg(feature = "loop")]
        loop_::driver(),
        #[cfg(feature = "null")]
        null::driver(),
        #[cfg(feature = "pick")]
        pick::driver(),
        #[cfg(feature = "queue")]
        queue::driver(),
        #[cfg(feature = "rate")]
        rate::driver(),
        #[cfg(feature = "shm")]
        shm::driver(),
        #[cfg(feature = "tcp")]
        tcp::driver(),
        #[cfg(feature = "trace")]
        trace::driver(),
        #[cfg(feature = "udp")]
        udp::driver(),
        #[cfg(feature = "void")]
        void::driver(),
    ]
}
