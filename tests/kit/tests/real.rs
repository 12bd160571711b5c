//! The contract in real time: what a simulation leaves out is how threads wait. `shm` sleeps on words of the ring there,
//! and no other driver does anything like it.

use xio_core::LevelNode;
use xio_drivers::{frame, queue, shm};
use xio_testkit::budget::Budget;
use xio_testkit::{Subject, driver_contract};

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

driver_contract!(shm_contract, Subject::transport(shm::driver(), ()).on_real_sockets());
driver_contract!(queue_over_messages, {
    let messages = Box::new(shm::Options::default().with_message(true));
    let shm = LevelNode::new(shm::driver()).with_attr(messages);
    Subject::stack(LevelNode::new(queue::driver()).over(shm)).on_real_sockets()
});
driver_contract!(frame_over_shm, {
    Subject::stack(LevelNode::new(frame::driver()).over(LevelNode::new(shm::driver()))).on_real_sockets()
});
