//! The contract on the shipped drivers.

/// A header that `frame` puts in front stays on a write above `frame` on its way up
/// (`WriteBody::lead` is taken off at the very end only): every stack that frames long messages
/// shows it.
const LEAD_STAYS: &[&str] = &["C7"];

use xio_core::LevelNode;
use xio_drivers::{frame, loop_, null, pick, queue, tcp, void};
use xio_testkit::{Subject, driver_contract};

driver_contract!(null_contract, Subject::transform(null::driver()));
driver_contract!(
    null_over_messages,
    Subject::transform(null::driver()).over_messages().named("null over messages").known(LEAD_STAYS)
);
driver_contract!(queue_contract, Subject::transform(queue::driver()));
driver_contract!(
    queue_over_messages,
    Subject::transform(queue::driver()).over_messages().named("queue over messages").known(LEAD_STAYS)
);
driver_contract!(frame_contract, Subject::transform(frame::driver()).known(LEAD_STAYS));
driver_contract!(tcp_contract, Subject::transport(tcp::driver(), xio_core::Contact::new("127.0.0.1:0")));
driver_contract!(loop_contract, Subject::transport(loop_::driver(), ()));
driver_contract!(void_contract, Subject::transport(void::driver(), ()));
driver_contract!(pick_contract, Subject::transform(pick::driver()));

fn tcp_level() -> LevelNode {
    LevelNode::new(tcp::driver())
}

driver_contract!(
    all_of_it,
    Subject::stack(
        LevelNode::new(null::driver())
            .over(LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(tcp_level())))
    )
    .at(xio_core::Contact::new("127.0.0.1:0"))
    .known(LEAD_STAYS)
);
