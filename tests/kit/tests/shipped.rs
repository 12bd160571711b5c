//! The contract on the shipped drivers, one test a rule; a rule that is known to be broken fails its test when
//! it no longer is.

mod subjects;

use xio_core::{LevelNode, Stack};
use xio_drivers::{frame, udp};
use xio_testkit::budget::Budget;
use xio_testkit::driver_contract;

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

driver_contract!(null_contract, subjects::null_contract());
driver_contract!(null_over_messages, subjects::null_over_messages());
driver_contract!(queue_contract, subjects::queue_contract());
driver_contract!(queue_over_messages, subjects::queue_over_messages());
driver_contract!(queue_early, subjects::queue_early());
driver_contract!(frame_contract, subjects::frame_contract());
driver_contract!(tcp_contract, subjects::tcp_contract());
driver_contract!(udp_contract, subjects::udp_contract());
driver_contract!(queue_over_udp, subjects::queue_over_udp());
driver_contract!(shm_contract, subjects::shm_contract());
driver_contract!(shm_of_messages, subjects::shm_of_messages());
driver_contract!(shm_that_trusts, subjects::shm_that_trusts());
driver_contract!(queue_and_frame_over_shm, subjects::queue_and_frame_over_shm());
driver_contract!(loop_contract, subjects::loop_contract());
driver_contract!(loop_of_messages, subjects::loop_of_messages());
driver_contract!(void_contract, subjects::void_contract());
driver_contract!(file_contract, subjects::file_contract());
driver_contract!(rate_contract, subjects::rate_contract());
driver_contract!(fault_contract, subjects::fault_contract());
driver_contract!(trace_contract, subjects::trace_contract());
driver_contract!(trace_over_messages, subjects::trace_over_messages());
driver_contract!(trace_above, subjects::trace_above());
driver_contract!(trace_below, subjects::trace_below());
driver_contract!(pick_contract, subjects::pick_contract());
driver_contract!(pick_over_messages, subjects::pick_over_messages());
driver_contract!(pick_over_udp, subjects::pick_over_udp());
driver_contract!(all_of_it, subjects::all_of_it());
driver_contract!(datagrams, subjects::datagrams());
driver_contract!(shared_memory, subjects::shared_memory());
driver_contract!(greeting, subjects::greeting());

/// A stream cannot be made of what gets lost.
#[test]
fn frame_over_udp_is_refused() {
    let level = LevelNode::new(frame::driver()).over(LevelNode::new(udp::driver()));
    let faults = Stack::new(level).unwrap_err();
    let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["it needs a stream below; this gives a datagram"]);
}
