//! The contract on the shipped drivers.

use xio_core::{Contact, LevelNode};
use xio_drivers::{frame, loop_, null, pick, queue, tcp, void};
use xio_testkit::budget::Budget;
use xio_testkit::{Subject, beds, driver_contract, ledger};

/// What the rules about memory count with.
#[global_allocator]
static ALLOCATOR: Budget = Budget::new();

/// A write that is written behind is copied into the batch whatever its length, without trying (H3,
/// `Line::put_behind`).
const COPIES: &[&str] = &["H3"];

driver_contract!(null_contract, Subject::transform(null::driver()));
driver_contract!(null_over_messages, Subject::transform(null::driver()).over_messages().named("null over messages"));
driver_contract!(queue_contract, Subject::transform(queue::driver()));
driver_contract!(queue_over_messages, Subject::transform(queue::driver()).over_messages().named("queue over messages"));
driver_contract!(
    queue_early,
    Subject::transform(queue::driver())
        .with_attr(Box::new(queue::Options::default().with_early(true)))
        .named("queue that writes behind")
        .holds((1 << 20) + (1 << 18))
        .known(COPIES)
);
driver_contract!(frame_contract, Subject::transform(frame::driver()));
driver_contract!(tcp_contract, Subject::transport(tcp::driver(), Contact::new("127.0.0.1:0")));
driver_contract!(loop_contract, Subject::transport(loop_::driver(), ()));
driver_contract!(
    loop_of_messages,
    Subject::transport(loop_::driver(), ())
        .with_attr(Box::new(loop_::Options::default().with_message(true)))
        .named("loop of messages")
);
driver_contract!(void_contract, Subject::transport(void::driver(), ()));
driver_contract!(pick_contract, Subject::transform(pick::driver()));
driver_contract!(pick_over_messages, Subject::transform(pick::driver()).over_messages().named("pick over messages"));

fn tcp_level() -> LevelNode {
    LevelNode::new(tcp::driver())
}

driver_contract!(
    all_of_it,
    Subject::stack(
        LevelNode::new(null::driver())
            .over(LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(tcp_level())))
    )
    .at(Contact::new("127.0.0.1:0"))
);

driver_contract!(datagrams, Subject::transform(beds::dgram()));

driver_contract!(shared_memory, Subject::transform(ledger::ledger()));
